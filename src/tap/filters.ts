import { matchesGlob } from '../aggregate/glob.ts';
import type { Series } from '../aggregate/point.ts';

export interface DimensionFilter {
  readonly key: string;
  readonly glob: string;
}

/** What a tap lets through. Without filters, it lets everything through. */
export interface Filters {
  /** A glob. */
  readonly name?: string | undefined;
  /** All of these must match. An absent dimension has the value "". */
  readonly where?: readonly DimensionFilter[];
}

export function matchesFilters({ name, where = [] }: Filters, series: Series): boolean {
  if (name !== undefined && !matchesGlob(name, series.name)) return false;
  return where.every(({ key, glob }) => matchesGlob(glob, dimensionOf(series, key)));
}

export function hasFilters({ name, where = [] }: Filters): boolean {
  return name !== undefined || where.length > 0;
}

/** Returns the value of a dimension; "" if it is absent. */
export function dimensionOf({ dimensions }: Series, key: string): string {
  return dimensions.find(([known]) => known === key)?.[1] ?? '';
}

/** Parses `key=glob`; returns undefined for any other text. */
export function parseFilter(text: string): DimensionFilter | undefined {
  const at = text.indexOf('=');
  return at > 0 ? { key: text.slice(0, at), glob: text.slice(at + 1) } : undefined;
}
