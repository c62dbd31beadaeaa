/** Windows of a sink's own, against the oracle: it counts samples, not points. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Aggregator } from '../../src/aggregate/aggregator.ts';
import { SKETCH_SCALE } from '../../src/aggregate/buckets.ts';
import { coarseTiling } from '../../src/aggregate/coarse-tiling.ts';
import type { Point } from '../../src/aggregate/point.ts';
import { SeriesTable } from '../../src/aggregate/series-table.ts';
import { Tiling } from '../../src/aggregate/tiling.ts';
import { WindowMerger } from '../../src/aggregate/window-merger.ts';
import { JsonDecoder } from '../../src/decode/json.ts';
import { decodeMessage } from '../decode/decoded.ts';
import { closedWindow, type Decoded } from './closed-window.ts';
import { expectedOwnWindows, type OracleMessage, type OracleSettings, ownWindowAt } from './oracle.ts';
import { pointsOf, settingsArbitrary, streamArbitrary, tilingOf } from './stream.ts';

const SHAPE = { windowMs: 10, latenessMs: 4, maxAheadMs: 3, maxSeries: 100, sketchScale: SKETCH_SCALE };

interface Made {
  readonly windows: Map<number, Point[]>;
  readonly folded: number;
}

/** Windows are closed, and taken, after the messages that `closeAfter` selects. A small table forgets series. */
function made(
  messages: readonly OracleMessage[],
  settings: OracleSettings,
  ownMs: number,
  closeAfter: (index: number) => boolean,
  keep = 1000,
): Made {
  const table = new SeriesTable(keep);
  const decoder = new JsonDecoder(table);
  const tiling = tilingOf(settings);
  const aggregator = new Aggregator(table, { tiling, from: Number.NEGATIVE_INFINITY, hasSketches: true });
  const own = coarseTiling(tiling, ownMs);
  const merger = new WindowMerger(own, tiling);
  const windows = new Map<number, Point[]>();
  const take = (boundary: number) => {
    for (const window of merger.take(boundary)) {
      expect(windows.has(window.start)).toBe(false);
      expect([window.start, own.endOf(window.start)]).toEqual([
        own.startOf(window.start),
        window.start + window.windowMs,
      ]);
      windows.set(window.start, pointsOf(window));
    }
  };
  messages.forEach(({ payload, streamTime }, i) => {
    decodeMessage(decoder, Buffer.from(payload), {
      sample: (sample) => aggregator.add(sample, streamTime),
      rejected: () => {},
    });
    if (!closeAfter(i)) return;
    for (const window of aggregator.close(streamTime)) merger.add(window);
    take(aggregator.boundary);
  });
  for (const window of aggregator.closeAll()) merger.add(window);
  take(Number.POSITIVE_INFINITY);
  return { windows, folded: merger.folded };
}

/** The sketches of points are compared by their percentiles: the oracle has none. */
const plain = (windows: ReadonlyMap<number, readonly Point[]>) =>
  new Map([...windows].map(([start, points]) => [start, points.map(({ sketch: _, ...rest }) => rest)]));

test('a window of a sink has what its samples say, whatever changes, however often windows are closed', () => {
  const drawn = settingsArbitrary.chain((settings) =>
    fc.record({
      settings: fc.constant(settings),
      messages: streamArbitrary(settings),
      ownMs: fc.constantFrom(10, 50, 70, 350, 700),
      every: fc.integer({ min: 1, max: 5 }),
      keep: fc.constantFrom(1, 1000),
    }),
  );
  fc.assert(
    fc.property(drawn, ({ settings, messages, ownMs, every, keep }) => {
      const { windows } = made(messages, settings, ownMs, (i) => i % every === 0, keep);
      expect(plain(windows)).toEqual(expectedOwnWindows(messages, settings, ownMs));
    }),
  );
});

test('windows of a sink have no gaps and no overlaps, and begin where the oracle says', () => {
  fc.assert(
    fc.property(
      settingsArbitrary,
      fc.constantFrom(10, 50, 70, 350),
      fc.integer({ min: -400, max: 1500 }),
      (settings, ownMs, time) => {
        const fine = tilingOf(settings);
        const own = coarseTiling(fine, ownMs);
        const [start, end] = [own.startOf(time), own.endOf(time)];
        expect(start).toBe(ownWindowAt(fine.startOf(time), settings, ownMs));
        expect(own.startOf(end)).toBe(end);
        expect(own.endOf(start - 1)).toBe(start);
        expect([fine.startOf(start), fine.startOf(end)]).toEqual([start, end]);
      },
    ),
  );
});

test('a window that is known does not change when another epoch is announced', () => {
  fc.assert(
    fc.property(settingsArbitrary, fc.constantFrom(50, 70, 350), fc.nat(1050), (settings, ownMs, time) => {
      const fine = tilingOf(settings);
      const before = new Tiling(fine.epochs.slice(0, -1).length > 0 ? fine.epochs.slice(0, -1) : fine.epochs);
      const own = coarseTiling(before, ownMs);
      const isOver = own.endOf(time) <= (fine.epochs.at(-1)!.from ?? 0);
      if (isOver) expect(coarseTiling(fine, ownMs).startOf(time)).toBe(own.startOf(time));
    }),
  );
});

const merged = (parts: readonly (readonly Decoded[])[], shape = {}) => {
  const tiling = Tiling.of({ ...SHAPE, ...shape });
  const merger = new WindowMerger(coarseTiling(tiling, 60), tiling);
  for (const [i, samples] of parts.entries())
    merger.add(closedWindow(samples, tiling, { hasSketches: true }, 10 * i));
  return { merger, points: merger.take(60).flatMap(pointsOf) };
};

test('counters and timers add up, gauges keep the last value, and percentiles are those of all samples', () => {
  const part = (value: number): Decoded[] => [
    { name: 'c', type: 'counter', value },
    { name: 'g', type: 'gauge', value },
    { name: 't', type: 'timer', value },
  ];
  const { points } = merged([1, 100, 3, 2].map(part));
  const [c, g, t] = points;
  expect(c).toMatchObject({ windowStart: 0, windowMs: 60, count: 4, sum: 106, last: null });
  expect(g).toMatchObject({ count: 4, sum: 106, min: 1, max: 100, last: 2 });
  expect(t).toMatchObject({ count: 4, sum: 106, min: 1, max: 100 });
  expect(t!.p50).toBeCloseTo(2, 1);
  expect(t!.sketch).toContain('"scale":6');
});

test('a window has as many series as one of the pipeline may have: what comes later is folded by name', () => {
  const part = (x: string): Decoded[] => [{ name: 'c', type: 'counter', value: 1, dimensions: { x } }];
  const { merger, points } = merged(['1', '2', '3', '1'].map(part), { maxSeries: 2 });
  expect(points.map(({ series, sum }) => [series.dimensionsJson, sum])).toEqual([
    ['{"x":"1"}', 2],
    ['{"x":"2"}', 1],
    ['{"fanout.overflow":"true"}', 1],
  ]);
  expect(merger.folded).toBe(1);
  expect(merger.bytes).toBe(0);
});

test('what is being merged is counted in bytes, and forgotten when it is cleared', () => {
  const tiling = Tiling.of(SHAPE);
  const merger = new WindowMerger(coarseTiling(tiling, 60), tiling);
  merger.add(closedWindow([{ name: 'c', type: 'counter', value: 1 }], tiling));
  expect(merger.bytes).toBeGreaterThan(0);
  expect(merger.take(50)).toEqual([]);
  merger.clear();
  expect([merger.bytes, merger.take(60)]).toEqual([0, []]);
});
