/**
 * Points to DynamoDB items and back. An item is keyed by pk, `<name>#<series_id>`, and sk, `<window start>#<instance>`.
 * The rest has attributes of its own; what a point does not have is absent.
 *
 * A number outside DynamoDB's range, and negative zero, which DynamoDB would make positive, are stored as text: as an
 * attribute of type S with the number in JavaScript's shortest form. All others are of type N. Both read back exactly.
 */
import type { AttributeValue } from '@aws-sdk/client-dynamodb';
import {
  ALL_FIELDS,
  type AnswerRow,
  FIELDS,
  type Field,
  METRIC_TYPES,
  makeSeries,
  type Point,
  type PointValues,
  type Rejection,
  type Series,
  type StoredPoint,
  type WindowRange,
} from '../../src/sink/index.ts';

export type Item = Record<string, AttributeValue>;

const MAX_PK_BYTES = 2_048;
const MAX_SK_BYTES = 1_024;
const MAX_ITEM_BYTES = 400 * 1_024;
/** The magnitudes that type N holds: at least 1E-130, less than 1E126. */
const MIN_NUMBER = 1e-130;
const TOO_BIG_NUMBER = 1e126;
/** The times whose ISO form sorts in order of time: the years 0000 to 9999. */
const MIN_TIME_MS = Date.parse('0000-01-01T00:00:00.000Z');
const MAX_TIME_MS = Date.parse('9999-12-31T23:59:59.999Z');

/** What all items of a series share. */
interface SeriesAttributes {
  readonly attributes: Item;
  readonly refusal: Omit<Rejection, 'index'> | undefined;
}

const seriesAttributes = new WeakMap<Series, SeriesAttributes>();

/**
 * Stores and tools written in JavaScript, such as dynalite, lose the key `__proto__` of a map. So it is stored with a
 * `%` at its end, and a key that already looks like that gets one more.
 */
function mapKey(key: string): string {
  return /^__proto__%*$/.test(key) ? `${key}%` : key;
}

function dimensionKey(key: string): string {
  return /^__proto__%+$/.test(key) ? key.slice(0, -1) : key;
}

function attributesOf(series: Series): SeriesAttributes {
  let known = seriesAttributes.get(series);
  if (known === undefined) {
    const dimensions = series.dimensions.map(([key, value]) => [mapKey(key), { S: value }] as const);
    const attributes: Item = {
      pk: { S: `${series.name}#${series.id}` },
      series_id: { S: series.id },
      name: { S: series.name },
      type: { S: series.type },
      dimensions: { M: Object.fromEntries(dimensions) },
    };
    known = { attributes, refusal: refusalOf(series) };
    seriesAttributes.set(series, known);
  }
  return known;
}

function refusalOf(series: Series): Omit<Rejection, 'index'> | undefined {
  const { name, id, dimensions, dimensionsJson } = series;
  if (!name.isWellFormed() || !dimensions.flat().every((text) => text.isWellFormed())) {
    return { reason: 'invalid_value', message: 'a name or dimension holds half of a surrogate pair' };
  }
  const pkBytes = Buffer.byteLength(name) + 1 + id.length;
  if (pkBytes > MAX_PK_BYTES) {
    return { reason: 'too_large', message: `the name takes ${pkBytes} bytes in the key, of ${MAX_PK_BYTES}` };
  }
  // Counts only the texts, a little less than DynamoDB does. An item between the two limits, DynamoDB refuses itself.
  const bytes = dimensions.flat().reduce((sum, text) => sum + Buffer.byteLength(text), pkBytes);
  if (dimensionsJson.length > MAX_ITEM_BYTES / 3 && bytes > MAX_ITEM_BYTES) {
    return { reason: 'too_large', message: `name and dimensions take ${bytes} bytes, of ${MAX_ITEM_BYTES}` };
  }
  return undefined;
}

function number(value: number): AttributeValue {
  const magnitude = Math.abs(value);
  const fits = magnitude >= MIN_NUMBER ? magnitude < TOO_BIG_NUMBER : Object.is(value, 0);
  return fits ? { N: String(value) } : { S: Object.is(value, -0) ? '-0' : String(value) };
}

/** Whether the table can hold points of the series. */
export function isStorable(series: Series): boolean {
  return attributesOf(series).refusal === undefined;
}

export function partitionKey(series: Series): AttributeValue {
  return attributesOf(series).attributes.pk!;
}

export function keyOf(point: Point): Item {
  const { pk } = attributesOf(point.series).attributes;
  return { pk: pk!, sk: { S: sortKey(point) } };
}

function sortKey({ windowStart, instance }: Point): string {
  return `${isoTime(windowStart)}#${instance}`;
}

/** Cached, because points that are encoded one after another nearly always share a window. */
let latest = { ms: 0, text: new Date(0).toISOString() };

function isoTime(ms: number): string {
  if (latest.ms !== ms) latest = { ms, text: new Date(ms).toISOString() };
  return latest.text;
}

/** Returns why DynamoDB cannot take the point; undefined if it can. */
export function refusal(point: Point): Omit<Rejection, 'index'> | undefined {
  const unfit = FIELDS[point.series.type].find(
    (field) => point[field] !== null && !Number.isFinite(point[field]),
  );
  if (unfit !== undefined) {
    return { reason: 'invalid_value', message: `${unfit} is ${point[unfit]}, which DynamoDB cannot hold` };
  }
  if (point.instance !== '' && Buffer.byteLength(sortKey(point)) > MAX_SK_BYTES) {
    return {
      reason: 'too_large',
      message: `the instance makes the sort key longer than ${MAX_SK_BYTES} bytes`,
    };
  }
  return attributesOf(point.series).refusal;
}

/** Returns the item of a point. It may be deleted `ttlMs` after the end of its window; undefined keeps it. */
export function encodeItem(point: Point, ttlMs: number | undefined, hasSketch = false): Item {
  const { windowStart, windowMs, instance, series } = point;
  const item: Item = {
    ...attributesOf(series).attributes,
    sk: { S: sortKey(point) },
    window_start: { S: isoTime(windowStart) },
    window_ms: { N: String(windowMs) },
  };
  if (instance !== '') item.instance = { S: instance };
  for (const field of FIELDS[series.type]) {
    const value = point[field];
    if (value !== null) item[field] = number(value);
  }
  if (hasSketch && typeof point.sketch === 'string') item.sketch = { S: point.sketch };
  if (ttlMs !== undefined) {
    item.expires_at = { N: String(Math.ceil((windowStart + windowMs + ttlMs) / 1_000)) };
  }
  return item;
}

/** Returns the sort keys that bound the windows of the range: from the first key to before the second. */
export function sortKeyRange({ from, to }: WindowRange): [string, string] {
  const clamp = (ms: number) =>
    new Date(Math.min(Math.max(Math.ceil(ms), MIN_TIME_MS), MAX_TIME_MS)).toISOString();
  return [clamp(from), clamp(to)];
}

/** Returns an answer row, keyed by window, for an item with its sort key, count and sum. */
export function answerRow(item: Item): AnswerRow {
  const number = (name: string) => Number(item[name]?.N ?? item[name]?.S ?? 0);
  return { key: String(windowStartOf(item)), count: number('count'), sum: number('sum') };
}

function windowStartOf(item: Item): number {
  const sk = item.sk?.S ?? '';
  return Date.parse(sk.slice(0, sk.indexOf('#')));
}

/** Returns the point of an item; undefined if the item is not one of ours. */
export function decodeItem(item: Item, hasSketch = false): StoredPoint | undefined {
  const text = (name: string): string => item[name]?.S ?? '';
  const type = METRIC_TYPES.find((known) => known === text('type'));
  const windowStart = windowStartOf(item);
  if (type === undefined || item.count === undefined || Number.isNaN(windowStart)) return undefined;
  const dimensions = Object.entries(item.dimensions?.M ?? {});
  const made = makeSeries(
    text('name'),
    type,
    dimensions.map(([key, value]) => [dimensionKey(key), value.S ?? ''] as const),
  );
  const series = { ...made, id: text('series_id') };
  const sketch = hasSketch ? { sketch: item.sketch?.S ?? null } : {};
  return { series, windowStart, instance: text('instance'), ...decodeValues(item), ...sketch };
}

function decodeValues(item: Item): PointValues {
  const entries = ALL_FIELDS.map((field): [Field, number | null] => {
    const stored = item[field]?.N ?? item[field]?.S;
    return [field, stored === undefined ? null : Number(stored)];
  });
  return Object.fromEntries(entries) as unknown as PointValues;
}
