import { MAX_DEPTH } from './limits.ts';

export const QUOTE = 0x22;
export const COMMA = 0x2c;
export const COLON = 0x3a;
export const OPEN_ARRAY = 0x5b;
export const CLOSE_ARRAY = 0x5d;
export const OPEN_OBJECT = 0x7b;
export const CLOSE_OBJECT = 0x7d;
const BACKSLASH = 0x5c;
const MINUS = 0x2d;
const PLUS = 0x2b;
const DOT = 0x2e;
const ZERO = 0x30;
const LOWER = 0x20;
const LETTER_E = 0x65;
const LETTER_U = 0x75;

/** In bytes. */
const WORD = 4;
const FOUR_QUOTES = 0x22222222;

/** `peek` returns this past the end. */
const NOTHING = -1;
/** Returned instead of a position if the bytes are not what the method reads. */
export const FAILED = -1;

export const TRUE = ascii('true');
export const FALSE = ascii('false');
export const NULL = ascii('null');

/** By byte: 1 if it may stand for itself inside a string, whatever its neighbors. */
const PLAIN = Uint8Array.from({ length: 256 }, (_, byte) =>
  byte >= 0x20 && byte < 0x80 && byte !== QUOTE && byte !== BACKSLASH ? 1 : 0,
);
/** By byte: 1 if it may follow a backslash and completes the escape. */
const SIMPLE_ESCAPE = Uint8Array.from({ length: 256 }, (_, byte) =>
  '"\\/bfnrt'.includes(String.fromCharCode(byte)) ? 1 : 0,
);

/** Whole numbers of up to 15 digits, and powers of ten up to 1e22, are exact in a double: dividing rounds only once. */
const MAX_EXACT_DIGITS = 15;
const POWERS_OF_TEN = Float64Array.from({ length: 23 }, (_, exponent) => Number(`1e${exponent}`));

/**
 * Reads JSON (RFC 8259) in place, without creating objects. Positions are indexes into `bytes`. A method takes the
 * position where something begins and returns the position after it, or FAILED.
 */
export class Scanner {
  /** The message's whole buffer. Consecutive messages often share it, and so share `bytes` and `view`. */
  bytes: Uint8Array = new Uint8Array(0);
  view: DataView = new DataView(this.bytes.buffer);
  end = 0;
  /** Whether the last string has a backslash. */
  escaped = false;
  /** Whether the last number has neither fraction nor exponent. */
  integral = false;
  /** The last number, as JSON.parse reads it, but 0 for -0. Infinite if it is too large for a double. */
  number = 0;
  /** Whether a string was not UTF-8, or had half of a surrogate pair, since the caller last cleared this. */
  badUnicode = false;
  /** Whether the last value failed because of its depth, not its syntax. */
  tooDeep = false;
  #text: Buffer = Buffer.alloc(0);
  /**
   * The last loaded message, and where it begins in its buffer. Kept, because asking an array for its buffer is a call
   * out of compiled code.
   */
  #loaded: Uint8Array = this.bytes;
  #offset = 0;

  /** Takes the message from `start` to `end`. Returns the position of its first byte. */
  load(message: Uint8Array, start: number, end: number): number {
    if (message !== this.#loaded) this.#turnTo(message);
    this.end = this.#offset + end;
    return this.#offset + start;
  }

  #turnTo(message: Uint8Array): void {
    const { buffer, byteOffset } = message;
    this.#loaded = message;
    this.#offset = byteOffset;
    if (buffer === this.bytes.buffer) return;
    this.bytes = new Uint8Array(buffer);
    this.view = new DataView(buffer);
    this.#text = Buffer.from(buffer);
  }

  peek(i: number): number {
    return i < this.end ? this.bytes[i]! : NOTHING;
  }

  space(i: number): number {
    const { bytes, end } = this;
    while (i < end) {
      const byte = bytes[i]!;
      if (byte > 0x20 || (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09)) break;
      i++;
    }
    return i;
  }

  startsWith(i: number, text: Uint8Array): boolean {
    const { bytes } = this;
    if (i + text.length > this.end) return false;
    for (let k = 0; k < text.length; k++) if (bytes[i + k] !== text[k]) return false;
    return true;
  }

  literal(i: number, text: Uint8Array): number {
    return this.startsWith(i, text) ? i + text.length : FAILED;
  }

  /** Whether the bytes from `start` to `end` are this text. */
  spells(start: number, end: number, text: Uint8Array): boolean {
    return end - start === text.length && this.startsWith(start, text);
  }

  /** Reads what follows a string's opening quote. Returns the position of the closing one. */
  string(i: number): number {
    const { bytes, end } = this;
    this.escaped = false;
    while (i < end) {
      const byte = bytes[i]!;
      if (PLAIN[byte] === 1) {
        i++;
      } else if (byte === QUOTE) {
        return i;
      } else if (byte === BACKSLASH) {
        this.escaped = true;
        i = this.#escape(i + 1);
        if (i === FAILED) return FAILED;
      } else if (byte >= 0x80) {
        i = this.#multibyte(i);
      } else {
        return FAILED;
      }
    }
    return FAILED;
  }

  /**
   * Returns where the next quote is; FAILED if there is none with three more bytes after it. For bytes that the caller
   * then compares with bytes known to be good.
   */
  quote(i: number): number {
    const { view, end } = this;
    for (; i + WORD <= end; i += WORD) {
      const word = view.getInt32(i, true) ^ FOUR_QUOTES;
      // The lowest bit that is set is that of the first byte that is 0.
      const found = (word - 0x01010101) & ~word & 0x80808080;
      if (found !== 0) return i + ((31 - Math.clz32(found & -found)) >>> 3);
    }
    return FAILED;
  }

  /** Returns the text between the quotes of a string that `string` has read; `escaped` as `string` left it. */
  text(start: number, end: number, escaped: boolean): string {
    const raw = this.#text.toString('utf8', start, end);
    return escaped ? (JSON.parse(`"${raw}"`) as string) : raw;
  }

  readNumber(i: number): number {
    const { bytes, end } = this;
    const start = i;
    const negative = this.peek(i) === MINUS;
    if (negative) i++;
    const first = i;
    let mantissa = 0;
    for (; i < end && isDigit(bytes[i]!); i++) mantissa = mantissa * 10 + (bytes[i]! - ZERO);
    let digits = i - first;
    if (digits === 0 || (digits > 1 && bytes[first] === ZERO)) return FAILED;
    let scale = 0;
    if (this.peek(i) === DOT) {
      const fraction = ++i;
      for (; i < end && isDigit(bytes[i]!); i++) mantissa = mantissa * 10 + (bytes[i]! - ZERO);
      scale = i - fraction;
      digits += scale;
      if (scale === 0) return FAILED;
    }
    const afterMantissa = i;
    if ((this.peek(i) | LOWER) === LETTER_E) i = this.#exponent(i + 1);
    if (i === FAILED) return FAILED;
    this.integral = scale === 0 && i === afterMantissa;
    if (digits <= MAX_EXACT_DIGITS && i === afterMantissa) {
      const magnitude = mantissa / POWERS_OF_TEN[scale]!;
      this.number = negative ? 0 - magnitude : magnitude;
    } else {
      // Adding 0 turns -0 into 0.
      this.number = Number(this.#text.toString('latin1', start, i)) + 0;
    }
    return i;
  }

  /** Reads a value of any kind that is inside `depth` arrays and objects. */
  value(i: number, depth: number): number {
    this.tooDeep = false;
    const base = depth;
    /** Bit d is set if level d is an object. */
    let objects = 0;
    for (;;) {
      i = this.space(i);
      const byte = this.peek(i);
      const opensObject = byte === OPEN_OBJECT;
      if (opensObject || byte === OPEN_ARRAY) {
        if (depth === MAX_DEPTH) {
          this.tooDeep = true;
          return FAILED;
        }
        objects = opensObject ? objects | (1 << depth) : objects & ~(1 << depth);
        depth++;
        i = this.space(i + 1);
        if (this.peek(i) !== (opensObject ? CLOSE_OBJECT : CLOSE_ARRAY)) {
          if (opensObject) i = this.key(i);
          if (i === FAILED) return FAILED;
          continue;
        }
      } else {
        i = this.scalar(i);
        if (i === FAILED) return FAILED;
        if (depth === base) return i;
      }
      // After a value, or at the end of an empty array or object.
      i = this.space(i);
      for (;;) {
        const inObject = (objects & (1 << (depth - 1))) !== 0;
        if (this.peek(i) !== (inObject ? CLOSE_OBJECT : CLOSE_ARRAY)) break;
        i++;
        depth--;
        if (depth === base) return i;
        i = this.space(i);
      }
      if (this.peek(i) !== COMMA) return FAILED;
      i = this.space(i + 1);
      if ((objects & (1 << (depth - 1))) !== 0) i = this.key(i);
      if (i === FAILED) return FAILED;
    }
  }

  /**
   * Finds the end of an object, provided that its contents are JSON: looks only at quotes and braces. For bytes that
   * the caller then compares with bytes known to be good, or reads strictly.
   */
  skipObject(i: number): number {
    const { bytes, end } = this;
    let depth = 0;
    for (; i < end; i++) {
      const byte = bytes[i]!;
      if (byte === QUOTE) {
        for (i++; i < end && bytes[i] !== QUOTE; i++) if (bytes[i] === BACKSLASH) i++;
      } else if (byte === OPEN_OBJECT) {
        depth++;
      } else if (byte === CLOSE_OBJECT && --depth === 0) {
        return i + 1;
      }
    }
    return FAILED;
  }

  /** Reads a string, a number or a literal. */
  scalar(i: number): number {
    switch (this.peek(i)) {
      case QUOTE:
        i = this.string(i + 1);
        return i === FAILED ? FAILED : i + 1;
      case 0x74:
        return this.literal(i, TRUE);
      case 0x66:
        return this.literal(i, FALSE);
      case 0x6e:
        return this.literal(i, NULL);
      default:
        return this.readNumber(i);
    }
  }

  /** Reads a key and its colon. */
  key(i: number): number {
    if (this.peek(i) !== QUOTE) return FAILED;
    i = this.string(i + 1);
    if (i === FAILED) return FAILED;
    i = this.space(i + 1);
    return this.peek(i) === COLON ? i + 1 : FAILED;
  }

  #exponent(i: number): number {
    const sign = this.peek(i);
    if (sign === PLUS || sign === MINUS) i++;
    const first = i;
    while (i < this.end && isDigit(this.bytes[i]!)) i++;
    return i > first ? i : FAILED;
  }

  /** Reads what follows a backslash. */
  #escape(i: number): number {
    const byte = this.peek(i);
    if (byte !== LETTER_U) return byte !== NOTHING && SIMPLE_ESCAPE[byte] === 1 ? i + 1 : FAILED;
    const unit = this.#hex4(i + 1);
    if (unit < 0) return FAILED;
    i += 5;
    if ((unit & 0xf800) !== 0xd800) return i;
    // A high surrogate needs a low one right after it, which is read here. Any other surrogate is unpaired.
    const paired = (unit & 0x0400) === 0 && this.peek(i) === BACKSLASH && this.peek(i + 1) === LETTER_U;
    if (paired && (this.#hex4(i + 2) & ~0x3ff) === 0xdc00) return i + 6;
    this.badUnicode = true;
    return i;
  }

  /** Returns the value of four hexadecimal digits, or -1. */
  #hex4(i: number): number {
    if (i + 4 > this.end) return -1;
    let value = 0;
    for (let k = i; k < i + 4; k++) {
      const byte = this.bytes[k]!;
      const letter = (byte | LOWER) - 0x61;
      if (isDigit(byte)) value = value * 16 + (byte - ZERO);
      else if (letter >= 0 && letter < 6) value = value * 16 + 10 + letter;
      else return -1;
    }
    return value;
  }

  /** Reads a character of several bytes. A byte that begins none sets `badUnicode` and is skipped. */
  #multibyte(i: number): number {
    const length = utf8Length(this.peek(i), this.peek(i + 1));
    for (let k = 1; k < length; k++) {
      if ((this.peek(i + k) & ~0x3f) !== 0x80) {
        this.badUnicode = true;
        return i + 1;
      }
    }
    if (length === 0) this.badUnicode = true;
    return i + Math.max(1, length);
  }
}

/**
 * Returns the length by Unicode's table of well-formed UTF-8; 0 if there is none. The second byte excludes overlong
 * forms, surrogates and anything above U+10FFFF.
 */
function utf8Length(first: number, second: number): number {
  if (first >= 0xc2 && first <= 0xdf) return 2;
  if (first >= 0xe0 && first <= 0xef) {
    return (first === 0xe0 && second < 0xa0) || (first === 0xed && second > 0x9f) ? 0 : 3;
  }
  if (first >= 0xf0 && first <= 0xf4) {
    return (first === 0xf0 && second < 0x90) || (first === 0xf4 && second > 0x8f) ? 0 : 4;
  }
  return 0;
}

export function isDigit(byte: number): boolean {
  return byte >= ZERO && byte <= ZERO + 9;
}

export function ascii(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}
