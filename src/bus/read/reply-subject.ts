/**
 * Reads the reply subject, which is where JetStream puts what it knows about a message.
 *
 *     $JS.ACK.<stream>.<consumer>.<deliveries>.<stream seq>.<consumer seq>.<time ns>.<pending>
 *     $JS.ACK.<domain>.<account>.<stream>.<consumer>.<deliveries>.<stream seq>.<consumer seq>.<time ns>.<pending>
 *
 * The second form may end with another, random token.
 *
 * All messages of one consumer have the same text up to <deliveries>, so its length is determined once. The rest is
 * read digit by digit, without creating strings.
 */

const SHORT_TOKENS = 9;
const LONG_TOKENS: readonly number[] = [11, 12];
/** Tokens before <deliveries>. */
const SHORT_PREFIX_TOKENS = 4;
const LONG_PREFIX_TOKENS = 6;
const DIGIT_0 = 0x30;
const DOT = 0x2e;
/** Number of digits in a time in nanoseconds: in total, from 2001 to 2286, and below the millisecond. */
const TIME_DIGITS = 19;
const SUB_MS_DIGITS = 6;

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

  constructor(prefix: number) {
    this.#prefix = prefix;
  }

  /** Reads the subject that begins at `start`. Returns the position after <pending>; never looks beyond `end`. */
  read(bytes: Uint8Array, start: number, end: number): number {
    this.#at = start + this.#prefix;
    this.#number(bytes, end);
    this.streamSequence = this.#number(bytes, end);
    this.consumerSequence = this.#number(bytes, end);
    const time = this.#at;
    let timeEnd = time + TIME_DIGITS;
    if (timeEnd >= end || bytes[timeEnd] !== DOT) {
      timeEnd = bytes.indexOf(DOT, time);
      if (timeEnd < 0 || timeEnd > end) timeEnd = end;
    }
    this.timeMs = digits(bytes, time, timeEnd - SUB_MS_DIGITS);
    this.subMsNanos = digits(bytes, Math.max(time, timeEnd - SUB_MS_DIGITS), timeEnd);
    this.#at = timeEnd + 1;
    this.pending = this.#number(bytes, end);
    return Math.min(end, this.#at - 1);
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
