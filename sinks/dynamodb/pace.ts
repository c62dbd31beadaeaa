/**
 * The pace of the writes: what the table takes, so that the burst of a window is spread out instead of being throttled.
 * The rate grows step by step and falls by a factor (Chiu and Jain, "Analysis of the Increase and Decrease Algorithms",
 * 1989). Pure: the caller passes the time, in milliseconds of any steady clock.
 */

/** What a new table that is billed on demand takes, in write units a second (DynamoDB's developer guide). */
const NEW_TABLE_UNITS = 4_000;
/** In units a second. All that a lane may have under way waits for some seconds at most, within a write's timeout. */
const MIN_UNITS = 100;
/** Milliseconds of the rate that may go at once after a pause. */
const BURST_MS = 100;
/** The share of the first rate by which a second of writing at the pace raises it. */
const INCREASE = 0.1;
const DECREASE = 0.7;
/** All writes that are under way meet the same limit, so they lower the rate once. */
const DECREASE_EVERY_MS = 1_000;

export class Pace {
  readonly #firstUnits: number;
  #units: number;
  /** When the next write may begin. */
  #next = Number.NEGATIVE_INFINITY;
  #lowered = Number.NEGATIVE_INFINITY;

  /** `units`: what the table takes, in write units a second; undefined if it does not say. */
  constructor(units = NEW_TABLE_UNITS) {
    this.#firstUnits = Math.max(units, MIN_UNITS);
    this.#units = this.#firstUnits;
  }

  /** Write units a second. */
  get unitsPerSecond(): number {
    return this.#units;
  }

  /** Returns after how many milliseconds a write of so many units may begin. Its place is taken. */
  take(units: number, now: number): number {
    const start = Math.max(this.#next, now - BURST_MS);
    this.#next = start + (units / this.#units) * 1000;
    return Math.max(0, start - now);
  }

  /** A write of so many units does not begin. Otherwise, writes that give up would leave a queue of nobody. */
  giveBack(units: number): void {
    this.#next -= (units / this.#units) * 1000;
  }

  /** The table took a write of so many units that had to wait for the pace. */
  raise(units: number): void {
    this.#units += INCREASE * this.#firstUnits * (units / this.#units);
  }

  /** The table was too busy for a write, or for a part of it. */
  lower(now: number): void {
    if (now - this.#lowered < DECREASE_EVERY_MS) return;
    this.#lowered = now;
    this.#units = Math.max(MIN_UNITS, this.#units * DECREASE);
  }
}
