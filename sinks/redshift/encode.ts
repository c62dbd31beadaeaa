/**
 * Points to rows and back, and the statements. Pure. Every statement is valid on both Redshift and PostgreSQL, except
 * where it depends on `isRedshift`.
 */
import {
  begin,
  columnValues,
  FIELDS,
  isPgText,
  MAX_TIME_MS,
  MIN_TIME_MS,
  MISCOUNTED,
  PG_TYPES,
  type PgServer,
  type Point,
  quotedTable,
  type Rejection,
  selectArrays,
  timestamp,
  type WindowRange,
  within,
} from '../../src/sink/index.ts';
import { type RedshiftConfig, STAGE } from './config.ts';

const NAME_BYTES = 512;
const INSTANCE_BYTES = 128;
const DIMENSIONS_BYTES = 65_535;
/** A UTF-16 code unit takes at most three bytes in UTF-8. */
const MAX_BYTES_PER_UNIT = 3;

interface Column {
  readonly name: string;
  readonly type: string;
  /** The types that we accept in an existing table, as type OIDs of the wire protocol. */
  readonly oids: readonly number[];
  readonly required: boolean;
}

const { int4: INT4, int8: INT8, float8: FLOAT8, timestamp: TIMESTAMP } = PG_TYPES;
const TEXTS = [PG_TYPES.varchar, PG_TYPES.bpchar, PG_TYPES.text];

/** In the order in which `toRow` returns the values. */
const COLUMNS: readonly Column[] = [
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

/** As long as a text of Redshift's may be: a sketch is shorter. */
const SKETCH: Column = { name: 'sketch', type: 'varchar(65535)', oids: TEXTS, required: false };

/** The columns, with the one that a setting adds. */
export function columnsOf(hasSketch: boolean): readonly Column[] {
  return hasSketch ? [...COLUMNS, SKETCH] : COLUMNS;
}

export function namesOf(hasSketch: boolean): string {
  return columnsOf(hasSketch)
    .map(({ name }) => `"${name}"`)
    .join(', ');
}

const KEY = ['window_start', 'series_id', 'instance'];
/** A statement takes 32,767 parameters. 500 rows of 16 values are the fastest. */
export const ROWS_PER_INSERT = 500;

export const SELECT_VERSION = 'SELECT version() AS version';
export const SELECT_ENDS_IDLE = `SELECT 1 FROM pg_settings WHERE name = 'idle_in_transaction_session_timeout'`;

/**
 * Returns the statement that creates the table. Redshift enforces no keys; it keeps the rows of a series on one node,
 * sorted by time. On PostgreSQL, an index saves the merge from reading the whole table.
 */
export function createTable(table: string, isRedshift: boolean): string {
  const create = `CREATE TABLE ${quotedTable(table)} (${columnList(false)})`;
  return isRedshift
    ? `${create} DISTKEY("series_id") SORTKEY("window_start")`
    : `${create}; CREATE INDEX ON ${quotedTable(table)} ("window_start")`;
}

export function addColumn(table: string, column: Column): string {
  return `ALTER TABLE ${quotedTable(table)} ADD COLUMN "${column.name}" ${column.type}`;
}

/**
 * Returns the statements that make the stage. LIKE gives it the columns and the encodings of a table on Redshift. On
 * PostgreSQL it would hold a lock on the table while rows are staged, so there we name the columns.
 */
export function createStage(table: string, { isRedshift }: PgServer, hasSketch: boolean): string {
  if (isRedshift) return `CREATE TEMP TABLE ${STAGE} (LIKE ${quotedTable(table)})`;
  return `CREATE TEMP TABLE ${stageOf(isRedshift)} (${columnList(hasSketch)}) ON COMMIT DROP`;
}

/**
 * Returns the statements by which a transaction on Redshift begins to stage. Redshift takes the transaction's snapshot
 * at its first CREATE, INSERT or DELETE, and would neither see nor delete what another writer commits after that. So
 * there the lock comes first, and is held while rows are staged. PostgreSQL gets its lock in `mergeStage`.
 */
export function beginOnRedshift(table: string, server: PgServer, timeoutMs: number): string {
  return `${begin(server, timeoutMs)};\nLOCK ${quotedTable(table)};\n${createStage(table, server, false)}`;
}

/** Names the schema where another table of that name could come first on the search path. */
function stageOf(isRedshift: boolean): string {
  return isRedshift ? STAGE : `pg_temp.${STAGE}`;
}

function columnList(hasSketch: boolean): string {
  return columnsOf(hasSketch)
    .map(({ name, type, required }) => `"${name}" ${type}${required ? ' NOT NULL' : ''}`)
    .join(', ');
}

/** By the number of rows and of columns. */
const TUPLES = new Map<string, string>();

/** For PostgreSQL, which has arrays. Parameters: an array for each column. */
export const insertArrays = (hasSketch: boolean) =>
  `INSERT INTO ${stageOf(false)} (${namesOf(hasSketch)}) ${selectArrays(hasSketch)}`;

/** For Redshift, which has none. Parameters: the values of the rows. */
export function insertIntoStage(rows: number, hasSketch = false): string {
  const { length } = columnsOf(hasSketch);
  const key = `${rows} ${length}`;
  let tuples = TUPLES.get(key);
  if (tuples === undefined) {
    const tuple = (row: number) =>
      `(${Array.from({ length }, (_, i) => `$${row * length + i + 1}`).join(',')})`;
    tuples = Array.from({ length: rows }, (_, row) => tuple(row)).join(',');
    TUPLES.set(key, tuples);
  }
  return `INSERT INTO ${STAGE} (${namesOf(hasSketch)}) VALUES ${tuples}`;
}

/**
 * Returns the statements that end the staging transaction: they delete the staged keys from the table, insert what
 * `insert` says, and commit. They are one text, sent whole, so that on PostgreSQL no network failure leaves the lock
 * held. Its mode keeps out other writers, not readers. The range lets the store skip blocks.
 */
function replaceStaged(
  table: string,
  points: readonly Point[],
  { isRedshift }: PgServer,
  insert: string,
): string {
  const [from, to] = span(points);
  const t = quotedTable(table);
  const column = (name: string) => `"${table.split('.').at(-1)}"."${name}"`;
  return `${isRedshift ? '' : `LOCK TABLE ${t} IN SHARE ROW EXCLUSIVE MODE;\n`}DELETE FROM ${t} USING ${stageOf(isRedshift)}
WHERE ${column('window_start')} >= '${timestamp(from)}' AND ${column('window_start')} <= '${timestamp(to)}'
AND ${KEY.map((name) => `${column(name)} = ${STAGE}."${name}"`).join(' AND ')};
${insert};
${isRedshift ? `DROP TABLE ${STAGE};\n` : ''}COMMIT`;
}

/**
 * The merge proves its own count: unless it inserts as many rows as there are points, it fails and commits nothing.
 * Redshift has no RETURNING, nor anything that could drop rows between the stage and the table.
 */
export function mergeStage(
  table: string,
  points: readonly Point[],
  server: PgServer,
  hasSketch: boolean,
): string {
  const names = namesOf(hasSketch);
  const insert = `INSERT INTO ${quotedTable(table)} (${names}) SELECT ${names} FROM ${stageOf(server.isRedshift)}`;
  const proven = server.isRedshift
    ? `${proveStaged(points.length, server)};\n${insert}`
    : `WITH merged AS (${insert} RETURNING 1) ${proveCount(points.length, 'merged')}`;
  return replaceStaged(table, points, server, proven);
}

export function deleteStaged(table: string, points: readonly Point[], server: PgServer): string {
  return replaceStaged(table, points, server, proveStaged(points.length, server));
}

/** Returns a statement that fails unless the stage has so many rows. */
export function proveStaged(rows: number, { isRedshift }: PgServer): string {
  return proveCount(rows, stageOf(isRedshift));
}

function proveCount(rows: number, source: string): string {
  const wrong = `'${MISCOUNTED} ' || CAST(count(*) AS varchar(20)) || ' of ${rows}'`;
  return `SELECT CAST(CASE WHEN count(*) = ${rows} THEN '1' ELSE ${wrong} END AS int) FROM ${source}`;
}

/**
 * Selects a page of the range, in the order of the keys: from the start, or from the key in the parameters on, which
 * belongs to the page if `inclusive`. Each page is a transaction, so however slow the reader, it holds no lock that
 * writers wait for.
 */
export function selectPage(
  { table, sketch }: Pick<RedshiftConfig, 'table' | 'sketch'>,
  range: WindowRange,
  rows: number,
  from?: 'at' | 'after',
): string {
  const [w, s, i] = KEY.map((name) => `"${name}"`);
  const past = `"instance" ${from === 'at' ? '>=' : '>'} $3`;
  const rest =
    from === undefined ? '' : ` AND ${w} >= $1 AND (${w} > $1 OR ${s} > $2 OR (${s} = $2 AND ${past}))`;
  return `SELECT ${namesOf(sketch)} FROM ${quotedTable(table)} WHERE ${within(range.from, range.to)}${rest}
ORDER BY ${w}, ${s}, ${i} LIMIT ${rows}`;
}

/** Selects the size in bytes; null or no row if the server does not say. Redshift counts in blocks of 1 MB. */
export function selectSize(table: string, isRedshift: boolean): string {
  if (!isRedshift) return `SELECT pg_total_relation_size('${quotedTable(table)}') AS bytes`;
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

/** Returns why a row cannot hold the point unchanged; undefined if it can. */
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
  // In `dimensions`, JSON escapes both.
  if (!isPgText(series.name)) {
    return { reason: 'invalid_value', message: 'the name has a NUL or is not well-formed Unicode' };
  }
  return (
    tooLong('name', series.name, NAME_BYTES) ??
    tooLong('instance', point.instance, INSTANCE_BYTES) ??
    tooLong('dimensions', series.dimensionsJson, DIMENSIONS_BYTES)
  );
}

/** Checks the length in bytes, because that is how Redshift counts the length of a varchar. */
function tooLong(what: string, text: string, maxBytes: number): Omit<Rejection, 'index'> | undefined {
  if (text.length * MAX_BYTES_PER_UNIT <= maxBytes) return undefined;
  const bytes = Buffer.byteLength(text);
  if (bytes <= maxBytes) return undefined;
  return { reason: 'too_large', message: `${what} takes ${bytes} bytes, over ${maxBytes}` };
}

export type Cell = string | number | null;

export function toRow(point: Point, hasSketch: boolean): Cell[] {
  const sketch = hasSketch ? [point.sketch ?? null] : [];
  return [timestamp(point.windowStart), ...columnValues(point), ...sketch];
}
