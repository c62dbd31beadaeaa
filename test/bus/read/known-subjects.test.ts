/** Which subjects count of a stream that was changed, and what checkpoints keep of that. */
import { expect, test } from 'vitest';
import { captureOf, filterOf, misjudges, mixedUp } from '../../../src/bus/capture.ts';
import type { Bus } from '../../../src/bus/connect.ts';
import { FrameSubject } from '../../../src/bus/frame-subject.ts';
import {
  knownSubjects,
  MAX_KEPT_CHARACTERS,
  misreadAfter,
  rememberSubjects,
  takeCapture,
} from '../../../src/bus/read/known-subjects.ts';
import { Trail } from '../../../src/bus/read/trail.ts';

const WANTED = ['metrics.a.>', 'metrics.b.>'];
const PLAIN = captureOf({ subjects: ['metrics.>'] });
const MOVED = captureOf({
  subjects: ['metrics.>'],
  subject_transform: { src: 'metrics.a.>', dest: 'moved.>' },
});

test('what was stored under an earlier transform counts, and what no stream was seen to store is strange', () => {
  const { judge } = filterOf(WANTED, PLAIN, filterOf(WANTED, MOVED));
  const subjects = ['metrics.a.x', 'moved.x', 'metrics.c', 'else', 'metrics.a'];
  expect(subjects.map(judge)).toEqual(['wanted', 'wanted', 'other', 'strange', 'other']);
});

test('what a stream stored beside what is wanted is not strange after it was narrowed', () => {
  const wide = captureOf({ subjects: ['metrics.>', 'audit.>'] });
  const { judge } = filterOf(['metrics.>'], PLAIN, filterOf(['metrics.>'], wide));
  expect(['audit.x', 'other.x'].map(judge)).toEqual(['other', 'strange']);
});

test('however many subjects there are, the verdicts are the same', () => {
  const { judge } = filterOf(WANTED, PLAIN);
  for (const round of [0, 1])
    for (let i = 0; i < 25_000; i++)
      expect(judge(`metrics.a.${(i * 7919) % 12_007}`), `${round}`).toBe('wanted');
  expect(judge('metrics.c')).toBe('other');
});

test('a frame has the verdict of its subject, whatever came before', () => {
  // A subject at a time, so that many share a place.
  const subjects = Array.from(
    { length: 5_000 },
    (_, i) => `${i % 3 ? 'metrics.' : ''}${'abc'[i % 7] ?? 'x'}.${i}`,
  );
  for (const filter of [filterOf(WANTED, PLAIN), filterOf(['metrics.*.*'], PLAIN)]) {
    const frame = new FrameSubject();
    const verdicts = subjects.map((subject, i) => {
      const again = subjects[i >> 1]!;
      return [again, subject, subject].map((each) => {
        const bytes = Buffer.from(each);
        frame.isAt(bytes, 0, bytes.length);
        return filter.verdictOn(frame);
      });
    });
    expect(verdicts).toEqual(
      subjects.map((subject, i) => [subjects[i >> 1]!, subject, subject].map(filter.judge)),
    );
    expect(new Set(verdicts.flat()).size).toBe(filter.patterns.length === 1 ? 2 : 3);
    expect(filter.verdictOn({ subject: 'metrics.a.x' })).toBe('wanted');
    expect(filter.verdictOn({ subject: 'else' })).toBe('strange');
  }
});

test('a prefix says no more than the patterns', () => {
  const prefixes = (...wanted: string[]) => filterOf(wanted, []).prefixes.map(String);
  expect(prefixes('metrics.>', 'a.b.>')).toEqual(['metrics.', 'a.b.']);
  expect(prefixes('metrics', 'metrics.*', 'm.*.>', 'a*.>')).toEqual([]);
  expect(prefixes('>')).toEqual(['']);
});

test('a reader misjudges what it did not know, and nothing else', () => {
  const before = filterOf(WANTED, PLAIN);
  const after = filterOf(WANTED, MOVED, before);
  expect(misjudges(before.patterns, after.patterns)).toBe(true);
  expect(misjudges(after.patterns, after.patterns)).toBe(false);
  expect(misjudges(after.patterns, before.patterns)).toBe(false);
});

test('a transform onto subjects that others publish is refused, unless both are wanted', () => {
  const mixed = captureOf({
    subjects: ['metrics.>', 'audit.>'],
    subject_transform: { src: 'metrics.>', dest: 'audit.>' },
  });
  expect(mixedUp(['metrics.>'], mixed)).toEqual([{ subject: 'metrics.>', stored: 'audit.>' }]);
  expect(mixedUp(['metrics.>', 'audit.>'], mixed)).toEqual([]);
  expect(mixedUp(WANTED, MOVED)).toEqual([]);
});

test.each([
  ['patterns that overlap and never meet', ['metrics.>'], ['metrics.>', 'logs.>'], '*.*.>', '$2.$1.>'],
  ['all of it is wanted', ['m.a.>'], ['m.*.cpu', 'm.*.mem'], 'm.*.*', 's.$1'],
])('a transform is not refused: %s', (_, wanted, subjects, src, dest) => {
  expect(mixedUp(wanted, captureOf({ subjects, subject_transform: { src, dest } }))).toEqual([]);
});

test('what comes from other streams is not refused for what may be published here', () => {
  const copied = { name: 'LEAF', subject_transforms: [{ src: 'metrics.>', dest: 'metrics.leaf1.>' }] };
  const capture = captureOf({ subjects: ['metrics.>'], sources: [copied] as never });
  expect(mixedUp(['metrics.host.>'], capture)).toEqual([]);
});

test('a transform onto subjects that the stream holds of others is refused, though it stores none any more', () => {
  const bus = {} as Bus;
  const wide = captureOf({ subjects: ['metrics.>', 'audit.>'] });
  takeCapture(bus, 'once', ['metrics.>'], wide);
  const onto = captureOf({
    subjects: ['metrics.>'],
    subject_transform: { src: 'metrics.>', dest: 'audit.>' },
  });
  expect(() => takeCapture(bus, 'once', ['metrics.>'], onto)).toThrow(
    'under which it holds messages of others',
  );
  expect(takeCapture(bus, 'once', ['metrics.>', 'audit.>'], onto).filter.judge('audit.x')).toBe('wanted');
  // Nothing was learned from that, whoever asks and however often.
  for (const wanted of [['metrics.>'], ['metrics.>', 'more'], ['metrics.>', 'more']])
    expect(() => takeCapture(bus, 'once', wanted, onto)).toThrow('under which it holds messages of others');
  expect(takeCapture(bus, 'once', ['metrics.>'], wide).filter.judge('audit.x')).toBe('other');
});

test('what others wanted by name, or what was behind a source without a filter, explains itself and nothing else', () => {
  const bus = {} as Bus;
  rememberSubjects(
    bus,
    'once',
    knownSubjects(['metrics.>', 'old.>'], filterOf(['metrics.>', 'old.>'], MOVED), 7),
  );
  const { filter } = takeCapture(bus, 'once', ['metrics.>'], PLAIN);
  expect(['old.x', 'moved.x'].map(filter.judge)).toEqual(['other', 'strange']);
  const all = filterOf(['metrics.>'], captureOf({ sources: [{ name: 'ANY' }] as never }));
  expect(all.judge('x')).toBe('other');
  expect(knownSubjects(['metrics.>'], all, 1).others).toEqual([]);
});

test('a reader who wanted less, or the same in another order, is told what it misread', () => {
  const bus = {} as Bus;
  const known = knownSubjects(WANTED, filterOf(WANTED, PLAIN), 7);
  rememberSubjects(bus, 'once', known);
  const wanted = ['metrics.>', 'more'];
  const { filter } = takeCapture(bus, 'once', wanted, MOVED);
  expect(filter.patterns.toSorted()).toEqual(['metrics.>', 'more', 'moved.>']);
  expect(misreadAfter(bus, 'once', known, MOVED)).toBe(7);
  expect(misreadAfter(bus, 'once', known, PLAIN)).toBeUndefined();
  expect(misreadAfter(bus, 'once', { ...known, wanted: WANTED.toReversed() }, MOVED)).toBe(7);
});

test('sources of a connection share what they learn', () => {
  const bus = {} as Bus;
  const one = takeCapture(bus, 'once', WANTED, PLAIN);
  expect(one.filter.judge('moved.x')).toBe('strange');
  takeCapture(bus, 'once', WANTED.toReversed(), MOVED);
  expect(one.filter.judge('moved.x')).toBe('wanted');
  // Of another stream, or with other subjects, it says nothing.
  expect(takeCapture(bus, 'again', WANTED, PLAIN).filter.judge('moved.x')).toBe('strange');
  expect(takeCapture(bus, 'once', ['metrics.b.>'], PLAIN).filter.judge('moved.x')).toBe('strange');
});

test('a trail keeps it, but no more than its limit', () => {
  const trail = new Trail('once');
  trail.subjects = knownSubjects(WANTED, filterOf(WANTED, MOVED), 7);
  expect(JSON.parse(JSON.stringify(trail.stored())).subjects).toEqual({
    wanted: WANTED,
    patterns: ['moved.>'],
    others: ['metrics.>'],
    through: 7,
  });
  // What counts goes before what does not.
  const many = Array.from({ length: MAX_KEPT_CHARACTERS / 8 }, (_, i) => `other.${i}`);
  trail.subjects = { ...trail.subjects, others: many };
  expect(trail.stored().subjects).toMatchObject({ patterns: ['moved.>'], others: [] });
  trail.subjects = knownSubjects(['x'.repeat(MAX_KEPT_CHARACTERS)], filterOf(WANTED, PLAIN), 7);
  expect(trail.stored().subjects).toBeUndefined();
});
