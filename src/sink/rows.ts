/** Points and rows: what the sinks share. */
import { ALL_FIELDS, FIELDS, type Point, type Series } from '../aggregate/point.ts';
import type { AnswerRow, Rejection } from './contract.ts';

/** Returns a point's estimated encoded size in bytes: the same for every sink, so that limits and backlogs compare. */
export function pointBytes({ series, sketch }: Point): number {
  return POINT_BYTES + series.name.length + series.dimensionsJson.length + (sketch?.length ?? 0);
}

/**
 * Returns why no store may hold the point; undefined if its numbers are fit. Every sink applies the same rule, because
 * all stores must hold the same points.
 */
export function unfitNumber(point: Point): Omit<Rejection, 'index'> | undefined {
  for (const field of FIELDS[point.series.type]) {
    if (!Number.isFinite(point[field])) {
      return { reason: 'invalid_value', message: `${field} is ${point[field]}, not a finite number` };
    }
  }
  if (Number.isSafeInteger(point.count)) return undefined;
  return { reason: 'invalid_value', message: `count is ${point.count}, over 2^53 - 1 or not whole` };
}

/** Bytes of a point, not counting the text of its series. */
export const POINT_BYTES = 160;

/** Returns the sketch that a store holds in a column of that name, perhaps as no text; nothing without the column. */
export function storedSketch(value: unknown): Pick<Point, 'sketch'> {
  if (value === undefined) return {};
  return { sketch: typeof value === 'string' && value !== '' ? value : null };
}

/** Adds up rows with the same key: parts of an answer, or parts of a window that several instances wrote. */
export function addUp(rows: Iterable<AnswerRow>): AnswerRow[] {
  const sums = new Map<string, AnswerRow>();
  for (const { key, count, sum } of rows) {
    const before = sums.get(key);
    sums.set(key, { key, count: count + (before?.count ?? 0), sum: sum + (before?.sum ?? 0) });
  }
  return [...sums.values()];
}

/** Returns the value of a dimension in the JSON of all; empty if it is not there. */
export function dimensionIn(dimensionsJson: string, dimension: string): string {
  const dimensions = JSON.parse(dimensionsJson) as Record<string, string>;
  return Object.hasOwn(dimensions, dimension) ? dimensions[dimension]! : '';
}

/** Returns the value of a dimension; empty if the series does not have it. */
export function seriesDimension({ dimensions }: Series, dimension: string): string {
  return dimensions.find(([key]) => key === dimension)?.[1] ?? '';
}

/** Returns the columns of a table row after `window_start`, in the order of the README. All SQL stores share them. */
export function columnValues(point: Point): (string | number | null)[] {
  const { series, windowMs, instance } = point;
  const { id, name, type, dimensionsJson } = series;
  return [windowMs, id, instance, name, type, dimensionsJson, ...ALL_FIELDS.map((field) => point[field])];
}
