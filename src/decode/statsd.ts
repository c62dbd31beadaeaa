import { COUNTER, GAUGE, TIMER } from '../aggregate/sample.ts';
import { type Dimension, type Identity, identify } from '../aggregate/series.ts';
import type { SeriesTable } from '../aggregate/series-table.ts';
import { readDecimal } from './decimal.ts';
import { MAX_SPELLED_KEYS } from './limits.ts';
import { BAR, CR, HASH, LF, type Line, LineDecoder, type LineOptions, SPACE, TAB } from './line-decoder.ts';
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
/** If a sample stood for more measurements, sums of weights would soon be inexact. */
const MAX_WEIGHT = 1_000_000_000;
/** Rates are written as decimals: a rate with a relative distance to 1/n below this stands for n measurements. */
const WEIGHT_TOLERANCE = 1e-9;

/** Enough digits for seconds until the year 9999. */
const MAX_SECONDS_DIGITS = 12;
const MS_PER_SECOND = 1000;

/** The value of a tag that has none. */
const PRESENT = 'true';

/** How names may hold tags, beside the section of DogStatsD: after InfluxDB's comma, after a hash sign, in brackets. */
export const NAME_TAGS = ['influx', 'hash', 'brackets'] as const;
export type NameTags = (typeof NAME_TAGS)[number];
const TAGS_BEGIN: Readonly<Record<NameTags, string>> = { influx: ',', hash: '#', brackets: '[' };
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;

export interface StatsdOptions extends LineOptions {
  readonly nameTags?: readonly NameTags[];
  /** Gauges with a sign are values, as DogStatsD has it. If not, they change an earlier value, and are rejected. */
  readonly signedGauges?: boolean;
}

/**
 * StatsD, with the additions of DogStatsD (protocol 1.3): several values, tags, origins, timestamps in seconds.
 *
 *     name:value|type
 *     name:value:value...|type|@rate|#tag:value,tag|c:container|T1656581400
 *
 * Sections that mean nothing here, and empty ones, are skipped: each addition to the protocol has brought others.
 * Settings allow tags in the name: `name,tag=value:1|c`, `name#tag=value:1|c`, `name[tag=value]:1|c`.
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
  /** Whether an empty value is nothing, because the line has others. */
  #skipsEmpty = false;
  #nextValue = 0;
  #valuesEnd = 0;
  /** Why the line's values have no series. */
  #noSeries: InputRejection | undefined;
  readonly #nameTags: readonly NameTags[];
  readonly #hasBrackets: boolean;
  readonly #signedGauges: boolean;

  constructor(table: SeriesTable, options: StatsdOptions = {}) {
    super(table, 'not_statsd', options);
    this.#nameTags = options.nameTags ?? [];
    this.#hasBrackets = this.#nameTags.includes('brackets');
    this.#signedGauges = options.signedGauges ?? false;
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
    const colon = this.#colon(start);
    const bar = this.#indexOf(BAR, colon, this.#end);
    if (bar === this.#end) return 'unreadable';
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
    this.#skipsEmpty = this.#hasValue(colon + 1, bar);
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

  /** Returns where the name ends; the end of the line if it has none. Tags in brackets may hold colons and bars. */
  #colon(start: number): number {
    const end = this.#end;
    const bar = this.#indexOf(BAR, start, end);
    const colon = this.#indexOf(COLON, start, bar);
    if (this.#hasBrackets && this.#indexOf(OPEN_BRACKET, start, colon) < colon) {
      const close = this.#indexOf(CLOSE_BRACKET, start, end);
      if (close + 1 < end && this.scanner.bytes[close + 1] === COLON) return close + 1;
    }
    return colon < bar ? colon : end;
  }

  /** Returns `end` if the byte is not there. */
  #indexOf(byte: number, start: number, end: number): number {
    const { bytes } = this.scanner;
    let i = start;
    while (i < end && bytes[i] !== byte) i++;
    return i;
  }

  #hasValue(start: number, end: number): boolean {
    let i = start;
    while (i < end && this.scanner.bytes[i] === COLON) i++;
    return i < end;
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

  /** Reads the sections after the type, from their first bar on. Tags, rate and time may each occur once. */
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
      } else if (letter === HASH || letter === AT || letter === LETTER_T) return 'not_statsd';
      bar = end;
    }
    return problem;
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
      if (valueEnd === i && this.#skipsEmpty) continue;
      sample.value = scale * readDecimal(scanner, i, valueEnd);
      const isSigned = valueEnd > i && (first === PLUS || first === MINUS);
      // The value times its weight must be finite, so that it can be added.
      if (!Number.isFinite(sample.weight * sample.value)) this.reject('bad_value');
      else if (sample.type === GAUGE && isSigned && !this.#signedGauges) this.reject('delta_gauge');
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
    const named = this.text(nameStart, nameStart + nameLength - 1);
    const spelled = this.text(dimensionsStart, dimensionsStart + dimensionsLength);
    if (named === undefined || spelled === undefined) return 'bad_unicode';
    const [name, inName] = this.#taggedName(named);
    if (name === '') return 'missing_name';
    const tags = spelled.startsWith('|#') ? spelled.slice(2).split(',', MAX_SPELLED_KEYS + 1) : [];
    return identifyAll(name, [
      ...inName.filter((tag) => tag !== '').map((tag) => keyAndValue(tag, '=')),
      ...tags.filter((tag) => tag !== '').map((tag) => keyAndValue(tag, ':')),
    ]);
  }

  /** Divides a name into the name proper and its tags. Whichever way of tagging begins first is the one in use. */
  #taggedName(named: string): readonly [name: string, tags: readonly string[]] {
    const begins = this.#nameTags.map((style) => named.indexOf(TAGS_BEGIN[style])).filter((at) => at >= 0);
    if (begins.length === 0) return [named, []];
    const at = Math.min(...begins);
    const isBracketed = named[at] === TAGS_BEGIN.brackets;
    if (isBracketed && !named.endsWith(']')) return [named, []];
    const tags = named.slice(at + 1, isBracketed ? -1 : undefined).split(',', MAX_SPELLED_KEYS + 1);
    return [named.slice(0, at), tags];
  }

  protected typeOf(): number {
    return this.sample.type;
  }
}

function keyAndValue(tag: string, separator: string): Dimension {
  const at = tag.indexOf(separator);
  return at < 0 ? [tag, PRESENT] : [tag.slice(0, at), tag.slice(at + 1)];
}

/** Several values of one key become one value: the distinct ones, sorted, with commas between them. */
function identifyAll(name: string, tags: readonly Dimension[]): Identity | InputRejection {
  if (tags.length > MAX_SPELLED_KEYS) return 'too_many_dimensions';
  const values = new Map<string, Set<string>>();
  for (const [key, value] of tags) {
    if (key === '') return 'bad_dimensions';
    const known = values.get(key);
    if (known === undefined) values.set(key, new Set([value]));
    else known.add(value);
  }
  const joined = (all: Set<string>) =>
    [...all]
      .filter((value) => value !== '')
      .toSorted()
      .join(',');
  return identify(
    name,
    Array.from(values, ([key, all]): Dimension => [key, joined(all)]),
  );
}
