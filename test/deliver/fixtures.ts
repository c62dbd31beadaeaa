import type { Point } from '../../src/aggregate/point.ts';
import { makeSeries } from '../../src/aggregate/series.ts';
import { SeriesRecords } from '../../src/aggregate/series-records.ts';
import { ClosedWindow } from '../../src/aggregate/window.ts';
import type { Clock } from '../../src/base/clock.ts';
import { digestOfRows, digestOfWindow } from '../../src/deliver/lane/digest.ts';
import { Lane, type LaneEvents, type LaneOptions } from '../../src/deliver/lane/lane.ts';
import { sizeWindow } from '../../src/deliver/lane/queue.ts';
import type { SinkDigests, StoreFailure } from '../../src/deliver/lane/writer.ts';
import type {
  Batch,
  Rejection,
  Sink,
  StoredPoint,
  Unidentified,
  WindowRange,
  WriteOutcome,
} from '../../src/sink/contract.ts';

export const WINDOW_MS = 1000;

/** A window of `size` counters `s0`, `s1`..., each with count 1 and a sum that identifies window and series. */
export function counterWindow(
  number: number,
  size: number,
  sum = (i: number) => number * 1000 + i,
): ClosedWindow {
  const series = Array.from({ length: size }, (_, i) => makeSeries(`s${i}`, 'counter', []));
  const records = new SeriesRecords();
  const values = Float64Array.from(series.flatMap((_, i) => [1, sum(i)]));
  const rows = Uint32Array.from(series, (_, i) => 2 * i);
  return new ClosedWindow({
    start: number * WINDOW_MS,
    windowMs: WINDOW_MS,
    instance: '',
    records,
    refs: Uint32Array.from(series, (each) => records.add(each)),
    rows,
    values,
  });
}

export const sizedWindow = (number: number, size: number, sum?: (i: number) => number) =>
  sizeWindow(counterWindow(number, size, sum));

type Answer = WriteOutcome | Error | 'hang';

/** A store in memory with scripted answers: faults that no real store produces on demand. */
export class ScriptedSink implements Sink {
  readonly rows = new Map<string, number>();
  /** What can be read back from it. */
  readonly stored = new Map<string, Point>();
  readonly batches: Batch[] = [];
  opens = 0;
  closes = 0;
  openError: Error | undefined;
  /** Called for every write; `undefined` accepts the batch. */
  answer: (batch: Batch) => Answer | undefined = () => undefined;

  async open(): Promise<void> {
    this.opens += 1;
    if (this.openError) throw this.openError;
  }

  async write(batch: Batch, signal: AbortSignal): Promise<WriteOutcome> {
    this.batches.push(batch);
    const answer = this.answer(batch) ?? { kind: 'written' };
    if (answer instanceof Error) throw answer;
    if (answer === 'hang') {
      return await new Promise((_, reject) =>
        signal.addEventListener('abort', () => reject(new Error('aborted'))),
      );
    }
    const refused =
      answer.kind === 'partial' ? [...answer.retry, ...answer.rejected.map(({ index }) => index)] : [];
    if (answer.kind === 'written' || answer.kind === 'partial') {
      batch.points.forEach((point, i) => {
        if (refused.includes(i)) return;
        this.rows.set(keyOf(point), point.sum);
        this.stored.set(keyOf(point), point);
      });
    }
    return answer;
  }

  async *read({ from, to }: WindowRange): AsyncGenerator<StoredPoint> {
    yield* [...this.stored.values()].filter(({ windowStart }) => windowStart >= from && windowStart < to);
  }
  readonly digests: SinkDigests = {
    needsKeys: false,
    ofWindow: (window, names) => digestOfWindow(window, names),
    ofStore: async ({ start, windowMs, instance }, _keys, _signal, names) =>
      digestOfRows(this.read({ from: start, to: start + windowMs }), instance, names),
  };
  async remove(): Promise<void> {}
  async close(): Promise<void> {
    this.closes += 1;
  }
}

export function keyOf(point: Point): string {
  return `${point.windowStart / WINDOW_MS}:${point.series.name}`;
}

/** A lane with a scripted sink, and the events that it reported. */
export function laneOf(
  clock: Clock,
  sink: Sink,
  options: Partial<LaneOptions> = {},
  events: Partial<LaneEvents> = {},
) {
  const told = {
    nothingChosen: [] as number[],
    changes: [] as [up: boolean, failure: StoreFailure | undefined][],
    rejected: [] as Rejection[],
    unidentified: [] as Unidentified[],
    confirmed: [] as [start: number, refused: number][],
    fellBehind: 0,
    writes: 0,
  };
  const lane = new Lane({
    id: 'test',
    sink,
    limits: { maxPoints: 10, maxBytes: 1_000_000, inFlight: 2 },
    timeoutMs: 5000,
    backlogBytes: 1_000_000,
    from: 0,
    replayable: true,
    keeper: undefined,
    clock,
    events: {
      wrote: () => {
        told.writes += 1;
      },
      rejected: (points) => {
        told.rejected.push(...points.map(({ rejection }) => rejection));
      },
      unidentified: (points) => {
        told.unidentified.push(points);
      },
      changed: (up, failure) => {
        told.changes.push([up, failure]);
      },
      nothingChosen: (windows) => told.nothingChosen.push(windows),
      fellBehind: () => {
        told.fellBehind += 1;
      },
      confirmed: (window, refused) => {
        told.confirmed.push([window.start, refused]);
      },
      ...events,
    },
    ...options,
  });
  return { lane, told };
}
