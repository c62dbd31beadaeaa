import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { bucketOf, middleOf, relativeErrorAt, ZERO_THRESHOLD } from '../../src/aggregate/buckets.ts';
import { effort } from '../effort.ts';
import { exactBucket } from './exact-bucket.ts';

function next(value: number, by: 1 | -1): number {
  const [double, bits] = [new Float64Array([value]), new BigInt64Array(1)];
  new Float64Array(bits.buffer).set(double);
  bits[0]! += BigInt(by);
  return new Float64Array(bits.buffer)[0]!;
}

describe('the number of a bucket', () => {
  test('is exact at the powers of two, which are the last of theirs, and at the doubles beside them', () => {
    for (let power = -127; power <= 1023; power++) {
      const bound = 2 ** power;
      expect([next(bound, -1), bound, next(bound, 1)].map(bucketOf)).toEqual([
        64 * power - 1,
        64 * power - 1,
        64 * power,
      ]);
    }
    expect(bucketOf(Number.MAX_VALUE)).toBe(64 * 1024 - 1);
    expect(bucketOf(next(ZERO_THRESHOLD, 1))).toBe(64 * -128);
  });

  test('is exact at all bounds of the buckets, which no double is equal to', () => {
    for (const power of [-127, -20, 0, 30, 1022]) {
      for (let j = 0; j <= 64; j++) {
        const about = 2 ** (power + j / 64);
        let value = next(next(about, -1), -1);
        for (let i = 0; i < 5; i++, value = next(value, 1))
          expect([value, bucketOf(value)]).toEqual([value, exactBucket(value)]);
      }
    }
  });

  test('is exact for any value', () => {
    fc.assert(
      fc.property(
        fc.double({ min: ZERO_THRESHOLD, minExcluded: true, noNaN: true, noDefaultInfinity: true }),
        (value) => {
          expect(bucketOf(value)).toBe(exactBucket(value));
        },
      ),
      { numRuns: effort(2000) },
    );
  });

  test('at a lower scale, it is the half, and the middle is within the relative error of all that the bucket holds', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 1e-30, max: 1e30, noNaN: true }),
        fc.integer({ min: 0, max: 8 }),
        (value, halvings) => {
          const bucket = bucketOf(value) >> halvings;
          const width = 2 ** (halvings - 6);
          expect(Math.log2(value) - bucket * width).toBeGreaterThan(-1e-9);
          expect((bucket + 1) * width - Math.log2(value)).toBeGreaterThan(-1e-9);
          const error = Math.abs(middleOf(bucket, halvings) / value - 1);
          expect(error).toBeLessThanOrEqual(relativeErrorAt(6 - halvings) + 1e-9);
        },
      ),
      { numRuns: effort(2000) },
    );
  });
});
