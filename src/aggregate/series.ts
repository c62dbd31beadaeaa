import { hash } from 'node:crypto';
import type { MetricType, Series } from './point.ts';

/** The dimension, with the value `true`, of the series into which series over a limit are folded. */
export const OVERFLOW_DIMENSION = 'fanout.overflow';

export type Dimension = readonly [key: string, value: string];

/** A series without its type, in canonical form. */
export interface Identity {
  readonly name: string;
  readonly dimensions: readonly Dimension[];
  readonly dimensionsJson: string;
}

/**
 * Returns the canonical form of a name and dimensions in any order. Drops empty values, because an empty value means
 * that the dimension is absent. Keys must be distinct and not empty.
 */
export function identify(name: string, dimensions: Iterable<Dimension>): Identity {
  const present = Array.from(dimensions).filter(([, value]) => value !== '');
  present.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  // Not by way of an object: it would put keys that look like integers first, and lose `__proto__`.
  const members = present.map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`);
  return { name, dimensions: present, dimensionsJson: `{${members.join(',')}}` };
}

/** Builds a series from a name, a type and dimensions as for `identify`. */
export function makeSeries(name: string, type: MetricType, dimensions: Iterable<Dimension>): Series {
  return seriesOf(identify(name, dimensions), type);
}

export function seriesOf({ name, dimensions, dimensionsJson }: Identity, type: MetricType): Series {
  const canonical = `[${JSON.stringify(name)},${JSON.stringify(type)},${dimensionsJson}]`;
  const id = hash('sha256', canonical, 'hex').slice(0, 32);
  return { id, name, type, dimensions, dimensionsJson };
}

/** Builds a series from what a store holds. Its id is the stored one, even if the dimensions differ. */
export function storedSeries(id: string, name: string, type: MetricType, dimensionsJson: string): Series {
  const dimensions = Object.entries(JSON.parse(dimensionsJson) as Record<string, string>);
  // An object lists keys that look like integers first.
  dimensions.sort(([a], [b]) => (a < b ? -1 : 1));
  return { id, name, type, dimensions, dimensionsJson };
}
