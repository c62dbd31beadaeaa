import fc from 'fast-check';
import { expect, test } from 'vitest';
import { SKETCH_SCALE } from '../../src/aggregate/buckets.ts';
import { Sketches } from '../../src/aggregate/sketch.ts';
import { BinSums } from '../../src/recent/bin-sums.ts';
import { effort } from '../effort.ts';

const addedArbitrary = (spread: number) =>
  fc.integer({ min: -5000, max: 5000 }).chain((from) =>
    fc.array(
      fc.record({
        sketch: fc.nat(2),
        sign: fc.constantFrom(0, 1),
        index: fc.integer({ min: from, max: from + spread }),
        weight: fc.integer({ min: 1, max: 9 }),
      }),
      { maxLength: 200 },
    ),
  );

function binsOf(sums: BinSums): Map<string, number> {
  const found = new Map<string, number>();
  for (let sketch = 0; sketch < sums.zeros.length; sketch++)
    sums.eachBucket(sketch, (sign, index, weight) => found.set(`${sketch} ${sign} ${index}`, weight));
  return found;
}

test('bins are added up in any order, wherever they are', () => {
  fc.assert(
    fc.property(addedArbitrary(1900), (added) => {
      const sums = new BinSums(3);
      const expected = new Map<string, number>();
      for (const { sketch, sign, index, weight } of added) {
        sums.add(2 * sketch + sign, index, weight);
        const key = `${sketch} ${sign === 0 ? 1 : -1} ${index}`;
        expected.set(key, (expected.get(key) ?? 0) + weight);
      }
      expect(binsOf(sums)).toEqual(expected);
    }),
    { numRuns: effort(200) },
  );
});

test('percentiles are those of sketches, to the last bit', () => {
  fc.assert(
    fc.property(
      fc.oneof(addedArbitrary(1900), addedArbitrary(30_000)),
      fc.double({ min: 0, max: 1e9, noNaN: true }),
      fc.integer({ min: 0, max: 9 }),
      (added, most, zeros) => {
        const sums = new BinSums(3);
        const sketches = new Sketches(SKETCH_SCALE);
        for (let sketch = 0; sketch < 3; sketch++) {
          sketches.addBucket(sketches.begin(), 0, 0, 0, zeros);
          sums.zeros[sketch]! += zeros;
        }
        for (const { sketch, sign, index, weight } of added)
          sums.add(2 * sketch + sign, index >> sums.halvings[sketch]!, weight);
        for (const { sketch, sign, index, weight } of added) {
          const halvings = sums.halvingsOf(sketch);
          sketches.addBucket(sketch, sign === 0 ? 1 : -1, index >> halvings, halvings, weight);
        }
        for (let sketch = 0; sketch < 3; sketch++) {
          const found: unknown[] = [];
          const expected: unknown[] = [];
          sums.eachBucket(sketch, (...bucket) => found.push(bucket));
          sketches.eachBucket(sketch, (...bucket) => expected.push(bucket));
          expect(found).toEqual(expected);
          let weight = 0;
          sketches.eachBucket(sketch, (_sign, _index, each) => {
            weight += each;
          });
          expect(sums.weightOf(sketch)).toBe(weight);
          const [out, other] = [new Float64Array(4), new Float64Array(4)];
          sums.quantiles(sketch, weight, -most, most, out);
          expect(out).toEqual(sketches.quantiles(sketch, weight, -most, most, other, 0));
        }
        sums.release();
        expect([sums.counts.byteLength, sums.weightOf(0) - sums.zeros[0]!]).toEqual([0, 0]);
      },
    ),
    { numRuns: effort(200) },
  );
});

test('beyond the bins that there may be, two become one each, and nothing is lost', () => {
  fc.assert(
    fc.property(addedArbitrary(30_000), (added) => {
      const sums = new BinSums(3);
      for (const { sketch, sign, index, weight } of added)
        sums.add(2 * sketch + sign, index >> sums.halvings[sketch]!, weight);
      const expected = new Map<string, number>();
      for (const { sketch, sign, index, weight } of added) {
        const key = `${sketch} ${sign === 0 ? 1 : -1} ${index >> sums.halvingsOf(sketch)}`;
        expected.set(key, (expected.get(key) ?? 0) + weight);
      }
      expect(binsOf(sums)).toEqual(expected);
      // A range of so many buckets needs no more halvings.
      for (const sketch of [0, 1, 2]) expect(sums.halvingsOf(sketch)).toBeLessThanOrEqual(4);
    }),
    { numRuns: effort(200) },
  );
});

test('if there is no more memory for all together, bins are halved, and nothing is lost', () => {
  const sums = new BinSums(2000);
  for (let sketch = 0; sketch < 2000; sketch++)
    for (let index = 0; index < 1900; index += 50) sums.add(2 * sketch, index >> sums.halvings[sketch]!, 1);
  let weights = 0;
  sums.eachBucket(1999, (_sign, _index, weight) => {
    weights += weight;
  });
  expect([sums.halvingsOf(0), weights]).toEqual([0, 38]);
  expect(sums.halvingsOf(1999)).toBeGreaterThan(0);
});
