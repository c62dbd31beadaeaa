import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Tiling } from '../../src/aggregate/tiling.ts';
import { settingsArbitrary, tilingOf } from './stream.ts';

const SHAPE = { windowMs: 10, latenessMs: 4, maxAheadMs: 3, maxSeries: 100 };
const FIRST = { ...SHAPE, from: Number.NEGATIVE_INFINITY };

/** Walks from window to window: the obvious way. */
function* windowsFrom(tiling: Tiling, from: number) {
  for (let start = tiling.startOf(from); ; start = tiling.endOf(start)) {
    const epoch = tiling.epochs.findLast((each) => each.from <= start)!;
    yield { start, end: start + epoch.windowMs, completeAt: start + epoch.windowMs + epoch.latenessMs };
  }
}

test('windows have no gaps and no overlaps, whatever changes', () => {
  fc.assert(
    fc.property(settingsArbitrary, fc.integer({ min: -400, max: 1500 }), (settings, time) => {
      const tiling = tilingOf(settings);
      const [start, end] = [tiling.startOf(time), tiling.endOf(time)];
      expect(start).toBeLessThanOrEqual(time);
      expect(end).toBeGreaterThan(time);
      expect(tiling.startOf(end)).toBe(end);
      expect(tiling.endOf(start - 1)).toBe(start);
      expect(tiling.windowsBetween(start, end)).toBe(1);
    }),
  );
});

test('I2: all windows before `completeBefore` are complete, the next one is not, and it never goes back', () => {
  fc.assert(
    fc.property(settingsArbitrary, fc.integer({ min: -400, max: 1500 }), (settings, streamTime) => {
      const tiling = tilingOf(settings);
      let expected = tiling.startOf(-1000);
      for (const { end, completeAt } of windowsFrom(tiling, -1000)) {
        if (completeAt > streamTime) break;
        expected = end;
      }
      expect(tiling.completeBefore(streamTime)).toBe(expected);
      expect(tiling.completeBefore(streamTime + 1)).toBeGreaterThanOrEqual(expected);
    }),
  );
});

test('a tiling has the largest lateness, maximum ahead and series limit of all its epochs', () => {
  const tiling = new Tiling([FIRST, { from: 20, windowMs: 5, latenessMs: 9, maxAheadMs: 1, maxSeries: 200 }]);
  expect([tiling.latenessMs, tiling.maxAheadMs, tiling.maxSeries]).toEqual([9, 3, 200]);
  expect(tiling.windowsBetween(0, 40)).toBe(2 + 4);
});

test('the budget of an epoch applies only to its own windows', () => {
  const budgeted = { ...SHAPE, from: 20, maxSeriesBytes: 7 };
  const tiling = new Tiling([FIRST, budgeted, { ...budgeted, from: 40, maxSeriesBytes: 5 }]);
  expect([10, 20, 40].map((time) => tiling.epochAt(time).maxSeriesBytes)).toEqual([undefined, 7, 5]);
  expect(tiling.maxSeriesBytes).toBe(7);
  expect(new Tiling([FIRST]).maxSeriesBytes).toBeUndefined();
  expect(Tiling.of({ ...SHAPE, maxSeriesBytes: 3 }).epochs[0]).toHaveProperty('maxSeriesBytes', 3);
  expect(Tiling.of(SHAPE).epochs[0]).not.toHaveProperty('maxSeriesBytes');
});

test.each([
  ['no epoch', []],
  [
    'an epoch that starts in the middle of a window of the previous one',
    [FIRST, { ...SHAPE, windowMs: 5, from: 25 }],
  ],
  [
    'an epoch that starts in the middle of one of its own windows',
    [FIRST, { ...SHAPE, windowMs: 30, from: 20 }],
  ],
  ['two epochs that start at the same time', [FIRST, { ...SHAPE, from: 40 }, { ...SHAPE, from: 40 }]],
])('refused: %s', (_, epochs) => {
  expect(() => new Tiling(epochs)).toThrow(RangeError);
});
