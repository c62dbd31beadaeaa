/**
 * The slow, obvious twin of decode/ and aggregate/: JSON.parse, Map and the invariants of the design, taken literally.
 * The only code that it shares with what it checks is `makeSeries`, which defines a series. Its input must be valid
 * messages: it rejects only the most obvious faults, and checks neither duplicate keys nor limits.
 */
import type { MetricType, Point } from '../../src/aggregate/point.ts';
import { makeSeries, OVERFLOW_DIMENSION } from '../../src/aggregate/series.ts';
import { exactBucket } from './exact-bucket.ts';
import { expectedShape, fits, type RuleTexts } from './shaping-oracle.ts';

export interface OracleMessage {
  readonly payload: string | Uint8Array;
  /** Milliseconds since 1970. */
  readonly streamTime: number;
  readonly subject?: string;
}

export interface OracleShape {
  readonly windowMs: number;
  readonly latenessMs: number;
  readonly maxAheadMs: number;
  readonly maxSeries: number;
  /** Absent: no limit. */
  readonly maxSeriesBytes?: number;
  /** Absent: DDSketch, as earlier versions had it. */
  readonly sketchScale?: number;
  /** As in MAX_SERIES_BY_NAME. */
  readonly maxSeriesByName?: readonly string[];
  /** What the series of messages of this time become. */
  readonly rules?: RuleTexts;
}

export interface OracleSettings extends OracleShape {
  /** The shapes of windows from a given time on, in ascending order of time. */
  readonly later?: readonly (OracleShape & { readonly from: number })[];
  /** Start of the first window to compute. Absent: all windows. */
  readonly from?: number;
  readonly instance?: string;
}

export interface OracleSample {
  readonly name: string;
  readonly type: MetricType;
  readonly value: number;
  readonly dimensions: [string, string][];
  /** Undefined: the stream time is used. */
  readonly eventTime: number | undefined;
}

/** The points of each window in the order of first appearance. The windows are in ascending order of their start. */
export function expectedWindows(
  messages: Iterable<OracleMessage>,
  settings: OracleSettings,
): Map<number, Point[]> {
  const placed = placedIn(messages, settings);
  const starts = [...placed.keys()].sort((a, b) => a - b);
  return new Map(starts.map((start) => [start, points(start, placed.get(start)!, settings)]));
}

/**
 * The windows of a sink that has windows of its own. They are of samples, not of points: only which series are folded,
 * which bins there are, and the order of adding is up to the windows that they are made of.
 */
export function expectedOwnWindows(
  messages: Iterable<OracleMessage>,
  settings: OracleSettings,
  ownMs: number,
): Map<number, Point[]> {
  const placed = placedIn(messages, settings);
  const parts = new Map<number, number[]>();
  for (const start of [...placed.keys()].sort((a, b) => a - b)) {
    const own = ownWindowAt(start, settings, ownMs);
    parts.set(own, [...(parts.get(own) ?? []), start]);
  }
  const found = new Map<number, Point[]>();
  for (const [own, starts] of parts) {
    const { windowMs } = shapeAt(own, settings);
    const isMade = isMadeOfParts(own, settings, ownMs) && windowMs !== ownMs;
    if (isMade) {
      const all = starts.map((start) => entriesOf(start, placed.get(start)!, settings));
      found.set(own, mergedPoints(own, ownMs, all, settings));
    } else found.set(own, points(own, placed.get(own)!, settings));
  }
  return found;
}

/** Start of the sink's window that holds a window of the pipeline. */
export function ownWindowAt(start: number, settings: OracleSettings, ownMs: number): number {
  const own = Math.floor(start / ownMs) * ownMs;
  return isMadeOfParts(own, settings, ownMs) ? own : start;
}

/** Whether whole windows of the pipeline tile the one at `own`, and have sketches that can be merged. */
function isMadeOfParts(own: number, settings: OracleSettings, ownMs: number): boolean {
  if (own % ownMs !== 0) return false;
  let at = own;
  while (at < own + ownMs) {
    const { windowMs, sketchScale } = shapeAt(at, settings);
    if (ownMs % windowMs !== 0 || sketchScale === undefined || windowAt(at, settings) !== at) return false;
    at += windowMs;
  }
  return at === own + ownMs;
}

function placedIn(messages: Iterable<OracleMessage>, settings: OracleSettings): Map<number, Placed[]> {
  const placed = new Map<number, Placed[]>();
  for (const message of messages) {
    const { streamTime } = message;
    for (const sample of shapedSamples(message, settings)) {
      const start = windowStart(sample.eventTime ?? streamTime, streamTime, settings);
      if (start < (settings.from ?? Number.NEGATIVE_INFINITY)) continue;
      if (!placed.has(start)) placed.set(start, []);
      placed.get(start)!.push({ sample, time: sample.eventTime ?? streamTime });
    }
  }
  return placed;
}

/** The samples of a message that are counted, each of the series that its own becomes. */
export function shapedSamples(
  { payload, streamTime, subject = '' }: OracleMessage,
  settings: OracleSettings,
): OracleSample[] {
  const samples = expectedSamples(payload);
  const { rules } = shapeAt(streamTime, settings);
  if (rules === undefined) return samples;
  return samples.flatMap((sample) => {
    const shaped = expectedShape(sample.name, Object.fromEntries(sample.dimensions), subject, rules);
    if (shaped === undefined) return [];
    return { ...sample, name: shaped.name, dimensions: Object.entries(shaped.dimensions) };
  });
}

/** The samples that a message holds; none if it is not JSON. */
export function expectedSamples(payload: string | Uint8Array): OracleSample[] {
  const text = typeof payload === 'string' ? payload : new TextDecoder().decode(payload);
  let parsed: unknown;
  try {
    parsed = JSON.parse(text, keepIntegers as (key: string, value: unknown) => unknown);
  } catch {
    return [];
  }
  return (Array.isArray(parsed) ? parsed : [parsed]).map(toSample).filter((sample) => sample !== undefined);
}

interface Placed {
  readonly sample: OracleSample;
  readonly time: number;
}

/** An integer literal with all its digits: a number would lose some. */
class Integer {
  readonly source: string;
  constructor(source: string) {
    this.source = source;
  }
}

function keepIntegers(_key: string, value: unknown, context: { source?: string }): unknown {
  return typeof value === 'number' && /^-?\d+$/.test(context.source!) ? new Integer(context.source!) : value;
}

function toSample(element: unknown): OracleSample | undefined {
  if (typeof element !== 'object' || element === null) return undefined;
  const fields = element as Record<string, unknown>;
  const value = fields.value instanceof Integer ? Number(fields.value.source) : fields.value;
  if (typeof fields.name !== 'string' || typeof value !== 'number' || !Number.isFinite(value))
    return undefined;
  if (!['counter', 'gauge', 'timer'].includes(fields.type as string)) return undefined;
  const dimensions = fields.dimensions ?? fields.dims ?? fields.tags ?? fields.labels ?? {};
  return {
    name: fields.name,
    type: fields.type as MetricType,
    value: value + 0,
    dimensions: Object.entries(dimensions).map(([key, raw]) => [key, dimensionText(raw)]),
    eventTime: typeof fields.timestamp === 'string' ? expectedTime(fields.timestamp) : undefined,
  };
}

function dimensionText(raw: unknown): string {
  if (raw === null) return '';
  if (raw instanceof Integer) return raw.source === '-0' ? '0' : raw.source;
  return String(raw);
}

/** Parses an RFC 3339 time that is known to be valid. */
export function expectedTime(text: string): number {
  const [, seconds, fraction = '', zone] = /^(.{19})(\.\d+)?(.*)$/.exec(text)!;
  const whole = Date.parse(`${seconds!.replace(/:60$/, ':59').toUpperCase()}${zone!.toUpperCase()}`);
  return whole + (seconds!.endsWith(':60') ? 1000 : 0) + Number(fraction.slice(1, 4).padEnd(3, '0'));
}

export function shapeAt(time: number, settings: OracleSettings): OracleShape {
  return settings.later?.findLast(({ from }) => from <= time) ?? settings;
}

/** Start of the window that holds a time. */
export function windowAt(time: number, settings: OracleSettings): number {
  const { windowMs } = shapeAt(time, settings);
  return Math.floor(time / windowMs) * windowMs;
}

/** I1, word for word. */
export function windowStart(eventTime: number, streamTime: number, settings: OracleSettings): number {
  const { windowMs, latenessMs, maxAheadMs } = shapeAt(eventTime, settings);
  const end = windowAt(eventTime, settings) + windowMs;
  const belongs = streamTime < end + latenessMs && eventTime <= streamTime + maxAheadMs;
  return windowAt(belongs ? eventTime : streamTime, settings);
}

/** How many series of a name a window may have. */
function limitOf(name: string, limits: readonly string[]): number {
  for (const limit of limits) {
    const [glob, most] = limit.split('=') as [string, string];
    if (fits(glob.trim(), name)) return Number(most);
  }
  return Number.POSITIVE_INFINITY;
}

/** What a window has of a series. */
interface Entry {
  readonly series: ReturnType<typeof makeSeries>;
  readonly placed: Placed[];
  readonly sketch: OracleSketch | OldOracleSketch;
}

function points(windowStart: number, placed: readonly Placed[], settings: OracleSettings): Point[] {
  const { windowMs } = shapeAt(windowStart, settings);
  const { instance = '' } = settings;
  return entriesOf(windowStart, placed, settings).map((entry) => ({
    ...pointOf(entry, [entry.placed]),
    windowStart,
    windowMs,
    instance,
  }));
}

function mergedPoints(
  windowStart: number,
  windowMs: number,
  windows: readonly (readonly Entry[])[],
  settings: OracleSettings,
): Point[] {
  const { maxSeries, maxSeriesBytes = Number.POSITIVE_INFINITY } = shapeAt(windowStart, settings);
  const { instance = '' } = settings;
  const merged = new Map<string, { series: Entry['series']; groups: Placed[][]; sketch: OracleSketch }>();
  const overflowJson = `{"${OVERFLOW_DIMENSION}":"true"}`;
  let [ordinary, overflow, left] = [0, 0, maxSeriesBytes];
  let overflowLeft = Math.floor(maxSeriesBytes / 8);
  for (const { series: own, placed, sketch } of windows.flat()) {
    let series = own;
    const isIn = () => merged.has(series.id);
    const isOverflow = () => series.dimensionsJson === overflowJson;
    if (!isIn() && !isOverflow() && !(ordinary < maxSeries && costOf(series) <= left))
      series = makeSeries(own.name, own.type, [[OVERFLOW_DIMENSION, 'true']]);
    let isForTheRest = false;
    if (!isIn() && isOverflow() && !(overflow < maxSeries && costOf(series) <= overflowLeft)) {
      series = makeSeries(OVERFLOW_DIMENSION, own.type, [[OVERFLOW_DIMENSION, 'true']]);
      isForTheRest = true;
    }
    if (!isIn()) {
      merged.set(series.id, { series, groups: [], sketch: new OracleSketch() });
      if (!isOverflow()) {
        ordinary++;
        left -= costOf(series);
      } else {
        overflow++;
        if (!isForTheRest) overflowLeft -= costOf(series);
      }
    }
    const entry = merged.get(series.id)!;
    entry.groups.push(placed);
    if (own.type === 'timer') left -= entry.sketch.merge(sketch as OracleSketch, left);
  }
  return Array.from(merged.values(), (entry) => ({
    ...pointOf(entry, entry.groups),
    windowStart,
    windowMs,
    instance,
  }));
}

function entriesOf(windowStart: number, placed: readonly Placed[], settings: OracleSettings): Entry[] {
  const bySeries = new Map<string, Entry>();
  const {
    maxSeries,
    maxSeriesByName = [],
    sketchScale,
    maxSeriesBytes = Number.POSITIVE_INFINITY,
  } = shapeAt(windowStart, settings);
  const byName = new Map<string, number>();
  let ordinary = 0;
  let overflow = 0;
  let left = maxSeriesBytes;
  let overflowLeft = Math.floor(maxSeriesBytes / 8);
  for (const each of placed) {
    const { name, type, dimensions } = each.sample;
    let series = makeSeries(name, type, dimensions);
    const named = `${type} ${name}`;
    const isFull = (byName.get(named) ?? 0) >= limitOf(name, maxSeriesByName);
    const isOverflow = () => series.dimensionsJson === `{"${OVERFLOW_DIMENSION}":"true"}`;
    const isTaken = !isFull && ordinary < maxSeries && costOf(series) <= left;
    if (!bySeries.has(series.id) && !isOverflow() && !isTaken) {
      series = makeSeries(name, type, [[OVERFLOW_DIMENSION, 'true']]);
    }
    let isForTheRest = false;
    if (
      !bySeries.has(series.id) &&
      isOverflow() &&
      (overflow >= maxSeries || costOf(series) > overflowLeft)
    ) {
      series = makeSeries(OVERFLOW_DIMENSION, type, [[OVERFLOW_DIMENSION, 'true']]);
      isForTheRest = true;
    }
    if (!bySeries.has(series.id)) {
      bySeries.set(series.id, {
        series,
        placed: [],
        sketch: sketchScale === undefined ? new OldOracleSketch() : new OracleSketch(),
      });
      if (isOverflow()) {
        overflow++;
        if (!isForTheRest) overflowLeft -= costOf(series);
      } else {
        ordinary++;
        byName.set(named, (byName.get(named) ?? 0) + 1);
        left -= costOf(series);
      }
    }
    bySeries.get(series.id)!.placed.push(each);
    if (type !== 'timer') continue;
    left -= bySeries.get(series.id)!.sketch.add(each.sample.value, left);
  }
  return [...bySeries.values()];
}

/** `groups`: its samples by the windows of the pipeline: sums are added up to these first. */
function pointOf(
  { series, sketch }: Pick<Entry, 'series' | 'sketch'>,
  groups: readonly (readonly Placed[])[],
): Omit<Point, 'windowStart' | 'windowMs' | 'instance'> {
  const placed = groups.flat();
  const values = placed.map(({ sample }) => sample.value);
  const sumOf = (some: readonly number[]) => some.reduce((a, b) => a + b, 0);
  const min = values.reduce((a, b) => Math.min(a, b));
  const max = values.reduce((a, b) => Math.max(a, b));
  const gauge = series.type === 'gauge';
  const timer = series.type === 'timer';
  const quantile = (q: number) => (timer ? Math.min(max, Math.max(min, sketch.quantile(q))) : null);
  return {
    series,
    count: values.length,
    sum: sumOf(groups.map((group) => sumOf(group.map(({ sample }) => sample.value)))),
    min: gauge || timer ? min : null,
    max: gauge || timer ? max : null,
    last: gauge ? placed.reduce((a, b) => (b.time >= a.time ? b : a)).sample.value : null,
    p50: quantile(0.5),
    p90: quantile(0.9),
    p95: quantile(0.95),
    p99: quantile(0.99),
  };
}

/** What a series takes from the budget of its window. */
function costOf({ name, type, dimensionsJson }: ReturnType<typeof makeSeries>): number {
  return { counter: 200, gauge: 232, timer: 800 }[type] + 2 * Buffer.byteLength(name + dimensionsJson);
}

/**
 * DDSketch with a budget: it keeps the signed bin of every value, and the range that the bins span. It is correct as
 * long as there are not so many bins that they must collapse.
 */
class OldOracleSketch {
  readonly #bins: { sign: number; index: number }[] = [];
  readonly #ranges = new Map<number, { from: number; to: number }>();

  /** Returns the cost, which is at most `left`. The first range is free. */
  add(value: number, left: number): number {
    const sign = Math.sign(value);
    if (sign === 0) {
      this.#bins.push({ sign: 0, index: 0 });
      return 0;
    }
    const index = Math.ceil(Math.log(Math.abs(value)) / Math.log(1.01 / 0.99));
    const from = Math.floor(index / 32) * 32;
    const range = this.#ranges.get(sign);
    if (range === undefined) {
      const cost = this.#ranges.size === 0 ? 0 : 32 * 8;
      const fits = cost <= left;
      if (fits) this.#ranges.set(sign, { from, to: from + 32 });
      this.#bins.push(fits ? { sign, index } : { sign: 0, index: 0 });
      return fits ? cost : 0;
    }
    const wanted = { from: Math.min(range.from, from), to: Math.max(range.to, from + 32) };
    const cost = 8 * (wanted.to - wanted.from - (range.to - range.from));
    const now = cost <= left ? wanted : { from: wanted.to - (range.to - range.from), to: wanted.to };
    this.#ranges.set(sign, now);
    this.#bins.push({ sign, index });
    for (const bin of this.#bins) if (bin.sign === sign) bin.index = Math.max(bin.index, now.from);
    return cost <= left ? cost : 0;
  }

  quantile(q: number): number {
    const sorted = [...this.#bins].sort((a, b) => a.sign - b.sign || a.sign * (a.index - b.index));
    const { sign, index } = sorted[Math.floor(q * (sorted.length - 1))]!;
    const gamma = 1.01 / 0.99;
    return sign * (gamma ** index * (2 / (gamma + 1)));
  }
}

/** The bins that a sign of a sketch has room for, in steps of 32. */
interface OracleRange {
  from: number;
  length: number;
}

/** The sketch as docs/how-it-works.md has it: it keeps the bucket of every value at scale 6. */
class OracleSketch {
  readonly #buckets: { sign: number; bucket: number }[] = [];
  readonly #ranges = new Map<number, OracleRange>();
  #halvings = 0;

  /** Returns the cost, which is at most `left`. The first range of each sign is free. */
  add(value: number, left: number): number {
    const sign = Math.abs(value) <= 2 ** -128 ? 0 : Math.sign(value);
    return this.#addBucket(sign, sign === 0 ? 0 : exactBucket(Math.abs(value)), left);
  }

  /** Adds the values of another sketch, by sign and then by bucket. It can be no finer than that one is. */
  merge(other: OracleSketch, left: number): number {
    const byBucket = [...other.#buckets].sort((a, b) => a.sign - b.sign || a.bucket - b.bucket);
    let cost = 0;
    for (const { sign, bucket } of byBucket) {
      if (other.#halvings > this.#halvings && sign !== 0) {
        this.#halvings = other.#halvings;
        for (const [each, range] of this.#ranges) this.#place(each, range);
      }
      cost += this.#addBucket(sign, (bucket >> other.#halvings) << other.#halvings, left - cost);
    }
    return cost;
  }

  #addBucket(sign: number, bucket: number, left: number): number {
    this.#buckets.push({ sign, bucket });
    if (sign === 0) return 0;
    const index = bucket >> this.#halvings;
    const range = this.#ranges.get(sign);
    if (range === undefined) {
      this.#ranges.set(sign, { from: floorTo32(index), length: 32 });
      return 0;
    }
    const low = range.from + floorTo32(index - range.from);
    const from = Math.min(range.from, low);
    const length = Math.max(range.from + range.length, low + 32) - from;
    const cost = 8 * (length - range.length);
    if (length <= 2048 && cost > left) {
      this.#fit(sign, range.length, 0);
      return 0;
    }
    if (length > 2048) return this.#fit(sign, range.length, left);
    this.#ranges.set(sign, { from, length });
    return cost;
  }

  /** Halves all buckets as little as is needed to have those of the sign in the room that may be had. */
  #fit(sign: number, held: number, left: number): number {
    let length: number;
    for (this.#halvings--, length = Infinity; length > 2048; ) {
      this.#halvings++;
      const [lowest, highest] = this.#span(sign);
      length = floorTo32(highest) + 32 - floorTo32(lowest);
    }
    length = Math.max(held, length);
    const fits = 8 * (length - held) <= left;
    if (!fits) length = held;
    const isWithin = () => this.#span(sign)[1] - this.#span(sign)[0] < length;
    while (!isWithin()) this.#halvings++;
    for (const [each, range] of this.#ranges) {
      if (each === sign) range.length = length;
      this.#place(each, range);
    }
    return 8 * (length - held);
  }

  #place(sign: number, range: OracleRange): void {
    const [lowest, highest] = this.#span(sign);
    range.from = highest < floorTo32(lowest) + range.length ? floorTo32(lowest) : lowest;
  }

  #span(sign: number): [lowest: number, highest: number] {
    const indexes = this.#buckets
      .filter((each) => each.sign === sign)
      .map(({ bucket }) => bucket >> this.#halvings);
    return [Math.min(...indexes), Math.max(...indexes)];
  }

  quantile(q: number): number {
    const sorted = [...this.#buckets].sort((a, b) => a.sign - b.sign || a.sign * (a.bucket - b.bucket));
    const { sign, bucket } = sorted[Math.floor(q * (sorted.length - 1))]!;
    return sign === 0 ? 0 : sign * middleOfBucket(bucket >> this.#halvings, this.#halvings);
  }
}

function floorTo32(index: number): number {
  return 32 * Math.floor(index / 32);
}

function middleOfBucket(bucket: number, halvings: number): number {
  const width = 2 ** (halvings - 6);
  return 2 ** (bucket * width) * (2 / (1 + 2 ** -width));
}

/** The result of a sketch, without bins: the middle of the bucket of the value of the rank floor(q (n - 1)). */
export function expectedQuantile(values: readonly number[], q: number, halvings = 0): number {
  const exact = [...values].sort((a, b) => a - b)[Math.floor(q * (values.length - 1))]!;
  if (Math.abs(exact) <= 2 ** -128) return 0;
  return Math.sign(exact) * middleOfBucket(exactBucket(Math.abs(exact)) >> halvings, halvings);
}

/** Likewise, in windows of earlier versions. Correct as long as the sketch does not have to collapse bins. */
export function expectedOldQuantile(values: readonly number[], q: number): number {
  const exact = [...values].sort((a, b) => a - b)[Math.floor(q * (values.length - 1))]!;
  if (exact === 0) return 0;
  const gamma = 1.01 / 0.99;
  const index = Math.ceil(Math.log(Math.abs(exact)) / Math.log(gamma));
  return Math.sign(exact) * (gamma ** index * (2 / (gamma + 1)));
}
