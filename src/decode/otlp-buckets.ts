/** The buckets of OTLP's histograms, as values with weights. */
import { bucketOf, SKETCH_SCALE, ZERO_THRESHOLD } from '../aggregate/buckets.ts';
import type { OtlpPoint } from './otlp-points.ts';
import type { InputRejection } from './rejection.ts';

/** The specification's scales go from -10 to 20. */
const MIN_SCALE = -20;
const MAX_SCALE = 40;
/** Doubles between a bound as it is computed and as it is: one or two. */
const MAX_NUDGES = 8;

/** A value that stands for `weight` measurements. */
export type TakeValue = (value: number, weight: number) => void;

/** Buckets that are not empty, in ascending order. */
interface Bucket {
  low: number;
  high: number;
  weight: number;
  /** The bucket of a sketch that it is in, by magnitude; undefined if it is in several, or in that of the zeros. */
  readonly within?: number | undefined;
}

/**
 * Hands over a histogram as values with weights. Every value is in its bucket, all of them together have the sum of the
 * point, and the lowest and the highest are those of the point, if it says them. So `count` and `sum` are right, and a
 * percentile is in the bucket that it really is in: nobody can know more. Of an exponential histogram with scale 6 or
 * more, every count is in the bucket of a sketch that holds it. Returns why there are none.
 */
export function takeHistogram(
  point: OtlpPoint,
  isExponential: boolean,
  take: TakeValue,
): InputRejection | undefined {
  const buckets = isExponential ? exponential(point) : explicit(point);
  if (buckets === undefined) return 'bad_value';
  const count = buckets.reduce((sum, { weight }) => sum + weight, 0);
  if (!Number.isSafeInteger(count) || (!Number.isNaN(point.count) && point.count !== count))
    return 'bad_value';
  const [first, last] = [buckets[0], buckets.at(-1)];
  if (first === undefined || last === undefined) return undefined;
  const values = valuesOf(point, buckets, first, last);
  if (!values.every(({ value, weight }) => Number.isFinite(value * weight))) return 'bad_value';
  for (const { value, weight } of values) take(value + 0, weight);
  return undefined;
}

interface Weighed {
  readonly value: number;
  readonly weight: number;
}

/** `first` and `last`: of the buckets, perhaps the same. */
function valuesOf({ min, max, sum }: OtlpPoint, buckets: Bucket[], first: Bucket, last: Bucket): Weighed[] {
  if (min >= first.low && min <= first.high) first.low = min;
  if (max <= last.high && max >= last.low) last.high = max;
  if (first.low === Number.NEGATIVE_INFINITY) first.low = Math.min(0, first.high);
  const isOpen = last.high === Number.POSITIVE_INFINITY;
  if (isOpen) last.high = last.low;
  const values: Weighed[] = [];
  let rest = sum;
  for (const [bucket, end, edge] of [
    [first, min, first.low],
    [last, max, last.high],
  ] as const) {
    if (end !== edge || bucket.weight < 1) continue;
    values.push({ value: end, weight: 1 });
    bucket.weight -= 1;
    rest -= end;
  }
  const floor = buckets.reduce((all, { low, weight }) => all + low * weight, 0);
  const span = buckets.reduce((all, { low, high, weight }) => all + (high - low) * weight, 0);
  // All values are at the same share of their buckets, such that the sum is right.
  const share = Number.isNaN(rest) || span === 0 ? 0.5 : Math.min(1, Math.max(0, (rest - floor) / span));
  const beyond = isOpen && last.weight > 0 ? rest - floor - span / 2 : 0;
  for (const bucket of buckets) {
    const { low, high, weight } = bucket;
    if (weight === 0) continue;
    const value = kept(low + (high - low) * (beyond > 0 ? 0.5 : share), bucket.within);
    values.push({ value: bucket === last && beyond > 0 ? value + beyond / weight : value, weight });
  }
  return values;
}

/** At the bounds, which no double is equal to, a value may be off by its last digits: not into another bucket. */
function kept(value: number, bucket: number | undefined): number {
  if (bucket === undefined || !(Math.abs(value) > ZERO_THRESHOLD)) return value;
  let inside = value;
  for (let i = 0; i < MAX_NUDGES; i++) {
    const found = bucketOf(Math.abs(inside));
    if (found === bucket) break;
    inside *= found < bucket ? 1 + Number.EPSILON : 1 - Number.EPSILON;
  }
  return inside;
}

/** Returns undefined if they make no sense. */
function explicit({ counts, bounds, count, sum, min, max }: OtlpPoint): Bucket[] | undefined {
  if (!counts.every(isCount)) return undefined;
  if (counts.length === 0) {
    if (!(count > 0)) return [];
    // No buckets: one from the lowest to the highest value, or else the mean.
    const [low, high] = min <= max ? [min, max] : [sum / count, sum / count];
    return Number.isFinite(low) && Number.isFinite(high) ? [{ low, high, weight: count }] : undefined;
  }
  const isAscending = bounds.every(
    (bound, i) => Number.isFinite(bound) && (i === 0 || bound > bounds[i - 1]!),
  );
  if (counts.length !== bounds.length + 1 || !isAscending) return undefined;
  return counts
    .map((weight, i) => ({
      low: bounds[i - 1] ?? Number.NEGATIVE_INFINITY,
      high: bounds[i] ?? Number.POSITIVE_INFINITY,
      weight,
    }))
    .filter(({ weight }) => weight > 0);
}

/** Returns undefined if they make no sense. */
function exponential(point: OtlpPoint): Bucket[] | undefined {
  const { scale, zeroCount, counts, offset, negative, negativeOffset } = point;
  const all = [zeroCount, ...counts, ...negative];
  if (!all.every(isCount) || !(scale >= MIN_SCALE && scale <= MAX_SCALE)) return undefined;
  const bound = (index: number) => Math.min(Number.MAX_VALUE, 2 ** (index * 2 ** -scale));
  const finer = scale - SKETCH_SCALE;
  const within = (index: number) => (finer < 0 ? undefined : Math.floor(index / 2 ** finer));
  const buckets: Bucket[] = [];
  negative.forEach((weight, i) => {
    const index = negativeOffset + i;
    if (weight > 0)
      buckets.unshift({ low: -bound(index + 1), high: -bound(index), weight, within: within(index) });
  });
  if (zeroCount > 0) buckets.push({ low: 0, high: 0, weight: zeroCount });
  counts.forEach((weight, i) => {
    const index = offset + i;
    if (weight > 0)
      buckets.push({ low: bound(index), high: bound(index + 1), weight, within: within(index) });
  });
  return buckets;
}

function isCount(weight: number): boolean {
  return Number.isSafeInteger(weight) && weight >= 0;
}
