/**
 * Computes a second time what every window must hold, slowly and obviously: JSON.parse and Maps, nothing shared with
 * the decoder and the aggregator that it checks. Pure. Memory grows with windows times series, not with messages.
 *
 * The file format is JSON lines, one row per window and series, sorted by window start, then series id:
 *
 *   {"window_start":1763861400000,"window_ms":10000,"series_id":"0f3a...","name":"http.requests","type":"counter",
 *    "dimensions":{"app":"api","status":"200"},"count":3,"sum":4,"min":null,"max":null,"last":null}
 *
 * `window_start` is in ms since 1970. Gauges and timers have min and max, gauges have last; all else is null. Rows that
 * are totals over all windows have null for `window_start` and `window_ms`.
 *
 * The traffic must be JSON, as `load` sends it, and within the limits: MAX_SERIES and the decoder's limits are not
 * applied here. (`verify` and `count` read every format, with the service's own decoder.) What the rules on names and
 * dimensions make of a series is left to the caller to say.
 */
import { FIELDS, METRIC_TYPES, type MetricType, type Series } from '../aggregate/point.ts';
import { makeSeries } from '../aggregate/series.ts';

/**
 * The settings that decide which window a sample belongs to (I1), valid from a time on (ms since 1970; absent: always).
 */
export interface WindowSettings {
  readonly from?: number;
  readonly windowMs: number;
  readonly latenessMs: number;
  readonly maxAheadMs: number;
  /** What the series of messages from this time on become (of their stream times); undefined: it is not counted. */
  readonly shape?: (name: string, dimensions: [string, string][], subject: string) => ShapedName | undefined;
}

export interface ShapedName {
  readonly name: string;
  readonly dimensions: Iterable<readonly [string, string]>;
}

export interface TruthRow {
  /** Null if the row is a total over all windows. */
  readonly windowStart: number | null;
  readonly windowMs: number | null;
  readonly series: Series;
  readonly count: number;
  /** Added in stream order, so that it compares bit for bit. */
  readonly sum: number;
  readonly min: number | null;
  readonly max: number | null;
  /** The value with the latest timestamp; among equal timestamps, the last in the stream. */
  readonly last: number | null;
}

interface Sum {
  readonly series: Series;
  count: number;
  sum: number;
  min: number;
  max: number;
  last: number;
  lastTime: number;
}

interface Sample {
  readonly series: Series;
  readonly value: number;
  /** Event time; undefined if the producer gave none. */
  readonly time: number | undefined;
}

export class Truth {
  messages = 0;
  /** Messages, or elements of a message that is an array, that are not samples. */
  rejected = 0;
  readonly samples: Record<MetricType, number> = { counter: 0, gauge: 0, timer: 0 };
  /**
   * Samples put into the window of their stream time, because they were too late or too far ahead for the window of
   * their event time.
   */
  late = 0;
  ahead = 0;
  readonly #settings: readonly WindowSettings[];
  readonly #windows = new Map<number, Map<Series, Sum>>();
  readonly #totals = new Map<Series, Sum>();
  readonly #series = new Map<string, Series>();

  /** If there are several settings, they are ascending; each applies to the windows from its `from` on. */
  constructor(...settings: readonly WindowSettings[]) {
    this.#settings = settings;
  }

  /**
   * Adds one message, in stream order. Without a stream time (core mode), it counts in the totals only, as what it
   * becomes: nothing else is known of what a store must hold.
   */
  add(payload: Uint8Array, streamTime: number | null, subject = ''): void {
    this.messages++;
    for (const candidate of parseMessage(payload)) {
      const sample = this.#sample(candidate);
      if (sample === undefined) {
        this.rejected++;
        continue;
      }
      this.samples[sample.series.type]++;
      const time = sample.time ?? streamTime ?? 0;
      const shaped = this.#shaped(sample, streamTime ?? 0, subject);
      if (streamTime !== null) addTo(this.#totals, sample, time);
      if (shaped === undefined) continue;
      addTo(streamTime === null ? this.#totals : this.#window(time, streamTime), shaped, time);
    }
  }

  /** Yields one row per window and series. */
  *rows(): Generator<TruthRow> {
    for (const start of [...this.#windows.keys()].sort((a, b) => a - b)) {
      yield* sorted(this.#windows.get(start)!, start, this.#settingsAt(start).windowMs);
    }
  }

  /** Yields one row per series as it was sent, over all windows. */
  *totals(): Generator<TruthRow> {
    yield* sorted(this.#totals, null, null);
  }

  /** Returns the sums of the window that the sample belongs to (I1). */
  #window(time: number, streamTime: number): Map<Series, Sum> {
    const { windowMs, latenessMs, maxAheadMs } = this.#settingsAt(time);
    let start = Math.floor(time / windowMs) * windowMs;
    const isLate = streamTime >= start + windowMs + latenessMs;
    const isAhead = time > streamTime + maxAheadMs;
    if (isLate) this.late++;
    if (isAhead) this.ahead++;
    if (isLate || isAhead) {
      const actual = this.#settingsAt(streamTime).windowMs;
      start = Math.floor(streamTime / actual) * actual;
    }
    const known = this.#windows.get(start);
    if (known !== undefined) return known;
    const made = new Map<Series, Sum>();
    this.#windows.set(start, made);
    return made;
  }

  #shaped(sample: Sample, streamTime: number, subject: string): Sample | undefined {
    const { shape } = this.#settingsAt(streamTime);
    if (shape === undefined) return sample;
    const { name, type, dimensions } = sample.series;
    const shaped = shape(
      name,
      dimensions.map(([key, value]) => [key, value]),
      subject,
    );
    if (shaped === undefined) return undefined;
    return { ...sample, series: this.#intern(shaped.name, type, [...shaped.dimensions]) };
  }

  #settingsAt(time: number): WindowSettings {
    return this.#settings.findLast(({ from }) => from !== undefined && from <= time) ?? this.#settings[0]!;
  }

  #sample(candidate: unknown): Sample | undefined {
    if (typeof candidate !== 'object' || candidate === null) return undefined;
    const { name, type, value, timestamp } = candidate as Record<string, unknown>;
    const isType = METRIC_TYPES.some((known) => known === type);
    if (typeof name !== 'string' || name === '' || !isType) return undefined;
    if (typeof value !== 'number' || !Number.isFinite(value)) return undefined;
    const dimensions = dimensionsOf(candidate as Record<string, unknown>);
    if (dimensions === undefined) return undefined;
    let time: number | undefined;
    if (timestamp !== undefined && timestamp !== null) {
      time = typeof timestamp === 'string' ? Date.parse(timestamp) : Number.NaN;
      if (Number.isNaN(time)) return undefined;
    }
    // + 0 turns -0 into 0, because stores do not distinguish them.
    return { series: this.#intern(name, type as MetricType, dimensions), value: value + 0, time };
  }

  /** Returns one object per series, so that it can be the key of a Map. */
  #intern(name: string, type: MetricType, dimensions: (readonly [string, string])[]): Series {
    const spelling = JSON.stringify([name, type, dimensions]);
    const known = this.#series.get(spelling);
    if (known !== undefined) return known;
    const made = makeSeries(name, type, dimensions);
    const same = this.#series.get(made.id) ?? made;
    this.#series.set(spelling, same);
    this.#series.set(made.id, same);
    return same;
  }
}

function parseMessage(payload: Uint8Array): unknown[] {
  try {
    const parsed: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(payload));
    return Array.isArray(parsed) ? parsed : [parsed];
  } catch {
    return [undefined];
  }
}

const DIMENSION_FIELDS = ['dimensions', 'dims', 'tags', 'labels'] as const;

/**
 * Returns the dimensions as strings; null and "" mean that a dimension is absent. Returns undefined if they are
 * invalid.
 */
function dimensionsOf(candidate: Record<string, unknown>): [string, string][] | undefined {
  const fields = DIMENSION_FIELDS.filter((field) => Object.hasOwn(candidate, field));
  if (fields.length > 1) return undefined;
  const given = candidate[fields[0] ?? 'dimensions'] ?? {};
  if (typeof given !== 'object' || Array.isArray(given)) return undefined;
  const entries = Object.entries(given);
  if (entries.some(([key, value]) => key === '' || (typeof value === 'object' && value !== null)))
    return undefined;
  const present = entries.filter(([, value]) => value !== null && value !== '');
  return present.map(([key, value]) => [key, String(value)]);
}

function addTo(sums: Map<Series, Sum>, { series, value }: Sample, time: number): void {
  const known = sums.get(series);
  if (known === undefined) {
    sums.set(series, { series, count: 1, sum: value, min: value, max: value, last: value, lastTime: time });
    return;
  }
  known.count++;
  known.sum += value;
  known.min = Math.min(known.min, value);
  known.max = Math.max(known.max, value);
  if (time >= known.lastTime) {
    known.last = value;
    known.lastTime = time;
  }
}

function* sorted(
  sums: ReadonlyMap<Series, Sum>,
  windowStart: number | null,
  windowMs: number | null,
): Generator<TruthRow> {
  const bySeries = [...sums.values()].sort((a, b) => (a.series.id < b.series.id ? -1 : 1));
  for (const { series, count, sum, min, max, last } of bySeries) {
    const fields = FIELDS[series.type];
    yield {
      windowStart,
      windowMs,
      series,
      count,
      sum,
      min: fields.includes('min') ? min : null,
      max: fields.includes('max') ? max : null,
      last: fields.includes('last') ? last : null,
    };
  }
}

/** Returns a row as a line of the file, without the line break. */
export function formatTruthRow(row: TruthRow): string {
  const { series } = row;
  const key = { window_start: row.windowStart, window_ms: row.windowMs };
  const identity = { series_id: series.id, name: series.name, type: series.type };
  const values = { count: row.count, sum: row.sum, min: row.min, max: row.max, last: row.last };
  const start = JSON.stringify({ ...key, ...identity }).slice(0, -1);
  return `${start},"dimensions":${series.dimensionsJson},${JSON.stringify(values).slice(1)}`;
}

/** Reads the lines of a file. Throws if a line was not written by `formatTruthRow`. */
export async function* readTruth(lines: AsyncIterable<string> | Iterable<string>): AsyncGenerator<TruthRow> {
  let number = 0;
  for await (const line of lines) {
    number++;
    if (line === '') continue;
    const row = JSON.parse(line);
    const series = makeSeries(row.name, row.type, Object.entries<string>(row.dimensions));
    if (series.id !== row.series_id)
      throw new Error(`line ${number}: series_id ${row.series_id} does not match the series`);
    const { count, sum, min, max, last } = row;
    const window = { windowStart: row.window_start, windowMs: row.window_ms };
    yield { ...window, series, count, sum, min, max, last };
  }
}
