/** What a series measures. The names are those of the wire format. */
export type MetricType = 'counter' | 'gauge' | 'timer';

export const METRIC_TYPES = ['counter', 'gauge', 'timer'] as const satisfies readonly MetricType[];

/**
 * A name, a type and the dimensions, with all spellings folded into one: values are strings, absent values (null, "")
 * are left out, and keys are sorted by UTF-16 code unit. Within a thread, the points of one series usually share one
 * object, so a sink may keep what it derives from it in a WeakMap.
 */
export interface Series {
  /** First 128 bits, in lower-case hex, of SHA-256 over the canonical JSON of `[name,type,{dimensions}]`. */
  readonly id: string;
  readonly name: string;
  readonly type: MetricType;
  /** Sorted by key (UTF-16 code units); no empty key, no empty value. */
  readonly dimensions: readonly (readonly [key: string, value: string])[];
  /** The dimensions as canonical JSON: keys sorted, no spaces, as JSON.stringify writes strings. */
  readonly dimensionsJson: string;
}

/** The numbers that a point can carry. `FIELDS` says which ones each type carries. */
export interface PointValues {
  /** How many samples; for timers, how many measurements they stand for. A whole number, at least 1. */
  readonly count: number;
  /** Values added in stream order (I3). */
  readonly sum: number;
  readonly min: number | null;
  readonly max: number | null;
  /** Value of the sample with the latest event time; among equals, of the last in the stream. */
  readonly last: number | null;
  readonly p50: number | null;
  readonly p90: number | null;
  readonly p95: number | null;
  readonly p99: number | null;
}

export type Field = keyof PointValues;

/** In the order of the columns in the stores. */
export const ALL_FIELDS = [
  'count',
  'sum',
  'min',
  'max',
  'last',
  'p50',
  'p90',
  'p95',
  'p99',
] as const satisfies readonly Field[];

/** The fields that a type carries; the others are null. Timers are in the unit received. */
export const FIELDS: Readonly<Record<MetricType, readonly Field[]>> = {
  counter: ['count', 'sum'],
  gauge: ['count', 'sum', 'min', 'max', 'last'],
  timer: ['count', 'sum', 'min', 'max', 'p50', 'p90', 'p95', 'p99'],
};

/** One series in one window. Its key is (windowStart, series, instance) (I4). */
export interface Point extends PointValues {
  readonly series: Series;
  /** Milliseconds since 1970; a multiple of `windowMs`. */
  readonly windowStart: number;
  readonly windowMs: number;
  /**
   * Empty, except in core mode, in which the parts of one window add up: then the boot id of the instance, and that of
   * its stay on the bus.
   */
  readonly instance: string;
  /**
   * Of a timer, if a sink writes sketches: see `sketch-text.ts`. Null if the point has none; absent if nobody wants
   * them, or its window is one of an earlier version.
   */
  readonly sketch?: string | null;
}
