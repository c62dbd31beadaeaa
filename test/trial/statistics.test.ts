import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  ascendingOf,
  believed,
  geometricMean,
  mannWhitneyP,
  medianOf,
  quantileOf,
  squaresOf,
  studentP,
  weightedMedian,
} from '../../src/trial/statistics.ts';
import { effort } from '../effort.ts';

const few = fc.array(fc.integer({ min: 0, max: 6 }), { minLength: 1, maxLength: 5 });

/** All ways to choose `count` of the indices. */
function* choices(of: number, count: number, from = 0): Generator<number[]> {
  if (count === 0) yield [];
  else
    for (let i = from; i <= of - count; i++)
      for (const rest of choices(of, count - 1, i + 1)) yield [i, ...rest];
}

/** U of the first side: of all pairs, how many times it is the greater one; a tie is half. */
function uOf(a: readonly number[], b: readonly number[]): number {
  return a
    .flatMap((x) => b.map((y) => (x > y ? 1 : x === y ? 0.5 : 0)))
    .reduce((sum: number, each) => sum + each, 0);
}

/** By the definition: over all ways to divide the values between the sides. */
function pByDefinition(a: readonly number[], b: readonly number[]): number {
  const all = [...a, ...b];
  const middle = (a.length * b.length) / 2;
  const distance = Math.abs(uOf(a, b) - middle);
  const us = [...choices(all.length, a.length)].map((chosen) =>
    uOf(
      chosen.map((index) => all[index]!),
      all.filter((_, index) => !chosen.includes(index)),
    ),
  );
  return us.filter((u) => Math.abs(u - middle) >= distance).length / us.length;
}

describe('mannWhitneyP', () => {
  test('is the share of all divisions that are as far apart, with ties too', () => {
    fc.assert(
      fc.property(few, few, (a, b) => {
        expect(mannWhitneyP(a, b)).toBeCloseTo(pByDefinition(a, b), 12);
      }),
      { numRuns: effort(200) },
    );
  });

  test('does not depend on which side is first, nor on the unit', () => {
    fc.assert(
      fc.property(few, few, (a, b) => {
        const p = mannWhitneyP(a, b);
        expect(mannWhitneyP(b, a)).toBeCloseTo(p, 12);
        const scaled = (values: readonly number[]) => values.map((value) => 1000 * value + 3);
        expect(mannWhitneyP(scaled(a), scaled(b))).toBeCloseTo(p, 12);
      }),
    );
  });

  test('knows the table: ten against ten that do not overlap', () => {
    const low = Array.from({ length: 10 }, (_, i) => i);
    const high = low.map((value) => value + 100);
    expect(mannWhitneyP(low, high)).toBeCloseTo(2 / 184_756, 12);
    expect(mannWhitneyP(low, low)).toBe(1);
    expect(mannWhitneyP([], high)).toBe(1);
    expect(() => mannWhitneyP(Array(40).fill(1), Array(40).fill(1))).toThrow(RangeError);
  });
});

test('believed: the p-values up to the greatest that is below its line', () => {
  // The example of Benjamini and Hochberg, 1995: four of fifteen at 5 %.
  const ps = [
    0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.324, 0.4262, 0.5719, 0.6528,
    0.759, 1,
  ];
  expect(believed(ps, 0.05).filter(Boolean)).toHaveLength(4);
  expect(believed([0.01, 0.9, 0.01], 0.05)).toEqual([true, false, true]);
  expect(believed([0.9, 0.8], 0.05)).toEqual([false, false]);
  expect(believed([], 0.05)).toEqual([]);
});

test('quantiles lie between the values, and those of the ends are the ends', () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer(), { minLength: 1 }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      (values, share) => {
        const ascending = ascendingOf(values);
        const quantile = quantileOf(ascending, share);
        expect(quantile).toBeGreaterThanOrEqual(ascending[0]!);
        expect(quantile).toBeLessThanOrEqual(ascending.at(-1)!);
        const below = values.filter((value) => value <= quantile).length / values.length;
        expect(below).toBeGreaterThanOrEqual(Math.floor(share * (values.length - 1)) / values.length);
        expect(quantileOf(ascending, 0)).toBe(ascending[0]);
        expect(quantileOf(ascending, 1)).toBe(ascending.at(-1));
      },
    ),
  );
  expect(quantileOf([], 0.5)).toBeNaN();
  expect(medianOf([3, 1, 2])).toBe(2);
  expect(medianOf([4, 1, 2, 3])).toBe(2.5);
  expect(geometricMean([1, 100])).toBeCloseTo(10);
});

test('studentP knows the table of critical values', () => {
  for (const [freedom, t, p] of [
    [1, 12.706, 0.05],
    [2, 9.925, 0.01],
    [3, 5.841, 0.01],
    [4, 2.776, 0.05],
    [6, 5.959, 0.001],
    [7, 3.499, 0.01],
    [8, 3.355, 0.01],
    [9, 4.781, 0.001],
  ] as const) {
    expect(studentP(t, freedom), `${freedom}`).toBeCloseTo(p, 4);
    expect(studentP(-t, freedom)).toBe(studentP(t, freedom));
  }
  expect(studentP(0, 5)).toBeCloseTo(1);
  expect(studentP(1e9, 5)).toBeLessThan(1e-12);
});

test('the weighted median has half of the weight on each side', () => {
  const of = (...pairs: [number, number][]) =>
    weightedMedian(pairs.map(([value, weight]) => ({ value, weight })));
  expect(of([3, 1], [1, 1], [2, 1])).toBe(2);
  expect(of([1, 1], [2, 1])).toBe(1.5);
  expect(of([9, 5], [1, 1], [2, 1])).toBe(9);
  expect(of()).toBeNaN();
});

test('squaresOf sums the squared distances to the mean', () => {
  expect(squaresOf([1, 2, 3])).toBe(2);
  expect(squaresOf([])).toBe(0);
});
