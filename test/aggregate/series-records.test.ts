import fc from 'fast-check';
import { expect, test } from 'vitest';
import { makeSeries } from '../../src/aggregate/series.ts';
import { SeriesRecords } from '../../src/aggregate/series-records.ts';

const text = fc.string({ unit: 'binary', minLength: 1, maxLength: 12 });
const seriesArbitrary = fc
  .record({
    name: text,
    type: fc.constantFrom('counter', 'gauge', 'timer'),
    dimensions: fc.dictionary(fc.oneof(text, fc.constantFrom('10', '9', '__proto__')), text, { maxKeys: 4 }),
  })
  .map(({ name, type, dimensions }) => makeSeries(name, type, Object.entries(dimensions)));

test('series come back as they went in, also where another thread sees the memory, and where they moved', () => {
  fc.assert(
    fc.property(fc.array(seriesArbitrary, { maxLength: 20 }), (all) => {
      const records = new SeriesRecords();
      const refs = all.map((series) => records.add(series));
      const seen = new SeriesRecords(records.memory);
      const moved = new SeriesRecords();
      const movedRefs = refs.map((ref) => moved.addFrom(records, ref));
      expect(refs.map((ref) => records.series(ref))).toEqual(all);
      expect(refs.map((ref) => seen.series(ref))).toEqual(all);
      expect(movedRefs.map((ref) => moved.series(ref))).toEqual(all);
      const sizes = all.map(({ name, dimensionsJson }) => name.length + dimensionsJson.length);
      expect(movedRefs.map((ref) => moved.sizeOf(ref))).toEqual(sizes);
    }),
  );
});

test('many, some of them larger than a chunk is: more memory is taken, and what is there stays', () => {
  const records = new SeriesRecords();
  const make = (i: number) =>
    makeSeries(`s${i}`, 'gauge', [['x', 'y'.repeat(i % 5000 === 0 ? 2_000_000 : i % 50)]]);
  const refs = Array.from({ length: 20_000 }, (_, i) => records.add(make(i)));
  expect(records.memory.length).toBeGreaterThan(5);
  for (let i = 0; i < refs.length; i += 97) expect(records.series(refs[i]!)).toEqual(make(i));
  expect(records.series(refs[5000]!)).toEqual(make(5000));
  expect(new Set(refs).size).toBe(refs.length);
});

test('one object for each series', () => {
  const records = new SeriesRecords();
  const ref = records.add(makeSeries('a', 'counter', []));
  expect(records.series(ref)).toBe(records.series(ref));
});
