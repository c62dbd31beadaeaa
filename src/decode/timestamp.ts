const DASH = 0x2d;
const PLUS = 0x2b;
const COLON = 0x3a;
const DOT = 0x2e;
const ZERO = 0x30;
/** Set in a lower-case letter. */
const LOWER = 0x20;

const NO_DIGITS = -1_000_000;

const DAYS_IN_MONTH = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] as const;
/** Days of a common year before the month. */
const DAYS_BEFORE_MONTH = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334] as const;
/** Days from 0000-01-01 to 1970-01-01. */
const DAYS_TO_1970 = 719_528;

const MS_PER_MINUTE = 60_000;
const MS_PER_DAY = 86_400_000;
/** Up to the seconds: `2026-11-23T01:30:00`. */
const SECONDS_LENGTH = 19;

/**
 * An RFC 3339 time in whole milliseconds since 1970, rounded down, or NaN. Fractions of any length are read. Second 60
 * is the first of the next minute, wherever it stands: leap seconds come without notice.
 */
export function parseTimestamp(bytes: Uint8Array, start: number, end: number): number {
  // The shortest ends in Z; it also makes sure that the reads below stay inside.
  if (end - start <= SECONDS_LENGTH) return Number.NaN;
  const year = digits2(bytes, start) * 100 + digits2(bytes, start + 2);
  const month = digits2(bytes, start + 5);
  const day = digits2(bytes, start + 8);
  const hour = digits2(bytes, start + 11);
  const minute = digits2(bytes, start + 14);
  const second = digits2(bytes, start + 17);
  const separated =
    bytes[start + 4] === DASH &&
    bytes[start + 7] === DASH &&
    (bytes[start + 10]! | LOWER) === 0x74 &&
    bytes[start + 13] === COLON &&
    bytes[start + 16] === COLON;
  const inRange =
    isWithin(month, 1, 12) && isWithin(hour, 0, 23) && isWithin(minute, 0, 59) && isWithin(second, 0, 60);
  if (!separated || !inRange || year < 0 || !isWithin(day, 1, daysInMonth(year, month))) return Number.NaN;

  let i = start + SECONDS_LENGTH;
  let fraction = 0;
  if (bytes[i] === DOT) {
    const first = ++i;
    for (let weight = 100; i < end && isDigit(bytes[i]!); i++) {
      fraction += (bytes[i]! - ZERO) * weight;
      weight = weight === 100 ? 10 : weight === 10 ? 1 : 0;
    }
    if (i === first) return Number.NaN;
  }
  const offset = parseOffset(bytes, i, end);
  const days = daysSince1970(year, month, day);
  // Adding 0 makes 0 of -0.
  return days * MS_PER_DAY + (hour * 60 + minute - offset) * MS_PER_MINUTE + second * 1000 + fraction + 0;
}

/** Minutes east of UTC, or NaN. */
function parseOffset(bytes: Uint8Array, start: number, end: number): number {
  if (end - start === 1) return (bytes[start]! | LOWER) === 0x7a ? 0 : Number.NaN;
  const sign = bytes[start] === PLUS ? 1 : bytes[start] === DASH ? -1 : Number.NaN;
  if (end - start !== 6 || bytes[start + 3] !== COLON) return Number.NaN;
  const hours = digits2(bytes, start + 1);
  const minutes = digits2(bytes, start + 4);
  return isWithin(hours, 0, 23) && isWithin(minutes, 0, 59) ? sign * (hours * 60 + minutes) : Number.NaN;
}

/** The number that two digits say; far below 0 if they are none. */
function digits2(bytes: Uint8Array, at: number): number {
  const tens = bytes[at]!;
  const ones = bytes[at + 1]!;
  return isDigit(tens) && isDigit(ones) ? (tens - ZERO) * 10 + (ones - ZERO) : NO_DIGITS;
}

function isWithin(value: number, min: number, max: number): boolean {
  return value >= min && value <= max;
}

function isDigit(byte: number): boolean {
  return byte >= ZERO && byte <= ZERO + 9;
}

function isLeap(year: number): boolean {
  return year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0);
}

function daysInMonth(year: number, month: number): number {
  return DAYS_IN_MONTH[month - 1]! + (month === 2 && isLeap(year) ? 1 : 0);
}

/** In the proleptic Gregorian calendar, in which year 0 is a leap year. */
function daysSince1970(year: number, month: number, day: number): number {
  const before = year - 1;
  const leapDays = Math.floor(before / 4) - Math.floor(before / 100) + Math.floor(before / 400) + 1;
  const inYear = DAYS_BEFORE_MONTH[month - 1]! + (month > 2 && isLeap(year) ? 1 : 0) + day - 1;
  return year * 365 + leapDays + inYear - DAYS_TO_1970;
}
