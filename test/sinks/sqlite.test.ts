import { randomUUID } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { classify } from '../../sinks/sqlite/classify.ts';
import sqlite from '../../sinks/sqlite/sink.ts';
import { temporaryFolder } from '../../src/servers/server-process.ts';
import { type Sink, SinkError } from '../../src/sink/contract.ts';
import { EVERYTHING, makePoint, manyPoints, readAll, START } from '../conformance/points.ts';
import { sinkError } from '../conformance/subject.ts';
import { describeConformance } from '../conformance.ts';
import { hasOtherFileSystem, temporaryOnOtherFileSystem } from './other-file-system.ts';

let folder: ReturnType<typeof temporaryFolder>;
const pathOf = (namespace: string) => join(folder.path, 'made', `${namespace}.db`);

/** Runs `sql` on a connection of its own, next to the sink's. */
function run(path: string, sql: string): void {
  const database = new DatabaseSync(path);
  database.exec(sql);
  database.close();
}

/** Where a link points; undefined if it is gone by now. */
function target(link: string): string | undefined {
  try {
    return readlinkSync(link);
  } catch {
    return undefined;
  }
}

const OLD_TABLE = `CREATE TABLE points (window_start INTEGER NOT NULL, window_ms INTEGER NOT NULL,
  series_id TEXT NOT NULL, instance TEXT NOT NULL, name TEXT NOT NULL, type TEXT NOT NULL, dimensions TEXT NOT NULL,
  count INTEGER NOT NULL, sum REAL NOT NULL, PRIMARY KEY (window_start, series_id, instance)) WITHOUT ROWID`;

describeConformance('sqlite', {
  async start() {
    folder = temporaryFolder('sqlite');
    return 0;
  },
  stop: async () => folder.remove(),
  variables: (namespace) => ({ PATH: pathOf(namespace) }),
  missing: () => ({ PATH: '/dev/null/fanout.db' }),
  async older(namespace) {
    mkdirSync(join(folder.path, 'made'), { recursive: true });
    const point = makePoint({ values: { count: 4, sum: 2.5 } });
    run(
      pathOf(namespace),
      `${OLD_TABLE};
      INSERT INTO points VALUES (${START}, 10000, '${point.series.id}', '', 'requests', 'counter', '{"app":"api"}', 4, 2.5)`,
    );
    return [point];
  },
  async unusable(namespace) {
    mkdirSync(join(folder.path, 'made'), { recursive: true });
    run(pathOf(namespace), 'CREATE TABLE points (x, y)');
  },
  drop: async (namespace) => run(pathOf(namespace), 'DROP TABLE points'),
  differs: { embedded: true },
});

describe('sqlite', () => {
  let own: ReturnType<typeof temporaryFolder>;
  beforeAll(() => {
    own = temporaryFolder('sqlite-own');
  });
  afterAll(() => own.remove());
  const signal = new AbortController().signal;
  const log = { info: () => {}, warn: () => {} };

  async function opened(
    path = join(own.path, `${randomUUID()}.db`),
    keep?: number,
  ): Promise<{ sink: Sink; path: string }> {
    const sink = sqlite.create({ path, sketch: false, keep }, { id: 't', log });
    await sink.open(signal);
    return { sink, path };
  }

  it('rejects no row for a column without a default that somebody added, and says what to do', async () => {
    const path = join(own.path, `${randomUUID()}.db`);
    run(path, OLD_TABLE.replace('sum REAL NOT NULL', 'sum REAL NOT NULL, region TEXT NOT NULL'));
    const { sink } = await opened(path);
    expect(await sink.write({ points: [makePoint()] }, signal)).toMatchObject({
      kind: 'refused',
      reason: 'schema_mismatch',
      message: expect.stringMatching(/points\.region.*Give that column a default/),
    });
    await sink.close();
  });

  it('refuses a file that was restored beside the log of a newer one, and takes one that was only left with its own', async () => {
    const { sink, path } = await opened();
    const [backup, log] = [`${path}.backup`, `${path}.log`];
    const write = async (from: number, to: number) => {
      for (let i = from; i < to; i++) {
        const points = manyPoints(50).map((point) => ({ ...point, windowStart: START + i * 10_000 }));
        expect(await sink.write({ points }, signal)).toEqual({ kind: 'written' });
      }
    };
    await write(0, 100);
    run(path, `VACUUM INTO '${backup}'`);
    await write(100, 115);
    // SQLite does that by itself after 1,000 pages: the log then begins anew.
    run(path, 'PRAGMA wal_checkpoint(TRUNCATE)');
    await write(115, 120);
    // As a service that is killed leaves it.
    for (const [from, to] of [
      [path, `${path}.left`],
      [`${path}-wal`, log],
    ] as const)
      copyFileSync(from, to);
    await sink.close();
    copyFileSync(backup, path);
    copyFileSync(log, `${path}-wal`);
    const error = await sinkError(sink.open(signal));
    expect([error.reason, error.advice]).toEqual([
      'schema_mismatch',
      expect.stringMatching(/^Restore the file once more, without -wal/),
    ]);
    const files = { backup: 100, left: 120 };
    for (const [name, windows] of Object.entries(files)) {
      for (const suffix of ['-wal', '-shm']) rmSync(path + suffix, { force: true });
      copyFileSync(`${path}.${name}`, path);
      if (name === 'left') copyFileSync(log, `${path}-wal`);
      await sink.open(signal);
      expect(await readAll(sink, EVERYTHING, signal)).toHaveLength(50 * windows);
      await sink.close();
    }
  });

  it('takes a file with a log in which another table has what its constraints forbid', async () => {
    const { sink, path } = await opened();
    await sink.close();
    const other = new DatabaseSync(path);
    other.exec(
      `PRAGMA ignore_check_constraints = ON; CREATE TABLE other (x CHECK (x > 0)); INSERT INTO other VALUES (-1)`,
    );
    expect(statSync(`${path}-wal`).size).toBeGreaterThan(0);
    await sink.open(signal);
    expect(await sink.write({ points: [makePoint()] }, signal)).toEqual({ kind: 'written' });
    await sink.close();
    other.close();
  });

  it('deletes what is older than KEEP, a few rows with each write, as seen from its newest window', async () => {
    const hour = 3_600_000;
    const now = Math.floor(Date.now() / hour) * hour;
    const of = (windowStart: number, points: number) => ({
      points: Array.from({ length: points }, (_, i) =>
        makePoint({ windowStart, dimensions: [['i', String(i)]] }),
      ),
    });
    const { sink, path } = await opened(undefined, 2 * hour);
    const starts = () =>
      new DatabaseSync(path)
        .prepare('SELECT window_start AS start, count(*) AS n FROM points GROUP BY 1')
        .all();
    // The clock alone says nothing: a store that gets nothing new keeps what it has.
    await sink.write(of(now - 9 * hour, 5), signal);
    await sink.write(of(now - 8 * hour, 2), signal);
    expect(starts()).toEqual([
      { start: now - 9 * hour, n: 5 },
      { start: now - 8 * hour, n: 2 },
    ]);
    await sink.write(of(now - hour, 1), signal);
    expect(starts()[0]).toEqual({ start: now - 9 * hour, n: 3 });
    await sink.write(of(now, 3), signal);
    expect(starts()).toEqual([
      { start: now - hour, n: 1 },
      { start: now, n: 3 },
    ]);
    // A window of tomorrow deletes nothing of today.
    await sink.write(of(now + 24 * hour, 3), signal);
    expect(starts()).toHaveLength(3);
    expect(sqlite.keepsMs!({ path, sketch: false, keep: 2 * hour })).toBe(2 * hour);
    await sink.close();
  });

  it('has the documented table', async () => {
    const { sink, path } = await opened();
    await sink.write({ points: [makePoint({ type: 'gauge', values: { count: 3, sum: 7 } })] }, signal);
    const database = new DatabaseSync(path, { readOnly: true });
    expect(database.prepare('PRAGMA journal_mode').get()).toEqual({ journal_mode: 'wal' });
    const row = database.prepare('SELECT *, typeof(count) AS tc, typeof(sum) AS ts FROM points').get();
    expect({ ...row }).toMatchObject({
      window_start: START,
      window_ms: 10_000,
      instance: '',
      name: 'requests',
      type: 'gauge',
      dimensions: '{"app":"api"}',
      count: 3,
      sum: 7,
      p99: null,
      tc: 'integer',
      ts: 'real',
    });
    const { sql } = database.prepare("SELECT sql FROM sqlite_schema WHERE name = 'points'").get()!;
    expect(sql).toMatch(/PRIMARY KEY \(window_start, series_id, instance\)\) WITHOUT ROWID$/);
    database.close();
    await sink.close();
  });

  const modes = (path: string) =>
    ['', '-wal', '-shm'].map((suffix) => (statSync(path + suffix).mode & 0o777).toString(8));

  it('creates files that only its user can read, even through a link', async () => {
    const { sink, path } = await opened();
    await sink.write({ points: [makePoint()] }, signal);
    expect(modes(path)).toEqual(['600', '600', '600']);
    await sink.close();
    const target = join(own.path, 'target.db');
    symlinkSync(target, join(own.path, 'link.db'));
    const linked = await opened(join(own.path, 'link.db'));
    expect((statSync(target).mode & 0o777).toString(8)).toBe('600');
    await linked.sink.close();
  });

  it('keeps the mode of an existing file', async () => {
    const path = join(own.path, 'shared.db');
    writeFileSync(path, '');
    chmodSync(path, 0o664);
    const { sink } = await opened(path);
    await sink.write({ points: [makePoint()] }, signal);
    expect(modes(path)).toEqual(['664', '664', '664']);
    await sink.close();
  });

  it('says that another writer holds the file, and writes when that one is gone', async () => {
    const { sink, path } = await opened();
    const other = new DatabaseSync(path);
    other.exec('BEGIN IMMEDIATE');
    expect(await sink.write({ points: [makePoint()] }, signal)).toMatchObject({
      kind: 'retry',
      reason: 'conflict',
    });
    other.exec('ROLLBACK');
    other.close();
    expect(await sink.write({ points: [makePoint()] }, signal)).toEqual({ kind: 'written' });
    await sink.close();
  });

  it('never shows a reader half a batch', async () => {
    const { sink } = await opened();
    await sink.write({ points: manyPoints(3000) }, signal);
    const salts = new Set<number>();
    for await (const point of sink.read({ from: 0, to: START + 1 }, signal)) {
      if (salts.size === 0) await sink.write({ points: manyPoints(3000, 50_000) }, signal);
      salts.add(point.count > 50_000 ? 50_000 : 0);
    }
    expect([...salts]).toEqual([0]);
    await sink.close();
  });

  it('lets timers run during a long read', async () => {
    const { sink } = await opened();
    for (const windowStart of [0, 1, 2, 3, 4]) {
      const points = manyPoints(10_000).map((point) => ({ ...point, windowStart }));
      await sink.write({ points }, signal);
    }
    const timeout = AbortSignal.timeout(5);
    const reading = readAll(sink, { from: 0, to: 10 }, timeout);
    await expect(reading).rejects.toThrow(/timeout/);
    await sink.close();
  });

  it('refuses to write to a file that was deleted or replaced', async () => {
    const { sink, path } = await opened();
    rmSync(path);
    expect(await sink.write({ points: [makePoint()] }, signal)).toMatchObject({
      kind: 'refused',
      reason: 'not_found',
    });
    await sink.open(signal);
    expect(await sink.write({ points: [makePoint()] }, signal)).toEqual({ kind: 'written' });
    await sink.close();
  });

  it.skipIf(!hasOtherFileSystem())(
    'makes no new file underneath a file system that was unmounted',
    async () => {
      const disk = temporaryOnOtherFileSystem();
      const mount = join(own.path, 'mount');
      symlinkSync(disk, mount);
      const { sink } = await opened(join(mount, 'data', 'fanout.db'));
      expect(await sink.write({ points: [makePoint()] }, signal)).toEqual({ kind: 'written' });
      rmSync(mount);
      mkdirSync(mount);
      expect(await sink.write({ points: [makePoint()] }, signal)).toMatchObject({ reason: 'not_found' });
      expect(await sinkError(sink.open(signal))).toMatchObject({
        reason: 'not_found',
        advice: expect.stringMatching(/^Mount/),
      });
      expect(readdirSync(mount)).toEqual([]);
      rmSync(mount, { recursive: true });
      symlinkSync(disk, mount);
      await sink.open(signal);
      expect(await readAll(sink, EVERYTHING, signal)).toHaveLength(1);
      await sink.close();
      rmSync(disk, { recursive: true });
    },
  );

  it('writes again by itself once the table is back', async () => {
    const { sink, path } = await opened();
    run(path, 'ALTER TABLE points RENAME TO aside');
    expect(await sink.write({ points: [makePoint()] }, signal)).toMatchObject({ kind: 'refused' });
    run(path, 'ALTER TABLE aside RENAME TO points');
    expect(await sink.write({ points: [makePoint()] }, signal)).toEqual({ kind: 'written' });
    await sink.close();
  });

  it.skipIf(process.platform !== 'linux')(
    'does not pile up open files, and has none after close',
    async () => {
      const { sink, path } = await opened();
      const handles = () =>
        readdirSync('/proc/self/fd').filter((fd) => target(join('/proc/self/fd', fd)) === path).length;
      for (let time = 0; time < 5; time += 1) {
        await sink.open(signal);
        await sink.write({ points: manyPoints(10) }, signal);
        for await (const _ of sink.read(EVERYTHING, signal)) break;
        for await (const _ of sink.read(EVERYTHING, signal)) break;
      }
      // SQLite keeps the file of a reader that ended for the next one: closing it would drop the writer's locks.
      expect(handles()).toBeLessThanOrEqual(2);
      await sink.close();
      expect(handles()).toBe(0);
    },
  );

  it("rejects what a user's constraint refuses, and nothing else", async () => {
    const path = join(own.path, 'constrained.db');
    run(path, OLD_TABLE.replace('count INTEGER NOT NULL', 'count INTEGER NOT NULL CHECK (count < 100)'));
    const { sink } = await opened(path);
    const points = [1, 100, 2].map((count) => makePoint({ name: String(count), values: { count } }));
    expect(await sink.write({ points }, signal)).toMatchObject({
      kind: 'partial',
      retry: [],
      rejected: [{ index: 1, reason: 'refused' }],
    });
    expect(await readAll(sink, EVERYTHING, signal)).toHaveLength(2);
    await sink.close();
  });

  it('leaves alone a file that is not a database, and says what to do', async () => {
    const path = join(own.path, 'letter.txt');
    writeFileSync(path, 'Dear database, '.repeat(1000));
    const error = await opened(path).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(SinkError);
    expect(error).toMatchObject({
      reason: 'schema_mismatch',
      advice: expect.stringMatching(/^Set SINK_<ID>_PATH/),
    });
  });

  it.each([
    [5 | (2 << 8), 'conflict'],
    [8, 'unauthorized'],
    [10 | (3 << 8), 'server_error'],
    [13, 'server_error'],
    [14, 'not_found'],
    [1, 'unknown'],
  ])('classifies result code %i as %s', (errcode, reason) => {
    expect(classify(Object.assign(new Error('x'), { errcode })).reason).toBe(reason);
  });
});
