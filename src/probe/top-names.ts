/**
 * Finds the names with the most samples, in bounded memory. Each name seen has a counter; when there are too many
 * counters, they are cut to half. The count of the first one cut is subtracted from all, so a count is too low by at
 * most the share 1/CAPACITY of all samples (Agarwal et al., "Mergeable Summaries", PODS 2012). Older windows count less
 * and less.
 */
import { METRIC_TYPES, type MetricType } from '../aggregate/point.ts';

/** How many names are always kept. Up to twice as many are held for a while. */
const CAPACITY = 256;
/** Over this much stream time, what was counted loses half its weight. */
const HALF_LIFE_MS = 60_000;

export interface TopName {
  readonly name: string;
  readonly type: MetricType;
  readonly samplesPerSecond: number;
  /** Share of all samples, from 0 to 1. */
  readonly share: number;
}

export class TopNames {
  /** Counts by name, one map per type. */
  readonly #counts = METRIC_TYPES.map(() => new Map<string, number>());
  #total = 0;
  /** The stream time that the counts cover, weighted like the counts. */
  #seconds = 0;

  /** Called before a window's samples are counted. */
  begin(windowMs: number): void {
    const factor = 0.5 ** (windowMs / HALF_LIFE_MS);
    this.#total *= factor;
    this.#seconds = this.#seconds * factor + windowMs / 1000;
    for (const counts of this.#counts) {
      for (const [name, count] of counts) counts.set(name, count * factor);
    }
  }

  /** Counts samples of a name. `type` is an index into METRIC_TYPES. */
  count(type: number, name: string, samples: number): void {
    const counts = this.#counts[type]!;
    this.#total += samples;
    counts.set(name, (counts.get(name) ?? 0) + samples);
    if (counts.size > 2 * CAPACITY) cut(counts);
  }

  /** Returns the names with the most samples, the largest first. */
  top(limit: number): TopName[] {
    const all = this.#counts.flatMap((counts, type) =>
      Array.from(counts, ([name, count]) => ({
        name,
        type: METRIC_TYPES[type]!,
        samplesPerSecond: count / this.#seconds,
        share: count / this.#total,
      })),
    );
    return all.sort((a, b) => b.samplesPerSecond - a.samplesPerSecond).slice(0, limit);
  }
}

function cut(counts: Map<string, number>): void {
  const taken = [...counts.values()].sort((a, b) => b - a)[CAPACITY]!;
  for (const [name, count] of counts) {
    if (count > taken) counts.set(name, count - taken);
    else counts.delete(name);
  }
}
