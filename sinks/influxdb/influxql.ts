/** InfluxQL, which 1.x, 2 and 3 answer alike: statements, and the answer as it streams in. */
import {
  ALL_FIELDS,
  type AnswerRow,
  type Field,
  oneLine,
  type Point,
  type Question,
  type Series,
  type StoredPoint,
  type WindowRange,
} from '../../src/sink/index.ts';
import { refusal } from './classify.ts';
import {
  decodeSeries,
  escapeKey,
  escapeName,
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
  /** Absent where there are none. */
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

/** Every point of the windows in the range, by series: GROUP BY * is what returns the tags. */
export function selectPoints(range: WindowRange): string {
  const fields = ALL_FIELDS.map(identifier).join(', ');
  return `SELECT ${fields} FROM /.*/ WHERE ${within(range)} GROUP BY *`;
}

/** By value of one tag; a series without it comes with an empty value. */
export function selectSums({ name, type, dimension, range }: Extract<Question, { kind: 'sums' }>): string {
  const where = `${within(range)} AND ${identifier(TYPE_TAG)} = ${literal(type)}`;
  return `SELECT sum("count") AS "count", sum("sum") AS "sum" FROM ${identifier(escapeName(name))} WHERE ${where} GROUP BY ${identifier(escapeKey(dimension))}`;
}

/** Of all series that have the tags of this one: GROUP BY * tells those that have more. */
export function selectWindows({ series, range }: Extract<Question, { kind: 'windows' }>): string {
  const tags = tagsOf(series).map(([key, value]) => `${identifier(key)} = ${literal(value)}`);
  const where = [within(range), ...tags].join(' AND ');
  return `SELECT "count", "sum" FROM ${identifier(escapeName(series.name))} WHERE ${where} GROUP BY *`;
}

function within({ from, to }: WindowRange): string {
  return `time >= ${time(from)} AND time < ${time(to)}`;
}

export function decodeSums({ tags = {}, columns, values = [] }: Rows, dimension: string): AnswerRow[] {
  const key = unescapeText(tags[escapeKey(dimension)] ?? '');
  return values.map((row) => ({ key, ...countAndSum(columns, row) }));
}

/** None where the rows are another series'. */
export function decodeWindows({ name, tags = {}, columns, values = [] }: Rows, series: Series): AnswerRow[] {
  if (decodeSeries(name, tags)?.series.id !== series.id) return [];
  return values.map((row) => ({ key: String(row[columns.indexOf('time')]), ...countAndSum(columns, row) }));
}

function countAndSum(columns: readonly string[], row: readonly unknown[]): { count: number; sum: number } {
  const of = (name: string) => Number(row[columns.indexOf(name)] ?? 0);
  return { count: of('count'), sum: of('sum') };
}

/** On 1.x: of each shard, with its database among the tags. */
export const SHOW_SHARDS = "SHOW STATS FOR 'shard'";

/** Of one shard; 0 where it is another database's. */
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
 * Deletes one point. `measurementKeys` are all tag keys of its measurement: a key that the point does not have must be
 * absent, or the points of series with more dimensions would go with it.
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

/** The series of an answer, chunk by chunk; throws what the server says is wrong, which comes with status 200. */
export async function* readRows(body: AsyncIterable<Uint8Array>): AsyncGenerator<Rows> {
  for await (const line of readLines(body)) {
    const answer = JSON.parse(line) as Answer;
    for (const result of [answer, ...(answer.results ?? [])]) {
      if (result.error !== undefined) throw answerError(result.error);
    }
    for (const result of answer.results ?? []) yield* result.series ?? [];
  }
}

function answerError(error: string): Error {
  const message = oneLine(error);
  if (/not found/i.test(message)) return refusal('not_found', message);
  if (/authorized|permission|forbidden/i.test(message)) return refusal('unauthorized', message);
  return refusal('bad_request', message);
}

async function* readLines(body: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const chunk of body) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n');
    rest = lines.pop()!;
    for (const line of lines) if (line !== '') yield line;
  }
  if (rest.trim() !== '') yield rest;
}

/** The points in the rows; none where the series is not one of ours. */
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
