/** The queries of docs/percentiles.md, as they stand there, on real servers, beside the exact percentiles. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import clickhouse from '../../sinks/clickhouse/sink.ts';
import postgres from '../../sinks/postgres/sink.ts';
import redshift from '../../sinks/redshift/sink.ts';
import sqlite from '../../sinks/sqlite/sink.ts';
import { SKETCH_SCALE } from '../../src/aggregate/buckets.ts';
import type { Point } from '../../src/aggregate/point.ts';
import { RELATIVE_ERROR } from '../../src/aggregate/sketch.ts';
import { Tiling } from '../../src/aggregate/tiling.ts';
import type { ClosedWindow } from '../../src/aggregate/window.ts';
import { systemClock } from '../../src/base/clock.ts';
import { seededRandom } from '../../src/load/random.ts';
import { RecentQuestions } from '../../src/recent/recent-questions.ts';
import { RecentWindows } from '../../src/recent/recent-windows.ts';
import { type ClickHouse, startClickHouse } from '../../src/servers/clickhouse.ts';
import { type Postgres, startPostgres } from '../../src/servers/postgres.ts';
import { temporaryFolder } from '../../src/servers/server-process.ts';
import type { Sink } from '../../src/sink/contract.ts';
import { closedWindow } from '../aggregate/closed-window.ts';
import { pointsOf } from '../aggregate/stream.ts';
import { TEST_LIMIT_MS } from '../limits.ts';
import { sinkSettings } from './stand-in.ts';

const WINDOW_MS = 10_000;
const HOUR = Date.UTC(2026, 10, 23, 1);
const [WINDOWS, SERIES] = [360, 20];
const TILING = Tiling.of({
  windowMs: WINDOW_MS,
  latenessMs: 0,
  maxAheadMs: 0,
  maxSeries: 100,
  sketchScale: SKETCH_SCALE,
});
const signal = AbortSignal.timeout(TEST_LIMIT_MS);
const context = { id: 't', log: { info() {}, warn() {} } };
const folder = temporaryFolder('percentiles');
const document = readFileSync('docs/percentiles.md', 'utf8');

/** What was measured in the hour: some values are negative, and some are zero. */
const measured: number[] = [];
const all: Point[][] = [];
const hour: ClosedWindow[] = [];
/** Of the first windows of the hour. */
const FIRST = 36;
const measuredFirst: number[] = [];
let server: Postgres;
let store: ClickHouse;

beforeAll(async () => {
  const random = seededRandom(19);
  const draw = (series: number) => {
    if (random() < 0.02) return random() < 0.5 ? 0 : -1000 * random();
    const gauss = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
    return 1000 * Math.exp(series / 10 + 1.5 * gauss);
  };
  // One more window before and one after: they must not count.
  for (let window = -1; window <= WINDOWS; window++) {
    const samples = Array.from({ length: SERIES * 8 }, (_, i) => {
      const value = draw(i % SERIES) * (window < 0 || window === WINDOWS ? 1e6 : 1);
      if (window >= 0 && window < WINDOWS) measured.push(value);
      if (window >= 0 && window < FIRST) measuredFirst.push(value);
      return { name: 'http.duration', type: 'timer' as const, dimensions: { host: `h${i % SERIES}` }, value };
    });
    const keeps = { hasSketches: true, keepsSketches: true };
    const closed = closedWindow(samples, TILING, keeps, HOUR + window * WINDOW_MS);
    if (window >= 0 && window < WINDOWS) hour.push(closed);
    all.push(pointsOf(closed));
  }
  for (const values of [measured, measuredFirst]) values.sort((a, b) => a - b);
  expect(measured).toHaveLength(WINDOWS * SERIES * 8);
  [server, store] = await Promise.all([startPostgres(), startClickHouse({ user: 'u', password: 'p' })]);
});

afterAll(async () => {
  await server.stop();
  await store.stop();
  folder.remove();
});

function queryOf(kind: string): string {
  return new RegExp(`<!-- tested: ${kind} -->\n\`\`\`sql\n([\\s\\S]*?)\`\`\``).exec(document)![1]!;
}

async function fill(sink: Sink, windows = all): Promise<void> {
  await sink.open(signal);
  for (let i = 0; i < windows.length; i += 50)
    expect(await sink.write({ points: windows.slice(i, i + 50).flat() }, signal)).toEqual({
      kind: 'written',
    });
  await sink.close();
}

/** The query asks for the p99: other percentiles by another share. */
async function expectExact(
  query: string,
  ask: (query: string) => Promise<number>,
  values = measured,
): Promise<void> {
  for (const share of [0.99, 0.5, 0.001]) {
    const exact = values[Math.floor(share * (values.length - 1))]!;
    const found = await ask(query.replace('0.99', String(share)));
    expect(Math.abs(found / exact - 1), `${share}: ${found} for ${exact}`).toBeLessThan(
      RELATIVE_ERROR + 1e-9,
    );
  }
}

test('PostgreSQL: the p99 of an hour, of 360 windows of 20 series', async () => {
  await fill(postgres.create(sinkSettings(postgres, { URL: server.url, SKETCH: 'true' }), context));
  const client = new pg.Client({ connectionString: server.url });
  await client.connect();
  await expectExact(queryOf('postgres'), async (query) => Number((await client.query(query)).rows[0].p99));
  await client.end();
});

/** What Redshift has and PostgreSQL has not: JSON as text, and no text for what is not there. */
const REDSHIFT_FUNCTIONS = `
CREATE FUNCTION json_extract_path_text(text, text) RETURNS text IMMUTABLE LANGUAGE sql
AS $$ SELECT coalesce(json_extract_path_text($1::json, VARIADIC ARRAY[$2]), '') $$;
CREATE FUNCTION json_extract_array_element_text(text, int) RETURNS text IMMUTABLE LANGUAGE sql
AS $$ SELECT $1::json->>$2 $$;
CREATE FUNCTION json_array_length(text) RETURNS int IMMUTABLE LANGUAGE sql
AS $$ SELECT json_array_length($1::json) $$;`;

test('Redshift: of 36 windows, on PostgreSQL with its functions', async () => {
  const url = await server.createDatabase('as_redshift');
  // The query parses a text again for each of its buckets: with all windows, that takes minutes here.
  const sink = redshift.create(sinkSettings(redshift, { URL: url, SKETCH: 'true' }), context);
  await fill(sink, all.slice(1, 1 + FIRST));
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await client.query(REDSHIFT_FUNCTIONS);
  const ask = async (query: string) => Number((await client.query(query)).rows[0].p99);
  await expectExact(queryOf('redshift'), ask, measuredFirst);
  await client.end();
});

test('in a program: the same', async () => {
  const [, source] = /<!-- tested: javascript -->\n```js\n([\s\S]*?)```/.exec(document)!;
  const percentile = new Function(`${source}; return percentile;`)() as (
    share: number,
    sketches: readonly string[],
  ) => number;
  const sketches = all.slice(1, -1).flatMap((points) => points.map(({ sketch }) => sketch!));
  await expectExact('0.99', async (share) => percentile(Number(share), sketches));
});

test('SQLite: the same', async () => {
  const path = join(folder.path, 'fanout.db');
  await fill(sqlite.create(sinkSettings(sqlite, { PATH: path, SKETCH: 'true' }), context));
  const database = new DatabaseSync(path, { readOnly: true });
  await expectExact(queryOf('sqlite'), async (query) => Number(database.prepare(query).get()!.p99));
  database.close();
});

test('ClickHouse: the same', async () => {
  const variables = { URL: `http://127.0.0.1:${store.port}`, USER: 'u', PASSWORD: 'p', SKETCH: 'true' };
  await fill(clickhouse.create(sinkSettings(clickhouse, variables), context));
  const url = `http://127.0.0.1:${store.port}/?user=u&password=p`;
  await expectExact(queryOf('clickhouse'), async (query) => {
    const answer = await fetch(url, { method: 'POST', body: query });
    const text = await answer.text();
    if (!answer.ok) throw new Error(text);
    return Number(text);
  });
});

test('`ask`: the same, of what is kept of the last hour', async () => {
  const clock = { ...systemClock, now: () => HOUR + WINDOWS * WINDOW_MS };
  const windows = new RecentWindows({ limitBytes: 64e6, clock });
  windows.began(HOUR, TILING);
  for (const window of hour) {
    windows.closed([window], window.start + WINDOW_MS);
    await windows.settled();
  }
  const questions = new RecentQuestions({ windows, clock, slice: '0/1', parts: false });
  const { groups } = await questions.answer({
    name: 'http.duration',
    where: [],
    by: [],
    last: WINDOWS * WINDOW_MS,
  });
  expect(groups.map(({ count }) => count)).toEqual([measured.length]);
  for (const [share, key] of [
    [0.5, 'p50'],
    [0.9, 'p90'],
    [0.95, 'p95'],
    [0.99, 'p99'],
  ] as const) {
    const exact = measured[Math.floor(share * (measured.length - 1))]!;
    expect(Math.abs(groups[0]![key]! / exact - 1), key).toBeLessThan(RELATIVE_ERROR + 1e-9);
  }
});
