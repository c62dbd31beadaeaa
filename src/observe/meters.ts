/**
 * Measurements over time: rates and latencies. The counters themselves are elsewhere, and are read once a second. All
 * times are of the steady clock, so that a clock that is set back stops no rate.
 */
import { METRIC_TYPES } from '../aggregate/point.ts';
import { total } from '../base/number-format.ts';
import { type Quantiles, RecentQuantiles } from './quantiles.ts';
import { Rate } from './rate.ts';
import { RecentHighest } from './recent-highest.ts';
import type { Counts, SampleStatus, SinkStatus, WindowStatus } from './status.ts';

const SOURCE_RATE_MS = 10_000;
/** Windows come in bursts: a rate over fewer windows would fluctuate. */
const WINDOWS_PER_RATE = 3;
const MIN_SINK_RATE_MS = 30_000;
const MAX_SINK_RATE_MS = 900_000;
const LATENCY_MS = 60_000;
/** As often as the charts take a value: each of them then covers all that was since the one before. */
const MIN_LATE_MS = 10_000;

/** What the rates are made of: little of a status, as it is looked at every second. */
export interface Reading {
  readonly received: number;
  readonly samples: Pick<SampleStatus, 'byType' | 'late' | 'ignored' | 'foreign' | 'reopened'>;
  readonly windows: Pick<WindowStatus, 'windowMs' | 'latenessMs'>;
  readonly sinks: readonly (Pick<SinkStatus, 'id' | 'written' | 'writtenBytes' | 'lagSeconds'> &
    Partial<Pick<SinkStatus, 'windowMs'>>)[];
}

export interface SourceRates {
  readonly messagesPerSecond: number;
  readonly samplesPerSecond: Counts;
  /** Share of the samples put into windows here, 0 to 1. */
  readonly lateShare: number;
}

export interface SinkRates {
  readonly overSeconds: number;
  readonly pointsPerSecond: number;
  readonly bytesPerSecond: number;
  /** Of the writes that the store took. */
  readonly writeSeconds: Quantiles | undefined;
  readonly failedWriteSeconds: Quantiles | undefined;
  /** See `SinkStatus`. */
  readonly lateSeconds: number;
}

interface SinkMeter {
  readonly points: Rate;
  readonly bytes: Rate;
  readonly writes: RecentQuantiles;
  readonly late: RecentHighest;
  /** Undefined before the first failure. */
  failures?: RecentQuantiles;
}

export class Meters {
  readonly #messages = new Rate(SOURCE_RATE_MS);
  readonly #samples = new Map(METRIC_TYPES.map((type) => [type as string, new Rate(SOURCE_RATE_MS)]));
  readonly #placed = new Rate(SOURCE_RATE_MS);
  readonly #late = new Rate(SOURCE_RATE_MS);
  readonly #sinks: ReadonlyMap<string, SinkMeter>;
  readonly #sinkRateMs: number;

  constructor(sinks: readonly string[], windowMs: number, now: number) {
    this.#sinkRateMs = Math.min(MAX_SINK_RATE_MS, Math.max(MIN_SINK_RATE_MS, WINDOWS_PER_RATE * windowMs));
    this.#sinks = new Map(
      sinks.map((id) => [
        id,
        {
          points: new Rate(this.#sinkRateMs),
          bytes: new Rate(this.#sinkRateMs),
          writes: new RecentQuantiles(LATENCY_MS, now),
          // A sink that keeps up is at its latest once per window.
          late: new RecentHighest(2 * Math.max(MIN_LATE_MS, windowMs), now),
        },
      ]),
    );
  }

  /** To be called once a second. */
  tick({ received, samples, sinks, windows }: Reading, now: number): void {
    this.#messages.tick(received, now);
    for (const [type, rate] of this.#samples) rate.tick(samples.byType[type] ?? 0, now);
    // Samples of other slices, and of windows already handed out, cannot be late here.
    const { ignored, foreign, reopened } = samples;
    this.#placed.tick(total(samples.byType) - ignored - foreign - reopened, now);
    this.#late.tick(samples.late, now);
    for (const { id, written, writtenBytes, lagSeconds, windowMs = windows.windowMs } of sinks) {
      const meter = this.#sinks.get(id);
      meter?.points.tick(written, now);
      meter?.bytes.tick(writtenBytes, now);
      if (lagSeconds !== null) meter?.late.add(lagSeconds - (windowMs + windows.latenessMs) / 1000, now);
    }
  }

  /** The store has a window, this much later than it was closed. */
  confirmed(sink: string, lateSeconds: number, now: number): void {
    this.#sinks.get(sink)?.late.add(lateSeconds, now);
  }

  /** `taken`: the store took the write. How long a refused connection takes says nothing about that. */
  wrote(sink: string, seconds: number, taken: boolean, now: number): void {
    const meter = this.#sinks.get(sink);
    if (meter === undefined) return;
    if (taken) {
      meter.writes.add(seconds, now);
      return;
    }
    meter.failures ??= new RecentQuantiles(LATENCY_MS, now);
    meter.failures.add(seconds, now);
  }

  source(): SourceRates {
    const samplesPerSecond = Object.fromEntries(
      Array.from(this.#samples, ([type, rate]) => [type, rate.perSecond]),
    );
    const placed = this.#placed.perSecond;
    return {
      messagesPerSecond: this.#messages.perSecond,
      samplesPerSecond,
      lateShare: placed > 0 ? this.#late.perSecond / placed : 0,
    };
  }

  sink(id: string, now: number): SinkRates {
    const meter = this.#sinks.get(id);
    return {
      overSeconds: this.#sinkRateMs / 1000,
      pointsPerSecond: meter?.points.perSecond ?? 0,
      bytesPerSecond: meter?.bytes.perSecond ?? 0,
      writeSeconds: meter?.writes.read(now),
      failedWriteSeconds: meter?.failures?.read(now),
      lateSeconds: meter?.late.read(now) ?? 0,
    };
  }
}
