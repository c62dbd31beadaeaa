/**
 * How late the main thread's timers are, from a timer that runs anyway. Node.js's own measure wakes the process a
 * hundred times a second: half of what an idle service costs.
 */
import { createHistogram } from 'node:perf_hooks';

const NANOS_PER_MS = 1_000_000;
/** What is shown: from a microsecond to an hour. Without bounds, the histogram takes 730 KB. */
const LOWEST_NANOS = 1_000;
const HIGHEST_NANOS = 3_600_000 * NANOS_PER_MS;

/** Seconds, since they were last taken. */
export interface LagFigures {
  readonly min: number;
  readonly max: number;
  readonly mean: number;
  readonly stddev: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
}

export class LoopLag {
  readonly #histogram = createHistogram({ lowest: LOWEST_NANOS, highest: HIGHEST_NANOS });
  #before: number | undefined;

  /** The timer has run, at `now`, and should have done so `intervalMs` after the last time. */
  ran(now: number, intervalMs: number): void {
    const lateMs = now - (this.#before ?? now - intervalMs) - intervalMs;
    this.#before = now;
    // A histogram counts from 1 on.
    this.#histogram.record(Math.min(HIGHEST_NANOS, Math.max(1, Math.round(lateMs * NANOS_PER_MS))));
  }

  take(): LagFigures {
    const histogram = this.#histogram;
    const seconds = (nanos: number) => (histogram.count === 0 ? 0 : nanos / (NANOS_PER_MS * 1_000));
    const figures = {
      min: seconds(histogram.min),
      max: seconds(histogram.max),
      mean: seconds(histogram.mean),
      stddev: seconds(histogram.stddev),
      p50: seconds(histogram.percentile(50)),
      p90: seconds(histogram.percentile(90)),
      p99: seconds(histogram.percentile(99)),
    };
    histogram.reset();
    return figures;
  }
}
