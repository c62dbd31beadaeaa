import { identify } from '../aggregate/series.ts';
import type { SeriesTable } from '../aggregate/series-table.ts';
import { DecodedSample, NO_TYPE } from './decoded-sample.ts';
import type { Decoder, SampleHandler } from './decoder.ts';
import { GoLayout } from './go-layout.ts';
import { checkIdentity, keyText, readDimensions } from './identity.ts';
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
import { MAX_MESSAGE_BYTES } from './limits.ts';
import type { RawMessage } from './raw-message.ts';
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
import { TimestampReader } from './timestamp.ts';

/**
 * How many messages have their series looked up together. With many series, each lookup waits for memory several times,
 * and the waits of a batch overlap.
 */
const BATCH_MESSAGES = 128;

/**
 * The wire format of nats_metrics: each message is an object or an array of objects.
 *
 * A message in the layout of Go's encoder, of a series with a known spelling, is compared rather than parsed
 * (`GoLayout`). For all others, one pass finds the fields and, by their bytes, the series. Dimensions with a new
 * spelling are parsed strictly; from then on, equal bytes are known to be good and are not parsed again. A message that
 * fails is read a second time by `Scanner.value`, which tells broken JSON from an invalid sample, so the reason does
 * not depend on what the table happens to know. If several reasons apply to an element, the first one found counts.
 */
export class JsonDecoder implements Decoder {
  readonly #table: SeriesTable;
  readonly #maxMessageBytes: number;
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

  constructor(table: SeriesTable, options: { readonly maxMessageBytes?: number } = {}) {
    this.#table = table;
    this.#maxMessageBytes = options.maxMessageBytes ?? MAX_MESSAGE_BYTES;
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
    if (end - start <= this.#maxMessageBytes) {
      if (this.#goLayout.read(this.#scanner, sample, begin) || this.#readObject(begin)) {
        this.#enqueue(handler);
        return;
      }
    }
    this.#takeSlowly(bytes.subarray(start, end), handler);
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
      if (sample.series >= 0) handler.sample(sample);
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
    const rejection = this.#readObject(messageStart) ? this.#findSeries(sample) : this.#rejection;
    if (rejection === undefined) {
      handler.sample(sample);
      return;
    }
    const reason = this.#brokenSyntax(this.#scanner.space(messageStart)) ?? rejection;
    handler.rejectedMessage(reason, bytes.subarray(messageStart, messageEnd));
  }

  /** Takes a message that is an array, or that will be rejected, after handing over all earlier messages. */
  #takeSlowly(message: Uint8Array, handler: SampleHandler): void {
    const { streamTime, sequence } = this.#sample;
    this.flush(handler);
    // The flush moved on to another sample of the batch; the message is the same.
    this.#sample.streamTime = streamTime;
    this.#sample.sequence = sequence;
    const scanner = this.#scanner;
    scanner.load(message, 0, message.length);
    this.#sample.view = scanner.view;
    const reason = this.#refusal(message, handler);
    if (reason !== undefined) handler.rejectedMessage(reason, message);
  }

  /** Returns why a message is rejected whole; undefined if it is an array whose elements were handed over. */
  #refusal(message: Uint8Array, handler: SampleHandler): InputRejection | undefined {
    if (message.length > this.#maxMessageBytes) return 'too_large';
    const scanner = this.#scanner;
    const start = scanner.space(message.byteOffset);
    if (start === scanner.end) return 'empty';
    if (scanner.peek(start) === OPEN_OBJECT) {
      // If anything follows the object, the syntax is broken.
      this.#readElement(start, 0);
      return this.#brokenSyntax(start) ?? this.#rejection;
    }
    const broken = this.#brokenSyntax(start);
    if (broken !== undefined) return broken;
    if (scanner.peek(start) !== OPEN_ARRAY) return 'not_an_object';
    this.#elements(start, message, handler);
    return undefined;
  }

  /** Reads the whole message for its syntax only. */
  #brokenSyntax(start: number): InputRejection | undefined {
    const scanner = this.#scanner;
    const after = scanner.value(start, 0);
    if (after === FAILED) return scanner.tooDeep ? 'too_deep' : 'not_json';
    return scanner.space(after) === scanner.end ? undefined : 'not_json';
  }

  /** Hands over the elements of an array whose syntax is known to be right. */
  #elements(start: number, message: Uint8Array, handler: SampleHandler): void {
    const scanner = this.#scanner;
    let i = scanner.space(start + 1);
    while (scanner.peek(i) !== CLOSE_ARRAY) {
      const after = this.#element(i, 1);
      if (after !== FAILED) handler.sample(this.#sample);
      else handler.rejected(this.#rejection, message);
      i = scanner.space(after === FAILED ? scanner.value(i, 1) : after);
      if (scanner.peek(i) === COMMA) i = scanner.space(i + 1);
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
      if (field === UNKNOWN && this.#isRepeated(keyStart)) return this.#reject('duplicate_key');
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

  #isRepeated(keyStart: number): boolean {
    const key = keyText(this.#scanner, keyStart);
    this.#unknownKeys ??= new Set();
    if (this.#unknownKeys.has(key)) return true;
    this.#unknownKeys.add(key);
    return false;
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
    return sample.series >= 0 ? undefined : this.#newSpelling(sample);
  }

  /** Parses a spelling that is new, or was forgotten, and adds it to the table. */
  #newSpelling(sample: DecodedSample): InputRejection | undefined {
    const scanner = this.#scanner;
    const name = scanner.text(sample.nameStart, sample.nameStart + sample.nameLength, true);
    const { dimensionsStart: start, dimensionsLength: length } = sample;
    const dimensions = length === 0 ? [] : readDimensions(scanner, start, start + length);
    if (typeof dimensions === 'string') return dimensions;
    if (scanner.badUnicode) return 'bad_unicode';
    const identity = identify(name, dimensions);
    const rejection = checkIdentity(identity);
    if (rejection !== undefined) return rejection;
    sample.series = this.#table.add(sample, identity);
    return undefined;
  }

  #reject(reason: InputRejection): number {
    this.#rejection = reason;
    return FAILED;
  }
}
