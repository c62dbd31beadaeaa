/**
 * Where JetStream puts what it knows of a message: the reply subject.
 *
 *     $JS.ACK.<stream>.<consumer>.<deliveries>.<stream seq>.<consumer seq>.<time ns>.<pending>
 *     $JS.ACK.<domain>.<account>.<stream>.<consumer>.<deliveries>.<stream seq>.<consumer seq>.<time ns>.<pending>[.<random>]
 *
 * All messages of one consumer have the same text up to <deliveries>, so its length is found once; the rest is read
 * digit by digit, without making strings.
 */

const SHORT_TOKENS = 9;
const LONG_TOKENS: readonly number[] = [11, 12];
/** Tokens before <deliveries>. */
const SHORT_PREFIX_TOKENS = 4;
const LONG_PREFIX_TOKENS = 6;
const DIGIT_0 = 48;
/** Digits of a time in nanoseconds that are below the millisecond. */
const SUB_MS_DIGITS = 6;

/** The length of the text before <deliveries>; undefined where the subject is of neither form. */
export function prefixLength(reply: string): number | undefined {
  const tokens = reply.split('.');
  if (tokens[0] !== '$JS' || tokens[1] !== 'ACK') return undefined;
  const isLong = LONG_TOKENS.includes(tokens.length);
  if (!isLong && tokens.length !== SHORT_TOKENS) return undefined;
  const prefix = tokens.slice(0, isLong ? LONG_PREFIX_TOKENS : SHORT_PREFIX_TOKENS);
  return prefix.join('.').length + 1;
}

/** What the last parsed reply subject said. One object is used over and over: this is the hot path. */
export class ReplySubject {
  /** 0 where the subject was not of the known form. */
  streamSequence = 0;
  consumerSequence = 0;
  /** Whole milliseconds since 1970, rounded down. */
  timeMs = 0;
  readonly #prefix: number;
  #at = 0;

  constructor(prefix: number) {
    this.#prefix = prefix;
  }

  parse(reply: string): void {
    this.#at = this.#prefix;
    this.#number(reply);
    this.streamSequence = this.#number(reply);
    this.consumerSequence = this.#number(reply);
    let ms = 0;
    const end = reply.indexOf('.', this.#at) - SUB_MS_DIGITS;
    for (let i = this.#at; i < end; i++) ms = ms * 10 + reply.charCodeAt(i) - DIGIT_0;
    this.timeMs = ms;
  }

  /** Messages that were still to be delivered behind this one. */
  pendingOf(reply: string): number {
    return Number(reply.slice(this.#prefix).split('.')[4]);
  }

  /** Nanoseconds since 1970. */
  nanosOf(reply: string): bigint {
    return BigInt(reply.slice(this.#prefix).split('.')[3] ?? '0');
  }

  /** The digits from here on; goes on behind what ended them. */
  #number(text: string): number {
    let value = 0;
    let i = this.#at;
    let digit = text.charCodeAt(i) - DIGIT_0;
    while (digit >= 0 && digit <= 9) {
      value = value * 10 + digit;
      digit = text.charCodeAt(++i) - DIGIT_0;
    }
    this.#at = i + 1;
    return value;
  }
}
