/** The queries of the documents, as they stand there, run by DuckDB on what the sink wrote. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type DuckDBConnection, DuckDBInstance } from '@duckdb/node-api';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import parquet from '../../sinks/parquet/sink.ts';
import { temporaryFolder } from '../../src/servers/server-process.ts';
import { makePoint, START, WINDOW_MS } from '../conformance/points.ts';

const [, block] = /<!-- tested: duckdb -->\n```sql\n([\s\S]*?)```/.exec(
  readFileSync('docs/stores.md', 'utf8'),
)!;
/** By the comment before them. */
const queries = new Map(
  block!
    .split(/^-- /m)
    .slice(1)
    .map((text) => [text.slice(0, text.indexOf('\n')), text.slice(text.indexOf('\n'))]),
);
const [view] = block!.split(/^-- /m);
const HOUR = START - 30 * 60_000;
const at = (number: number) => HOUR + number * WINDOW_MS;

/** Twelve hosts of two apps, in the windows 0, 1 and 6 of the hour, and one in the next hour. */
const points = [0, 1, 6, 360].flatMap((window) =>
  Array.from({ length: 12 }, (_, host) => [
    makePoint({
      name: 'http.requests',
      dimensions: [
        ['app', host % 2 === 0 ? 'api' : 'web'],
        ['host', `h${host}`],
      ],
      windowStart: at(window),
      values: { count: 1, sum: host + 100 * window },
    }),
    makePoint({
      name: 'http.duration',
      type: 'timer',
      dimensions: [['host', `h${host}`]],
      windowStart: at(window),
      values: { count: 2, sum: 3, p99: host + window },
    }),
    makePoint({
      name: 'queue.depth',
      type: 'gauge',
      dimensions: [['app', host % 2 === 0 ? 'api' : 'web']],
      windowStart: at(window),
      values: { count: 1, sum: window, last: window },
    }),
  ]).flat(),
);
const own = [...new Map(points.map((point) => [`${point.series.id} ${point.windowStart}`, point])).values()];

describe.each(['date', 'name,date'] as const)('with partitions by %s', (partitionBy) => {
  const folder = temporaryFolder('parquet-queries');
  let connection: DuckDBConnection;
  let database: DuckDBInstance;
  const seen = new Set<string>();

  beforeAll(async () => {
    const config = {
      url: { kind: 'folder', path: join(folder.path, 'lake') },
      partitionBy,
      create: true,
      region: undefined,
      endpoint: undefined,
    } as const;
    const signal = new AbortController().signal;
    const sink = parquet.create(config, { id: 't', log: { info() {}, warn() {} } });
    await sink.open(signal);
    expect(await sink.write({ points: own }, signal)).toEqual({ kind: 'written' });
    await sink.close();
    database = await DuckDBInstance.create(':memory:');
    connection = await database.connect();
    await connection.run("SET TimeZone = 'UTC'");
    await connection.run(view!.replace("'lake/", `'${folder.path}/lake/`));
  });

  afterAll(() => {
    expect([...seen].sort()).toEqual([...queries.keys()].sort());
    connection.closeSync();
    database.closeSync();
    folder.remove();
  });

  async function rows(about: RegExp): Promise<unknown[][]> {
    const [name, sql] = [...queries].find(([text]) => about.test(text))!;
    seen.add(name);
    return (await connection.runAndReadAll(sql)).getRowsJson().map((row) => [...row]);
  }

  /** Of http.requests. */
  const sumOver = (windows: number[], hosts: number[]) =>
    windows.flatMap((window) => hosts.map((host) => host + 100 * window)).reduce((a, b) => a + b, 0);
  const all = Array.from({ length: 12 }, (_, host) => host);
  const even = all.filter((host) => host % 2 === 0);
  const odd = all.filter((host) => host % 2 === 1);
  const windows = [0, 1, 6, 360];

  it('sums a name over an hour', async () => {
    expect(await rows(/over an hour/)).toEqual([[sumOver([0, 1, 6], all)]]);
  });

  it('sums by a dimension', async () => {
    expect(await rows(/by a dimension/)).toEqual([
      ['api', sumOver(windows, even)],
      ['web', sumOver(windows, odd)],
    ]);
  });

  it('lists the ten largest', async () => {
    const largest = all.map((host) => [`h${host}`, sumOver(windows, [host])]).reverse();
    expect(await rows(/ten largest/)).toEqual(largest.slice(0, 10));
  });

  it('lists one series by windows', async () => {
    expect(await rows(/one series/)).toEqual([
      ['2026-11-23 01:00:00+00', '1', 1],
      ['2026-11-23 01:00:10+00', '1', 101],
      ['2026-11-23 01:01:00+00', '1', 601],
      ['2026-11-23 02:00:00+00', '1', 36_001],
    ]);
  });

  it('computes rates', async () => {
    expect(await rows(/rate in each minute/)).toEqual([
      ['2026-11-23 01:00:00+00', sumOver([0, 1], all) / 60],
      ['2026-11-23 01:01:00+00', sumOver([6], all) / 60],
      ['2026-11-23 02:00:00+00', sumOver([360], all) / 60],
    ]);
  });

  it('computes a mean, and finds the worst percentile', async () => {
    expect(await rows(/mean of a timer/)).toEqual([[1.5, 371]]);
  });

  it('finds the last value of a gauge', async () => {
    expect(await rows(/last value/)).toEqual([
      ['api', 360],
      ['web', 360],
    ]);
  });

  it('counts live series, and samples by name', async () => {
    expect(await rows(/were live/)).toEqual([['26']]);
    expect(await rows(/most samples/)).toEqual([
      ['http.duration', '96'],
      ['http.requests', '48'],
      ['queue.depth', '8'],
    ]);
  });

  it('finds windows without rows', async () => {
    const empty = (await rows(/without any row/)).flat();
    expect(empty).toEqual([20, 30, 40, 50].map((second) => `2026-11-23 01:00:${second}+00`));
  });
});
