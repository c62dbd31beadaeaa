import { execFileSync } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Point } from '../../../src/aggregate/point.ts';
import { SeriesRecords } from '../../../src/aggregate/series-records.ts';
import { WindowBatch } from '../../../src/deliver/lane/batch.ts';
import { ThreadedSink } from '../../../src/deliver/thread/threaded-sink.ts';
import { temporaryFolder } from '../../../src/servers/server-process.ts';
import type { StoredPoint } from '../../../src/sink/contract.ts';
import { wholeBatch, windowOf } from './windows.ts';

const KIND = fileURLToPath(new URL('./told.ts', import.meta.url));
const never = new AbortController().signal;

let folder: ReturnType<typeof temporaryFolder>;
let sink: ThreadedSink;
let logged: string[];

beforeEach(() => {
  folder = temporaryFolder('threads');
  logged = [];
  const log = {
    info: (fields: object, message: string) => logged.push(message + JSON.stringify(fields)),
    warn() {},
  };
  const values = { file: join(folder.path, 'told'), token: 'hunter2-hunter2' };
  sink = new ThreadedSink({ id: 'told', kind: KIND, values, timeoutMs: 5000 }, log);
});
afterEach(async () => {
  await sink.close();
  folder.remove();
});

const lines = () => {
  const file = join(folder.path, 'told');
  const text = existsSync(file) ? readFileSync(file, 'utf8') : '';
  return text
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Point);
};
const plain = (points: readonly StoredPoint[]) => JSON.parse(JSON.stringify(points));

test('points arrive unchanged, whatever the batches, and whatever series came before', async () => {
  await sink.open(never);
  expect(logged).toEqual(['opened{"opened":1,"timeoutMs":5000,"signIn":[{"token":"***"}]}']);
  const records = new SeriesRecords();
  const [first, second] = [windowOf(0, ['a', 'b', 'c'], records), windowOf(10, ['b', 'x'], records)];
  const batches = [
    new WindowBatch(first, Uint32Array.of(2, 0)),
    wholeBatch(second),
    new WindowBatch(first, Uint32Array.of(1)),
    wholeBatch(windowOf(20, ['a', 'b', 'c', 'd'])),
  ];
  for (const batch of batches) expect(await sink.write(batch, never)).toEqual({ kind: 'written' });
  expect(lines()).toEqual(plain(batches.flatMap(({ points }) => points)));
});

test('with more windows at once than the thread keeps, each write gets its own', async () => {
  await sink.open(never);
  const records = new SeriesRecords();
  const windows = Array.from({ length: 40 }, (_, i) =>
    windowOf(10 * i, [`s${i % 7}`, `t${i}`], i % 3 === 0 ? records : new SeriesRecords()),
  );
  const written = [...windows, ...windows].map((window) => sink.write(wholeBatch(window), never));
  await Promise.all(written);
  const sorted = (points: Point[]) => points.map((point) => JSON.stringify(point)).sort();
  const expected = [...windows, ...windows].flatMap((window) => wholeBatch(window).points);
  expect(sorted(lines())).toEqual(sorted(plain(expected)));
});

test('answers and errors of the sink come back unchanged', async () => {
  await sink.open(never);
  expect(await sink.write(wholeBatch(windowOf(0, ['partial', 'b'])), never)).toEqual({
    kind: 'partial',
    retry: [1],
    rejected: [{ index: 0, reason: 'refused', message: 'no' }],
  });
  const refused = sink.write(wholeBatch(windowOf(0, ['refuse'])), never);
  await expect(refused).rejects.toMatchObject({
    name: 'SinkError',
    reason: 'unauthorized',
    advice: 'Sign in.',
  });
  await expect(sink.write(wholeBatch(windowOf(0, ['throw'])), never)).rejects.toThrow('a fault');
});

test('an abort reaches the sink', async () => {
  await sink.open(never);
  const abort = new AbortController();
  const hanging = sink.write(wholeBatch(windowOf(0, ['hang'])), abort.signal);
  setTimeout(() => abort.abort(), 50);
  await hanging;
  expect(lines()[0]).toBe('aborted');
});

test('if a thread dies, its calls fail; the next one opens the sink and knows every series', async () => {
  await sink.open(never);
  await sink.write(wholeBatch(windowOf(0, ['a'])), never);
  await expect(sink.write(wholeBatch(windowOf(10, ['die'])), never)).rejects.toThrow('thread');
  const window = windowOf(20, ['a', 'b']);
  expect(await sink.write(wholeBatch(window), never)).toEqual({ kind: 'written' });
  expect(lines().slice(1)).toEqual(plain(wholeBatch(window).points));
});

test('an error that a sink does not catch ends its thread, and reveals no secret', async () => {
  await sink.open(never);
  await expect(sink.write(wholeBatch(windowOf(0, ['crash'])), never)).rejects.toThrow(
    'failed: a crash with ***',
  );
  expect(await sink.write(wholeBatch(windowOf(10, ['a'])), never)).toEqual({ kind: 'written' });
});

test('a missing module is an error, not a crash', async () => {
  const nowhere = new ThreadedSink({ id: 'x', kind: './nowhere.ts', values: {} }, { info() {}, warn() {} });
  await expect(nowhere.open(never)).rejects.toThrow('nowhere');
  await nowhere.close();
});

test('a sink that is busy does not block the main thread', async () => {
  await sink.open(never);
  const names = Array.from({ length: 50_000 }, (_, i) => `s${i}`);
  const window = windowOf(0, ['spin', ...names]);
  let isWritten = false;
  const writing = sink.write(new WindowBatch(window, Uint32Array.of(0)), never).then((outcome) => {
    isWritten = true;
    return outcome;
  });
  // The sink spins until it is told to end. That is only possible if the main thread is not blocked.
  for (let turns = 0; turns < 1000; turns++) await setImmediate();
  expect(isWritten).toBe(false);
  writeFileSync(join(folder.path, 'told.end'), '');
  expect(await writing).toEqual({ kind: 'written' });
});

test.each(['block', 'ignore'])(
  'a call that does not settle after its abort (%s) ends the thread; the next thread accepts everything again',
  async (told) => {
    const warned: string[] = [];
    const log = {
      info() {},
      warn: (fields: object, message: string) => warned.push(message + JSON.stringify(fields)),
    };
    const values = { file: join(folder.path, 'told') };
    const still = new ThreadedSink({ id: 'still', kind: KIND, values }, log, { graceMs: 300 });
    await still.open(never);
    await still.write(wholeBatch(windowOf(0, ['a'])), never);
    const abort = new AbortController();
    const settled = Promise.allSettled([
      still.write(wholeBatch(windowOf(10, [told])), abort.signal),
      still.write(wholeBatch(windowOf(20, ['hang'])), never),
    ]);
    await setImmediate();
    abort.abort();
    const reasons = (await settled).map((each) => each.status === 'rejected' && each.reason.reason);
    expect(reasons).toEqual(['timeout', 'timeout']);
    expect(still.stalls).toBe(1);
    expect(warned.filter((line) => line.includes('stood still'))).toEqual([
      expect.stringContaining('{"sink":"still","call":"write","graceMs":300}'),
    ]);
    const window = windowOf(20, ['b']);
    expect(await still.write(wholeBatch(window), never)).toEqual({ kind: 'written' });
    expect(lines().at(-1)).toEqual(plain(wholeBatch(window).points).at(-1));
    await still.close();
  },
);

test('threads that nothing can end do not pile up', async () => {
  const pipe = join(folder.path, 'pipe');
  execFileSync('mkfifo', [pipe]);
  const values = { file: join(folder.path, 'told'), pipe };
  const still = new ThreadedSink(
    { id: 'still', kind: KIND, values },
    { info() {}, warn() {} },
    { graceMs: 2000 },
  );
  const messages: string[] = [];
  const FULL = '3 of its threads wait in calls that nothing interrupts';
  // A thread that has not reached its call yet, as on a busy machine, can be ended: it does not count.
  for (let attempt = 0; attempt < 50 && !messages.at(-1)?.includes(FULL); attempt++) {
    await still.open(AbortSignal.timeout(1)).catch((error: Error) => messages.push(error.message));
  }
  expect(messages.at(-1)).toContain(FULL);
  const { stalls } = still;
  expect(stalls).toBeGreaterThanOrEqual(3);
  await expect(still.open(AbortSignal.timeout(1))).rejects.toThrow(FULL);
  expect(still.stalls).toBe(stalls);
  // When the call of such a thread finally returns, there is room for another thread. On a busy machine, it may reach
  // that call only now.
  const wake = () => closeSync(openSync(pipe, 'r+'));
  await expect
    .poll(() => {
      wake();
      return still.open(AbortSignal.timeout(1)).then(
        () => '',
        (error: Error) => error.message,
      );
    })
    .toContain('stood still');
  wake();
  await still.close();
});

test('points one by one: written, read in several parts, looked up, removed', async () => {
  await sink.open(never);
  const points = wholeBatch(
    windowOf(
      0,
      Array.from({ length: 1200 }, (_, i) => `s${i}`),
    ),
  ).points;
  expect(await sink.writePoints(points as Point[], never)).toEqual({ kind: 'written' });
  expect(lines()).toEqual(plain(points));
  const rows = async (found: AsyncIterable<StoredPoint>) => plain(await Array.fromAsync(found));
  expect(await rows(sink.read({ from: 0, to: 1 }, never))).toEqual(plain(points));
  expect(await rows(sink.read({ from: 1, to: 2 }, never))).toEqual([]);
  expect(await rows(sink.lookUp(points.slice(3, 5) as Point[], never))).toEqual(plain(points.slice(3, 5)));
  for await (const _ of sink.read({ from: 0, to: 1 }, never)) break;
  await sink.remove(points.slice(1) as Point[], never);
  expect(await rows(sink.read({ from: 0, to: 1 }, never))).toEqual(plain(points.slice(0, 1)));
  const over = AbortSignal.abort();
  await expect(rows(sink.read({ from: 0, to: 1 }, over))).rejects.toThrow('abort');
});

test('closing closes the sink, then ends the thread; it can be called twice', async () => {
  await sink.open(never);
  await sink.close();
  await sink.close();
  expect(lines()).toEqual(['closed']);
});

test('a thread that is blocked forever ends on close, and all its calls fail', async () => {
  await sink.open(never);
  const written = sink.write(wholeBatch(windowOf(0, ['block'])), never);
  await setImmediate();
  const outcomes = Promise.allSettled([written, sink.storage(never)]);
  await sink.close();
  expect((await outcomes).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
});
