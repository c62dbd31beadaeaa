/**
 * What a series costs in a window without its text, by type: its row, its share of the tables, and the first bins of a
 * timer's sketch. In bytes. It is more than they take by now. But which series fit is agreed among instances, and
 * computed again in replays, so it stays.
 */
const SERIES_BYTES = [200, 232, 800] as const;

/** The text is kept twice, in the record and as messages spell it: both times in part, if others are like it. */
const TEXT_COPIES = 2;

/** Overflow series may cost this share of the budget in addition. */
const OVERFLOW_SHARE = 1 / 8;

/** Returns what a series costs. `textBytes`: of its name and its dimensions as JSON, in UTF-8. */
export function seriesCost(type: number, textBytes: number): number {
  return SERIES_BYTES[type]! + TEXT_COPIES * textBytes;
}

/**
 * The memory that the series of a window may still take, in bytes. Everything is charged in stream order, and nothing
 * is given back, so what fits depends on the window's samples alone (I3).
 */
export class WindowBudget {
  readonly #counts: { coarse: number };
  /** Infinity for no limit. */
  readonly total: number;
  #left: number;
  #overflowLeft: number;

  /** `counts.coarse`: how often `grow` refused. */
  constructor(total: number, counts: { coarse: number }) {
    this.#counts = counts;
    this.total = total;
    this.#left = total;
    this.#overflowLeft = Math.floor(total * OVERFLOW_SHARE);
  }

  /** What was charged, without overflow series; 0 if there is no limit. */
  get used(): number {
    return Number.isFinite(this.total) ? this.total - this.#left : 0;
  }

  /** Charges an ordinary series. Returns false, and charges nothing, if it does not fit. */
  admit(cost: number): boolean {
    if (cost > this.#left) return false;
    this.#left -= cost;
    return true;
  }

  /** Charges an overflow series. */
  admitOverflow(cost: number): boolean {
    if (cost > this.#overflowLeft) return false;
    this.#overflowLeft -= cost;
    return true;
  }

  /** Charges what a sketch wants to grow by. If it does not fit, the sample is counted as coarse. */
  grow(bytes: number): boolean {
    if (this.admit(bytes)) return true;
    this.#counts.coarse++;
    return false;
  }
}
