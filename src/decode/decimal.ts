/** Numbers as the text formats spell them. */
import { isDigit, type Scanner } from './scanner.ts';

const PLUS = 0x2b;
const MINUS = 0x2d;
const DOT = 0x2e;
const ZERO = 0x30;

/** Whole numbers of up to 15 digits, and powers of ten up to 1e15, are exact in a double: dividing rounds only once. */
const MAX_EXACT_DIGITS = 15;
const POWERS_OF_TEN = Float64Array.from({ length: MAX_EXACT_DIGITS + 1 }, (_, exponent) =>
  Number(`1e${exponent}`),
);
/** Also takes `1.`, `.5` and leading zeros. There is only one way to match any text, so none takes long to fail. */
const DECIMAL = /^[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?$/;

/** As many as 2^64 has: a number of more is out of range. */
const MAX_INTEGER_DIGITS = 20;
export const INT64 = { min: -(2n ** 63n), max: 2n ** 63n - 1n } as const;
export const UINT64 = { min: 0n, max: 2n ** 64n - 1n } as const;

/** 2^63 - 1 nanoseconds: whole milliseconds, and the rest. */
const MAX_MS = 9_223_372_036_854;
const MAX_REST = 775_807;
const DIGITS_BELOW_MS = 6;

/** Returns the number that the bytes from `start` to `end` spell, never -0; NaN if they spell none. May be infinite. */
export function readDecimal(scanner: Scanner, start: number, end: number): number {
  const { bytes } = scanner;
  const first = digitsFrom(bytes, start);
  let mantissa = 0;
  let dot = end;
  let i = first;
  for (; i < end; i++) {
    const byte = bytes[i]!;
    if (isDigit(byte)) mantissa = mantissa * 10 + (byte - ZERO);
    else if (byte === DOT && dot === end) dot = i;
    else break;
  }
  const digits = dot === end ? end - first : end - first - 1;
  if (i === end && digits > 0 && digits <= MAX_EXACT_DIGITS) {
    const magnitude = mantissa / POWERS_OF_TEN[dot === end ? 0 : end - dot - 1]!;
    return bytes[start] === MINUS ? 0 - magnitude : magnitude;
  }
  const text = scanner.text(start, end, false);
  return DECIMAL.test(text) ? Number(text) + 0 : Number.NaN;
}

/**
 * Returns the whole number within `bounds` that the bytes from `start` to `end` spell, rounded to a double; NaN if they
 * spell none.
 */
export function readInteger(
  scanner: Scanner,
  start: number,
  end: number,
  bounds: { readonly min: bigint; readonly max: bigint },
): number {
  const { bytes } = scanner;
  const first = digitsFrom(bytes, start);
  const isNegative = bytes[start] === MINUS;
  if (isNegative && bounds.min === 0n) return Number.NaN;
  if (end - first <= MAX_EXACT_DIGITS) {
    let value = 0;
    for (let i = first; i < end; i++) {
      if (!isDigit(bytes[i]!)) return Number.NaN;
      value = value * 10 + (bytes[i]! - ZERO);
    }
    if (first >= end) return Number.NaN;
    return isNegative ? 0 - value : value;
  }
  let i = first;
  while (i < end - 1 && bytes[i] === ZERO) i++;
  if (end - i > MAX_INTEGER_DIGITS) return Number.NaN;
  for (let k = i; k < end; k++) if (!isDigit(bytes[k]!)) return Number.NaN;
  const digits = BigInt(scanner.text(i, end, false));
  const value = isNegative ? -digits : digits;
  return value >= bounds.min && value <= bounds.max ? Number(value) : Number.NaN;
}

/** Reads nanoseconds since 1970 (64 bits). Returns whole milliseconds, rounded down; NaN if the bytes spell none. */
export function readNanos(scanner: Scanner, start: number, end: number): number {
  const { bytes } = scanner;
  let i = digitsFrom(bytes, start);
  if (i >= end) return Number.NaN;
  const isNegative = bytes[start] === MINUS;
  let ms = 0;
  let rest = 0;
  for (; i < end; i++) {
    if (!isDigit(bytes[i]!)) return Number.NaN;
    if (i < end - DIGITS_BELOW_MS) ms = ms * 10 + (bytes[i]! - ZERO);
    else rest = rest * 10 + (bytes[i]! - ZERO);
  }
  const maxRest = isNegative ? MAX_REST + 1 : MAX_REST;
  if (ms > MAX_MS || (ms === MAX_MS && rest > maxRest)) return Number.NaN;
  if (isNegative && rest > 0) return -ms - 1;
  return isNegative ? 0 - ms : ms;
}

/** Returns the position after the sign, if there is one. */
function digitsFrom(bytes: Uint8Array, start: number): number {
  return bytes[start] === MINUS || bytes[start] === PLUS ? start + 1 : start;
}
