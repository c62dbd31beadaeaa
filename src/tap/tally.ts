import type { MetricType } from '../aggregate/point.ts';
import type { ClosedWindow } from '../aggregate/window.ts';
import { dimensionOf, type Filters, matchesFilters } from './filters.ts';

/**
 * The most groups that are counted separately, and the most characters that their names and values may have. After
 * that, samples are counted by name and type alone.
 */
const MAX_GROUPS = 200_000;
const MAX_GROUP_CHARACTERS = 64_000_000;

export interface Group {
  readonly name: string;
  readonly type: MetricType;
  /** The values of the dimensions to count by: "" for an absent one, null if there were too many groups. */
  readonly values: readonly (string | null)[];
  count: number;
  sum: number;
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

  constructor(keys: readonly string[], filters: Filters) {
    this.#keys = keys;
    this.#filters = filters;
  }

  /** Whether groups were folded together. */
  get isFolded(): boolean {
    return this.#groups.size >= MAX_GROUPS || this.#characters >= MAX_GROUP_CHARACTERS;
  }

  add(window: ClosedWindow): void {
    for (let i = 0; i < window.size; i++) {
      const { series, count, sum } = window.point(i);
      if (!matchesFilters(this.#filters, series)) continue;
      const group = this.#groupOf(
        series.name,
        series.type,
        this.#keys.map((key) => dimensionOf(series, key)),
      );
      group.count += count;
      this.count += count;
      this.#addTo(group, sum);
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
    const keyOf = ({ name, type, values }: Group) => JSON.stringify([name, type, values]);
    return [...this.#groups.values()].sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
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
