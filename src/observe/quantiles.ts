import { QUANTILES, Sketch } from '../aggregate/sketch.ts';

export interface Quantiles {
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
}

/** Everything observed since a time. */
class Span {
  readonly since: number;
  readonly sketch = new Sketch();
  count = 0;
  min = Number.POSITIVE_INFINITY;
  max = Number.NEGATIVE_INFINITY;

  constructor(since: number) {
    this.since = since;
  }

  add(value: number): void {
    this.sketch.add(value);
    this.count += 1;
    this.min = Math.min(this.min, value);
    this.max = Math.max(this.max, value);
  }
}

/**
 * Quantiles of recent observations, with the relative error of the sketch. Two spans overlap by half. The older one
 * gives the answer; it covers at least half a period and at most a whole one.
 */
export class RecentQuantiles {
  readonly #periodMs: number;
  #old: Span;
  #young: Span;

  constructor(periodMs: number, now: number) {
    this.#periodMs = periodMs;
    this.#old = new Span(now);
    this.#young = new Span(now);
  }

  add(value: number, now: number): void {
    this.#turn(now);
    this.#old.add(value);
    this.#young.add(value);
  }

  /** Undefined if nothing was observed. */
  read(now: number): Quantiles | undefined {
    this.#turn(now);
    const { sketch, count, min, max } = this.#old;
    if (count === 0) return undefined;
    const [p50, p90, , p99] = sketch.quantiles(count, min, max, new Float64Array(QUANTILES.length), 0);
    return { p50: p50!, p90: p90!, p99: p99! };
  }

  #turn(now: number): void {
    const age = now - this.#young.since;
    if (age >= 0 && age < this.#periodMs / 2) return;
    // After a longer pause than the younger span may last, that span is out of date, too. The same holds if the clock
    // was set back.
    this.#old = age >= 0 && age < this.#periodMs ? this.#young : new Span(now);
    this.#young = new Span(now);
  }
}
