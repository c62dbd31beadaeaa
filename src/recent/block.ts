/**
 * A block: windows that follow each other, added up by series. It is kept as a window is, so a question has less to
 * read, and finds the same in it.
 */
import { COUNTER, GAUGE, TIMER } from '../aggregate/sample.ts';
import { CHUNK_POINTS, type Chunk, ChunkBuilder, ChunkReader, isExact, READER_BYTES } from './columns.ts';
import type { KeptWindow } from './recent-windows.ts';
import type { SeriesDictionary } from './series-dictionary.ts';
import { roundedOff } from './series-totals.ts';
import { SketchReader, SparseSketch } from './sketch-bytes.ts';

/** Numbers of series are below. Names are few enough that both make one whole number that is exact. */
const NUMBERS = 2 ** 31;
const REST_BYTES = Float64Array.BYTES_PER_ELEMENT;
/** Series between two looks at the clock. */
const STEP_SERIES = 256;

/** Adds up by series what some windows have. */
export class BlockMaker {
  readonly #windows: readonly KeptWindow[];
  readonly #dictionary: SeriesDictionary;
  readonly #points: number;
  readonly #sketch = new SparseSketch();
  readonly #row = new Float64Array(4);

  constructor(windows: readonly KeptWindow[], dictionary: SeriesDictionary) {
    this.#windows = windows;
    this.#dictionary = dictionary;
    this.#points = Math.max(0, ...windows.flatMap(({ chunks }) => chunks.map(({ size }) => size)));
  }

  /** What this takes while it works, with what it makes, at most. */
  get bytes(): number {
    const builder = READER_BYTES * CHUNK_POINTS;
    const readers = this.#windows.length * READER_BYTES * this.#points;
    return this.#windows.reduce((sum, { bytes }) => sum + bytes, builder + readers + this.#restBytes);
  }

  /** Beside what the windows have, there may be what rounding took off sums, unless all of a type are whole. */
  get #restBytes(): number {
    const chunks = this.#windows.flatMap((window) => window.chunks);
    const rounded = new Set(chunks.filter(({ sum }) => !isExact(sum)).map(({ type }) => type));
    return REST_BYTES * pointsOf(chunks.filter(({ type }) => rounded.has(type)));
  }

  /** `isWanted` lets others have their turn. Returns undefined if this is no longer wanted after that. */
  async make(isWanted: () => Promise<boolean>): Promise<readonly Chunk[] | undefined> {
    const made: Chunk[] = [];
    const inputs = this.#windows.map(() => new Input(this.#dictionary, this.#points));
    for (const type of [COUNTER, GAUGE, TIMER]) {
      const builder = new ChunkBuilder(type, true);
      for (const [i, { chunks }] of this.#windows.entries()) inputs[i]!.begin(chunks, type);
      for (let series = 1; ; series++) {
        const key = leastOf(inputs);
        if (key === Number.POSITIVE_INFINITY) break;
        this.#add(key, inputs, builder);
        if (builder.isFull) made.push(builder.take()!);
        if (series % STEP_SERIES === 0 && !(await isWanted())) return undefined;
      }
      const last = builder.take();
      if (last !== undefined) made.push(last);
    }
    return (await isWanted()) ? made : undefined;
  }

  /** Adds up one series, and moves on all that have it. */
  #add(key: number, inputs: readonly Input[], builder: ChunkBuilder): void {
    let [count, sum, rest] = [0, 0, 0];
    let [min, max] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
    for (const input of inputs) {
      if (input.key !== key) continue;
      const { reader, at } = input;
      count += reader.count[at]!;
      const value = reader.sum[at]!;
      const after = sum + value;
      rest += roundedOff(sum, value, after);
      sum = after;
      if (reader.min[at]! < min) min = reader.min[at]!;
      if (reader.max[at]! > max) max = reader.max[at]!;
    }
    const row = this.#row;
    row[0] = count;
    row[1] = sum;
    row[2] = min;
    row[3] = max;
    builder.add(key % NUMBERS, Math.floor(key / NUMBERS), row, 0, rest);
    this.#addSketches(key, inputs, builder);
    for (const input of inputs) if (input.key === key) input.next();
  }

  #addSketches(key: number, inputs: readonly Input[], builder: ChunkBuilder): void {
    // A function or an array for each series would have to be collected while questions are answered.
    let [having, last] = [0, inputs[0]!];
    for (const input of inputs) {
      if (input.key !== key || !input.hasSketches) continue;
      having += 1;
      last = input;
    }
    if (having === 0) return;
    if (having === 1) {
      builder.sketches.appendBytes(last.sketches.next());
      return;
    }
    this.#sketch.clear();
    for (const input of inputs) if (input.key === key) input.sketches.addToSparse(this.#sketch);
    this.#sketch.writeTo(builder.sketches);
  }
}

/** The points of one type in a window, one after another. */
class Input {
  readonly reader: ChunkReader;
  readonly sketches = new SketchReader();
  hasSketches = false;
  /** Of the point: by name and number, as points are ordered. Infinity after the last. */
  key = Number.POSITIVE_INFINITY;
  at = 0;
  #size = 0;
  #chunks: readonly Chunk[] = [];
  #next = 0;
  readonly #dictionary: SeriesDictionary;

  constructor(dictionary: SeriesDictionary, points: number) {
    this.#dictionary = dictionary;
    this.reader = new ChunkReader(points);
  }

  begin(chunks: readonly Chunk[], type: number): void {
    this.#chunks = chunks.filter((chunk) => chunk.type === type);
    this.#next = 0;
    this.#size = 0;
    this.at = -1;
    this.hasSketches = type === TIMER;
    this.next();
  }

  next(): void {
    if (++this.at >= this.#size) {
      const chunk = this.#chunks[this.#next++];
      if (chunk === undefined) {
        this.key = Number.POSITIVE_INFINITY;
        this.#chunks = [];
        return;
      }
      this.reader.readNumbers(chunk);
      this.reader.readValues(chunk);
      this.sketches.begin(chunk.sketches);
      this.#size = chunk.size;
      this.at = 0;
    }
    const number = this.reader.numbers[this.at]!;
    this.key = NUMBERS * this.#dictionary.nameOf(number) + number;
  }
}

const pointsOf = (chunks: readonly Chunk[]) => chunks.reduce((sum, { size }) => sum + size, 0);

function leastOf(inputs: readonly Input[]): number {
  let least = Number.POSITIVE_INFINITY;
  for (let i = 0; i < inputs.length; i++) if (inputs[i]!.key < least) least = inputs[i]!.key;
  return least;
}
