/** Points to columns and rows back. The columns are those of the SQL stores. Pure. */
import type { SchemaElement } from 'hyparquet';
import type { ColumnSource } from 'hyparquet-writer';
import {
  ALL_FIELDS,
  type MetricType,
  type Point,
  type Rejection,
  type StoredPoint,
  storedSeries,
  unfitNumber,
} from '../../src/sink/index.ts';
import { isDated } from './layout.ts';

const text: Partial<SchemaElement> = {
  type: 'BYTE_ARRAY',
  converted_type: 'UTF8',
  logical_type: { type: 'STRING' },
};
const int64: Partial<SchemaElement> = { type: 'INT64' };
/** Milliseconds since 1970 in UTC, said in both ways: older readers know the first, newer ones the second. */
const timestamp: Partial<SchemaElement> = {
  type: 'INT64',
  converted_type: 'TIMESTAMP_MILLIS',
  logical_type: { type: 'TIMESTAMP', isAdjustedToUTC: true, unit: 'MILLIS' },
};
const double: Partial<SchemaElement> = { type: 'DOUBLE' };
const required: Partial<SchemaElement> = { repetition_type: 'REQUIRED' };
const optional: Partial<SchemaElement> = { repetition_type: 'OPTIONAL' };

export const COLUMNS: readonly SchemaElement[] = [
  { name: 'window_start', ...timestamp, ...required },
  { name: 'window_ms', ...int64, ...required },
  { name: 'series_id', ...text, ...required },
  { name: 'instance', ...text, ...required },
  { name: 'name', ...text, ...required },
  { name: 'type', ...text, ...required },
  { name: 'dimensions', ...text, ...required },
  { name: 'count', ...int64, ...required },
  { name: 'sum', ...double, ...required },
  ...ALL_FIELDS.slice(2).map((name) => ({ name, ...double, ...optional })),
];

export const SCHEMA: readonly SchemaElement[] = [
  { name: 'points', num_children: COLUMNS.length },
  ...COLUMNS,
];

/** Returns why a file cannot hold the point unchanged; undefined if it can. */
export function refusal(point: Point): Omit<Rejection, 'index'> | undefined {
  const unfit = unfitNumber(point);
  if (unfit !== undefined) return unfit;
  // UTF-8 cannot hold a lone surrogate: it would come back as U+FFFD. In `dimensions`, JSON escapes it.
  if (!point.series.name.isWellFormed()) {
    return { reason: 'invalid_value', message: 'the name is not well-formed Unicode' };
  }
  if (!point.instance.isWellFormed()) {
    return { reason: 'invalid_value', message: 'the instance is not well-formed Unicode' };
  }
  if (!isDated(point)) {
    return { reason: 'invalid_value', message: 'the window is not within the years 1970 to 9999' };
  }
  return undefined;
}

/** A row as the reader returns it, by column. A column that was not asked for is absent. */
export type Row = Readonly<Record<string, unknown>>;

export function rowOf(point: Point): Row {
  const { series } = point;
  return {
    window_start: BigInt(point.windowStart),
    window_ms: BigInt(point.windowMs),
    series_id: series.id,
    instance: point.instance,
    name: series.name,
    type: series.type,
    dimensions: series.dimensionsJson,
    count: BigInt(point.count),
    sum: point.sum,
    min: point.min,
    max: point.max,
    last: point.last,
    p50: point.p50,
    p90: point.p90,
    p95: point.p95,
    p99: point.p99,
  };
}

export function pointOf(row: Row): StoredPoint {
  const numbers = ALL_FIELDS.map((field) => [field, row[field] ?? null]);
  return {
    ...(Object.fromEntries(numbers) as Pick<StoredPoint, (typeof ALL_FIELDS)[number]>),
    count: Number(row.count),
    series: storedSeries(
      String(row.series_id),
      String(row.name),
      row.type as MetricType,
      String(row.dimensions),
    ),
    windowStart: Number(row.window_start),
    instance: String(row.instance),
  };
}

/** The key of a row among those of its file, which all have one window. */
export function keyOf(seriesId: string, instance: string): string {
  return `${seriesId} ${instance}`;
}

/** Numbers and ids hardly repeat: to look for a dictionary would be in vain. */
const PLAIN = new Set(['series_id', ...ALL_FIELDS]);
/** No reader skips by these: ids come in no order, and JSON is cut to nothing. */
const WITHOUT_STATISTICS = new Set(['series_id', 'dimensions']);

export function columnsOf(rows: readonly Row[]): ColumnSource[] {
  return COLUMNS.map(({ name }) => ({
    name,
    data: rows.map((row) => row[name]) as unknown[],
    ...(PLAIN.has(name) && { encoding: 'PLAIN' as const }),
    ...(WITHOUT_STATISTICS.has(name) && { statistics: false }),
    offsetIndex: false,
  }));
}
