/** What one file holds after changes, against a map, and by DuckDB, which shares no code with the sink. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DuckDBInstance } from '@duckdb/node-api';
import fc from 'fast-check';
import { parquetMetadata } from 'hyparquet';
import { afterAll, describe, expect, it } from 'vitest';
import { keyOf, pointOf } from '../../sinks/parquet/encode.ts';
import { type Change, changed, groups, inMemory } from '../../sinks/parquet/file.ts';
import { temporaryFolder } from '../../src/servers/server-process.ts';
import type { Point, StoredPoint } from '../../src/sink/index.ts';
import { differences, HOSTILE_TEXTS, makePoint, manyPoints, START } from '../conformance/points.ts';
import { effort } from '../effort.ts';

const NEVER = new AbortController().signal;
const folder = temporaryFolder('parquet-file');
afterAll(() => folder.remove());

const keyOfPoint = ({ series, instance }: Point) => keyOf(series.id, instance);
const puts = (points: readonly Point[]): Change => new Map(points.map((point) => [keyOfPoint(point), point]));

async function pointsIn(file: Uint8Array | undefined): Promise<StoredPoint[]> {
  const points: StoredPoint[] = [];
  if (file === undefined) return points;
  for await (const rows of groups(inMemory(file))) points.push(...rows.map(pointOf));
  return points;
}

const groupSizes = (file: Uint8Array) =>
  parquetMetadata(new Uint8Array(file).buffer).row_groups.map(({ num_rows }) => Number(num_rows));

async function askDuckDb(file: Uint8Array, sql: string): Promise<unknown> {
  const path = join(folder.path, 'asked.parquet');
  writeFileSync(path, file);
  const database = await DuckDBInstance.create(':memory:');
  const connection = await database.connect();
  try {
    const result = await connection.runAndReadAll(sql.replace('FILE', `read_parquet('${path}')`));
    return result.getRowObjectsJson();
  } finally {
    connection.closeSync();
    database.closeSync();
  }
}

describe('a Parquet file', () => {
  const KEYS = 40;
  const GROUP_ROWS = 6;
  const GROUPS = { rows: GROUP_ROWS, bytes: 1e6, decodedBytes: 1e6 };
  const GROUPS_OF_50 = { ...GROUPS, rows: 50 };
  const step = fc.record({
    keys: fc.uniqueArray(fc.nat(KEYS - 1), { minLength: 1, maxLength: 25 }),
    removes: fc.boolean(),
    value: fc.double({ noNaN: true, noDefaultInfinity: true }),
  });

  it('holds what a map holds, after any changes, in few row groups', async () => {
    let copied = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 14 }), async (steps) => {
        const map = new Map<string, Point>();
        let file: Uint8Array | undefined;
        for (const { keys, removes, value } of steps) {
          const points = keys.map((key) =>
            makePoint({ name: HOSTILE_TEXTS[key]!, type: 'gauge', values: { sum: value, min: key } }),
          );
          const change = new Map(points.map((point) => [keyOfPoint(point), removes ? undefined : point]));
          const before = file;
          file = await changed(before, change, NEVER, GROUPS);
          for (const [key, point] of change) {
            if (point === undefined) map.delete(key);
            else map.set(key, point);
          }
          expect(differences(await pointsIn(file), [...map.values()])).toEqual([]);
          if (file === undefined) continue;
          const sizes = groupSizes(file);
          expect(sizes.filter((size) => size < GROUP_ROWS / 2).length).toBeLessThanOrEqual(1);
          expect(Math.max(...sizes)).toBeLessThanOrEqual(GROUP_ROWS);
          if (sizes.length > Math.ceil(change.size / GROUP_ROWS) + 1) copied += 1;
        }
      }),
      { numRuns: Math.max(20, effort(60)) },
    );
    // The interesting case happened.
    expect(copied).toBeGreaterThan(5);
  });

  it('gets a batch without encoding the rows of the others again', async () => {
    const points = manyPoints(500);
    let file: Uint8Array | undefined;
    for (let from = 0; from < points.length; from += 50) {
      const before: Uint8Array | undefined = file;
      file = await changed(before, puts(points.slice(from, from + 50)), NEVER, GROUPS_OF_50);
      if (before === undefined) continue;
      // All row groups, up to the footer, stand there as they did.
      const end = parquetMetadata(new Uint8Array(before).buffer).metadata_length + 8;
      const rows = before.length - end;
      expect(Buffer.from(file!.subarray(0, rows)).equals(before.subarray(0, rows))).toBe(true);
    }
    expect(groupSizes(file!)).toEqual(Array(10).fill(50));
    expect(differences(await pointsIn(file), points)).toEqual([]);
    // Rewritten, in other pieces and another order.
    const again = manyPoints(500, 9).reverse();
    for (let from = 0; from < again.length; from += 70) {
      file = await changed(file, puts(again.slice(from, from + 70)), NEVER, GROUPS_OF_50);
    }
    expect(differences(await pointsIn(file), again)).toEqual([]);
  });

  it('gets a batch without even decoding the row groups that it leaves alone', async () => {
    const points = manyPoints(100);
    const file = (await changed(undefined, puts(points.slice(0, 50)), NEVER, GROUPS_OF_50))!;
    const sums = parquetMetadata(new Uint8Array(file).buffer).row_groups[0]!.columns[8]!.meta_data!;
    expect(sums.path_in_schema).toEqual(['sum']);
    // Nobody could decode these.
    const start = Number(sums.data_page_offset);
    const broken = file.slice().fill(0xff, start, start + Number(sums.total_compressed_size));
    await expect(pointsIn(broken)).rejects.toThrow();
    const after = (await changed(broken, puts(points.slice(50)), NEVER, GROUPS_OF_50))!;
    expect(groupSizes(after)).toEqual([50, 50]);
    await expect(changed(broken, puts(points.slice(49)), NEVER, GROUPS_OF_50)).rejects.toThrow();
  });

  it('tells a reader that skips by statistics the truth, also of copied row groups', async () => {
    const points = manyPoints(300);
    let file: Uint8Array | undefined;
    for (let from = 0; from < 300; from += 50) {
      file = await changed(file, puts(points.slice(from, from + 50)), NEVER, GROUPS_OF_50);
    }
    expect(groupSizes(file!)).toHaveLength(6);
    for (const index of [0, 77, 149, 150, 299]) {
      const sql = `SELECT count(*)::INT AS n FROM FILE WHERE count = ${index + 1}
        AND name = 'http.${['counter', 'gauge', 'timer'][index % 3]}' AND window_start = make_timestamptz(${START}000)`;
      expect(await askDuckDb(file!, sql), sql).toEqual([{ n: 1 }]);
    }
    expect(await askDuckDb(file!, 'SELECT count(*)::INT AS n FROM FILE WHERE count > 300')).toEqual([
      { n: 0 },
    ]);
  });

  it('has the documented columns, and the same values for another reader', async () => {
    const timer = makePoint({
      name: '\ufeffBOM \0 and 😀',
      type: 'timer',
      instance: 'boot-1',
      values: { count: Number.MAX_SAFE_INTEGER, sum: 0.1 + 0.2, min: 5e-324, max: -Number.MAX_VALUE },
    });
    const file = await changed(undefined, puts([timer]), NEVER);
    expect((await pointsIn(file))[0]!.series.name).toBe(timer.series.name);
    expect(
      await askDuckDb(file!, 'SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM FILE)'),
    ).toEqual(
      Object.entries({
        window_start: 'TIMESTAMP WITH TIME ZONE',
        window_ms: 'BIGINT',
        series_id: 'VARCHAR',
        instance: 'VARCHAR',
        name: 'VARCHAR',
        type: 'VARCHAR',
        dimensions: 'VARCHAR',
        count: 'BIGINT',
        sum: 'DOUBLE',
        min: 'DOUBLE',
        max: 'DOUBLE',
        last: 'DOUBLE',
        p50: 'DOUBLE',
        p90: 'DOUBLE',
        p95: 'DOUBLE',
        p99: 'DOUBLE',
      }).map(([column_name, column_type]) => ({ column_name, column_type })),
    );
    // In hexadecimal, because DuckDB's client drops the byte order mark.
    const sql =
      'SELECT epoch_ms(window_start) AS at, * EXCLUDE (window_start) REPLACE (hex(name) AS name) FROM FILE';
    expect(await askDuckDb(file!, sql)).toEqual([
      {
        at: String(START),
        window_ms: '10000',
        series_id: timer.series.id,
        instance: 'boot-1',
        name: Buffer.from(timer.series.name).toString('hex').toUpperCase(),
        type: 'timer',
        dimensions: '{"app":"api"}',
        count: String(Number.MAX_SAFE_INTEGER),
        sum: timer.sum,
        min: 5e-324,
        max: -Number.MAX_VALUE,
        last: null,
        p50: timer.p50,
        p90: timer.p90,
        p95: timer.p95,
        p99: timer.p99,
      },
    ]);
    const codecs = "SELECT DISTINCT compression FROM parquet_metadata('FILE')";
    writeFileSync(join(folder.path, 'codec.parquet'), file!);
    expect(await askDuckDb(file!, codecs.replace('FILE', join(folder.path, 'codec.parquet')))).toEqual([
      { compression: 'ZSTD' },
    ]);
  });

  it('has row groups of so many bytes at most, and one point more, however it is changed', async () => {
    // Ten points, each with a dimension of so many characters.
    const limits = { rows: 1_000, bytes: 20_000, decodedBytes: 50_000 };
    const TEXT = 2_000;
    const wide = (salt: number) =>
      manyPoints(60, salt).map(({ count }, index) =>
        makePoint({ dimensions: [['text', String(index).padEnd(TEXT, 'x')]], values: { count } }),
      );
    const points = wide(0);
    let file: Uint8Array | undefined;
    for (let from = 0; from < 60; from += 5) {
      file = await changed(file, puts(points.slice(from, from + 5)), NEVER, limits);
    }
    expect(groupSizes(file!)).toEqual(Array(12).fill(5));
    const again = wide(7);
    for (const half of [0, 1]) {
      const some = again.filter((_, index) => index % 2 === half);
      file = await changed(file, puts(some), NEVER, limits);
    }
    expect(differences(await pointsIn(file), again)).toEqual([]);
    expect(groupSizes(file!)).toEqual(Array(6).fill(10));
    // As an older version may have left it: too large to be decoded.
    await expect(changed(file, puts(points), NEVER, { ...limits, decodedBytes: 20_000 })).rejects.toThrow(
      /a row group takes \d+ bytes in memory, of at most 20000/,
    );
  });

  it('is undefined once the last row is gone', async () => {
    const points = manyPoints(3);
    const file = await changed(undefined, puts(points), NEVER);
    expect(
      await changed(file, new Map(points.map((point) => [keyOfPoint(point), undefined])), NEVER),
    ).toBeUndefined();
  });
});
