/** What a series measures. The names are those of the producers' wire format. */
export type MetricType = 'counter' | 'gauge' | 'timer';

export const METRIC_TYPES = ['counter', 'gauge', 'timer'] as const satisfies readonly MetricType[];

/**
 * A name, a type and the dimensions, with every spelling already folded to one: values are strings, absent ones (null,
 * "") are left out, keys are sorted by UTF-16 code unit. Interned: within a thread, the points of one series share one
 * object as a rule, so a sink may keep what it derives from it in a WeakMap.
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

/** The numbers that a point can carry; `FIELDS` says which of them each type does. */
export interface PointValues {
  /** Samples, or of timers the measurements that they stand for: a whole number, at least 1. */
  readonly count: number;
  /** Added in stream order (I3). */
  readonly sum: number;
  readonly min: number | null;
  readonly max: number | null;
  /** Of the sample with the latest event time; among equals, the last in the stream. */
  readonly last: number | null;
  readonly p50: number | null;
  readonly p90: number | null;
  readonly p95: number | null;
  readonly p99: number | null;
}

export type Field = keyof PointValues;

/** In the order in which stores have their columns. */
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
   * Empty, but in core mode, where parts of one window add up: the boot id of the instance, and of its stay on the bus.
   */
  readonly instance: string;
}
