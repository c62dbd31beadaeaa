import { MAX_BINS, Sketches } from '../aggregate/sketch.ts';

/** Bins of a sign are made room for in steps of so many. */
const STEP = 64;
/** For all together. Beyond that, the lowest values of a timer are counted together, as beyond MAX_BINS. */
const MAX_BYTES = 16 * 1024 * 1024;
const BIN_BYTES = Float64Array.BYTES_PER_ELEMENT;
const NO_BINS = new Float64Array();
const UNLIMITED = { grow: () => true };

/** The sums of many sketches, bin by bin: simpler and faster than `Sketches`, whose values come one by one. */
export class BinSums {
  readonly zeros: Float64Array;
  /** By twice the sketch, plus 1 for negative values: the counts, and the index of the first of them. */
  readonly #counts: Float64Array[];
  readonly #first: Int32Array;
  #left = MAX_BYTES;

  constructor(sketches: number) {
    this.zeros = new Float64Array(sketches);
    this.#counts = Array.from({ length: 2 * sketches }, () => NO_BINS);
    this.#first = new Int32Array(2 * sketches);
  }

  add(bins: number, index: number, weight: number): void {
    const at = index - this.#first[bins]!;
    const counts = this.#counts[bins]!;
    if (at >= 0 && at < counts.length) counts[at]! += weight;
    else this.#addOutside(bins, index, weight);
  }

  /** Returns all as sketches with the same numbers. */
  sketches(): Sketches {
    const made = new Sketches();
    for (let sketch = 0; sketch < this.zeros.length; sketch++) {
      made.begin();
      if (this.zeros[sketch]! > 0) made.addBin(sketch, 0, 0, this.zeros[sketch]!, UNLIMITED);
      for (const sign of [1, -1] as const) {
        const bins = 2 * sketch + (sign > 0 ? 0 : 1);
        const first = this.#first[bins]!;
        for (const [i, weight] of this.#counts[bins]!.entries())
          if (weight > 0) made.addBin(sketch, sign, first + i, weight, UNLIMITED);
      }
    }
    return made;
  }

  #addOutside(bins: number, index: number, weight: number): void {
    const old = this.#counts[bins]!;
    const oldFirst = this.#first[bins]!;
    const low = Math.floor(index / STEP) * STEP;
    const end = old.length === 0 ? low + STEP : Math.max(oldFirst + old.length, low + STEP);
    let first = Math.max(old.length === 0 ? low : Math.min(oldFirst, low), end - MAX_BINS);
    const more = BIN_BYTES * (end - first - old.length);
    // One step each is free: nobody knows where the values are before that.
    if (more > this.#left && old.length > 0) first = end - old.length;
    else this.#left -= more;
    const counts = new Float64Array(end - first);
    for (const [i, count] of old.entries()) counts[Math.max(0, oldFirst + i - first)]! += count;
    counts[Math.max(0, index - first)]! += weight;
    this.#counts[bins] = counts;
    this.#first[bins] = first;
  }
}
