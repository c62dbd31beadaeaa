/**
 * Chooses what the stores are asked about: a counter that is busy now, kept for as long as it appears. One that more of
 * the sinks get comes first, because a store can only be asked about what it was given.
 */
import type { Series } from '../aggregate/point.ts';
import { COUNTER } from '../aggregate/sample.ts';
import type { ClosedWindow } from '../aggregate/window.ts';
import type { Question } from '../sink/contract.ts';

/**
 * A name with more series is not asked about if there is another: a store that finds rows only by series cannot answer.
 */
const MAX_SERIES = 250;
/** Nor is a name whose series have more text, in characters: all of it goes along with each question. */
const MAX_SERIES_CHARACTERS = 1_000_000;
/** This many names with too many series are remembered; then all are forgotten at once. */
const MAX_EXCLUDED = 1_000;
const SUMS_MS = 5 * 60_000;
export const WINDOWS_MS = 60 * 60_000;
/** Used if no series of the name has a dimension. */
const ANY_DIMENSION = 'app';

interface Known {
  readonly series: Series;
  seenAt: number;
  samples: number;
}

export class Subject {
  #name: string | undefined;
  #seenAt = Number.NEGATIVE_INFINITY;
  readonly #series = new Map<string, Known>();
  #seriesCharacters = 0;
  /** Names with too many series. */
  readonly #excluded = new Set<string>();

  /** Proposes counters, the busiest first, before a window is scanned. `holders`: how many sinks get a name. */
  propose(names: readonly string[], windowStart: number, holders: (name: string) => number): void {
    const isStale = windowStart - this.#seenAt > SUMS_MS;
    const most = names.reduce((most, name) => Math.max(most, holders(name)), 0);
    const mostHeld = names.filter((name) => holders(name) === most);
    const name = mostHeld.find((each) => !this.#excluded.has(each)) ?? mostHeld[0];
    if (name === undefined) return;
    if (this.#name !== undefined && !isStale && holders(this.#name) >= most) return;
    this.#name = name;
    this.#seenAt = windowStart;
    this.#forget();
  }

  /** Looks at one point of a window. */
  look(window: ClosedWindow, index: number, name: string): void {
    if (name !== this.#name || window.typeOf(index) !== COUNTER) return;
    this.#seenAt = Math.max(this.#seenAt, window.start);
    const ref = window.refs[index]!;
    const id = window.records.idOf(ref);
    let known = this.#series.get(id);
    if (known === undefined) {
      const characters = window.textSizeOf(index);
      if (this.#series.size >= MAX_SERIES || this.#seriesCharacters + characters > MAX_SERIES_CHARACTERS) {
        if (!this.#excluded.has(name)) this.#exclude(name);
        return;
      }
      // Created only for these series: a window may have a million.
      known = { series: window.records.series(ref), seenAt: 0, samples: 0 };
      this.#series.set(id, known);
      this.#seriesCharacters += characters;
    }
    known.seenAt = Math.max(known.seenAt, window.start);
    known.samples += window.countOf(index);
  }

  /**
   * Returns the questions; undefined while there is nothing to ask about. `to`: the end of the last complete window.
   */
  questions(to: number): { readonly sums: Question; readonly windows: Question } | undefined {
    if (!Number.isFinite(to)) return undefined;
    for (const [id, { series, seenAt }] of this.#series) {
      if (seenAt >= to - WINDOWS_MS) continue;
      this.#series.delete(id);
      this.#seriesCharacters -= series.name.length + series.dimensionsJson.length;
    }
    const all = [...this.#series.values()];
    const name = this.#name;
    if (name === undefined || all.length === 0) return undefined;
    const busiest = all.reduce((most, one) => (one.samples > most.samples ? one : most));
    const series = all.map((known) => known.series);
    return {
      sums: {
        kind: 'sums',
        name,
        type: 'counter',
        dimension: widestDimension(series),
        series: this.#excluded.has(name) ? undefined : series,
        range: { from: to - SUMS_MS, to },
      },
      windows: { kind: 'windows', series: busiest.series, range: { from: to - WINDOWS_MS, to } },
    };
  }

  /** Drops the name. Before the next window another one is proposed, or this one again if there is no other. */
  #exclude(name: string): void {
    if (this.#excluded.size >= MAX_EXCLUDED) this.#excluded.clear();
    this.#excluded.add(name);
    this.#name = undefined;
    this.#forget();
  }

  #forget(): void {
    this.#series.clear();
    this.#seriesCharacters = 0;
  }
}

/** Returns the dimension with the most values. */
function widestDimension(all: readonly Series[]): string {
  const values = new Map<string, Set<string>>();
  for (const { dimensions } of all) {
    for (const [key, value] of dimensions) values.set(key, (values.get(key) ?? new Set()).add(value));
  }
  const widest = [...values].sort(([, a], [, b]) => b.size - a.size)[0];
  return widest?.[0] ?? ANY_DIMENSION;
}
