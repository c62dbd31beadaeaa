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

/** Returns the rows, with the columns in the order of `columnArrays`. `isLong`: `window_ms` has 64 bits, not 32. */
export function copyRows(points: readonly Point[], isLong: boolean): Buffer {
  let units = 0;
  for (const { series, instance } of points) {
    units += series.id.length + series.name.length + series.type.length;
    units += series.dimensionsJson.length + instance.length;
  }
  const most = HEAD_BYTES + points.length * ROW_BYTES + units * MAX_BYTES_PER_UNIT + COUNT_BYTES;
  const rows = new Rows(Buffer.allocUnsafe(most));
  for (const point of points) rows.add(point, isLong);
  return rows.end();
}

class Rows {
  readonly #bytes: Buffer;
  readonly #view: DataView;
  #at = HEAD_BYTES;
  #start = Number.NaN;
  #word = 0n;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    SIGNATURE.copy(bytes);
    bytes.fill(0, SIGNATURE.length, HEAD_BYTES);
  }

  add(point: Point, isLong: boolean): void {
    const { series, windowStart, windowMs, instance } = point;
    this.#view.setInt16(this.#at, PG_COLUMNS.size);
    this.#at += COUNT_BYTES;
    this.#time(windowStart);
    if (isLong) this.#integer(windowMs);
    else this.#short(windowMs);
    this.#text(series.id);
    this.#text(instance);
    this.#text(series.name);
    this.#text(series.type);
    this.#text(series.dimensionsJson);
    for (const field of ALL_FIELDS) {
      if (field === 'count') this.#integer(point.count);
      else this.#double(point[field]);
    }
  }

  end(): Buffer {
    this.#view.setInt16(this.#at, END);
    return this.#bytes.subarray(0, this.#at + COUNT_BYTES);
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
      this.#view.setInt32(this.#at, NULL_LENGTH);
      this.#at += LENGTH_BYTES;
      return;
    }
    this.#view.setInt32(this.#at, WORD_BYTES);
    this.#view.setFloat64(this.#at + LENGTH_BYTES, value);
    this.#at += LENGTH_BYTES + WORD_BYTES;
  }

  #text(text: string): void {
    const from = this.#at + LENGTH_BYTES;
    const length = this.#bytes.write(text, from);
    this.#view.setInt32(this.#at, length);
    this.#at = from + length;
  }
}
