/**
 * A point as a row, and back; the statements. Pure. Every statement is valid on Redshift and on PostgreSQL alike, but
 * for what `createTable` adds on one of them.
 */
import {
  ALL_FIELDS,
  columnValues,
  FIELDS,
  type MetricType,
  type Point,
  type Rejection,
  type StoredPoint,
  storedSeries,
  type WindowRange,
} from '../../src/sink/index.ts';

const NAME_BYTES = 512;
const INSTANCE_BYTES = 128;
const DIMENSIONS_BYTES = 65_535;
/** The years 1 to 9999: beyond, a time is not written with four digits for the year. */
const MIN_TIME_MS = -62_135_596_800_000;
const MAX_TIME_MS = 253_402_300_799_999;
/** UTF-8 takes at most three bytes for a UTF-16 code unit. */
const MAX_BYTES_PER_UNIT = 3;

interface Column {
  readonly name: string;
  readonly type: string;
  /** What `type` may be in a table that is there already, as type OIDs of the wire protocol. */
  readonly oids: readonly number[];
  readonly required: boolean;
}

const INT4 = 23;
const INT8 = 20;
const FLOAT8 = 701;
const TEXTS = [1043, 1042, 25];
const TIMESTAMP = 1114;

/** In the order in which `toRow` returns the values. */
export const COLUMNS: readonly Column[] = [
  { name: 'window_start', type: 'timestamp', oids: [TIMESTAMP], required: true },
  { name: 'window_ms', type: 'int', oids: [INT4, INT8], required: true },
  { name: 'series_id', type: 'char(32)', oids: TEXTS, required: true },
  { name: 'instance', type: `varchar(${INSTANCE_BYTES})`, oids: TEXTS, required: true },
  { name: 'name', type: `varchar(${NAME_BYTES})`, oids: TEXTS, required: true },
  { name: 'type', type: 'varchar(16)', oids: TEXTS, required: true },
  { name: 'dimensions', type: `varchar(${DIMENSIONS_BYTES})`, oids: TEXTS, required: true },
  { name: 'count', type: 'bigint', oids: [INT8], required: true },
  { name: 'sum', type: 'double precision', oids: [FLOAT8], required: true },
  ...['min', 'max', 'last', 'p50', 'p90', 'p95', 'p99'].map((name) => ({
    name,
    type: 'double precision',
    oids: [FLOAT8],
    required: false,
  })),
];

export const NAMES = COLUMNS.map(({ name }) => `"${name}"`).join(', ');
const KEY = ['window_start', 'series_id', 'instance'];
/** Of the connection; LIKE gives it the columns of the table. */
export const STAGE = 'fanout_stage';
const READ = 'fanout_read';
/** A statement takes 32,767 parameters; 500 rows of 16 are the fastest. */
export const ROWS_PER_INSERT = 500;

/** At least; a write may take longer where its own timeout says so. */
const STATEMENT_TIMEOUT_MS = 60_000;
/**
 * Of each connection. A statement outlives an aborted write by its timeout at most. Two extra digits are all that a
 * double needs to come back as it was; PostgreSQL has them by default, Redshift has not.
 */
export function session(timeoutMs = 0): string {
  return `SET statement_timeout TO ${Math.max(timeoutMs, STATEMENT_TIMEOUT_MS)};
SET extra_float_digits TO 2;
SET datestyle TO ISO`;
}

function quoted(table: string): string {
  return table
    .split('.')
    .map((part) => `"${part}"`)
    .join('.');
}

/**
 * Keys are not enforced on Redshift, where the rows of a series lie on one node, sorted by time. On PostgreSQL an index
 * saves the merge from reading the whole table.
 */
export function createTable(table: string, isRedshift: boolean): string {
  const columns = COLUMNS.map(
    ({ name, type, required }) => `"${name}" ${type}${required ? ' NOT NULL' : ''}`,
  );
  const create = `CREATE TABLE ${quoted(table)} (${columns.join(', ')})`;
  return isRedshift
    ? `${create} DISTKEY("series_id") SORTKEY("window_start")`
    : `${create}; CREATE INDEX ON ${quoted(table)} ("window_start")`;
}

/** Returns no row, but the columns. */
export function describeTable(table: string): string {
  return `SELECT * FROM ${quoted(table)} WHERE 1 = 0`;
}

export function addColumn(table: string, column: Column): string {
  return `ALTER TABLE ${quoted(table)} ADD COLUMN "${column.name}" ${column.type}`;
}

export function createStage(table: string): string {
  return `CREATE TEMP TABLE ${STAGE} (LIKE ${quoted(table)})`;
}

/** TRUNCATE commits on Redshift: it must stand outside of a transaction. */
export const CLEAR_STAGE = `TRUNCATE ${STAGE}`;

const TUPLES = new Map<number, string>();

export function insertIntoStage(rows: number): string {
  let text = TUPLES.get(rows);
  if (text === undefined) {
    const tuple = (row: number) => `(${COLUMNS.map((_, i) => `$${row * COLUMNS.length + i + 1}`).join(',')})`;
    text = `INSERT INTO ${STAGE} (${NAMES}) VALUES ${Array.from({ length: rows }, (_, row) => tuple(row)).join(',')}`;
    TUPLES.set(rows, text);
  }
  return text;
}

/**
 * Deletes by key what is staged, in a transaction that begins with the lock: Redshift takes a transaction's snapshot at
 * its first CREATE, INSERT or DELETE, and what another writer commits after that would be neither seen nor deleted. One
 * text, sent as a whole, so that no network failure leaves the lock held. The range lets the store skip blocks.
 */
function replaceStaged(table: string, points: readonly Point[], insert: string): string {
  const [from, to] = span(points);
  const t = quoted(table);
  const column = (name: string) => `"${table.split('.').at(-1)}"."${name}"`;
  return `BEGIN;
LOCK ${t};
DELETE FROM ${t} USING ${STAGE} s
WHERE ${column('window_start')} >= '${timestamp(from)}' AND ${column('window_start')} <= '${timestamp(to)}'
AND ${KEY.map((name) => `${column(name)} = s."${name}"`).join(' AND ')};
${insert}COMMIT`;
}

export function mergeStage(table: string, points: readonly Point[]): string {
  const insert = `INSERT INTO ${quoted(table)} (${NAMES}) SELECT ${NAMES} FROM ${STAGE};\n`;
  return replaceStaged(table, points, insert);
}

export function deleteStaged(table: string, points: readonly Point[]): string {
  return replaceStaged(table, points, '');
}

/**
 * Copies the range aside, to be read at leisure: a cursor on the table itself would keep its lock for as long as the
 * reader takes, and the LOCK of every writer waiting. Redshift materialises a cursor's rows anyway.
 */
export function copyRange(table: string, range: WindowRange): string {
  return `CREATE TEMP TABLE ${READ} AS SELECT ${NAMES} FROM ${quoted(table)} WHERE ${within(range.from, range.to)}`;
}

export const OPEN_CURSOR = `BEGIN; DECLARE fanout_cursor CURSOR FOR SELECT ${NAMES} FROM ${READ}`;

export function fetchRows(rows: number): string {
  return `FETCH FORWARD ${rows} FROM fanout_cursor`;
}

/** Of a transaction that answers a question: writers wait for the lock that it holds on the table. */
export function beginQuestion(timeoutMs: number): string {
  return `BEGIN; SET LOCAL statement_timeout TO ${timeoutMs}`;
}

/** Parameters: the dimension, the name, the type. PostgreSQL has a type for JSON and Redshift has not. */
export function selectSums(table: string, { from, to }: WindowRange, isRedshift: boolean): string {
  const json = isRedshift ? '"dimensions"' : '"dimensions"::json';
  return `SELECT coalesce(json_extract_path_text(${json}, $1), '') AS key, sum("count") AS count, sum("sum") AS sum
FROM ${quoted(table)} WHERE ${within(from, to)} AND "name" = $2 AND "type" = $3 GROUP BY 1`;
}

/** Parameter: the series' id. */
export function selectWindows(table: string, { from, to }: WindowRange): string {
  return `SELECT "window_start" AS key, sum("count") AS count, sum("sum") AS sum
FROM ${quoted(table)} WHERE ${within(from, to)} AND "series_id" = $1 GROUP BY 1`;
}

function within(from: number, to: number): string {
  const first = timestamp(Math.max(from, MIN_TIME_MS));
  return `"window_start" >= '${first}' AND "window_start" < '${timestamp(Math.min(to, MAX_TIME_MS))}'`;
}

/** One number, of bytes, or none where the server does not tell. Redshift counts in blocks of 1 MB. */
export function selectSize(table: string, isRedshift: boolean): string {
  if (!isRedshift) return `SELECT pg_total_relation_size('${quoted(table)}') AS bytes`;
  const [name, schema] = table.split('.').reverse();
  const ofSchema = schema === undefined ? '' : ` AND "schema" = '${schema}'`;
  return `SELECT sum(size) * 1048576 AS bytes FROM svv_table_info WHERE "table" = '${name}'${ofSchema}`;
}

function span(points: readonly Point[]): [from: number, to: number] {
  let from = Number.POSITIVE_INFINITY;
  let to = Number.NEGATIVE_INFINITY;
  for (const { windowStart } of points) {
    if (windowStart < from) from = windowStart;
    if (windowStart > to) to = windowStart;
  }
  return [from, to];
}

/** UTC, and without a zone, so that the time zone of the session does not matter. */
export function timestamp(ms: number): string {
  return new Date(ms).toISOString().slice(0, -1).replace('T', ' ');
}

export function fromTimestamp(text: string): number {
  return Date.parse(`${text.replace(' ', 'T')}Z`);
}

/** Why a row cannot hold the point as it is; undefined where it can. */
export function refusal(point: Point): Omit<Rejection, 'index'> | undefined {
  const { series } = point;
  for (const field of FIELDS[series.type]) {
    if (!Number.isFinite(point[field])) {
      return { reason: 'invalid_value', message: `${field} is ${point[field]}, not a finite number` };
    }
  }
  if (!Number.isSafeInteger(point.count)) {
    return { reason: 'invalid_value', message: `count is ${point.count}, over 2^53 - 1 or not whole` };
  }
  if (!(point.windowStart >= MIN_TIME_MS && point.windowStart < MAX_TIME_MS)) {
    return {
      reason: 'invalid_value',
      message: `the window ${point.windowStart} is not within the years 1 to 9999`,
    };
  }
  // In `dimensions` JSON escapes both.
  if (!series.name.isWellFormed() || series.name.includes('\0')) {
    return { reason: 'invalid_value', message: 'the name has a NUL or is not well-formed Unicode' };
  }
  return (
    tooLong('name', series.name, NAME_BYTES) ??
    tooLong('instance', point.instance, INSTANCE_BYTES) ??
    tooLong('dimensions', series.dimensionsJson, DIMENSIONS_BYTES)
  );
}

/** The length of a varchar counts bytes on Redshift. */
function tooLong(what: string, text: string, maxBytes: number): Omit<Rejection, 'index'> | undefined {
  if (text.length * MAX_BYTES_PER_UNIT <= maxBytes) return undefined;
  const bytes = Buffer.byteLength(text);
  if (bytes <= maxBytes) return undefined;
  return { reason: 'too_large', message: `${what} takes ${bytes} bytes, over ${maxBytes}` };
}

export type Cell = string | number | null;

export function toRow(point: Point): Cell[] {
  return [timestamp(point.windowStart), ...columnValues(point)];
}

/** Cells are text, as they came: what `pg` makes of a timestamp depends on our time zone. */
export function fromRow(row: Readonly<Record<string, string | null>>): StoredPoint {
  const numbers = ALL_FIELDS.map((field) => {
    const text = row[field] ?? null;
    return [field, text === null ? null : Number(text)];
  });
  return {
    ...(Object.fromEntries(numbers) as Pick<StoredPoint, (typeof ALL_FIELDS)[number]>),
    series: storedSeries(row.series_id ?? '', row.name ?? '', row.type as MetricType, row.dimensions ?? '{}'),
    windowStart: fromTimestamp(row.window_start ?? ''),
    instance: row.instance ?? '',
  };
}
