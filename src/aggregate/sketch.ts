/**
 * Sketches: quantiles with a bounded relative error, which can be merged. C. Masson, J. E. Rim, H. K. Lee, "DDSketch: A
 * fast and fully-mergeable quantile sketch with relative-error guarantees", PVLDB 12(12), 2019.
 *
 * Values are counted in bins, each of which is a bucket of an exponential histogram (`buckets.ts`). A quantile is the
 * middle of the bin that it is in. Negative values have bins of their own, by magnitude. Zeros are counted separately.
 *
 * Windows of epochs without a `sketchScale` have the bins of the paper instead, as earlier versions computed them: bin
 * i = ceil(log_gamma(x)) holds (gamma^(i-1), gamma^i], and its middle is within OLD_ERROR of every value in it.
 */

import { BIN_STEP, Blocks, MAX_BLOCKS, offsetOf, STEP_BITS } from './bin-blocks.ts';
import { bucketOf, middleOf, relativeErrorAt, SKETCH_SCALE, ZERO_THRESHOLD } from './buckets.ts';
import { longer, sharedCopy } from './typed-arrays.ts';

/** Relative error of a quantile, as long as no bins had to be halved: 0.0054. */
export const RELATIVE_ERROR = relativeErrorAt(SKETCH_SCALE);

const OLD_ERROR = 0.01;
const OLD_GAMMA = (1 + OLD_ERROR) / (1 - OLD_ERROR);
const LOG_OLD_GAMMA = Math.log(OLD_GAMMA);

/** Bins per sign. They span a range of 1 to 3e9 at scale 6, and twice as many powers of two at each scale below. */
export const MAX_BINS = MAX_BLOCKS * BIN_STEP;

/** Asks for this many bytes more, for bins. If the answer is false, the sketch must do with the bins it has. */
export interface Growth {
  grow(bytes: number): boolean;
}

const UNLIMITED: Growth = { grow: () => true };
const NONE: Growth = { grow: () => false };
const BLOCK_BYTES = BIN_STEP * 8;

/** The quantiles that a timer's point carries, in the order of its fields. */
export const QUANTILES = [0.5, 0.9, 0.95, 0.99] as const;

/** By sign, see `Sketches`: where its bins are. */
const POSITIVE = 0;
const NEGATIVE = 1;

/** Of the values of a bucket: -1, 0 or 1. */
export type Sign = -1 | 0 | 1;

/** The memory of many sketches, which threads share. */
export interface SketchColumns {
  readonly zeros: Float64Array;
  readonly halvings: Uint8Array;
  readonly first: Int32Array;
  readonly blocks: Uint8Array;
  readonly block: Int32Array;
  readonly chunks: readonly Float64Array[];
}

/**
 * Many sketches, by number. Their bins are in blocks of few large arrays: as an object with an array of its own, a
 * sketch of a few values takes almost three times as much.
 *
 * Counts are dense from the lowest bin to the highest. If they would span more than MAX_BINS, or must not grow, two
 * neighbors each become one bin, of both signs: the scale is one less, and the error about twice as much. In windows of
 * earlier versions, the lowest collapse into one instead: only the smallest magnitudes lose accuracy.
 */
export class Sketches {
  readonly #isOld: boolean;
  #size = 0;
  #zeros: Float64Array = new Float64Array(1);
  /** By sketch: how often its bins were halved. */
  #halvings: Uint8Array = new Uint8Array(1);
  /** By twice the sketch plus the sign: the index that the first bin counts, the number of blocks, and the block. */
  #first: Int32Array = new Int32Array(2);
  #blocks: Uint8Array = new Uint8Array(2);
  /** If there are several blocks: a block with their numbers. */
  #block: Int32Array = new Int32Array(2);
  readonly #memory: Blocks;

  /**
   * `scale`: that of the window's epoch, if it has one. `isShared`: whether other threads may have them (`columns`).
   * `columns`: those of another thread, to be read only.
   */
  constructor(scale: number | undefined, isShared = false, columns?: SketchColumns) {
    this.#isOld = scale === undefined;
    this.#memory = new Blocks(isShared, columns?.chunks);
    if (columns === undefined) return;
    this.#size = columns.zeros.length;
    this.#zeros = columns.zeros;
    this.#halvings = columns.halvings;
    this.#first = columns.first;
    this.#blocks = columns.blocks;
    this.#block = columns.block;
  }

  /** Returns them for other threads. They must not change any longer. */
  columns(): SketchColumns {
    const size = this.#size;
    return {
      zeros: sharedCopy(this.#zeros.subarray(0, size)),
      halvings: sharedCopy(this.#halvings.subarray(0, size)),
      first: sharedCopy(this.#first.subarray(0, 2 * size)),
      blocks: sharedCopy(this.#blocks.subarray(0, 2 * size)),
      block: sharedCopy(this.#block.subarray(0, 2 * size)),
      chunks: this.#memory.chunks,
    };
  }

  /** Returns for how many bins a sketch has room. */
  binsOf(sketch: number): number {
    return BIN_STEP * (this.#blocks[2 * sketch]! + this.#blocks[2 * sketch + 1]!);
  }

  /** Whether the bins are those of windows of earlier versions. */
  get isOld(): boolean {
    return this.#isOld;
  }

  get size(): number {
    return this.#size;
  }

  /** The memory of the arrays. */
  get bytes(): number {
    const arrays = [this.#zeros, this.#halvings, this.#first, this.#blocks, this.#block];
    return arrays.reduce((sum, { byteLength }) => sum + byteLength, this.#memory.bytes);
  }

  /** Returns the number of a new sketch. */
  begin(): number {
    const sketch = this.#size++;
    if (sketch === this.#zeros.length) {
      this.#zeros = longer(this.#zeros, new Float64Array(2 * sketch));
      this.#halvings = longer(this.#halvings, new Uint8Array(2 * sketch));
      this.#first = longer(this.#first, new Int32Array(4 * sketch));
      this.#blocks = longer(this.#blocks, new Uint8Array(4 * sketch));
      this.#block = longer(this.#block, new Int32Array(4 * sketch));
    }
    return sketch;
  }

  /** Counts the value `weight` times. The first bins of each sign are free; `growth` is asked for all others. */
  add(sketch: number, value: number, weight: number, growth: Growth): void {
    if (this.#isOld) {
      this.#addOld(sketch, value, weight, growth);
      return;
    }
    const magnitude = Math.abs(value);
    if (!(magnitude > ZERO_THRESHOLD)) {
      this.#zeros[sketch]! += weight;
      return;
    }
    const bins = 2 * sketch + (value > 0 ? POSITIVE : NEGATIVE);
    this.#count(bins, bucketOf(magnitude) >> this.#halvings[sketch]!, weight, growth);
  }

  /**
   * Adds as many values of a bucket as `eachBucket` of other sketches names it: so sketches are merged. `growth`: see
   * `add`.
   */
  addBucket(
    sketch: number,
    sign: Sign,
    bucket: number,
    halvings: number,
    weight: number,
    growth: Growth = UNLIMITED,
  ): void {
    if (sign === 0) {
      this.#zeros[sketch]! += weight;
      return;
    }
    const more = halvings - this.#halvings[sketch]!;
    if (more > 0) this.#halve(sketch, more);
    const bins = 2 * sketch + (sign > 0 ? POSITIVE : NEGATIVE);
    this.#count(bins, more > 0 ? bucket : bucket >> -more, weight, growth);
  }

  /** Returns how often the buckets of scale 6 were halved. */
  halvingsOf(sketch: number): number {
    return this.#halvings[sketch]!;
  }

  /**
   * Passes every bucket that is not empty: negative values, zeros (sign 0), positive values; by ascending number each.
   * Those of old windows are about what they were: the error is then that of both.
   */
  eachBucket(sketch: number, take: (sign: Sign, bucket: number, weight: number) => void): void {
    this.#eachOf(2 * sketch + NEGATIVE, (bucket, weight) => take(-1, bucket, weight));
    if (this.#zeros[sketch]! > 0) take(0, 0, this.#zeros[sketch]!);
    this.#eachOf(2 * sketch + POSITIVE, (bucket, weight) => take(1, bucket, weight));
  }

  #eachOf(bins: number, take: (bucket: number, weight: number) => void): void {
    for (let number = 0; number < this.#blocks[bins]!; number++) {
      const block = this.#blockAt(bins, number);
      const counts = this.#memory.chunkOf(block);
      const from = offsetOf(block);
      const first = this.#first[bins]! + BIN_STEP * number;
      for (let i = 0; i < BIN_STEP; i++) {
        const count = counts[from + i]!;
        if (count > 0) take(this.#isOld ? bucketOf(oldMiddleOf(first + i)) : first + i, count);
      }
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
    const halvings = this.#halvings[bins >> 1]!;
    for (let i = 0; i < blocks && !ranks.areDone; i++) {
      const number = sign > 0 ? i : blocks - 1 - i;
      const block = this.#blockAt(bins, number);
      const counts = memory.chunkOf(block);
      const from = offsetOf(block);
      for (let j = 0; j < BIN_STEP; j++) {
        const bin = sign > 0 ? j : BIN_STEP - 1 - j;
        const passed = counts[from + bin]!;
        if (passed === 0 || !ranks.isPassedBy(passed)) continue;
        const index = first + BIN_STEP * number + bin;
        ranks.write(sign * (this.#isOld ? oldMiddleOf(index) : middleOf(index, halvings)));
      }
    }
  }

  /** Returns the block with this number among those of `bins`. */
  #blockAt(bins: number, number: number): number {
    const block = this.#block[bins]!;
    return this.#blocks[bins] === 1 ? block : this.#memory.entry(block, number);
  }

  #count(bins: number, index: number, weight: number, growth: Growth): void {
    let at = index - this.#first[bins]!;
    if (at < 0 || at >= BIN_STEP * this.#blocks[bins]!) at = this.#makeRoom(bins, index, growth);
    this.#memory.add(this.#blockAt(bins, at >> STEP_BITS), at % BIN_STEP, weight);
  }

  /** Extends the range to hold `index`, and returns its place among the bins. */
  #makeRoom(bins: number, index: number, growth: Growth): number {
    const held = this.#blocks[bins]!;
    if (held === 0) return this.#begin(bins, index);
    const oldFirst = this.#first[bins]!;
    const low = oldFirst + BIN_STEP * Math.floor((index - oldFirst) / BIN_STEP);
    const first = Math.min(oldFirst, low);
    const blocks = (Math.max(oldFirst + BIN_STEP * held, low + BIN_STEP) - first) / BIN_STEP;
    const mayBeMore = blocks <= MAX_BLOCKS;
    if (!mayBeMore || !growth.grow((blocks - held) * BLOCK_BYTES))
      return this.#spare(bins, index, mayBeMore ? NONE : growth);
    this.#move(bins, first, blocks);
    return index - first;
  }

  #begin(bins: number, index: number): number {
    const first = floorToStep(index);
    this.#first[bins] = first;
    this.#blocks[bins] = 1;
    this.#block[bins] = this.#memory.take();
    return index - first;
  }

  /**
   * Makes room for `index` with bins that are wider, if need be: as little as possible, such that the result does not
   * depend on the order of the values, unless `growth` refuses.
   */
  #spare(bins: number, index: number, growth: Growth): number {
    const sketch = bins >> 1;
    const held = this.#blocks[bins]!;
    const [least, most] = this.#rangeOf(bins);
    const [lowest, highest] = [Math.min(least, index), Math.max(most, index)];
    let halvings = 0;
    const blocksNow = () =>
      (floorToStep(highest >> halvings) - floorToStep(lowest >> halvings)) / BIN_STEP + 1;
    while (blocksNow() > MAX_BLOCKS) halvings++;
    let blocks = Math.max(held, blocksNow());
    if (blocks > held && !growth.grow((blocks - held) * BLOCK_BYTES)) {
      blocks = held;
      while ((highest >> halvings) - (lowest >> halvings) >= BIN_STEP * held) halvings++;
    }
    const first = firstOf(lowest >> halvings, highest >> halvings, blocks);
    this.#arrange(bins, halvings, first, blocks);
    const others = bins ^ 1;
    if (halvings > 0 && this.#blocks[others]! > 0) this.#shrink(others, halvings);
    this.#halvings[sketch]! += halvings;
    return (index >> halvings) - first;
  }

  /** Halves the bins of both signs so many times. */
  #halve(sketch: number, halvings: number): void {
    for (const bins of [2 * sketch + POSITIVE, 2 * sketch + NEGATIVE])
      if (this.#blocks[bins]! > 0) this.#shrink(bins, halvings);
    this.#halvings[sketch]! += halvings;
  }

  #shrink(bins: number, halvings: number): void {
    const [least, most] = this.#rangeOf(bins);
    const blocks = this.#blocks[bins]!;
    this.#arrange(bins, halvings, firstOf(least >> halvings, most >> halvings, blocks), blocks);
  }

  /** Returns the lowest and the highest index that is counted. */
  #rangeOf(bins: number): readonly [lowest: number, highest: number] {
    const blocks = this.#blocks[bins]!;
    let [lowest, highest] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
    for (let number = 0; number < blocks; number++) {
      const counts = this.#memory.countsOf(this.#blockAt(bins, number));
      const from = this.#first[bins]! + BIN_STEP * number;
      const first = counts.findIndex((count) => count > 0);
      if (first < 0) continue;
      lowest = Math.min(lowest, from + first);
      highest = from + counts.findLastIndex((count) => count > 0);
    }
    return [lowest, highest];
  }

  /** Counts all anew, in bins that are halved, from `first` on. They fit, and there are no fewer blocks than before. */
  #arrange(bins: number, halvings: number, first: number, blocks: number): void {
    const all = ARRANGED.subarray(0, BIN_STEP * blocks).fill(0);
    const old = this.#blocks[bins]!;
    for (let number = 0; number < old; number++) {
      const counts = this.#memory.countsOf(this.#blockAt(bins, number));
      const from = this.#first[bins]! + BIN_STEP * number;
      for (let i = 0; i < BIN_STEP; i++)
        if (counts[i]! > 0) all[((from + i) >> halvings) - first]! += counts[i]!;
    }
    if (blocks > old) this.#move(bins, this.#first[bins]!, blocks);
    this.#first[bins] = first;
    for (let number = 0; number < blocks; number++)
      this.#memory
        .countsOf(this.#blockAt(bins, number))
        .set(all.subarray(BIN_STEP * number, BIN_STEP * (number + 1)));
  }

  /** As earlier versions did: what an old window has must stay the same to the last bit. */
  #addOld(sketch: number, value: number, weight: number, growth: Growth): void {
    const bins = 2 * sketch + (value > 0 ? POSITIVE : NEGATIVE);
    // A sign without bins: the nearest one there is, is that of the zeros.
    if (value === 0 || (this.#blocks[bins] === 0 && !this.#mayBeginOld(sketch, growth))) {
      this.#zeros[sketch]! += weight;
      return;
    }
    const index = Math.ceil(Math.log(Math.abs(value)) / LOG_OLD_GAMMA);
    let at = index - this.#first[bins]!;
    if (at < 0 || at >= BIN_STEP * this.#blocks[bins]!) at = this.#makeRoomOld(bins, index, growth);
    this.#memory.add(this.#blockAt(bins, at >> STEP_BITS), at % BIN_STEP, weight);
  }

  #mayBeginOld(sketch: number, growth: Growth): boolean {
    const isFirst = this.#blocks[2 * sketch] === 0 && this.#blocks[2 * sketch + 1] === 0;
    return isFirst || growth.grow(BLOCK_BYTES);
  }

  #makeRoomOld(bins: number, index: number, growth: Growth): number {
    const low = floorToStep(index);
    const length = BIN_STEP * this.#blocks[bins]!;
    if (length === 0) return this.#begin(bins, index);
    const oldFirst = this.#first[bins]!;
    const end = Math.max(oldFirst + length, low + BIN_STEP);
    let first = Math.max(Math.min(oldFirst, low), end - MAX_BINS);
    const more = end - first - length;
    if (more > 0 && !growth.grow((more / BIN_STEP) * BLOCK_BYTES)) first = end - length;
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
export class Ranks {
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

/** The blocks of the bins that are being moved, and the counts of those that are being arranged. */
const MOVED = new Int32Array(MAX_BLOCKS);
const ARRANGED = new Float64Array(MAX_BINS);

/** A single sketch. */
export class Sketch {
  readonly #sketches = new Sketches(SKETCH_SCALE);
  readonly #number = this.#sketches.begin();

  /** See `Sketches`. */
  add(value: number, weight = 1, growth = UNLIMITED): void {
    this.#sketches.add(this.#number, value, weight, growth);
  }

  /** See `Sketches`. */
  quantiles(count: number, min: number, max: number, out: Float64Array, at: number): Float64Array {
    return this.#sketches.quantiles(this.#number, count, min, max, out, at);
  }
}

/** As earlier versions wrote it, because another order of the same operations rounds otherwise. */
function oldMiddleOf(index: number): number {
  return OLD_GAMMA ** index * (2 / (OLD_GAMMA + 1));
}

/** Returns where blocks begin that hold both: at a multiple of their size, if they then hold them. */
function firstOf(lowest: number, highest: number, blocks: number): number {
  const floor = floorToStep(lowest);
  return highest < floor + BIN_STEP * blocks ? floor : lowest;
}

function floorToStep(index: number): number {
  return index & -BIN_STEP;
}
