/** A sink that runs in its thread and does what the name of the first series says: see threaded-sink.test.ts. */

import { appendFileSync, existsSync, openSync } from 'node:fs';
import { threadId } from 'node:worker_threads';
import type { Point } from '../../../src/aggregate/point.ts';
import { setting } from '../../../src/settings/builders.ts';
import { type Batch, defineSink, SinkError, type WriteOutcome } from '../../../src/sink/contract.ts';
import { LIMIT_MS } from '../../limits.ts';

export default defineSink({
  kind: 'told',
  summary: 'for a test',
  settings: {
    file: setting.text({ meaning: 'where to record what it gets', required: true }),
    faulty: setting.boolean({ meaning: 'whether it cannot be made', default: 'false' }),
    pipe: setting.text({ meaning: 'a pipe that `open` waits for' }),
    token: setting.secret({ meaning: 'a value that nobody may see' }),
  },
  limits: { maxPoints: 100, maxBytes: 1_000_000, inFlight: 2 },
  create({ file, token, pipe, faulty }, { log, timeoutMs }) {
    if (faulty) throw new Error('it cannot be made');
    let opened = 0;
    let stored: Point[] = [];
    return {
      async open() {
        if (pipe !== undefined) openSync(pipe, 'r');
        opened += 1;
        log.info({ opened, timeoutMs, signIn: [{ token }] }, 'opened');
      },
      async write({ points }: Batch, signal: AbortSignal): Promise<WriteOutcome> {
        const told = points[0]!.series.name;
        if (opened === 0) throw new Error('not open');
        if (told === 'refuse') throw new SinkError('unauthorized', 'who are you', 'Sign in.');
        if (told === 'throw') throw new TypeError('a fault');
        if (told === 'die') process.exit(1);
        if (told === 'hang') {
          if (!signal.aborted)
            await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
          appendFileSync(file, '"aborted"\n');
        }
        if (told === 'crash') {
          setTimeout(() => {
            throw new Error(`a crash with ${token}`);
          });
          await new Promise(() => {});
        }
        if (told === 'block') {
          appendFileSync(file, '"blocked"\n');
          Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
        }
        if (told === 'ignore') await new Promise(() => {});
        if (told === 'spin') {
          // Not forever: if this ran in the thread of the test, nobody could end it.
          const until = Date.now() + LIMIT_MS;
          while (!existsSync(`${file}.end`)) if (Date.now() > until) throw new Error('nobody ended it');
        }
        if (told === 'partial')
          return { kind: 'partial', retry: [1], rejected: [{ index: 0, reason: 'refused', message: 'no' }] };
        stored.push(...points);
        appendFileSync(file, points.map((point: Point) => `${JSON.stringify(point)}\n`).join(''));
        return { kind: 'written' };
      },
      async *read({ from, to }, signal) {
        signal.throwIfAborted();
        yield* stored.filter(({ windowStart }) => windowStart >= from && windowStart < to);
      },
      async *lookUp(points) {
        const asked = new Set(Array.from(points, ({ series }) => series.id));
        yield* stored.filter(({ series }) => asked.has(series.id));
      },
      async remove({ points }) {
        const gone = new Set(points.map(({ series }) => series.id));
        stored = stored.filter(({ series }) => !gone.has(series.id));
      },
      /** Tells sinks of one thread. */
      async storage() {
        return threadId;
      },
      async close() {
        appendFileSync(file, '"closed"\n');
      },
    };
  },
});
