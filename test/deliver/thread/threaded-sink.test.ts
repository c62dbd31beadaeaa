import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Point } from '../../../src/aggregate/point.ts';
import { makeSeries } from '../../../src/aggregate/series.ts';
import { SeriesRecords } from '../../../src/aggregate/series-records.ts';
import { ClosedWindow } from '../../../src/aggregate/window.ts';
import { WindowBatch } from '../../../src/deliver/lane/batch.ts';
import { ThreadedSink } from '../../../src/deliver/thread/threaded-sink.ts';
import { temporaryFolder } from '../../../src/servers/server-process.ts';

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

/** Counters with these names. */
function windowOf(start: number, names: readonly string[], records = new SeriesRecords()): ClosedWindow {
  const refs = Uint32Array.from(names, (name, i) =>
    records.add(
      makeSeries(name, 'counter', [
        ['10', `${i}`],
        ['9', 'ü"\n'],
      ]),
    ),
  );
  const rows = Uint32Array.from(names, (_, i) => 1 + 2 * i);
  const values = Float64Array.from([0, ...names.flatMap((_, i) => [i + 1, start + i / 3])]);
  return new ClosedWindow({ start, windowMs: 10, instance: 'i', records, refs, rows, values });
}

const all = (window: ClosedWindow) =>
  new WindowBatch(
    window,
    Uint32Array.from(window.refs, (_, i) => i),
  );
const lines = () => {
  const file = join(folder.path, 'told');
  const text = existsSync(file) ? readFileSync(file, 'utf8') : '';
  return text
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Point);
};
const plain = (points: readonly Point[]) => JSON.parse(JSON.stringify(points));

test('points arrive as they are, whatever the batches, and whatever series there were before', async () => {
  await sink.open(never);
  expect(logged).toEqual(['opened{"opened":1,"timeoutMs":5000,"signIn":[{"token":"***"}]}']);
  const records = new SeriesRecords();
  const [first, second] = [windowOf(0, ['a', 'b', 'c'], records), windowOf(10, ['b', 'x'], records)];
  const batches = [
    new WindowBatch(first, Uint32Array.of(2, 0)),
    all(second),
    new WindowBatch(first, Uint32Array.of(1)),
    all(windowOf(20, ['a', 'b', 'c', 'd'])),
  ];
  for (const batch of batches) expect(await sink.write(batch, never)).toEqual({ kind: 'written' });
  expect(lines()).toEqual(plain(batches.flatMap(({ points }) => points)));
});

test('many windows at once, more than the thread keeps: each write gets its own', async () => {
  await sink.open(never);
  const records = new SeriesRecords();
  const windows = Array.from({ length: 40 }, (_, i) =>
    windowOf(10 * i, [`s${i % 7}`, `t${i}`], i % 3 === 0 ? records : new SeriesRecords()),
  );
  const written = [...windows, ...windows].map((window) => sink.write(all(window), never));
  await Promise.all(written);
  const sorted = (points: Point[]) => points.map((point) => JSON.stringify(point)).sort();
  const expected = [...windows, ...windows].flatMap((window) => all(window).points);
  expect(sorted(lines())).toEqual(sorted(plain(expected)));
});

test('what the sink answers and throws comes back as it was', async () => {
  await sink.open(never);
  expect(await sink.write(all(windowOf(0, ['partial', 'b'])), never)).toEqual({
    kind: 'partial',
    retry: [1],
    rejected: [{ index: 0, reason: 'refused', message: 'no' }],
  });
  const refused = sink.write(all(windowOf(0, ['refuse'])), never);
  await expect(refused).rejects.toMatchObject({
    name: 'SinkError',
    reason: 'unauthorized',
    advice: 'Sign in.',
  });
  await expect(sink.write(all(windowOf(0, ['throw'])), never)).rejects.toThrow('a fault');
});

test('an abort gets there', async () => {
  await sink.open(never);
  const abort = new AbortController();
  const hanging = sink.write(all(windowOf(0, ['hang'])), abort.signal);
  setTimeout(() => abort.abort(), 50);
  await hanging;
  expect(lines()[0]).toBe('aborted');
});

test('a thread that dies is an error of what it was doing; the next one opens the sink and knows every series', async () => {
  await sink.open(never);
  await sink.write(all(windowOf(0, ['a'])), never);
  await expect(sink.write(all(windowOf(10, ['die'])), never)).rejects.toThrow('thread');
  const window = windowOf(20, ['a', 'b']);
  expect(await sink.write(all(window), never)).toEqual({ kind: 'written' });
  expect(lines().slice(1)).toEqual(plain(all(window).points));
});

test('what a sink does not catch ends its thread, and tells no secret', async () => {
  await sink.open(never);
  await expect(sink.write(all(windowOf(0, ['crash'])), never)).rejects.toThrow('failed: a crash with ***');
  expect(await sink.write(all(windowOf(10, ['a'])), never)).toEqual({ kind: 'written' });
});

test('a module that is not there is an error, not the end', async () => {
  const nowhere = new ThreadedSink({ id: 'x', kind: './nowhere.ts', values: {} }, { info() {}, warn() {} });
  await expect(nowhere.open(never)).rejects.toThrow('nowhere');
  await nowhere.close();
});

test('what the sink does with the processor holds up nobody else', async () => {
  await sink.open(never);
  const names = Array.from({ length: 50_000 }, (_, i) => `s${i}`);
  const window = windowOf(0, ['spin', ...names]);
  let isWritten = false;
  const writing = sink.write(new WindowBatch(window, Uint32Array.of(0)), never).then((outcome) => {
    isWritten = true;
    return outcome;
  });
  // It spins until it is told to end, which only somebody can who is not held up.
  for (let turns = 0; turns < 1000; turns++) await setImmediate();
  expect(isWritten).toBe(false);
  writeFileSync(join(folder.path, 'told.end'), '');
  expect(await writing).toEqual({ kind: 'written' });
});

test('closing ends the thread, after the sink was closed; it may be closed twice', async () => {
  await sink.open(never);
  await sink.close();
  await sink.close();
  expect(lines()).toEqual(['closed']);
});

test('a thread that stands still for ever ends when it is closed, and all that was asked of it fails', async () => {
  await sink.open(never);
  const written = sink.write(all(windowOf(0, ['block'])), never);
  await setImmediate();
  const outcomes = Promise.allSettled([written, sink.storage(never)]);
  await sink.close();
  expect((await outcomes).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
});
