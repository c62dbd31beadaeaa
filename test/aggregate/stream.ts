/** Streams of messages for property tests, and a run that turns them into points. */
import fc from 'fast-check';
import { Aggregator, type AggregatorOptions, type AggregatorStats } from '../../src/aggregate/aggregator.ts';
import { SKETCH_SCALE } from '../../src/aggregate/buckets.ts';
import type { Point } from '../../src/aggregate/point.ts';
import { SeriesTable } from '../../src/aggregate/series-table.ts';
import { Tiling } from '../../src/aggregate/tiling.ts';
import type { ClosedWindow } from '../../src/aggregate/window.ts';
import { JsonDecoder } from '../../src/decode/json.ts';
import { decodeMessage } from '../decode/decoded.ts';
import { type OracleMessage, type OracleSettings, shapeAt, windowAt } from './oracle.ts';

const encoder = new TextEncoder();

export interface Run {
  readonly windows: Map<number, Point[]>;
  readonly stats: AggregatorStats;
  readonly table: SeriesTable;
}

/** Decodes and aggregates. Closes windows after the messages that `closeAfter` selects, and all at the end. */
export function run(
  messages: readonly OracleMessage[],
  settings: OracleSettings & Pick<AggregatorOptions, 'slice'>,
  closeAfter: (index: number) => boolean = () => false,
  keep = 1000,
): Run {
  const table = new SeriesTable(keep);
  const decoder = new JsonDecoder(table);
  const { from = Number.NEGATIVE_INFINITY, instance = '', slice = { index: 0, of: 1 } } = settings;
  const aggregator = new Aggregator(table, { tiling: tilingOf(settings), from, instance, slice });
  const windows = new Map<number, Point[]>();
  const collect = (closed: readonly ClosedWindow[]) => {
    for (const window of closed) {
      if (windows.has(window.start)) throw new Error(`window ${window.start} closed twice`);
      windows.set(window.start, pointsOf(window));
    }
  };
  messages.forEach(({ payload, streamTime }, i) => {
    decodeMessage(decoder, typeof payload === 'string' ? encoder.encode(payload) : payload, {
      sample: (sample) => aggregator.add(sample, streamTime),
      rejected: () => {},
    });
    if (closeAfter(i)) collect(aggregator.close(streamTime));
  });
  collect(aggregator.closeAll());
  return { windows, stats: { ...aggregator.stats }, table };
}

export function tilingOf({ later = [], ...first }: OracleSettings): Tiling {
  return new Tiling([{ ...first, from: Number.NEGATIVE_INFINITY }, ...later]);
}

export function pointsOf(window: ClosedWindow): Point[] {
  return Array.from({ length: window.size }, (_, i) => window.point(i));
}

/** Short lengths, so that a short stream meets every edge. Lateness may exceed the window: several are open at once. */
const shapeArbitrary = fc.record(
  {
    windowMs: fc.constantFrom(1, 7, 10, 50),
    latenessMs: fc.constantFrom(0, 3, 10, 25),
    maxAheadMs: fc.constantFrom(0, 2, 10, 30),
    maxSeries: fc.constantFrom(1, 2, 4, 1000),
    // Enough for one or two series, for one more with some bins, for all.
    maxSeriesBytes: fc.constantFrom(300, 850, 1300, 3000, 8000, 1_000_000),
    // Absent: as earlier versions had it.
    sketchScale: fc.constant(SKETCH_SCALE),
    maxSeriesByName: fc.constantFrom(['*=1'], ['a*=2', '*=1'], ['?=1'], ['none=1', 'b=3']),
  },
  { requiredKeys: ['windowMs', 'latenessMs', 'maxAheadMs', 'maxSeries'] },
);

/** A multiple of every window length. */
const COMMON_MS = 350;

/** Settings that change up to twice while the stream lasts. */
export const settingsArbitrary: fc.Arbitrary<OracleSettings> = fc
  .tuple(shapeArbitrary, fc.array(shapeArbitrary, { maxLength: 2 }), fc.integer({ min: 0, max: 2 }))
  .map(([shape, later, first]) => ({
    ...shape,
    later: later.map((each, i) => ({ ...each, from: (first + i) * COMMON_MS })),
  }));

/** In a range that a sketch holds without collapsing bins, as the oracle does not collapse any. */
const valueArbitrary = fc.oneof(
  fc.integer({ min: -5, max: 1000 }),
  fc.double({ noNaN: true, min: -1e9, max: 1e9 }).map((value) => (Math.abs(value) < 0.1 ? 0 : value)),
  fc.constantFrom(0, 0.1, 0.2, 0.3, 1e16, -1e16, 1),
);

/** Event times on both sides of every edge of I1, or none. */
function eventTimeArbitrary(
  settings: OracleSettings,
): fc.Arbitrary<(streamTime: number) => number | undefined> {
  const near = fc.integer({ min: -1, max: 1 });
  const endOf = (t: number, back: number) => {
    const { windowMs, latenessMs } = shapeAt(t, settings);
    return windowAt(t - latenessMs, settings) - back * windowMs;
  };
  return fc.oneof(
    fc.constant(() => undefined),
    fc.integer({ min: -120, max: 60 }).map((offset) => (t: number) => t + offset),
    near.map((d) => (t: number) => t + shapeAt(t, settings).maxAheadMs + d),
    fc.tuple(near, fc.nat(2)).map(
      ([d, back]) =>
        (t: number) =>
          endOf(t, back) + d,
    ),
  );
}

interface Draft {
  readonly step: number;
  readonly samples: readonly (Record<string, unknown> & { at: (streamTime: number) => number | undefined })[];
  readonly array: boolean;
}

/** Messages in stream order, starting a little before 1970. */
export function streamArbitrary(settings: OracleSettings): fc.Arbitrary<OracleMessage[]> {
  const sample = fc.record({
    name: fc.constantFrom('a', 'b', 'c.d', 'fanout.overflow'),
    type: fc.constantFrom('counter', 'gauge', 'timer'),
    value: valueArbitrary,
    dimensions: fc.constantFrom(
      undefined,
      {},
      { x: 1 },
      { x: '1' },
      { x: '1', y: null },
      { y: 'z', x: true },
      { 'fanout.overflow': 'true' },
      { x: 'é"\\' },
    ),
    at: eventTimeArbitrary(settings),
  });
  const draft: fc.Arbitrary<Draft> = fc.record({
    step: fc.oneof(fc.constantFrom(0, 1, settings.windowMs, settings.latenessMs), fc.nat(40)),
    samples: fc.array(sample, { minLength: 1, maxLength: 3 }),
    array: fc.boolean(),
  });
  return fc.array(draft, { maxLength: 60 }).map((drafts) => {
    let streamTime = -60;
    return drafts.flatMap(({ step, samples, array }) => {
      streamTime += step;
      const texts = samples.map(({ at, ...fields }) => {
        const time = at(streamTime);
        const timestamp = time === undefined ? undefined : new Date(time).toISOString();
        return JSON.stringify({ ...fields, timestamp });
      });
      const payloads = array ? [`[${texts.join(' ,\n')}]`] : texts;
      return payloads.map((payload) => ({ payload, streamTime }));
    });
  });
}

export const settingsAndStream = settingsArbitrary.chain((settings) =>
  fc.tuple(fc.constant(settings), streamArbitrary(settings)),
);
