/** The double must refuse what Redshift refuses. Otherwise the tests that use it show nothing. */
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Postgres, startPostgres } from '../../src/servers/postgres.ts';
import { RedshiftDouble } from './double.ts';
import { breaks, MAX_PARAMETERS, MAX_STATEMENT_BYTES, RULES, statementsOf } from './rules.ts';

let server: Postgres;
let double: RedshiftDouble;
let client: pg.Client;

beforeAll(async () => {
  server = await startPostgres();
  double = await RedshiftDouble.start({ port: server.port });
  client = new pg.Client(`postgres://postgres:${server.password}@127.0.0.1:${double.port}/postgres`);
  await client.connect();
  await client.query('CREATE TABLE t (a int, b varchar(65535)) DISTKEY(a) SORTKEY(b)');
  await client.query('CREATE TEMP TABLE s (LIKE t)');
});

afterAll(async () => {
  await client.end();
  await double.stop();
  await server.stop();
});

/** A statement for each rule, in the order of the rules, which are tried in that order. */
const REFUSED: readonly (string | readonly string[])[] = [
  'REINDEX TABLE t',
  `SELECT '${'x'.repeat(MAX_STATEMENT_BYTES)}'`,
  `INSERT INTO t VALUES ${Array.from({ length: MAX_PARAMETERS + 1 }, (_, n) => `($${n + 1})`).join()}`,
  `SELECT 'a\\b'`,
  'INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING',
  'DELETE FROM t RETURNING a',
  'CREATE TABLE u (a BIGSERIAL)',
  'CREATE TABLE u (a int GENERATED ALWAYS AS IDENTITY)',
  'CREATE INDEX ON t (a)',
  ['SELECT * FROM unnest($1)', 'SELECT a FROM t WHERE a = ANY($1)', 'CREATE TABLE u (a int[])'],
  ['CREATE TABLE u (a jsonb)', `SELECT b::json->>'x' FROM t`],
  `CREATE TYPE mood AS ENUM ('good')`,
  `SELECT to_tsvector(b) FROM t`,
  ['LISTEN x', 'NOTIFY x'],
  ['SELECT pg_advisory_lock(1)', 'SELECT pg_try_advisory_xact_lock(1)'],
  'DO $$ BEGIN END $$',
  'SELECT * FROM t, LATERAL (SELECT 1) u',
  'SELECT a, n FROM t, generate_series(1, 3) n',
  'SELECT * FROM (VALUES (1)) u',
  'SELECT DISTINCT ON (a) a FROM t',
  'SELECT count(*) FILTER (WHERE a = 1) FROM t',
  `SELECT string_agg(b, ',') FROM t`,
  'SAVEPOINT x',
  'CREATE EXTENSION x',
  ['CREATE UNLOGGED TABLE u (a int)', 'CREATE TABLE u (a int CHECK (a > 0))'],
  ['CREATE TABLE u (a text)', 'CREATE TABLE u (a int, b uuid)', 'ALTER TABLE t ADD COLUMN c bytea'],
  'ALTER TABLE t ADD COLUMN c int, ADD COLUMN d int',
  'ALTER TABLE t ADD COLUMN IF NOT EXISTS c int',
  ['DELETE FROM t AS x WHERE x.a = 1', 'DELETE FROM t x USING s WHERE x.a = s.a'],
  'LOCK t IN EXCLUSIVE MODE',
  'COPY t FROM STDIN',
  'BEGIN; TRUNCATE t',
  'DECLARE c CURSOR FOR SELECT a FROM t',
  'BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT a FROM t',
  'FETCH FORWARD 1001 FROM c',
  'SET lock_timeout TO 1',
  'SET extra_float_digits TO 3',
  ['SELECT gen_random_uuid()', `SELECT pg_total_relation_size('t')`],
];

describe('the double refuses', () => {
  it('by every rule', () => {
    expect(REFUSED).toHaveLength(RULES.length);
    for (const [index, samples] of REFUSED.entries()) {
      for (const sql of [samples].flat()) {
        const statements = statementsOf(sql);
        const isBroken = breaks(RULES[index]!, statements.at(-1)!, statements.length > 1);
        expect(isBroken, `${RULES[index]!.reason}: ${sql.slice(0, 100)}`).toBe(true);
      }
    }
  });

  it('over the wire, all of them', async () => {
    for (const sql of REFUSED.flat()) {
      const error = await client.query(sql).catch((reason: unknown) => reason);
      expect(error, sql.slice(0, 100)).toMatchObject({ code: '0A000' });
      await client.query('ROLLBACK');
    }
    expect((await server.execute('SELECT * FROM t')).rows).toEqual([]);
  });

  it('prepared statements, and bound values that are too long', async () => {
    const prepared = client.query('INSERT INTO t VALUES ($1, $2) RETURNING a', [1, 'x']);
    await expect(prepared).rejects.toMatchObject({ code: '0A000' });
    const long = client.query('INSERT INTO t VALUES ($1, $2)', [1, 'ü'.repeat(32_768)]);
    await expect(long).rejects.toMatchObject({ code: '22001' });
    await client.query('INSERT INTO t VALUES ($1, $2)', [1, 'ü'.repeat(32_767)]);
    expect((await client.query('DELETE FROM t USING s WHERE t.a <> s.a')).rowCount).toBe(0);
  });

  it('within a transaction, which then has failed', async () => {
    await client.query('BEGIN');
    await expect(client.query('LISTEN x')).rejects.toMatchObject({ code: '0A000' });
    await expect(client.query('SELECT a FROM t')).rejects.toMatchObject({ code: '25P02' });
    await client.query('ROLLBACK');
  });

  it.each([
    `COPY s FROM 's3://b/k' IAM_ROLE 'arn:aws:iam::1:role/x' CSV`,
    `COPY s (a) FROM 's3://b/k' IAM_ROLE default MANIFEST GZIP DELIMITER '|' ESCAPE NULL AS 'x' TIMEFORMAT 'auto' COMPUPDATE OFF`,
  ])('%s', async (sql) => {
    await expect(client.query(sql)).rejects.toThrow(/syntax error in COPY/);
  });
});

describe('the double says', () => {
  it('that it is Redshift', async () => {
    expect((await client.query('SELECT version() AS version')).rows[0].version).toMatch(/ Redshift 1\.0\./);
    expect((await client.query('SHOW server_version')).rows).toEqual([{ server_version: '8.0.2' }]);
  });

  it('how large a table is', async () => {
    await client.query(`INSERT INTO t VALUES (1, 'x')`);
    const { rows } = await client.query(`SELECT sum(size) AS mb FROM svv_table_info WHERE "table" = 't'`);
    expect(rows).toEqual([{ mb: '1' }]);
  });
});
