import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Sketches } from '../../src/aggregate/sketch.ts';
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
  const sketches: Sketches = sums.sketches();
  const found = new Map<string, number>();
  for (let sketch = 0; sketch < sketches.size; sketch++)
    sketches.eachBin(sketch, (sign, index, weight) => found.set(`${sketch} ${sign} ${index}`, weight));
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

test('beyond the bins that there may be, the lowest are one, and nothing is lost', () => {
  fc.assert(
    fc.property(addedArbitrary(30_000), (added) => {
      const sums = new BinSums(3);
      const [total, highest] = [new Map<number, number>(), new Map<number, number>()];
      for (const { sketch, sign, index, weight } of added) {
        const bins = 2 * sketch + sign;
        sums.add(bins, index, weight);
        total.set(bins, (total.get(bins) ?? 0) + weight);
        highest.set(bins, Math.max(index, highest.get(bins) ?? index));
      }
      const [found, top] = [new Map<number, number>(), new Map<number, number>()];
      for (const [key, weight] of binsOf(sums)) {
        const [sketch, sign, index] = key.split(' ').map(Number);
        const bins = 2 * sketch! + (sign! > 0 ? 0 : 1);
        found.set(bins, (found.get(bins) ?? 0) + weight);
        top.set(bins, Math.max(index!, top.get(bins) ?? index!));
      }
      expect([found, top]).toEqual([total, highest]);
    }),
    { numRuns: effort(200) },
  );
});
