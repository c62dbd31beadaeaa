import fc from 'fast-check';
import { expect, test } from 'vitest';
import { SKETCH_SCALE } from '../../src/aggregate/buckets.ts';
import { Sketches } from '../../src/aggregate/sketch.ts';
import { BinSums } from '../../src/recent/bin-sums.ts';
import { ByteWriter } from '../../src/recent/byte-writer.ts';
import { SketchReader, SparseSketch, writeSketch } from '../../src/recent/sketch-bytes.ts';
import { effort } from '../effort.ts';

const valueArbitrary = fc.oneof(
  fc.integer({ min: -5, max: 500 }),
  // Far apart: the buckets of a sketch are halved until they fit.
  fc.integer({ min: -120, max: 120 }).map((n) => 1.5 ** n),
  fc.integer({ min: -120, max: 120 }).map((n) => -(2 ** n)),
);
const sketchArbitrary = fc.array(
  fc.record({ value: valueArbitrary, weight: fc.constantFrom(1, 1, 63, 64, 1.25, 100_000) }),
  { maxLength: 12 },
);

function bytesOf(sketches: readonly (readonly { value: number; weight: number }[])[]): Uint8Array[] {
  const made = new Sketches(SKETCH_SCALE);
  const writer = new ByteWriter();
  return sketches.map((values) => {
    const sketch = made.begin();
    for (const { value, weight } of values) made.add(sketch, value, weight, { grow: () => true });
    writeSketch(made, sketch, writer);
    return writer.take();
  });
}

/** All of them added to sketch 1 of two, as a question adds them. */
function addedUp(sketches: readonly Uint8Array[]): unknown {
  const sums = new BinSums(2);
  const reader = new SketchReader();
  reader.begin(Buffer.concat(sketches));
  const numbers = Int32Array.from(sketches, () => 3);
  const part = { from: 0, to: sketches.length, maxBytes: 20 };
  const meant = { groupOf: Int32Array.of(0, 0, 0, 1), sketchOf: Int32Array.of(-1, 1) };
  while (part.from < part.to) part.from = reader.addSome(sums, numbers, meant, part);
  const found: unknown[] = [];
  sums.eachBucket(1, (...bucket) => found.push(bucket));
  return { found, halvings: sums.halvingsOf(1) };
}

test('sketches are the same one by one, in the order of a question, and added up before', () => {
  fc.assert(
    fc.property(fc.array(sketchArbitrary, { minLength: 1, maxLength: 9 }), (drawn) => {
      const sketches = bytesOf(drawn);
      const oneByOne = new BinSums(2);
      const reader = new SketchReader();
      reader.begin(Buffer.concat(sketches));
      for (const _ of sketches) reader.addTo(oneByOne, 1);
      const expected: unknown[] = [];
      oneByOne.eachBucket(1, (...bucket) => expected.push(bucket));
      const all = { found: expected, halvings: oneByOne.halvingsOf(1) };
      expect(addedUp(sketches)).toEqual(all);
      const sum = new SparseSketch();
      reader.begin(Buffer.concat(sketches));
      for (const _ of sketches) reader.addToSparse(sum);
      const writer = new ByteWriter();
      sum.writeTo(writer);
      expect(addedUp([writer.take()])).toEqual(all);
    }),
    { numRuns: effort(300) },
  );
});
