/**
 * Points as the rows of COPY in its binary format: the server parses no statement and no number, and puts many rows at
 * a time into a page of the table. Pure.
 */
import { ALL_FIELDS, type Point } from '../../aggregate/point.ts';
import { MAX_BYTES_PER_UNIT, PG_COLUMNS, serverMicroseconds } from './arrays.ts';

const SIGNATURE = Buffer.from('PGCOPY\n\xff\r\n\0', 'latin1');
/** The signature, no flags, and no extension of the head. */
const HEAD_BYTES = SIGNATURE.length + 8;
const END_BYTES = 2;
const END = -1;
const LENGTH_BYTES = 4;
const NULL_LENGTH = -1;
const INT_BYTES = 4;
const WORD_BYTES = 8;
const WORD = 2 ** 32;
/** What a row takes beside its text. */
const ROW_BYTES = 2 + PG_COLUMNS.size * (LENGTH_BYTES + WORD_BYTES);

/** Returns the rows, with the columns in the order of `columnArrays`. `isLong`: `window_ms` has 64 bits, not 32. */
export function copyRows(points: readonly Point[], isLong: boolean): Buffer {
  let units = 0;
  for (const { series, instance } of points) {
    units += series.id.length + series.name.length + series.type.length;
    units += series.dimensionsJson.length + instance.length;
  }
  const most = HEAD_BYTES + points.length * ROW_BYTES + units * MAX_BYTES_PER_UNIT + END_BYTES;
  const rows = new Rows(Buffer.allocUnsafe(most));
  for (const point of points) rows.add(point, isLong);
  return rows.end();
}

class Rows {
  readonly #bytes: Buffer;
  #at = HEAD_BYTES;
  #start = Number.NaN;
  #word = 0n;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
    SIGNATURE.copy(bytes);
    bytes.fill(0, SIGNATURE.length, HEAD_BYTES);
  }

  add(point: Point, isLong: boolean): void {
    const { series, windowStart, windowMs, instance } = point;
    this.#at = this.#bytes.writeInt16BE(PG_COLUMNS.size, this.#at);
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
    this.#at = this.#bytes.writeInt16BE(END, this.#at);
    return this.#bytes.subarray(0, this.#at);
  }

  /** The points of a batch have few starts, which mostly come in a row. */
  #time(start: number): void {
    if (start !== this.#start) {
      this.#start = start;
      this.#word = serverMicroseconds(start);
    }
    this.#at = this.#bytes.writeInt32BE(WORD_BYTES, this.#at);
    this.#at = this.#bytes.writeBigInt64BE(this.#word, this.#at);
  }

  #short(value: number): void {
    this.#at = this.#bytes.writeInt32BE(INT_BYTES, this.#at);
    this.#at = this.#bytes.writeInt32BE(value, this.#at);
  }

  #integer(value: number): void {
    const high = Math.floor(value / WORD);
    this.#at = this.#bytes.writeInt32BE(WORD_BYTES, this.#at);
    this.#at = this.#bytes.writeInt32BE(high, this.#at);
    this.#at = this.#bytes.writeUInt32BE(value - high * WORD, this.#at);
  }

  #double(value: number | null): void {
    this.#at = this.#bytes.writeInt32BE(value === null ? NULL_LENGTH : WORD_BYTES, this.#at);
    if (value !== null) this.#at = this.#bytes.writeDoubleBE(value, this.#at);
  }

  #text(text: string): void {
    const from = this.#at + LENGTH_BYTES;
    const length = this.#bytes.write(text, from);
    this.#bytes.writeInt32BE(length, this.#at);
    this.#at = from + length;
  }
}
