import { hash } from 'node:crypto';
import type { MetricType, Series } from './point.ts';

/** The dimension, with the value `true`, of the series into which those over a limit are folded. */
export const OVERFLOW_DIMENSION = 'fanout.overflow';

export type Dimension = readonly [key: string, value: string];

/** Drops the empty values, which mean that the dimension is absent, and sorts by key (UTF-16 code units). */
export function canonicalDimensions(dimensions: Iterable<Dimension>): Dimension[] {
  const present = Array.from(dimensions).filter(([, value]) => value !== '');
  return present.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
}

/** Written by hand: an object would put keys that look like integers first, and lose `__proto__`. */
export function dimensionsToJson(canonical: readonly Dimension[]): string {
  return `{${canonical.map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`).join(',')}}`;
}

/**
 * Builds a series from a name, a type and dimensions in any order. Values are the final strings; empty ones are
 * dropped, for an empty value means that the dimension is absent. Keys must be distinct and not empty.
 */
export function makeSeries(name: string, type: MetricType, dimensions: Iterable<Dimension>): Series {
  const canonical = canonicalDimensions(dimensions);
  const dimensionsJson = dimensionsToJson(canonical);
  const identity = `[${JSON.stringify(name)},${JSON.stringify(type)},${dimensionsJson}]`;
  const id = hash('sha256', identity, 'hex').slice(0, 32);
  return { id, name, type, dimensions: canonical, dimensionsJson };
}
