/** A sink whose store stands still: one of its calls blocks the thread forever. */
import { openSync, writeSync } from 'node:fs';
import { setting } from '../../src/settings/builders.ts';
import { defineSink, type Sink, type StoredPoint, type WriteOutcome } from '../../src/sink/contract.ts';

const STDERR = 2;
/** What it says there when it blocks. */
export const BLOCKED = 'the thread of the sink is blocked now';

export default defineSink({
  kind: 'blocking',
  summary: 'for a test',
  settings: {
    call: setting.text({ meaning: 'the call that blocks', default: 'open' }),
    pipe: setting.text({ meaning: 'a named pipe that nobody writes to; default: block in JavaScript' }),
  },
  limits: { maxPoints: 1000, maxBytes: 1_000_000, inFlight: 1 },
  create({ call, pipe }): Sink {
    const blockIn = (name: string) => {
      if (name !== call) return;
      // Past the thread's own stream, which would wait for the thread.
      writeSync(STDERR, `${BLOCKED}\n`);
      // Like a hanging network drive, the opening of a pipe cannot be interrupted from inside the process.
      if (pipe !== undefined) openSync(pipe, 'r');
      else Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    };
    let held: readonly StoredPoint[] = [];
    return {
      async open() {
        blockIn('open');
      },
      async write({ points }): Promise<WriteOutcome> {
        blockIn('write');
        held = points;
        return { kind: 'written' };
      },
      async *read(): AsyncGenerator<StoredPoint> {
        blockIn('read');
        yield* held;
      },
      async remove() {
        blockIn('remove');
      },
      async close() {
        blockIn('close');
      },
    };
  },
});
