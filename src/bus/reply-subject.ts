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
const DOT = 46;
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
  streamSequence = 0;
  consumerSequence = 0;
  /** Whole milliseconds since 1970, rounded down. */
  timeMs = 0;
  readonly #prefix: number;

  constructor(prefix: number) {
    this.#prefix = prefix;
  }

  parse(reply: string): void {
    let i = this.#prefix;
    while (reply.charCodeAt(i) !== DOT) i++;
    i++;
    let code: number;
    let value = 0;
    for (; (code = reply.charCodeAt(i)) !== DOT; i++) value = value * 10 + (code - DIGIT_0);
    this.streamSequence = value;
    value = 0;
    for (i++; (code = reply.charCodeAt(i)) !== DOT; i++) value = value * 10 + (code - DIGIT_0);
    this.consumerSequence = value;
    i++;
    const end = reply.indexOf('.', i) - SUB_MS_DIGITS;
    value = 0;
    for (; i < end; i++) value = value * 10 + (reply.charCodeAt(i) - DIGIT_0);
    this.timeMs = value;
  }

  /** Messages that were still to be delivered behind this one. */
  pendingOf(reply: string): number {
    return Number(reply.slice(this.#prefix).split('.')[4]);
  }

  /** Nanoseconds since 1970. */
  nanosOf(reply: string): bigint {
    return BigInt(reply.slice(this.#prefix).split('.')[3] ?? '0');
  }
}
