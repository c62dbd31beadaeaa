/**
 * How the points of a closed window are kept: in chunks of points of one type, by name and then by the number of their
 * series, a column for each number that they have. Most are small and whole, so a column takes the narrowest array that
 * holds all of it exactly. A counter takes some 3 to 10 bytes a window. A question about some names looks only at
 * chunks that have these.
 */
import { COUNTER, TIMER } from '../aggregate/sample.ts';
import { ByteWriter } from './byte-writer.ts';

/** Points of a chunk: the unit of work, and of the choice of arrays. One value that is large makes one chunk wide. */
export const CHUNK_POINTS = 4096;

/** What an array takes beside its content, about: the object, and its memory's. */
const ARRAY_BYTES = 200;

type NumberColumn = Uint8Array | Uint16Array | Int32Array | Float32Array | Float64Array;

export interface Chunk {
  readonly type: number;
  readonly size: number;
  /** The names of its series are from this one on to that one, as numbers. */
  readonly firstName: number;
  readonly lastName: number;
  /**
   * How far each number of a series is from the one before (of the first: from -1), as `ByteWriter.whole`. Where
   * numbers descend, with another name: 0, and the distance from -1.
   */
  readonly gaps: Uint8Array;
  readonly count: NumberColumn;
  readonly sum: NumberColumn;
  /** What rounding took off each sum; empty if that is nothing, as in all windows: only blocks add up. */
  readonly rest: NumberColumn;
  /** Empty for counters. */
  readonly min: NumberColumn;
  readonly max: NumberColumn;
  /** Of timers: see `sketch-bytes.ts`. */
  readonly sketches: Uint8Array;
  readonly bytes: number;
}

const NONE = new Uint8Array();

/** Returns the narrowest array that holds the values to the last bit. */
export function packed(values: Float64Array): NumberColumn {
  let isWhole = true;
  let isSingle = true;
  let [least, most] = [0, 0];
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    if (isWhole && (value | 0) !== value) isWhole = false;
    if (!isWhole && Math.fround(value) !== value) {
      isSingle = false;
      break;
    }
    if (value < least) least = value;
    if (value > most) most = value;
  }
  // What was looked at as whole numbers may be too long for a single.
  if (!isWhole && isSingle) isSingle = values.every((value) => Math.fround(value) === value);
  if (isWhole && least >= 0 && most <= 0xff) return Uint8Array.from(values);
  if (isWhole && least >= 0 && most <= 0xffff) return Uint16Array.from(values);
  if (!isSingle && !isWhole) return Float64Array.from(values);
  return isWhole ? Int32Array.from(values) : Float32Array.from(values);
}

/** Takes the points of one type, and makes chunks of them. */
export class ChunkBuilder {
  readonly #type: number;
  readonly #values: readonly [Float64Array, Float64Array, Float64Array, Float64Array];
  readonly #rest: Float64Array;
  readonly #gaps = new ByteWriter();
  readonly sketches = new ByteWriter();
  #size = 0;
  #last = -1;
  #firstName = 0;
  #lastName = 0;

  /** `adds`: whether sums come with what rounding took off them. */
  constructor(type: number, adds = false) {
    this.#type = type;
    const column = (length: number) => new Float64Array(length);
    const limits = type === COUNTER ? 0 : CHUNK_POINTS;
    this.#values = [column(CHUNK_POINTS), column(CHUNK_POINTS), column(limits), column(limits)];
    this.#rest = column(adds ? CHUNK_POINTS : 0);
  }

  get bytes(): number {
    const columns = this.#values.reduce((sum, { byteLength }) => sum + byteLength, 0);
    return columns + this.#rest.byteLength + this.#gaps.capacity + this.sketches.capacity;
  }

  get isFull(): boolean {
    return this.#size === CHUNK_POINTS;
  }

  /**
   * Names never descend. `row`: where its numbers are in `values`: count, sum, and of other types than counters min and
   * max. `rest`: of the sum, if this is for such.
   */
  add(number: number, name: number, values: Float64Array, row: number, rest = 0): void {
    const at = this.#size++;
    if (at === 0) this.#firstName = name;
    this.#lastName = name;
    const [count, sum, min, max] = this.#values;
    count[at] = values[row]!;
    sum[at] = values[row + 1]!;
    if (this.#rest.length > 0) this.#rest[at] = rest;
    if (this.#type !== COUNTER) {
      min[at] = values[row + 2]!;
      max[at] = values[row + 3]!;
    }
    if (number < this.#last) {
      this.#gaps.byte(0);
      this.#last = -1;
    }
    this.#gaps.whole(number - this.#last);
    this.#last = number;
  }

  /** Returns undefined if there are no points. The next chunk begins anew. */
  take(): Chunk | undefined {
    const size = this.#size;
    if (size === 0) return undefined;
    const [count, sum, min, max] = this.#values.map((values) => packed(values.subarray(0, size)));
    const rest = this.#rest.subarray(0, size);
    const chunk = {
      type: this.#type,
      size,
      firstName: this.#firstName,
      lastName: this.#lastName,
      gaps: this.#gaps.take(),
      count: count!,
      sum: sum!,
      rest: rest.some(Boolean) || rest.some(Number.isNaN) ? packed(rest) : NONE,
      min: this.#type === COUNTER ? NONE : min!,
      max: this.#type === COUNTER ? NONE : max!,
      sketches: this.#type === TIMER ? this.sketches.take() : NONE,
    };
    this.#size = 0;
    this.#last = -1;
    const arrays = [chunk.gaps, chunk.count, chunk.sum, chunk.rest, chunk.min, chunk.max, chunk.sketches];
    const bytes = arrays.reduce(
      (total, { byteLength }) => total + (byteLength === 0 ? 0 : byteLength + ARRAY_BYTES),
      0,
    );
    return { ...chunk, bytes };
  }
}

/** What a reader takes, by point. */
export const READER_BYTES = 44;

/** Reads the columns of chunks, one after another, as arrays of one kind: the loops over them stay fast. */
export class ChunkReader {
  readonly numbers: Int32Array;
  readonly count: Float64Array;
  readonly sum: Float64Array;
  /** Only of chunks that have them. */
  readonly rest: Float64Array;
  readonly min: Float64Array;
  readonly max: Float64Array;

  /** `points`: the most of a chunk. */
  constructor(points = CHUNK_POINTS) {
    this.numbers = new Int32Array(points);
    this.count = new Float64Array(points);
    this.sum = new Float64Array(points);
    this.rest = new Float64Array(points);
    this.min = new Float64Array(points);
    this.max = new Float64Array(points);
  }

  readNumbers({ gaps, size }: Chunk): void {
    const { numbers } = this;
    let number = -1;
    for (let i = 0, at = 0; i < size; i++) {
      let gap = gaps[at++]!;
      if (gap === 0) {
        number = -1;
        gap = gaps[at++]!;
      }
      if (gap >= 0x80) {
        gap &= 0x7f;
        for (let shift = 7, more = 0x80; more >= 0x80; shift += 7) {
          more = gaps[at++]!;
          gap |= (more & 0x7f) << shift;
        }
      }
      number += gap;
      numbers[i] = number;
    }
  }

  readValues({ count, sum, rest, min, max }: Chunk): void {
    this.count.set(count);
    this.sum.set(sum);
    this.rest.set(rest);
    this.min.set(min);
    this.max.set(max);
  }

  /** Leaves only the points of some series of those that were read. Returns how many. */
  keep({ size }: Chunk, isMeant: (number: number) => boolean): number {
    const { numbers, count, sum, rest, min, max } = this;
    let kept = 0;
    for (let i = 0; i < size; i++) {
      const number = numbers[i]!;
      if (!isMeant(number)) continue;
      numbers[kept] = number;
      count[kept] = count[i]!;
      sum[kept] = sum[i]!;
      rest[kept] = rest[i]!;
      min[kept] = min[i]!;
      max[kept] = max[i]!;
      kept += 1;
    }
    return kept;
  }
}

/** Whether adding up many values of the column loses nothing: they are whole, and small. */
export function isExact(column: NumberColumn): boolean {
  return !(column instanceof Float64Array || column instanceof Float32Array);
}
