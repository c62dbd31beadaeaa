/** Names the series that a table is too busy for: they may be in one hot partition. */
import type { Series, SinkLog } from '../../src/sink/index.ts';

/** More are not counted until the next report. */
const MAX_SERIES = 1_000;
const NAMED = 3;
const REPORT_EVERY_MS = 60_000;

const WHAT = 'DynamoDB was too busy for some items, so the writes go slower';
const ADVICE =
  'If it is always the same series, they are in a hot partition, which takes 1,000 writes a second. If not, the table needs more capacity: WARM_WRITES for a table yet to be made, or its own settings.';

export class HotSeries {
  readonly #log: SinkLog;
  readonly #counts = new Map<string, { readonly series: Series; items: number }>();
  #items = 0;
  #reported = Number.NEGATIVE_INFINITY;

  constructor(log: SinkLog) {
    this.#log = log;
  }

  /** Counts items that came back, and reports them once a minute at most. `now`: milliseconds of a steady clock. */
  add(
    all: readonly Series[],
    now: number,
    facts: { readonly table: string; readonly unitsPerSecond: number },
  ): void {
    this.#items += all.length;
    for (const series of all) {
      const counted = this.#counts.get(series.id);
      if (counted !== undefined) counted.items++;
      else if (this.#counts.size < MAX_SERIES) this.#counts.set(series.id, { series, items: 1 });
    }
    if (now - this.#reported < REPORT_EVERY_MS) return;
    this.#reported = now;
    const most = [...this.#counts.values()].sort((a, b) => b.items - a.items).slice(0, NAMED);
    const series = most.map(({ series: { name, dimensionsJson }, items }) => ({
      name,
      dimensions: dimensionsJson,
      items,
    }));
    const unitsPerSecond = Math.round(facts.unitsPerSecond);
    this.#log.warn({ table: facts.table, items: this.#items, unitsPerSecond, series, advice: ADVICE }, WHAT);
    this.#counts.clear();
    this.#items = 0;
  }
}
