/** InfluxQL, which 1.x, 2 and 3 answer in the same way: statements, and the answer as it streams in. */
import {
  ALL_FIELDS,
  type AnswerRow,
  addUp,
  type Field,
  oneLine,
  type Point,
  type Query,
  type QueryRow,
  type Question,
  type Series,
  SinkError,
  type StoredPoint,
  type WindowRange,
} from '../../src/sink/index.ts';
import { refusal } from './classify.ts';
import {
  decodeSeries,
  escapeKey,
  escapeName,
  escapeValue,
  INSTANCE_TAG,
  instanceTag,
  TYPE_TAG,
  tagsOf,
  unescapeText,
} from './encode.ts';

/** The times that a server can hold, in ms: a signed 64-bit number of nanoseconds. */
const MIN_TIME_MS = -9_223_372_036_854;
const MAX_TIME_MS = 9_223_372_036_854;

/** One series of an answer, or a chunk of one. */
export interface Rows {
  readonly name: string;
  readonly tags?: Readonly<Record<string, string>>;
  readonly columns: readonly string[];
  /** Absent if there are none. */
  readonly values?: readonly (readonly unknown[])[];
}

interface Answer {
  readonly error?: string;
  readonly results?: readonly { readonly error?: string; readonly series?: readonly Rows[] }[];
}

export function identifier(text: string): string {
  return `"${text.replace(/["\\]/g, '\\$&')}"`;
}

function literal(text: string): string {
  return `'${text.replace(/['\\]/g, '\\$&')}'`;
}

function time(ms: number): string {
  return `${Math.min(Math.max(Math.ceil(ms), MIN_TIME_MS), MAX_TIME_MS)}ms`;
}

/** Selects every point of the windows in the range, by series. GROUP BY * makes the server return the tags. */
export function selectPoints(range: WindowRange): string {
  const fields = ALL_FIELDS.map(identifier).join(', ');
  return `SELECT ${fields} FROM /.*/ WHERE ${within(range)} GROUP BY *`;
}

/** Selects sums by the value of one tag. A series without the tag comes with an empty value. */
export function selectSums({ name, type, dimension, range }: Extract<Question, { kind: 'sums' }>): string {
  const where = `${within(range)} AND ${identifier(TYPE_TAG)} = ${literal(type)}`;
  return `SELECT sum("count") AS "count", sum("sum") AS "sum" FROM ${identifier(escapeName(name))} WHERE ${where} GROUP BY ${identifier(escapeKey(dimension))}`;
}

/** Selects the windows of all series that have this series' tags. GROUP BY * shows which of them have more tags. */
export function selectWindows({ series, range }: Extract<Question, { kind: 'windows' }>): string {
  const tags = tagsOf(series).map(([key, value]) => `${identifier(key)} = ${literal(value)}`);
  const where = [within(range), ...tags].join(' AND ');
  return `SELECT "count", "sum" FROM ${identifier(escapeName(series.name))} WHERE ${where} GROUP BY *`;
}

/** Selects the answer to a question of a trial. What is left to do after the answer: see `decodeQuery`. */
export function selectQuery(query: Query): string {
  const conditions = [within(query.range)];
  switch (query.kind) {
    case 'sums': {
      const { name, type, where, by, stepMs } = query;
      // An empty value is that of a series without the tag.
      const wanted = [[TYPE_TAG, type], ...where.map(([key, value]) => [escapeKey(key), escapeValue(value)])];
      conditions.push(...wanted.map(([key = '', value = '']) => `${identifier(key)} = ${literal(value)}`));
      const steps = stepMs === undefined ? [] : [`time(${stepMs}ms)`];
      const groups = [...steps, ...by.map((key) => identifier(escapeKey(key)))];
      const grouped = groups.length === 0 ? '' : ` GROUP BY ${groups.join(', ')}`;
      const fill = stepMs === undefined ? '' : ' fill(none)';
      const source = `FROM ${identifier(escapeName(name))} WHERE ${conditions.join(' AND ')}`;
      return `SELECT sum("sum") AS "value" ${source}${grouped}${fill}`;
    }
    case 'windows':
      return selectWindows({ ...query, kind: 'windows' });
    case 'highest_p99': {
      conditions.push(`${identifier(TYPE_TAG)} = ${literal('timer')}`);
      return `SELECT max("p99") AS "value" FROM ${identifier(escapeName(query.name))} WHERE ${conditions.join(' AND ')}`;
    }
    case 'live_series':
      // Every point has a count. The inner query has a row for each series.
      return `SELECT count("n") AS "value" FROM (SELECT count("count") AS "n" FROM /.*/ WHERE ${conditions[0]} GROUP BY *)`;
    default:
      return query satisfies never;
  }
}

/** InfluxQL orders groups by their tags only: of a top list, all rows come, and the largest are taken here. */
export function decodeQuery(query: Query, found: readonly Rows[]): QueryRow[] {
  if (query.kind === 'windows') {
    const rows = found.flatMap((some) => decodeWindows(some, query.series));
    return addUp(rows).map(({ key, sum }) => ({ key: [key], value: sum }));
  }
  const rows = found.flatMap(({ tags = {}, columns, values = [] }) =>
    values.flatMap((row): QueryRow[] => {
      const value = row[columns.indexOf('value')];
      if (typeof value !== 'number') return [];
      if (query.kind !== 'sums') return [{ key: [], value }];
      const step = query.stepMs === undefined ? [] : [String(row[columns.indexOf('time')])];
      const by = query.by.map((key) => unescapeText(tags[escapeKey(key)] ?? ''));
      return [{ key: [...step, ...by], value }];
    }),
  );
  // Each measurement has a count of its own.
  if (query.kind === 'live_series')
    return [{ key: [], value: rows.reduce((sum, { value }) => sum + value, 0) }];
  if (query.kind !== 'sums' || query.top === undefined) return rows;
  return rows.sort((a, b) => b.value - a.value).slice(0, query.top);
}

/** Marks a database as made by a trial: a measurement with a point in the year 2100, as that of the identity. */
const TRIAL = 'fanout_trial';
export const TRIAL_LINE = `${TRIAL} made=1i ${4_102_444_800_000}`;
export const SELECT_TRIAL = `SELECT "made" FROM ${identifier(TRIAL)}`;

function within({ from, to }: WindowRange): string {
  return `time >= ${time(from)} AND time < ${time(to)}`;
}

export function decodeSums({ tags = {}, columns, values = [] }: Rows, dimension: string): AnswerRow[] {
  const key = unescapeText(tags[escapeKey(dimension)] ?? '');
  return values.map((row) => ({ key, ...countAndSum(columns, row) }));
}

/** Returns no rows if the series is a different one. */
export function decodeWindows({ name, tags = {}, columns, values = [] }: Rows, series: Series): AnswerRow[] {
  if (decodeSeries(name, tags)?.series.id !== series.id) return [];
  return values.map((row) => ({ key: String(row[columns.indexOf('time')]), ...countAndSum(columns, row) }));
}

function countAndSum(columns: readonly string[], row: readonly unknown[]): { count: number; sum: number } {
  const of = (name: string) => Number(row[columns.indexOf(name)] ?? 0);
  return { count: of('count'), sum: of('sum') };
}

/**
 * The measurement that holds the identity of the database, as a tag. Its points are in the year 2100, beyond every
 * retention. Each is an offer; of several, the first that was made, and `sure` says that it is the one that counts.
 */
const STORE = 'fanout_store';
const STORE_TIME_MS = 4_102_444_800_000;
export const SELECT_STORE = `SELECT "made", "sure" FROM ${identifier(STORE)} WHERE time = ${time(STORE_TIME_MS)} GROUP BY "identity"`;

export interface Offer {
  readonly identity: string;
  readonly made: number;
  readonly isSure: boolean;
}

export function storeLine({ identity, made, isSure }: Offer): string {
  return `${STORE},identity=${identity} made=${made}i${isSure ? ',sure=true' : ''} ${STORE_TIME_MS}`;
}

/** Returns the one that counts; if none is sure, the one that was made first; undefined if there is none. */
export function decodeStore(found: readonly Rows[]): Offer | undefined {
  const offers = found.flatMap(({ tags = {}, columns, values = [] }) =>
    values.map((row) => ({
      identity: tags.identity ?? '',
      made: Number(row[columns.indexOf('made')]),
      isSure: row[columns.indexOf('sure')] === true,
    })),
  );
  const [first] = offers.sort(
    (a, b) => Number(b.isSure) - Number(a.isSure) || a.made - b.made || (a.identity < b.identity ? -1 : 1),
  );
  return first;
}

/** The measurement that holds the receipts, likewise: see `Sink.receipt`. */
const RECEIPTS = 'fanout_receipts';

/** Has no characters that mean anything in line protocol or InfluxQL. */
const plain = (writer: string) => encodeURIComponent(writer).replaceAll("'", '%27');

export function selectReceipt(writer: string): string {
  return `SELECT "until" FROM ${identifier(RECEIPTS)} WHERE time = ${time(STORE_TIME_MS)} AND "writer" = ${literal(plain(writer))}`;
}

export function receiptLine(writer: string, at: number): string {
  return `${RECEIPTS},writer=${plain(writer)} until=${at}i ${STORE_TIME_MS}`;
}

export function decodeReceipt(found: readonly Rows[]): number | undefined {
  const times = found.flatMap(({ columns, values = [] }) =>
    values.map((row) => Number(row[columns.indexOf('until')])),
  );
  return times.length === 0 ? undefined : Math.max(...times);
}

/** On 1.x, returns statistics of each shard, with its database among the tags. */
export const SHOW_SHARDS = "SHOW STATS FOR 'shard'";

/** Returns the bytes of one shard; 0 if it belongs to another database. */
export function shardBytes({ tags = {}, columns, values = [] }: Rows, database: string): number {
  if (tags.database !== database) return 0;
  return Number(values[0]?.[columns.indexOf('diskBytes')] ?? 0);
}

export function showTagKeys(measurement: string): string {
  return `SHOW TAG KEYS FROM ${identifier(measurement)}`;
}

export function measurementOf(point: Point): string {
  return escapeName(point.series.name);
}

/**
 * Deletes one point. `measurementKeys` are all tag keys of its measurement. The statement requires the keys that the
 * point lacks to be absent: otherwise it would also delete points of series with more dimensions.
 */
export function deletePoint(point: Point, measurementKeys: readonly string[]): string {
  const tags = new Map([
    ...measurementKeys.map((key): [string, string] => [key, '']),
    ...tagsOf(point.series),
  ]);
  if (point.instance !== '') tags.set(INSTANCE_TAG, instanceTag(point.instance));
  const conditions = Array.from(tags, ([key, value]) => `${identifier(key)} = ${literal(value)}`);
  const at = `time = ${time(point.windowStart)}`;
  return `DELETE FROM ${identifier(measurementOf(point))} WHERE ${[at, ...conditions].join(' AND ')}`;
}

/** Yields the series of an answer, chunk by chunk. Throws the server's errors, which come with status 200. */
export async function* readRows(body: AsyncIterable<Uint8Array>): AsyncGenerator<Rows> {
  for await (const line of readLines(body)) {
    const answer = JSON.parse(line) as Answer;
    for (const result of [answer, ...(answer.results ?? [])]) {
      if (result.error !== undefined) throw answerError(result.error);
    }
    for (const result of answer.results ?? []) yield* result.series ?? [];
  }
}

/** The column of InfluxDB 3 that says which measurement a row is of. */
const MEASUREMENT_COLUMN = 'iox::measurement';
const FIELD_NAMES: ReadonlySet<string> = new Set(ALL_FIELDS);

/**
 * Yields the rows of an answer of InfluxDB 3, a line of JSON each. Tags and fields are columns like any other, and a
 * column without a value is absent. No tag has the name of a field: see `escapeKey`.
 */
export async function* readRowsV3(body: AsyncIterable<Uint8Array>): AsyncGenerator<Rows> {
  for await (const line of readLines(body)) {
    const { [MEASUREMENT_COLUMN]: name, time, ...others } = JSON.parse(line) as Record<string, unknown>;
    if (typeof name !== 'string') continue;
    const tags: Record<string, string> = Object.create(null);
    const columns = ['time'];
    const row: unknown[] = [timeOf(time)];
    for (const [column, value] of Object.entries(others)) {
      if (FIELD_NAMES.has(column)) {
        columns.push(column);
        row.push(value);
      } else if (typeof value === 'string' && value !== '') tags[column] = value;
    }
    yield { name, tags, columns, values: [row] };
  }
}

/** A time has no zone, which means UTC. */
function timeOf(text: unknown): number {
  return Date.parse(/(?:Z|[+-]\d\d:?\d\d)$/.test(String(text)) ? String(text) : `${text}Z`);
}

const NO_DBRP =
  'Make a DBRP mapping for the bucket, because InfluxDB 2 deletes by InfluxQL only through a default one: influx v1 dbrp create --db DATABASE --rp POLICY --bucket-id ID --default, where the name of the bucket is DATABASE/POLICY.';

function answerError(error: string): Error {
  const message = oneLine(error);
  if (/^default retention policy not set for/.test(message))
    return new SinkError('bad_request', message, NO_DBRP);
  if (/not found/i.test(message)) return refusal('not_found', message);
  if (/authorized|permission|forbidden/i.test(message)) return refusal('unauthorized', message);
  return refusal('bad_request', message);
}

export async function* readLines(body: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const chunk of body) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n');
    rest = lines.pop()!;
    for (const line of lines) if (line !== '') yield line;
  }
  if (rest.trim() !== '') yield rest;
}

/** Yields the points in the rows; none if the series is not one of ours. */
export function* decodeRows(rows: Rows): Generator<StoredPoint> {
  const key = decodeSeries(rows.name, rows.tags ?? {});
  if (key === undefined) return;
  const at = rows.columns.indexOf('time');
  const columns = ALL_FIELDS.map((field) => [field, rows.columns.indexOf(field)] as const);
  for (const row of rows.values ?? []) {
    const values = Object.fromEntries(columns.map(([field, column]) => [field, row[column] ?? null]));
    if (typeof values.count !== 'number') continue;
    yield { ...key, windowStart: row[at] as number, ...(values as Record<Field, number>) };
  }
}
