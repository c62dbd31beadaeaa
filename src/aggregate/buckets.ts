/**
 * The buckets of OpenTelemetry's exponential histograms at scale 6, with its numbers: bucket i holds the values in
 * (2^(i/64), 2^((i+1)/64)]. Prometheus gives the same bucket the number i + 1. Two neighbors, from an even number on,
 * are one bucket of the scale below: its number is i >> 1.
 */

export const SKETCH_SCALE = 6;
/** Buckets between a power of two and the next. */
const BUCKETS = 2 ** SKETCH_SCALE;

/**
 * Values of this magnitude or less count as zeros: as with Prometheus' own clients. No bucket is as low, so none holds
 * numbers that are not normalized.
 */
export const ZERO_THRESHOLD = 2 ** -128;

/** At this scale, every sketch fits in a few bins: a bucket holds 1,024 powers of two. */
export const MIN_SCALE = -10;
export const MAX_HALVINGS = SKETCH_SCALE - MIN_SCALE;

/** Relative error of a quantile at that scale. */
export const relativeErrorAt = (scale: number) => Math.tanh((Math.LN2 * 2 ** -scale) / 2);

const FRACTION_BITS = 52;
const EXPONENT_BIAS = 1023;
/** Of the upper half of a double: the bits below the exponent. */
const HIGH_FRACTION_BITS = 20;
const HIGH_FRACTION = 2 ** HIGH_FRACTION_BITS - 1;

const DOUBLE = new Float64Array(1);
const WORDS = new Uint32Array(DOUBLE.buffer);
const HIGH = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1 ? 1 : 0;
const LOW = 1 - HIGH;

/**
 * The bounds 2^(j/64) from 1 to 2, each as the fraction of the largest double that is not above it. A value is above
 * the bound if and only if it is above that double.
 */
const BOUNDS = Array.from({ length: BUCKETS + 1 }, (_, j) => fractionBelow(j));
const BOUND_HIGH = Int32Array.from(BOUNDS, (fraction) => Number(fraction >> 32n));
const BOUND_LOW = Uint32Array.from(BOUNDS, (fraction) => Number(fraction & 0xffffffffn));

/** The values from 1 to 2 in so many cells, each narrower than the narrowest bucket. */
const CELL_BITS = SKETCH_SCALE + 1;
/** By cell: how many bounds are below all of it. At most one more is in the cell. */
const CELLS = Uint8Array.from({ length: 2 ** CELL_BITS }, (_, cell) => {
  const from = BigInt(cell) << BigInt(FRACTION_BITS - CELL_BITS);
  return BOUNDS.filter((fraction) => fraction < from).length;
});

/** Returns floor(2^52 (2^(j/64) - 1)), exactly: floating-point numbers would be right most of the time. */
function fractionBelow(j: number): bigint {
  const one = 1n << BigInt(FRACTION_BITS);
  const limit = 1n << BigInt(j + FRACTION_BITS * BUCKETS);
  let bound = BigInt(Math.floor(2 ** (j / BUCKETS) * 2 ** FRACTION_BITS));
  while (bound ** BigInt(BUCKETS) > limit) bound -= 1n;
  while ((bound + 1n) ** BigInt(BUCKETS) <= limit) bound += 1n;
  return bound - one;
}

/** Returns the number of the bucket at scale 6 that holds a value above ZERO_THRESHOLD. Exact, also at the bounds. */
export function bucketOf(magnitude: number): number {
  DOUBLE[0] = magnitude;
  const high = WORDS[HIGH]!;
  const fraction = high & HIGH_FRACTION;
  const below = CELLS[fraction >>> (HIGH_FRACTION_BITS - CELL_BITS)]!;
  const bound = BOUND_HIGH[below]!;
  const isAbove = fraction > bound || (fraction === bound && WORDS[LOW]! > BOUND_LOW[below]!);
  return ((high >>> HIGH_FRACTION_BITS) - EXPONENT_BIAS) * BUCKETS + below - (isAbove ? 0 : 1);
}

/** By how often the buckets were halved: the width of one as a power of two, and what takes its bound to its middle. */
const WIDTHS = Float64Array.from(
  { length: MAX_HALVINGS + 1 },
  (_, halvings) => 2 ** (halvings - SKETCH_SCALE),
);
const MIDDLES = WIDTHS.map((width) => 2 / (1 + 2 ** -width));

/** Returns the value that is relatively nearest to all values of a bucket at scale 6 - `halvings`. */
export function middleOf(bucket: number, halvings: number): number {
  return 2 ** (bucket * WIDTHS[halvings]!) * MIDDLES[halvings]!;
}
