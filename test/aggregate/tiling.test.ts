import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Tiling } from '../../src/aggregate/tiling.ts';
import { settingsArbitrary, tilingOf } from './stream.ts';

const SHAPE = { windowMs: 10, latenessMs: 4, maxAheadMs: 3, maxSeries: 100 };
const FIRST = { ...SHAPE, from: Number.NEGATIVE_INFINITY };

/** Windows one after the other, by walking: the obvious way. */
function* windowsFrom(tiling: Tiling, from: number) {
  for (let start = tiling.startOf(from); ; start = tiling.endOf(start)) {
    const epoch = tiling.epochs.findLast((each) => each.from <= start)!;
    yield { start, end: start + epoch.windowMs, completeAt: start + epoch.windowMs + epoch.latenessMs };
  }
}

test('time is cut without gap and overlap, whatever changes', () => {
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

test('I2: all before `completeBefore` are complete, the one behind is not, and it never goes back', () => {
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

test('the most of any epoch', () => {
  const tiling = new Tiling([FIRST, { from: 20, windowMs: 5, latenessMs: 9, maxAheadMs: 1, maxSeries: 200 }]);
  expect([tiling.latenessMs, tiling.maxAheadMs, tiling.maxSeries]).toEqual([9, 3, 200]);
  expect(tiling.windowsBetween(0, 40)).toBe(2 + 4);
});

test('a budget of some epochs is that of their windows alone', () => {
  const budgeted = { ...SHAPE, from: 20, maxSeriesBytes: 7 };
  const tiling = new Tiling([FIRST, budgeted, { ...budgeted, from: 40, maxSeriesBytes: 5 }]);
  expect([10, 20, 40].map((time) => tiling.epochAt(time).maxSeriesBytes)).toEqual([undefined, 7, 5]);
  expect(tiling.maxSeriesBytes).toBe(7);
  expect(new Tiling([FIRST]).maxSeriesBytes).toBeUndefined();
  expect(Tiling.of({ ...SHAPE, maxSeriesBytes: 3 }).epochs[0]).toHaveProperty('maxSeriesBytes', 3);
  expect(Tiling.of(SHAPE).epochs[0]).not.toHaveProperty('maxSeriesBytes');
});

test.each([
  ['none', []],
  ['one in the middle of the window before it', [FIRST, { ...SHAPE, windowMs: 5, from: 25 }]],
  ['one in the middle of its own', [FIRST, { ...SHAPE, windowMs: 30, from: 20 }]],
  ['one that begins before another', [FIRST, { ...SHAPE, from: 40 }, { ...SHAPE, from: 40 }]],
])('no tiling: %s', (_, epochs) => {
  expect(() => new Tiling(epochs)).toThrow(RangeError);
});
