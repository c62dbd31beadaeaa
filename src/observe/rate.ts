const TICK_MS = 1000;

/** The growth rate of a counter: the mean over a period that ends with the last tick. */
export class Rate {
  readonly #periodMs: number;
  /** A ring of the latest ticks: one more than the steps between them. */
  readonly #times: Float64Array;
  readonly #values: Float64Array;
  #ticks = 0;

  constructor(periodMs: number) {
    this.#periodMs = periodMs;
    const length = Math.ceil(periodMs / TICK_MS) + 1;
    this.#times = new Float64Array(length);
    this.#values = new Float64Array(length);
  }

  /** To be called once a second. A counter that decreased has started again. */
  tick(value: number, now: number): void {
    const length = this.#times.length;
    if (this.#ticks > 0 && value < this.#values[(this.#ticks - 1) % length]!) this.#ticks = 0;
    this.#times[this.#ticks % length] = now;
    this.#values[this.#ticks % length] = value;
    this.#ticks += 1;
  }

  /** The rate over the period, or over the part of it that has passed; 0 before the second tick. */
  get perSecond(): number {
    const length = this.#times.length;
    const last = this.#ticks - 1;
    const oldest = Math.max(0, this.#ticks - length);
    let first = oldest;
    // Ticks may come late, so the ring may reach back further than the period. Older ticks do not count.
    while (first < last - 1 && this.#time(last) - this.#time(first) > this.#periodMs + TICK_MS) first += 1;
    const seconds = last > first ? (this.#time(last) - this.#time(first)) / 1000 : 0;
    return seconds > 0 ? (this.#values[last % length]! - this.#values[first % length]!) / seconds : 0;
  }

  #time(tick: number): number {
    return this.#times[tick % this.#times.length]!;
  }
}
