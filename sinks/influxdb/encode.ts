/** Points to line protocol, and series back from what a query returns. Texts are escaped as line-text.ts has it. */
import {
  ALL_FIELDS,
  escapeKey,
  escapeName,
  escapeValue,
  FIELDS,
  type Field,
  floatText,
  INSTANCE_TAG,
  METRIC_TYPES,
  type MetricType,
  makeSeries,
  type Point,
  type Rejection,
  type Series,
  TYPE_TAG,
  unescapeText,
} from '../../src/sink/index.ts';
import { escapeLineProtocol as lineProtocol } from './client.ts';

export { escapeKey, escapeName, escapeValue, INSTANCE_TAG, TYPE_TAG, unescapeText };

/** The server's limit in bytes for measurement, tags and the name of a field, joined by a separator. */
const MAX_KEY_BYTES = 65_535;
const FIELD_SEPARATOR_BYTES = 4;
const LONGEST_FIELD_BYTES = Math.max(...ALL_FIELDS.map((field) => field.length));
export const MAX_SERIES_KEY_BYTES = MAX_KEY_BYTES - FIELD_SEPARATOR_BYTES - LONGEST_FIELD_BYTES;

/** Returns the tags that a series is stored with, including `metric_type`. `instance` belongs to the point. */
export function tagsOf(series: Series): [key: string, value: string][] {
  const tags = series.dimensions.map(([key, value]): [string, string] => [
    escapeKey(key),
    escapeValue(value),
  ]);
  tags.push([TYPE_TAG, series.type]);
  return tags.sort(([a], [b]) => (a < b ? -1 : 1));
}

export function instanceTag(instance: string): string {
  return escapeValue(instance);
}

interface SeriesKey {
  readonly text: string;
  readonly bytes: number;
}

const seriesKeys = new WeakMap<Series, SeriesKey>();

function seriesKey(series: Series): SeriesKey {
  let key = seriesKeys.get(series);
  if (key === undefined) {
    const tags = tagsOf(series).map(
      ([name, value]) => `,${lineProtocol.tag(name)}=${lineProtocol.tag(value)}`,
    );
    const text = lineProtocol.measurement(escapeName(series.name)) + tags.join('');
    key = { text, bytes: Buffer.byteLength(text) };
    seriesKeys.set(series, key);
  }
  return key;
}

/** Returns the fields as text, or the one that the server cannot hold. */
function fieldsOf(point: Point): { readonly text: string } | { readonly unfit: Field } {
  let text = `count=${point.count}i`;
  for (const field of FIELDS[point.series.type]) {
    const value = point[field];
    if (value === null) continue;
    if (!(field === 'count' ? Number.isSafeInteger(value) : Number.isFinite(value))) return { unfit: field };
    if (field !== 'count') text += `,${field}=${floatText(value)}`;
  }
  return { text };
}

/** Returns a line without its line feed, or the reason why the server cannot take the point. */
export function encodePoint(point: Point): string | Omit<Rejection, 'index'> {
  const key = seriesKey(point.series);
  const instance =
    point.instance === '' ? '' : `,${INSTANCE_TAG}=${lineProtocol.tag(instanceTag(point.instance))}`;
  const bytes = instance === '' ? key.bytes : key.bytes + Buffer.byteLength(instance);
  if (bytes > MAX_SERIES_KEY_BYTES) {
    const message = `name and dimensions take ${bytes} bytes; the limit is ${MAX_SERIES_KEY_BYTES}`;
    return { reason: 'too_large', message };
  }
  const fields = fieldsOf(point);
  if ('unfit' in fields) {
    const { unfit } = fields;
    return { reason: 'invalid_value', message: `${unfit} is ${point[unfit]}, which InfluxDB cannot hold` };
  }
  return `${key.text}${instance} ${fields.text} ${point.windowStart}`;
}

/** The inverse of how `encodePoint` writes a series. Returns undefined if the row is not one of ours. */
export function decodeSeries(
  measurement: string,
  tags: Readonly<Record<string, string>>,
): { series: Series; instance: string } | undefined {
  const type = METRIC_TYPES.find((known): known is MetricType => known === tags[TYPE_TAG]);
  if (type === undefined) return undefined;
  const dimensions = Object.entries(tags)
    .filter(([key]) => key !== TYPE_TAG && key !== INSTANCE_TAG)
    .map(([key, value]) => [unescapeText(key), unescapeText(value)] as const);
  const series = makeSeries(unescapeText(measurement), type, dimensions);
  return { series, instance: unescapeText(tags[INSTANCE_TAG] ?? '') };
}
