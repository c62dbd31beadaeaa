import { TYPE_BITS, UNKNOWN_SERIES } from '../aggregate/sample.ts';
import { type Dimension, type Identity, identify } from '../aggregate/series.ts';
import type { SeriesTable } from '../aggregate/series-table.ts';
import { DecodedSample } from './decoded-sample.ts';
import type { Decoder, SampleHandler } from './decoder.ts';
import { MAX_MESSAGE_BYTES, MAX_SPELLED_BYTES, MAX_SPELLED_KEYS } from './limits.ts';
import type { RawMessage } from './raw-message.ts';
import { RejectedElements } from './rejected-elements.ts';
import type { InputRejection } from './rejection.ts';
import { Scanner } from './scanner.ts';
import { Shaping } from './shaping.ts';
import { BYTES_PER_STEP, NEW_SPELLING_STEPS, REJECTED_STEPS, Steps } from './steps.ts';

export const TAB = 0x09;
export const LF = 0x0a;
export const CR = 0x0d;
export const SPACE = 0x20;
export const HASH = 0x23;
export const EQUALS = 0x3d;
export const BAR = 0x7c;

const NO_MESSAGE: Uint8Array = new Uint8Array(0);
const NOBODY: SampleHandler = { sample() {}, rejected() {}, rejectedMessage() {} };

/** The result of reading a line: `nothing` if it is blank, `paused` if there is more of it. */
export type Line = 'read' | 'nothing' | 'unreadable' | 'paused';

export interface LineOptions {
  readonly maxMessageBytes?: number | undefined;
  readonly steps?: Steps | undefined;
  /** Tells spellings apart that mean something else to a decoder with other settings. 0 if there is only one. */
  readonly dialect?: number | undefined;
  /** What series become. Without it, they stay as they are. */
  readonly shaping?: Shaping | undefined;
}

/**
 * The base of the formats whose messages are lines of text, each with samples. Samples are handed over as they are
 * read. An unreadable line is a rejected element; a message that has only such lines is rejected whole.
 */
export abstract class LineDecoder implements Decoder {
  readonly steps: Steps;
  protected readonly scanner = new Scanner();
  protected readonly sample = new DecodedSample();
  /** Where the current line ends: at a line feed, or at the end of the message. */
  protected lineEnd = 0;
  readonly #table: SeriesTable;
  readonly #maxMessageBytes: number;
  readonly #dialect: number;
  readonly #shaping: Shaping;
  readonly #unreadable: InputRejection;
  readonly #strictText = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  readonly #rejected = new RejectedElements();
  #handler = NOBODY;
  #message = NO_MESSAGE;
  /** Where the message begins in its buffer. */
  #begin = 0;
  #hasRead = false;
  #unreadableLines = 0;
  #isPaused = false;
  /** It paused within a line, not before one. */
  #isInLine = false;

  /** `unreadable`: the reason for a line that is not of this format. */
  constructor(table: SeriesTable, unreadable: InputRejection, options: LineOptions) {
    this.#table = table;
    this.#unreadable = unreadable;
    this.#dialect = (options.dialect ?? 0) << TYPE_BITS;
    this.#shaping = options.shaping ?? new Shaping(table);
    this.#maxMessageBytes = options.maxMessageBytes ?? MAX_MESSAGE_BYTES;
    this.steps = options.steps ?? new Steps();
  }

  get isPaused(): boolean {
    return this.#isPaused;
  }

  take(raw: RawMessage, handler: SampleHandler): void {
    const { bytes, start, end } = raw;
    const message = bytes.subarray(start, end);
    if (message.length > this.#maxMessageBytes) {
      handler.rejectedMessage('too_large', message);
      return;
    }
    this.#begin = this.scanner.load(bytes, start, end);
    this.lineEnd = this.#begin - 1;
    this.#hasRead = false;
    this.#unreadableLines = 0;
    this.sample.streamTime = raw.streamTime;
    this.sample.sequence = raw.sequence;
    this.sample.comesFrom(this.#shaping.origin);
    this.#goOn(message, handler);
  }

  resume({ bytes, start, end }: RawMessage, handler: SampleHandler): void {
    const begin = this.scanner.load(bytes, start, end);
    if (begin !== this.#begin) this.moved(begin - this.#begin);
    this.#begin = begin;
    this.#goOn(bytes.subarray(start, end), handler);
  }

  flush(): void {}

  #goOn(message: Uint8Array, handler: SampleHandler): void {
    this.#handler = handler;
    this.#message = message;
    this.sample.view = this.scanner.view;
    this.#isPaused = !this.#lines();
    if (!this.#isPaused) this.#finish();
    this.#handler = NOBODY;
    this.#message = NO_MESSAGE;
  }

  /** Returns false if it paused. */
  #lines(): boolean {
    const { scanner, steps } = this;
    let start = this.lineEnd + 1;
    if (this.#isInLine && !this.#isRead(this.rest())) return false;
    if (this.#isInLine) start = this.lineEnd + 1;
    this.#isInLine = false;
    for (; start < scanner.end; start = this.lineEnd + 1) {
      if (steps.left <= 0) return false;
      const isRead = this.#isRead(this.line(start));
      steps.left -= 1 + (this.lineEnd - start) / BYTES_PER_STEP;
      if (isRead) continue;
      this.#isInLine = true;
      return false;
    }
    return true;
  }

  /** Notes what a line gave. Returns false if there is more of it. */
  #isRead(line: Line): boolean {
    if (line === 'read') this.#hasRead = true;
    else if (line === 'unreadable') this.#unreadableLines++;
    return line !== 'paused';
  }

  #finish(): void {
    const unreadable = this.#unreadableLines;
    if (!this.#hasRead) {
      this.#handler.rejectedMessage(unreadable > 0 ? this.#unreadable : 'empty', this.#message);
      return;
    }
    if (unreadable > 0) this.#rejected.add(this.#unreadable, unreadable);
    this.#rejected.hand(this.#handler, this.#message);
  }

  /** Reads the line that begins at `start`, hands over its samples, and sets `lineEnd`. */
  protected abstract line(start: number): Line;

  /** Goes on with a line that paused. */
  protected abstract rest(): Line;

  /** While it paused, the message moved by so many bytes, and so do all positions in it that are kept. */
  protected moved(by: number): void {
    this.lineEnd += by;
    this.sample.nameStart += by;
    this.sample.dimensionsStart += by;
  }

  /** Returns the series of the sample just read, whose spelling is new; or the reason why it has none. */
  protected abstract identity(): Identity | InputRejection;

  /** Returns the type of that series. */
  protected abstract typeOf(identity: Identity): number;

  /** Looks up the sample's series by its spelling. Returns false if the spelling is new. */
  protected find(): boolean {
    const { sample } = this;
    const { type } = sample;
    sample.type = type | this.#dialect;
    sample.series = this.#table.find(sample);
    sample.type = type;
    return sample.series !== UNKNOWN_SERIES;
  }

  /** Hands over the sample, or the reason why it is not one. */
  protected hand(rejection: InputRejection | undefined): void {
    if (rejection === undefined) this.#handler.sample(this.sample);
    else this.reject(rejection);
  }

  protected reject(reason: InputRejection): void {
    this.#rejected.add(reason);
    this.steps.left -= REJECTED_STEPS;
  }

  /** Adds a new spelling to the table. */
  protected learn(): InputRejection | undefined {
    const spelledBytes = this.sample.nameLength + this.sample.dimensionsLength;
    this.steps.left -= NEW_SPELLING_STEPS + spelledBytes;
    if (spelledBytes > MAX_SPELLED_BYTES) return 'too_long';
    const identity = this.identity();
    if (typeof identity === 'string') return identity;
    const type = this.typeOf(identity);
    this.sample.type = type | this.#dialect;
    const rejection = this.#shaping.add(this.sample, identity);
    this.sample.type = type;
    return rejection;
  }

  /** Returns undefined if the bytes are not UTF-8. */
  protected text(start: number, end: number): string | undefined {
    try {
      return this.#strictText.decode(this.scanner.bytes.subarray(start, end));
    } catch {
      return undefined;
    }
  }
}

/** Builds the identity from the tags: the key of each and its value, which may be empty. */
export function identifyTags(name: string, tags: Iterable<Dimension>): Identity | InputRejection {
  const dimensions = new Map<string, string>();
  for (const [key, value] of tags) {
    if (key === '') return 'bad_dimensions';
    if (dimensions.has(key)) return 'duplicate_key';
    dimensions.set(key, value);
    if (dimensions.size > MAX_SPELLED_KEYS) return 'too_many_dimensions';
  }
  return identify(name, dimensions);
}
