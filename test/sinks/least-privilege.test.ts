/** The rights that docs/stores.md gives for each store are enough for its sink, and not more than it needs. */
import { readFileSync } from 'node:fs';
import { createServer, request } from 'node:http';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { loadConfig } from '../../src/config/config.ts';
import { type ClickHouse, startClickHouse } from '../../src/servers/clickhouse.ts';
import { startDynamoDb } from '../../src/servers/dynamodb.ts';
import { startInfluxDb } from '../../src/servers/influxdb.ts';
import { type Postgres, startPostgres } from '../../src/servers/postgres.ts';
import type { Server } from '../../src/servers/server-process.ts';
import type { Sink } from '../../src/sink/contract.ts';
import { createSink } from '../../src/sink/masked-sink.ts';
import { differences, EVERYTHING, manyPoints, readAll, START, WINDOW_MS } from '../conformance/points.ts';

const DOCUMENT = readFileSync(new URL('../../docs/stores.md', import.meta.url), 'utf8');
const RANGE = { from: START, to: START + 10 * WINDOW_MS };
const NEVER = new AbortController().signal;
const ADMIN = { user: 'admin', password: 'admin' };
const stops: (() => unknown)[] = [];
let postgres: Postgres;
let influxdb: Server;
let dynamodb: Server;
let clickhouse: ClickHouse;

async function started<S extends Server>(starting: Promise<S>): Promise<S> {
  const server = await starting;
  stops.push(() => server.stop());
  return server;
}

beforeAll(async () => {
  postgres = await started(startPostgres());
  [influxdb, dynamodb, clickhouse] = await Promise.all([
    started(startInfluxDb({ admin: ADMIN })),
    started(startDynamoDb()),
    started(startClickHouse(ADMIN)),
  ]);
});
afterAll(async () => {
  await Promise.all(stops.map((stop) => stop()));
});

/** The block of code after a mark in the document. */
function documented(mark: string): string {
  const [, block] =
    new RegExp(`<!-- tested: ${mark} -->\n\`\`\`\\w*\n([\\s\\S]*?)\`\`\``).exec(DOCUMENT) ?? [];
  return block!;
}

async function sinkOf(kind: string, settings: Readonly<Record<string, string>>): Promise<Sink> {
  const prefix = `SINK_${kind.toUpperCase()}_`;
  const named = Object.entries(settings).map(([name, value]) => [prefix + name, value]);
  const { sinks } = await loadConfig({ ...Object.fromEntries(named), [`${prefix}ENABLED`]: 'true' });
  return createSink(sinks[0]!, { info() {}, warn() {} }, {});
}

/** Everything that the service and `check` ever ask of a sink. */
async function exercise(sink: Sink): Promise<void> {
  const points = manyPoints(60);
  await sink.open(NEVER);
  expect(await sink.write({ points }, NEVER)).toEqual({ kind: 'written' });
  expect(await sink.write({ points }, NEVER)).toEqual({ kind: 'written' });
  expect(differences(await readAll(sink, EVERYTHING, NEVER), points)).toEqual([]);
  if (sink.lookUp) expect(differences(await Array.fromAsync(sink.lookUp(points, NEVER)), points)).toEqual([]);
  const [{ series }] = points as [(typeof points)[0]];
  const { name, type } = series;
  await sink.ask?.({ kind: 'sums', name, type, dimension: 'app', series: [series], range: RANGE }, NEVER);
  await sink.ask?.({ kind: 'windows', series, range: RANGE }, NEVER);
  await sink.storage?.(NEVER);
  await sink.identity?.(NEVER);
  for (const before of [undefined, START])
    expect(
      (await sink.giveReceipt?.('p.t.0-1', START + (before === undefined ? 0 : 1), before, NEVER)) ?? {
        before,
      },
    ).toEqual({ before });
  await sink.remove({ points }, NEVER);
  expect(await readAll(sink, EVERYTHING, NEVER)).toEqual([]);
  await sink.close();
}

test('PostgreSQL: the grants are enough, and the role may do nothing else', async () => {
  const owner = await postgres.createDatabase('metrics');
  const first = await sinkOf('redshift', { URL: owner });
  await first.open(NEVER);
  const identity = await first.identity!(NEVER);
  await first.receipt!('check', NEVER);
  await first.close();
  await postgres.execute('CREATE TABLE secrets (a int)', 'metrics');
  await postgres.execute(documented('sql grants'), 'metrics');
  const own = new URL(owner);
  [own.username, own.password] = ['fanout', 'change-me'];
  await exercise(await sinkOf('redshift', { URL: own.href }));
  const limited = await sinkOf('redshift', { URL: own.href });
  await limited.open(NEVER);
  expect(await limited.identity!(NEVER)).toBe(identity);
  await postgres.execute('COMMENT ON TABLE fanout_points IS NULL', 'metrics');
  expect(await limited.identity!(NEVER)).toBeUndefined();
  await postgres.execute("COMMENT ON TABLE fanout_points IS 'who''s there?'", 'metrics');
  await first.open(NEVER);
  const another = await first.identity!(NEVER);
  expect(another).not.toBe(identity);
  expect(await limited.identity!(NEVER)).toBe(another);
  await first.close();
  await limited.close();
  const elsewhere = await sinkOf('redshift', { URL: own.href, TABLE: 'other_points' });
  await expect(elsewhere.open(NEVER)).rejects.toMatchObject({ reason: 'unauthorized' });
  await elsewhere.close();
  for (const statement of [
    'SELECT * FROM secrets',
    'CREATE TABLE mine (a int)',
    'TRUNCATE fanout_points',
    'DROP TABLE fanout_points',
    'ALTER TABLE fanout_points ADD COLUMN a int',
    'CREATE ROLE other',
  ]) {
    const refused = postgres.execute(`SET ROLE fanout; ${statement}`, 'metrics');
    await expect(refused, statement).rejects.toMatchObject({ code: '42501' });
  }
});

test('PostgreSQL, kind postgres: the grants are enough, and the role may do nothing else', async () => {
  const owner = await postgres.createDatabase('keyed');
  const first = await sinkOf('postgres', { URL: owner });
  await first.open(NEVER);
  await first.receipt!('check', NEVER);
  await first.close();
  await postgres.execute(documented('postgres grants').replaceAll('metrics', 'keyed'), 'keyed');
  const own = new URL(owner);
  [own.username, own.password] = ['fanout_pg', 'change-me'];
  await exercise(await sinkOf('postgres', { URL: own.href }));
  for (const statement of [
    'CREATE TABLE mine (a int)',
    'CREATE TEMP TABLE mine (a int)',
    'TRUNCATE fanout_points',
  ]) {
    const refused = postgres.execute(`SET ROLE fanout_pg; ${statement}`, 'keyed');
    await expect(refused, statement).rejects.toMatchObject({ code: '42501' });
  }
});

test('InfluxDB 1.x: the grants are enough, and the user reaches no other database', async () => {
  const admin = { authorization: `Basic ${Buffer.from('admin:admin').toString('base64')}` };
  const run = async (q: string, headers: Record<string, string> = admin) =>
    await (
      await fetch(`${influxdb.url}/query`, { method: 'POST', headers, body: new URLSearchParams({ q }) })
    ).text();
  await run('CREATE DATABASE other');
  expect(await run(documented('influxql grants'))).not.toContain('error');
  const settings = { URL: influxdb.url, API: 'v1', USER: 'fanout', PASSWORD: 'change-me' };
  await exercise(await sinkOf('influxdb', { ...settings, DATABASE: 'metrics' }));
  const elsewhere = await sinkOf('influxdb', { ...settings, DATABASE: 'other' });
  await expect(elsewhere.open(NEVER)).rejects.toMatchObject({ reason: 'unauthorized' });
  await elsewhere.close();
  const own = { authorization: `Basic ${Buffer.from('fanout:change-me').toString('base64')}` };
  for (const q of ['DROP DATABASE metrics', 'CREATE DATABASE mine', 'SELECT * FROM other..a', 'SHOW USERS'])
    expect(await run(q, own), q).toMatch(/not authorized|requires admin/);
});

/** Passes everything on, and keeps what `of` finds in each request. */
async function startRecorder(
  target: Server,
  of: (headers: Record<string, unknown>, url: string, body: string) => string,
) {
  const seen = new Set<string>();
  const server = createServer(async (incoming, outgoing) => {
    const body = Buffer.concat(await Array.fromAsync(incoming as AsyncIterable<Buffer>));
    const { method, url = '/', headers } = incoming;
    seen.add(of(headers, decodeURIComponent(url.replaceAll('+', ' ')), body.toString('latin1')));
    const passed = request({ port: target.port, host: '127.0.0.1', method, path: url, headers }, (answer) => {
      outgoing.writeHead(answer.statusCode!, answer.headers);
      answer.pipe(outgoing);
    });
    passed.end(body);
  }).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  stops.push(() => server.close().closeAllConnections());
  return { seen, url: `http://127.0.0.1:${(server.address() as { port: number }).port}` };
}

test('DynamoDB: the sink calls what the policies allow, and nothing else', async () => {
  [process.env.AWS_ACCESS_KEY_ID, process.env.AWS_SECRET_ACCESS_KEY] = ['emulator', 'emulator'];
  const { seen, url } = await startRecorder(dynamodb, ({ 'x-amz-target': target }) =>
    String(target).replace('DynamoDB_20120810.', 'dynamodb:'),
  );
  const allowed = (mark: string) => (JSON.parse(documented(mark)).Statement[0].Action as string[]).sort();
  const settings = { ENDPOINT: url, REGION: 'us-east-1', TTL: '24h' };
  const maker = await sinkOf('dynamodb', settings);
  await maker.open(NEVER);
  await maker.close();
  expect([...seen].sort()).toEqual(['dynamodb:DescribeTable', ...allowed('iam policy to make')].sort());
  seen.clear();
  await exercise(await sinkOf('dynamodb', { ENDPOINT: url, REGION: 'us-east-1', CREATE: 'false' }));
  expect([...seen].sort()).toEqual(allowed('iam policy'));
});

test('ClickHouse: if the table exists, the sink needs SELECT and INSERT, and ALTER DELETE to remove rows', async () => {
  const { seen, url } = await startRecorder(clickhouse, (_, target, body) =>
    (/[?&]query=(\w+)/.exec(target)?.[1] ?? /\w+(?: TABLE \S+ DELETE)?/.exec(body)?.[0] ?? '').replace(
      /TABLE \S+ /,
      '',
    ),
  );
  const settings = { URL: url, USER: ADMIN.user, PASSWORD: ADMIN.password };
  const maker = await sinkOf('clickhouse', settings);
  await maker.open(NEVER);
  await maker.identity!(NEVER);
  await maker.receipt!('check', NEVER);
  await maker.close();
  expect([...seen].sort()).toEqual(['CREATE', 'SELECT']);
  seen.clear();
  await exercise(await sinkOf('clickhouse', settings));
  expect([...seen].sort()).toEqual(['ALTER DELETE', 'INSERT', 'SELECT']);
});
