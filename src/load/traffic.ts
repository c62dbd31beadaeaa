/** Realistic traffic in the producers' wire format, determined by a seed. Pure: the caller brings the clock. */
import type { MetricType } from '../aggregate/point.ts';
import { METRIC_TYPES } from '../aggregate/point.ts';
import type { WindowSettings } from '../verify/truth.ts';
import type { CatalogSeries, ValueShape } from './catalog.ts';
import { catalogSeries, goDimensions, goString } from './catalog.ts';
import { logNormal, type Random, seededRandom, shuffled, Zipf } from './random.ts';

export interface TrafficOptions {
  readonly seed: number;
  /** Number of different series, over all types. */
  readonly series: number;
  /** Zipf exponent of the series' popularity; 0: all equally popular. */
  readonly skew: number;
  /** Weights: the share of the samples that each type gets. */
  readonly types: Readonly<Record<MetricType, number>>;
  /** Share of the samples, 0 to 1, that arrive too late for the window of their timestamp. */
  readonly late: number;
  /** Share of the samples whose timestamp is further ahead than MAX_AHEAD. */
  readonly ahead: number;
  readonly windows: WindowSettings;
}

/** No message is longer than this, even with the longest series, number and timestamp. */
export const MAX_TRAFFIC_MESSAGE_BYTES = 512;

/** Share of the samples that are out of order but still in time. */
const OUT_OF_ORDER_SHARE = 0.05;
/**
 * Late and ahead samples miss the limit by this much more than needed, so that neither a delay in a buffer nor a
 * server's clock can make up for it.
 */
const CLOCK_MARGIN_MS = 1_000;
/** Late and ahead samples spread over this many windows. */
const ASTRAY_WINDOWS = 3;
/** Share of a counter's samples with a value of 1; the others are small. */
const SINGLE_EVENT_SHARE = 0.9;
const MAX_EVENTS = 12;
const NS_PER_MS = 1_000_000;
const SECOND_MS = 1_000;
const NO_SECOND = Number.NaN;

/** What was sent for one series. */
export interface SentSeries {
  readonly series: CatalogSeries;
  readonly count: number;
  /** Added in the order of sending. */
  readonly sum: number;
}

/** Totals of everything sent. */
export interface TrafficTotals {
  readonly types: Readonly<Record<MetricType, TypeTotals>>;
  /** Samples that were given a timestamp too old, or too far ahead, for their window. */
  readonly late: number;
  readonly ahead: number;
}

export interface TypeTotals {
  /** Number of different series that were sent. */
  series: number;
  samples: number;
  sum: number;
}

/** The series of one type, by popularity. */
interface Population {
  readonly type: MetricType;
  /** Cumulative share of the samples, up to and including this type. */
  readonly upTo: number;
  readonly popularity: Zipf;
  /** Maps popularity rank to the number of the series, counted from `first`. */
  readonly order: Uint32Array;
  readonly first: number;
}

/**
 * A sequence of messages, one sample each. The same options and seed give the same names, dimensions, types, values and
 * timestamps relative to the clock.
 */
export class Traffic {
  readonly #options: TrafficOptions;
  readonly #random: Random;
  readonly #populations: readonly Population[];
  readonly #rendered: (RenderedSeries | undefined)[];
  readonly #counts: Float64Array;
  readonly #sums: Float64Array;
  readonly #clock = new TimestampWriter();
  #late = 0;
  #ahead = 0;

  constructor(options: TrafficOptions, random: Random = seededRandom(options.seed)) {
    this.#options = options;
    this.#random = random;
    this.#populations = populate(options, random);
    this.#rendered = new Array(options.series);
    this.#counts = new Float64Array(options.series);
    this.#sums = new Float64Array(options.series);
  }

  /** Writes the next message, as of `now` (ms since 1970), into `target` at `at`. Returns where it ends. */
  write(target: Buffer, at: number, now: number): number {
    const index = this.#pickSeries();
    const rendered = this.#render(index);
    const value = drawValue(rendered.series.shape, this.#random);
    this.#counts[index]! += 1;
    this.#sums[index]! += value;
    let end = at + rendered.head.copy(target, at);
    end = writeNumber(target, end, value);
    end += rendered.middle.copy(target, end);
    end = this.#clock.write(target, end, now + this.#drawOffset(), Math.floor(this.#random() * NS_PER_MS));
    target[end] = 0x22; // "
    target[end + 1] = 0x7d; // }
    return end + 2;
  }

  /** Yields what has been written so far, series by series. */
  *sent(): Generator<SentSeries> {
    for (let index = 0; index < this.#counts.length; index++) {
      const count = this.#counts[index]!;
      if (count > 0) yield { series: this.#render(index).series, count, sum: this.#sums[index]! };
    }
  }

  totals(): TrafficTotals {
    const none = () => ({ series: 0, samples: 0, sum: 0 });
    const types = { counter: none(), gauge: none(), timer: none() };
    for (const { series, count, sum } of this.sent()) {
      types[series.type].series++;
      types[series.type].samples += count;
      types[series.type].sum += sum;
    }
    return { types, late: this.#late, ahead: this.#ahead };
  }

  #pickSeries(): number {
    const draw = this.#random();
    const population = this.#populations.find(({ upTo }) => draw < upTo)!;
    return population.first + population.order[population.popularity.pick(this.#random)]!;
  }

  /** Renders a series when it is first needed: of a million series, most are rare. */
  #render(index: number): RenderedSeries {
    const known = this.#rendered[index];
    if (known !== undefined) return known;
    const { type, first } = this.#populations.findLast((population) => population.first <= index)!;
    const made = renderSeries(catalogSeries(type, index - first));
    this.#rendered[index] = made;
    return made;
  }

  /** Draws the timestamp minus the clock, in whole ms. */
  #drawOffset(): number {
    const { late, ahead, windows } = this.#options;
    const draw = this.#random();
    if (draw < late) {
      this.#late++;
      // The window of the timestamp ends at most a window's length after it, so the sample is certain to be late.
      return -(windows.windowMs + windows.latenessMs + this.#drawAstray());
    }
    if (draw < late + ahead) {
      this.#ahead++;
      return windows.maxAheadMs + this.#drawAstray();
    }
    if (draw >= 1 - OUT_OF_ORDER_SHARE) return -Math.floor((this.#random() * windows.latenessMs) / 2);
    return 0;
  }

  #drawAstray(): number {
    return CLOCK_MARGIN_MS + Math.floor(this.#random() * ASTRAY_WINDOWS * this.#options.windows.windowMs);
  }
}

interface RenderedSeries {
  readonly series: CatalogSeries;
  /** The bytes up to the value. */
  readonly head: Buffer;
  /** The bytes after the value, up to the timestamp. */
  readonly middle: Buffer;
}

function renderSeries(series: CatalogSeries): RenderedSeries {
  const { name, type, dimensions } = series;
  return {
    series,
    head: Buffer.from(`{"name":${goString(name)},"type":${goString(type)},"value":`),
    middle: Buffer.from(`,"dimensions":${goDimensions(dimensions)},"timestamp":"`),
  };
}

/** Divides the series among the types by weight, at least one each. */
function populate(options: TrafficOptions, random: Random): Population[] {
  const types = METRIC_TYPES.filter((type) => options.types[type] > 0);
  if (types.length === 0) throw new RangeError('no type has a weight above 0');
  if (options.series < types.length)
    throw new RangeError(`${types.length} types need at least ${types.length} series`);
  const total = types.reduce((sum, type) => sum + options.types[type], 0);
  let first = 0;
  let weight = 0;
  return types.map((type, i) => {
    weight += options.types[type];
    const isLast = i === types.length - 1;
    const wanted = isLast ? options.series : Math.round((options.series * weight) / total);
    const end = Math.min(Math.max(wanted, first + 1), options.series - (types.length - 1 - i));
    const size = end - first;
    const population = {
      type,
      upTo: isLast ? 1 : weight / total,
      popularity: new Zipf(size, options.skew),
      order: shuffled(size, random),
      first,
    };
    first = end;
    return population;
  });
}

function drawValue(shape: ValueShape, random: Random): number {
  switch (shape.kind) {
    case 'events':
      return random() < SINGLE_EVENT_SHARE ? 1 : 2 + Math.floor(random() * (MAX_EVENTS - 1));
    case 'level':
      return Math.round(logNormal(random, shape.median, shape.sigma));
    case 'uniform': {
      const scale = 10 ** shape.decimals;
      // + 0 turns -0 into 0, which Go and JavaScript write differently.
      return Math.round((shape.low + random() * (shape.high - shape.low)) * scale) / scale + 0;
    }
  }
}

const DIGIT_0 = 0x30;

/** Writes a number as Go does. From 1e-6 to 1e21, that is what JavaScript does. */
function writeNumber(target: Buffer, at: number, value: number): number {
  if (Number.isInteger(value) && value >= 0 && value < 10) {
    target[at] = DIGIT_0 + value;
    return at + 1;
  }
  return at + target.write(String(value), at, 'latin1');
}

/** Writes digits 10^(digits-1) .. 1 of `value`, leading zeros included. */
function writeDigits(target: Buffer, at: number, value: number, digits: number): void {
  let rest = value;
  for (let i = at + digits - 1; i >= at; i--) {
    const next = Math.floor(rest / 10);
    target[i] = DIGIT_0 + rest - next * 10;
    rest = next;
  }
}

/**
 * Writes RFC 3339 timestamps as Go does: nanoseconds, trailing zeros cut, Z. Caches the text of the last whole second.
 */
class TimestampWriter {
  #second = NO_SECOND;
  #text = Buffer.alloc(0);

  write(target: Buffer, at: number, ms: number, ns: number): number {
    const second = Math.floor(ms / SECOND_MS);
    if (second !== this.#second) {
      this.#second = second;
      this.#text = Buffer.from(new Date(second * SECOND_MS).toISOString().slice(0, -'.000Z'.length));
    }
    let end = at + this.#text.copy(target, at);
    const fraction = (ms - second * SECOND_MS) * NS_PER_MS + ns;
    if (fraction > 0) {
      target[end] = 0x2e; // .
      writeDigits(target, end + 1, fraction, 9);
      end += 10;
      while (target[end - 1] === DIGIT_0) end--;
    }
    target[end] = 0x5a; // Z
    return end + 1;
  }
}
