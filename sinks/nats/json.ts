/** A point as JSON: the columns of the SQL stores, without the fields that its type does not have. */
import {
  ALL_FIELDS,
  FIELDS,
  type Field,
  METRIC_TYPES,
  makeSeries,
  type Point,
  type PointValues,
  type StoredPoint,
} from '../../src/sink/index.ts';

export function encodeJson(point: Point): string {
  const { series, windowStart, windowMs, instance } = point;
  const name = JSON.stringify(series.name);
  // The dimensions are JSON already, with their keys in order: an object would put keys like integers first.
  let text = `{"window_start":${windowStart},"window_ms":${windowMs},"series_id":"${series.id}","name":${name},"type":"${series.type}","dimensions":${series.dimensionsJson},"instance":${JSON.stringify(instance)}`;
  for (const field of FIELDS[series.type]) text += `,"${field}":${point[field]}`;
  return `${text}}`;
}

export function decodeJson(text: string): StoredPoint | undefined {
  const row = JSON.parse(text) as Record<string, unknown>;
  const { name, dimensions, instance, window_start: windowStart } = row;
  const type = METRIC_TYPES.find((known) => known === row.type);
  if (type === undefined || typeof name !== 'string' || typeof instance !== 'string') return undefined;
  if (typeof windowStart !== 'number' || typeof dimensions !== 'object' || dimensions === null)
    return undefined;
  const series = makeSeries(name, type, Object.entries(dimensions as Record<string, string>));
  return { ...valuesOf((field) => numberOf(row[field])), series, windowStart, instance };
}

function numberOf(value: unknown): number | null {
  return typeof value === 'number' ? value : null;
}

/** Returns all fields, with null for those that are not there. */
export function valuesOf(read: (field: Field) => number | null): PointValues {
  return Object.fromEntries(ALL_FIELDS.map((field) => [field, read(field)])) as unknown as PointValues;
}
