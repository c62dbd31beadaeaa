/** Keeps the charts of the page over a restart. */
import { type Clock, unlessAborted } from '../base/clock.ts';
import type { KeptCharts } from '../bus/kv/kept-charts.ts';

/** A process that is killed loses as much of the charts. */
const SAVE_MS = 300_000;
/** A stop waits no longer for it. */
const LAST_SAVE_MS = 2_000;

/** The charts, as the page has them. */
export interface Charted {
  /** As text; undefined if there is nothing yet. */
  readonly kept: string | undefined;
  /** Puts what was kept before what there is. */
  restore(text: string): void;
}

/** Restores what was kept, then saves from time to time, and once more when `over` aborts. Never rejects. */
export async function keepCharts(
  charts: Charted,
  store: Pick<KeptCharts, 'load' | 'save'>,
  clock: Pick<Clock, 'sleep'>,
  over: AbortSignal,
): Promise<void> {
  const before = await unlessAborted(
    store.load().catch(() => undefined),
    over,
  );
  if (before !== undefined) charts.restore(before);
  while (!over.aborted) {
    await clock.sleep(SAVE_MS, over);
    const text = charts.kept;
    // What cannot be saved now is saved the next time, and is worth no line in the log.
    const saved = text === undefined ? undefined : store.save(text).catch(() => {});
    const timer = new AbortController();
    await Promise.race([saved, clock.sleep(LAST_SAVE_MS, timer.signal)]);
    timer.abort();
  }
}
