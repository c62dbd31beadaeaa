import { COUNTER, GAUGE, TIMER } from '../aggregate/sample.ts';
import type { Dimension, Identity } from '../aggregate/series.ts';
import type { SeriesTable } from '../aggregate/series-table.ts';
import { readDecimal } from './decimal.ts';
import { MAX_SPELLED_KEYS } from './limits.ts';
import {
  BAR,
  CR,
  HASH,
  identifyTags,
  LF,
  type Line,
  LineDecoder,
  type LineOptions,
  SPACE,
  TAB,
} from './line-decoder.ts';
import type { InputRejection } from './rejection.ts';
import { ascii, COLON, isDigit } from './scanner.ts';

const AT = 0x40;
const PLUS = 0x2b;
const MINUS = 0x2d;
const LETTER_T = 0x54;

const SET = ascii('s');
const TYPES = Object.entries({ c: COUNTER, ms: TIMER, g: GAUGE, h: TIMER, d: TIMER }).map(([word, type]) => ({
  word: ascii(word),
  type,
}));

/**
 * DogStatsD also sends events and service checks. An event may hold white space; this beginning tells it from line
 * protocol.
 */
export const EVENT = ascii('_e{');
const SERVICE_CHECK = ascii('_sc|');
/** Where a metric comes from, in addition to its tags: the container, external data, the cardinality of the tags. */
const ORIGINS = ['c:', 'e:', 'card:'].map(ascii);

/** If a sample stood for more measurements, sums of weights would soon be inexact. */
const MAX_WEIGHT = 1_000_000_000;
/** Rates are written as decimals: a rate with a relative distance to 1/n below this stands for n measurements. */
const WEIGHT_TOLERANCE = 1e-9;

/** Enough digits for seconds until the year 9999. */
const MAX_SECONDS_DIGITS = 12;
const MS_PER_SECOND = 1000;

/** The value of a tag that has none. */
const PRESENT = 'true';

/**
 * StatsD, with the additions of DogStatsD (protocol 1.3): several values, tags, origins, timestamps in seconds.
 *
 *     name:value|type
 *     name:value:value...|type|@rate|#tag:value,tag|c:container|T1656581400
 *
 * `c` is a counter, `g` a gauge; `ms`, `h` and `d` are timers, in the unit received. A counter sent at a rate counts as
 * one sample with the value divided by the rate; a timer counts as 1/rate measurements of its value; a gauge's rate is
 * ignored.
 *
 * The spelling of a series is the name with its colon, and the tags from their bar on, or else the bar and the type. No
 * JSON object begins with a bar, so the formats cannot be confused.
 */
export class StatsdDecoder extends LineDecoder {
  /** Where the text of the line ends. */
  #end = 0;
  /** Where the line's tags begin, with their bar; 0 if it has none. */
  #tagsStart = 0;
  #tagsEnd = 0;
  /** How many measurements each sample of the line stands for. */
  #weight = 1;
  /** Where the next value begins, and where the last one ends. */
  #nextValue = 0;
  #valuesEnd = 0;
  /** Why the line's values have no series. */
  #noSeries: InputRejection | undefined;

  constructor(table: SeriesTable, options: LineOptions = {}) {
    super(table, 'not_statsd', options);
  }

  protected line(start: number): Line {
    const { sample, scanner } = this;
    this.#findEnd(start);
    let i = start;
    while (i < this.#end && (scanner.bytes[i] === SPACE || scanner.bytes[i] === TAB)) i++;
    if (i === this.#end) return 'nothing';
    if (scanner.startsWith(start, EVENT) || scanner.startsWith(start, SERVICE_CHECK)) {
      this.reject('not_a_metric');
      return 'read';
    }
    const colon = this.#indexOf(COLON, start, this.#end);
    const bar = this.#indexOf(BAR, start, this.#end);
    if (bar === this.#end || colon > bar) return 'unreadable';
    const typeEnd = this.#indexOf(BAR, bar + 1, this.#end);
    sample.clear();
    const problem = this.#options(typeEnd);
    if (problem === 'not_statsd') return 'unreadable';
    const rejection = this.#type(bar + 1, typeEnd) ?? problem;
    if (rejection !== undefined) {
      this.reject(rejection);
      return 'read';
    }
    this.#spell(start, colon, bar, typeEnd);
    sample.weight = sample.type === TIMER ? this.#weight : 1;
    // All values share one series, so look it up once: a line may have very many values, and very long tags.
    this.#noSeries = this.find() ? undefined : this.learn();
    this.#nextValue = colon + 1;
    this.#valuesEnd = bar;
    return this.#values();
  }

  /** Finds the end of the line. A line feed, or a carriage return before it, is not part of the text. */
  #findEnd(start: number): void {
    const { bytes, end } = this.scanner;
    this.lineEnd = this.#indexOf(LF, start, end);
    this.#end = this.lineEnd > start && bytes[this.lineEnd - 1] === CR ? this.lineEnd - 1 : this.lineEnd;
  }

  /** Returns `end` if the byte is not there. */
  #indexOf(byte: number, start: number, end: number): number {
    const { bytes } = this.scanner;
    let i = start;
    while (i < end && bytes[i] !== byte) i++;
    return i;
  }

  /** Sets the type that the bytes name. */
  #type(start: number, end: number): InputRejection | undefined {
    const { scanner } = this;
    for (let k = 0; k < TYPES.length; k++) {
      const { word, type } = TYPES[k]!;
      if (!scanner.spells(start, end, word)) continue;
      this.sample.type = type;
      return undefined;
    }
    return scanner.spells(start, end, SET) ? 'set' : 'bad_type';
  }

  /** Reads the parts after the type, from their first bar on. Tags, rate and time may each occur once. */
  #options(start: number): InputRejection | undefined {
    const { bytes } = this.scanner;
    this.#tagsStart = 0;
    this.#weight = 1;
    let problem: InputRejection | undefined;
    let hasRate = false;
    let hasTime = false;
    for (let bar = start; bar < this.#end; ) {
      const end = this.#indexOf(BAR, bar + 1, this.#end);
      const letter = end > bar + 1 ? bytes[bar + 1] : undefined;
      if (letter === HASH && this.#tagsStart === 0) {
        this.#tagsStart = bar;
        this.#tagsEnd = end;
      } else if (letter === AT && !hasRate) {
        hasRate = true;
        if (!this.#rate(bar + 2, end)) problem ??= 'bad_sample_rate';
      } else if (letter === LETTER_T && !hasTime) {
        hasTime = true;
        if (!this.#time(bar + 2, end)) problem ??= 'bad_timestamp';
      } else if (!this.#isOrigin(bar + 1)) return 'not_statsd';
      bar = end;
    }
    return problem;
  }

  #isOrigin(start: number): boolean {
    return ORIGINS.some((word) => this.scanner.startsWith(start, word));
  }

  #rate(start: number, end: number): boolean {
    const rate = readDecimal(this.scanner, start, end);
    const weight = 1 / rate;
    if (!(weight >= 1 && weight <= MAX_WEIGHT)) return false;
    const whole = Math.round(weight);
    this.#weight = Math.abs(weight - whole) <= WEIGHT_TOLERANCE * weight ? whole : weight;
    return true;
  }

  #time(start: number, end: number): boolean {
    const { bytes } = this.scanner;
    for (let i = start; i < end; i++) if (!isDigit(bytes[i]!)) return false;
    if (start === end || end - start > MAX_SECONDS_DIGITS) return false;
    this.sample.eventTime = readDecimal(this.scanner, start, end) * MS_PER_SECOND;
    return true;
  }

  #spell(start: number, colon: number, bar: number, typeEnd: number): void {
    const { sample } = this;
    const hasTags = this.#tagsStart > 0;
    sample.nameStart = start;
    sample.nameLength = colon + 1 - start;
    sample.dimensionsStart = hasTags ? this.#tagsStart : bar;
    sample.dimensionsLength = (hasTags ? this.#tagsEnd : typeEnd) - sample.dimensionsStart;
  }

  protected rest(): Line {
    const { steps } = this;
    // While it paused, the table may have forgotten the series. That is no work of the message's own: if it were
    // charged again in every turn, little would be left for the values.
    const { left } = steps;
    if (this.#noSeries === undefined && !this.find()) this.learn();
    steps.left = left;
    return this.#values();
  }

  /** Reads the values between the colons. */
  #values(): Line {
    const { sample, scanner, steps } = this;
    const scale = sample.type === COUNTER ? this.#weight : 1;
    const end = this.#valuesEnd;
    for (let i = this.#nextValue; i <= end; i++) {
      if (steps.left <= 0) {
        this.#nextValue = i;
        return 'paused';
      }
      steps.left -= 1;
      const first = scanner.bytes[i];
      const valueEnd = this.#indexOf(COLON, i, end);
      sample.value = scale * readDecimal(scanner, i, valueEnd);
      const isSigned = valueEnd > i && (first === PLUS || first === MINUS);
      // The value times its weight must be finite, so that it can be added.
      if (!Number.isFinite(sample.weight * sample.value)) this.reject('bad_value');
      else if (sample.type === GAUGE && isSigned) this.reject('delta_gauge');
      else this.hand(this.#noSeries);
      i = valueEnd;
    }
    return 'read';
  }

  protected override moved(by: number): void {
    super.moved(by);
    this.#nextValue += by;
    this.#valuesEnd += by;
  }

  protected identity(): Identity | InputRejection {
    const { nameStart, nameLength, dimensionsStart, dimensionsLength } = this.sample;
    const name = this.text(nameStart, nameStart + nameLength - 1);
    const spelled = this.text(dimensionsStart, dimensionsStart + dimensionsLength);
    if (name === undefined || spelled === undefined) return 'bad_unicode';
    if (name === '') return 'missing_name';
    const tags = spelled.startsWith('|#') ? spelled.slice(2).split(',', MAX_SPELLED_KEYS + 1) : [];
    return identifyTags(name, tags.filter((tag) => tag !== '').map(keyAndValue));
  }

  protected typeOf(): number {
    return this.sample.type;
  }
}

function keyAndValue(tag: string): Dimension {
  const colon = tag.indexOf(':');
  return colon < 0 ? [tag, PRESENT] : [tag.slice(0, colon), tag.slice(colon + 1)];
}
