/** What `check` leaves in a store that cannot remove it is no difference to the stream. */
import { expect, test } from 'vitest';
import type { Point } from '../../src/aggregate/point.ts';
import { makeSeries } from '../../src/aggregate/series.ts';
import { digestOfRows, digestOfWindow } from '../../src/deliver/lane/digest.ts';
import { heldWindows, straysOf } from '../../src/deliver/lane/stray-rows.ts';
import { checkProbe } from '../../src/sink/check-probe.ts';
import { compareWithTruth } from '../../src/verify/rows.ts';
import { counterWindow, WINDOW_MS } from '../deliver/fixtures.ts';

const WINDOW = counterWindow(3, 5);
const POINTS = Array.from({ length: WINDOW.size }, (_, i) => WINDOW.point(i));
const PROBE = checkProbe(3 * WINDOW_MS, WINDOW_MS, 'a1b2');
/** Of the same name, but of a producer. */
const OTHER = { ...PROBE, series: makeSeries('fanout.check', 'counter', [['app', 'a']]) };

async function* stored(points: readonly Point[]) {
  yield* points;
}

test('to the digest of a window', async () => {
  expect(await digestOfRows(stored([...POINTS, PROBE]), '')).toEqual(await digestOfWindow(WINDOW));
  expect(await digestOfRows(stored([...POINTS, OTHER]), '')).not.toEqual(await digestOfWindow(WINDOW));
});

test('to a comparison, row by row', async () => {
  const comparison = await compareWithTruth(POINTS, stored([...POINTS, PROBE]));
  expect(comparison).toMatchObject({ points: 5, equal: 5, extra: 0 });
  expect(await compareWithTruth(POINTS, stored([...POINTS, OTHER]))).toMatchObject({ extra: 1 });
});

test('to the search for rows that a rollback took back', async () => {
  const window = { windowMs: WINDOW_MS, instance: '' };
  expect(await straysOf(stored([...POINTS, PROBE, OTHER]), WINDOW, window)).toMatchObject([OTHER]);
  expect(await heldWindows(stored([PROBE, { ...OTHER, windowStart: 0 }]))).toEqual([0]);
});
