/** Statements and rows that the sinks for the PostgreSQL protocol share. Pure. */
import { ALL_FIELDS, type MetricType } from '../../aggregate/point.ts';
import { storedSeries } from '../../aggregate/series.ts';
import type { AnswerRow, Query, QueryRow, Question, StoredPoint } from '../contract.ts';
import { addUp, dimensionIn, storedSketch } from '../rows.ts';

/** The years 1 to 9999. Outside them, a year does not have four digits. */
export const MIN_TIME_MS = -62_135_596_800_000;
export const MAX_TIME_MS = 253_402_300_799_999;

/** Type OIDs of the wire protocol. */
export const PG_TYPES = {
  int4: 23,
  int8: 20,
  float8: 701,
  text: 25,
  bpchar: 1042,
  varchar: 1043,
  timestamp: 1114,
} as const;

/** The lowest statement timeout. It is longer if the timeout of a write is longer. */
const STATEMENT_TIMEOUT_MS = 60_000;
/** How long the server waits for our next statement in a transaction. */
const IDLE_TIMEOUT_MS = 30_000;

/** What the statements depend on. */
export interface PgServer {
  readonly isRedshift: boolean;
  /** Whether it can end a session that is idle in a transaction: PostgreSQL since 9.6. */
  readonly endsIdle: boolean;
}

/** The time limit of a statement. A statement can outlive an aborted write by at most that. */
export function statementTimeout(timeoutMs = 0): number {
  return Math.max(timeoutMs, STATEMENT_TIMEOUT_MS);
}

export function quotedTable(table: string): string {
  return table
    .split('.')
    .map((part) => `"${part}"`)
    .join('.');
}

/**
 * Begins a transaction. Nothing that we set outlives it, nor does any table, cursor or statement of ours: behind a
 * pooler, the next transaction may run in another session, and somebody else's in this one. Every statement sees what
 * was committed before it, whatever the database's default; on Redshift, what was committed before the transaction's
 * first CREATE, INSERT or DELETE.
 */
export function begin({ isRedshift, endsIdle }: PgServer, timeoutMs: number): string {
  const idle = endsIdle ? `;\nSET LOCAL idle_in_transaction_session_timeout TO ${IDLE_TIMEOUT_MS}` : '';
  const level = isRedshift ? '' : ' ISOLATION LEVEL READ COMMITTED';
  return `BEGIN${level};\nSET LOCAL statement_timeout TO ${timeoutMs}${idle}`;
}

/**
 * Begins a transaction that reads. With two extra digits, a double comes back unchanged. PostgreSQL writes them by
 * default, Redshift does not.
 */
export function beginReading(server: PgServer, timeoutMs: number): string {
  return `${begin(server, timeoutMs)};\nSET LOCAL extra_float_digits TO 2;\nSET LOCAL datestyle TO ISO`;
}

/** Returns a transaction in one text, which is sent whole. */
export function transaction(server: PgServer, timeoutMs: number, statements: string): string {
  return `${begin(server, timeoutMs)};\n${statements};\nCOMMIT`;
}

/** The first half of the key of our advisory locks: FANO in ASCII, which nobody else has. The second is the table. */
const LOCK_SPACE = 0x46_41_4e_4f;

/**
 * Takes an advisory lock on the table until the transaction ends: a lock that conflicts with no statement but this one.
 * PostgreSQL only.
 */
export function lockWrites(table: string, how: 'shared' | 'alone'): string {
  const suffix = how === 'shared' ? '_shared' : '';
  return `SELECT pg_advisory_xact_lock${suffix}(${LOCK_SPACE}, '${quotedTable(table)}'::regclass::oid::int)`;
}

/** Returns the text as a literal that does not depend on the settings of the session. */
export function pgLiteral(text: string): string {
  return `E'${text.replace(/['\\]/g, (character) => character + character)}'`;
}

/** Returns the time in UTC without a zone, so that the time zone of the session does not matter. */
/** The last one: all rows of a window have the same. */
let stamped = { ms: Number.NaN, text: '' };

export function timestamp(ms: number): string {
  if (ms !== stamped.ms) stamped = { ms, text: new Date(ms).toISOString().slice(0, -1).replace('T', ' ') };
  return stamped.text;
}

export function fromTimestamp(text: string): number {
  return Date.parse(`${text.replace(' ', 'T')}Z`);
}

/** Returns a statement that selects no row, only the columns. */
export function describeTable(table: string): string {
  return `SELECT * FROM ${quotedTable(table)} WHERE 1 = 0`;
}

/** Returns the condition for the rows of a range. */
export function within(from: number, to: number): string {
  const first = timestamp(Math.max(from, MIN_TIME_MS));
  return `"window_start" >= '${first}' AND "window_start" < '${timestamp(Math.min(to, MAX_TIME_MS))}'`;
}

/** Whether a text of the server's can be the same: it has no NUL and no half of a surrogate pair. */
export function isPgText(text: string): boolean {
  return text.isWellFormed() && !text.includes('\0');
}

/** What stands for other text in JSON. The server's functions for JSON fail if a row has it anywhere. */
const NO_PG_TEXT = '\\\\u(0000|d[89a-f])';

/**
 * Returns the statement that answers a question, and its parameters; undefined if no row can be asked for. Of rows that
 * the server cannot take apart, it selects all dimensions. Redshift has no type for JSON.
 */
export function pgQuestion(
  table: string,
  question: Question,
  { isRedshift }: PgServer,
): readonly [text: string, values: string[]] | undefined {
  const { from, to } = question.range;
  const source = `sum("count") AS count, sum("sum") AS sum\nFROM ${quotedTable(table)} WHERE ${within(from, to)}`;
  if (question.kind === 'windows') {
    const text = `SELECT "window_start" AS key, ${source} AND "series_id" = $1 GROUP BY 1`;
    return [text, [question.series.id]];
  }
  const { name, type, dimension } = question;
  if (!isPgText(name)) return undefined;
  const json = isRedshift ? '"dimensions"' : '"dimensions"::json';
  const [value, values] = isPgText(dimension)
    ? [`coalesce(json_extract_path_text(${json}, $4), '')`, [dimension]]
    : ["CAST('' AS varchar(1))", []];
  const isOdd = '"dimensions" ~ $1';
  const key = `CASE WHEN ${isOdd} THEN NULL ELSE ${value} END AS key`;
  const odd = `CASE WHEN ${isOdd} THEN "dimensions" END AS odd`;
  const text = `SELECT ${key}, ${odd}, ${source} AND "name" = $2 AND "type" = $3 GROUP BY 1, 2`;
  return [text, [NO_PG_TEXT, name, type, ...values]];
}

type Cells = Readonly<Record<string, string | null>>;

export function pgAnswer(question: Question, rows: readonly Cells[]): AnswerRow[] {
  const keyOf = ({ key, odd }: Cells) => {
    if (question.kind === 'windows') return String(fromTimestamp(key ?? ''));
    return key ?? dimensionIn(odd ?? '{}', question.dimension);
  };
  return addUp(rows.map((row) => ({ key: keyOf(row), count: Number(row.count), sum: Number(row.sum) })));
}

/**
 * Returns the statement that answers a question of a trial, and its parameters. The columns are k0, k1 and so on, and
 * `value`. Only rows of the name are taken apart: their dimensions have no text that the server cannot.
 */
export function pgQuery(table: string, query: Query): readonly [text: string, values: string[]] {
  const { from, to } = query.range;
  const source = `FROM ${quotedTable(table)} WHERE ${within(from, to)}`;
  switch (query.kind) {
    case 'sums': {
      const { name, type, where, by, stepMs, top } = query;
      const values = [name, type];
      const parameter = (text: string) => `$${values.push(text)}`;
      const dimension = (key: string) =>
        `coalesce(json_extract_path_text("dimensions"::json, ${parameter(key)}), '')`;
      const seconds = `extract(epoch FROM "window_start") * 1000`;
      const keys = [
        ...(stepMs === undefined ? [] : [`(floor(${seconds} / ${stepMs}) * ${stepMs})::bigint`]),
        ...by.map(dimension),
      ];
      const columns = keys.map((key, index) => `${key} AS k${index}`);
      const isMeant = '"name" = $1 AND "type" = $2';
      // CASE: a condition of its own might be looked at before the name.
      const same = where.map(
        ([key, value]) =>
          ` AND CASE WHEN ${isMeant} THEN ${dimension(key)} = ${parameter(value)} ELSE false END`,
      );
      const grouped = keys.length === 0 ? '' : ` GROUP BY ${keys.map((_, index) => index + 1).join(', ')}`;
      const limited = top === undefined ? '' : ` ORDER BY value DESC LIMIT ${top}`;
      const select = `SELECT ${[...columns, 'sum("sum") AS value'].join(', ')}`;
      return [`${select} ${source} AND ${isMeant}${same.join('')}${grouped}${limited}`, values];
    }
    case 'windows': {
      const start = `(extract(epoch FROM "window_start") * 1000)::bigint AS k0`;
      const text = `SELECT ${start}, sum("sum") AS value ${source} AND "series_id" = $1 GROUP BY "window_start"`;
      return [text, [query.series.id]];
    }
    case 'highest_p99':
      return [`SELECT max("p99") AS value ${source} AND "name" = $1 AND "type" = 'timer'`, [query.name]];
    case 'live_series':
      return [`SELECT count(DISTINCT "series_id") AS value ${source}`, []];
    default:
      return query satisfies never;
  }
}

export function pgQueryRows(rows: readonly Cells[]): QueryRow[] {
  return rows.flatMap(({ value = null, ...keys }) => {
    if (value === null) return [];
    const key = Object.keys(keys).map((_, index) => keys[`k${index}`] ?? '');
    return [{ key, value: Number(value) }];
  });
}

/** The key of a row, as the server writes it. */
export type RowKey = readonly [windowStart: string, seriesId: string, instance: string];

export function keyOfRow(row: Cells): RowKey {
  return [row.window_start ?? '', row.series_id ?? '', row.instance ?? ''];
}

export function isSameKey(a: RowKey, b: RowKey): boolean {
  return a.every((cell, index) => cell === b[index]);
}

/** Returns the point of a row. Cells are the server's own text: `pg` would parse timestamps in our time zone. */
export function pointOfRow(row: Cells): StoredPoint {
  const numbers = ALL_FIELDS.map((field) => {
    const text = row[field] ?? null;
    return [field, text === null ? null : Number(text)];
  });
  return {
    ...(Object.fromEntries(numbers) as Pick<StoredPoint, (typeof ALL_FIELDS)[number]>),
    series: storedSeries(row.series_id ?? '', row.name ?? '', row.type as MetricType, row.dimensions ?? '{}'),
    windowStart: fromTimestamp(row.window_start ?? ''),
    instance: row.instance ?? '',
    ...storedSketch(row.sketch),
  };
}
