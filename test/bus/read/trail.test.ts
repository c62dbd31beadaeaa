import fc from 'fast-check';
import { expect, test } from 'vitest';
import { MAX_MARKS, type Mark, marksOf, mergeMarks, Trail } from '../../../src/bus/read/trail.ts';

const CREATED = '2026-11-23T01:00:00Z';
const marks = (...sequences: number[]): Mark[] =>
  sequences.map((sequence) => ({ sequence, time: 1000 * sequence }));

test('however much is read, the marks are bounded, and their distance is in proportion to their age', () => {
  const trail = new Trail(CREATED);
  const last = 200_000;
  for (let sequence = 1; sequence <= last; sequence++) trail.note({ sequence, time: sequence });
  const { marks: kept } = trail;
  expect(kept.length).toBe(MAX_MARKS);
  expect(kept[0]!.sequence).toBe(1);
  for (let i = 0; i + 1 < kept.length; i++) {
    const [older, newer] = [kept[i]!.sequence, kept[i + 1]!.sequence];
    expect(newer - older).toBeLessThanOrEqual(Math.max(1, (last - older) / 2));
  }
});

test('the earliest stream time of a block survives when marks are dropped', () => {
  const steps = fc.array(fc.record({ by: fc.integer({ min: 1, max: 9 }), time: fc.nat(100_000) }), {
    minLength: 1,
    maxLength: 300,
  });
  fc.assert(
    fc.property(steps, (read) => {
      const trail = new Trail(CREATED);
      let sequence = 0;
      let before: number | undefined;
      const noted = read.map(({ by, time }) => {
        sequence += by;
        const mark = { sequence, time, ...(before !== undefined && time < before && { least: time }) };
        before = time;
        trail.note(mark);
        return mark;
      });
      for (const [i, mark] of trail.marks.entries()) {
        if (i === 0) continue;
        const from = trail.marks[i - 1]!;
        const block = noted.filter((one) => one.sequence > from.sequence && one.sequence <= mark.sequence);
        const floor = Math.min(from.time, mark.least ?? Number.POSITIVE_INFINITY);
        expect(Math.min(...block.map(({ time }) => time))).toBeGreaterThanOrEqual(floor);
      }
    }),
  );
});

test('a message that went back in time shows in each mark that may be later, until one is later for certain', () => {
  const trail = new Trail(CREATED, marks(1));
  trail.wentBack({ sequence: 5, time: 400 });
  trail.wentBack({ sequence: 9, time: 300 });
  for (const sequence of [4, 6, 10, 11]) trail.note({ sequence, time: 1000 * sequence });
  // Marks in between come from messages that somebody else has read again.
  trail.note({ sequence: 7, time: 7000 });
  expect(trail.marks.map(({ sequence, least }) => [sequence, least])).toEqual([
    [1, undefined],
    [4, undefined],
    [6, 300],
    [7, undefined],
    [10, 300],
    [11, undefined],
  ]);
});

test('a stored trail is read back, but not as the trail of another stream', () => {
  const trail = new Trail(CREATED, [...marks(1, 2), { sequence: 3, time: 2500, least: 1500 }]);
  trail.pin({ sequence: 9, time: 9000 });
  const stored = JSON.parse(JSON.stringify(trail.stored()));
  expect(marksOf(stored, CREATED)).toEqual([
    ...marks(1, 2),
    { sequence: 3, time: 2500, least: 1500 },
    ...marks(9),
  ]);
  expect(marksOf(stored, '2026-11-23T02:00:00Z')).toEqual([]);
  expect(marksOf(undefined, CREATED)).toEqual([]);
});

test('a pinned mark is kept until it is unpinned, however much is read in the meantime', () => {
  const trail = new Trail(CREATED);
  for (let sequence = 1; sequence <= 1000; sequence++) {
    trail.note({ sequence, time: sequence });
    if (sequence === 777) trail.pin({ sequence, time: sequence });
  }
  expect(trail.marks.some(({ sequence }) => sequence === 777)).toBe(true);
  trail.unpin(trail.pinned);
  expect(trail.marks.length).toBe(MAX_MARKS);
});

test('marks with the same sequence and different times belong to two histories, and both are kept', () => {
  const merged = mergeMarks([marks(1, 5), [{ sequence: 5, time: 5001 }, ...marks(5)]]);
  expect(merged).toEqual([...marks(1, 5), { sequence: 5, time: 5001 }]);
});
