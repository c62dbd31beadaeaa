/** The most keys that are counted separately, and the most characters that they may have. All others count together. */
const MAX_KEYS = 50_000;
const MAX_CHARACTERS = 16_000_000;
const OTHERS = '(others)';

export interface RateRow {
  readonly key: string;
  readonly perSecond: number;
  readonly bytesPerSecond: number;
  /** Totals since the beginning. */
  readonly total: number;
  readonly totalBytes: number;
}

export interface Snapshot {
  readonly seconds: number;
  /** The busiest first. */
  readonly rows: readonly RateRow[];
  readonly all: Omit<RateRow, 'key'>;
}

interface Counts {
  now: number;
  nowBytes: number;
  total: number;
  totalBytes: number;
}

/** Rates by key, between one snapshot and the next. */
export class Rates {
  readonly #keys = new Map<string, Counts>();
  readonly #maxKeys: number;
  #characters = 0;
  #since: number;

  /** Times are in ms, from any clock. */
  constructor(now: number, maxKeys = MAX_KEYS) {
    this.#since = now;
    this.#maxKeys = maxKeys;
  }

  /** Adds so many things, each of so many bytes. */
  add(key: string, bytes: number, times = 1): void {
    const counts = this.#keys.get(key) ?? this.#make(key);
    counts.now += times;
    counts.nowBytes += bytes * times;
  }

  #make(key: string): Counts {
    const isKept = this.#keys.size < this.#maxKeys && this.#characters < MAX_CHARACTERS;
    if (isKept) this.#characters += key.length;
    const kept = isKept ? key : OTHERS;
    const counts = this.#keys.get(kept) ?? { now: 0, nowBytes: 0, total: 0, totalBytes: 0 };
    this.#keys.set(kept, counts);
    return counts;
  }

  /** Returns the rates since the last call. */
  take(now: number): Snapshot {
    const seconds = Math.max(0.001, (now - this.#since) / 1000);
    this.#since = now;
    const rows = [...this.#keys].map(([key, counts]): RateRow => {
      const perSecond = counts.now / seconds;
      const bytesPerSecond = counts.nowBytes / seconds;
      counts.total += counts.now;
      counts.totalBytes += counts.nowBytes;
      counts.now = 0;
      counts.nowBytes = 0;
      return { key, perSecond, bytesPerSecond, total: counts.total, totalBytes: counts.totalBytes };
    });
    rows.sort((a, b) => b.perSecond - a.perSecond || b.total - a.total || (a.key < b.key ? -1 : 1));
    const sum = (of: (row: RateRow) => number) => rows.reduce((all, row) => all + of(row), 0);
    const all = {
      perSecond: sum((row) => row.perSecond),
      bytesPerSecond: sum((row) => row.bytesPerSecond),
      total: sum((row) => row.total),
      totalBytes: sum((row) => row.totalBytes),
    };
    return { seconds, rows, all };
  }
}
