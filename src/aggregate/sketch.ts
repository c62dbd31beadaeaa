/**
 * DDSketch: quantiles with a bounded relative error. C. Masson, J. E. Rim, H. K. Lee, "DDSketch: A fast and
 * fully-mergeable quantile sketch with relative-error guarantees", PVLDB 12(12), 2019.
 *
 * A value x > 0 is counted in bin i = ceil(log_gamma(x)), which holds (gamma^(i-1), gamma^i]. The representative of the
 * bin, 2 gamma^i / (gamma + 1), is within ALPHA of every value in it. Negative values have bins of their own, by
 * magnitude. Zeros are counted separately.
 */

/** Relative error of a quantile. */
export const ALPHA = 0.01;

const GAMMA = (1 + ALPHA) / (1 - ALPHA);
const LOG_GAMMA = Math.log(GAMMA);

/**
 * Bins per sign, as in the paper. With ALPHA they span a range of 1 to 6e17, as from a nanosecond to 19 years. They
 * take at most 16 KiB.
 */
export const MAX_BINS = 2048;

/** Bins are allocated in blocks of this many, because most timers spread little. */
const BIN_STEP = 32;
const STEP_BITS = 5;
const MAX_BLOCKS = MAX_BINS / BIN_STEP;

/** Asks for this many bytes more, for bins. If the answer is false, the sketch must do with the bins it has. */
export interface Growth {
  grow(bytes: number): boolean;
}

const UNLIMITED: Growth = { grow: () => true };
const BIN_BYTES = 8;

/** The quantiles that a timer's point carries, in the order of its fields. */
export const QUANTILES = [0.5, 0.9, 0.95, 0.99] as const;

/** By sign, see `Sketches`: where its bins are. */
const POSITIVE = 0;
const NEGATIVE = 1;

/**
 * Many sketches, by number. Their bins are in blocks of few large arrays: as an object with an array of its own, a
 * sketch of a few values takes almost three times as much.
 *
 * Counts are dense from the lowest bin to the highest. If they would span more than MAX_BINS, or must not grow, the
 * lowest collapse into one: only the smallest magnitudes lose accuracy.
 */
export class Sketches {
  #size = 0;
  #zeros = new Float64Array(1);
  /** By twice the sketch plus the sign: the index that the first bin counts, the number of blocks, and the block. */
  #first = new Int32Array(2);
  #blocks = new Uint8Array(2);
  /** If there are several blocks: a block with their numbers. */
  #block = new Int32Array(2);
  readonly #memory = new Blocks();

  get size(): number {
    return this.#size;
  }

  /** The memory of the arrays. */
  get bytes(): number {
    const arrays = [this.#zeros, this.#first, this.#blocks, this.#block];
    return arrays.reduce((sum, { byteLength }) => sum + byteLength, this.#memory.bytes);
  }

  /** Returns the number of a new sketch. */
  begin(): number {
    const sketch = this.#size++;
    if (sketch === this.#zeros.length) {
      this.#zeros = longer(this.#zeros, new Float64Array(2 * sketch));
      this.#first = longer(this.#first, new Int32Array(4 * sketch));
      this.#blocks = longer(this.#blocks, new Uint8Array(4 * sketch));
      this.#block = longer(this.#block, new Int32Array(4 * sketch));
    }
    return sketch;
  }

  /** Counts the value `weight` times. The first bins are free; `growth` is asked for all others. */
  add(sketch: number, value: number, weight: number, growth: Growth): void {
    const index = value === 0 ? 0 : Math.ceil(Math.log(Math.abs(value)) / LOG_GAMMA);
    this.addBin(sketch, value > 0 ? 1 : value < 0 ? -1 : 0, index, weight, growth);
  }

  #mayBegin(sketch: number, growth: Growth): boolean {
    const isFirst = this.#blocks[2 * sketch] === 0 && this.#blocks[2 * sketch + 1] === 0;
    return isFirst || growth.grow(BIN_STEP * BIN_BYTES);
  }

  /** Counts as many values of a bin, as `eachBin` of other sketches names it: so sketches are merged. */
  addBin(sketch: number, sign: -1 | 0 | 1, index: number, weight: number, growth: Growth): void {
    const bins = 2 * sketch + (sign > 0 ? POSITIVE : NEGATIVE);
    // A sign without bins: the nearest one there is, is that of the zeros.
    if (sign === 0 || (this.#blocks[bins] === 0 && !this.#mayBegin(sketch, growth))) {
      this.#zeros[sketch]! += weight;
      return;
    }
    let at = index - this.#first[bins]!;
    if (at < 0 || at >= BIN_STEP * this.#blocks[bins]!) at = this.#makeRoom(bins, index, growth);
    this.#memory.add(this.#blockAt(bins, at >> STEP_BITS), at % BIN_STEP, weight);
  }

  /** Passes every bin that is not empty: negative values, zeros (sign 0), positive values; by ascending index each. */
  eachBin(sketch: number, take: (sign: -1 | 0 | 1, index: number, weight: number) => void): void {
    this.#eachOf(2 * sketch + NEGATIVE, (index, weight) => take(-1, index, weight));
    if (this.#zeros[sketch]! > 0) take(0, 0, this.#zeros[sketch]!);
    this.#eachOf(2 * sketch + POSITIVE, (index, weight) => take(1, index, weight));
  }

  #eachOf(bins: number, take: (index: number, weight: number) => void): void {
    for (let number = 0; number < this.#blocks[bins]!; number++) {
      const block = this.#blockAt(bins, number);
      const counts = this.#memory.chunkOf(block);
      const from = offsetOf(block);
      const first = this.#first[bins]! + BIN_STEP * number;
      for (let i = 0; i < BIN_STEP; i++) if (counts[from + i]! > 0) take(first + i, counts[from + i]!);
    }
  }

  /**
   * Writes the `QUANTILES` of the added values to `out` at `at`, and returns `out`. All values are within [min, max];
   * `count` is the sum of their weights. Algorithm 2 of the paper, for all ranks at once: bins pass in ascending order.
   */
  quantiles(
    sketch: number,
    count: number,
    min: number,
    max: number,
    out: Float64Array,
    at: number,
  ): Float64Array {
    const ranks = RANKS;
    ranks.begin(count, min, max, out, at);
    this.#passBins(2 * sketch + NEGATIVE, -1);
    if (ranks.isPassedBy(this.#zeros[sketch]!)) ranks.write(0);
    this.#passBins(2 * sketch + POSITIVE, 1);
    ranks.end();
    return out;
  }

  /** `sign`: 1 to pass the bins in ascending order, or -1 in descending order, with negative values. */
  #passBins(bins: number, sign: 1 | -1): void {
    const ranks = RANKS;
    const memory = this.#memory;
    const first = this.#first[bins]!;
    const blocks = this.#blocks[bins]!;
    for (let i = 0; i < blocks && !ranks.areDone; i++) {
      const number = sign > 0 ? i : blocks - 1 - i;
      const block = this.#blockAt(bins, number);
      const counts = memory.chunkOf(block);
      const from = offsetOf(block);
      for (let j = 0; j < BIN_STEP; j++) {
        const bin = sign > 0 ? j : BIN_STEP - 1 - j;
        const passed = counts[from + bin]!;
        if (passed > 0 && ranks.isPassedBy(passed))
          ranks.write(sign * representative(first + BIN_STEP * number + bin));
      }
    }
  }

  /** Returns the block with this number among those of `bins`. */
  #blockAt(bins: number, number: number): number {
    const block = this.#block[bins]!;
    return this.#blocks[bins] === 1 ? block : this.#memory.entry(block, number);
  }

  /** Extends the range to hold `index`, and returns its place among the bins. */
  #makeRoom(bins: number, index: number, growth: Growth): number {
    const low = Math.floor(index / BIN_STEP) * BIN_STEP;
    const length = BIN_STEP * this.#blocks[bins]!;
    if (length === 0) {
      this.#first[bins] = low;
      this.#blocks[bins] = 1;
      this.#block[bins] = this.#memory.take();
      return index - low;
    }
    const oldFirst = this.#first[bins]!;
    const end = Math.max(oldFirst + length, low + BIN_STEP);
    let first = Math.max(Math.min(oldFirst, low), end - MAX_BINS);
    const more = end - first - length;
    if (more > 0 && !growth.grow(more * BIN_BYTES)) first = end - length;
    if (first !== oldFirst || more > 0) this.#move(bins, first, (end - first) / BIN_STEP);
    return Math.max(0, index - first);
  }

  /** Gives the bins the range of `blocks` blocks from `first` on. What is below it collapses into its first bin. */
  #move(bins: number, first: number, blocks: number): void {
    const memory = this.#memory;
    const old = this.#blocks[bins]!;
    const dropped = (first - this.#first[bins]!) / BIN_STEP;
    let collapsed = 0;
    for (let i = 0; i < Math.min(dropped, old); i++) {
      const block = this.#blockAt(bins, i);
      for (const count of memory.countsOf(block)) collapsed += count;
      memory.giveBack(block);
    }
    for (let i = 0; i < blocks; i++) {
      const from = i + dropped;
      MOVED[i] = from >= 0 && from < old ? this.#blockAt(bins, from) : memory.take();
    }
    if (blocks > 1) {
      if (old === 1) this.#block[bins] = memory.take();
      for (let i = 0; i < blocks; i++) memory.setEntry(this.#block[bins]!, i, MOVED[i]!);
    } else {
      this.#block[bins] = MOVED[0]!;
    }
    this.#blocks[bins] = blocks;
    this.#first[bins] = first;
    const lowest = memory.countsOf(MOVED[0]!);
    lowest[0] = collapsed + lowest[0]!;
  }
}

const NOWHERE: Float64Array = new Float64Array();

/** The ranks of the `QUANTILES`, while the values of a sketch pass in ascending order. */
class Ranks {
  #next = 0;
  #rank = 0;
  #below = 0;
  #count = 0;
  #min = 0;
  #max = 0;
  #out: Float64Array = NOWHERE;
  #at = 0;

  begin(count: number, min: number, max: number, out: Float64Array, at: number): void {
    this.#next = 0;
    this.#rank = QUANTILES[0] * (count - 1);
    this.#below = 0;
    this.#count = count;
    this.#min = min;
    this.#max = max;
    this.#out = out;
    this.#at = at;
  }

  /** What it wrote to may be large, so it must not keep it. */
  end(): void {
    this.#out = NOWHERE;
  }

  get areDone(): boolean {
    return this.#next === QUANTILES.length;
  }

  /** Returns whether the value of a rank is among these next `count` values. */
  isPassedBy(count: number): boolean {
    this.#below += count;
    return this.#below > this.#rank;
  }

  /** Writes the value of the ranks that are passed. */
  write(value: number): void {
    const clamped = Math.min(this.#max, Math.max(this.#min, value));
    while (this.#below > this.#rank) {
      this.#out[this.#at + this.#next] = clamped;
      this.#next += 1;
      this.#rank = this.areDone ? Number.POSITIVE_INFINITY : QUANTILES[this.#next]! * (this.#count - 1);
    }
  }
}

const RANKS = new Ranks();

/** The blocks of the bins that are being moved. */
const MOVED = new Int32Array(MAX_BLOCKS);

/** A single sketch. */
export class Sketch {
  readonly #sketches = new Sketches();
  readonly #number = this.#sketches.begin();

  /** Counts the value `weight` times. The first bins are free; `growth` is asked for all others. */
  add(value: number, weight = 1, growth = UNLIMITED): void {
    this.#sketches.add(this.#number, value, weight, growth);
  }

  /** See `Sketches`. */
  quantiles(count: number, min: number, max: number, out: Float64Array, at: number): Float64Array {
    return this.#sketches.quantiles(this.#number, count, min, max, out, at);
  }
}

function representative(index: number): number {
  return GAMMA ** index * (2 / (GAMMA + 1));
}

function longer<A extends Float64Array | Int32Array | Uint8Array>(short: A, long: A): A {
  long.set(short);
  return long;
}

/** Blocks in a chunk: 256 KB, which goes back to the system as a whole. The first one begins small. */
const CHUNK_BITS = 10;
const CHUNK_BLOCKS = 1 << CHUNK_BITS;
const FIRST_CHUNK_BLOCKS = 2;

const offsetOf = (block: number) => (block % CHUNK_BLOCKS) * BIN_STEP;

/** Blocks of memory: each holds BIN_STEP counts, or the numbers of up to MAX_BLOCKS other blocks. */
class Blocks {
  #counts: Float64Array[] = [];
  /** The same memory. */
  #numbers: Int32Array[] = [];
  #used = 0;
  readonly #free: number[] = [];

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
    const counts = new Float64Array(blocks * BIN_STEP);
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
