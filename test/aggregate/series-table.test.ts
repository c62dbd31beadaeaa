import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { COUNTER, GAUGE, type Spelling } from '../../src/aggregate/sample.ts';
import { identify, makeSeries, OVERFLOW_DIMENSION } from '../../src/aggregate/series.ts';
import { SeriesTable } from '../../src/aggregate/series-table.ts';
import { hashOf, NO_ENTRY, Spellings } from '../../src/aggregate/spelling-table.ts';

function spelling(name: string, dimensions: string, type = COUNTER): Spelling {
  const bytes = Buffer.from(`#${name}${dimensions}`);
  const nameLength = Buffer.byteLength(name);
  return {
    view: new DataView(bytes.buffer, bytes.byteOffset, bytes.length),
    type,
    nameStart: 1,
    nameLength,
    dimensionsStart: 1 + nameLength,
    dimensionsLength: bytes.length - 1 - nameLength,
  };
}

describe('spellings', () => {
  test('are a map by name, dimensions and type', () => {
    const part = fc.string({ unit: fc.constantFrom('a', 'b', 'é'), maxLength: 9 });
    fc.assert(
      fc.property(
        fc.array(fc.tuple(part, part, fc.constantFrom(COUNTER, GAUGE)), { maxLength: 200 }),
        (keys) => {
          const spellings = new Spellings();
          const expected = new Map<string, number>();
          keys.forEach(([name, dimensions, type], i) => {
            const key = JSON.stringify([name, dimensions, type]);
            const spelled = spelling(name, dimensions, type);
            const entry = spellings.find(spelled);
            expect(entry === NO_ENTRY ? undefined : spellings.seriesOf(entry)).toBe(expected.get(key));
            if (entry !== NO_ENTRY) return;
            expected.set(key, i);
            spellings.insert(spelled, i);
          });
        },
      ),
    );
  });

  test('grow, and are taken over', () => {
    const spellings = new Spellings();
    const entries = Array.from({ length: 20_000 }, (_, i) =>
      spellings.insert(spelling(`n${i}`, `{${i % 7}}`), i),
    );
    const copy = new Spellings();
    for (const entry of entries.filter((_, i) => i % 2 === 0)) copy.insertFrom(spellings, entry);
    for (let i = 0; i < 20_000; i++) {
      const key = spelling(`n${i}`, `{${i % 7}}`);
      expect(spellings.find(key)).toBe(entries[i]);
      const copied = copy.find(key);
      expect(copied === NO_ENTRY ? NO_ENTRY : copy.seriesOf(copied)).toBe(i % 2 === 0 ? i : NO_ENTRY);
    }
    expect(copy.bytes).toBeLessThan(0.51 * spellings.bytes);
  });

  test('with one and the same hash are compared byte for byte', () => {
    // Two words of dimensions that the hash folds into the same: found by search, by the birthday bound.
    const seen = new Map<number, string>();
    const spellings = new Spellings();
    let pair: [string, string] | undefined;
    for (let i = 0; pair === undefined; i++) {
      const text = `{"k":"${i.toString(36).padStart(8, '0')}"}`;
      const hash = hashOf(spelling('a', text));
      if (seen.has(hash)) pair = [seen.get(hash)!, text];
      seen.set(hash, text);
    }
    spellings.insert(spelling('a', pair[0]), 1);
    expect(spellings.find(spelling('a', pair[1]))).toBe(NO_ENTRY);
    spellings.insert(spelling('a', pair[1]), 2);
    expect(pair.map((text) => spellings.seriesOf(spellings.find(spelling('a', text))))).toEqual([1, 2]);
  });
});

describe('series table', () => {
  test('forgets what nobody marks, gives its numbers away, and keeps the rest with its last spelling', () => {
    const table = new SeriesTable(10);
    const kept = [0, 1, 2].map((i) => table.add(spelling(`kept${i}`, '{ }'), identify(`kept${i}`, [])));
    const objects = kept.map((series) => table.series(series));
    const [records, refs] = [table.records, kept.map((series) => table.recordOf(series))];
    table.hold({ markSeries: (mark) => kept.forEach(mark) });
    for (let i = 0; i < 1000; i++) {
      const series = table.add(spelling(`x${i}`, '{}'), identify(`x${i}`, []));
      expect(table.series(series).name).toBe(`x${i}`);
      expect(table.size).toBeLessThanOrEqual(10);
      expect(series).toBeLessThan(10);
    }
    kept.forEach((series, i) => {
      expect(table.find(spelling(`kept${i}`, '{ }'))).toBe(series);
      expect(table.series(series)).toEqual(objects[i]);
    });
    // What somebody was given before is what it was.
    expect(table.records).not.toBe(records);
    expect(refs.map((ref) => records.series(ref))).toEqual(objects);
  });

  test('the spellings of one series are bounded', () => {
    const table = new SeriesTable(10);
    const series = table.add(spelling('a', '{}'), identify('a', []));
    table.hold({ markSeries: (mark) => mark(series) });
    for (let i = 0; i < 5000; i++) {
      const spelled = spelling('a', `{${' '.repeat(i % 5000)}}`);
      if (table.find(spelled) < 0) expect(table.add(spelled, identify('a', []))).toBe(series);
    }
    expect(table.size).toBe(1);
    expect(table.spellingBytes).toBeLessThan(20_000);
  });

  test('very long spellings are not remembered', () => {
    const table = new SeriesTable(1000);
    const long = spelling('a', `{${' '.repeat(5000)}}`);
    const series = table.add(long, identify('a', []));
    expect(table.find(long)).toBe(-1);
    expect(table.add(long, identify('a', []))).toBe(series);
  });

  test('makes the same series as makeSeries, of whatever text', () => {
    const text = fc.string({ unit: 'binary', minLength: 1 });
    const table = new SeriesTable(1000);
    fc.assert(
      fc.property(
        text,
        fc.dictionary(fc.oneof(text, fc.constantFrom('2', '10', '__proto__')), text),
        (name, dimensions) => {
          const entries = Object.entries(dimensions);
          const series = table.add(spelling('', ''), identify(name, entries));
          expect(table.series(series)).toEqual(makeSeries(name, 'counter', entries));
        },
      ),
    );
  });

  test('an overflow series is its own, however it came about', () => {
    const table = new SeriesTable(10);
    const series = table.add(spelling('a', '{"x":1}', GAUGE), identify('a', [['x', '1']]));
    const overflow = table.overflowOf(series);
    expect(table.series(overflow)).toEqual(makeSeries('a', 'gauge', [[OVERFLOW_DIMENSION, 'true']]));
    expect(table.overflowOf(overflow)).toBe(overflow);
    expect(table.isOverflow(overflow)).toBe(true);
    expect(table.isOverflow(series)).toBe(false);
    const identity = identify('a', [[OVERFLOW_DIMENSION, 'true']]);
    const sent = table.add(spelling('a', '{"fanout.overflow":true}', GAUGE), identity);
    expect(sent).toBe(overflow);
  });
});
