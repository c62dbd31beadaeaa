import { expect, test } from 'vitest';
import { SeriesTable } from '../../src/aggregate/series-table.ts';
import { Tiling } from '../../src/aggregate/tiling.ts';
import { systemClock } from '../../src/base/clock.ts';
import { wholeMessage } from '../../src/decode/raw-message.ts';
import { openPipeline } from '../../src/deliver/pipeline.ts';
import { expectedOldQuantile, expectedQuantile } from '../aggregate/oracle.ts';
import { pointsOf } from '../aggregate/stream.ts';
import { SETTINGS } from '../decode/formats.ts';

const NOW = 1_700_000_000_000;
const SHAPE = { windowMs: 10_000, latenessMs: 2000, maxAheadMs: 1000, maxSeries: 100 };
const TILING = new Tiling([
  { ...SHAPE, from: Number.NEGATIVE_INFINITY },
  { ...SHAPE, sketchScale: 6, from: NOW + 10_000 },
]);
const VALUES = Array.from({ length: 500 }, (_, i) => Math.round(1.02 ** i * 100));

/** The p99 of each window from one on; one more window is of the earlier epoch. */
function p99sFrom(from: number): number[] {
  const p99s: number[] = [];
  const { pipeline } = openPipeline(
    SeriesTable.of(TILING),
    { ...SETTINGS, slice: { index: 0, of: 1 } },
    { from, closedThrough: 0, instance: '', tiling: TILING },
    {
      nextTurn: systemClock.nextTurn,
      onWindows: (windows) => {
        for (const { p99 } of windows.flatMap((window) => [...pointsOf(window)])) p99s.push(p99!);
      },
    },
  );
  const times = [NOW - 10_000, NOW, NOW + 10_000, NOW + 20_000];
  let sequence = 0;
  for (const time of times) {
    for (const value of VALUES)
      pipeline.message(
        wholeMessage(Buffer.from(JSON.stringify({ name: 't', type: 'timer', value })), time, ++sequence),
      );
    pipeline.progress(time + 12_000);
  }
  pipeline.release();
  return p99s;
}

test('windows of the epoch before keep their sketch, also in a replay; later ones have that of scale 6', () => {
  const [old, now] = [expectedOldQuantile(VALUES, 0.99), expectedQuantile(VALUES, 0.99)];
  expect(old).not.toBe(now);
  expect(p99sFrom(Number.NEGATIVE_INFINITY)).toEqual([old, old, now, now]);
  expect(p99sFrom(NOW)).toEqual([old, now, now]);
  expect(p99sFrom(NOW + 10_000)).toEqual([now, now]);
});
