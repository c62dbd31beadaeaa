import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import redshift from '../../sinks/redshift/sink.ts';
import type { Point } from '../../src/aggregate/point.ts';
import { type Postgres, startPostgres } from '../../src/servers/postgres.ts';
import { temporaryFolder } from '../../src/servers/server-process.ts';
import type { Sink } from '../../src/sink/contract.ts';
import { pgEndpoint } from '../../src/sink/pg/address.ts';
import { settlesPromptly } from '../conformance/lifecycle.ts';
import {
  differences,
  EVERYTHING,
  makePoint,
  manyPoints,
  readAll,
  START,
  writeAll,
} from '../conformance/points.ts';
import { sinkError } from '../conformance/subject.ts';
import { describeConformance } from '../conformance.ts';
import { FaultProxy } from '../faults/proxy.ts';
import { makeCertificate, startTlsFront, type TlsFront } from '../faults/tls.ts';
import { expectLateWriteLost } from '../poolers/given-up.ts';
import { tablesOf, WRONG_PASSWORD } from '../redshift/harness.ts';
import { DEFAULTS } from '../redshift/settings.ts';
import { judged } from '../verify/judged.ts';

let server: Postgres;
const secrets = [WRONG_PASSWORD];

describeConformance('redshift', {
  async start() {
    server = await startPostgres();
    secrets.push(server.password);
    return server.port;
  },
  stop: () => server.stop(),
  variables: (namespace, port) => ({
    URL: `postgres://postgres:${server.password}@127.0.0.1:${port}/postgres`,
    TABLE: namespace,
  }),
  secrets,
  ...tablesOf(() => server),
});

describe('redshift on PostgreSQL', () => {
  const signal = new AbortController().signal;
  const open: Sink[] = [];
  let proxy: FaultProxy;

  beforeAll(async () => {
    server = await startPostgres();
    proxy = await FaultProxy.start(server.port);
  });
  afterEach(async () => {
    for (const sink of open.splice(0)) await sink.close();
  });
  afterAll(async () => {
    await proxy.stop();
    await server.stop();
  });

  function made(config: { url: string; table?: string; caFile?: string }): Sink {
    const full = { ...DEFAULTS, ...config };
    expect(redshift.validate?.(full)).toEqual([]);
    const sink = redshift.create(full, { id: 't', log: { info: () => {}, warn: () => {} } });
    open.push(sink);
    return sink;
  }

  /** A sink in a database of its own, in which `sql` ran first. */
  async function opened(database: string, sql = ''): Promise<Sink> {
    const url = await server.createDatabase(database);
    if (sql !== '') await server.execute(sql, database);
    const sink = made({ url });
    await sink.open(signal);
    return sink;
  }

  /** Locks the table until the function that it returns is called. */
  async function holdLock(database: string): Promise<() => Promise<void>> {
    const marked = `datname = '${database}' AND wait_event = 'PgSleep'`;
    const holding = server.execute('BEGIN; LOCK points; SELECT pg_sleep(3600)', database).catch(() => {});
    const found = async () =>
      (await server.execute(`SELECT 1 FROM pg_stat_activity WHERE ${marked}`)).rows.length;
    await expect.poll(found).toBe(1);
    return async () => {
      await server.execute(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE ${marked}`);
      await holding;
    };
  }

  const urlOf = (database: string, port = server.port) =>
    `postgres://postgres:${server.password}@127.0.0.1:${port}/${database}`;

  it('has the documented table, without a primary key, and times in UTC whatever the session says', async () => {
    const sink = await opened('documented', `ALTER DATABASE documented SET timezone TO 'Asia/Kathmandu'`);
    await sink.write({ points: [makePoint({ type: 'gauge', windowStart: START + 500 })] }, signal);
    const { rows } = await server.execute('SELECT *, window_start::text AS text FROM points', 'documented');
    expect(rows).toMatchObject([
      {
        text: '2026-11-23 01:30:00.5',
        window_ms: 10_000,
        name: 'requests',
        dimensions: '{"app":"api"}',
        p99: null,
      },
    ]);
    const keys = await server.execute(
      `SELECT conname FROM pg_constraint WHERE contype = 'p' AND conrelid = 'points'::regclass`,
      'documented',
    );
    expect(keys.rows).toEqual([]);
    const stored = await readAll(sink, { from: START + 500, to: START + 501 }, signal);
    expect(stored.map(({ windowStart }) => windowStart)).toEqual([START + 500]);
  });

  it('that has a row twice is different', async () => {
    const sink = await opened('twice');
    const points = manyPoints(5);
    expect(await sink.write({ points }, signal)).toEqual({ kind: 'written' });
    const read = async () => judged(await readAll(sink, EVERYTHING, signal), points);
    expect(await read()).toMatchObject({ equal: 5, extra: 0, sameDigest: true });
    await server.execute('INSERT INTO points SELECT * FROM points LIMIT 1', 'twice');
    expect(await read()).toMatchObject({ equal: 5, extra: 1, sameDigest: false });
  });

  // As on Redshift: the snapshot of a transaction is taken at its first statement that is not LOCK.
  it.each(['repeatable read', 'serializable'])(
    'two writers of the same keys never conflict under %s',
    async (level) => {
      const database = level.replace(' ', '_');
      const writers = [
        await opened(database, `ALTER DATABASE ${database} SET default_transaction_isolation TO '${level}'`),
        made({ url: urlOf(database) }),
      ];
      await writers[1]!.open(signal);
      for (let round = 0; round < 20; round += 1) {
        const writing = writers.map((sink, n) =>
          sink.write({ points: manyPoints(50, 100 * round + n) }, signal),
        );
        expect(await Promise.all(writing)).toEqual([{ kind: 'written' }, { kind: 'written' }]);
      }
      expect(await readAll(writers[0]!, EVERYTHING, signal)).toHaveLength(50);
    },
  );

  it.each([
    [undefined, '1min'],
    [10_000, '1min'],
    [300_000, '5min'],
  ])('with a timeout of %s ms gives the server %s for a statement', async (timeoutMs, allowed) => {
    const database = `timeout_${timeoutMs}`;
    await opened(
      database,
      `CREATE TABLE seen (value text);
       CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN INSERT INTO public.seen VALUES (current_setting('statement_timeout')); RETURN NULL; END $$`,
    );
    await server.execute('CREATE TRIGGER see AFTER INSERT ON points EXECUTE FUNCTION see()', database);
    const config = { ...DEFAULTS, url: urlOf(database) };
    const sink = redshift.create(config, { id: 't', log: { info() {}, warn() {} }, timeoutMs });
    open.push(sink);
    await sink.open(signal);
    expect(await sink.write({ points: [makePoint()] }, signal)).toEqual({ kind: 'written' });
    expect((await server.execute('SELECT * FROM seen', database)).rows).toEqual([{ value: allowed }]);
  });

  it('has the server end a transaction that it leaves, and nothing else', async () => {
    const sink = await opened('left');
    await server.execute(
      `CREATE TABLE seen (value text);
       CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN INSERT INTO public.seen VALUES (current_setting('idle_in_transaction_session_timeout')); RETURN NULL; END $$;
       CREATE TRIGGER see AFTER INSERT ON points EXECUTE FUNCTION see()`,
      'left',
    );
    expect(await sink.write({ points: [makePoint()] }, signal)).toEqual({ kind: 'written' });
    expect((await server.execute('SELECT * FROM seen', 'left')).rows).toEqual([{ value: '30s' }]);
  });

  it('holds no lock while a reader takes its time, or while the network is gone in the middle of a batch', async () => {
    const sink = await opened('unlocked');
    await sink.write({ points: manyPoints(5_000) }, signal);
    const reading = sink.read(EVERYTHING, signal)[Symbol.asyncIterator]();
    await reading.next();
    const far = made({ url: urlOf('unlocked', proxy.port) });
    await far.open(signal);
    const before = proxy.passed.request;
    const left = new AbortController();
    // So that the batch is on its way for long enough.
    proxy.delay(50);
    const writing = far.write({ points: manyPoints(10_000, 1) }, left.signal).catch(() => {});
    await expect.poll(() => proxy.passed.request - before).toBeGreaterThan(100_000);
    proxy.hang();
    proxy.delay(0);
    const staging = `SELECT 1 FROM pg_stat_activity WHERE datname = 'unlocked' AND xact_start IS NOT NULL AND wait_event = 'ClientRead'`;
    await expect.poll(async () => (await server.execute(staging)).rows.length).toBe(1);
    await server.execute(`SET lock_timeout TO '5s'; LOCK points`, 'unlocked');
    expect(await sink.write({ points: manyPoints(100, 2) }, signal)).toEqual({ kind: 'written' });
    left.abort();
    await writing;
    await proxy.pass();
    await reading.return?.(undefined);
  });

  it.each(['s', 'k', 'merged', 'user'])('takes a table named %s', async (table) => {
    const sink = made({ url: await server.createDatabase(`named_${table}`), table });
    await sink.open(signal);
    const points = manyPoints(3);
    for (const _ of [1, 2]) expect(await sink.write({ points }, signal)).toEqual({ kind: 'written' });
    expect(differences(await readAll(sink, EVERYTHING, signal), points)).toEqual([]);
    await sink.remove({ points }, signal);
    expect(await readAll(sink, EVERYTHING, signal)).toEqual([]);
  });

  it('does not keep readers waiting while it merges', async () => {
    const sink = await opened('read_meanwhile');
    await server.execute(
      `CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN PERFORM pg_sleep(3600); RETURN NULL; END $$;
       CREATE TRIGGER wait AFTER INSERT ON points EXECUTE FUNCTION wait()`,
      'read_meanwhile',
    );
    const left = new AbortController();
    const writing = sink.write({ points: [makePoint()] }, left.signal).catch(() => {});
    const merging = `SELECT 1 FROM pg_stat_activity WHERE datname = 'read_meanwhile' AND wait_event = 'PgSleep'`;
    await expect.poll(async () => (await server.execute(merging)).rows.length).toBe(1);
    expect(await readAll(sink, EVERYTHING, signal)).toEqual([]);
    left.abort();
    await writing;
    await server.execute(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'`,
    );
  });

  it('commits nothing, and tries again, if not every row of the batch gets into the table', async () => {
    const sink = await opened('dropping');
    await sink.write({ points: manyPoints(10) }, signal);
    await server.execute(
      `CREATE FUNCTION leave_out() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN RETURN CASE WHEN NEW.count = 107 THEN NULL ELSE NEW END; END $$;
       CREATE TRIGGER leave_out BEFORE INSERT ON points FOR EACH ROW EXECUTE FUNCTION leave_out()`,
      'dropping',
    );
    expect(await sink.write({ points: manyPoints(10, 100) }, signal)).toMatchObject({
      kind: 'retry',
      reason: 'server_error',
      message: expect.stringMatching(/rows of the batch: 9 of 10/),
    });
    expect(differences(await readAll(sink, EVERYTHING, signal), manyPoints(10))).toEqual([]);
  });

  it('reads every duplicate that somebody else left, wherever a page ends', async () => {
    const sink = await opened('paged');
    const points = manyPoints(1_500).map((point) => ({ ...point, series: manyPoints(1)[0]!.series }));
    const spread = points.map((point, n) => ({ ...point, instance: `${n % 499}`, windowStart: START + n }));
    await sink.write({ points: spread }, signal);
    // Three of each key: no page ends between two keys by chance.
    await server.execute('INSERT INTO points SELECT p.* FROM points p, generate_series(1, 2)', 'paged');
    expect(await readAll(sink, EVERYTHING, signal)).toHaveLength(4_500);
  });

  it('clears the duplicates that somebody else left', async () => {
    const sink = await opened('duplicates');
    const points = manyPoints(10);
    await sink.write({ points }, signal);
    await server.execute('INSERT INTO points SELECT * FROM points', 'duplicates');
    expect(await readAll(sink, EVERYTHING, signal)).toHaveLength(20);
    await sink.write({ points: points.slice(0, 6) }, signal);
    expect(await readAll(sink, EVERYTHING, signal)).toHaveLength(14);
  });

  it('reads one part at a time', async () => {
    await opened('streamed');
    const sink = made({ url: urlOf('streamed', proxy.port) });
    await sink.open(signal);
    await sink.write({ points: manyPoints(10_000) }, signal);
    const before = proxy.passed.response;
    const reading = sink.read(EVERYTHING, signal)[Symbol.asyncIterator]();
    await reading.next();
    await sleep(100);
    const first = proxy.passed.response - before;
    while (!(await reading.next()).done);
    expect(proxy.passed.response - before).toBeGreaterThan(8 * first);
  });

  it("rejects what a user's constraint refuses, and nothing else", async () => {
    const sink = await opened('constrained');
    await server.execute('ALTER TABLE points ADD CHECK (count % 400 <> 7)', 'constrained');
    const points = manyPoints(1000);
    const rejected = await writeAll(sink, points, signal);
    expect(rejected.sort()).toEqual([6, 406, 806].map((index) => [index, 'refused']).sort());
    // The series are known now: the others go at once.
    const again = await sink.write({ points }, signal);
    expect(again).toMatchObject({ kind: 'partial', retry: [], rejected: { length: 3 } });
    expect(await readAll(sink, EVERYTHING, signal)).toHaveLength(997);
  });

  it.each([
    [
      'a column without a default',
      'ALTER TABLE points ADD region text NOT NULL',
      'schema_mismatch',
      /"region".*default/,
    ],
    [
      'partitions',
      `CREATE TABLE divided (LIKE points) PARTITION BY RANGE (window_start); DROP TABLE points;
       ALTER TABLE divided RENAME TO points`,
      'not_found',
      /no partition.*Make the partition/,
    ],
  ])('rejects no row for %s that somebody added, and says what to do', async (what, sql, reason, message) => {
    const database = `added_${what.replaceAll(' ', '_')}`;
    const sink = await opened(database);
    await server.execute(sql, database);
    const outcome = await sink.write({ points: manyPoints(20) }, signal);
    expect(outcome).toMatchObject({ kind: 'refused', reason, message: expect.stringMatching(message) });
  });

  it('returns for a retry what it did not get to, if nearly everything is refused', async () => {
    const sink = await opened('mostly_refused');
    await server.execute('ALTER TABLE points ALTER name TYPE varchar(4)', 'mostly_refused');
    let left: readonly Point[] = manyPoints(200);
    let rejected = 0;
    for (let writes = 0; left.length > 0; writes += 1) {
      const outcome = await sink.write({ points: left }, signal);
      expect(outcome.kind).toBe('partial');
      if (outcome.kind !== 'partial') return;
      expect(outcome.rejected.length).toBeGreaterThan(0);
      // Every write has 20 requests, and finds some of the 200.
      expect(writes).toBeLessThan(40);
      expect(outcome.rejected.every(({ reason }) => reason === 'too_large')).toBe(true);
      rejected += outcome.rejected.length;
      left = outcome.retry.map((index) => left[index]!);
    }
    expect(rejected).toBe(200);
  });

  it('gives up a write that waits for a lock as soon as it is aborted', async () => {
    const sink = await opened('locked');
    const release = await holdLock('locked');
    const left = new AbortController();
    const writing = sink.write({ points: manyPoints(3) }, left.signal);
    const waiting = `SELECT 1 FROM pg_stat_activity WHERE datname = 'locked' AND wait_event_type = 'Lock'`;
    await expect.poll(async () => (await server.execute(waiting)).rows.length).toBe(1);
    left.abort(new Error('left'));
    await settlesPromptly(writing);
    await expect(writing).rejects.toThrow('left');
    await release();
    expect(await sink.write({ points: manyPoints(3) }, signal)).toEqual({ kind: 'written' });
  });

  it('a write that was given up and reaches the server later does nothing', async () => {
    await expectLateWriteLost(server, await server.createDatabase('late'), (url) => made({ url }));
  });

  it('keeps as many connections as there were calls at once, and none after close', async () => {
    const sink = await opened('counted');
    const count = async () => {
      const sql = `SELECT 1 FROM pg_stat_activity WHERE datname = 'counted' AND application_name = 'metrics-fanout'`;
      return (await server.execute(sql)).rows.length;
    };
    for (let round = 0; round < 3; round += 1) {
      await readAll(sink, EVERYTHING, signal);
      await Promise.all([0, 1].map((n) => sink.write({ points: manyPoints(100, n) }, signal)));
    }
    await expect.poll(count).toBe(2);
    await sink.close();
    await expect.poll(count).toBe(0);
  });

  it('says that the server ended its session, and recovers', async () => {
    const sink = await opened('ended');
    const release = await holdLock('ended');
    const writing = sink.write({ points: manyPoints(3) }, signal);
    const end = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE datname = 'ended' AND wait_event_type = 'Lock'`;
    await expect.poll(async () => (await server.execute(end)).rows.length).toBe(1);
    expect(await writing).toMatchObject({ kind: 'retry', reason: 'connection' });
    await release();
    expect(await sink.write({ points: manyPoints(3) }, signal)).toEqual({ kind: 'written' });
  });

  it.each([
    ['CONNECTION LIMIT 0', 'throttled'],
    ['CONNECTION LIMIT 5', 'unauthorized'],
  ])('reports a role with %s as %s', async (limit, reason) => {
    const role = `role_${reason}`;
    await server.execute(`CREATE ROLE ${role} LOGIN PASSWORD 'letmein' ${limit}`);
    const url = await server.createDatabase(role);
    const sink = made({ url: url.replace(/\/\/.*@/, `//${role}:letmein@`) });
    expect(await sinkError(sink.open(signal))).toMatchObject({ reason });
  });

  it('writes to a table in a schema', async () => {
    const url = await server.createDatabase('schemas');
    const missing = made({ url, table: 'metrics.points' });
    expect(await sinkError(missing.open(signal))).toMatchObject({ reason: 'not_found' });
    await server.execute('CREATE SCHEMA metrics', 'schemas');
    await missing.open(signal);
    await missing.write({ points: manyPoints(3) }, signal);
    await missing.write({ points: manyPoints(3) }, signal);
    await missing.remove({ points: manyPoints(1) }, signal);
    expect((await server.execute('SELECT * FROM metrics.points', 'schemas')).rows).toHaveLength(2);
  });

  describe('TLS', () => {
    let good: TlsFront;
    let foreign: TlsFront;
    let caFile: string;
    let folder: ReturnType<typeof temporaryFolder>;

    beforeAll(async () => {
      folder = temporaryFolder('redshift');
      const [own, other] = [
        makeCertificate(folder.path, 'localhost'),
        makeCertificate(folder.path, 'elsewhere'),
      ];
      caFile = join(folder.path, 'both.pem');
      writeFileSync(caFile, readFileSync(own.certFile, 'utf8') + readFileSync(other.certFile, 'utf8'));
      good = await startTlsFront(server.port, own, 'postgres');
      foreign = await startTlsFront(server.port, other, 'postgres');
    });
    afterAll(() => {
      good.stop();
      foreign.stop();
      folder.remove();
    });
    const url = (port: number, mode: string) =>
      `${urlOf('postgres', port).replace('127.0.0.1', 'localhost')}${mode}`;

    it.each(['', '?sslmode=require', '?sslmode=verify-ca', '?sslmode=verify-full'])(
      'verifies the certificate and the name with a CA file and "%s"',
      async (mode) => {
        await made({ url: url(good.port, mode), caFile }).open(signal);
        const wrongName = made({ url: url(foreign.port, mode), caFile });
        expect(await sinkError(wrongName.open(signal))).toMatchObject({ reason: 'untrusted' });
      },
    );

    it('trusts no certificate of an unknown authority', async () => {
      const sink = made({ url: url(good.port, '?sslmode=require') });
      expect(await sinkError(sink.open(signal))).toMatchObject({ reason: 'untrusted' });
    });

    it('is not verified if no-verify asks for that', async () => {
      await made({ url: url(foreign.port, '?sslmode=no-verify') }).open(signal);
    });

    it.each([
      ['postgres://u:p@c.x.eu-west-1.redshift.amazonaws.com:5439/d', 'verify'],
      ['postgres://u:p@c.x.eu-west-1.redshift.amazonaws.com:5439/d?sslmode=disable', 'off'],
      ['postgres://u:p@amazonaws.com.example.org:5439/d', 'off'],
    ])('by default, %s: %s', (address, tls) => {
      expect(pgEndpoint({ ...DEFAULTS, url: address })).toMatchObject({ tls });
    });

    it('never falls back to plain text', async () => {
      const sink = made({ url: url(server.port, '?sslmode=prefer') });
      expect(await sinkError(sink.open(signal))).toMatchObject({ reason: 'bad_request' });
    });

    it('needs a CA file that can be read', async () => {
      const sink = made({ url: url(good.port, ''), caFile: '/absent.pem' });
      expect(await sinkError(sink.open(signal))).toMatchObject({ reason: 'not_found' });
    });
  });
});
