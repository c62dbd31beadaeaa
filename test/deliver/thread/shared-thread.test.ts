/** Sinks with little to do run in one thread, until one of them would hold up the others. */
import { execFileSync } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Point } from '../../../src/aggregate/point.ts';
import { SharedThread } from '../../../src/deliver/thread/shared-thread.ts';
import { ThreadedSink } from '../../../src/deliver/thread/threaded-sink.ts';
import { temporaryFolder } from '../../../src/servers/server-process.ts';
import { LIMIT_MS } from '../../limits.ts';
import { wholeBatch, windowOf } from './windows.ts';

const KIND = fileURLToPath(new URL('./told.ts', import.meta.url));
const never = new AbortController().signal;

let folder: ReturnType<typeof temporaryFolder>;
let sinks: ThreadedSink[];
let shared: SharedThread;
let splits: string[];

beforeEach(() => {
  folder = temporaryFolder('shared-thread');
  splits = [];
  shared = new SharedThread((why) => splits.push(why));
  sinks = ['a', 'b', 'c'].map((id) => sinkOf(id));
});
afterEach(async () => {
  await Promise.all(sinks.map((sink) => sink.close()));
  folder.remove();
});

function sinkOf(id: string, more: object = {}): ThreadedSink {
  const values = { file: join(folder.path, id), token: `hunter2-of-${id}`, faulty: false, ...more };
  return new ThreadedSink({ id, kind: KIND, values }, { info() {}, warn() {} }, { shared, graceMs: 300 });
}

const linesOf = (id: string) =>
  readFileSync(join(folder.path, id), 'utf8')
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line));
const namesOf = (id: string) =>
  linesOf(id).map((line: string | Point) => (typeof line === 'string' ? line : line.series.name));
const write = (sink: ThreadedSink, ...names: string[]) => sink.write(wholeBatch(windowOf(0, names)), never);
/** The number of the thread of each sink that is open. */
const threads = () => Promise.all(sinks.map((sink) => sink.storage(never)));

async function openAll() {
  await Promise.all(sinks.map((sink) => sink.open(never)));
  expect(new Set(await threads()).size).toBe(1);
}

/** Each sink is in a thread of its own, works there, and has been written what its lane has written. */
async function expectApart(...others: ThreadedSink[]) {
  for (const sink of others) expect(await write(sink, 'after')).toEqual({ kind: 'written' });
  const numbers = await Promise.all(others.map((sink) => sink.storage(never)));
  expect(new Set(numbers).size).toBe(others.length);
  expect(splits).toHaveLength(1);
}

test('each gets its own points, and goes without the others', async () => {
  await openAll();
  const [a, b, c] = sinks as [ThreadedSink, ThreadedSink, ThreadedSink];
  expect(await Promise.all([write(a, 'x'), write(b, 'y', 'z'), write(c, 'x')])).toHaveLength(3);
  await b.close();
  expect(await write(a, 'later')).toEqual({ kind: 'written' });
  expect([namesOf('a'), namesOf('b'), namesOf('c')]).toEqual([['x', 'later'], ['y', 'z', 'closed'], ['x']]);
  // A sink that comes back, as after a new session on the bus, finds the others.
  expect(await write(b, 'again')).toEqual({ kind: 'written' });
  expect(new Set(await threads()).size).toBe(1);
  await Promise.all(sinks.map((sink) => sink.close()));
  expect(await write(a, 'anew')).toEqual({ kind: 'written' });
  expect(splits).toEqual([]);
});

test('a sink that cannot be made fails alone', async () => {
  await openAll();
  sinks.push(sinkOf('d', { faulty: true }));
  await expect(sinks[3]!.open(never)).rejects.toThrow('it cannot be made');
  await expect(sinks[3]!.open(never)).rejects.toThrow('it cannot be made');
  expect(await write(sinks[0]!, 'x')).toEqual({ kind: 'written' });
  expect(splits).toEqual([]);
});

test('a large window: each gets a thread of its own, and what is under way ends where it is', async () => {
  await openAll();
  const [a, b, c] = sinks as [ThreadedSink, ThreadedSink, ThreadedSink];
  const abort = new AbortController();
  const hanging = b.write(wholeBatch(windowOf(0, ['hang'])), abort.signal);
  const large = Array.from({ length: 6_000 }, (_, i) => `s${i}`);
  expect(await write(a, ...large)).toEqual({ kind: 'written' });
  // Open sinks answer at once, not from their next window on: what is asked only once would stay unknown.
  expect(new Set(await threads())).not.toContain(undefined);
  abort.abort();
  expect(await hanging).toEqual({ kind: 'written' });
  await expectApart(a, b, c);
  expect(namesOf('b').slice(0, 2)).toEqual(['aborted', 'hang']);
  // It is closed in the old thread while the new one works.
  await expect.poll(() => namesOf('b').slice(2).sort(), { timeout: LIMIT_MS }).toEqual(['after', 'closed']);
});

test('a single sink stays where it is, however large its windows are', async () => {
  const [a] = sinks as [ThreadedSink];
  await a.open(never);
  const before = await a.storage(never);
  const large = Array.from({ length: 6_000 }, (_, i) => `s${i}`);
  expect(await write(a, ...large)).toEqual({ kind: 'written' });
  expect(await a.storage(never)).toBe(before);
  expect(splits).toEqual([]);
});

test('a thread that is busy: each gets its own, and what is under way ends where it is', async () => {
  shared = new SharedThread((why) => splits.push(why), 100);
  sinks = ['a', 'b', 'c'].map((id) => sinkOf(id));
  const [a, b, c] = sinks as [ThreadedSink, ThreadedSink, ThreadedSink];
  await Promise.all(sinks.map((sink) => sink.open(never)));
  const spinning = write(a, 'spin');
  const others: Promise<unknown>[] = [];
  const isSplit = () => {
    others.push(write(b, 'x'), write(c, 'x'));
    return splits;
  };
  await expect.poll(isSplit, { timeout: LIMIT_MS }).toEqual(['the thread is busy']);
  writeFileSync(join(folder.path, 'a.end'), '');
  for (const outcome of await Promise.all([spinning, ...others]))
    expect(outcome).toEqual({ kind: 'written' });
  await expectApart(a, b, c);
});

test('a sink that keeps the thread for itself: the others go on in threads of their own', async () => {
  await openAll();
  const [a, b, c] = sinks as [ThreadedSink, ThreadedSink, ThreadedSink];
  const abort = new AbortController();
  const blocking = a.write(wholeBatch(windowOf(0, ['block'])), abort.signal);
  await expect
    .poll(() => existsSync(join(folder.path, 'a')) && namesOf('a'), { timeout: LIMIT_MS })
    .toEqual(['blocked']);
  const outcomes = Promise.allSettled([blocking, write(b, 'x'), write(c, 'x')]);
  abort.abort();
  const timeout = { status: 'rejected', reason: { reason: 'timeout' } };
  expect(await outcomes).toMatchObject([timeout, timeout, timeout]);
  await expectApart(a, b, c);
  expect(sinks.map(({ stalls }) => stalls)).toEqual([1, 0, 0]);
});

test('a call that ignores its abort: only its sink stood still', async () => {
  await openAll();
  const [a, b, c] = sinks as [ThreadedSink, ThreadedSink, ThreadedSink];
  const abort = new AbortController();
  const ignoring = a.write(wholeBatch(windowOf(0, ['ignore'])), abort.signal);
  const hanging = b.write(wholeBatch(windowOf(0, ['hang'])), abort.signal);
  await setImmediate();
  abort.abort();
  await expect(ignoring).rejects.toMatchObject({ reason: 'timeout' });
  expect(await hanging).toEqual({ kind: 'written' });
  await expectApart(a, b, c);
  expect(sinks.map(({ stalls }) => stalls)).toEqual([1, 0, 0]);
});

test.each(['die', 'crash'])(
  'a sink that ends the thread (%s) does so once: then each has its own',
  async (told) => {
    await openAll();
    const [a, b, c] = sinks as [ThreadedSink, ThreadedSink, ThreadedSink];
    const hanging = b.write(wholeBatch(windowOf(0, ['hang'])), never);
    const outcomes = await Promise.allSettled([write(a, told), hanging]);
    const reasons = outcomes.map((outcome) =>
      outcome.status === 'rejected' ? String(outcome.reason) : 'none',
    );
    for (const reason of reasons) expect(reason).toContain('thread');
    for (const reason of reasons) expect(reason).not.toContain('hunter2');
    await expectApart(a, b, c);
    await expect(write(a, told)).rejects.toThrow('thread');
    expect(await write(b, 'on')).toEqual({ kind: 'written' });
    expect(namesOf('b')).toEqual(['after', 'on']);
  },
);

test('what a sink began before it left shows none of its secrets when it ends the thread', async () => {
  await openAll();
  const [a, b] = sinks as [ThreadedSink, ThreadedSink];
  const outcomes = Promise.allSettled([write(a, 'crash'), write(b, 'hang')]);
  // The thread may end before it answers.
  await a.close().catch(() => {});
  const reasons = (await outcomes).map((outcome) => 'reason' in outcome && String(outcome.reason));
  expect(reasons[1]).toContain('a crash with ***');
});

test('a thread in which a single sink stood still, or could not be made, takes no other', async () => {
  await sinks.pop()!.close();
  const [a, b] = sinks as [ThreadedSink, ThreadedSink];
  const pipe = join(folder.path, 'pipe');
  execFileSync('mkfifo', [pipe]);
  const c = sinkOf('c', { pipe });
  sinks.push(c);
  await expect(c.open(AbortSignal.timeout(1))).rejects.toMatchObject({ reason: 'timeout' });
  await a.open(never);
  await a.close();
  const d = sinkOf('d', { faulty: true });
  sinks.push(d);
  await expect(d.open(never)).rejects.toThrow('it cannot be made');
  await b.open(never);
  expect(splits).toEqual([]);
  expect([a, b, c].map(({ stalls }) => stalls)).toEqual([0, 0, 1]);
  closeSync(openSync(pipe, 'r+'));
});

test('the thread that all have left is blocked: what is under way there fails soon', async () => {
  await openAll();
  const [a, b, c] = sinks as [ThreadedSink, ThreadedSink, ThreadedSink];
  const abort = new AbortController();
  const hanging = b.write(wholeBatch(windowOf(0, ['hang'])), never);
  const blocking = a.write(wholeBatch(windowOf(0, ['block'])), abort.signal);
  const outcomes = Promise.allSettled([blocking, hanging]);
  await expect
    .poll(() => existsSync(join(folder.path, 'a')) && namesOf('a'), { timeout: LIMIT_MS })
    .toEqual(['blocked']);
  const large = Array.from({ length: 6_000 }, (_, i) => `s${i}`);
  expect(await write(c, ...large)).toEqual({ kind: 'written' });
  abort.abort();
  const timeout = { status: 'rejected', reason: { reason: 'timeout' } };
  expect(await outcomes).toMatchObject([timeout, timeout]);
  await expectApart(a, b, c);
  expect(sinks.map(({ stalls }) => stalls)).toEqual([1, 0, 0]);
});
