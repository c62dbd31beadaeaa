import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ALPHA, MAX_BINS, QUANTILES, Sketch } from '../../src/aggregate/sketch.ts';
import { effort } from '../effort.ts';
import { expectedQuantile } from './oracle.ts';

/** How much rounding may add to the bound. */
const ROUNDING = 1e-9;

function quantilesOf(values: readonly number[]): number[] {
  const sketch = new Sketch();
  for (const value of values) sketch.add(value);
  const out = new Float64Array(QUANTILES.length + 2).fill(-1);
  const min = values.reduce((a, b) => Math.min(a, b));
  const max = values.reduce((a, b) => Math.max(a, b));
  sketch.quantiles(values.length, min, max, out, 1);
  expect([out[0], out.at(-1)]).toEqual([-1, -1]);
  return [...out.subarray(1, -1)];
}

function exactQuantiles(values: readonly number[]): number[] {
  const sorted = [...values].sort((a, b) => a - b);
  return QUANTILES.map((q) => sorted[Math.floor(q * (values.length - 1))]!);
}

const anyValue = fc.oneof(
  fc.integer({ min: 0, max: 10 ** 10 }),
  fc.double({ noNaN: true, min: -1e6, max: 1e6 }).map((value) => (Math.abs(value) < 1e-6 ? 0 : value)),
  fc.constant(0),
);

describe('sketch', () => {
  test('quantiles are within the relative error of the exact ones', () => {
    fc.assert(
      fc.property(fc.array(anyValue, { minLength: 1, maxLength: 300 }), (values) => {
        const exact = exactQuantiles(values);
        quantilesOf(values).forEach((quantile, i) => {
          expect(Math.abs(quantile - exact[i]!)).toBeLessThanOrEqual(
            (ALPHA + ROUNDING) * Math.abs(exact[i]!),
          );
        });
      }),
      { numRuns: effort(500) },
    );
  });

  test('quantiles are, bit for bit, the representatives that the paper defines', () => {
    fc.assert(
      fc.property(fc.array(anyValue, { minLength: 1, maxLength: 100 }), (values) => {
        const min = Math.min(...values);
        const max = Math.max(...values);
        const expected = QUANTILES.map((q) => Math.min(max, Math.max(min, expectedQuantile(values, q))));
        expect(quantilesOf(values)).toEqual(expected);
      }),
    );
  });

  test('a large sample from a heavy tail', () => {
    const values = Array.from({ length: 100_000 }, (_, i) => 1e6 / (1 - ((i * 0.618034) % 1)) ** 1.2);
    const exact = exactQuantiles(values);
    quantilesOf(values).forEach((quantile, i) => {
      expect(Math.abs(quantile / exact[i]! - 1)).toBeLessThanOrEqual(ALPHA + ROUNDING);
    });
  });

  test('a single value of any size is its own quantile', () => {
    for (const value of [
      0, 1, -1, 5e-324, -5e-324, 1.7976931348623157e308, -1.7976931348623157e308, 1e-300,
    ]) {
      expect(quantilesOf([value])).toEqual([value, value, value, value]);
    }
  });

  test('without room to grow, the existing bins go to the highest values', () => {
    const asked: number[] = [];
    const sketch = new Sketch();
    const none = { grow: (bytes: number) => asked.push(bytes) < 0 };
    for (const value of [1, 1.5, 1000, 1400, 2000, 0.001, -5]) sketch.add(value, 1, none);
    const [p50, p90] = sketch.quantiles(7, -5, 2000, new Float64Array(4), 0);
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
      const lowestKept = values.at(-1)! * ((1 + ALPHA) / (1 - ALPHA)) ** -MAX_BINS;
      expect(p50! / lowestKept).toBeGreaterThan(0.9);
      expect(p50! / lowestKept).toBeLessThan(2);
      expect(p90! / exact[1]!).toBeGreaterThan(1 - ALPHA - ROUNDING);
      expect(Math.abs(p99! / exact[3]! - 1)).toBeLessThanOrEqual(ALPHA + ROUNDING);
    }
  });
});
