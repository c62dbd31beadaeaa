/** The sink behind PgBouncer, where the next transaction may run in another session of the server. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import redshift from '../../sinks/redshift/sink.ts';
import { type PgBouncer, startPgBouncer } from '../../src/servers/pgbouncer.ts';
import { type Postgres, startPostgres } from '../../src/servers/postgres.ts';
import type { Sink } from '../../src/sink/contract.ts';
import { EVERYTHING, makePoint, manyPoints, readAll, START, WINDOW_MS } from '../conformance/points.ts';
import { sinkError, TEST_MS } from '../conformance/subject.ts';
import { describeConformance } from '../conformance.ts';
import { expectExactRows } from '../poolers/writers.ts';
import { RedshiftDouble } from '../redshift/double.ts';
import { tablesOf, WRONG_PASSWORD } from '../redshift/harness.ts';
import { DEFAULTS } from '../redshift/settings.ts';

const NEVER = new AbortController().signal;
let server: Postgres;
const stops: (() => Promise<void>)[] = [];
const open: Sink[] = [];

async function pooled(
  mode: 'session' | 'transaction' | 'statement',
  poolSize: number,
  settings: Readonly<Record<string, string | number>> = {},
  port = server.port,
): Promise<PgBouncer> {
  const bouncer = await startPgBouncer({ port, password: server.password, mode, poolSize, settings });
  stops.push(bouncer.stop);
  return bouncer;
}

function made(url: string, table = 'points'): Sink {
  const sink = redshift.create({ ...DEFAULTS, url, table }, { id: 't', log: { info() {}, warn() {} } });
  open.push(sink);
  return sink;
}

async function opened(url: string, table?: string): Promise<Sink> {
  const sink = made(url, table);
  await sink.open(NEVER);
  return sink;
}

for (const [mode, poolSize] of [
  // With sessions, each connection of the suite keeps one of the server.
  ['session', 40],
  ['transaction', 3],
] as const) {
  const secrets = [WRONG_PASSWORD];
  describe(`behind PgBouncer with pool_mode ${mode}`, () => {
    let bouncer: PgBouncer;
    describeConformance('redshift', {
      async start() {
        server = await startPostgres();
        secrets.push(server.password);
        bouncer = await startPgBouncer({ port: server.port, password: server.password, mode, poolSize });
        return bouncer.port;
      },
      async stop() {
        await bouncer.stop();
        await server.stop();
      },
      variables: (namespace, port) => ({
        URL: `postgres://postgres:${server.password}@127.0.0.1:${port}/postgres`,
        TABLE: namespace,
      }),
      secrets,
      ...tablesOf(() => server),
    });
  });
}

describe('a pooler with transaction pooling', { timeout: TEST_MS }, () => {
  beforeAll(async () => {
    server = await startPostgres();
  });
  afterEach(async () => {
    await Promise.all(open.splice(0).map((sink) => sink.close()));
    await Promise.all(stops.splice(0).map((stop) => stop()));
  });
  afterAll(() => server.stop());

  it.each(['PostgreSQL', 'Redshift'])('mixes up no rows of several writers on %s', async (kind) => {
    const database = `writers_${kind.toLowerCase()}`;
    await server.createDatabase(database);
    const double = await RedshiftDouble.start({ port: server.port });
    stops.push(() => double.stop());
    const bouncer = await pooled('transaction', 3, {}, kind === 'Redshift' ? double.port : server.port);
    const url = bouncer.url.replace(/postgres$/, database);
    const [one, other] = [await opened(url, 'points'), await opened(url, 'other_points')];
    await expectExactRows(one, other, await opened(url, 'points'));
    expect(double.refused).toEqual([]);
    expect(double.statements.length > 0).toBe(kind === 'Redshift');
  });

  it('finds the session as it was after everything that the sink does, even after errors', async () => {
    const bouncer = await pooled('transaction', 1);
    const url = await server.createDatabase('clean');
    const sink = await opened(bouncer.url.replace(/postgres$/, 'clean'));
    await server.execute('ALTER TABLE points ADD CHECK (count <> 7)', 'clean');
    const points = manyPoints(1_200);
    expect(await sink.write({ points }, NEVER)).toMatchObject({ kind: 'partial', retry: [] });
    await readAll(sink, EVERYTHING, NEVER);
    for await (const _ of sink.read(EVERYTHING, NEVER)) break;
    const [{ series }] = points as [(typeof points)[0]];
    const range = { from: START, to: START + WINDOW_MS };
    await sink.ask?.({ kind: 'windows', series, range }, NEVER);
    await sink.ask?.({ kind: 'sums', name: 'a', type: 'timer', dimension: 'b', series: [], range }, NEVER);
    await sink.storage?.(NEVER);
    await sink.remove({ points: points.slice(0, 9) }, NEVER);
    const held = `SELECT current_setting('statement_timeout') AS timeout,
      current_setting('idle_in_transaction_session_timeout') AS idle,
      current_setting('extra_float_digits') AS digits,
      (SELECT count(*) FROM pg_class WHERE relpersistence = 't') AS tables,
      (SELECT count(*) FROM pg_prepared_statements WHERE statement NOT LIKE '%pg_prepared_statements%') AS prepared,
      (SELECT count(*) FROM pg_cursors) AS cursors,
      (SELECT count(*) FROM pg_locks WHERE relation = 'points'::regclass) AS locks`;
    const fresh = await server.execute(held, 'clean');
    // The pool has one session, so this is the one that the sink had.
    const pg = await import('pg');
    const client = new pg.default.Client(bouncer.url.replace(/postgres$/, 'clean'));
    await client.connect();
    const { rows } = await client.query(held);
    await client.end();
    expect(rows).toEqual(fresh.rows);
    expect(rows).toMatchObject([{ tables: '0', prepared: '0', cursors: '0', locks: '0' }]);
    expect(url).toContain('clean');
  });

  it('may have tables of others with our names in its sessions', async () => {
    const bouncer = await pooled('transaction', 1);
    const url = (await server.createDatabase('taken')) && bouncer.url.replace(/postgres$/, 'taken');
    await server.execute('CREATE TABLE fanout_batch (a int)', 'taken');
    const sink = await opened(url);
    const points = manyPoints(20);
    expect(await sink.write({ points }, NEVER)).toEqual({ kind: 'written' });
    expect(await readAll(sink, EVERYTHING, NEVER)).toHaveLength(20);
  });

  it('that has no session free is retried, and so is one that takes no more clients', async () => {
    const bouncer = await pooled('transaction', 1, { query_wait_timeout: 1, max_client_conn: 2 });
    const sink = await opened(bouncer.url);
    const { default: pg } = await import('pg');
    const hog = new pg.Client(bouncer.url);
    hog.on('error', () => {});
    await hog.connect();
    await hog.query('BEGIN');
    const points = [makePoint()];
    expect(await sink.write({ points }, NEVER)).toMatchObject({
      kind: 'retry',
      reason: 'throttled',
      message: 'query_wait_timeout',
    });
    const idle = new pg.Client(bouncer.url);
    idle.on('error', () => {});
    await idle.connect();
    const error = await sinkError(made(bouncer.url).open(NEVER));
    expect(error).toMatchObject({ reason: 'throttled', advice: expect.stringMatching(/limit/) });
    await idle.end();
    await hog.end();
    expect(await sink.write({ points }, NEVER)).toEqual({ kind: 'written' });
  });

  it('is retried while its server restarts, and while it restarts itself', async () => {
    const bouncer = await pooled('transaction', 2, { server_login_retry: 1, query_wait_timeout: 2 });
    const sink = await opened(bouncer.url, 'restarted');
    const points = manyPoints(20);
    await sink.write({ points }, NEVER);
    await server.halt('SIGINT');
    for (let time = 0; time < 3; time += 1)
      expect(await sink.write({ points }, NEVER)).toMatchObject({ kind: 'retry' });
    await server.resume();
    const written = async () => (await sink.write({ points }, NEVER)).kind;
    await expect.poll(written).toBe('written');
    await bouncer.halt();
    expect(await sink.write({ points }, NEVER)).toMatchObject({ kind: 'retry', reason: 'connection' });
    await bouncer.resume();
    expect(await sink.write({ points }, NEVER)).toEqual({ kind: 'written' });
    expect(await readAll(sink, EVERYTHING, NEVER)).toHaveLength(20);
  });

  it('must not pool statements, and the error says so', async () => {
    const bouncer = await pooled('statement', 2);
    const error = await sinkError(made(bouncer.url).open(NEVER));
    expect(error).toMatchObject({ reason: 'bad_request', advice: expect.stringMatching(/transactions/) });
  });
});
