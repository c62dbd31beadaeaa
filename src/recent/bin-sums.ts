import { MAX_BINS, Sketches } from '../aggregate/sketch.ts';

/** Bins of a sign are made room for in steps of so many. */
const STEP = 64;
/** For all together. Beyond that, the lowest values of a timer are counted together, as beyond MAX_BINS. */
const MAX_BYTES = 16 * 1024 * 1024;
/** Bins that grow get so much room more, as one part of so many. */
const ROOM_SHARE = 4;
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
    for (let sketch = 0; sketch < this.zeros.length; sketch++) this.copyTo(made, sketch);
    return made;
  }

  /** Makes the next of the other sketches of this one. */
  copyTo(made: Sketches, sketch: number): void {
    const copy = made.begin();
    if (this.zeros[sketch]! > 0) made.addBin(copy, 0, 0, this.zeros[sketch]!, UNLIMITED);
    for (const sign of [1, -1] as const) {
      const bins = 2 * sketch + (sign > 0 ? 0 : 1);
      const first = this.#first[bins]!;
      const counts = this.#counts[bins]!;
      for (let i = 0; i < counts.length; i++)
        if (counts[i]! > 0) made.addBin(copy, sign, first + i, counts[i]!, UNLIMITED);
    }
  }

  #addOutside(bins: number, index: number, weight: number): void {
    const old = this.#counts[bins]!;
    const oldFirst = this.#first[bins]!;
    const [first, end] = this.#rangeFor(old, oldFirst, index);
    if (first !== oldFirst || end - first !== old.length) {
      const counts = new Float64Array(end - first);
      const dropped = Math.min(old.length, Math.max(0, first - oldFirst));
      const kept = old.subarray(dropped, Math.min(old.length, end - oldFirst));
      if (kept.length > 0) counts.set(kept, Math.max(0, oldFirst - first));
      for (let i = 0; i < dropped; i++) counts[0]! += old[i]!;
      this.#counts[bins] = counts;
      this.#first[bins] = first;
    }
    this.#counts[bins]![Math.max(0, index - first)]! += weight;
  }

  /** Returns what the bins are to reach from and to: the same as before if the value is below all that there may be. */
  #rangeFor(old: Float64Array, oldFirst: number, index: number): readonly [first: number, end: number] {
    const low = Math.floor(index / STEP) * STEP;
    // One step each is free: nobody knows where the values are before that.
    if (old.length === 0) {
      this.#left -= BIN_BYTES * STEP;
      return [low, low + STEP];
    }
    const oldEnd = oldFirst + old.length;
    // A share more than is needed, so that many steps are not as many copies.
    const room = STEP * Math.floor(old.length / (STEP * ROOM_SHARE));
    let [first, end] = [oldFirst, oldEnd];
    if (index < oldFirst) {
      // Only room that is not used makes way for low values.
      if (oldEnd - low > MAX_BINS) end = oldFirst + STEP * Math.ceil((old.findLastIndex(Boolean) + 1) / STEP);
      first = Math.max(low - room, end - MAX_BINS);
    } else {
      end = Math.max(low + STEP, Math.min(low + STEP + room, oldFirst + MAX_BINS));
      first = Math.max(oldFirst, end - MAX_BINS);
    }
    const more = BIN_BYTES * (end - first - old.length);
    if (more > this.#left)
      return index < oldFirst ? [oldFirst, oldEnd] : [low + STEP - old.length, low + STEP];
    this.#left -= more;
    return [first, end];
  }
}
