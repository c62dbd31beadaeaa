/** What only a folder of Parquet files can get wrong: processes that are killed, several writers, foreign files. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  globSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { open as openHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { DuckDBInstance } from '@duckdb/node-api';
import fc from 'fast-check';
import { parquetMetadata } from 'hyparquet';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { explainFile } from '../../sinks/parquet/classify.ts';
import { type ParquetConfig, settings, validate } from '../../sinks/parquet/config.ts';
import { fileOf, nameFolder, windowOf } from '../../sinks/parquet/layout.ts';
import parquet from '../../sinks/parquet/sink.ts';
import { temporaryFolder } from '../../src/servers/server-process.ts';
import type { Point, Sink, SinkContext } from '../../src/sink/index.ts';
import {
  differences,
  EVERYTHING,
  makePoint,
  manyPoints,
  readAll,
  START,
  WINDOW_MS,
} from '../conformance/points.ts';
import { sinkError } from '../conformance/subject.ts';
import { effort } from '../effort.ts';
import { hasOtherFileSystem, temporaryOnOtherFileSystem } from './other-file-system.ts';

const NEVER = new AbortController().signal;
const own = temporaryFolder('parquet-own');
afterAll(() => own.remove());
let roots = 0;

function newRoot(): string {
  roots += 1;
  return join(own.path, `root-${roots}`);
}

function made(path: string, partitionBy: ParquetConfig['partitionBy'] = 'date', create = true): Sink {
  const config = {
    url: { kind: 'folder', path },
    partitionBy,
    create,
    region: undefined,
    endpoint: undefined,
  } as const;
  return parquet.create(config, { id: 't', log: { info() {}, warn() {} } });
}

async function opened(path = newRoot(), partitionBy?: ParquetConfig['partitionBy']): Promise<Sink> {
  const sink = made(path, partitionBy);
  await sink.open(NEVER);
  return sink;
}

/** Opens the folder, and returns what was said to be made. */
async function openedAs(path: string, more: Partial<SinkContext>): Promise<{ sink: Sink; said: string[] }> {
  const said: string[] = [];
  const url = { kind: 'folder', path } as const;
  const config = { url, partitionBy: 'date', create: true, region: undefined, endpoint: undefined } as const;
  const log = { info: (_: object, message: string) => void said.push(message), warn() {} };
  const sink = parquet.create(config, { id: 't', log, ...more });
  await sink.open(NEVER);
  return { sink, said };
}

it('says which folder it made, once, and makes and removes nothing if it may only read', async () => {
  const path = newRoot();
  const missing = await sinkError(openedAs(path, { readOnly: true }));
  expect(missing).toMatchObject({ reason: 'not_found', message: `there is no folder ${path}` });
  expect(existsSync(path)).toBe(false);
  const maker = await openedAs(path, {});
  expect(maker.said).toEqual([`made the folder ${path}`]);
  expect((await openedAs(path, {})).said).toEqual([]);
  await maker.sink.write({ points: manyPoints(3) }, NEVER);
  const temporary = join(path, '_tmp', 'of-a-writer.tmp');
  writeFileSync(temporary, '');
  rmSync(join(path, '_metrics-fanout.lock'));
  const reader = await openedAs(path, { readOnly: true });
  expect(await readAll(reader.sink, EVERYTHING, NEVER)).toHaveLength(3);
  expect(await reader.sink.storage!(NEVER)).toBeGreaterThan(0);
  expect(reader.said).toEqual([]);
  expect(existsSync(temporary)).toBe(true);
  expect(readdirSync(path)).not.toContain('_metrics-fanout.lock');
});

const WRITTEN = { kind: 'written' };
const filesIn = (root: string) => globSync('**/*.parquet', { cwd: root }).sort();

describe('writing', () => {
  const SERIES = 10;
  const WINDOWS = 3;
  const operation = fc.record({
    series: fc.uniqueArray(fc.nat(SERIES - 1), { minLength: 1 }),
    window: fc.nat(WINDOWS - 1),
    instance: fc.constantFrom('', 'boot-1'),
    value: fc.nat(1000),
    removes: fc.boolean(),
    /** Which of two sinks on the same folder does it. */
    by: fc.nat(1),
    /** Whether the next operation begins before this one ends; only if that one is about other series. */
    joins: fc.boolean(),
  });
  type Operation = typeof operation extends fc.Arbitrary<infer T> ? T : never;

  const pointsOf = ({ series, window, instance, value }: Operation) =>
    series.map((number) =>
      makePoint({
        name: `name ${number % 4}`,
        dimensions: [['n', String(number)]],
        windowStart: START + window * WINDOW_MS,
        instance,
        values: { count: value + 1 },
      }),
    );
  const keyOf = ({ series, windowStart, instance }: Point) => `${series.id} ${windowStart} ${instance}`;

  it.each(['date', 'name,date'] as const)(
    'leaves what a map holds, whatever the batches, by two sinks at once, with partitions by %s',
    async (partitionBy) => {
      await fc.assert(
        fc.asyncProperty(fc.array(operation, { maxLength: 12 }), async (operations) => {
          const root = newRoot();
          const sinks = [await opened(root, partitionBy), await opened(root, partitionBy)];
          const map = new Map<string, Point>();
          let busy = new Set<string>();
          let pending: Promise<unknown>[] = [];
          for (const each of operations) {
            const points = pointsOf(each);
            if (points.some((point) => busy.has(keyOf(point)))) {
              await Promise.all(pending);
              busy = new Set();
              pending = [];
            }
            for (const point of points) {
              busy.add(keyOf(point));
              if (each.removes) map.delete(keyOf(point));
              else map.set(keyOf(point), point);
            }
            const sink = sinks[each.by]!;
            const doing = each.removes ? deliverRemoval(sink, points) : deliver(sink, points);
            pending.push(doing);
            if (!each.joins) await Promise.all(pending);
          }
          await Promise.all(pending);
          expect(differences(await readAll(sinks[0]!, EVERYTHING, NEVER), [...map.values()])).toEqual([]);
          expect(readdirSync(join(root, '_tmp'))).toEqual([]);
          for (const sink of sinks) await sink.close();
        }),
        { numRuns: effort(40) },
      );
    },
  );

  /** As the lane does: again, if another process was faster a few times. */
  async function deliver(sink: Sink, points: Point[]): Promise<void> {
    for (;;) {
      const outcome = await sink.write({ points }, NEVER);
      if (outcome.kind === 'written') return;
      expect(outcome).toMatchObject({ kind: 'retry', reason: 'conflict' });
    }
  }

  async function deliverRemoval(sink: Sink, points: Point[]): Promise<void> {
    for (;;) {
      const error = await sink.remove({ points }, NEVER).then(
        () => undefined,
        (reason: unknown) => reason,
      );
      if (error === undefined) return;
      expect(error).toMatchObject({ reason: 'conflict' });
    }
  }

  it('has one file for each window and instance, and none once its last row is removed', async () => {
    const root = newRoot();
    const sink = await opened(root);
    const points = manyPoints(20);
    const later = manyPoints(3).map((point) => ({
      ...point,
      windowStart: START + WINDOW_MS,
      instance: 'a b',
    }));
    for (const batch of [points.slice(0, 9), points.slice(9), later])
      await sink.write({ points: batch }, NEVER);
    expect(filesIn(root)).toEqual([
      'date=2026-11-23/20261123T013000000Z.parquet',
      'date=2026-11-23/20261123T013010000Z-a%20b.parquet',
    ]);
    const beside = manyPoints(7).map((point) => ({ ...point, instance: 'a b' }));
    const mixed = [...points, ...later, ...beside].sort((a, b) => (a.series.id < b.series.id ? -1 : 1));
    expect(await sink.write({ points: mixed }, NEVER)).toEqual(WRITTEN);
    expect(filesIn(root)).toEqual([
      'date=2026-11-23/20261123T013000000Z-a%20b.parquet',
      'date=2026-11-23/20261123T013000000Z.parquet',
      'date=2026-11-23/20261123T013010000Z-a%20b.parquet',
    ]);
    expect(filesIn(root).map((file) => rowsIn(join(root, file)))).toEqual([7, 20, 3]);
    await sink.remove({ points: [...later, ...beside] }, NEVER);
    expect(filesIn(root)).toHaveLength(1);
    expect(differences(await readAll(sink, EVERYTHING, NEVER), points)).toEqual([]);
    await sink.close();
  });

  it('syncs the file, its folder and, if that is new, the one above', async () => {
    const sink = await opened();
    const handle = await openHandle(own.path);
    const sync = vi.spyOn(Object.getPrototypeOf(handle), 'sync');
    await handle.close();
    try {
      await sink.write({ points: [makePoint()] }, NEVER);
      expect(sync).toHaveBeenCalledTimes(3);
      await sink.write({ points: [makePoint()] }, NEVER);
      expect(sync).toHaveBeenCalledTimes(5);
      await sink.remove({ points: [makePoint()] }, NEVER);
      expect(sync).toHaveBeenCalledTimes(6);
    } finally {
      sync.mockRestore();
    }
    await sink.close();
  });

  it('gives up at once when its signal aborts, and leaves the file to the next write', async () => {
    const sink = await opened();
    const abort = new AbortController();
    const writing = sink.write({ points: manyPoints(5_000) }, abort.signal);
    const next = sink.write({ points: manyPoints(10, 3) }, NEVER);
    abort.abort();
    expect(await writing).toMatchObject({ kind: 'retry', reason: 'timeout' });
    expect(await next).toEqual(WRITTEN);
    const stored = await readAll(sink, EVERYTHING, NEVER);
    expect(stored.filter(({ count }) => count > 3 && count <= 13).length).toBeGreaterThanOrEqual(10);
    await sink.close();
  });
});

/** Writes window after window, and says which were written. */
const WRITER = `
const [, root, from, salt] = process.argv;
const { default: parquet } = await import('./sinks/parquet/sink.ts');
const { manyPoints, START, WINDOW_MS } = await import('./test/conformance/points.ts');
const config = { url: { kind: 'folder', path: root }, partitionBy: 'date', create: true };
const sink = parquet.create(config, { id: 't', log: { info() {}, warn() {} } });
await sink.open(new AbortController().signal);
for (let number = Number(from); ; number += 1) {
  const points = manyPoints(300, Number(salt)).map((point) => ({
    ...point,
    windowStart: START + number * WINDOW_MS,
    series: { ...point.series, id: salt.padStart(2, '0') + point.series.id.slice(2) },
  }));
  for (let from = 0; from < 300; from += 100) {
    let outcome;
    do outcome = await sink.write({ points: points.slice(from, from + 100) }, new AbortController().signal);
    while (outcome.kind !== 'written');
  }
  console.log(number);
}`;

function startWriter(root: string, from: number, salt: number) {
  const args = ['--input-type=module', '-e', WRITER, root, String(from), String(salt)];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const written: number[] = [];
  createInterface({ input: child.stdout }).on('line', (line) => written.push(Number(line)));
  return {
    written,
    async kill() {
      child.kill('SIGKILL');
      await once(child, 'close');
    },
  };
}

function rowsIn(file: string): number {
  const bytes = readFileSync(file);
  return Number(parquetMetadata(new Uint8Array(bytes).buffer).num_rows);
}

async function rowsByWindow(root: string): Promise<Map<number, number>> {
  const database = await DuckDBInstance.create(':memory:');
  const connection = await database.connect();
  const sql = `SELECT epoch_ms(window_start) AS at, count(DISTINCT series_id) AS n, count(*) AS all
    FROM read_parquet('${root}/**/*.parquet') GROUP BY 1`;
  const rows = (await connection.runAndReadAll(sql)).getRowObjectsJson();
  connection.closeSync();
  database.closeSync();
  for (const { n, all } of rows) expect(n).toBe(all);
  return new Map(rows.map(({ at, n }) => [(Number(at) - START) / WINDOW_MS, Number(n)]));
}

describe('processes', () => {
  it('that are killed lose no window that they acknowledged, and leave nothing that a reader takes for a file', async () => {
    const root = newRoot();
    let from = 0;
    for (let round = 0; round < 4; round += 1) {
      const writer = startWriter(root, from, 1);
      await expect.poll(() => writer.written.length).toBeGreaterThan(round);
      await sleep(37 * round);
      await writer.kill();
      // Every file is whole, or not there.
      const rows = await rowsByWindow(root);
      for (const number of writer.written) expect(rows.get(number)).toBe(300);
      from = Math.max(...writer.written) + 1;
    }
    writeFileSync(join(root, '_tmp', 'left.tmp'), 'half a file');
    const sink = await opened(root);
    expect(readdirSync(join(root, '_tmp'))).toEqual([]);
    await sink.close();
  });

  it('that write to the same files at once undo nothing of each other', async () => {
    const root = newRoot();
    const writers = [startWriter(root, 0, 1), startWriter(root, 0, 2)];
    await expect.poll(() => Math.min(...writers.map(({ written }) => written.length))).toBeGreaterThan(5);
    await Promise.all(writers.map((writer) => writer.kill()));
    const rows = await rowsByWindow(root);
    for (let number = 0; number < 5; number += 1) expect(rows.get(number), `window ${number}`).toBe(600);
  });
});

describe('what is in the way', () => {
  it('is said of a file that is not one of this sink, and that file stays', async () => {
    const root = newRoot();
    const sink = await opened(root);
    const file = join(root, fileOf(makePoint(), 'date'));
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, 'PAR1 but not really PAR1');
    const outcome = await sink.write({ points: [makePoint()] }, NEVER);
    expect(outcome).toMatchObject({ kind: 'refused', reason: 'schema_mismatch' });
    expect(outcome).toHaveProperty('message', expect.stringContaining(fileOf(makePoint(), 'date')));
    const error = await sinkError(readAll(sink, EVERYTHING, NEVER));
    expect([error.reason, error.advice]).toEqual([
      'schema_mismatch',
      expect.stringMatching(/^Move that file/),
    ]);
    await sink.close();
  });

  it('is said of a file that is too large to be merged', async () => {
    const root = newRoot();
    const sink = await opened(root);
    await sink.write({ points: [makePoint()] }, NEVER);
    truncateSync(join(root, fileOf(makePoint(), 'date')), 2 ** 28 + 1);
    expect(await sink.write({ points: [makePoint()] }, NEVER)).toMatchObject({
      kind: 'refused',
      reason: 'bad_request',
      message: expect.stringContaining('268435456'),
    });
    await sink.close();
  });

  it('is said of a root with another layout', async () => {
    const root = newRoot();
    await (await opened(root)).close();
    expect((await sinkError(made(root, 'name,date').open(NEVER))).message).toContain(
      'laid out in another way',
    );
    await (await opened(root)).close();
  });

  it.skipIf(!hasOtherFileSystem()).each(['', 'metrics'])(
    'is said of a file system that was unmounted from the folder above /%s, and nothing is written underneath',
    async (below) => {
      const disk = temporaryOnOtherFileSystem();
      const mount = newRoot();
      symlinkSync(disk, mount);
      const sink = await opened(join(mount, below));
      expect(await sink.write({ points: manyPoints(3) }, NEVER)).toEqual(WRITTEN);
      rmSync(mount);
      mkdirSync(mount);
      for (let time = 0; time < 3; time += 1) {
        const refused = { kind: 'refused', reason: 'not_found' };
        expect(await sink.write({ points: manyPoints(3, 1) }, NEVER)).toMatchObject(refused);
        expect(await sinkError(readAll(sink, EVERYTHING, NEVER))).toMatchObject({ reason: 'not_found' });
        expect(await sinkError(sink.open(NEVER))).toMatchObject({
          reason: 'not_found',
          advice: expect.stringMatching(/^Mount/),
        });
      }
      expect(readdirSync(mount)).toEqual([]);
      // As after an accident with an older version, which wrote there.
      await (await opened(join(mount, below))).close();
      expect(await sinkError(sink.open(NEVER))).toMatchObject({ reason: 'not_found' });
      rmSync(mount, { recursive: true });
      symlinkSync(disk, mount);
      await sink.open(NEVER);
      expect(await sink.write({ points: manyPoints(2, 2) }, NEVER)).toEqual(WRITTEN);
      expect(await readAll(sink, EVERYTHING, NEVER)).toHaveLength(3);
      await sink.close();
      rmSync(disk, { recursive: true });
    },
  );

  it('is said of a folder that was emptied while it was in use', async () => {
    const root = newRoot();
    const sink = await opened(root);
    for (const name of readdirSync(root)) rmSync(join(root, name), { recursive: true });
    expect(await sink.write({ points: [makePoint()] }, NEVER)).toMatchObject({ kind: 'refused' });
    expect((await sinkError(sink.open(NEVER))).message).toContain('_metrics-fanout.json is missing');
    expect(readdirSync(root)).toEqual([]);
    await sink.close();
  });

  it('is said of a folder that was not used before, if it must have been', async () => {
    const root = newRoot();
    const sink = made(root, 'date', false);
    expect(await sinkError(sink.open(NEVER))).toMatchObject({
      reason: 'not_found',
      advice: expect.stringMatching(/SINK_<ID>_CREATE=true/),
    });
    expect(existsSync(root)).toBe(false);
    await (await opened(root)).close();
    await sink.open(NEVER);
    expect(await sink.write({ points: [makePoint()] }, NEVER)).toEqual(WRITTEN);
    await sink.close();
  });

  it('does not include a folder that an older version made', async () => {
    const root = newRoot();
    mkdirSync(root);
    const marker = '{"writer":"metrics-fanout","partition_by":"date"}\n';
    writeFileSync(join(root, '_metrics-fanout.json'), marker);
    const sink = await opened(root);
    await sink.open(NEVER);
    expect(await sink.write({ points: [makePoint()] }, NEVER)).toEqual(WRITTEN);
    expect(readFileSync(join(root, '_metrics-fanout.json'), 'utf8')).toBe(marker);
    await sink.close();
  });

  it.each([
    ['ENOSPC', 'server_error', 'Free some space'],
    ['EACCES', 'unauthorized', 'Make the folder writable'],
    ['EROFS', 'unauthorized', 'Make the folder writable'],
    ['ENOENT', 'not_found', 'Make the folder writable'],
    ['EIO', 'server_error', ''],
    ['EMFILE', 'server_error', 'Raise the limit'],
    ['ESOMETHING', 'unknown', ''],
  ])('%s means %s', (code, reason, advice) => {
    const error = explainFile(Object.assign(new Error('x'), { code }), NEVER);
    expect(error.reason).toBe(reason);
    expect(error.advice.startsWith(advice)).toBe(true);
  });

  it('goes on after somebody removed the folders of old dates, and what is temporary', async () => {
    const root = newRoot();
    const sink = await opened(root);
    await sink.write({ points: [makePoint()] }, NEVER);
    rmSync(join(root, 'date=2026-11-23'), { recursive: true });
    rmSync(join(root, '_tmp'), { recursive: true });
    expect(await deliverTwice(sink)).toEqual(WRITTEN);
    expect(existsSync(join(root, fileOf(makePoint(), 'date')))).toBe(true);
    await sink.close();
  });

  async function deliverTwice(sink: Sink) {
    const outcome = await sink.write({ points: [makePoint()] }, NEVER);
    return outcome.kind === 'written' ? outcome : await sink.write({ points: [makePoint()] }, NEVER);
  }
});

describe('names of files', () => {
  it('give back the window, and hold no syntax of paths, globs or URLs', () => {
    const text = fc.string({ unit: 'grapheme', maxLength: 300 });
    const at = fc.integer({ min: 0, max: Date.UTC(9999, 11, 31) });
    fc.assert(
      fc.property(text, text, at, (name, instance, windowStart) => {
        const parts = fileOf(makePoint({ name, instance, windowStart }), 'name,date').split('/');
        expect(parts).toHaveLength(3);
        expect(windowOf(parts[2]!)).toBe(windowStart);
        for (const part of parts) {
          expect(part).toMatch(/^[A-Za-z0-9=._%~-]+$/);
          expect(part.length).toBeLessThanOrEqual(255);
          expect(part).not.toMatch(/^\.+$/);
        }
      }),
      { numRuns: effort(500) },
    );
  });

  it('differ if long texts do', () => {
    const long = 'x'.repeat(500);
    expect(nameFolder(`${long}a`)).not.toBe(nameFolder(`${long}b`));
    expect(nameFolder('http.requests')).toBe('metric=http.requests');
    expect(nameFolder('a/b=c%d')).toBe('metric=a%2Fb%3Dc%25d');
  });

  it('are read from an address of a folder or a bucket', () => {
    const read = (url: string) => settings.url.parse(url);
    expect(read('file:///var/lib/metrics')).toEqual({ kind: 'folder', path: '/var/lib/metrics' });
    expect(read('file:///with%20space')).toEqual({ kind: 'folder', path: '/with space' });
    expect(read('s3://acme-lake')).toEqual({ kind: 'bucket', bucket: 'acme-lake', prefix: '' });
    expect(read('s3://acme-lake/a/b/')).toEqual({ kind: 'bucket', bucket: 'acme-lake', prefix: 'a/b/' });
    for (const bad of [
      '/var/lib',
      'file://host/x',
      'file:///%00',
      'file:///%',
      's3://A',
      's3://b/ü',
      'gs://b',
    ])
      expect(read(bad), bad).toBeUndefined();
    const folder = {
      url: read('file:///x')!,
      partitionBy: 'date',
      create: true,
      region: 'eu',
      endpoint: undefined,
    } as const;
    expect(validate(folder).map(({ key }) => key)).toEqual(['region']);
    expect(validate({ ...folder, url: read('s3://acme')! })).toEqual([]);
    expect(pathToFileURL('/var/lib/metrics').href).toBe('file:///var/lib/metrics');
  });
});
