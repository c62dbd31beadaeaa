/** Which subjects count of a stream that was changed, and what checkpoints keep of that. */
import { expect, test } from 'vitest';
import { captureOf, filterOf, misjudges } from '../../../src/bus/capture.ts';
import type { Bus } from '../../../src/bus/connect.ts';
import {
  knownSubjects,
  MAX_KEPT_CHARACTERS,
  recallSubjects,
  rememberSubjects,
  subjectsOf,
} from '../../../src/bus/read/known-subjects.ts';
import { Trail } from '../../../src/bus/read/trail.ts';

const WANTED = ['metrics.a.>', 'metrics.b.>'];
const PLAIN = captureOf({ subjects: ['metrics.>'] });
const MOVED = captureOf({
  subjects: ['metrics.>'],
  subject_transform: { src: 'metrics.a.>', dest: 'moved.>' },
});

test('what was stored under an earlier transform counts, and what nobody stores is strange', () => {
  const moved = filterOf(WANTED, MOVED);
  const { judge } = filterOf(WANTED, PLAIN, moved);
  expect(['metrics.a.x', 'moved.x', 'metrics.c', 'else'].map(judge)).toEqual([
    'wanted',
    'wanted',
    'other',
    'strange',
  ]);
});

test('a reader misjudges what it did not know, and nothing else', () => {
  const before = filterOf(WANTED, PLAIN);
  const after = filterOf(WANTED, MOVED, before);
  expect([misjudges(before, after), misjudges(after, after), misjudges(after, before)]).toEqual([
    true,
    false,
    false,
  ]);
  const all = filterOf(['metrics.>'], PLAIN);
  const wider = filterOf(['metrics.>'], captureOf({ subjects: ['metrics.>', 'audit.>'] }), all);
  expect([all.areAll, misjudges(all, wider)]).toEqual([true, true]);
  // The stream was narrowed again, and still holds the others.
  const narrowed = filterOf(['metrics.>'], PLAIN, wider);
  expect([narrowed.areAll, misjudges(wider, narrowed)]).toEqual([false, false]);
});

test('a trail keeps it for the same stream and the same METRICS_SUBJECTS, in whatever order', () => {
  const trail = new Trail('once');
  trail.subjects = knownSubjects(WANTED, filterOf(WANTED, MOVED), 7);
  const stored = JSON.parse(JSON.stringify(trail.stored()));
  expect(subjectsOf(stored, 'once', WANTED.toReversed())).toEqual(trail.subjects);
  expect(subjectsOf(stored, 'again', WANTED)).toBeUndefined();
  expect(subjectsOf(stored, 'once', ['metrics.>'])).toBeUndefined();
});

test('a trail does not keep more than its limit', () => {
  const trail = new Trail('once');
  trail.subjects = knownSubjects(['x'.repeat(MAX_KEPT_CHARACTERS)], filterOf(WANTED, PLAIN), 7);
  expect(trail.stored().subjects).toBeUndefined();
});

test('a connection recalls what was wanted and still is', () => {
  const bus = {} as Bus;
  rememberSubjects(bus, 'once', WANTED, filterOf(WANTED, MOVED));
  rememberSubjects(bus, 'once', WANTED, filterOf(WANTED, PLAIN));
  const counted = ['metrics.a.>', 'metrics.b.>', 'moved.>'];
  expect(recallSubjects(bus, 'once', WANTED)?.patterns.toSorted()).toEqual(counted);
  expect(recallSubjects(bus, 'once', ['metrics.>'])?.patterns.toSorted()).toEqual(counted);
  expect(recallSubjects(bus, 'once', ['metrics.a.>'])).toBeUndefined();
  expect(recallSubjects(bus, 'again', WANTED)).toBeUndefined();
});
