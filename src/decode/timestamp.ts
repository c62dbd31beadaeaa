const DASH = 0x2d;
const PLUS = 0x2b;
const COLON = 0x3a;
const DOT = 0x2e;
const ZERO = 0x30;
const LETTER_T = 0x74;
const LETTER_Z = 0x7a;
/** The bit that a lower-case letter has set. */
const LOWER = 0x20;

const NO_DIGITS = -1_000_000;

const DAYS_IN_MONTH = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] as const;
/** Days of a common year before the month. */
const DAYS_BEFORE_MONTH = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334] as const;
/** Days from 0000-01-01 to 1970-01-01. */
const DAYS_TO_1970 = 719_528;

const MS_PER_MINUTE = 60_000;
const MS_PER_DAY = 86_400_000;
/** The length of `2026-11-23T01:30`, which is four words. */
const MINUTE_LENGTH = 16;
/** The same with `:00`. */
const SECONDS_LENGTH = 19;
const WORD = 4;

/** Reads RFC 3339 times. The second is most of the work, and is usually the same as in the previous time. */
export class TimestampReader {
  #word0 = 0;
  #word1 = 0;
  #word2 = 0;
  #word3 = 0;
  #minute = Number.NaN;
  /** Of the last second: the word that ends it, and when it begins. */
  #secondWord = 0;
  #second = Number.NaN;

  /**
   * Returns the time in whole milliseconds since 1970, rounded down, or NaN if the bytes are not a time. Reads
   * fractions of any length. Second 60 is read as the first second of the next minute, in any minute: leap seconds
   * come without notice.
   */
  read(view: DataView, start: number, end: number): number {
    // The shortest time ends in Z. This check also keeps the reads below within the bytes.
    if (end - start <= SECONDS_LENGTH) return Number.NaN;
    const second = this.#readSecond(view, start);
    let i = start + SECONDS_LENGTH;
    let fraction = 0;
    if (view.getUint8(i) === DOT) {
      const first = ++i;
      for (let weight = 100; weight > 0 && i < end; i++) {
        const digit = view.getUint8(i) - ZERO;
        if (digit < 0 || digit > 9) break;
        fraction += digit * weight;
        weight = weight === 100 ? 10 : weight === 10 ? 1 : 0;
      }
      if (i === first) return Number.NaN;
      i = skipDigits(view, i, end);
    }
    // Adding 0 turns -0 into 0.
    return second - offsetMinutes(view, i, end) * MS_PER_MINUTE + fraction + 0;
  }

  #readSecond(view: DataView, start: number): number {
    const before = this.#minute;
    const minute = this.#readMinute(view, start);
    const word = view.getInt32(start + SECONDS_LENGTH - WORD);
    if (word === this.#secondWord && minute === before) return this.#second;
    const second = digits2(view, start + MINUTE_LENGTH + 1);
    const isSecond = view.getUint8(start + MINUTE_LENGTH) === COLON && isWithin(second, 0, 60);
    this.#secondWord = word;
    this.#second = isSecond ? minute + second * 1000 : Number.NaN;
    return this.#second;
  }

  #readMinute(view: DataView, start: number): number {
    const word0 = view.getInt32(start);
    const word1 = view.getInt32(start + 4);
    const word2 = view.getInt32(start + 8);
    const word3 = view.getInt32(start + 12);
    // The minutes change most often, so compare their word first.
    const same =
      word3 === this.#word3 && word2 === this.#word2 && word1 === this.#word1 && word0 === this.#word0;
    if (same) return this.#minute;
    this.#word0 = word0;
    this.#word1 = word1;
    this.#word2 = word2;
    this.#word3 = word3;
    this.#minute = parseMinute(view, start);
    return this.#minute;
  }
}

function parseMinute(view: DataView, start: number): number {
  const year = digits2(view, start) * 100 + digits2(view, start + 2);
  const month = digits2(view, start + 5);
  const day = digits2(view, start + 8);
  const hour = digits2(view, start + 11);
  const minute = digits2(view, start + 14);
  const separated =
    view.getUint8(start + 4) === DASH &&
    view.getUint8(start + 7) === DASH &&
    (view.getUint8(start + 10) | LOWER) === LETTER_T &&
    view.getUint8(start + 13) === COLON;
  const inRange = year >= 0 && isWithin(month, 1, 12) && isWithin(hour, 0, 23) && isWithin(minute, 0, 59);
  if (!separated || !inRange || !isWithin(day, 1, daysInMonth(year, month))) return Number.NaN;
  return daysSince1970(year, month, day) * MS_PER_DAY + (hour * 60 + minute) * MS_PER_MINUTE;
}

/** Returns minutes east of UTC, or NaN. */
function offsetMinutes(view: DataView, start: number, end: number): number {
  if (start === end) return Number.NaN;
  const first = view.getUint8(start);
  if (end - start === 1) return (first | LOWER) === LETTER_Z ? 0 : Number.NaN;
  if (end - start !== 6 || view.getUint8(start + 3) !== COLON) return Number.NaN;
  const sign = first === PLUS ? 1 : first === DASH ? -1 : Number.NaN;
  const hours = digits2(view, start + 1);
  const minutes = digits2(view, start + 4);
  return isWithin(hours, 0, 23) && isWithin(minutes, 0, 59) ? sign * (hours * 60 + minutes) : Number.NaN;
}

/** Returns the number that two digits spell; a number far below 0 if they are not digits. */
function digits2(view: DataView, at: number): number {
  const tens = view.getUint8(at);
  const ones = view.getUint8(at + 1);
  return isDigit(tens) && isDigit(ones) ? (tens - ZERO) * 10 + (ones - ZERO) : NO_DIGITS;
}

/** Returns the position after the digits from `i` on. */
function skipDigits(view: DataView, i: number, end: number): number {
  while (i + WORD <= end && areDigits(view.getInt32(i))) i += WORD;
  while (i < end && isDigit(view.getUint8(i))) i++;
  return i;
}

/** Whether the four bytes of a word are digits: 0x30 to 0x3f, and still so if 6 is added to each. */
function areDigits(word: number): boolean {
  return (word & 0xf0f0f0f0) === 0x30303030 && ((word + 0x06060606) & 0xf0f0f0f0) === 0x30303030;
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

/** Returns days in the proleptic Gregorian calendar, in which year 0 is a leap year. */
function daysSince1970(year: number, month: number, day: number): number {
  const before = year - 1;
  const leapDays = Math.floor(before / 4) - Math.floor(before / 100) + Math.floor(before / 400) + 1;
  const inYear = DAYS_BEFORE_MONTH[month - 1]! + (month > 2 && isLeap(year) ? 1 : 0) + day - 1;
  return year * 365 + leapDays + inYear - DAYS_TO_1970;
}
