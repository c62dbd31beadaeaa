import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { relativeErrorAt, SKETCH_SCALE } from '../../src/aggregate/buckets.ts';
import { QUANTILES, RELATIVE_ERROR, Sketches } from '../../src/aggregate/sketch.ts';
import { effort } from '../effort.ts';
import { expectedOldQuantile, expectedQuantile } from './oracle.ts';

/** How much rounding may add to the bound. */
const ROUNDING = 1e-9;
const OLD_ERROR = 0.01;
const UNLIMITED = { grow: () => true };

function sketchOf(values: readonly number[], scale?: number): Sketches {
  const sketches = new Sketches(scale);
  sketches.begin();
  for (const value of values) sketches.add(0, value, 1, UNLIMITED);
  return sketches;
}

function readQuantiles(sketches: Sketches, values: readonly number[]): number[] {
  const out = new Float64Array(QUANTILES.length + 2).fill(-1);
  const min = values.reduce((a, b) => Math.min(a, b));
  const max = values.reduce((a, b) => Math.max(a, b));
  sketches.quantiles(0, values.length, min, max, out, 1);
  expect([out[0], out.at(-1)]).toEqual([-1, -1]);
  return [...out.subarray(1, -1)];
}

const quantilesOf = (values: readonly number[], scale?: number) =>
  readQuantiles(sketchOf(values, scale), values);

function exactQuantiles(values: readonly number[]): number[] {
  const sorted = [...values].sort((a, b) => a - b);
  return QUANTILES.map((q) => sorted[Math.floor(q * (values.length - 1))]!);
}

const anyValue = fc.oneof(
  fc.integer({ min: 0, max: 10 ** 10 }),
  fc.double({ noNaN: true, min: -1e6, max: 1e6 }).map((value) => (Math.abs(value) < 1e-3 ? 0 : value)),
  fc.constant(0),
);
/** Of any size: bins have to be halved. */
const wildValue = fc.oneof(anyValue, fc.double({ noNaN: true, noDefaultInfinity: true }));

function bucketsOf(sketches: Sketches): unknown[] {
  const buckets: unknown[] = [sketches.halvingsOf(0)];
  sketches.eachBucket(0, (...bucket) => buckets.push(bucket));
  return buckets;
}

describe.each([
  ['sketch', SKETCH_SCALE, RELATIVE_ERROR, expectedQuantile],
  ['sketch of a window of an earlier version', undefined, 0.01, expectedOldQuantile],
] as const)('%s', (_, scale, error, expected) => {
  test('quantiles are within the relative error of the exact ones', () => {
    fc.assert(
      fc.property(fc.array(anyValue, { minLength: 1, maxLength: 300 }), (values) => {
        const sketch = sketchOf(values, scale);
        const bound = scale === undefined ? error : relativeErrorAt(SKETCH_SCALE - sketch.halvingsOf(0));
        const exact = exactQuantiles(values);
        readQuantiles(sketch, values).forEach((quantile, i) => {
          expect(Math.abs(quantile - exact[i]!)).toBeLessThanOrEqual(
            (bound + ROUNDING) * Math.abs(exact[i]!),
          );
        });
      }),
      { numRuns: effort(500) },
    );
  });

  test('quantiles are, bit for bit, the middles of the buckets', () => {
    fc.assert(
      fc.property(fc.array(anyValue, { minLength: 1, maxLength: 100 }), (values) => {
        const sketch = sketchOf(values, scale);
        const [min, max] = [Math.min(...values), Math.max(...values)];
        const middles = QUANTILES.map((q) => expected(values, q, sketch.halvingsOf(0)));
        expect(readQuantiles(sketch, values)).toEqual(
          middles.map((middle) => Math.min(max, Math.max(min, middle))),
        );
      }),
    );
  });

  test('a large sample from a heavy tail', () => {
    const values = Array.from({ length: 100_000 }, (_, i) => 1e6 / (1 - ((i * 0.618034) % 1)) ** 1.2);
    const exact = exactQuantiles(values);
    quantilesOf(values, scale).forEach((quantile, i) => {
      expect(Math.abs(quantile / exact[i]! - 1)).toBeLessThanOrEqual(error + ROUNDING);
    });
  });

  test('a single value of any size is its own quantile', () => {
    for (const value of [
      0, 1, -1, 5e-324, -5e-324, 1.7976931348623157e308, -1.7976931348623157e308, 1e-300,
    ]) {
      expect(quantilesOf([value], scale)).toEqual([value, value, value, value]);
    }
  });
});

describe('sketch', () => {
  test('beyond the bins that there may be, two become one each, and the error is that of the scale', () => {
    fc.assert(
      fc.property(fc.array(wildValue, { minLength: 1, maxLength: 100 }), (values) => {
        const sketch = sketchOf(values, SKETCH_SCALE);
        const error = relativeErrorAt(SKETCH_SCALE - sketch.halvingsOf(0));
        const exact = exactQuantiles(values);
        readQuantiles(sketch, values).forEach((quantile, i) => {
          const allowed =
            Math.abs(exact[i]!) <= 2 ** -128 ? 2 ** -128 : (error + ROUNDING) * Math.abs(exact[i]!);
          expect(Math.abs(quantile - exact[i]!)).toBeLessThanOrEqual(allowed);
        });
        let [lowest, highest] = [Infinity, -Infinity];
        sketch.eachBucket(0, (sign, bucket) => {
          if (sign > 0) [lowest, highest] = [Math.min(lowest, bucket), Math.max(highest, bucket)];
        });
        expect(highest - lowest).toBeLessThan(2048);
      }),
      { numRuns: effort(500) },
    );
  });

  test('neither the order of the values nor how they are put together makes a difference', () => {
    const drawn = fc
      .array(wildValue, { minLength: 1, maxLength: 100 })
      .chain((values) =>
        fc.tuple(
          fc.constant(values),
          fc.shuffledSubarray(values, { minLength: values.length }),
          fc.nat(values.length),
        ),
      );
    fc.assert(
      fc.property(drawn, ([values, shuffled, cut]) => {
        const whole = sketchOf(values, SKETCH_SCALE);
        expect(bucketsOf(sketchOf(shuffled, SKETCH_SCALE))).toEqual(bucketsOf(whole));
        const merged = new Sketches(SKETCH_SCALE);
        merged.begin();
        for (const part of [values.slice(0, cut), values.slice(cut)]) {
          const sketch = sketchOf(part, SKETCH_SCALE);
          const halvings = sketch.halvingsOf(0);
          sketch.eachBucket(0, (sign, bucket, weight) => merged.addBucket(0, sign, bucket, halvings, weight));
        }
        expect(bucketsOf(merged)).toEqual(bucketsOf(whole));
      }),
      { numRuns: effort(500) },
    );
  });

  test('a range of three billion is held at scale 6, and one of 9 10^18 at scale 5', () => {
    expect(sketchOf([1, 3e9], SKETCH_SCALE).halvingsOf(0)).toBe(0);
    expect(sketchOf([1, 9e18, -1], SKETCH_SCALE).halvingsOf(0)).toBe(1);
    expect(sketchOf([2 ** -128, 3e9, -(2 ** -128)], SKETCH_SCALE).halvingsOf(0)).toBe(0);
  });

  test('without room to grow, the bins that there are become wider, and no value is taken for another', () => {
    const asked: number[] = [];
    const sketch = new Sketches(SKETCH_SCALE);
    sketch.begin();
    const none = { grow: (bytes: number) => asked.push(bytes) < 0 };
    const values = [1, 1.5, 1000, 1400, 2000, 0.001, -5];
    for (const value of values) sketch.add(0, value, 1, none);
    const error = relativeErrorAt(SKETCH_SCALE - sketch.halvingsOf(0));
    expect(sketch.halvingsOf(0)).toBe(6);
    const exact = exactQuantiles(values);
    readQuantiles(sketch, values).forEach((quantile, i) => {
      expect(Math.abs(quantile / exact[i]! - 1)).toBeLessThanOrEqual(error);
    });
    // 1.5, 1000 and 0.001 did not fit.
    expect(asked).toHaveLength(3);
  });
});

test('halving the bins of one sign for lack of room loses nothing of the other', () => {
  const sketch = new Sketches(SKETCH_SCALE);
  sketch.begin();
  for (const value of [0.1, 2, -0.1, -1e16]) sketch.add(0, value, 1, { grow: () => false });
  const counted: [sign: number, weight: number][] = [];
  sketch.eachBucket(0, (sign, _, weight) => counted.push([sign, weight]));
  const of = (sign: number) => counted.reduce((sum, [each, weight]) => sum + (each === sign ? weight : 0), 0);
  expect([of(-1), of(1)]).toEqual([2, 2]);
});

describe('sketch of a window of an earlier version', () => {
  test('without room to grow, the existing bins go to the highest values', () => {
    const asked: number[] = [];
    const sketch = new Sketches(undefined);
    sketch.begin();
    const none = { grow: (bytes: number) => asked.push(bytes) < 0 };
    for (const value of [1, 1.5, 1000, 1400, 2000, 0.001, -5]) sketch.add(0, value, 1, none);
    const [p50, p90] = sketch.quantiles(0, 7, -5, 2000, new Float64Array(4), 0);
    // -5 counts as zero, and the values below 1400 are in the lowest of 32 bins.
    expect(p50).toBeGreaterThan(1000);
    expect(Math.abs(p90! / 2000 - 1)).toBeLessThan(0.4);
    expect(asked.length).toBeGreaterThanOrEqual(3);
    expect(asked.at(-1)).toBe(32 * 8);
  });

  test('the number of bins is bounded: the lowest ones collapse, and the highest stay exact', () => {
    const values = Array.from({ length: 4000 }, (_, i) => 1.05 ** (i * 2 - 4000));
    for (const order of [values, [...values].reverse()]) {
      const [p50, p90, , p99] = quantilesOf(order);
      const exact = exactQuantiles(values);
      const lowestKept = values.at(-1)! * ((1 + OLD_ERROR) / (1 - OLD_ERROR)) ** -2048;
      expect(p50! / lowestKept).toBeGreaterThan(0.9);
      expect(p50! / lowestKept).toBeLessThan(2);
      expect(p90! / exact[1]!).toBeGreaterThan(1 - OLD_ERROR - ROUNDING);
      expect(Math.abs(p99! / exact[3]! - 1)).toBeLessThanOrEqual(OLD_ERROR + ROUNDING);
    }
  });
});
