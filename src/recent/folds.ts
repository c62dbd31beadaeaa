/** Which names were folded lately, for the status: those that come again add up. */
import type { FoldedName } from '../aggregate/folded-names.ts';

/** Names come from producers. Beyond this, the one that was folded the longest ago is forgotten. */
const MAX_FOLDS = 20;

export interface FoldedStatus {
  readonly name: string;
  readonly type: string;
  /** The dimension with the most values among series that were folded; null if they have none. */
  readonly key: string | null;
  /** How many it has among `looked` series, in the window where it had the most. */
  readonly values: number;
  readonly looked: number;
  /** Samples that were folded since the start. */
  readonly samples: number;
  /** When the last window was closed in which that happened. RFC 3339. */
  readonly lastAt: string;
}

export class Folds {
  readonly #folds = new Map<string, FoldedStatus>();

  add(names: readonly FoldedName[], now: number): void {
    for (const { name, type, samples, key = null, values, looked } of names) {
      const id = JSON.stringify([name, type, key]);
      const before = this.#folds.get(id);
      this.#folds.delete(id);
      const most = before !== undefined && before.values > values ? before : { values, looked };
      const sum = (before?.samples ?? 0) + samples;
      const lastAt = new Date(now).toISOString();
      this.#folds.set(id, {
        name,
        type,
        key,
        values: most.values,
        looked: most.looked,
        samples: sum,
        lastAt,
      });
      const [oldest] = this.#folds.keys();
      if (this.#folds.size > MAX_FOLDS) this.#folds.delete(oldest!);
    }
  }

  /** The latest first. */
  list(): FoldedStatus[] {
    return [...this.#folds.values()].reverse();
  }
}
