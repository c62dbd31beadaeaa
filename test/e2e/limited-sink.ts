/** A sink outside the project, as users write them. It refuses points with a certain name for good. */
import {
  type Batch,
  defineSink,
  type Sink,
  type StoredPoint,
  type WriteOutcome,
} from '../../src/sink/contract.ts';

export default defineSink({
  kind: 'limited',
  summary: 'refuses points of one name',
  settings: {},
  limits: { maxPoints: 1000, maxBytes: 1_000_000, inFlight: 1 },
  create: (): Sink => ({
    async open() {},
    async write({ points }: Batch): Promise<WriteOutcome> {
      const rejected = points.flatMap(({ series }, index) =>
        series.name === 'refuse.me' ? [{ index, reason: 'refused' as const, message: 'not that one' }] : [],
      );
      return { kind: 'partial', retry: [], rejected };
    },
    async *read(): AsyncGenerator<StoredPoint> {},
    async remove() {},
    async close() {},
  }),
});
