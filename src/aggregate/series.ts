import { createHash } from 'node:crypto';
import type { MetricType, Series } from './point.ts';

/** The dimension, with the value `true`, of the series into which those over a limit are folded. */
export const OVERFLOW_DIMENSION = 'fanout.overflow';

/**
 * Builds a series from a name, a type and dimensions in any order. Values are the final strings; empty ones are
 * dropped, for an empty value means that the dimension is absent. Keys must be distinct and not empty.
 */
export function makeSeries(
  name: string,
  type: MetricType,
  dimensions: Iterable<readonly [key: string, value: string]>,
): Series {
  const present = Array.from(dimensions).filter(([, value]) => value !== '');
  present.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  // Written by hand: an object would put keys that look like integers first, and lose `__proto__`.
  const members = present.map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`);
  const dimensionsJson = `{${members.join(',')}}`;
  const identity = `[${JSON.stringify(name)},${JSON.stringify(type)},${dimensionsJson}]`;
  const id = createHash('sha256').update(identity, 'utf8').digest('hex').slice(0, 32);
  return { id, name, type, dimensions: present, dimensionsJson };
}
