const TICK_MS = 1000;

/** How fast a counter grows: the mean over a period that ends with the last tick. */
export class Rate {
  readonly #periodMs: number;
  /** The latest ticks, a ring; one more than there are steps between them. */
  readonly #times: Float64Array;
  readonly #values: Float64Array;
  #ticks = 0;

  constructor(periodMs: number) {
    this.#periodMs = periodMs;
    const length = Math.ceil(periodMs / TICK_MS) + 1;
    this.#times = new Float64Array(length);
    this.#values = new Float64Array(length);
  }

  /** Once a second. A counter that went back has begun anew. */
  tick(value: number, now: number): void {
    const length = this.#times.length;
    if (this.#ticks > 0 && value < this.#values[(this.#ticks - 1) % length]!) this.#ticks = 0;
    this.#times[this.#ticks % length] = now;
    this.#values[this.#ticks % length] = value;
    this.#ticks += 1;
  }

  /** Over the period, or over what there was of it so far; 0 before the second tick. */
  get perSecond(): number {
    const length = this.#times.length;
    const last = this.#ticks - 1;
    const oldest = Math.max(0, this.#ticks - length);
    let first = oldest;
    // Ticks may come late: what is older than the period does not count.
    while (first < last - 1 && this.#time(last) - this.#time(first) > this.#periodMs + TICK_MS) first += 1;
    const seconds = last > first ? (this.#time(last) - this.#time(first)) / 1000 : 0;
    return seconds > 0 ? (this.#values[last % length]! - this.#values[first % length]!) / seconds : 0;
  }

  #time(tick: number): number {
    return this.#times[tick % this.#times.length]!;
  }
}
