import { matchesGlob } from '../aggregate/glob.ts';
import { COUNTER, GAUGE } from '../aggregate/sample.ts';
import type { Dimension, Identity } from '../aggregate/series.ts';
import type { SeriesTable } from '../aggregate/series-table.ts';
import { INT64, readDecimal, readInteger, readNanos, UINT64 } from './decimal.ts';
import { MAX_LINE_SPREAD, MAX_SPELLED_KEYS } from './limits.ts';
import {
  CR,
  EQUALS,
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
import { ascii, COMMA, FAILED, QUOTE } from './scanner.ts';
import { BYTES_PER_STEP, FOUND_STEPS } from './steps.ts';

const BACKSLASH = 0x5c;
const LETTER_I = 0x69;
const LETTER_U = 0x75;

const BOOLEANS = ['t', 'T', 'true', 'True', 'TRUE', 'f', 'F', 'false', 'False', 'FALSE'].map(ascii);
const PLACES = 3;
const USUAL_FIELDS = 64;
/** As Telegraf's inputs have them. */
const FEW_FIELDS = 24;
/**
 * In a line of more fields, keys are not compared, and each field counts: it would have to be done in one go, and take
 * some 100 ms for a line of a megabyte.
 */
const MOST_COMPARED_FIELDS = 1024;
/** The series of this field is named by the measurement alone. */
const VALUE = 'value';

/** A backslash escapes the characters that would end the part it is in. Before any other, it stands for itself. */
const UNESCAPED_COMMA = /(?<!\\),/;
const UNESCAPED_EQUALS = /(?<!\\)=/;

export interface LineProtocolOptions extends LineOptions {
  /** Globs for the names of the series that are counters. */
  readonly counters: readonly string[];
}

/**
 * InfluxDB's line protocol, with timestamps in nanoseconds:
 *
 *     measurement,tag=value,... field=1.5,other=2i,... 1556813561098000000
 *
 * Every field that is a number is a sample of the series `measurement.field`, or of `measurement` if the field is
 * `value`. The tags are its dimensions. It is a gauge, unless its name is listed among the counters.
 *
 * A line is read in two passes: the first finds the fields and the time, the second reads the values. The spelling of a
 * series is the field's key with its equals sign, and the measurement and the tags with the space after them. No JSON
 * object ends in a space, so the formats cannot be confused.
 */
export class LineProtocolDecoder extends LineDecoder {
  readonly #counters: readonly string[];
  /** PLACES numbers for each field of the line: where its key begins, where its value begins, where its value ends. */
  #places = new Int32Array(PLACES * USUAL_FIELDS);
  #placesEnd = 0;
  /** Where in the places the next field is. */
  #nextPlace = 0;
  /** Whether the line has a timestamp, valid or not. */
  #hasTimestamp = false;

  constructor(table: SeriesTable, options: LineProtocolOptions) {
    super(table, 'not_line_protocol', options);
    this.#counters = options.counters;
  }

  protected line(start: number): Line {
    const { scanner, sample } = this;
    let i = start;
    while (scanner.peek(i) === SPACE || scanner.peek(i) === TAB) i++;
    if (this.#isEnd(i)) {
      this.#endFrom(i);
      return 'nothing';
    }
    if (scanner.peek(i) === HASH) {
      this.#endFrom(i);
      return 'read';
    }
    sample.clear();
    sample.dimensionsStart = i;
    const keyEnd = this.#keyEnd(i);
    const fieldsEnd = keyEnd === FAILED ? FAILED : this.#findFields(this.#spaces(keyEnd));
    const after = fieldsEnd === FAILED ? FAILED : this.#timestamp(this.#spaces(fieldsEnd));
    // After a failure, the line feed from which to go on is the next one after what was read.
    this.#endFrom(after === FAILED ? this.lineEnd : after);
    if (after === FAILED) return 'unreadable';
    sample.dimensionsLength = keyEnd + 1 - sample.dimensionsStart;
    this.#dropSuperseded();
    const fields = this.#placesEnd / PLACES;
    this.steps.left -= FOUND_STEPS * fields;
    const spelledOut = fields * sample.dimensionsLength;
    if (spelledOut > MAX_LINE_SPREAD * (after - i)) this.reject('too_long');
    else if (Number.isNaN(sample.eventTime) && this.#hasTimestamp) this.reject('bad_timestamp');
    else {
      this.#nextPlace = 0;
      return this.rest();
    }
    return 'read';
  }

  /** Sets `lineEnd` to the first line feed from `i` on. */
  #endFrom(i: number): void {
    const { bytes, end } = this.scanner;
    while (i < end && bytes[i] !== LF) i++;
    this.lineEnd = i;
  }

  #spaces(i: number): number {
    while (this.scanner.peek(i) === SPACE) i++;
    return i;
  }

  #isEnd(i: number): boolean {
    const { scanner } = this;
    if (scanner.peek(i) === CR) i++;
    return i >= scanner.end || scanner.peek(i) === LF;
  }

  #fail(i: number): number {
    this.lineEnd = i;
    return FAILED;
  }

  /** Returns the position of the space that ends the measurement and the tags. */
  #keyEnd(start: number): number {
    const { bytes, end } = this.scanner;
    for (let i = start; i < end && bytes[i] !== LF; i++) {
      if (bytes[i] === SPACE && bytes[i - 1] !== BACKSLASH) return i;
    }
    return this.#fail(start);
  }

  /** Returns the position after the last field. */
  #findFields(start: number): number {
    this.#placesEnd = 0;
    for (let i = start; ; i++) {
      const valueStart = this.#fieldKey(i);
      if (valueStart === FAILED) return FAILED;
      const valueEnd = this.#valueEnd(valueStart);
      if (valueEnd === FAILED) return FAILED;
      this.#place(i, valueStart, valueEnd);
      if (this.scanner.peek(valueEnd) !== COMMA) return valueEnd;
      i = valueEnd;
    }
  }

  #place(key: number, value: number, end: number): void {
    const at = this.#placesEnd;
    if (at === this.#places.length) {
      const places = new Int32Array(2 * at);
      places.set(this.#places);
      this.#places = places;
    }
    this.#places[at] = key;
    this.#places[at + 1] = value;
    this.#places[at + 2] = end;
    this.#placesEnd = at + PLACES;
  }

  /** Leaves out fields whose key comes again later in the line: the last one counts, as InfluxDB has it. */
  #dropSuperseded(): void {
    const places = this.#places;
    const end = this.#placesEnd;
    if (end > MOST_COMPARED_FIELDS * PLACES) return;
    if (end <= FEW_FIELDS * PLACES ? !this.#hasTwice() : !this.#hasTwiceOfMany()) return;
    const last = new Map<string, number>();
    for (let p = 0; p < end; p += PLACES) last.set(this.#keyAt(p), p);
    let to = 0;
    for (let p = 0; p < end; p += PLACES) {
      if (last.get(this.#keyAt(p)) !== p) continue;
      places.copyWithin(to, p, p + PLACES);
      to += PLACES;
    }
    this.#placesEnd = to;
  }

  #keyAt(place: number): string {
    return this.scanner.text(this.#places[place]!, this.#places[place + 1]!, false);
  }

  /** Whether two fields have one key. Compares all pairs, which is the cheapest for few fields. */
  #hasTwice(): boolean {
    const places = this.#places;
    const { bytes } = this.scanner;
    for (let p = PLACES; p < this.#placesEnd; p += PLACES) {
      const start = places[p]!;
      const length = places[p + 1]! - start;
      for (let q = 0; q < p; q += PLACES) {
        const other = places[q]!;
        if (places[q + 1]! - other !== length) continue;
        let k = length - 1;
        while (k >= 0 && bytes[start + k] === bytes[other + k]) k--;
        if (k < 0) return true;
      }
    }
    return false;
  }

  #hasTwiceOfMany(): boolean {
    const keys = new Set<string>();
    for (let p = 0; p < this.#placesEnd; p += PLACES) keys.add(this.#keyAt(p));
    this.steps.left -= this.#placesEnd / PLACES;
    return keys.size < this.#placesEnd / PLACES;
  }

  /** Returns the position after the equals sign. */
  #fieldKey(start: number): number {
    const { bytes, end } = this.scanner;
    for (let i = start; i < end; i++) {
      const byte = bytes[i];
      const ends = byte === EQUALS || byte === COMMA || byte === SPACE || byte === LF;
      if (!ends || (byte !== LF && i > start && bytes[i - 1] === BACKSLASH)) continue;
      return byte === EQUALS && i > start ? i + 1 : this.#fail(start);
    }
    return this.#fail(start);
  }

  /**
   * Returns the position after the value. A string may hold line feeds. A string that does not end breaks the line, as
   * does anything unexpected after a string.
   */
  #valueEnd(start: number): number {
    const { scanner } = this;
    const { bytes, end } = scanner;
    let i = start;
    if (scanner.peek(i) === QUOTE) {
      for (i++; i < end && bytes[i] !== QUOTE; i++) {
        if (bytes[i] === BACKSLASH && (bytes[i + 1] === QUOTE || bytes[i + 1] === BACKSLASH)) i++;
      }
      if (i >= end) return this.#fail(start);
      i++;
      const next = scanner.peek(i);
      return next === COMMA || next === SPACE || this.#isEnd(i) ? i : this.#fail(i);
    }
    while (i < end && bytes[i] !== COMMA && bytes[i] !== SPACE && bytes[i] !== LF && bytes[i] !== CR) i++;
    return i;
  }

  /** Sets the event time. Returns the position of the line's end. */
  #timestamp(start: number): number {
    const { bytes, end } = this.scanner;
    this.#hasTimestamp = !this.#isEnd(start);
    if (!this.#hasTimestamp) return start;
    let i = start;
    while (i < end && bytes[i] !== SPACE && bytes[i] !== LF && bytes[i] !== CR) i++;
    this.sample.eventTime = readNanos(this.scanner, start, i);
    i = this.#spaces(i);
    return this.#isEnd(i) ? i : this.#fail(i);
  }

  protected rest(): Line {
    const { sample, steps } = this;
    const places = this.#places;
    const cost = 1 + sample.dimensionsLength / BYTES_PER_STEP;
    for (let p = this.#nextPlace; p < this.#placesEnd; p += PLACES) {
      if (steps.left <= 0) {
        this.#nextPlace = p;
        return 'paused';
      }
      steps.left -= cost;
      const valueStart = places[p + 1]!;
      const value = this.#value(valueStart, places[p + 2]!);
      if (typeof value === 'string') {
        this.reject(value);
        continue;
      }
      sample.value = value;
      sample.nameStart = places[p]!;
      sample.nameLength = valueStart - sample.nameStart;
      sample.type = GAUGE;
      this.hand(this.find() || this.#findCounter() ? undefined : this.learn());
    }
    return 'read';
  }

  protected override moved(by: number): void {
    super.moved(by);
    for (let p = this.#nextPlace; p < this.#placesEnd; p++) this.#places[p]! += by;
  }

  /** A known spelling carries its type, so the name is matched against the globs only when it is new. */
  #findCounter(): boolean {
    if (this.#counters.length === 0) return false;
    this.sample.type = COUNTER;
    return this.find();
  }

  #value(start: number, end: number): number | InputRejection {
    const { scanner } = this;
    if (scanner.peek(start) === QUOTE) return 'string_field';
    const value = this.#number(start, end);
    if (Number.isFinite(value)) return value;
    return BOOLEANS.some((word) => scanner.spells(start, end, word)) ? 'boolean_field' : 'bad_value';
  }

  #number(start: number, end: number): number {
    const { scanner } = this;
    const last = end > start ? scanner.bytes[end - 1] : 0;
    if (last === LETTER_I) return readInteger(scanner, start, end - 1, INT64);
    return last === LETTER_U
      ? readInteger(scanner, start, end - 1, UINT64)
      : readDecimal(scanner, start, end);
  }

  protected identity(): Identity | InputRejection {
    const { dimensionsStart, dimensionsLength, nameStart, nameLength } = this.sample;
    const key = this.text(dimensionsStart, dimensionsStart + dimensionsLength - 1);
    const field = this.text(nameStart, nameStart + nameLength - 1);
    if (key === undefined || field === undefined) return 'bad_unicode';
    const [measurement = '', ...tags] = key.split(UNESCAPED_COMMA, MAX_SPELLED_KEYS + 2);
    if (measurement === '') return 'missing_name';
    const dimensions: Dimension[] = [];
    for (const tag of tags) {
      const [name = '', value, ...more] = tag.split(UNESCAPED_EQUALS, 3);
      if (value === undefined || more.length > 0) return 'bad_dimensions';
      dimensions.push([unescaped(name), unescaped(value)]);
    }
    const base = measurement.replace(/\\([, ])/g, '$1');
    const fieldName = unescaped(field);
    return identifyTags(fieldName === VALUE ? base : `${base}.${fieldName}`, dimensions);
  }

  protected typeOf({ name }: Identity): number {
    return this.#counters.some((glob) => matchesGlob(glob, name)) ? COUNTER : GAUGE;
  }
}

/** Removes the escapes in tags and in keys of fields. */
function unescaped(text: string): string {
  return text.replace(/\\([,= ])/g, '$1');
}
