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

/** Bins are allocated in multiples of this, because most timers spread little. */
const BIN_STEP = 32;

/** Asks for this many bytes more, for bins. If the answer is false, the sketch must do with the bins it has. */
export interface Growth {
  grow(bytes: number): boolean;
}

const UNLIMITED: Growth = { grow: () => true };
const BIN_BYTES = 8;

/** The quantiles that a timer's point carries, in the order of its fields. */
export const QUANTILES = [0.5, 0.9, 0.95, 0.99] as const;

export class Sketch {
  #positive: Bins | undefined;
  #negative: Bins | undefined;
  #zeros = 0;

  /** Counts the value `weight` times. The first bins are free; `growth` is asked for all others. */
  add(value: number, weight = 1, growth = UNLIMITED): void {
    if (value === 0) {
      this.#zeros += weight;
      return;
    }
    const isPositive = value > 0;
    const bins = (isPositive ? this.#positive : this.#negative) ?? this.#begin(isPositive, growth);
    // A sign without bins: the nearest one there is, is that of the zeros.
    if (bins === undefined) this.#zeros += weight;
    else bins.add(Math.ceil(Math.log(Math.abs(value)) / LOG_GAMMA), weight, growth);
  }

  /** Makes the bins of a sign; returns undefined if they are refused. */
  #begin(isPositive: boolean, growth: Growth): Bins | undefined {
    const isFirst = this.#positive === undefined && this.#negative === undefined;
    if (!isFirst && !growth.grow(BIN_STEP * BIN_BYTES)) return undefined;
    const bins = new Bins();
    if (isPositive) this.#positive = bins;
    else this.#negative = bins;
    return bins;
  }

  /**
   * Writes the `QUANTILES` of the added values to `out` at `at`, and returns `out`. All values are within [min, max];
   * `count` is the sum of their weights.
   */
  quantiles(count: number, min: number, max: number, out: Float64Array, at: number): Float64Array {
    let next = 0;
    let below = 0;
    /**
     * Passes the next `bin` values in ascending order, which `value` represents. Algorithm 2 of the paper, for all
     * ranks at once.
     */
    const pass = (bin: number, value: number): void => {
      below += bin;
      while (next < QUANTILES.length && below > QUANTILES[next]! * (count - 1)) {
        out[at + next] = Math.min(max, Math.max(min, value));
        next++;
      }
    };
    this.#negative?.descend((index, bin) => pass(bin, -representative(index)));
    pass(this.#zeros, 0);
    this.#positive?.ascend((index, bin) => pass(bin, representative(index)));
    return out;
  }
}

function representative(index: number): number {
  return GAMMA ** index * (2 / (GAMMA + 1));
}

/**
 * Counts by index, dense from the lowest to the highest. If they would span more than MAX_BINS, or must not grow, the
 * lowest collapse into one: only the smallest magnitudes lose accuracy.
 */
class Bins {
  #counts = new Float64Array(0);
  /** The index that `#counts[0]` counts. */
  #first = 0;

  add(index: number, weight: number, growth: Growth): void {
    let at = index - this.#first;
    if (at < 0 || at >= this.#counts.length) at = this.#makeRoom(index, growth);
    this.#counts[at]! += weight;
  }

  ascend(visit: (index: number, count: number) => void): void {
    for (let i = 0; i < this.#counts.length; i++) {
      if (this.#counts[i]! > 0) visit(this.#first + i, this.#counts[i]!);
    }
  }

  descend(visit: (index: number, count: number) => void): void {
    for (let i = this.#counts.length - 1; i >= 0; i--) {
      if (this.#counts[i]! > 0) visit(this.#first + i, this.#counts[i]!);
    }
  }

  /** Extends the range to hold `index`, and returns its place in `#counts`. */
  #makeRoom(index: number, growth: Growth): number {
    const old = this.#counts;
    const end = this.#first + old.length;
    const low = Math.floor(index / BIN_STEP) * BIN_STEP;
    const newEnd = old.length === 0 ? low + BIN_STEP : Math.max(end, low + BIN_STEP);
    const wanted = old.length === 0 ? low : Math.min(this.#first, low);
    let first = Math.max(wanted, newEnd - MAX_BINS);
    const more = newEnd - first - old.length;
    if (old.length > 0 && more > 0 && !growth.grow(more * BIN_BYTES)) first = newEnd - old.length;
    if (first !== this.#first || newEnd !== end) {
      this.#counts = new Float64Array(newEnd - first);
      for (let i = 0; i < old.length; i++) this.#counts[Math.max(0, this.#first + i - first)]! += old[i]!;
      this.#first = first;
    }
    return Math.max(0, index - first);
  }
}
