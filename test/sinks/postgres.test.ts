import { randomBytes } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { PostgresConfig } from '../../sinks/postgres/config.ts';
import { partitionOf, type Unit } from '../../sinks/postgres/partitions.ts';
import postgres from '../../sinks/postgres/sink.ts';
import redshift from '../../sinks/redshift/sink.ts';
import type { Point } from '../../src/aggregate/point.ts';
import { type PgBouncer, startPgBouncer } from '../../src/servers/pgbouncer.ts';
import { type Postgres, startPostgres } from '../../src/servers/postgres.ts';
import type { Sink } from '../../src/sink/contract.ts';
import {
  differences,
  EVERYTHING,
  makePoint,
  manyPoints,
  readAll,
  START,
  writeAll,
} from '../conformance/points.ts';
import { sinkError, TEST_MS } from '../conformance/subject.ts';
import { describeConformance, type Harness } from '../conformance.ts';
import { expectLateWriteLost, expectOrder } from '../poolers/given-up.ts';
import { expectExactRows } from '../poolers/writers.ts';
import { RedshiftDouble } from '../redshift/double.ts';
import { WRONG_PASSWORD } from '../redshift/harness.ts';
import { DEFAULTS as REDSHIFT_DEFAULTS } from '../redshift/settings.ts';

const NEVER = new AbortController().signal;
const DAY_MS = 86_400_000;
const DEFAULTS: Omit<PostgresConfig, 'url'> = {
  table: 'points',
  caFile: undefined,
  sketch: false,
  partition: 'off',
  keep: undefined,
};

const OLD_COLUMNS = `window_start timestamp, window_ms int NOT NULL, series_id text, instance text, name text NOT NULL,
  type text NOT NULL, dimensions text NOT NULL, count bigint NOT NULL, sum double precision NOT NULL`;

const WHOLE_TABLE = `CREATE TABLE points (${OLD_COLUMNS}, PRIMARY KEY (window_start, series_id, instance))`;

function harnessOf(mode?: 'transaction', settings: Readonly<Record<string, string>> = {}): Harness {
  let server: Postgres;
  let bouncer: PgBouncer | undefined;
  const secrets = [WRONG_PASSWORD];
  return {
    async start() {
      server = await startPostgres();
      secrets.push(server.password);
      const { port, password } = server;
      if (mode !== undefined) bouncer = await startPgBouncer({ port, password, mode, poolSize: 3 });
      return bouncer?.port ?? port;
    },
    async stop() {
      await bouncer?.stop();
      await server.stop();
    },
    variables: (namespace, port) => ({
      URL: `postgres://postgres:${server.password}@127.0.0.1:${port}/postgres`,
      TABLE: namespace,
      ...settings,
    }),
    secrets,
    wrongCredentials: (variables) => ({
      ...variables,
      URL: variables.URL!.replace(server.password, WRONG_PASSWORD),
    }),
    missing: (variables) => ({ ...variables, URL: variables.URL!.replace(/postgres$/, 'absent') }),
    async older(namespace) {
      const point = makePoint({ values: { count: 4, sum: 2.5 } });
      const divided = settings.PARTITION === undefined ? '' : 'PARTITION BY RANGE (window_start)';
      const part =
        divided === '' ? '' : `CREATE TABLE ${namespace}_default PARTITION OF ${namespace} DEFAULT;`;
      await server.execute(`CREATE TABLE ${namespace} (${OLD_COLUMNS},
          PRIMARY KEY (window_start, series_id, instance)) ${divided}; ${part}
        INSERT INTO ${namespace} VALUES ('${new Date(START).toISOString()}', 10000, '${point.series.id}', '', 'requests',
          'counter', '{"app":"api"}', 4, 2.5)`);
      return [point];
    },
    async unusable(namespace) {
      await server.execute(`CREATE TABLE ${namespace} (${OLD_COLUMNS})`);
    },
    async drop(namespace) {
      await server.execute(`DROP TABLE ${namespace}`);
    },
  };
}

describe('direct', () => describeConformance('postgres', harnessOf()));
describe('behind PgBouncer with pool_mode transaction', () =>
  describeConformance('postgres', harnessOf('transaction')));
describe('with partitions', () =>
  describeConformance('postgres', harnessOf(undefined, { PARTITION: 'day' })));

describe('postgres', { timeout: TEST_MS }, () => {
  let server: Postgres;
  const open: Sink[] = [];
  const stops: (() => Promise<void>)[] = [];
  const said: unknown[] = [];

  beforeAll(async () => {
    server = await startPostgres();
  });
  afterEach(async () => {
    for (const sink of open.splice(0)) await sink.close();
    for (const stop of stops.splice(0)) await stop();
    said.length = 0;
  });
  afterAll(() => server.stop());

  function made(url: string, changed: Partial<PostgresConfig> = {}): Sink {
    const config = { ...DEFAULTS, url, ...changed };
    expect(postgres.validate?.(config)).toEqual([]);
    const say = (fields: object, message: string) => void said.push([message, fields]);
    const sink = postgres.create(config, { id: 't', log: { info: say, warn: say } });
    open.push(sink);
    return sink;
  }

  async function opened(
    database: string,
    sql = '',
    changed: Partial<PostgresConfig> = {},
  ): Promise<{ sink: Sink; url: string }> {
    const url = await server.createDatabase(database);
    if (sql !== '') await server.execute(sql, database);
    const sink = made(url, changed);
    await sink.open(NEVER);
    return { sink, url };
  }

  const tables = async (database: string, schema = 'public') => {
    const select = `SELECT tablename FROM pg_tables WHERE schemaname = '${schema}' ORDER BY 1`;
    return (await server.execute(select, database)).rows.map(({ tablename }) => tablename);
  };

  it('has the documented table, with its primary key, and times in UTC whatever the session says', async () => {
    const { sink } = await opened('documented', `ALTER DATABASE documented SET timezone TO 'Asia/Kathmandu'`);
    await sink.write({ points: [makePoint({ type: 'gauge', windowStart: START + 500 })] }, NEVER);
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
    const key = await server.execute(
      `SELECT pg_get_constraintdef(oid) AS key FROM pg_constraint WHERE contype = 'p' AND conrelid = 'points'::regclass`,
      'documented',
    );
    expect(key.rows).toEqual([{ key: 'PRIMARY KEY (window_start, series_id, instance)' }]);
  });

  it('mixes up no rows of several writers behind a pooler with transaction pooling', async () => {
    const url = await server.createDatabase('writers');
    const { port, password } = server;
    const bouncer = await startPgBouncer({ port, password, mode: 'transaction', poolSize: 3 });
    stops.push(bouncer.stop);
    const pooled = bouncer.url.replace(/postgres$/, new URL(url).pathname.slice(1));
    const [one, other, same] = [made(pooled), made(pooled, { table: 'other' }), made(pooled)];
    for (const sink of [one, other, same]) await sink.open(NEVER);
    await expectExactRows(one, other, same);
  });

  it.each([
    ['directly', 'by the same sink'],
    ['directly', 'by another one, as after a restart'],
    ['behind PgBouncer', 'by the same sink'],
    ['behind PgBouncer', 'by another one, as after a restart'],
  ])('a write that was given up while it ran, %s, does not overwrite a newer one %s', async (way, by) => {
    const database = `given_up_${way}_${by}`.replace(/\W/g, '_').slice(0, 50);
    const { sink, url } = await opened(database);
    await sink.write({ points: manyPoints(2) }, NEVER);
    const { port, password } = server;
    let near = url;
    if (way !== 'directly') {
      const bouncer = await startPgBouncer({ port, password, mode: 'transaction', poolSize: 5 });
      stops.push(bouncer.stop);
      near = bouncer.url.replace(/postgres$/, database);
    }
    const one = made(near);
    await one.open(NEVER);
    const other = by === 'by the same sink' ? one : made(near);
    await other.open(NEVER);
    await expectOrder(server, url, one, other);
  });

  it('a write of new rows that was given up while it ran does not overwrite a newer one', async () => {
    const { sink, url } = await opened('given_up_new');
    await sink.write({ points: manyPoints(2) }, NEVER);
    await expectOrder(server, url, sink, sink, true);
  });

  /** Notes down how each statement that inserts begins. */
  const NOTED = `CREATE TABLE noted (word text); CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
      $$ BEGIN INSERT INTO noted VALUES (split_part(current_query(), ' ', 1)); RETURN NULL; END $$;
    CREATE TRIGGER note BEFORE INSERT ON points EXECUTE FUNCTION note()`;
  const noted = async (database: string) =>
    (await server.execute('SELECT word FROM noted', database)).rows.map(({ word }) => word);

  it('writes new rows by COPY, and overwrites others without an error in the log of the server', async () => {
    const { sink } = await opened(
      'copied',
      'ALTER DATABASE copied SET standard_conforming_strings TO off; ALTER DATABASE copied SET backslash_quote TO off',
    );
    await server.execute(NOTED, 'copied');
    /** How many transactions have failed: known once their session is over. */
    const failed = async () => {
      await sink.close();
      const ours = `SELECT 1 FROM pg_stat_activity WHERE datname = 'copied'`;
      await expect.poll(async () => (await server.execute(ours)).rows).toEqual([]);
      const counted = `SELECT xact_rollback AS count FROM pg_stat_database WHERE datname = 'copied'`;
      return (await server.execute(counted)).rows[0].count;
    };
    const before = await failed();
    await sink.open(NEVER);
    const pointsOf = (salt: number) => [
      ...manyPoints(20, salt),
      ...['', `it's`, '\\', `\\'`, '\\\\x'].map((instance) =>
        makePoint({ instance, values: { count: 1 + salt } }),
      ),
    ];
    for (const salt of [0, 1])
      expect(await sink.write({ points: pointsOf(salt) }, NEVER)).toEqual({ kind: 'written' });
    // Each alone is one that is looked up.
    for (const point of pointsOf(2))
      expect(await sink.write({ points: [point] }, NEVER)).toEqual({ kind: 'written' });
    expect(differences(await readAll(sink, EVERYTHING, NEVER), pointsOf(2))).toEqual([]);
    expect(await noted('copied')).toEqual(['COPY', ...Array.from({ length: 26 }, () => 'INSERT')]);
    expect(await failed()).toBe(before);
  });

  it('writes a batch of which the table has any row, whether it is one that is looked up or not', async () => {
    const { sink, url } = await opened('in_part');
    for (const held of [0, 1, 5, 10, 18, 19]) {
      const points = manyPoints(20, held).map((point) => ({ ...point, windowStart: START + held * 10_000 }));
      await sink.write({ points: [{ ...points[held]!, count: 1_000 }] }, NEVER);
      const other = made(url);
      await other.open(NEVER);
      expect(await other.write({ points }, NEVER)).toEqual({ kind: 'written' });
      const range = { from: points[0]!.windowStart, to: points[0]!.windowStart + 1 };
      expect(differences(await readAll(sink, range, NEVER), points)).toEqual([]);
    }
  });

  it('writes otherwise where COPY is refused, as with security by row', async () => {
    const { sink, url } = await opened('secured');
    await server.execute(
      `${NOTED}; CREATE ROLE secured LOGIN PASSWORD 'secured'; GRANT ALL ON points, noted TO secured;
       ALTER TABLE points ENABLE ROW LEVEL SECURITY; CREATE POLICY all_rows ON points USING (true) WITH CHECK (true)`,
      'secured',
    );
    await sink.close();
    const own = new URL(url);
    [own.username, own.password] = ['secured', 'secured'];
    const limited = made(own.href);
    await limited.open(NEVER);
    for (const salt of [0, 1]) {
      const points = manyPoints(20).map((point) => ({ ...point, windowStart: START + salt * 10_000 }));
      expect(await limited.write({ points }, NEVER)).toEqual({ kind: 'written' });
    }
    expect(await readAll(limited, EVERYTHING, NEVER)).toHaveLength(40);
    expect(await noted('secured')).toEqual(['INSERT', 'INSERT']);
  });

  it('writes new rows into columns of the other types that it takes', async () => {
    const table = WHOLE_TABLE.replace('window_ms int', 'window_ms bigint')
      .replace('series_id text', 'series_id char(32)')
      .replaceAll(' text', ' varchar(200)');
    const { sink } = await opened('other_types', table);
    await server.execute(NOTED, 'other_types');
    const points = manyPoints(20);
    expect(await sink.write({ points }, NEVER)).toEqual({ kind: 'written' });
    expect(differences(await readAll(sink, EVERYTHING, NEVER), points)).toEqual([]);
    const { rows } = await server.execute('SELECT DISTINCT window_ms FROM points', 'other_types');
    expect(rows).toEqual([{ window_ms: '10000' }]);
    expect(await noted('other_types')).toEqual(['COPY']);
  });

  it('a write that was given up and reaches the server later does nothing', async () => {
    await expectLateWriteLost(server, await server.createDatabase('late'), made);
  });

  it('keeps nothing in the session', async () => {
    const { sink } = await opened('one_trip');
    await sink.write({ points: manyPoints(10) }, NEVER);
    const { port, password } = server;
    const bouncer = await startPgBouncer({ port, password, mode: 'transaction', poolSize: 1 });
    stops.push(bouncer.stop);
    const far = made(bouncer.url.replace(/postgres$/, 'one_trip'));
    await far.open(NEVER);
    await far.write({ points: manyPoints(10, 1) }, NEVER);
    await readAll(far, EVERYTHING, NEVER);
    const held = `SELECT current_setting('statement_timeout') AS timeout, current_setting('datestyle') AS style,
      (SELECT count(*) FROM pg_prepared_statements WHERE statement NOT LIKE '%pg_prepared%') AS prepared,
      (SELECT count(*) FROM pg_class WHERE relpersistence = 't') AS tables`;
    const fresh = await server.execute(held, 'one_trip');
    const { default: pg } = await import('pg');
    const client = new pg.Client(bouncer.url.replace(/postgres$/, 'one_trip'));
    await client.connect();
    expect((await client.query(held)).rows).toEqual(fresh.rows);
    await client.end();
  });

  it.each(['repeatable read', 'serializable'])(
    'two writers of the same keys, in any order, never conflict under %s',
    async (level) => {
      const database = level.replace(' ', '_');
      const set = `ALTER DATABASE ${database} SET default_transaction_isolation TO '${level}'`;
      const { sink, url } = await opened(database, set);
      const second = made(url);
      await second.open(NEVER);
      for (let round = 0; round < 20; round += 1) {
        const points = manyPoints(200, round);
        const writing = [sink.write({ points }, NEVER), second.write({ points: points.toReversed() }, NEVER)];
        expect(await Promise.all(writing)).toEqual([{ kind: 'written' }, { kind: 'written' }]);
      }
      expect(await readAll(sink, EVERYTHING, NEVER)).toHaveLength(200);
    },
  );

  it('rejects text that is not well-formed, which would fold keys into one', async () => {
    const { sink } = await opened('folded');
    const points = [makePoint({ instance: 'a\ud800' }), makePoint({ instance: 'a\udfff' }), makePoint()];
    expect(await sink.write({ points }, NEVER)).toMatchObject({
      kind: 'partial',
      retry: [],
      rejected: [0, 1].map((index) => ({ index, reason: 'invalid_value' })),
    });
    expect(await readAll(sink, EVERYTHING, NEVER)).toHaveLength(1);
  });

  it("rejects what a user's constraint refuses, and nothing else", async () => {
    const { sink } = await opened('constrained');
    await server.execute('ALTER TABLE points ADD CHECK (count % 400 <> 7)', 'constrained');
    const points = manyPoints(1000);
    const rejected = await writeAll(sink, points, NEVER);
    expect(rejected.sort()).toEqual([6, 406, 806].map((index) => [index, 'refused']).sort());
    // The series are known now: the others go at once.
    const again = await sink.write({ points }, NEVER);
    expect(again).toMatchObject({ kind: 'partial', retry: [], rejected: { length: 3 } });
    expect(await readAll(sink, EVERYTHING, NEVER)).toHaveLength(997);
  });

  it('rejects no row for a column without a default that somebody added, and says what to do', async () => {
    const { sink } = await opened('with_region');
    await server.execute(`ALTER TABLE points ADD region text NOT NULL`, 'with_region');
    const points = manyPoints(20);
    expect(await sink.write({ points }, NEVER)).toMatchObject({
      kind: 'refused',
      reason: 'schema_mismatch',
      message: expect.stringMatching(/"region".*Give that column a default/),
    });
    await server.execute(`ALTER TABLE points ALTER region SET DEFAULT 'eu'`, 'with_region');
    expect(await sink.write({ points }, NEVER)).toEqual({ kind: 'written' });
  });

  it('rejects what a trigger refuses as a constraint would, and nothing else', async () => {
    const { sink } = await opened('refusing', '', { partition: 'day' });
    await server.execute(
      `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
         IF NEW.count = 7 THEN RAISE 'no sevens' USING ERRCODE = 'check_violation'; END IF; RETURN NEW; END $$;
       CREATE TRIGGER refuse BEFORE INSERT ON points FOR EACH ROW EXECUTE FUNCTION refuse()`,
      'refusing',
    );
    const outcome = await sink.write({ points: manyPoints(10) }, NEVER);
    const rejected = [{ index: 6, reason: 'refused', message: 'no sevens' }];
    expect(outcome).toEqual({ kind: 'partial', retry: [], rejected });
    expect(await readAll(sink, EVERYTHING, NEVER)).toHaveLength(9);
  });

  it('rejects a row that is too long for an index that somebody added, and writes the others', async () => {
    const { sink } = await opened('indexed');
    await server.execute('CREATE INDEX ON points (dimensions)', 'indexed');
    const dimensions = Array.from({ length: 4 }, (_, key): [string, string] => [
      `k${key}`,
      randomBytes(3_000).toString('base64'),
    ]);
    const outcome = await sink.write({ points: [makePoint({ dimensions }), ...manyPoints(3)] }, NEVER);
    expect(outcome).toMatchObject({ kind: 'partial', rejected: [{ index: 0, reason: 'too_large' }] });
    expect(await readAll(sink, EVERYTHING, NEVER)).toHaveLength(3);
  });

  it.each(['k', 'rows', 'excluded', 'user', 'points_d20261123'])('takes a table named %s', async (table) => {
    const { sink } = await opened(`named_${table}`, '', { table });
    const points = manyPoints(3);
    for (const _ of [1, 2]) expect(await sink.write({ points }, NEVER)).toEqual({ kind: 'written' });
    expect(differences(await readAll(sink, EVERYTHING, NEVER), points)).toEqual([]);
    await sink.remove({ points }, NEVER);
    expect(await readAll(sink, EVERYTHING, NEVER)).toEqual([]);
  });

  it('does not say that a batch is written if a trigger left out a row', async () => {
    const { sink } = await opened('dropping');
    await server.execute(
      `CREATE FUNCTION leave_out() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN RETURN CASE WHEN NEW.count = 7 THEN NULL ELSE NEW END; END $$;
       CREATE TRIGGER leave_out BEFORE INSERT ON points FOR EACH ROW EXECUTE FUNCTION leave_out()`,
      'dropping',
    );
    const outcome = await sink.write({ points: manyPoints(10) }, NEVER);
    expect(outcome).toMatchObject({ kind: 'retry', message: expect.stringMatching(/9 of 10/) });
  });

  it('finds its table where the search path says, and nowhere else', async () => {
    const sql = `CREATE SCHEMA hidden; CREATE SCHEMA shown; CREATE TABLE hidden.points (a int);
      ALTER DATABASE paths SET search_path TO shown, public`;
    const { sink, url } = await opened('paths', sql);
    await sink.write({ points: manyPoints(3) }, NEVER);
    expect(await tables('paths', 'shown')).toEqual(['points']);
    const named = made(url, { table: 'metrics.points' });
    expect(await sinkError(named.open(NEVER))).toMatchObject({ reason: 'not_found' });
    await server.execute('CREATE SCHEMA metrics', 'paths');
    await named.open(NEVER);
    expect(await named.write({ points: manyPoints(4) }, NEVER)).toEqual({ kind: 'written' });
    await named.remove({ points: manyPoints(1) }, NEVER);
    expect(await tables('paths', 'metrics')).toEqual(['points']);
    expect(await readAll(named, EVERYTHING, NEVER)).toHaveLength(3);
    expect(await readAll(sink, EVERYTHING, NEVER)).toHaveLength(3);
  });

  it('refuses the table of the kind redshift, which has no key, and says what to do', async () => {
    const url = await server.createDatabase('of_redshift');
    const other = redshift.create({ ...REDSHIFT_DEFAULTS, url }, { id: 't', log: { info() {}, warn() {} } });
    open.push(other);
    await other.open(NEVER);
    await other.write({ points: manyPoints(20) }, NEVER);
    const sink = made(url);
    const error = await sinkError(sink.open(NEVER));
    expect(error).toMatchObject({
      reason: 'schema_mismatch',
      advice: expect.stringMatching(/ADD|add PRIMARY KEY/),
    });
    await server.execute(
      'ALTER TABLE points ADD PRIMARY KEY (window_start, series_id, instance)',
      'of_redshift',
    );
    await sink.open(NEVER);
    expect(await sink.write({ points: manyPoints(20, 5) }, NEVER)).toEqual({ kind: 'written' });
    expect(differences(await readAll(sink, EVERYTHING, NEVER), manyPoints(20, 5))).toEqual([]);
  });

  it('refuses Redshift, and names the other kind', async () => {
    const double = await RedshiftDouble.start({ port: server.port });
    stops.push(() => double.stop());
    const error = await sinkError(
      made(`postgres://postgres:${server.password}@127.0.0.1:${double.port}/postgres`).open(NEVER),
    );
    expect(error).toMatchObject({ reason: 'bad_request', advice: expect.stringMatching(/redshift/) });
  });

  describe('partitions', () => {
    const at = (windowStart: number, count = 20): Point[] =>
      manyPoints(count).map((point) => ({ ...point, windowStart }));

    it.each([
      ['day', '2026-11-29T23:59:59.999Z', 'points_d20261129', '2026-11-29', '2026-11-30'],
      ['week', '2026-11-29T23:59:59.999Z', 'points_w20261123', '2026-11-23', '2026-11-30'],
      ['week', '1969-12-30T00:00:00.000Z', 'points_w19691229', '1969-12-29', '1970-01-05'],
      ['month', '2026-12-31T12:00:00.000Z', 'points_m20261201', '2026-12-01', '2027-01-01'],
      ['month', '0099-12-31T12:00:00.000Z', 'points_m00991201', '0099-12-01', '0100-01-01'],
    ] as const)('by %s: %s is in %s', (unit: Unit, time, name, from, to) => {
      const place = { schema: 'public', table: 'points' };
      expect(partitionOf(place, unit, Date.parse(time))).toEqual({
        name,
        from: Date.parse(from),
        to: Date.parse(to),
      });
    });

    it.each([
      [{ keep: DAY_MS }, ['keep']],
      [{ keep: DAY_MS, partition: 'week' }, ['keep']],
      [{ keep: 90 * DAY_MS, partition: 'day' }, []],
      [{ table: 't'.repeat(60), partition: 'day' }, ['table']],
    ] as const)('checks %o', (changed, keys) => {
      const problems = postgres.validate?.({ ...DEFAULTS, url: 'postgres://h/d', ...changed }) ?? [];
      expect(problems.map(({ key }) => key)).toEqual(keys);
    });

    it('are made ahead of the writes that need them, by several writers at once', async () => {
      const { url } = await opened('ahead', '', { partition: 'day' });
      const sinks = [0, 1, 2, 3].map(() => made(url, { partition: 'day' }));
      await Promise.all(sinks.map((sink) => sink.open(NEVER)));
      for (let day = 0; day < 5; day += 1) {
        const writing = sinks.map((sink) => sink.write({ points: at(START + day * DAY_MS) }, NEVER));
        expect(await Promise.all(writing)).toEqual(sinks.map(() => ({ kind: 'written' })));
      }
      const made5 = (await tables('ahead')).filter((name) => /^points_d202611(2[3-8])$/.test(name));
      // The day after the last one is there already.
      expect(made5).toHaveLength(6);
      const all = await readAll(sinks[0]!, { from: START, to: START + 6 * DAY_MS }, NEVER);
      expect(all).toHaveLength(100);
      expect(await sinks[0]!.storage?.(NEVER)).toBeGreaterThan(8_192);
    });

    it('are in the schema of the table, whatever the search path begins with', async () => {
      const { sink } = await opened(
        'schemas',
        `CREATE SCHEMA metrics; ALTER DATABASE schemas SET search_path TO public, metrics`,
        { partition: 'day', table: 'metrics.points' },
      );
      await sink.close();
      const found = made(server.url.replace(/postgres$/, 'schemas'), { partition: 'day' });
      await found.open(NEVER);
      expect(await found.write({ points: at(START) }, NEVER)).toEqual({ kind: 'written' });
      expect(await tables('schemas', 'metrics')).toContain('points_d20261123');
      expect(await tables('schemas')).toEqual([]);
    });

    it('may change their length: days fill what weeks leave open', async () => {
      const { sink, url } = await opened('changed', '', { partition: 'week' });
      expect(await sink.write({ points: at(START) }, NEVER)).toEqual({ kind: 'written' });
      const monthly = made(url, { partition: 'month' });
      await monthly.open(NEVER);
      for (const day of [-20, 0, 20])
        expect(await monthly.write({ points: at(START + day * DAY_MS) }, NEVER)).toEqual({ kind: 'written' });
    });

    it('that somebody dropped are made again, and a table without any needs none', async () => {
      const { sink } = await opened('lost', '', { partition: 'day' });
      await sink.write({ points: at(START) }, NEVER);
      await server.execute('DROP TABLE points_d20261123', 'lost');
      expect(await sink.write({ points: at(START) }, NEVER)).toMatchObject({ kind: 'retry' });
      expect(await sink.write({ points: at(START) }, NEVER)).toEqual({ kind: 'written' });
      const { url } = await opened('undivided');
      expect(await sinkError(made(url, { partition: 'day' }).open(NEVER))).toMatchObject({
        reason: 'schema_mismatch',
      });
    });

    it('that somebody detached are not made again while their table is in the way, and the error says what to do', async () => {
      const { sink } = await opened('detached', '', { partition: 'day' });
      await sink.write({ points: at(START) }, NEVER);
      await server.execute('ALTER TABLE points DETACH PARTITION points_d20261123', 'detached');
      for (const _ of [1, 2]) {
        expect(await sink.write({ points: at(START) }, NEVER)).toMatchObject({
          kind: 'refused',
          reason: 'not_found',
          message: expect.stringMatching(
            /points_d20261123 is not a partition of points.*Attach that table again/,
          ),
        });
        await sink.open(NEVER);
      }
      // Windows of other days have their partitions.
      expect(await sink.write({ points: at(START + DAY_MS) }, NEVER)).toEqual({ kind: 'written' });
      await server.execute('ALTER TABLE points_d20261123 RENAME TO archive', 'detached');
      expect(await sink.write({ points: at(START) }, NEVER)).toEqual({ kind: 'written' });
      expect(await readAll(sink, { from: START, to: START + 2 * DAY_MS }, NEVER)).toHaveLength(40);
    });

    it('of a table that somebody else divides are missing, and the error says so', async () => {
      const { sink } = await opened('not_ours', `${WHOLE_TABLE} PARTITION BY RANGE (window_start)`);
      expect(await sink.write({ points: at(START) }, NEVER)).toMatchObject({
        kind: 'refused',
        reason: 'not_found',
        message: expect.stringMatching(/no partition.*Make the partition/),
      });
    });

    it('older than KEEP as a whole are dropped, but no others, and it is logged', async () => {
      const now = Date.now();
      const options = { partition: 'day', keep: 10 * DAY_MS } as const;
      const { sink, url } = await opened('kept', '', options);
      const foreign = `CREATE TABLE archive PARTITION OF points FOR VALUES FROM ('2001-01-01') TO ('2001-01-02')`;
      await server.execute(foreign, 'kept');
      const days = [-30, -12, -9, 0].map((day) => now + day * DAY_MS);
      // A replay: the newest window is old, so nothing is old compared with it.
      said.length = 0;
      expect(await sink.write({ points: at(days[0]!) }, NEVER)).toEqual({ kind: 'written' });
      expect(said).toEqual([]);
      const next = made(url, options);
      await next.open(NEVER);
      for (const day of days.slice(1)) await sink.write({ points: at(day) }, NEVER);
      expect(await next.write({ points: at(now) }, NEVER)).toEqual({ kind: 'written' });
      const dropped = said.map((line) => (line as [string, { partition: string }])[1].partition);
      const place = { schema: 'public', table: 'points' };
      const nameOf = (day: number) => partitionOf(place, 'day', now + day * DAY_MS).name;
      expect(dropped.sort()).toEqual([-30, -29, -12, -11].map(nameOf).sort());
      const left = await tables('kept');
      expect(left).toEqual(expect.arrayContaining(['archive', nameOf(-9), nameOf(0)]));
      expect(left).not.toContain(nameOf(-12));
      expect(await next.write({ points: at(days[0]!) }, NEVER)).toEqual({ kind: 'written' });
    });

    it('older than KEEP are dropped even if others depend on one of them', async () => {
      const now = Date.now();
      const options = { partition: 'day', keep: 10 * DAY_MS } as const;
      const { sink, url } = await opened('viewed', '', options);
      const nameOf = (day: number) =>
        partitionOf({ schema: 'public', table: 'points' }, 'day', now + day * DAY_MS).name;
      for (const day of [-30, -20]) await sink.write({ points: at(now + day * DAY_MS) }, NEVER);
      await server.execute(`CREATE VIEW of_one AS SELECT * FROM ${nameOf(-30)}`, 'viewed');
      const next = made(url, options);
      await next.open(NEVER);
      expect(await next.write({ points: at(now) }, NEVER)).toEqual({ kind: 'written' });
      const left = await tables('viewed');
      expect(left).toContain(nameOf(-30));
      expect(left).not.toContain(nameOf(-20));
      expect(said).toContainEqual([
        expect.stringMatching(/could not drop a partition/),
        { partition: nameOf(-30), error: expect.stringMatching(/depend/) },
      ]);
    });

    it.each(['day', 'week', 'month'] as const)(
      'by %s are made for the first and the last windows',
      async (partition) => {
        const { sink } = await opened(`ends_${partition}`, '', { partition });
        const times = [
          '0001-01-01T00:00:00.000Z',
          '0099-12-31T23:59:50Z',
          '1969-12-31T23:59:50Z',
          '1970-01-01T00:00:00Z',
        ];
        const starts = [...times, '9999-12-30T00:00:00Z', '9999-12-31T23:59:50Z'].map((time) =>
          Date.parse(time),
        );
        const points = starts.flatMap((start) => at(start, 2));
        expect(await sink.write({ points }, NEVER)).toEqual({ kind: 'written' });
        const all = { from: Date.parse('0001-01-01T00:00:00Z'), to: Date.parse('9999-12-31T23:59:59.999Z') };
        expect(differences(await readAll(sink, all, NEVER), points)).toEqual([]);
      },
    );

    it('of TimescaleDB are dropped as seen from the newest window, so that a clock that is ahead drops nothing', async () => {
      const keep = 10 * DAY_MS;
      const asked = `CREATE TABLE asked (before timestamp);
        CREATE FUNCTION create_hypertable(regclass, text, chunk_time_interval interval, create_default_indexes boolean,
          if_not_exists boolean) RETURNS int LANGUAGE sql AS 'SELECT 1';
        CREATE FUNCTION drop_chunks(regclass, older_than timestamp) RETURNS SETOF text LANGUAGE sql AS
          'INSERT INTO asked VALUES (older_than) RETURNING NULL::text'`;
      const { sink } = await opened('chunks', `${asked}; ${WHOLE_TABLE}`, { partition: 'hypertable', keep });
      expect(await sink.write({ points: at(Date.parse('2020-01-11T00:00:00Z')) }, NEVER)).toEqual({
        kind: 'written',
      });
      const { rows } = await server.execute('SELECT before::text FROM asked', 'chunks');
      expect(rows).toEqual([{ before: '2020-01-01 00:00:00' }]);
    });

    it('of TimescaleDB need the extension', async () => {
      const url = await server.createDatabase('no_extension');
      const error = await sinkError(made(url, { partition: 'hypertable' }).open(NEVER));
      expect(error).toMatchObject({ reason: 'not_found', advice: expect.stringMatching(/CREATE EXTENSION/) });
    });
  });
});
