/**
 * Points to rows and back, and the statements. A row is keyed by the table's sorting key: ReplacingMergeTree merges
 * rows with the same key into the one inserted last, and FINAL reads as if all were merged. Pure.
 */
import {
  ALL_FIELDS,
  METRIC_TYPES,
  makeSeries,
  type Point,
  type PointValues,
  type Query,
  type QueryRow,
  type Question,
  type Rejection,
  type StoredPoint,
  storedSketch,
  unfitNumber,
  type WindowRange,
} from '../../src/sink/index.ts';
import { RowBinaryWriter } from './row-binary.ts';

/** The sorting key. It begins with the name, because most questions have one; within a name, it sorts by time. */
export const KEY = ['name', 'window_start', 'series_id', 'instance'] as const;

/** In the order in which `encodeRows` writes the values. A field that a point lacks is NULL. */
export const COLUMNS = {
  window_start: 'Int64',
  window_ms: 'Int64',
  series_id: 'String',
  instance: 'String',
  name: 'String',
  type: 'String',
  dimension_keys: 'Array(String)',
  dimension_values: 'Array(String)',
  count: 'Int64',
  sum: 'Float64',
  min: 'Nullable(Float64)',
  max: 'Nullable(Float64)',
  last: 'Nullable(Float64)',
  p50: 'Nullable(Float64)',
  p90: 'Nullable(Float64)',
  p95: 'Nullable(Float64)',
  p99: 'Nullable(Float64)',
} as const;

/** The columns, with the one that a setting adds. */
export function columnsOf(hasSketch: boolean): Readonly<Record<string, string>> {
  return hasSketch ? { ...COLUMNS, sketch: 'Nullable(String)' } : COLUMNS;
}

const namesOf = (hasSketch: boolean) => Object.keys(columnsOf(hasSketch)).join(', ');

/** `window_start` as a time, for people. */
const TIME = 'time DateTime MATERIALIZED toDateTime(intDiv(window_start, 1000))';

/**
 * Rows with the same key must be in the same partition, because ClickHouse merges only within one. So it follows from
 * the key alone, in UTC: the time zone of the server may change.
 */
const PARTITION = "toYYYYMM(toDateTime(intDiv(window_start, 1000)), 'UTC')";

/**
 * The table's identity is what this column of it says in every row, without being stored in any: it goes when the table
 * goes. ClickHouse lets one of many statements define it, and never another one later. `SELECT *` leaves it out.
 */
const IDENTITY = 'fanout_store';
const identityColumn = (identity: string) => `${IDENTITY} String ALIAS ${quote(identity)}`;

export const createTable = (table: string, identity: string) =>
  `CREATE TABLE IF NOT EXISTS ${table} (${Object.entries(COLUMNS)
    .map(([name, type]) => `${name} ${type}`)
    .join(
      ', ',
    )}, ${TIME}, ${identityColumn(identity)}) ENGINE = ReplacingMergeTree PARTITION BY ${PARTITION} ORDER BY (${KEY.join(', ')})`;

export const addColumn = (table: string, name: string, type: string) =>
  `ALTER TABLE ${table} ADD COLUMN ${name} ${type}`;

export const describeTable = (database: string, table: string) =>
  `SELECT engine, sorting_key, partition_key FROM system.tables WHERE database = ${quote(database)} AND name = ${quote(table)} FORMAT JSONEachRow`;

/** Columns whose value may be another one when a row is written again. */
const VALUES = new Set<string>(['window_ms', 'sketch', ...ALL_FIELDS]);

/** Returns a column that may move a row to another partition when it is written again; undefined if there is none. */
export function unstablePartition(partitionKey: string): string | undefined {
  return partitionKey.match(/[A-Za-z_]\w*(?!\w*\()/g)?.find((word) => VALUES.has(word));
}

export const selectPartitions = (database: string, table: string) =>
  `SELECT DISTINCT partition_id AS id FROM system.parts WHERE active AND database = ${quote(database)} AND table = ${quote(table)} FORMAT JSONEachRow`;

export const dropPartition = (table: string, id: string) =>
  `ALTER TABLE ${table} DROP PARTITION ID ${quote(id)}`;

const DAY_MS = 86_400_000;

/** Whether the table has a partition for each month: others are left alone. */
export const isMonthly = (partitionKey: string) => partitionKey.startsWith('toYYYYMM(');

/** Returns when the month of a partition is over everywhere: in older tables, it is that of a time zone. */
export function endOfPartition(id: string): number {
  const [, year, month] = /^(\d{4})(\d{2})$/.exec(id) ?? [];
  return year === undefined ? Number.POSITIVE_INFINITY : Date.UTC(Number(year), Number(month), 1) + DAY_MS;
}

/** Selects the settings of the server that exist from one version on. */
export const KNOWN_SETTINGS =
  "SELECT name FROM system.settings WHERE name = 'async_insert' FORMAT JSONEachRow";

export const describeColumns = (database: string, table: string) =>
  `SELECT name, type FROM system.columns WHERE database = ${quote(database)} AND table = ${quote(table)} FORMAT JSONEachRow`;

export const unfinishedMutations = (database: string, table: string) =>
  `SELECT count() AS left FROM system.mutations WHERE database = ${quote(database)} AND table = ${quote(table)} AND NOT is_done FORMAT JSONEachRow`;

export const tableBytes = (database: string, table: string) =>
  `SELECT sum(bytes) AS bytes FROM system.parts WHERE active AND database = ${quote(database)} AND table = ${quote(table)} FORMAT JSONEachRow`;

export const nameTable = (table: string, identity: string) =>
  `ALTER TABLE ${table} ADD COLUMN ${identityColumn(identity)}`;
export const selectIdentity = (database: string, table: string) =>
  `SELECT default_expression AS text FROM system.columns WHERE database = ${quote(database)} AND table = ${quote(table)} AND name = ${quote(IDENTITY)} FORMAT JSONEachRow`;
export const decodeIdentity = (text: string) => text.replaceAll("'", '');

/**
 * Tables of older versions have theirs in a table beside them, with an empty one each time that the table was created.
 * The first since then counts.
 */
export const selectOldIdentity = (store: string) =>
  `SELECT identity FROM ${store} WHERE identity != '' AND made > (SELECT max(made) FROM ${store} WHERE identity = '') ORDER BY made, identity LIMIT 1 FORMAT JSONEachRow`;

/** See `Sink.receipt`: of the rows of a writer, the latest counts, and the engine drops the others. */
export const createReceipts = (receipts: string) =>
  `CREATE TABLE IF NOT EXISTS ${receipts} (writer String, time Int64) ENGINE = ReplacingMergeTree(time) ORDER BY writer`;
export const selectReceipt = (receipts: string, writer: string) =>
  `SELECT toFloat64(max(time)) AS time FROM ${receipts} WHERE writer = ${quote(writer)} GROUP BY writer FORMAT JSONEachRow`;
export const giveReceipt = (receipts: string, writer: string, time: number) =>
  `INSERT INTO ${receipts} (writer, time) SELECT ${quote(writer)}, ${time}`;

export const insert = (table: string, hasSketch: boolean) =>
  `INSERT INTO ${table} (${namesOf(hasSketch)}) FORMAT RowBinary`;

const within = ({ from, to }: WindowRange) =>
  `window_start >= ${Math.ceil(from)} AND window_start < ${Math.ceil(to)}`;

export const select = (table: string, range: WindowRange, hasSketch: boolean) =>
  `SELECT ${namesOf(hasSketch)} FROM ${table} FINAL WHERE ${within(range)} FORMAT JSONEachRow`;

export function selectAnswer(table: string, question: Question): string {
  const { kind, range } = question;
  const [key, ...conditions] =
    kind === 'windows'
      ? [
          'toString(window_start)',
          `name = ${quote(question.series.name)}`,
          `series_id = ${quote(question.series.id)}`,
        ]
      : [
          // What is no UTF-8 would be asked for as U+FFFD, which other rows may have.
          question.dimension.isWellFormed()
            ? `dimension_values[indexOf(dimension_keys, ${quote(question.dimension)})]`
            : "''",
          `name = ${quote(question.name)}`,
          `type = ${quote(question.type)}`,
        ];
  const where = [...conditions, within(range)].join(' AND ');
  const rows = `SELECT ${key} AS key, count AS rows_count, sum AS rows_sum FROM ${table} FINAL WHERE ${where}`;
  return `SELECT key, sum(rows_count) AS count, sum(rows_sum) AS sum FROM (${rows}) GROUP BY key FORMAT JSONEachRow`;
}

/** What `selectQuery` selects: k0, k1 and so on, and the value. */
export type QueryCells = Readonly<Record<string, string | number | null>>;

/** Returns the statement that answers a question of a trial. */
export function selectQuery(table: string, query: Query): string {
  const conditions = [within(query.range)];
  const dimension = (key: string) => `dimension_values[indexOf(dimension_keys, ${quote(key)})]`;
  const from = (columns: string) =>
    `(SELECT ${columns} FROM ${table} FINAL WHERE ${conditions.join(' AND ')})`;
  switch (query.kind) {
    case 'sums': {
      const { name, type, where, by, stepMs, top } = query;
      conditions.push(`name = ${quote(name)}`, `type = ${quote(type)}`);
      conditions.push(...where.map(([key, value]) => `${dimension(key)} = ${quote(value)}`));
      const keys = [
        ...(stepMs === undefined ? [] : [`toString(intDiv(window_start, ${stepMs}) * ${stepMs})`]),
        ...by.map(dimension),
      ];
      const names = keys.map((_, index) => `k${index}`);
      const columns = keys.map((key, index) => `${key} AS ${names[index]}`);
      const rows = from([...columns, 'sum AS rows_sum'].join(', '));
      const grouped = names.length === 0 ? '' : ` GROUP BY ${names.join(', ')}`;
      const limited = top === undefined ? '' : ` ORDER BY value DESC LIMIT ${top}`;
      // Without groups, there is a row even if nothing was found.
      const having = names.length === 0 ? ' HAVING count() > 0' : '';
      return `SELECT ${[...names, 'sum(rows_sum) AS value'].join(', ')} FROM ${rows}${grouped}${having}${limited} FORMAT JSONEachRow`;
    }
    case 'windows': {
      const { series } = query;
      conditions.push(`name = ${quote(series.name)}`, `series_id = ${quote(series.id)}`);
      const rows = from('toString(window_start) AS k0, sum AS rows_sum');
      return `SELECT k0, sum(rows_sum) AS value FROM ${rows} GROUP BY k0 FORMAT JSONEachRow`;
    }
    case 'highest_p99':
      conditions.push(`name = ${quote(query.name)}`, "type = 'timer'");
      return `SELECT max(p99) AS value FROM ${from('p99')} HAVING count() > 0 FORMAT JSONEachRow`;
    case 'live_series':
      return `SELECT uniqExact(series_id) AS value FROM ${from('series_id')} FORMAT JSONEachRow`;
    default:
      return query satisfies never;
  }
}

export function decodeAnswer({ value, ...keys }: QueryCells): QueryRow[] {
  if (value === null || value === undefined) return [];
  const key = Object.keys(keys).map((_, index) => String(keys[`k${index}`]));
  return [{ key, value: Number(value) }];
}

/** A table next to that of a trial, which marks it. ClickHouse of 2018 keeps no remarks on tables. */
export const createMark = (mark: string) =>
  `CREATE TABLE ${mark} (made UInt64) ENGINE = MergeTree ORDER BY made`;
export const dropTable = (table: string) => `DROP TABLE IF EXISTS ${table}`;
export const SELECT_VERSION = 'SELECT version() AS version FORMAT JSONEachRow';
/** Merges all parts, so that no row is there twice. */
export const mergeParts = (table: string) => `OPTIMIZE TABLE ${table} FINAL`;
export const selectTables = (database: string, table: string) =>
  `SELECT name FROM system.tables WHERE database = ${quote(database)} AND name = ${quote(table)} FORMAT JSONEachRow`;

/** Selects the names of all tables that end so. */
export const selectEnding = (database: string, ending: string) =>
  `SELECT name FROM system.tables WHERE database = ${quote(database)} AND endsWith(name, ${quote(ending)}) ORDER BY name FORMAT JSONEachRow`;

export function deleteRows(table: string, points: readonly Point[]): string {
  const keys = points.map(
    ({ series, windowStart, instance }) => `(${windowStart}, ${quote(series.id)}, ${quote(instance)})`,
  );
  return `ALTER TABLE ${table} DELETE WHERE (window_start, series_id, instance) IN (${keys.join(', ')})`;
}

export const quoteName = (name: string) => `\`${name}\``;

function quote(text: string): string {
  return `'${text.replace(/[\\']/g, '\\$&')}'`;
}

/** Returns why a row cannot hold the point unchanged; undefined if it can. */
export function refusal(point: Point): Omit<Rejection, 'index'> | undefined {
  const { series } = point;
  const unfit = unfitNumber(point);
  if (unfit !== undefined) return unfit;
  // UTF-8 cannot hold half of a surrogate pair: it would come back as U+FFFD.
  if (!series.name.isWellFormed() || !series.dimensions.flat().every((text) => text.isWellFormed())) {
    return { reason: 'invalid_value', message: 'the name or a dimension is not well-formed Unicode' };
  }
  return undefined;
}

export function encodeRows(points: Iterable<Point>, hasSketch: boolean): Buffer {
  const writer = new RowBinaryWriter();
  for (const point of points) {
    const { series, windowStart, windowMs, instance, count, sum } = point;
    writer.int64(windowStart);
    writer.int64(windowMs);
    for (const text of [series.id, instance, series.name, series.type]) writer.string(text);
    for (const part of [0, 1] as const) {
      writer.size(series.dimensions.length);
      for (const dimension of series.dimensions) writer.string(dimension[part]);
    }
    writer.int64(count);
    writer.float64(sum);
    for (const field of ALL_FIELDS) {
      if (field !== 'count' && field !== 'sum') writer.nullableFloat64(point[field]);
    }
    if (hasSketch) writer.nullableString(point.sketch ?? null);
  }
  return writer.finish();
}

export interface Row extends PointValues {
  readonly window_start: number;
  readonly series_id: string;
  readonly instance: string;
  readonly name: string;
  readonly type: string;
  readonly dimension_keys: readonly string[];
  readonly dimension_values: readonly string[];
  readonly sketch?: string | null;
}

export function decodeRow(row: Row): StoredPoint {
  const type = METRIC_TYPES.find((known) => known === row.type) ?? 'counter';
  const dimensions = row.dimension_keys.map((key, i) => [key, row.dimension_values[i] ?? ''] as const);
  const values = Object.fromEntries(ALL_FIELDS.map((field) => [field, row[field]]));
  return {
    ...(values as unknown as PointValues),
    series: { ...makeSeries(row.name, type, dimensions), id: row.series_id },
    windowStart: row.window_start,
    instance: row.instance,
    ...storedSketch(row.sketch),
  };
}
