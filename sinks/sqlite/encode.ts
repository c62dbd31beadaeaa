/** Points to rows of the table `points` and back, and the statements. Pure. */
import type { SQLInputValue, SQLOutputValue } from 'node:sqlite';
import {
  ALL_FIELDS,
  type AnswerRow,
  columnValues,
  dimensionIn,
  type MetricType,
  type Point,
  type Query,
  type QueryRow,
  type Rejection,
  type StoredPoint,
  storedSeries,
  storedSketch,
  unfitNumber,
} from '../../src/sink/index.ts';

/** The columns of the primary key, in order. Time comes first, so that the rows of a window are next to each other. */
export const KEY = ['window_start', 'series_id', 'instance'] as const;

/** In the order in which `toRow` returns the values. */
export const COLUMNS = {
  window_start: 'INTEGER NOT NULL',
  window_ms: 'INTEGER NOT NULL',
  series_id: 'TEXT NOT NULL',
  instance: 'TEXT NOT NULL',
  name: 'TEXT NOT NULL',
  type: 'TEXT NOT NULL',
  dimensions: 'TEXT NOT NULL',
  count: 'INTEGER NOT NULL',
  sum: 'REAL NOT NULL',
  min: 'REAL',
  max: 'REAL',
  last: 'REAL',
  p50: 'REAL',
  p90: 'REAL',
  p95: 'REAL',
  p99: 'REAL',
} as const;

/** The columns, with the one that a setting adds. */
export function columnsOf(hasSketch: boolean): Readonly<Record<string, string>> {
  return hasSketch ? { ...COLUMNS, sketch: 'TEXT' } : COLUMNS;
}

export const CREATE_TABLE = `CREATE TABLE IF NOT EXISTS points (${Object.entries(COLUMNS)
  .map(([name, type]) => `${name} ${type}`)
  .join(', ')}, PRIMARY KEY (${KEY.join(', ')})) WITHOUT ROWID`;

/** Holds one row: the identity of the file. It goes when the points go. */
export const CREATE_STORE = 'CREATE TABLE IF NOT EXISTS fanout_store (identity TEXT NOT NULL)';
export const NAME_STORE =
  'INSERT INTO fanout_store (identity) SELECT ? WHERE NOT EXISTS (SELECT 1 FROM fanout_store)';

/** See `Sink.receipt`. They go when the points go. */
export const CREATE_RECEIPTS =
  'CREATE TABLE IF NOT EXISTS fanout_receipts (writer TEXT PRIMARY KEY, time INTEGER NOT NULL) WITHOUT ROWID';
export const SELECT_RECEIPT = 'SELECT time FROM fanout_receipts WHERE writer = ?';
export const GIVE_RECEIPT = `INSERT INTO fanout_receipts (writer, time) VALUES (?, ?)
ON CONFLICT (writer) DO UPDATE SET time = max(time, excluded.time)`;

export const SELECT_STORE = 'SELECT identity FROM fanout_store';

export function upsertInto(hasSketch: boolean): string {
  const names = Object.keys(columnsOf(hasSketch));
  const changed = names.filter((name) => !(KEY as readonly string[]).includes(name));
  return `INSERT INTO points (${names.join(', ')}) VALUES (${names.map(() => '?').join(', ')})
ON CONFLICT (${KEY.join(', ')}) DO UPDATE SET ${changed.map((name) => `${name} = excluded.${name}`).join(', ')}`;
}

export const DELETE = `DELETE FROM points WHERE ${KEY.map((name) => `${name} = ?`).join(' AND ')}`;

export const selectRows = (hasSketch: boolean) =>
  `SELECT ${Object.keys(columnsOf(hasSketch)).join(', ')} FROM points WHERE window_start >= ? AND window_start < ?`;

/**
 * Deletes the oldest of the rows that are older than the newest one, and than now, by more than is kept. A clock that
 * is ahead deletes nothing.
 */
export const DELETE_OLD = `DELETE FROM points WHERE (${KEY.join(', ')}) IN (
  SELECT ${KEY.join(', ')} FROM points WHERE window_start < min(:now, (SELECT max(window_start) FROM points)) - :keep
  ORDER BY window_start LIMIT :most)`;

/** Whether the JSON has a NUL, where SQLite's functions end a text, or half of a surrogate pair, which is no UTF-8. */
const IS_ODD = `(instr(p.dimensions, '\\u0000') > 0 OR instr(p.dimensions, '\\ud') > 0)`;

/**
 * Selects the sums of a slice of time; of rows that SQLite cannot take apart, with all dimensions. A dimension's key
 * may be any text, so it cannot become a JSON path.
 */
export const SELECT_SUMS = `SELECT CASE WHEN ${IS_ODD} THEN NULL ELSE coalesce(d.value, '') END AS key,
  CASE WHEN ${IS_ODD} THEN p.dimensions END AS odd, sum(p.count) AS count, sum(p.sum) AS sum
FROM points p LEFT JOIN json_each(p.dimensions) d ON d.key = ? AND NOT ${IS_ODD}
WHERE p.window_start >= ? AND p.window_start < ? AND p.name = ? AND p.type = ? GROUP BY 1, 2`;

/** Steps from window to window, because the primary key begins with time: this reads no rows of other series. */
export const SELECT_WINDOWS = `WITH RECURSIVE windows(start) AS (
  SELECT min(window_start) FROM points WHERE window_start >= :from AND window_start < :to
  UNION ALL
  SELECT (SELECT min(window_start) FROM points WHERE window_start > start AND window_start < :to)
  FROM windows WHERE start IS NOT NULL
)
SELECT p.window_start AS key, sum(p.count) AS count, sum(p.sum) AS sum
FROM windows JOIN points p ON p.window_start = windows.start AND p.series_id = :series GROUP BY 1`;

export function toAnswer(
  { key, odd, count, sum }: Record<string, SQLOutputValue>,
  dimension?: string,
): AnswerRow {
  return {
    key: dimension !== undefined && key === null ? dimensionIn(String(odd), dimension) : String(key),
    count: Number(count),
    sum: Number(sum),
  };
}

/** Marks a file as made by a trial. */
export const CREATE_TRIAL = 'CREATE TABLE fanout_trial (mark TEXT NOT NULL)';
export const SELECT_TRIAL = "SELECT 1 FROM sqlite_schema WHERE name = 'fanout_trial'";

/** The value of a dimension, '' without it; its key is a parameter. A key may be any text, so it cannot be a path. */
const DIMENSION = "coalesce((SELECT value FROM json_each(dimensions) WHERE key = ?), '')";

/** Returns the statement that answers a question, and its parameters. The columns are k0, k1 and so on, and `value`. */
export function queryStatement(query: Query): readonly [sql: string, values: (string | number)[]] {
  const { from, to } = query.range;
  const within = 'window_start >= ? AND window_start < ?';
  switch (query.kind) {
    case 'sums': {
      const { name, type, where, by, stepMs, top } = query;
      const keys = [
        ...(stepMs === undefined ? [] : [`window_start / ${stepMs} * ${stepMs}`]),
        ...by.map(() => DIMENSION),
      ];
      const columns = keys.map((key, index) => `${key} AS k${index}`);
      const conditions = [within, 'name = ?', 'type = ?', ...where.map(() => `${DIMENSION} = ?`)];
      const grouped = keys.length === 0 ? '' : ` GROUP BY ${keys.map((_, index) => index + 1).join(', ')}`;
      const limited = top === undefined ? '' : ` ORDER BY value DESC LIMIT ${top}`;
      const select = `SELECT ${[...columns, 'sum(sum) AS value'].join(', ')} FROM points`;
      const sql = `${select} WHERE ${conditions.join(' AND ')}${grouped}${limited}`;
      return [sql, [...by, from, to, name, type, ...where.flat()]];
    }
    case 'windows':
      // As in SELECT_WINDOWS.
      return [
        `WITH RECURSIVE windows(start) AS (
  SELECT min(window_start) FROM points WHERE ${within}
  UNION ALL
  SELECT (SELECT min(window_start) FROM points WHERE window_start > start AND window_start < ?)
  FROM windows WHERE start IS NOT NULL
)
SELECT p.window_start AS k0, sum(p.sum) AS value
FROM windows JOIN points p ON p.window_start = windows.start AND p.series_id = ? GROUP BY 1`,
        [from, to, to, query.series.id],
      ];
    case 'highest_p99':
      return [
        `SELECT max(p99) AS value FROM points WHERE ${within} AND name = ? AND type = 'timer'`,
        [from, to, query.name],
      ];
    case 'live_series':
      return [`SELECT count(DISTINCT series_id) AS value FROM points WHERE ${within}`, [from, to]];
    default:
      return query satisfies never;
  }
}

export function toQueryRow(row: Record<string, SQLOutputValue>): QueryRow[] {
  const { value, ...keys } = row;
  if (value === null) return [];
  return [{ key: Object.keys(keys).map((_, index) => String(row[`k${index}`])), value: Number(value) }];
}

/** Returns why a row cannot hold the point unchanged; undefined if it can. */
export function refusal(point: Point): Omit<Rejection, 'index'> | undefined {
  const unfit = unfitNumber(point);
  if (unfit !== undefined) return unfit;
  // UTF-8 cannot hold a lone surrogate: it would come back as U+FFFD. In `dimensions`, JSON escapes it.
  if (!point.series.name.isWellFormed()) {
    return { reason: 'invalid_value', message: 'the name is not well-formed Unicode' };
  }
  return undefined;
}

export function toRow(point: Point, hasSketch: boolean): SQLInputValue[] {
  return [point.windowStart, ...columnValues(point), ...(hasSketch ? [point.sketch ?? null] : [])];
}

export function toKey(point: Point): SQLInputValue[] {
  return [point.windowStart, point.series.id, point.instance];
}

export function fromRow(row: Record<string, SQLOutputValue>): StoredPoint {
  const numbers = ALL_FIELDS.map((field) => [field, row[field]]);
  return {
    ...(Object.fromEntries(numbers) as Pick<StoredPoint, (typeof ALL_FIELDS)[number]>),
    series: storedSeries(
      String(row.series_id),
      String(row.name),
      row.type as MetricType,
      String(row.dimensions),
    ),
    windowStart: Number(row.window_start),
    instance: String(row.instance),
    ...storedSketch(row.sketch),
  };
}
