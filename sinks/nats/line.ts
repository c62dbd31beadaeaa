/** A point as a line of line protocol, with its time in nanoseconds: the same line as the sink of InfluxDB writes. */
import {
  escapeKey,
  escapeName,
  escapeValue,
  FIELDS,
  floatText,
  INSTANCE_TAG,
  METRIC_TYPES,
  makeSeries,
  type Point,
  type Series,
  type StoredPoint,
  TYPE_TAG,
  unescapeText,
} from '../../src/sink/index.ts';
import { valuesOf } from './json.ts';

const MS_IN_NANOS = '000000';
/** Our own escapes leave no backslash, so each one in a line escapes what comes next. */
const AT_SPACE = /(?<!\\) /;
const AT_COMMA = /(?<!\\),/;
const AT_EQUALS = /(?<!\\)=/;
const prefixes = new WeakMap<Series, string>();

export function encodeLine(point: Point): string {
  const { series, windowStart, instance } = point;
  let prefix = prefixes.get(series);
  if (prefix === undefined) {
    const tags = series.dimensions.map(([key, value]): [string, string] => [
      escapeKey(key),
      escapeValue(value),
    ]);
    tags.push([TYPE_TAG, series.type]);
    tags.sort(([a], [b]) => (a < b ? -1 : 1));
    prefix = backslashed(escapeName(series.name)) + tags.map(([key, value]) => tag(key, value)).join('');
    prefixes.set(series, prefix);
  }
  const by = instance === '' ? '' : tag(INSTANCE_TAG, escapeValue(instance));
  const fields = FIELDS[series.type].map((field) =>
    field === 'count' ? `count=${point.count}i` : `${field}=${floatText(point[field]!)}`,
  );
  // A time of 0 would have too many digits, and means the same.
  return `${prefix}${by} ${fields.join(',')} ${windowStart === 0 ? 0 : windowStart + MS_IN_NANOS}`;
}

function tag(key: string, value: string): string {
  return `,${backslashed(key)}=${backslashed(value)}`;
}

function backslashed(text: string): string {
  return text.replace(/[,= ]/g, '\\$&');
}

function plain(text: string): string {
  return unescapeText(text.replace(/\\(.)/g, '$1'));
}

export function decodeLine(text: string): StoredPoint | undefined {
  const [key = '', fields = '', time = ''] = text.split(AT_SPACE);
  const [name = '', ...tags] = key.split(AT_COMMA);
  const dimensions: [string, string][] = [];
  let type: string | undefined;
  let instance = '';
  for (const one of tags) {
    const [tagKey = '', value = ''] = one.split(AT_EQUALS);
    if (tagKey === TYPE_TAG) type = value;
    else if (tagKey === INSTANCE_TAG) instance = plain(value);
    else dimensions.push([plain(tagKey), plain(value)]);
  }
  const known = METRIC_TYPES.find((one) => one === type);
  if (known === undefined) return undefined;
  const values = new Map(fields.split(',').map((field) => field.split('=') as [string, string]));
  const read = (field: string) => {
    const value = values.get(field);
    return value === undefined ? null : Number(value.replace(/i$/, ''));
  };
  const windowStart = time === '0' ? 0 : Number(time.slice(0, -MS_IN_NANOS.length));
  return { ...valuesOf(read), series: makeSeries(plain(name), known, dimensions), windowStart, instance };
}
