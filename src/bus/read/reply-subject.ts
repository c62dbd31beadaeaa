/**
 * Reads the reply subject, which is where JetStream puts what it knows about a message.
 *
 *     $JS.ACK.<stream>.<consumer>.<deliveries>.<stream seq>.<consumer seq>.<time ns>.<pending>
 *     $JS.ACK.<domain>.<account>.<stream>.<consumer>.<deliveries>.<stream seq>.<consumer seq>.<time ns>.<pending>
 *
 * The second form may end with another, random token.
 *
 * All messages of one consumer have the same text up to <deliveries>, so its length is determined once. The rest is
 * read without creating strings. Nearly every message is the next one of its stream and of its consumer, so the text of
 * both numbers is known before it comes, and compared; anything else is read digit by digit.
 */

const SHORT_TOKENS = 9;
const LONG_TOKENS: readonly number[] = [11, 12];
/** Tokens before <deliveries>. */
const SHORT_PREFIX_TOKENS = 4;
const LONG_PREFIX_TOKENS = 6;
const DIGIT_0 = 0x30;
const DIGIT_9 = 0x39;
const DOT = 0x2e;
/** Number of digits in a time in nanoseconds: in total, from 2001 to 2286, and below the millisecond. */
const TIME_DIGITS = 19;
const SUB_MS_DIGITS = 6;
const MS_DIGITS = TIME_DIGITS - SUB_MS_DIGITS;
const WORD = 4;
/** Of the time, compared with those of the message before. */
const SAME_DIGITS = 3 * WORD;
/** From <deliveries> to the time. Longer ones are not expected. */
const MAX_EXPECTED_LENGTH = 64;

/** Returns the length of the text before <deliveries>; undefined if the subject has neither form. */
export function prefixLength(reply: string): number | undefined {
  const tokens = reply.split('.');
  if (tokens[0] !== '$JS' || tokens[1] !== 'ACK') return undefined;
  const isLong = LONG_TOKENS.includes(tokens.length);
  if (!isLong && tokens.length !== SHORT_TOKENS) return undefined;
  const prefix = tokens.slice(0, isLong ? LONG_PREFIX_TOKENS : SHORT_PREFIX_TOKENS);
  return prefix.join('.').length + 1;
}

/** The contents of the last reply subject that was read. One object is reused: this is the hot path. */
export class ReplySubject {
  /** 0 if the subject did not have the known form. */
  streamSequence = 0;
  consumerSequence = 0;
  /** Whole milliseconds since 1970, rounded down. */
  timeMs = 0;
  /** Messages that were still to be delivered after this one. */
  pending = 0;
  /** Nanoseconds of the time below the millisecond. */
  subMsNanos = 0;
  readonly #prefix: number;
  #at = 0;
  #bytes: Uint8Array = new Uint8Array(0);
  #view = new DataView(this.#bytes.buffer);
  /** What stands between the prefix and the time of the next message, if nothing is missing. */
  readonly #expected = new Uint8Array(MAX_EXPECTED_LENGTH);
  readonly #expectedView = new DataView(this.#expected.buffer);
  /** 0: nothing is expected. */
  #expectedLength = 0;
  /** In that text: after the sequence of the stream. */
  #streamEnd = 0;
  /** The first digits of the last time, and the milliseconds that they stand for. */
  #time0 = 0;
  #time1 = 0;
  #time2 = 0;
  #timeMs = digits(new Uint8Array(SAME_DIGITS), 0, SAME_DIGITS) * 10;

  constructor(prefix: number) {
    this.#prefix = prefix;
  }

  /** Reads the subject that begins at `start`. Returns the position after <pending>; never looks beyond `end`. */
  read(bytes: Uint8Array, start: number, end: number): number {
    const from = start + this.#prefix;
    // Not the buffers themselves: asking for them is slow.
    if (bytes !== this.#bytes) {
      this.#bytes = bytes;
      this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    }
    const time = from + this.#expectedLength;
    if (time + TIME_DIGITS < end && this.#isExpected(from) && bytes[time + TIME_DIGITS] === DOT) {
      this.streamSequence += 1;
      this.consumerSequence += 1;
      this.#readTime(bytes, time);
      this.#at = time + TIME_DIGITS + 1;
    } else this.#readAll(bytes, from, end);
    this.#expectNext();
    this.pending = this.#number(bytes, end);
    return Math.min(end, this.#at - 1);
  }

  #isExpected(from: number): boolean {
    const view = this.#view;
    const expected = this.#expectedView;
    const last = this.#expectedLength - WORD;
    if (last < 0) return false;
    for (let i = 0; i < last; i += WORD)
      if (view.getInt32(from + i, true) !== expected.getInt32(i, true)) return false;
    // It overlaps the one before.
    return view.getInt32(from + last, true) === expected.getInt32(last, true);
  }

  /** Reads up to the time, digit by digit, and notes the text before it: that of the next message follows from it. */
  #readAll(bytes: Uint8Array, from: number, end: number): void {
    this.#at = from;
    this.#number(bytes, end);
    this.streamSequence = this.#number(bytes, end);
    const streamEnd = this.#at - 1;
    this.consumerSequence = this.#number(bytes, end);
    const time = this.#at;
    this.#expectedLength = 0;
    if (time <= end && time - from <= MAX_EXPECTED_LENGTH) {
      for (let i = from; i < time; i++) this.#expected[i - from] = bytes[i]!;
      this.#expectedLength = time - from;
      this.#streamEnd = streamEnd - from;
    }
    let timeEnd = time + TIME_DIGITS;
    if (timeEnd >= end || bytes[timeEnd] !== DOT) {
      timeEnd = bytes.indexOf(DOT, time);
      if (timeEnd < 0 || timeEnd > end) timeEnd = end;
    }
    this.timeMs = digits(bytes, time, timeEnd - SUB_MS_DIGITS);
    this.subMsNanos = digits(bytes, Math.max(time, timeEnd - SUB_MS_DIGITS), timeEnd);
    this.#at = timeEnd + 1;
  }

  /** Reads a time of the usual length. */
  #readTime(bytes: Uint8Array, i: number): void {
    const view = this.#view;
    const word0 = view.getInt32(i, true);
    const word1 = view.getInt32(i + WORD, true);
    const word2 = view.getInt32(i + 2 * WORD, true);
    if (word0 !== this.#time0 || word1 !== this.#time1 || word2 !== this.#time2) {
      this.#time0 = word0;
      this.#time1 = word1;
      this.#time2 = word2;
      this.#timeMs = digits(bytes, i, i + SAME_DIGITS) * 10;
    }
    this.timeMs = this.#timeMs + bytes[i + SAME_DIGITS]! - DIGIT_0;
    // In pairs, which is quicker than one digit after the other.
    const high = pair(bytes, i + MS_DIGITS) * 10_000;
    this.subMsNanos = high + pair(bytes, i + MS_DIGITS + 2) * 100 + pair(bytes, i + MS_DIGITS + 4);
  }

  /** Counts up both numbers of the text. */
  #expectNext(): void {
    if (this.#expectedLength === 0) return;
    if (this.#countUp(this.#expectedLength - 2) && this.#countUp(this.#streamEnd - 1)) return;
    this.#expectedLength = 0;
  }

  /** Adds one to the number whose last digit is at `i`. Returns false if it needs another digit. */
  #countUp(i: number): boolean {
    const text = this.#expected;
    for (; i >= 0; i--) {
      const byte = text[i]!;
      if (byte < DIGIT_0 || byte > DIGIT_9) return false;
      if (byte < DIGIT_9) {
        text[i] = byte + 1;
        return true;
      }
      text[i] = DIGIT_0;
    }
    return false;
  }

  /** Reads the digits from here on, and moves past the character that ended them. */
  #number(bytes: Uint8Array, end: number): number {
    let value = 0;
    let i = this.#at;
    for (; i < end; i++) {
      const digit = bytes[i]! - DIGIT_0;
      if (digit < 0 || digit > 9) break;
      value = value * 10 + digit;
    }
    this.#at = i + 1;
    return value;
  }
}

function digits(bytes: Uint8Array, start: number, end: number): number {
  let value = 0;
  for (let i = start; i < end; i++) value = value * 10 + bytes[i]! - DIGIT_0;
  return value;
}

function pair(bytes: Uint8Array, i: number): number {
  return bytes[i]! * 10 + bytes[i + 1]! - 11 * DIGIT_0;
}
