import { COUNTER, GAUGE, TIMER } from '../aggregate/sample.ts';
import type { JsonSample } from './json-sample.ts';
import { ascii, CLOSE_OBJECT, FAILED, OPEN_OBJECT, QUOTE, type Scanner } from './scanner.ts';
import { parseTimestamp } from './timestamp.ts';

const NAME = ascii('{"name":"');
const COUNTER_VALUE = ascii('","type":"counter","value":');
const GAUGE_VALUE = ascii('","type":"gauge","value":');
const TIMER_VALUE = ascii('","type":"timer","value":');
const DIMENSIONS = ascii(',"dimensions":');
const TIMESTAMP = ascii(',"timestamp":"');
const END = ascii('"}');

/** RFC 3339 with nanoseconds and an offset. */
const LONGEST_TIMESTAMP = 35;

/**
 * The shortest way through a message that has the very bytes of Go's encoder around its values, which nearly all
 * have. The end of the dimensions is found from behind, where only the timestamp is, so their bytes are not looked
 * into: the caller compares them as a whole with ones known to be a complete object. With that, every byte of the
 * message is accounted for, and the result is that of the long way.
 */
export class GoLayout {
  /** Of the last message: as a rule, of the next one too. */
  #timestampLength = 30;

  /** Fills the sample, except for its series. If false, it has to be read the long way. */
  read(scanner: Scanner, sample: JsonSample, start: number): boolean {
    const { end, bytes } = scanner;
    if (!scanner.startsWith(start, NAME)) return false;
    sample.clear(scanner.view);
    const nameStart = start + NAME.length;
    const nameEnd = scanner.string(nameStart);
    if (nameEnd === FAILED || nameEnd === nameStart) return false;
    sample.nameStart = nameStart;
    sample.nameLength = nameEnd - nameStart;

    let i = this.#type(scanner, sample, nameEnd);
    if (i === FAILED) return false;
    i = scanner.readNumber(i);
    if (i === FAILED || !Number.isFinite(scanner.number)) return false;
    sample.value = scanner.number;

    if (!scanner.startsWith(i, DIMENSIONS)) return false;
    i += DIMENSIONS.length;
    const timestampEnd = end - END.length;
    const timestampStart = this.#timestamp(scanner, i, timestampEnd);
    if (timestampStart === FAILED || !scanner.startsWith(timestampEnd, END)) return false;
    sample.eventTime = parseTimestamp(bytes, timestampStart, timestampEnd);
    if (Number.isNaN(sample.eventTime)) return false;

    const dimensionsEnd = timestampStart - TIMESTAMP.length;
    if (bytes[i] !== OPEN_OBJECT || bytes[dimensionsEnd - 1] !== CLOSE_OBJECT) return false;
    sample.dimensionsStart = i;
    sample.dimensionsLength = dimensionsEnd - i;
    return true;
  }

  #type(scanner: Scanner, sample: JsonSample, i: number): number {
    if (scanner.startsWith(i, COUNTER_VALUE)) {
      sample.type = COUNTER;
      return i + COUNTER_VALUE.length;
    }
    if (scanner.startsWith(i, TIMER_VALUE)) {
      sample.type = TIMER;
      return i + TIMER_VALUE.length;
    }
    if (scanner.startsWith(i, GAUGE_VALUE)) {
      sample.type = GAUGE;
      return i + GAUGE_VALUE.length;
    }
    return FAILED;
  }

  /** Where the timestamp begins that ends at `end`. The field, with its key, must lie behind `from`. */
  #timestamp(scanner: Scanner, from: number, end: number): number {
    const likely = end - this.#timestampLength;
    const first = from + TIMESTAMP.length;
    if (likely > first && scanner.startsWith(likely - TIMESTAMP.length, TIMESTAMP)) return likely;
    let i = end;
    while (i > first && i > end - LONGEST_TIMESTAMP && scanner.bytes[i - 1] !== QUOTE) i--;
    if (i <= first || !scanner.startsWith(i - TIMESTAMP.length, TIMESTAMP)) return FAILED;
    this.#timestampLength = end - i;
    return i;
  }
}
