import { SKETCH_SCALE } from '../aggregate/buckets.ts';
import type { MetricType, Point } from '../aggregate/point.ts';
import { QUANTILES, Sketches } from '../aggregate/sketch.ts';
import type { ClosedWindow } from '../aggregate/window.ts';
import { dimensionOf, type Filters, matchesFilters } from './filters.ts';

/**
 * The most groups that are counted separately, and the most characters that their names and values may have. After
 * that, samples are counted by name and type alone.
 */
const MAX_GROUPS = 200_000;
const MAX_GROUP_CHARACTERS = 64_000_000;
/** Bins of merged sketches may take so many bytes. After that, bins become wider. */
const MAX_SKETCH_BYTES = 256_000_000;

export interface Group {
  readonly name: string;
  readonly type: MetricType;
  /** The values of the dimensions to count by: "" for an absent one, null if there were too many groups. */
  readonly values: readonly (string | null)[];
  count: number;
  sum: number;
  /** Of a timer, by QUANTILES; absent if they are not known. */
  percentiles?: readonly number[];
}

/** What is merged of the sketches of a timer's windows. */
interface Merged {
  readonly sketch: number;
  weight: number;
  min: number;
  max: number;
}

/** Counts and sums by name, type and dimensions, over the windows that every store must hold. */
export class Tally {
  count = 0;
  readonly #keys: readonly string[];
  readonly #filters: Filters;
  readonly #groups = new Map<string, Group>();
  #characters = 0;
  /**
   * What rounding took off each sum: adding many windows must not lose what each of them holds exactly (Neumaier 1974).
   */
  readonly #rest = new Map<Group, number>();
  readonly #sketches = new Sketches(SKETCH_SCALE);
  /** Of timers; null if a window has no sketch. */
  readonly #merged = new Map<Group, Merged | null>();
  #bytesLeft: number;
  /** Whether bins became wider for lack of room. */
  isCoarse = false;

  constructor(keys: readonly string[], filters: Filters, maxSketchBytes = MAX_SKETCH_BYTES) {
    this.#keys = keys;
    this.#filters = filters;
    this.#bytesLeft = maxSketchBytes;
  }

  /** Whether the percentiles of a timer are not known: an earlier version computed its windows. */
  get lacksPercentiles(): boolean {
    return [...this.#merged.values()].includes(null);
  }

  /** Whether groups were folded together. */
  get isFolded(): boolean {
    return this.#groups.size >= MAX_GROUPS || this.#characters >= MAX_GROUP_CHARACTERS;
  }

  add(window: ClosedWindow): void {
    for (let i = 0; i < window.size; i++) {
      const point = window.point(i);
      const { series, count, sum } = point;
      if (!matchesFilters(this.#filters, series)) continue;
      const group = this.#groupOf(
        series.name,
        series.type,
        this.#keys.map((key) => dimensionOf(series, key)),
      );
      group.count += count;
      this.count += count;
      this.#addTo(group, sum);
      if (series.type === 'timer') this.#merge(group, window, i, point);
    }
  }

  /** Returns the keys that no series counted has as a dimension; none if nothing was counted. */
  absentKeys(): string[] {
    if (this.#groups.size === 0) return [];
    const groups = [...this.#groups.values()];
    return this.#keys.filter((_, i) => groups.every(({ values }) => values[i] === ''));
  }

  /** Returns the groups, sorted by name, type and values. */
  groups(): Group[] {
    for (const [group, rest] of this.#rest) group.sum += rest;
    this.#rest.clear();
    for (const [group, merged] of this.#merged) {
      delete group.percentiles;
      if (merged === null) continue;
      const { sketch, weight, min, max } = merged;
      const out = new Float64Array(QUANTILES.length);
      group.percentiles = Array.from(this.#sketches.quantiles(sketch, weight, min, max, out, 0));
    }
    const keyOf = ({ name, type, values }: Group) => JSON.stringify([name, type, values]);
    return [...this.#groups.values()].sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
  }

  #merge(group: Group, window: ClosedWindow, index: number, { min, max }: Point): void {
    const known = this.#merged.get(group);
    if (known === null) return;
    const merged = known ?? { sketch: this.#sketches.begin(), weight: 0, min: min!, max: max! };
    const weight = window.addSketchTo(index, this.#sketches, merged.sketch, this);
    merged.weight += weight;
    merged.min = Math.min(merged.min, min!);
    merged.max = Math.max(merged.max, max!);
    this.#merged.set(group, weight > 0 ? merged : null);
  }

  /** For the bins of sketches. */
  grow(bytes: number): boolean {
    this.isCoarse ||= bytes > this.#bytesLeft;
    if (bytes > this.#bytesLeft) return false;
    this.#bytesLeft -= bytes;
    return true;
  }

  #addTo(group: Group, value: number): void {
    const sum = group.sum + value;
    if (Number.isFinite(sum)) {
      const lost = Math.abs(group.sum) >= Math.abs(value) ? group.sum - sum + value : value - sum + group.sum;
      this.#rest.set(group, (this.#rest.get(group) ?? 0) + lost);
    }
    group.sum = sum;
  }

  #groupOf(name: string, type: MetricType, values: readonly string[]): Group {
    const key = JSON.stringify([name, type, values]);
    const known = this.#groups.get(key);
    if (known !== undefined) return known;
    if (!this.isFolded) return this.#make(key, { name, type, values, count: 0, sum: 0 });
    const none = values.map(() => null);
    const folded = JSON.stringify([name, type, none]);
    return this.#groups.get(folded) ?? this.#make(folded, { name, type, values: none, count: 0, sum: 0 });
  }

  #make(key: string, group: Group): Group {
    this.#groups.set(key, group);
    this.#characters += key.length;
    return group;
  }
}
