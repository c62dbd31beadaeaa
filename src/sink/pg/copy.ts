/**
 * Points as the rows of COPY in its binary format: the server parses no statement and no number, and puts many rows at
 * a time into a page of the table. Pure.
 */
import { ALL_FIELDS, type Point } from '../../aggregate/point.ts';
import { MAX_BYTES_PER_UNIT, PG_COLUMNS, serverMicroseconds } from './arrays.ts';

const SIGNATURE = Buffer.from('PGCOPY\n\xff\r\n\0', 'latin1');
/** The signature, no flags, and no extension of the head. */
const HEAD_BYTES = SIGNATURE.length + 8;
/** Of the number of columns before a row, or what stands there at the end. */
const COUNT_BYTES = 2;
const END = -1;
const LENGTH_BYTES = 4;
const NULL_LENGTH = -1;
const INT_BYTES = 4;
const WORD_BYTES = 8;
const WORD = 2 ** 32;
/** What a row takes beside its text. */
const ROW_BYTES = COUNT_BYTES + PG_COLUMNS.size * (LENGTH_BYTES + WORD_BYTES);

/** A part is no larger, unless a row is: memory of this size is soon used again, larger memory is new each time. */
const PART_BYTES = 65_536;

/**
 * Returns the rows in parts, with the columns in the order of `columnArrays`. `isLong`: `window_ms` has 64 bits, not
 * 32.
 */
export function copyRows(points: readonly Point[], isLong: boolean, hasSketch: boolean): Buffer[] {
  const rows = new Rows(hasSketch);
  for (const point of points) rows.add(point, isLong);
  return rows.end();
}

class Rows {
  readonly #parts: Buffer[] = [];
  #bytes = Buffer.allocUnsafe(PART_BYTES);
  #view = viewOf(this.#bytes);
  #at = HEAD_BYTES;
  #start = Number.NaN;
  #word = 0n;

  readonly #hasSketch: boolean;

  constructor(hasSketch: boolean) {
    this.#hasSketch = hasSketch;
    SIGNATURE.copy(this.#bytes);
    this.#bytes.fill(0, SIGNATURE.length, HEAD_BYTES);
  }

  add(point: Point, isLong: boolean): void {
    const { series, windowStart, windowMs, instance, sketch = null } = point;
    const { id, name, type, dimensionsJson } = series;
    const written = (this.#hasSketch ? sketch : null) ?? '';
    const units =
      id.length + instance.length + name.length + type.length + dimensionsJson.length + written.length;
    this.#reserve(ROW_BYTES + units * MAX_BYTES_PER_UNIT);
    this.#view.setInt16(this.#at, PG_COLUMNS.size - (this.#hasSketch ? 0 : 1));
    this.#at += COUNT_BYTES;
    this.#time(windowStart);
    if (isLong) this.#integer(windowMs);
    else this.#short(windowMs);
    this.#text(id);
    this.#text(instance);
    this.#text(name);
    this.#text(type);
    this.#text(dimensionsJson);
    for (const field of ALL_FIELDS) {
      if (field === 'count') this.#integer(point.count);
      else this.#double(point[field]);
    }
    if (this.#hasSketch && sketch === null) this.#null();
    else if (this.#hasSketch) this.#text(written);
  }

  end(): Buffer[] {
    this.#reserve(COUNT_BYTES);
    this.#view.setInt16(this.#at, END);
    return [...this.#parts, this.#bytes.subarray(0, this.#at + COUNT_BYTES)];
  }

  /** Begins another part if this one may not have so many bytes left. */
  #reserve(bytes: number): void {
    if (this.#at + bytes <= this.#bytes.length) return;
    this.#parts.push(this.#bytes.subarray(0, this.#at));
    this.#bytes = Buffer.allocUnsafe(Math.max(bytes, PART_BYTES));
    this.#view = viewOf(this.#bytes);
    this.#at = 0;
  }

  /** The points of a batch have few starts, which mostly come in a row. */
  #time(start: number): void {
    if (start !== this.#start) {
      this.#start = start;
      this.#word = serverMicroseconds(start);
    }
    this.#view.setInt32(this.#at, WORD_BYTES);
    this.#view.setBigInt64(this.#at + LENGTH_BYTES, this.#word);
    this.#at += LENGTH_BYTES + WORD_BYTES;
  }

  #short(value: number): void {
    this.#view.setInt32(this.#at, INT_BYTES);
    this.#view.setInt32(this.#at + LENGTH_BYTES, value);
    this.#at += LENGTH_BYTES + INT_BYTES;
  }

  #integer(value: number): void {
    const high = Math.floor(value / WORD);
    this.#view.setInt32(this.#at, WORD_BYTES);
    this.#view.setInt32(this.#at + LENGTH_BYTES, high);
    this.#view.setUint32(this.#at + LENGTH_BYTES + INT_BYTES, value - high * WORD);
    this.#at += LENGTH_BYTES + WORD_BYTES;
  }

  #double(value: number | null): void {
    if (value === null) {
      this.#null();
      return;
    }
    this.#view.setInt32(this.#at, WORD_BYTES);
    this.#view.setFloat64(this.#at + LENGTH_BYTES, value);
    this.#at += LENGTH_BYTES + WORD_BYTES;
  }

  #null(): void {
    this.#view.setInt32(this.#at, NULL_LENGTH);
    this.#at += LENGTH_BYTES;
  }

  #text(text: string): void {
    const from = this.#at + LENGTH_BYTES;
    const length = this.#bytes.write(text, from);
    this.#view.setInt32(this.#at, length);
    this.#at = from + length;
  }
}

function viewOf({ buffer, byteOffset, length }: Buffer): DataView {
  return new DataView(buffer, byteOffset, length);
}
