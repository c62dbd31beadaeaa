import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Aggregator } from '../../src/aggregate/aggregator.ts';
import { type KeySource, MAX_PROBES, systemKeys } from '../../src/aggregate/keyed-hash.ts';
import type { Point, Series } from '../../src/aggregate/point.ts';
import { COUNTER, GAUGE, type Spelling } from '../../src/aggregate/sample.ts';
import {
  type Dimension,
  identify,
  makeSeries,
  OVERFLOW_DIMENSION,
  storedSeries,
} from '../../src/aggregate/series.ts';
import { SeriesIndex } from '../../src/aggregate/series-index.ts';
import { SeriesRecords } from '../../src/aggregate/series-records.ts';
import { SeriesTable } from '../../src/aggregate/series-table.ts';
import { SpellingHash } from '../../src/aggregate/spelling-hash.ts';
import { NO_ENTRY, Spellings } from '../../src/aggregate/spelling-table.ts';
import { Tiling } from '../../src/aggregate/tiling.ts';
import { effort } from '../effort.ts';

function spelling(name: string, dimensions: string, type = COUNTER, origin = 0): Spelling {
  const bytes = Buffer.from(`#${name}${dimensions}`);
  const nameLength = Buffer.byteLength(name);
  return {
    view: new DataView(bytes.buffer, bytes.byteOffset, bytes.length),
    type,
    nameStart: 1,
    nameLength,
    dimensionsStart: 1 + nameLength,
    dimensionsLength: bytes.length - 1 - nameLength,
    origin,
  };
}

function spellingOf(dimensions: Uint8Array): Spelling {
  const view = new DataView(dimensions.buffer, dimensions.byteOffset, dimensions.length);
  const none = { nameStart: 0, nameLength: 0, origin: 0 };
  return { view, type: COUNTER, ...none, dimensionsStart: 0, dimensionsLength: dimensions.length };
}

/** A key of zeros first, as if an attacker had found it out; a random one when the table asks again. */
function knownAtFirst(): KeySource {
  let isFirst = true;
  return (key) => {
    if (isFirst) key.fill(0);
    else systemKeys(key);
    isFirst = false;
  };
}

/** With a key of zeros, words of which one half is 0 do not change the hash. */
function colliding(number: number): Spelling {
  const words = new Int32Array(3).fill(number << 16);
  return spellingOf(new Uint8Array(words.buffer));
}

function expectFewSteps(steps: readonly number[]): void {
  expect(Math.max(...steps)).toBeLessThanOrEqual(MAX_PROBES);
  expect(steps.reduce((sum, one) => sum + one, 0) / steps.length).toBeLessThanOrEqual(3);
}

const newSpellings = (keys: KeySource = systemKeys) => new Spellings(new SpellingHash(keys));

describe('spellings', () => {
  test('map name, dimensions and type to a series', () => {
    const part = fc.string({ unit: fc.constantFrom('a', 'b', 'é'), maxLength: 9 });
    fc.assert(
      fc.property(
        fc.array(fc.tuple(part, part, fc.constantFrom(COUNTER, GAUGE)), { maxLength: 200 }),
        (keys) => {
          const spellings = newSpellings();
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

  test('grow, and can be copied into another table', () => {
    const spellings = newSpellings();
    const entries = Array.from({ length: 20_000 }, (_, i) =>
      spellings.insert(spelling(`n${i}`, `{${i % 7}}`), i),
    );
    const copy = newSpellings();
    for (const entry of entries.filter((_, i) => i % 2 === 0)) copy.insertFrom(spellings, entry);
    for (let i = 0; i < 20_000; i++) {
      const key = spelling(`n${i}`, `{${i % 7}}`);
      expect(spellings.find(key)).toBe(entries[i]);
      const copied = copy.find(key);
      expect(copied === NO_ENTRY ? NO_ENTRY : copy.seriesOf(copied)).toBe(i % 2 === 0 ? i : NO_ENTRY);
    }
    expect(copy.bytes).toBeLessThan(0.51 * spellings.bytes);
  });

  test('with the same hash are compared byte by byte', () => {
    const spellings = newSpellings(knownAtFirst());
    const pair = [colliding(1), colliding(2)] as const;
    expect(spellings.hashOf(pair[0])).toBe(spellings.hashOf(pair[1]));
    spellings.insert(pair[0], 1);
    expect(spellings.find(pair[1])).toBe(NO_ENTRY);
    spellings.insert(pair[1], 2);
    expect(pair.map((each) => spellings.seriesOf(spellings.find(each)))).toEqual([1, 2]);
  });

  test('with the same hash are told apart by any one byte, whatever the length', () => {
    for (let length = 1; length <= 40; length++) {
      const spellings = newSpellings(knownAtFirst());
      // Of zeros and one other byte, each word has a half that is 0.
      const zeros = '\0'.repeat(length);
      const texts = [zeros, ...Array.from(zeros, (_, i) => `${zeros.slice(0, i)}a${zeros.slice(i + 1)}`)];
      expect(new Set(texts.map((text) => spellings.hashOf(spelling(text, '')))).size).toBe(1);
      texts.forEach((text, i) => {
        expect(spellings.find(spelling(text, ''))).toBe(NO_ENTRY);
        expect(spellings.seriesOf(spellings.insert(spelling(text, ''), i))).toBe(i);
      });
      for (const [i, text] of texts.entries())
        expect(spellings.seriesOf(spellings.find(spelling(text, '')))).toBe(i);
    }
  });

  test('that are much like another one take less memory, and are found in any table', () => {
    const of = (i: number) =>
      spelling('http.requests', `{"app":"app-${i % 20}","host":"h${i}","status":200}`, i % 2, i % 3);
    const spellings = newSpellings();
    for (let i = 0; i < 20_000; i++) spellings.insert(spelling(`other ${i}`, `{${i}}`), -2);
    const before = spellings.bytes;
    const entries = Array.from({ length: 20_000 }, (_, i) => spellings.insert(of(i), i));
    expect((spellings.bytes - before) / 20_000).toBeLessThan(48);
    const copy = newSpellings();
    for (let i = 0; i < 20_000; i++) copy.insertFrom(spellings, entries[i]!);
    for (let i = 0; i < 20_000; i++) {
      expect(spellings.find(of(i))).toBe(entries[i]);
      expect(copy.seriesOf(copy.find(of(i)))).toBe(i);
    }
    for (let i = 0; i < 20_000; i += 7) {
      const { origin, type } = of(i);
      expect(spellings.find({ ...of(i), origin: origin + 3 })).toBe(NO_ENTRY);
      expect(spellings.find({ ...of(i), type: 1 - type })).toBe(NO_ENTRY);
    }
  });

  test('that are much like another one, and have the same hash, are told apart by any one byte', () => {
    const spellings = newSpellings(knownAtFirst());
    const random = Buffer.alloc(24);
    for (let i = 0; i < 20_000; i++) {
      for (let at = 0; at < random.length; at++)
        random[at] = Math.imul(i + 7, 2_654_435_761 + at * 977) >>> 11;
      random.writeInt32LE(i, 20);
      spellings.insert(spellingOf(Uint8Array.from(random)), i);
    }
    // Of zeros and one other byte, each word has a half that is 0.
    const textOf = (...others: number[]) =>
      Array.from({ length: 60 }, (_, at) => (others.includes(at) ? 'a' : '\0')).join('');
    const split = (text: string) => spelling(text.slice(0, 8), text.slice(8));
    spellings.insert(split(textOf()), 1);
    const before = spellings.bytes;
    spellings.insert(split(textOf(33)), 2);
    expect(spellings.bytes - before).toBeLessThan(24);
    let same = 0;
    for (let at = 0; at < 60; at++) {
      const other = split(textOf(...(at === 33 ? [34] : [33, at])));
      same += Number(spellings.hashOf(other) === spellings.hashOf(split(textOf(33))));
      expect(spellings.find(other)).toBe(NO_ENTRY);
    }
    expect(same).toBeGreaterThan(50);
    expect(spellings.seriesOf(spellings.find(split(textOf(33))))).toBe(2);
  });

  test('are found when they take more than 64 MB, from where on a slot holds less of the hash', () => {
    const spellings = newSpellings();
    const of = (i: number) => spelling('a', `{${`${i}`.padStart(8)}${' '.repeat(3990)}}`);
    for (let i = 0; i < 17_000; i++) spellings.insert(of(i), i);
    // What is like another one takes little.
    expect(spellings.bytes).toBeLessThan(2 ** 26);
    const long = (i: number) => spelling(`${i}`.repeat(4000).slice(0, 4000), '{}');
    for (let i = 0; i < 600; i++) spellings.insert(long(1000 + i), 20_000 + i);
    expect(spellings.bytes).toBeGreaterThan(2 ** 26);
    for (let i = 0; i < 17_000; i += 11) expect(spellings.seriesOf(spellings.find(of(i)))).toBe(i);
    for (let i = 0; i < 600; i++) expect(spellings.seriesOf(spellings.find(long(1000 + i)))).toBe(20_000 + i);
  });

  test('2,000 with the same hash value cost no more than others: the key changes', () => {
    const spellings = newSpellings(knownAtFirst());
    const all = Array.from({ length: 2000 }, (_, i) => colliding(i));
    expect(new Set(all.map((each) => spellings.hashOf(each))).size).toBe(1);
    for (const [i, each] of all.entries()) spellings.insert(each, i);
    expect(new Set(all.map((each) => spellings.hashOf(each))).size).toBeGreaterThan(1900);
    expect(all.map((each) => spellings.seriesOf(spellings.find(each)))).toEqual(all.map((_, i) => i));
    expectFewSteps(all.map((each) => spellings.stepsTo(each)));
    // Entries that are copied into a table with another key are found there too.
    const other = newSpellings();
    for (const each of all) other.insertFrom(spellings, spellings.find(each));
    expect(all.map((each) => other.seriesOf(other.find(each)))).toEqual(all.map((_, i) => i));
  });

  test('that differ in the highest bits of two words collide only by chance', () => {
    // If the key were mixed in only at the beginning, 2^16 such texts would have the same hash, whatever the key.
    const all = Array.from({ length: 2000 }, (_, i) => {
      const bytes = Buffer.alloc(128, 'x');
      for (let bit = 0; bit < 16; bit++) {
        bytes[8 * bit + 3]! |= ((i >> bit) & 1) << 7;
        bytes[8 * bit + 5]! |= ((i >> bit) & 1) << 6;
      }
      return spellingOf(bytes);
    });
    // Of a hundred keys, a few separate them badly (1,500 hashes). Whoever chooses the texts does not know which.
    const tried = Array.from({ length: 21 }, () => {
      const spellings = newSpellings();
      for (const [i, each] of all.entries()) spellings.insert(each, i);
      const steps = all.map((each) => spellings.stepsTo(each));
      const mean = steps.reduce((sum, one) => sum + one, 0) / steps.length;
      const hashes = new Set(all.map((each) => spellings.hashOf(each))).size;
      return { hashes, mean, most: Math.max(...steps) };
    });
    const median = (of: (each: (typeof tried)[number]) => number) => tried.map(of).sort((a, b) => a - b)[10];
    expect(median(({ hashes }) => hashes)).toBeGreaterThan(1900);
    expect(median(({ mean }) => mean)).toBeLessThanOrEqual(3);
    expect(Math.max(...tried.map(({ most }) => most))).toBeLessThanOrEqual(MAX_PROBES);
  });
});

test('spellings are found at every moment while the table grows or takes another key', () => {
  for (const of of [(i: number) => spelling(`n${i}`, '{}'), colliding]) {
    const spellings = newSpellings(knownAtFirst());
    const all: Spelling[] = [];
    for (let i = 0; i < 3000; i++) {
      const spelled = of(i);
      expect(spellings.find(spelled)).toBe(NO_ENTRY);
      spellings.insert(spelled, i);
      all.push(spelled);
      for (let at = i; at >= 0; at -= 97) {
        expect(spellings.seriesOf(spellings.find(all[at]!))).toBe(at);
        expect(spellings.stepsTo(all[at]!)).toBeLessThanOrEqual(2 * MAX_PROBES);
      }
    }
  }
});

describe('the index by id', () => {
  const filled = (ids: readonly string[], keys: KeySource) => {
    const [index, records] = [new SeriesIndex(keys), new SeriesRecords()];
    const refs = Uint32Array.from(ids, (id) => records.add(storedSeries(id, 'a', 'counter', '{}')));
    for (let i = 0; i < ids.length; i++) {
      index.add(i, refs, records);
      for (let at = i; at >= 0; at -= 97) expect(index.find(ids[at]!, refs, records)).toBe(at);
    }
    expect(ids.map((id) => index.find(id, refs, records))).toEqual(ids.map((_, i) => i));
    expect(index.find('f'.repeat(32), refs, records)).toBeUndefined();
    return ids.map((id) => index.stepsTo(id, refs, records));
  };

  test('finds 2,000 ids with the same prefix in as few steps as others', () => {
    const ids = Array.from({ length: 2000 }, (_, i) => `00c0ffee00c0ffee${i.toString(16).padStart(16, '0')}`);
    expectFewSteps(filled(ids, systemKeys));
  });

  test('finds 2,000 ids with the same hash value in as few steps: the key changes', () => {
    const ids = Array.from({ length: 2000 }, (_, i) => `${i.toString(16).padStart(4, '0')}0000`.repeat(4));
    expectFewSteps(filled(ids, knownAtFirst()));
  });
});

test('I3: a window has the same points whatever the keys', () => {
  const windowsBy = (keys: KeySource) => {
    const table = new SeriesTable(100, undefined, keys);
    const aggregator = new Aggregator(table, {
      tiling: Tiling.of({
        windowMs: 1000,
        latenessMs: 0,
        maxAheadMs: 1000,
        maxSeries: 150,
        maxSeriesBytes: 30_000,
      }),
      from: 0,
    });
    const closed: Point[] = [];
    // More series than the table keeps and a window may have: the table is swept, and series are folded.
    for (let i = 0; i < 3000; i++) {
      const number = (i * 7919) % 400;
      const spelled = spelling('a', `{"x":${number}}`);
      const known = table.find(spelled);
      const series = known < 0 ? table.add(spelled, identify('a', [['x', `${number}`]])) : known;
      const [value, weight, eventTime] = [i / 3, 1, Number.NaN];
      aggregator.add({ series, type: COUNTER, value, weight, eventTime, streamTime: i, sequence: i }, i, i);
      for (const window of aggregator.close(i)) {
        for (let at = 0; at < window.size; at++) closed.push(window.point(at));
      }
    }
    return closed;
  };
  const points = windowsBy(systemKeys);
  expect(points.length).toBeGreaterThan(200);
  expect(windowsBy(systemKeys)).toEqual(points);
  expect(windowsBy(knownAtFirst())).toEqual(points);
});

describe('series table', () => {
  test('forgets series that nobody marks, reuses their numbers, and keeps the rest with its last spelling', () => {
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
    // The records that were handed out before have not changed.
    expect(table.records).not.toBe(records);
    expect(refs.map((ref) => records.series(ref))).toEqual(objects);
  });

  test('bounds the spellings of a series', () => {
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

  test('is swept by the memory of its series, however they are spelled', () => {
    const table = new SeriesTable(1000, 1_000_000);
    const kept = table.add(spelling('kept', '{}'), identify('kept', []));
    table.hold({ markSeries: (mark) => mark(kept) });
    const [given, records] = [table.recordOf(kept), table.records];
    let largest = 0;
    for (let i = 0; i < 2000; i++) {
      const value = `${i}`.padEnd(10_000, 'x');
      const series = table.add(spelling('long', `{"x":"${value}"}`), identify('long', [['x', value]]));
      expect(table.series(series).dimensions).toEqual([['x', value]]);
      largest = Math.max(largest, table.bytes);
    }
    // A chunk that is being filled counts in full.
    expect(largest).toBeLessThan(2_100_000);
    expect([table.series(kept).name, records.series(given).name]).toEqual(['kept', 'kept']);
    // Records that were given away stay; the rest of the memory is reused.
    const chunks = table.records.memory.filter((chunk) => chunk !== undefined);
    expect(chunks.reduce((sum, { byteLength }) => sum + byteLength, 0)).toBeLessThan(4_000_000);
  });

  test('whatever is added, in whatever state of a sweep: what is held stays, and no two series share a number', () => {
    interface Held {
      readonly number: number;
      readonly spelled: Spelling;
      readonly object: Series;
      readonly records: SeriesRecords;
      readonly ref: number;
    }
    fc.assert(
      fc.property(
        fc.integer({ min: 40, max: 1200 }),
        fc.array(
          fc.record({
            // What comes again, and how soon: series of these names, in one of five spellings.
            names: fc.integer({ min: 1, max: 2000 }),
            count: fc.integer({ min: 1, max: 1000 }),
            held: fc.integer({ min: 0, max: 900 }),
            long: fc.boolean(),
            overflows: fc.boolean(),
          }),
          { minLength: 1, maxLength: 10 },
        ),
        (keep, phases) => {
          const table = new SeriesTable(keep, 300 * keep);
          let held = new Map<string, Held>();
          table.hold({
            markSeries(mark) {
              for (const { number } of held.values()) mark(number);
            },
          });
          let step = 0;
          const hold = (name: string, spelled: Spelling, number: number) => {
            const [records, ref] = [table.records, table.recordOf(number)];
            const known = held.get(name);
            if (known !== undefined) expect(number).toBe(known.number);
            held.set(name, { number, spelled, object: table.series(number), records, ref });
          };
          for (const { names, count, held: most, long, overflows } of phases) {
            held = new Map([...held].slice(-most));
            for (let i = 0; i < count; i++, step++) {
              const name = `${(step * 7919) % names}${long ? 'x'.repeat(500) : ''}`;
              const spelled = spelling(name, `{${' '.repeat((step * 31) % 5)}}`);
              const found = table.find(spelled);
              const number = found < 0 ? table.add(spelled, identify(name, [])) : found;
              expect(table.series(number).name).toBe(name);
              hold(name, spelled, number);
              if (overflows) {
                const overflow = table.overflowOf(number);
                expect(table.series(overflow)).toEqual(
                  makeSeries(name, 'counter', [[OVERFLOW_DIMENSION, 'true']]),
                );
                expect(table.isOverflow(overflow)).toBe(true);
                expect(table.isOverflow(number)).toBe(false);
                hold(`all of ${name}`, spelling(`all of ${name}`, '{}'), overflow);
              }
            }
            expect(new Set([...held.values()].map(({ number }) => number)).size).toBe(held.size);
            for (const { number, spelled, object, records, ref } of held.values()) {
              expect([number, -1]).toContain(table.find(spelled));
              expect(table.series(number)).toEqual(object);
              expect(records.series(ref)).toEqual(object);
            }
          }
        },
      ),
      { numRuns: 40 },
    );
  });

  test('an overflow series that a sweep forgets is made again, even for a series whose turn is still to come', () => {
    const table = new SeriesTable(1500);
    const add = (name: string, ...of: Dimension[]) =>
      table.add(spelling(name, JSON.stringify(of)), identify(name, of));
    const forgotten = add('z', [OVERFLOW_DIMENSION, 'true']);
    const held = Array.from({ length: 1498 }, (_, i) => add(`${i}`));
    held.push(add('z', ['x', '1']));
    expect(table.overflowOf(held.at(-1)!)).toBe(forgotten);
    table.hold({
      markSeries(mark) {
        for (const series of held) mark(series);
      },
    });
    const expected = makeSeries('z', 'counter', [[OVERFLOW_DIMENSION, 'true']]);
    let isReused = false;
    for (let i = 0; i < 40 && !isReused; i++) {
      isReused = add(`new ${i}`) === forgotten;
      if (isReused) expect(table.series(table.overflowOf(held.at(-1)!))).toEqual(expected);
    }
    expect(isReused).toBe(true);
  });

  test('does not remember very long spellings', () => {
    const table = new SeriesTable(1000);
    const long = spelling('a', `{${' '.repeat(5000)}}`);
    const series = table.add(long, identify('a', []));
    expect(table.find(long)).toBe(-1);
    expect(table.add(long, identify('a', []))).toBe(series);
  });

  test('makes the same series as makeSeries, from any text', () => {
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
      // The default of fast-check.
      { numRuns: effort(100) },
    );
  });

  test('has one overflow series, whether it was folded or sent, which is its own overflow series', () => {
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
