/** InfluxQL, which 1.x, 2 and 3 answer alike: statements, and the answer as it streams in. */
import { ALL_FIELDS, type Field, type Point, type StoredPoint, type WindowRange } from '../../src/sink.ts';
import { oneLine, refusal } from './classify.ts';
import { decodeSeries, escapeName, INSTANCE_TAG, instanceTag, tagsOf } from './encode.ts';

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
export function selectPoints({ from, to }: WindowRange): string {
  const fields = ALL_FIELDS.map(identifier).join(', ');
  return `SELECT ${fields} FROM /.*/ WHERE time >= ${time(from)} AND time < ${time(to)} GROUP BY *`;
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
