import { COUNTER, GAUGE, TIMER } from '../aggregate/sample.ts';
import type { DecodedSample } from './decoded-sample.ts';
import { ascii, CLOSE_OBJECT, FAILED, OPEN_OBJECT, QUOTE, type Scanner } from './scanner.ts';
import type { TimestampReader } from './timestamp.ts';

/** A text of at least four bytes, compared four bytes at a time. */
class Literal {
  readonly length: number;
  readonly #words: Int32Array;
  /** The last four bytes, which may overlap the words. */
  readonly #last: number;

  constructor(text: string) {
    const view = new DataView(ascii(text).buffer);
    this.length = view.byteLength;
    this.#words = Int32Array.from({ length: this.length >>> 2 }, (_, i) => view.getInt32(4 * i));
    this.#last = view.getInt32(this.length - 4);
  }

  /** Whether the text is at `i`. */
  isAt(scanner: Scanner, i: number): boolean {
    const { view } = scanner;
    if (i + this.length > scanner.end) return false;
    for (let k = 0; k < this.#words.length; k++) {
      if (view.getInt32(i + 4 * k) !== this.#words[k]) return false;
    }
    return view.getInt32(i + this.length - 4) === this.#last;
  }
}

const NAME = new Literal('{"name":"');
const TYPE = new Literal('","type":"');
const COUNTER_VALUE = new Literal('counter","value":');
const GAUGE_VALUE = new Literal('gauge","value":');
const TIMER_VALUE = new Literal('timer","value":');
const DIMENSIONS = new Literal(',"dimensions":');
const TIMESTAMP = new Literal(',"timestamp":"');
/** A quote and a brace. */
const END_LENGTH = 2;

/** RFC 3339 with nanoseconds and an offset. */
const LONGEST_TIMESTAMP = 35;

/**
 * The fast path for a message with exactly the bytes of Go's encoder around its values, as nearly all have. The end of
 * the dimensions is found from the end of the message, where only the timestamp follows, so their bytes are not
 * parsed: the caller compares them as a whole with bytes known to be a complete object. So it does with the name, which
 * ends at the first quote. That accounts for every byte of the message, and the result is that of the slow path.
 */
export class GoLayout {
  readonly #timestamps: TimestampReader;
  /** The length in the last message, which the next one usually shares. */
  #timestampLength = 30;

  constructor(timestamps: TimestampReader) {
    this.#timestamps = timestamps;
  }

  /**
   * Fills the sample, all but its series. Returns false if the message must take the slow path, which first clears
   * the sample.
   */
  read(scanner: Scanner, sample: DecodedSample, start: number): boolean {
    const { end, bytes } = scanner;
    if (!NAME.isAt(scanner, start)) return false;
    const nameStart = start + NAME.length;
    const nameEnd = scanner.quote(nameStart);
    if (nameEnd === FAILED || nameEnd === nameStart) return false;
    sample.nameStart = nameStart;
    sample.nameLength = nameEnd - nameStart;

    let i = this.#type(scanner, sample, nameEnd);
    if (i === FAILED) return false;
    i = scanner.readNumber(i);
    if (i === FAILED || !Number.isFinite(scanner.number)) return false;
    sample.value = scanner.number;

    if (!DIMENSIONS.isAt(scanner, i)) return false;
    i += DIMENSIONS.length;
    const timestampEnd = end - END_LENGTH;
    const timestampStart = this.#timestamp(scanner, i, timestampEnd);
    if (timestampStart === FAILED) return false;
    if (bytes[end - 1] !== CLOSE_OBJECT || bytes[end - 2] !== QUOTE) return false;
    sample.eventTime = this.#timestamps.read(scanner.view, timestampStart, timestampEnd);
    if (Number.isNaN(sample.eventTime)) return false;

    const dimensionsEnd = timestampStart - TIMESTAMP.length;
    // Without this check an empty range would find a series too: it stands for a message without the field.
    if (bytes[i] !== OPEN_OBJECT) return false;
    sample.dimensionsStart = i;
    sample.dimensionsLength = dimensionsEnd - i;
    return true;
  }

  #type(scanner: Scanner, sample: DecodedSample, i: number): number {
    if (!TYPE.isAt(scanner, i)) return FAILED;
    i += TYPE.length;
    if (COUNTER_VALUE.isAt(scanner, i)) {
      sample.type = COUNTER;
      return i + COUNTER_VALUE.length;
    }
    if (TIMER_VALUE.isAt(scanner, i)) {
      sample.type = TIMER;
      return i + TIMER_VALUE.length;
    }
    if (GAUGE_VALUE.isAt(scanner, i)) {
      sample.type = GAUGE;
      return i + GAUGE_VALUE.length;
    }
    return FAILED;
  }

  /** Returns where the timestamp that ends at `end` begins. The field, with its key, must begin after `from`. */
  #timestamp(scanner: Scanner, from: number, end: number): number {
    const likely = end - this.#timestampLength;
    const first = from + TIMESTAMP.length;
    if (likely > first && TIMESTAMP.isAt(scanner, likely - TIMESTAMP.length)) return likely;
    let i = end;
    while (i > first && i > end - LONGEST_TIMESTAMP && scanner.bytes[i - 1] !== QUOTE) i--;
    if (i <= first || !TIMESTAMP.isAt(scanner, i - TIMESTAMP.length)) return FAILED;
    this.#timestampLength = end - i;
    return i;
  }
}
