/** A sink whose store takes points, but lets nobody read or remove them. */
import {
  defineSink,
  type Sink,
  SinkError,
  type StoredPoint,
  type WriteOutcome,
} from '../../src/sink/contract.ts';

export default defineSink({
  kind: 'unreadable',
  summary: 'for a test',
  settings: {},
  limits: { maxPoints: 1000, maxBytes: 1_000_000, inFlight: 1 },
  create(): Sink {
    return {
      async open() {},
      async write(): Promise<WriteOutcome> {
        return { kind: 'written' };
      },
      // biome-ignore lint/correctness/useYield: it has nothing to give
      async *read(): AsyncGenerator<StoredPoint> {
        throw new SinkError('unauthorized', 'no permission to read', 'Grant SELECT.');
      },
      async remove() {
        throw new SinkError('unauthorized', 'no permission to remove', 'Grant DELETE.');
      },
      async close() {},
    };
  },
});
