import { expect, test } from 'vitest';
import { LoopLag } from '../../src/observe/loop-lag.ts';
import { Telemetry } from '../../src/observe/telemetry.ts';
import { snapshot } from '../../src/service/snapshot.ts';
import { detachedParts } from './parts.ts';

const telemetryOf = (lag: LoopLag) => new Telemetry(() => snapshot(parts, 0), lag);
const parts = await detachedParts();

test('a scrape shows how late the timer was since the last one, under the names of prom-client', async () => {
  const lag = new LoopLag();
  const telemetry = telemetryOf(lag);
  for (const now of [1_000, 2_000, 3_250]) lag.ran(now, 1_000);
  const first = await telemetry.text();
  expect(shownBy(first, 'max')).toBeCloseTo(0.25, 3);
  expect(shownBy(first, 'p99')).toBeCloseTo(0.25, 3);
  expect(shownBy(first, 'p50')).toBeCloseTo(0, 3);
  expect(shownBy(first, 'mean')).toBeCloseTo(0.25 / 3, 3);
  lag.ran(4_250, 1_000);
  expect(shownBy(await telemetry.text(), 'max')).toBeCloseTo(0, 3);
  for (const key of ['min', 'stddev', 'p90']) expect(shownBy(first, key)).toBeGreaterThanOrEqual(0);
});

test('a thread that stood still for days is shown as one that did for an hour', async () => {
  const lag = new LoopLag();
  const telemetry = telemetryOf(lag);
  for (const now of [0, 1e9]) lag.ran(now, 1_000);
  const text = await telemetry.text();
  expect(shownBy(text, 'max')).toBeGreaterThan(3_590);
  expect(shownBy(text, 'max')).toBeLessThan(3_610);
});

test('before the timer has run, and while it stands still, nothing is late', async () => {
  const telemetry = telemetryOf(new LoopLag());
  for (const text of [await telemetry.text(), await telemetry.text()]) expect(shownBy(text, 'max')).toBe(0);
});

function shownBy(text: string, key: string): number {
  return Number(new RegExp(`^nodejs_eventloop_lag_${key}_seconds (.*)$`, 'm').exec(text)?.[1]);
}
