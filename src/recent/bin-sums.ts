import { SKETCH_SCALE } from '../aggregate/buckets.ts';
import { MAX_BINS, Sketches } from '../aggregate/sketch.ts';

/** Bins of a sign are made room for in steps of so many. */
const STEP = 64;
/** For all together. Beyond that, the bins of a timer become wider, as beyond MAX_BINS. */
const MAX_BYTES = 16 * 1024 * 1024;
/** Bins that grow get so much room more, as one part of so many. */
const ROOM_SHARE = 4;
const BIN_BYTES = Float64Array.BYTES_PER_ELEMENT;
const NO_BINS = new Float64Array();

/** The sums of many sketches, bin by bin: simpler and faster than `Sketches`, whose values come one by one. */
export class BinSums {
  readonly zeros: Float64Array;
  /** By sketch: how often the buckets of scale 6 were halved. */
  readonly halvings: Uint8Array;
  /**
   * By twice the sketch, plus 1 for negative values: the counts, and the index of the first of them. Whoever adds to
   * them in place reads them again after each `add`.
   */
  readonly counts: Float64Array[];
  readonly first: Int32Array;
  #left = MAX_BYTES;

  constructor(sketches: number) {
    this.zeros = new Float64Array(sketches);
    this.halvings = new Uint8Array(sketches);
    this.counts = Array.from({ length: 2 * sketches }, () => NO_BINS);
    this.first = new Int32Array(2 * sketches);
  }

  /** `index`: of a bucket that was halved as often as the sketch's, which `halvings` says. */
  add(bins: number, index: number, weight: number): void {
    const at = index - this.first[bins]!;
    const counts = this.counts[bins]!;
    if (at >= 0 && at < counts.length) counts[at]! += weight;
    else this.#addOutside(bins, index, weight);
  }

  /** Makes sure that the buckets of a sketch are no narrower than this. */
  widen(sketch: number, halvings: number): void {
    const more = halvings - this.halvings[sketch]!;
    if (more > 0) this.#halve(sketch, more);
  }

  /** Returns all as sketches with the same numbers. */
  sketches(): Sketches {
    const made = new Sketches(SKETCH_SCALE);
    for (let sketch = 0; sketch < this.zeros.length; sketch++) this.copyTo(made, sketch);
    return made;
  }

  /** Makes the next of the other sketches of this one. */
  copyTo(made: Sketches, sketch: number): void {
    const copy = made.begin();
    const halvings = this.halvings[sketch]!;
    if (this.zeros[sketch]! > 0) made.addBucket(copy, 0, 0, halvings, this.zeros[sketch]!);
    for (const sign of [1, -1] as const) {
      const bins = 2 * sketch + (sign > 0 ? 0 : 1);
      const first = this.first[bins]!;
      const counts = this.counts[bins]!;
      for (let i = 0; i < counts.length; i++)
        if (counts[i]! > 0) made.addBucket(copy, sign, first + i, halvings, counts[i]!);
    }
  }

  #addOutside(bins: number, index: number, weight: number): void {
    const old = this.counts[bins]!;
    if (old.length === 0) {
      // One step each is free: nobody knows where the values are before that.
      this.#left -= BIN_BYTES * STEP;
      this.#arrange(bins, 0, floorToStep(index), STEP);
      this.counts[bins]![index - this.first[bins]!]! += weight;
      return;
    }
    const first = this.first[bins]!;
    const lowest = Math.min(index, first + old.findIndex(Boolean));
    const highest = Math.max(index, first + old.findLastIndex(Boolean));
    let halvings = 0;
    const spanned = () => floorToStep(highest >> halvings) + STEP - floorToStep(lowest >> halvings);
    while (spanned() > MAX_BINS) halvings++;
    if (BIN_BYTES * (spanned() - old.length) > this.#left)
      while (spanned() > Math.max(2 * STEP, old.length)) halvings++;
    const from = floorToStep(lowest >> halvings);
    // A share more than is needed, so that many steps are not as many copies.
    const room = Math.min(STEP * Math.floor(old.length / (STEP * ROOM_SHARE)), MAX_BINS - spanned());
    const isRoom = BIN_BYTES * (spanned() + room - old.length) <= this.#left;
    const length = Math.max(old.length, spanned() + (isRoom ? room : 0));
    this.#left -= BIN_BYTES * (length - old.length);
    this.#halve(bins >> 1, halvings);
    this.#arrange(bins, 0, index < first && halvings === 0 ? from + spanned() - length : from, length);
    this.counts[bins]![(index >> halvings) - this.first[bins]!]! += weight;
  }

  #halve(sketch: number, halvings: number): void {
    if (halvings === 0) return;
    this.halvings[sketch]! += halvings;
    for (const bins of [2 * sketch, 2 * sketch + 1]) {
      const { length } = this.counts[bins]!;
      if (length === 0) continue;
      const lowest = this.first[bins]! + this.counts[bins]!.findIndex(Boolean);
      this.#arrange(bins, halvings, floorToStep(lowest >> halvings), length);
    }
  }

  /** Counts all anew, in bins that are halved, so many from `first` on. They all fit. */
  #arrange(bins: number, halvings: number, first: number, length: number): void {
    const [old, oldFirst] = [this.counts[bins]!, this.first[bins]!];
    const counts = new Float64Array(length);
    for (let i = 0; i < old.length; i++)
      if (old[i]! > 0) counts[((oldFirst + i) >> halvings) - first]! += old[i]!;
    this.counts[bins] = counts;
    this.first[bins] = first;
  }
}

function floorToStep(index: number): number {
  return index & -STEP;
}
