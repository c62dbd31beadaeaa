import fc from 'fast-check';
import { expect, test } from 'vitest';
import { makeSeries } from '../../src/aggregate/series.ts';
import { RefNumbers, SeriesObjects, SeriesRecords } from '../../src/aggregate/series-records.ts';
import { effort } from '../effort.ts';

const text = fc.string({ unit: 'binary', minLength: 1, maxLength: 12 });
const seriesArbitrary = fc
  .record({
    name: text,
    type: fc.constantFrom('counter', 'gauge', 'timer'),
    dimensions: fc.dictionary(fc.oneof(text, fc.constantFrom('10', '9', '__proto__')), text, { maxKeys: 4 }),
  })
  .map(({ name, type, dimensions }) => makeSeries(name, type, Object.entries(dimensions)));

test('series are read back unchanged, also by another thread that shares the memory, and after a move', () => {
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

const alike = fc
  .record({
    name: fc.constantFrom('a', 'é', 'b'.repeat(600)),
    type: fc.constantFrom('counter', 'gauge'),
    keys: fc.constantFrom([], ['x'], ['x', 'y'], ['"', '\\'], ['é', 'y']),
    values: fc.array(fc.oneof(text, fc.constantFrom('"', '\\"', '\\', 'v'.repeat(127), 'v'.repeat(20_000))), {
      minLength: 2,
      maxLength: 2,
    }),
  })
  .map(({ name, type, keys, values }) =>
    makeSeries(
      name,
      type,
      keys.map((key, i) => [key, values[i]!] as const),
    ),
  );

test('series with the same name and keys are read back unchanged, wherever their records are copied to', () => {
  fc.assert(
    fc.property(fc.array(alike, { minLength: 2, maxLength: 40 }), (all) => {
      const records = new SeriesRecords();
      const refs = all.map((series) => records.add(series));
      const copy = new SeriesRecords();
      const copied = [...refs].reverse().map((ref) => copy.addFrom(records, ref));
      copied.reverse();
      for (const [from, places] of [
        [records, refs],
        [new SeriesRecords(records.memory), refs],
        [copy, copied],
      ] as const) {
        expect(places.map((ref) => from.series(ref))).toEqual(all);
        expect(places.map((ref) => from.idOf(ref))).toEqual(all.map(({ id }) => id));
        expect(places.map((ref) => from.nameOf(ref))).toEqual(all.map(({ name }) => name));
        const json = all.map(({ dimensionsJson }) => dimensionsJson);
        expect(places.map((ref) => from.dimensionsJsonOf(ref))).toEqual(json);
        const bytes = all.map(({ name, dimensionsJson }) => Buffer.byteLength(name + dimensionsJson));
        expect(places.map((ref) => from.textBytesOf(ref))).toEqual(bytes);
        const sizes = all.map(({ name, dimensionsJson }) => name.length + dimensionsJson.length);
        expect(places.map((ref) => from.sizeOf(ref))).toEqual(sizes);
      }
    }),
    { numRuns: effort(100) },
  );
});

test('series with the same name and keys take their values and some 30 bytes', () => {
  const records = new SeriesRecords();
  const make = (i: number) =>
    makeSeries('http.requests', 'counter', [
      ['deployment.environment', 'prod'],
      ['host', `h${i}`],
      ['route', '/v1/accounts'],
    ]);
  for (let i = 0; i < 10_000; i++) records.add(make(i));
  expect(make(9999).dimensionsJson.length).toBeGreaterThan(70);
  expect(records.bytes / 10_000).toBeLessThan(56);
});

test('many series, some larger than a chunk: memory is added, and what is there stays', () => {
  const records = new SeriesRecords();
  const make = (i: number) =>
    makeSeries(`s${i}`, 'gauge', [['x', 'y'.repeat(i % 5000 === 0 ? 2_000_000 : i % 50)]]);
  const refs = Array.from({ length: 20_000 }, (_, i) => records.add(make(i)));
  expect(records.memory.length).toBeGreaterThan(5);
  for (let i = 0; i < refs.length; i += 97) expect(records.series(refs[i]!)).toEqual(make(i));
  expect(records.series(refs[5000]!)).toEqual(make(5000));
  expect(new Set(refs).size).toBe(refs.length);
  const numbers = new RefNumbers();
  expect(refs.every((ref) => numbers.get(ref) === 0)).toBe(true);
  for (const [i, ref] of refs.entries()) numbers.set(ref, i - 10_000);
  expect(refs.map((ref) => numbers.get(ref))).toEqual(refs.map((_, i) => i - 10_000));
});

test('a part has what is needed to read some of the records, and keeps no other memory', () => {
  const records = new SeriesRecords();
  const large = (i: number) => makeSeries(`s${i}`, 'gauge', [['x', 'y'.repeat(2_000_000)]]);
  const refs = [0, 1, 2, 3].map((i) => records.add(large(i)));
  const part = records.partOf(Uint32Array.from([refs[1]!, refs[3]!]));
  expect(part.memory.filter((each) => each !== undefined)).toHaveLength(2);
  expect(part.origin).toBe(records.origin);
  const elsewhere = new SeriesRecords(part.memory);
  for (const i of [1, 3]) {
    expect(part.series(refs[i]!)).toEqual(large(i));
    expect(elsewhere.series(refs[i]!)).toEqual(large(i));
  }
  const other = records.partOf(Uint32Array.from([refs[0]!]));
  elsewhere.grow(other.memory);
  expect([0, 1, 3].map((i) => elsewhere.series(refs[i]!))).toEqual([large(0), large(1), large(3)]);
  // Of the records after a sweep, a reference has another meaning.
  records.compact();
  records.decide();
  expect(records.compacted().origin).not.toBe(records.origin);
});

test('kept series are compacted, and series that were given away stay where they were', () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.record({
          series: seriesArbitrary,
          isKept: fc.boolean(),
          isGiven: fc.boolean(),
          isLong: fc.boolean(),
        }),
        { maxLength: 40 },
      ),
      fc.integer({ min: 1, max: 4 }),
      (all, rounds) => {
        let records = new SeriesRecords();
        const made = all.map(({ series, isLong }) =>
          isLong ? makeSeries(series.name, series.type, [['x', 'y'.repeat(9000)]]) : series,
        );
        const given: { records: SeriesRecords; ref: number; series: (typeof made)[0] }[] = [];
        for (let round = 0; round < rounds; round++) {
          const refs = Uint32Array.from(made, (series) => records.add(series));
          for (const [i, { isGiven }] of all.entries())
            if (isGiven) given.push({ records, ref: records.give(refs[i]!), series: made[i]! });
          records.compact();
          for (const [i, each] of all.entries()) if (each.isKept) records.keep(refs[i]!);
          // What comes meanwhile stays where it is.
          const later = records.add(makeSeries('later', 'counter', [['x', 'y'.repeat(9000)]]));
          records.decide();
          expect(records.moved(later)).toBe(later);
          for (const [i, each] of all.entries()) if (each.isKept) refs[i] = records.moved(refs[i]!);
          records = records.compacted();
          for (const [i, each] of all.entries())
            if (each.isKept) expect(records.series(refs[i]!)).toEqual(made[i]);
          const elsewhere = new SeriesRecords(records.memory);
          for (const [i, each] of all.entries())
            if (each.isKept) expect(elsewhere.series(refs[i]!)).toEqual(made[i]);
        }
        for (const { records, ref, series } of given) {
          expect(records.idOf(ref)).toBe(series.id);
          expect(new SeriesRecords(records.memory).series(ref)).toEqual(series);
        }
      },
    ),
  );
});

test('another thread gets new chunks, and keeps its objects', () => {
  const records = new SeriesRecords();
  const first = records.add(makeSeries('a', 'counter', []));
  const seen = new SeriesRecords(records.memory);
  const object = seen.series(first);
  const later = Array.from({ length: 1000 }, (_, i) =>
    records.add(makeSeries('b', 'counter', [['x', `${i}`.padEnd(3000)]])),
  );
  seen.grow(records.memory);
  expect(seen.series(first)).toBe(object);
  expect(later.map((ref) => seen.idOf(ref))).toEqual(later.map((ref) => records.idOf(ref)));
});

test('the cache of objects is bounded by memory, not by number, if series have much text', () => {
  const records = new SeriesRecords();
  const refs = Array.from({ length: 400 }, (_, i) =>
    records.add(makeSeries('a', 'counter', [['x', `${i}`.padEnd(30_000)]])),
  );
  const first = records.series(refs[0]!);
  expect(records.series(refs[0]!)).toBe(first);
  for (const ref of refs) records.series(ref);
  expect(records.series(refs[0]!)).not.toBe(first);
  expect(records.series(refs[0]!)).toEqual(first);
});

test('the records of a thread share what their objects may take', () => {
  const objects = new SeriesObjects();
  const both = [new SeriesRecords([], objects), new SeriesRecords([], objects)] as const;
  const [first, second] = both.map((records) =>
    Array.from({ length: 40 }, (_, i) =>
      records.add(makeSeries('a', 'counter', [['x', `${i}`.padEnd(30_000)]])),
    ),
  );
  const object = both[0].series(first![0]!);
  for (const ref of first!) both[0].series(ref);
  expect(both[0].series(first![0]!)).toBe(object);
  for (const ref of second!) both[1].series(ref);
  expect(both[0].series(first![0]!)).not.toBe(object);
  expect(both[0].series(first![0]!)).toEqual(object);
});

test('each series has one object', () => {
  const records = new SeriesRecords();
  const ref = records.add(makeSeries('a', 'counter', []));
  expect(records.series(ref)).toBe(records.series(ref));
});
