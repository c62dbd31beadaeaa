import { UNKNOWN_SERIES } from '../aggregate/sample.ts';
import { identify } from '../aggregate/series.ts';
import type { SeriesTable } from '../aggregate/series-table.ts';
import { DecodedSample, NO_TYPE } from './decoded-sample.ts';
import type { Decoder, SampleHandler } from './decoder.ts';
import { GoLayout } from './go-layout.ts';
import { keyText, readDimensions } from './identity.ts';
import {
  DIMENSIONS,
  NAME,
  SAMPLE_MEMBERS,
  TIMESTAMP,
  TYPE,
  TYPES,
  UNKNOWN,
  VALUE,
  wordAt,
} from './json-words.ts';
import { MAX_MESSAGE_BYTES, MAX_SPELLED_BYTES, MAX_SPELLED_KEYS } from './limits.ts';
import { CR, LF, SPACE, TAB } from './line-decoder.ts';
import { isOtlpJson } from './otlp-json.ts';
import { type RawMessage, wholeMessage } from './raw-message.ts';
import { RejectedElements } from './rejected-elements.ts';
import type { InputRejection } from './rejection.ts';
import {
  ascii,
  CLOSE_ARRAY,
  CLOSE_OBJECT,
  COLON,
  COMMA,
  FAILED,
  NULL,
  OPEN_ARRAY,
  OPEN_OBJECT,
  QUOTE,
  Scanner,
} from './scanner.ts';
import { Shaping } from './shaping.ts';
import { BYTES_PER_STEP, FOUND_STEPS, NEW_SPELLING_STEPS, REJECTED_STEPS, Steps } from './steps.ts';
import { TimestampReader } from './timestamp.ts';

/**
 * How many messages have their series looked up together. With many series, each lookup waits for memory several times,
 * and the waits of a batch overlap.
 */
const BATCH_MESSAGES = 128;

/** A longer message is taken alone: 128 new series of a megabyte each would be much for one flush. */
const MAX_BATCHED_BYTES = 4096;

export interface JsonOptions {
  readonly maxMessageBytes?: number;
  readonly steps?: Steps;
  /** Takes what is OTLP. Must count the same steps. Without it, such a message is rejected. */
  readonly otlp?: Decoder;
  /** See `LineOptions`. */
  readonly shaping?: Shaping;
}

/** What is being read: the syntax of an array, before any element counts; its elements; or lines. */
type Pass = 'syntax' | 'elements' | 'lines';

/**
 * The wire format of nats_metrics: each message is an object or an array of objects, or lines of which each is an
 * object.
 *
 * A message in the layout of Go's encoder, of a series with a known spelling, is compared rather than parsed
 * (`GoLayout`). For all others, one pass finds the fields and, by their bytes, the series. Dimensions with a new
 * spelling are parsed strictly; from then on, equal bytes are known to be good and are not parsed again. A message that
 * fails is read a second time by `Scanner.value`, which tells broken JSON from an invalid sample, so the reason does
 * not depend on what the table happens to know. If several reasons apply to an element, the first one found counts.
 */
export class JsonDecoder implements Decoder {
  readonly steps: Steps;
  readonly #table: SeriesTable;
  readonly #otlp: Decoder | undefined;
  readonly #shaping: Shaping;
  readonly #maxMessageBytes: number;
  /** Longer messages take the slow path. */
  readonly #maxBatchedBytes: number;
  readonly #scanner = new Scanner();
  /** The first `#size` samples have been taken and not yet handed over. */
  readonly #batch = Array.from({ length: BATCH_MESSAGES }, () => new DecodedSample());
  #size = 0;
  /** The sample that is being read. */
  #sample = this.#batch[0]!;
  /** The series of the batch. */
  readonly #coming = new Int32Array(BATCH_MESSAGES);
  readonly #timestamps = new TimestampReader();
  readonly #goLayout = new GoLayout(this.#timestamps);
  #rejection: InputRejection = 'not_json';
  /** The object's keys that are not fields of ours; undefined until there is one. */
  #unknownKeys: Set<string> | undefined;
  /** Of the array that is being read. */
  readonly #rejected = new RejectedElements();
  #pass: Pass = 'syntax';
  /** Of the lines that are being read: how many are JSON, and how many are not. */
  #readLines = 0;
  #brokenLines = 0;
  /** Where in the message it paused, between two elements; -1 if it did not. */
  #pausedAt = -1;

  constructor(table: SeriesTable, options: JsonOptions = {}) {
    this.#table = table;
    this.#maxMessageBytes = options.maxMessageBytes ?? MAX_MESSAGE_BYTES;
    this.#maxBatchedBytes = Math.min(this.#maxMessageBytes, MAX_BATCHED_BYTES);
    this.steps = options.steps ?? new Steps();
    this.#otlp = options.otlp;
    this.#shaping = options.shaping ?? new Shaping(table);
  }

  get isPaused(): boolean {
    return this.#pausedAt >= 0;
  }

  take(message: RawMessage, handler: SampleHandler): void {
    const { bytes, start, end } = message;
    const sample = this.#sample;
    const begin = this.#scanner.load(bytes, start, end);
    sample.bytes = this.#scanner.bytes;
    sample.view = this.#scanner.view;
    sample.messageStart = begin;
    sample.messageEnd = this.#scanner.end;
    sample.streamTime = message.streamTime;
    sample.sequence = message.sequence;
    sample.comesFrom(this.#shaping.origin);
    if (end - start <= this.#maxBatchedBytes) {
      if (this.#goLayout.read(this.#scanner, sample, begin) || this.#readObject(begin)) {
        this.#enqueue(handler);
        return;
      }
    }
    this.#takeSlowly(bytes.subarray(start, end), handler);
  }

  resume({ bytes, start, end, streamTime, sequence }: RawMessage, handler: SampleHandler): void {
    const at = this.#pausedAt;
    this.#pausedAt = -1;
    const message = bytes.subarray(start, end);
    const begin = this.#load(message, streamTime, sequence);
    const reason =
      this.#pass === 'lines'
        ? this.#lines(begin, begin + at, handler)
        : this.#array(begin, begin + at, handler);
    this.#finish(reason, message, handler);
  }

  flush(handler: SampleHandler): void {
    const size = this.#size;
    this.#size = 0;
    // All at once: in the middle of reading each message, it slowed down the compiled code of the reading.
    this.#table.hashAll(this.#batch, size);
    if (size > 1) {
      const isWorthIt = this.#table.prefetch(this.#batch, size, this.#coming);
      if (isWorthIt) handler.expect?.(this.#coming, size);
    }
    for (let i = 0; i < size; i++) {
      const sample = this.#batch[i]!;
      sample.series = this.#table.find(sample, sample.hash);
      if (sample.series !== UNKNOWN_SERIES) handler.sample(sample);
      else this.#handOverNew(sample, handler);
    }
    this.#sample = this.#batch[0]!;
  }

  /** Adds the sample that was just read to the batch. */
  #enqueue(handler: SampleHandler): void {
    this.#size++;
    if (this.#size === BATCH_MESSAGES) this.flush(handler);
    else this.#sample = this.#batch[this.#size]!;
  }

  /** Reads a message that is one object, into a sample without its series. Returns false if it is anything else. */
  #readObject(begin: number): boolean {
    const scanner = this.#scanner;
    const start = scanner.space(begin);
    if (scanner.peek(start) !== OPEN_OBJECT) return false;
    const after = this.#readElement(start, 0);
    return after !== FAILED && scanner.space(after) === scanner.end;
  }

  /** Hands over a sample whose spelling is new, or was forgotten, after reading its whole message strictly. */
  #handOverNew(sample: DecodedSample, handler: SampleHandler): void {
    const { bytes, messageStart, messageEnd } = sample;
    this.#sample = sample;
    this.#scanner.load(bytes, messageStart, messageEnd);
    const reason = this.#object(messageStart);
    if (reason === undefined) handler.sample(sample);
    else this.#handOverLines(reason, bytes.subarray(messageStart, messageEnd), handler);
  }

  /**
   * Hands over a message that is no sample: where both its ends are those of the layout, it may be lines. It is short,
   * so nothing has to pause in the middle of a batch.
   */
  #handOverLines(reason: InputRejection, message: Uint8Array, handler: SampleHandler): void {
    const begin = this.#sample.messageStart;
    const isLines = this.#isLines(begin);
    this.#finish(isLines ? this.#firstLines(begin, begin, handler, false) : reason, message, handler);
  }

  /** Reads a message that should be one object, with its series. Returns why it is rejected. */
  #object(begin: number): InputRejection | undefined {
    const rejection = this.#readObject(begin) ? this.#findSeries(this.#sample) : this.#rejection;
    if (rejection === undefined) return undefined;
    this.steps.left -= REJECTED_STEPS;
    return this.#brokenSyntax(this.#scanner.space(begin)) ?? rejection;
  }

  /**
   * Takes a message that is an array, that is long, or that will be rejected, after handing over all earlier messages.
   */
  #takeSlowly(message: Uint8Array, handler: SampleHandler): void {
    const { streamTime, sequence } = this.#sample;
    this.flush(handler);
    if (this.#otlp !== undefined && isOtlpJson(message, 0, message.length)) {
      this.#otlp.take(wholeMessage(message, streamTime, sequence), handler);
      return;
    }
    // The flush moved on to another sample of the batch; the message is the same.
    const begin = this.#load(message, streamTime, sequence);
    this.#finish(this.#slowly(begin, message, handler), message, handler);
  }

  /** Turns to a message, whose samples are read one after the other. Returns where it begins. */
  #load(message: Uint8Array, streamTime: number, sequence: number): number {
    const sample = this.#sample;
    const begin = this.#scanner.load(message, 0, message.length);
    sample.bytes = this.#scanner.bytes;
    sample.view = this.#scanner.view;
    sample.streamTime = streamTime;
    sample.sequence = sequence;
    sample.comesFrom(this.#shaping.origin);
    return begin;
  }

  #finish(reason: InputRejection | undefined, message: Uint8Array, handler: SampleHandler): void {
    if (reason !== undefined) handler.rejectedMessage(reason, message);
    else if (!this.isPaused) this.#rejected.hand(handler, message);
  }

  /** Returns why a message is rejected whole; undefined if its samples were handed over, or if it paused. */
  #slowly(begin: number, message: Uint8Array, handler: SampleHandler): InputRejection | undefined {
    if (message.length > this.#maxMessageBytes) return 'too_large';
    const scanner = this.#scanner;
    const start = scanner.space(begin);
    this.steps.left -= REJECTED_STEPS;
    if (start === scanner.end) return 'empty';
    if (scanner.peek(start) === OPEN_ARRAY) {
      this.#pass = 'syntax';
      return this.#array(begin, scanner.space(start + 1), handler);
    }
    this.steps.left -= message.length / BYTES_PER_STEP;
    if (scanner.peek(start) !== OPEN_OBJECT) return this.#brokenSyntax(start) ?? 'not_an_object';
    if (this.#isLines(start)) {
      this.#pass = 'lines';
      return this.#firstLines(begin, start, handler, true);
    }
    const reason = this.#object(begin);
    if (reason === undefined) handler.sample(this.#sample);
    return reason;
  }

  /**
   * Reads an array from one of its elements on: first all of it for its syntax, then its elements. Returns why it is
   * rejected whole.
   */
  #array(begin: number, from: number, handler: SampleHandler): InputRejection | undefined {
    let i = from;
    if (this.#pass === 'syntax') {
      const broken = this.#elementsSyntax(begin, i);
      if (broken !== undefined || this.isPaused) return broken;
      this.#pass = 'elements';
      i = this.#scanner.space(this.#scanner.space(begin) + 1);
    }
    this.#elements(begin, i, handler);
    return undefined;
  }

  /** Reads the elements from `i` on, to the end of the message, for their syntax only. */
  #elementsSyntax(begin: number, from: number): InputRejection | undefined {
    const { steps } = this;
    const scanner = this.#scanner;
    let i = from;
    let isFirst = scanner.space(scanner.space(begin) + 1) === i;
    while (!isFirst || scanner.peek(i) !== CLOSE_ARRAY) {
      if (steps.left <= 0) {
        this.#pausedAt = i - begin;
        return undefined;
      }
      isFirst = false;
      const after = scanner.value(i, 1);
      if (after === FAILED) return scanner.tooDeep ? 'too_deep' : 'not_json';
      steps.left -= FOUND_STEPS + (after - i) / BYTES_PER_STEP;
      i = scanner.space(after);
      const next = scanner.peek(i);
      if (next === CLOSE_ARRAY) break;
      if (next !== COMMA) return 'not_json';
      i = scanner.space(i + 1);
    }
    return scanner.space(i + 1) === scanner.end ? undefined : 'not_json';
  }

  /**
   * Whether these are lines of which each should be an object: the first one ends in a brace, others follow it, and all
   * of it is not one object on several lines.
   */
  #isLines(start: number): boolean {
    const scanner = this.#scanner;
    const { bytes } = scanner;
    const lineEnd = this.#lineEnd(start);
    if (scanner.space(lineEnd) === scanner.end) return false;
    let last = lineEnd - 1;
    while (last > start && (bytes[last] === CR || bytes[last] === SPACE || bytes[last] === TAB)) last--;
    return bytes[last] === CLOSE_OBJECT && this.#brokenSyntax(start) !== undefined;
  }

  /** No string of JSON holds a line feed. */
  #lineEnd(start: number): number {
    const { bytes, end } = this.#scanner;
    let i = start;
    while (i < end && bytes[i] !== LF) i++;
    return i;
  }

  #firstLines(begin: number, start: number, handler: SampleHandler, mayPause: boolean) {
    this.#readLines = 0;
    this.#brokenLines = 0;
    return this.#lines(begin, start, handler, mayPause);
  }

  /** Hands over the objects of the lines from `from` on. Returns why the message is rejected whole: no line is JSON. */
  #lines(begin: number, from: number, handler: SampleHandler, mayPause = true): InputRejection | undefined {
    const { steps } = this;
    const scanner = this.#scanner;
    const { end } = scanner;
    let i = scanner.space(from);
    while (i < end) {
      if (mayPause && steps.left <= 0) {
        this.#pausedAt = i - begin;
        return undefined;
      }
      const lineEnd = this.#lineEnd(i);
      // So that no line is read past its end, whatever it leaves open.
      scanner.end = lineEnd;
      this.#line(i, handler);
      scanner.end = end;
      steps.left -= 1 + (lineEnd - i) / BYTES_PER_STEP;
      i = scanner.space(lineEnd);
    }
    if (this.#readLines === 0) return 'not_json';
    if (this.#brokenLines > 0) this.#rejected.add('not_json', this.#brokenLines);
    return undefined;
  }

  #line(start: number, handler: SampleHandler): void {
    const scanner = this.#scanner;
    const after = this.#element(start, 0);
    if (after !== FAILED && scanner.space(after) === scanner.end) {
      this.#readLines++;
      handler.sample(this.#sample);
      return;
    }
    this.steps.left -= REJECTED_STEPS;
    const reason = this.#brokenSyntax(start) ?? this.#rejection;
    if (reason === 'not_json') this.#brokenLines++;
    else {
      this.#readLines++;
      this.#rejected.add(reason);
    }
  }

  /** Reads the whole message for its syntax only. */
  #brokenSyntax(start: number): InputRejection | undefined {
    const scanner = this.#scanner;
    const after = scanner.value(start, 0);
    if (after === FAILED) return scanner.tooDeep ? 'too_deep' : 'not_json';
    return scanner.space(after) === scanner.end ? undefined : 'not_json';
  }

  /** Hands over the elements from `i` on, of an array whose syntax is known to be right. */
  #elements(begin: number, from: number, handler: SampleHandler): void {
    const { steps } = this;
    const scanner = this.#scanner;
    let i = from;
    while (scanner.peek(i) !== CLOSE_ARRAY) {
      if (steps.left <= 0) {
        this.#pausedAt = i - begin;
        return;
      }
      const start = i;
      const after = this.#element(i, 1);
      if (after !== FAILED) handler.sample(this.#sample);
      else {
        this.#rejected.add(this.#rejection);
        steps.left -= REJECTED_STEPS;
      }
      i = scanner.space(after === FAILED ? scanner.value(i, 1) : after);
      if (scanner.peek(i) === COMMA) i = scanner.space(i + 1);
      steps.left -= 1 + (i - start) / BYTES_PER_STEP;
    }
  }

  /**
   * Reads a value inside `depth` arrays as a sample. Returns the position after it, or FAILED with `#rejection` set.
   */
  #element(start: number, depth: number): number {
    const after = this.#readElement(start, depth);
    if (after === FAILED) return FAILED;
    const rejection = this.#findSeries(this.#sample);
    return rejection === undefined ? after : this.#reject(rejection);
  }

  /** Like `#element`, but without finding the series. */
  #readElement(start: number, depth: number): number {
    const scanner = this.#scanner;
    if (scanner.peek(start) !== OPEN_OBJECT) return this.#reject('not_an_object');
    this.#sample.clear();
    this.#unknownKeys = undefined;
    scanner.badUnicode = false;
    const after = this.#fields(start, depth + 1);
    if (after === FAILED) return FAILED;
    if (scanner.badUnicode) return this.#reject('bad_unicode');
    const rejection = this.#missing();
    return rejection === undefined ? after : this.#reject(rejection);
  }

  #fields(start: number, depth: number): number {
    const scanner = this.#scanner;
    let seen = 0;
    let i = scanner.space(start + 1);
    if (scanner.peek(i) === CLOSE_OBJECT) return this.#reject('missing_name');
    for (;;) {
      if (scanner.peek(i) !== QUOTE) return this.#reject('not_json');
      const keyStart = i + 1;
      const keyEnd = scanner.string(keyStart);
      if (keyEnd === FAILED) return this.#reject('not_json');
      i = scanner.space(keyEnd + 1);
      if (scanner.peek(i) !== COLON) return this.#reject('not_json');
      const field = wordAt(scanner, SAMPLE_MEMBERS, keyStart, keyEnd) ?? UNKNOWN;
      if ((seen & field) !== 0) return this.#reject('duplicate_key');
      const problem = field === UNKNOWN ? this.#unknownKey(keyStart) : undefined;
      if (problem !== undefined) return this.#reject(problem);
      seen |= field;

      i = this.#field(field, scanner.space(i + 1), depth);
      if (i === FAILED) return FAILED;
      i = scanner.space(i);
      const next = scanner.peek(i++);
      if (next === CLOSE_OBJECT) return i;
      if (next !== COMMA) return this.#reject('not_json');
      i = scanner.space(i);
    }
  }

  /** Reads the value of a field into the sample. */
  #field(field: number, i: number, depth: number): number {
    switch (field) {
      case NAME:
        return this.#name(i);
      case TYPE:
        return this.#type(i);
      case VALUE:
        return this.#value(i);
      case DIMENSIONS:
        return this.#dimensions(i);
      case TIMESTAMP:
        return this.#timestamp(i);
      default: {
        const after = this.#scanner.value(i, depth);
        return after === FAILED ? this.#reject('not_json') : after;
      }
    }
  }

  #name(i: number): number {
    const after = this.#scanner.literal(i, NULL);
    if (after !== FAILED) return after;
    const end = this.#string(i, 'bad_name');
    if (end === FAILED) return FAILED;
    if (end === i + 1) return this.#reject('bad_name');
    this.#sample.nameStart = i + 1;
    this.#sample.nameLength = end - (i + 1);
    return end + 1;
  }

  #type(i: number): number {
    const end = this.#string(i, 'bad_type');
    if (end === FAILED) return FAILED;
    const type = wordAt(this.#scanner, TYPES, i + 1, end);
    if (type === undefined) return this.#reject('bad_type');
    this.#sample.type = type;
    return end + 1;
  }

  #value(i: number): number {
    const after = this.#scanner.readNumber(i);
    if (after === FAILED || !Number.isFinite(this.#scanner.number)) return this.#reject('bad_value');
    this.#sample.value = this.#scanner.number;
    return after;
  }

  /** Finds the end of the object. `#newSpelling` reads its contents. */
  #dimensions(i: number): number {
    const scanner = this.#scanner;
    const after = scanner.literal(i, NULL);
    if (after !== FAILED) return after;
    if (scanner.peek(i) !== OPEN_OBJECT) return this.#reject('bad_dimensions');
    const end = scanner.skipObject(i);
    if (end === FAILED) return this.#reject('not_json');
    this.#sample.dimensionsStart = i;
    this.#sample.dimensionsLength = end - i;
    return end;
  }

  #timestamp(i: number): number {
    const scanner = this.#scanner;
    const after = scanner.literal(i, NULL);
    if (after !== FAILED) return after;
    const end = this.#string(i, 'bad_timestamp');
    if (end === FAILED) return FAILED;
    if (scanner.escaped) {
      const bytes = ascii(scanner.text(i + 1, end, true));
      this.#sample.eventTime = this.#timestamps.read(new DataView(bytes.buffer), 0, bytes.length);
    } else {
      this.#sample.eventTime = this.#timestamps.read(scanner.view, i + 1, end);
    }
    return Number.isNaN(this.#sample.eventTime) ? this.#reject('bad_timestamp') : end + 1;
  }

  /** Reads a string and returns the position of its closing quote. */
  #string(i: number, otherwise: InputRejection): number {
    if (this.#scanner.peek(i) !== QUOTE) return this.#reject(otherwise);
    const end = this.#scanner.string(i + 1);
    return end === FAILED ? this.#reject('not_json') : end;
  }

  #unknownKey(keyStart: number): InputRejection | undefined {
    const key = keyText(this.#scanner, keyStart);
    this.#unknownKeys ??= new Set();
    if (this.#unknownKeys.has(key)) return 'duplicate_key';
    this.#unknownKeys.add(key);
    return this.#unknownKeys.size > MAX_SPELLED_KEYS ? 'too_long' : undefined;
  }

  #missing(): InputRejection | undefined {
    const sample = this.#sample;
    if (sample.nameLength === 0) return 'missing_name';
    if (sample.type === NO_TYPE) return 'bad_type';
    return Number.isNaN(sample.value) ? 'bad_value' : undefined;
  }

  /** Looks up the spelling that was just read: `GoLayout` may have taken later fields for part of the dimensions. */
  #findSeries(sample: DecodedSample): InputRejection | undefined {
    sample.series = this.#table.find(sample);
    return sample.series === UNKNOWN_SERIES ? this.#newSpelling(sample) : undefined;
  }

  /** Parses a spelling that is new, or was forgotten, and adds it to the table. */
  #newSpelling(sample: DecodedSample): InputRejection | undefined {
    const scanner = this.#scanner;
    const spelledBytes = sample.nameLength + sample.dimensionsLength;
    this.steps.left -= NEW_SPELLING_STEPS + spelledBytes;
    if (spelledBytes > MAX_SPELLED_BYTES) return 'too_long';
    const name = scanner.text(sample.nameStart, sample.nameStart + sample.nameLength, true);
    const { dimensionsStart: start, dimensionsLength: length } = sample;
    const dimensions = length === 0 ? [] : readDimensions(scanner, start, start + length);
    if (typeof dimensions === 'string') return dimensions;
    if (scanner.badUnicode) return 'bad_unicode';
    return this.#shaping.add(sample, identify(name, dimensions));
  }

  #reject(reason: InputRejection): number {
    this.#rejection = reason;
    return FAILED;
  }
}
