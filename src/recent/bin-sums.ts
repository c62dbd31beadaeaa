import { middleOf } from '../aggregate/buckets.ts';
import { MAX_BINS, Ranks, type Sign } from '../aggregate/sketch.ts';

/** Bins of a sign are made room for in steps of so many. */
const STEP = 64;
/** The first bins of a sign, with the first value in the middle: few timers spread further. Of many timers, fewer. */
const FIRST_BINS = 768;
/** For all together. Beyond that, the bins of a timer become wider, as beyond MAX_BINS. */
const MAX_BYTES = 16 * 1024 * 1024;
/** What the first bins may take of it. */
const FIRST_SHARE = 0.5;
/** Bins that grow get so much room more, as one part of so many. */
const ROOM_SHARE = 4;
const BIN_BYTES = Float64Array.BYTES_PER_ELEMENT;
/** When there is no memory left, there is so much more than is needed. */
const GROWTH = 1.5;

/**
 * The sums of many sketches, bin by bin: simpler and faster than `Sketches`, whose values come one by one. All bins are
 * in one array, which is given back as soon as it is not needed (`release`): with one each, every question would leave
 * thousands to be collected.
 */
export class BinSums {
  readonly zeros: Float64Array;
  /** By sketch: how often the buckets of scale 6 were halved. */
  readonly halvings: Uint8Array;
  /**
   * By twice the sketch, plus 1 for negative values: the index of the first bin, how many there are, and their place in
   * `counts`. Whoever adds to them in place reads all of these again after each `add`.
   */
  readonly first: Int32Array;
  readonly lengths: Int32Array;
  readonly places: Int32Array;
  counts = new Float64Array();
  #used = 0;
  #left = MAX_BYTES;
  readonly #firstBins: number;

  constructor(sketches: number) {
    this.zeros = new Float64Array(sketches);
    this.halvings = new Uint8Array(sketches);
    this.first = new Int32Array(2 * sketches);
    this.lengths = new Int32Array(2 * sketches);
    this.places = new Int32Array(2 * sketches);
    const each = floorToStep((FIRST_SHARE * MAX_BYTES) / BIN_BYTES / Math.max(1, sketches));
    this.#firstBins = Math.max(STEP, Math.min(FIRST_BINS, each));
  }

  /** `index`: of a bucket that was halved as often as the sketch's, which `halvings` says. */
  add(bins: number, index: number, weight: number): void {
    const at = index - this.first[bins]!;
    if (at >= 0 && at < this.lengths[bins]!) this.counts[this.places[bins]! + at]! += weight;
    else this.#addOutside(bins, index, weight);
  }

  /** Gives back the memory at once. Memory that waits to be collected makes that happen within a few questions. */
  release(): void {
    this.counts = released(this.counts);
    this.lengths.fill(0);
  }

  /** Makes sure that the buckets of a sketch are no narrower than this. */
  widen(sketch: number, halvings: number): void {
    const more = halvings - this.halvings[sketch]!;
    if (more > 0) this.#halve(sketch, more);
  }

  /** See `Sketches`. */
  halvingsOf(sketch: number): number {
    return this.halvings[sketch]!;
  }

  /** Likewise. */
  eachBucket(sketch: number, take: (sign: Sign, bucket: number, weight: number) => void): void {
    for (const [sign, bins] of [[-1, 2 * sketch + 1] as const, [1, 2 * sketch] as const]) {
      if (sign > 0 && this.zeros[sketch]! > 0) take(0, 0, this.zeros[sketch]!);
      const [from, first] = [this.places[bins]!, this.first[bins]!];
      for (let i = 0; i < this.lengths[bins]!; i++) {
        const weight = this.counts[from + i]!;
        if (weight > 0) take(sign, first + i, weight);
      }
    }
  }

  weightOf(sketch: number): number {
    return this.#weightOf(2 * sketch + 1) + this.zeros[sketch]! + this.#weightOf(2 * sketch);
  }

  /** Writes the `QUANTILES` of what has this weight to `out`: see `Sketches`. */
  quantiles(sketch: number, weight: number, min: number, max: number, out: Float64Array): void {
    const ranks = RANKS;
    ranks.begin(weight, min, max, out, 0);
    this.#passBins(2 * sketch + 1, -1);
    if (ranks.isPassedBy(this.zeros[sketch]!)) ranks.write(0);
    this.#passBins(2 * sketch, 1);
    ranks.end();
  }

  /** `sign`: 1 to pass the bins in ascending order, or -1 in descending order, with negative values. */
  #passBins(bins: number, sign: 1 | -1): void {
    const { counts } = this;
    const [from, length, first] = [this.places[bins]!, this.lengths[bins]!, this.first[bins]!];
    const halvings = this.halvings[bins >> 1]!;
    for (let i = 0; i < length && !RANKS.areDone; i++) {
      const bin = sign > 0 ? i : length - 1 - i;
      const weight = counts[from + bin]!;
      if (weight > 0 && RANKS.isPassedBy(weight)) RANKS.write(sign * middleOf(first + bin, halvings));
    }
  }

  #weightOf(bins: number): number {
    const { counts } = this;
    const from = this.places[bins]!;
    const to = from + this.lengths[bins]!;
    let weight = 0;
    for (let i = from; i < to; i++) weight += counts[i]!;
    return weight;
  }

  #addOutside(bins: number, index: number, weight: number): void {
    const held = this.lengths[bins]!;
    if (held === 0) {
      // These are free: nobody knows where the values are before that.
      const length = this.#firstBins;
      this.#left -= BIN_BYTES * length;
      this.#arrange(bins, 0, floorToStep(index) - floorToStep(length / 2), length);
      this.add(bins, index, weight);
      return;
    }
    const first = this.first[bins]!;
    const lowest = Math.min(index, this.#lowestOf(bins));
    const highest = Math.max(index, this.#highestOf(bins));
    let halvings = 0;
    const spanned = () => floorToStep(highest >> halvings) + STEP - floorToStep(lowest >> halvings);
    while (spanned() > MAX_BINS) halvings++;
    if (BIN_BYTES * (spanned() - held) > this.#left) while (spanned() > Math.max(2 * STEP, held)) halvings++;
    const from = floorToStep(lowest >> halvings);
    // A share more than is needed, so that many steps are not as many copies.
    const room = Math.min(STEP * Math.floor(held / (STEP * ROOM_SHARE)), MAX_BINS - spanned());
    const isRoom = BIN_BYTES * (spanned() + room - held) <= this.#left;
    const length = Math.max(held, spanned() + (isRoom ? room : 0));
    this.#left -= BIN_BYTES * (length - held);
    this.#halve(bins >> 1, halvings);
    this.#arrange(bins, 0, index < first && halvings === 0 ? from + spanned() - length : from, length);
    this.add(bins, index >> halvings, weight);
  }

  #halve(sketch: number, halvings: number): void {
    if (halvings === 0) return;
    this.halvings[sketch]! += halvings;
    for (const bins of [2 * sketch, 2 * sketch + 1]) {
      const length = this.lengths[bins]!;
      if (length === 0) continue;
      this.#arrange(bins, halvings, floorToStep(this.#lowestOf(bins) >> halvings), length);
    }
  }

  /** Returns the index of the first bin that is not empty. There is one. */
  #lowestOf(bins: number): number {
    const [place, length] = [this.places[bins]!, this.lengths[bins]!];
    let at = 0;
    while (at < length && this.counts[place + at] === 0) at++;
    return this.first[bins]! + at;
  }

  #highestOf(bins: number): number {
    const place = this.places[bins]!;
    let at = this.lengths[bins]! - 1;
    while (at >= 0 && this.counts[place + at] === 0) at--;
    return this.first[bins]! + at;
  }

  /** Counts all anew, in bins that are halved, so many from `first` on. They all fit. */
  #arrange(bins: number, halvings: number, first: number, length: number): void {
    const place = this.#take(length);
    const { counts } = this;
    const [from, held, oldFirst] = [this.places[bins]!, this.lengths[bins]!, this.first[bins]!];
    for (let i = 0; i < held; i++)
      if (counts[from + i]! > 0) counts[place + ((oldFirst + i) >> halvings) - first]! += counts[from + i]!;
    this.places[bins] = place;
    this.lengths[bins] = length;
    this.first[bins] = first;
  }

  /** Returns the place of so many bins, all 0: no place is used twice. Those that there are may have others then. */
  #take(length: number): number {
    if (this.#used + length > this.counts.length) this.#makeRoom(length);
    const place = this.#used;
    this.#used += length;
    return place;
  }

  #makeRoom(more: number): void {
    const old = this.counts;
    const needed = this.lengths.reduce((sum, length) => sum + length, more);
    this.counts = new Float64Array(Math.ceil(GROWTH * needed));
    this.#used = 0;
    for (let bins = 0; bins < this.lengths.length; bins++) {
      const [from, length] = [this.places[bins]!, this.lengths[bins]!];
      this.counts.set(old.subarray(from, from + length), this.#used);
      this.places[bins] = this.#used;
      this.#used += length;
    }
    released(old);
  }
}

const RANKS = new Ranks();

function released({ buffer }: Float64Array<ArrayBuffer>): Float64Array<ArrayBuffer> {
  return new Float64Array(buffer.transfer(0));
}

function floorToStep(index: number): number {
  return index & -STEP;
}
