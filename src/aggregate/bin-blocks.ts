/** Memory for the bins of sketches. */

/** Bins are allocated in blocks of this many, because most timers spread little. */
export const BIN_STEP = 32;
export const STEP_BITS = 5;
/** Of one sign of a sketch. */
export const MAX_BLOCKS = 64;

/** Blocks in a chunk: 256 KB, which goes back to the system as a whole. The first one begins small. */
const CHUNK_BITS = 10;
const CHUNK_BLOCKS = 1 << CHUNK_BITS;
const FIRST_CHUNK_BLOCKS = 2;

export const offsetOf = (block: number) => (block % CHUNK_BLOCKS) * BIN_STEP;

/** Blocks of memory: each holds BIN_STEP counts, or the numbers of up to MAX_BLOCKS other blocks. */
export class Blocks {
  #counts: Float64Array[] = [];
  /** The same memory. */
  #numbers: Int32Array[] = [];
  #used = 0;
  readonly #free: number[] = [];
  readonly #isShared: boolean;

  /** `chunks`: what `chunks` of others returned, to be read only. */
  constructor(isShared: boolean, chunks: readonly Float64Array[] = []) {
    this.#isShared = isShared;
    this.#counts = [...chunks];
    this.#numbers = chunks.map(({ buffer }) => new Int32Array(buffer));
  }

  get chunks(): readonly Float64Array[] {
    return this.#counts;
  }

  get bytes(): number {
    return this.#counts.reduce((sum, { byteLength }) => sum + byteLength, 0);
  }

  /** Returns the number of a block, all zeros. */
  take(): number {
    const free = this.#free.pop();
    if (free !== undefined) {
      this.countsOf(free).fill(0);
      return free;
    }
    const chunk = this.#used >> CHUNK_BITS;
    const held = (this.#counts[chunk]?.length ?? 0) / BIN_STEP;
    const needed = (this.#used % CHUNK_BLOCKS) + 1;
    if (needed > held) this.#grow(chunk, chunk > 0 ? CHUNK_BLOCKS : Math.max(FIRST_CHUNK_BLOCKS, 2 * held));
    return this.#used++;
  }

  #grow(chunk: number, blocks: number): void {
    const bytes = blocks * BIN_STEP * Float64Array.BYTES_PER_ELEMENT;
    const counts = new Float64Array(this.#isShared ? new SharedArrayBuffer(bytes) : new ArrayBuffer(bytes));
    if (this.#counts[chunk] !== undefined) counts.set(this.#counts[chunk]);
    this.#counts[chunk] = counts;
    this.#numbers[chunk] = new Int32Array(counts.buffer);
  }

  giveBack(block: number): void {
    this.#free.push(block);
  }

  add(block: number, at: number, weight: number): void {
    this.chunkOf(block)[offsetOf(block) + at]! += weight;
  }

  /** The counts of the block begin at `offsetOf` it. */
  chunkOf(block: number): Float64Array {
    return this.#counts[block >> CHUNK_BITS]!;
  }

  countsOf(block: number): Float64Array {
    return this.chunkOf(block).subarray(offsetOf(block), offsetOf(block) + BIN_STEP);
  }

  entry(block: number, at: number): number {
    return this.#numbers[block >> CHUNK_BITS]![(block % CHUNK_BLOCKS) * MAX_BLOCKS + at]!;
  }

  setEntry(block: number, at: number, number: number): void {
    this.#numbers[block >> CHUNK_BITS]![(block % CHUNK_BLOCKS) * MAX_BLOCKS + at] = number;
  }
}
