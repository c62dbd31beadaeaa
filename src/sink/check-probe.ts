/**
 * The point that `check` writes to try a store. Some stores cannot remove it, and a running service may see it before
 * it is removed. So whoever compares a store with the stream leaves it out.
 */
import type { Point, Series } from '../aggregate/point.ts';
import { makeSeries } from '../aggregate/series.ts';

const NAME = 'fanout.check';
const DIMENSION = 'probe';

/** `unique`: tells it from all others. */
export function checkProbe(windowStart: number, windowMs: number, unique: string): Point {
  const series = makeSeries(NAME, 'counter', [[DIMENSION, unique]]);
  const none = { min: null, max: null, last: null, p50: null, p90: null, p95: null, p99: null };
  return { series, windowStart, windowMs, instance: '', count: 1, sum: 1, ...none };
}

/** Also true for a producer's counter of the same name with this dimension. */
export function isCheckProbe({ name, type, dimensionsJson }: Series): boolean {
  return name === NAME && type === 'counter' && dimensionsJson.startsWith(`{"${DIMENSION}":`);
}
