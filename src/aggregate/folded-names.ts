/** Which names were folded, and the dimension that most likely made them so many series. */
import type { MetricType } from './point.ts';
import type { SeriesTable } from './series-table.ts';

/** Of one window. Others are only counted, as all are. */
const MAX_NAMES = 20;
/** Series of each of them that are looked at. */
const MAX_LOOKS = 200;

export interface FoldedName {
  readonly name: string;
  readonly type: MetricType;
  /** Samples in its overflow series. */
  samples: number;
  /**
   * The dimension with the most values among the first series that were folded, and how many it has there; undefined if
   * these had no dimensions.
   */
  readonly key: string | undefined;
  readonly values: number;
  /** How many series were looked at for that. */
  readonly looked: number;
}

interface Fold {
  readonly name: string;
  readonly type: MetricType;
  samples: number;
  readonly looked: Set<number>;
  readonly values: Map<string, Set<string>>;
}

/** What is folded in a window. Says nothing about what becomes of it. */
export class FoldedNames {
  readonly #folds = new Map<number, Fold>();

  /** Notes a sample of a series that counts in another one, whose number the window holds. */
  add(series: number, overflow: number, table: SeriesTable): void {
    const fold = this.#folds.get(overflow) ?? this.#begin(series, overflow, table);
    if (fold === undefined) return;
    fold.samples += 1;
    if (fold.looked.size >= MAX_LOOKS || fold.looked.has(series)) return;
    fold.looked.add(series);
    for (const [key, value] of table.series(series).dimensions) {
      const values = fold.values.get(key);
      if (values === undefined) fold.values.set(key, new Set([value]));
      else values.add(value);
    }
  }

  #begin(series: number, overflow: number, table: SeriesTable): Fold | undefined {
    if (this.#folds.size >= MAX_NAMES) return undefined;
    const { name, type } = table.series(series);
    const fold = { name, type, samples: 0, looked: new Set<number>(), values: new Map() };
    this.#folds.set(overflow, fold);
    return fold;
  }

  /** Those with the most samples first. */
  list(): FoldedName[] {
    return Array.from(this.#folds.values(), ({ name, type, samples, looked, values }) => {
      const [most] = [...values].sort(([a, x], [b, y]) => y.size - x.size || (a < b ? -1 : 1));
      return { name, type, samples, key: most?.[0], values: most?.[1].size ?? 0, looked: looked.size };
    }).sort((a, b) => b.samples - a.samples);
  }
}
