/**
 * The highest of recent values, at least 0. Two spans overlap by half. The older one gives the answer; it covers at
 * least half a period and at most a whole one.
 */
export class RecentHighest {
  readonly #periodMs: number;
  #since: number;
  #old = 0;
  #young = 0;

  constructor(periodMs: number, now: number) {
    this.#periodMs = periodMs;
    this.#since = now;
  }

  add(value: number, now: number): void {
    this.#turn(now);
    this.#old = Math.max(this.#old, value);
    this.#young = Math.max(this.#young, value);
  }

  read(now: number): number {
    this.#turn(now);
    return this.#old;
  }

  #turn(now: number): void {
    const age = now - this.#since;
    if (age >= 0 && age < this.#periodMs / 2) return;
    // After a longer pause, the younger span is out of date, too. The same holds if the clock was set back.
    this.#old = age >= 0 && age < this.#periodMs ? this.#young : 0;
    this.#young = 0;
    this.#since = now;
  }
}
