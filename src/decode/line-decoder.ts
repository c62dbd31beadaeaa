import { type Dimension, type Identity, identify } from '../aggregate/series.ts';
import type { SeriesTable } from '../aggregate/series-table.ts';
import { DecodedSample } from './decoded-sample.ts';
import type { Decoder, SampleHandler } from './decoder.ts';
import { checkIdentity } from './identity.ts';
import { MAX_MESSAGE_BYTES } from './limits.ts';
import type { RawMessage } from './raw-message.ts';
import type { InputRejection } from './rejection.ts';
import { Scanner } from './scanner.ts';

export const TAB = 0x09;
export const LF = 0x0a;
export const CR = 0x0d;
export const SPACE = 0x20;
export const HASH = 0x23;
export const EQUALS = 0x3d;
export const BAR = 0x7c;

const NO_MESSAGE: Uint8Array = new Uint8Array(0);
const NOBODY: SampleHandler = { sample() {}, rejected() {}, rejectedMessage() {} };

/** The result of reading a line: `nothing` if it is blank. */
export type Line = 'read' | 'nothing' | 'unreadable';

/**
 * The base of the formats whose messages are lines of text, each with samples. Samples are handed over as they are
 * read. An unreadable line is a rejected element; a message that has only such lines is rejected whole.
 */
export abstract class LineDecoder implements Decoder {
  protected readonly scanner = new Scanner();
  protected readonly sample = new DecodedSample();
  /** Where the current line ends: at a line feed, or at the end of the message. */
  protected lineEnd = 0;
  readonly #table: SeriesTable;
  readonly #maxMessageBytes: number;
  readonly #unreadable: InputRejection;
  readonly #strictText = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  #handler = NOBODY;
  #message = NO_MESSAGE;

  /** `unreadable`: the reason for a line that is not of this format. */
  constructor(table: SeriesTable, unreadable: InputRejection, maxMessageBytes = MAX_MESSAGE_BYTES) {
    this.#table = table;
    this.#unreadable = unreadable;
    this.#maxMessageBytes = maxMessageBytes;
  }

  take(raw: RawMessage, handler: SampleHandler): void {
    const { bytes, start, end } = raw;
    const message = bytes.subarray(start, end);
    if (message.length > this.#maxMessageBytes) {
      handler.rejectedMessage('too_large', message);
      return;
    }
    this.#handler = handler;
    this.#message = message;
    const begin = this.scanner.load(bytes, start, end);
    this.sample.view = this.scanner.view;
    this.sample.streamTime = raw.streamTime;
    this.sample.sequence = raw.sequence;
    this.#lines(begin);
    this.#handler = NOBODY;
    this.#message = NO_MESSAGE;
  }

  flush(): void {}

  #lines(begin: number): void {
    let isRead = false;
    let unreadable = 0;
    for (let i = begin; i < this.scanner.end; i = this.lineEnd + 1) {
      const line = this.line(i);
      if (line === 'read') isRead = true;
      else if (line === 'unreadable') unreadable++;
    }
    if (isRead) for (; unreadable > 0; unreadable--) this.reject(this.#unreadable);
    else this.#handler.rejectedMessage(unreadable > 0 ? this.#unreadable : 'empty', this.#message);
  }

  /** Reads the line that begins at `start`, hands over its samples, and sets `lineEnd`. */
  protected abstract line(start: number): Line;

  /** Returns the series of the sample just read, whose spelling is new; or the reason why it has none. */
  protected abstract identity(): Identity | InputRejection;

  /** Returns the type of that series. */
  protected abstract typeOf(identity: Identity): number;

  /** Looks up the sample's series by its spelling. Returns false if the spelling is new. */
  protected find(): boolean {
    const { sample } = this;
    sample.series = this.#table.find(sample);
    return sample.series >= 0;
  }

  /** Hands over the sample, or the reason why it is not one. */
  protected hand(rejection: InputRejection | undefined): void {
    if (rejection === undefined) this.#handler.sample(this.sample);
    else this.reject(rejection);
  }

  protected reject(reason: InputRejection): void {
    this.#handler.rejected(reason, this.#message);
  }

  /** Adds a new spelling to the table. */
  protected learn(): InputRejection | undefined {
    const identity = this.identity();
    if (typeof identity === 'string') return identity;
    const rejection = checkIdentity(identity);
    if (rejection !== undefined) return rejection;
    this.sample.type = this.typeOf(identity);
    this.sample.series = this.#table.add(this.sample, identity);
    return undefined;
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
  }
  return identify(name, dimensions);
}
