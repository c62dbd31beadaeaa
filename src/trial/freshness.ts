/** How soon a window can be asked for: written alone, and asked for until all of its rows come back. */
import type { ClosedWindow } from '../aggregate/window.ts';
import type { Clock } from '../base/clock.ts';
import { limitsOf, readBackOf, type Sink } from '../sink/contract.ts';
import { type Freshness, MISSED_AFTER_MS } from './result.ts';
import type { TrialTable } from './tables.ts';
import { batchesOf, latencyOf, writeBatches } from './writing.ts';

/** Between an answer and the next question. */
const PAUSE_MS = 2;

export interface FreshnessOptions {
  readonly writers: number;
  readonly latenessMs: number;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly windowOver: () => void;
}

/** Writes the windows one by one. Resolves to undefined if the store cannot be asked for a window. */
export async function measureFreshness(
  table: TrialTable,
  windows: readonly ClosedWindow[],
  options: FreshnessOptions,
): Promise<Freshness | undefined> {
  const { clock, signal, latenessMs } = options;
  const [asking] = await table.clients(2, signal);
  if (asking === undefined || !canCount(asking, table)) return undefined;
  const acknowledged: number[] = [];
  const returned: number[] = [];
  let missed = 0;
  for (const window of windows) {
    if (signal.aborted) break;
    const before = clock.steady();
    let refused: number | undefined;
    const writing = write(table, window, options).then((count) => {
      refused = count;
      acknowledged.push(clock.steady() - before);
    });
    const waiting = until(async () => {
      const rows = await countRows(asking, window, signal);
      return rows >= storable(window) - (refused ?? 0);
    });
    const [isThere] = await Promise.all([waiting, writing]);
    if (isThere === undefined && !signal.aborted) missed += 1;
    if (isThere !== undefined) returned.push(isThere - before);
    options.windowOver();
  }
  return {
    windows: acknowledged.length,
    lateness: latenessMs,
    acknowledged: latencyOf(acknowledged),
    // What was never seen counts as the longest wait: if it were left out, a store that loses rows would look fast.
    returned: latencyOf([...returned, ...Array.from({ length: missed }, () => MISSED_AFTER_MS)]),
    rounds: returned,
    missed,
  };

  /** Resolves to when it was true; to undefined if it was not in time. */
  async function until(isTrue: () => Promise<boolean>): Promise<number | undefined> {
    const last = clock.steady() + MISSED_AFTER_MS;
    while (!signal.aborted && clock.steady() < last) {
      if (await isTrue()) return clock.steady();
      await clock.sleep(PAUSE_MS, signal);
    }
    return undefined;
  }
}

async function write(table: TrialTable, window: ClosedWindow, options: FreshnessOptions): Promise<number> {
  const { module, values, timeoutMs } = table.config;
  const writers = await table.writers(options.writers, options.signal);
  const { clock, signal } = options;
  const batches = batchesOf([window], limitsOf(module, values));
  const { refused } = await writeBatches(batches, writers, { timeoutMs, clock, signal });
  return refused;
}

/** No store holds a point whose sum is not finite. */
export function storable(window: ClosedWindow): number {
  let count = 0;
  for (let index = 0; index < window.size; index++) if (Number.isFinite(window.sumOf(index))) count += 1;
  return count;
}

function canCount(sink: Sink, { config }: TrialTable): boolean {
  const { module, values } = config;
  return sink.query !== undefined || sink.lookUp !== undefined || readBackOf(module, values) !== 'none';
}

/** Resolves to how many rows of the window the store returns. */
async function countRows(sink: Sink, window: ClosedWindow, signal: AbortSignal): Promise<number> {
  const range = { from: window.start, to: window.start + window.windowMs };
  if (sink.lookUp === undefined && sink.query !== undefined) {
    const [row] = await sink.query({ kind: 'live_series', range }, signal);
    return row?.value ?? 0;
  }
  let rows = 0;
  const found = sink.lookUp?.(pointsOfWindow(window), signal) ?? sink.read(range, signal);
  for await (const _ of found) rows += 1;
  return rows;
}

function* pointsOfWindow(window: ClosedWindow) {
  for (let index = 0; index < window.size; index++) yield window.point(index);
}
