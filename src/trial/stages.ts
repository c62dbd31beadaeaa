/** The stages of a trial that concern one store at a time. */

import type { Tiling } from '../aggregate/tiling.ts';
import type { ClosedWindow } from '../aggregate/window.ts';
import type { Clock } from '../base/clock.ts';
import { counted } from '../base/number-format.ts';
import { failureInWords, type StoredPoint, type WindowRange } from '../sink/contract.ts';
import { SECONDS_PER_MONTH } from '../sink/price.ts';
import { describeDifference } from '../verify/rows.ts';
import { Verification } from '../verify/verification.ts';
import { storable } from './freshness.ts';
import type { Money, QuestionResult, Room, Rung, TrafficResult } from './result.ts';
import type { TrialStore } from './stores.ts';
import type { TrialTable } from './tables.ts';
import { batchesOf, writeBatches } from './writing.ts';

const HOUR_S = 3_600;
const DAY_S = 24 * HOUR_S;
/** A rung that takes this much more than the best one before is worth its writers. */
const MIN_GROWTH = 1.1;
/** Some stores look at what they hold only now and then. */
const SIZE_TIMEOUT_MS = 15_000;
const SIZE_POLL_MS = 500;
/** For a compaction. */
const SLOW_TIMEOUT_MS = 600_000;
/** What the price model says of instances is for a whole month; of questions, it knows nothing. */
const MONTH_MILLIONS = SECONDS_PER_MONTH / 1e6;

export interface StageOptions {
  readonly windows: readonly ClosedWindow[];
  readonly secondsEach: number;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

async function rungOf(
  store: TrialStore,
  writers: number,
  purpose: string,
  { windows, secondsEach, clock, signal }: StageOptions,
): Promise<Rung> {
  const table = await store.make(purpose);
  try {
    const threads = await table.writers(writers, signal);
    const { timeoutMs } = store.config;
    const until = clock.steady() + 1000 * secondsEach;
    const { rung } = await writeBatches(batchesOf(windows, store.limits), threads, {
      timeoutMs,
      clock,
      signal,
      until,
    });
    return rung;
  } finally {
    await store.drop(table);
  }
}

/** Climbs the ladder of writers until it no longer grows. Each rung has an empty table of its own. */
export async function climb(store: TrialStore, options: StageOptions, rungOver: () => void): Promise<void> {
  const rungs: Rung[] = [];
  let best: Rung | undefined;
  for (const writers of store.ladder) {
    if (options.signal.aborted) break;
    const rung = await rungOf(store, writers, `_w${writers}`, options);
    rungs.push(rung);
    rungOver();
    const grew = best === undefined || rung.pointsPerSecond >= MIN_GROWTH * best.pointsPerSecond;
    if (grew) best = rung;
    if (best !== undefined) {
      const ceiling = Math.max(...rungs.map(({ pointsPerSecond }) => pointsPerSecond));
      store.result.ingest = { rungs, writers: best.writers, ceiling, together: null };
    }
    if (!grew) break;
  }
}

/** Writes to the store while all others are written to as well. */
export async function writeTogether(store: TrialStore, options: StageOptions): Promise<void> {
  const { ingest } = store.result;
  if (ingest === null) return;
  const together = await rungOf(store, ingest.writers, '_all', options);
  store.result.ingest = { ...ingest, together };
}

/** Writes all windows to the table that stays. */
export async function fill(
  store: TrialStore,
  traffic: Pick<TrafficResult, 'pointsPerSecond'>,
  { windows, clock, signal }: StageOptions,
  wrote: (points: number) => void,
): Promise<void> {
  const table = await store.make('');
  store.table = table;
  store.result.version = (await table.sink.version?.(signal).catch(() => undefined)) ?? null;
  const { writers } = store;
  const threads = await table.writers(writers, signal);
  const { timeoutMs } = store.config;
  const { rung, refused } = await writeBatches(batchesOf(windows, store.limits), threads, {
    timeoutMs,
    clock,
    signal,
    wrote,
  });
  store.rows += rung.points;
  if (refused > 0)
    store.remark(
      `${counted(refused, 'point was', 'points were')} refused: ${Object.keys(rung.errors).join(', ')}`,
    );
  const speed = rung.pointsPerSecond;
  store.result.backfill = {
    writers,
    points: rung.points,
    seconds: rung.seconds,
    pointsPerSecond: speed,
    hourSeconds: (HOUR_S * traffic.pointsPerSecond) / speed,
    daySeconds: (DAY_S * traffic.pointsPerSecond) / speed,
  };
}

/** Has the store tidy up, as it would by itself in time, and measures the room before and after. */
export async function settle(store: TrialStore, signal: AbortSignal): Promise<void> {
  const { table } = store;
  if (table === undefined) return;
  await table.closeWriters();
  const before = await sizeOf(table, signal);
  const isCompacted = await compact(store, table, signal);
  const after = isCompacted ? await sizeOf(table, signal) : before;
  const bytes = after ?? before ?? null;
  const room: Room = {
    rows: store.rows,
    bytes: before ?? null,
    bytesAfterCompaction: isCompacted ? (after ?? null) : null,
    bytesPerRow: bytes === null || store.rows === 0 ? null : bytes / store.rows,
  };
  store.result.room = room;
}

/** Resolves to whether the store did it. Not every user may ask for it. */
async function compact(store: TrialStore, { sink }: TrialTable, signal: AbortSignal): Promise<boolean> {
  if (sink.compact === undefined) return false;
  try {
    await sink.compact(AbortSignal.any([signal, AbortSignal.timeout(SLOW_TIMEOUT_MS)]));
    return true;
  } catch (error) {
    signal.throwIfAborted();
    store.remark(`its compaction failed, so it is asked without: ${failureInWords(error)}`);
    return false;
  }
}

/** Resolves to undefined if the store does not say. */
async function sizeOf({ sink }: TrialTable, signal: AbortSignal): Promise<number | undefined> {
  if (sink.storage === undefined) return undefined;
  const within = AbortSignal.any([signal, AbortSignal.timeout(SIZE_TIMEOUT_MS)]);
  while (!within.aborted) {
    const size = await sink.storage(within).catch(() => undefined);
    if (size !== undefined && size > 0) return size;
    await new Promise((resolve) => setTimeout(resolve, SIZE_POLL_MS));
  }
  return undefined;
}

/** Returns the questions that all stores answered, of those that answered any. */
export function answeredByAll(all: readonly (readonly QuestionResult[])[]): ReadonlySet<string> {
  const answered = all
    .map((own) => own.filter(({ asked }) => asked.kind === 'equal').map(({ id }) => id))
    .filter(({ length }) => length > 0);
  return new Set(answered[0]?.filter((id) => answered.every((own) => own.includes(id))));
}

/** How long a store works on one of these questions, on average, if it is asked all of them equally often. */
function secondsPerQuestion(
  questions: readonly QuestionResult[],
  shared: ReadonlySet<string>,
): number | undefined {
  const times = questions.flatMap(({ id, asked }) =>
    asked.kind === 'equal' && shared.has(id) && asked.hot.length > 0
      ? 1 / Math.max(...asked.hot.map(({ perSecond }) => perSecond))
      : [],
  );
  return times.length === 0 ? undefined : times.reduce((sum, time) => sum + time, 0) / times.length;
}

/** What the price model of the sink says of this traffic, with a month of rows kept. */
export function priceOf(
  { config, result }: TrialStore,
  { pointsPerSecond, bytesPerPoint }: Pick<TrafficResult, 'pointsPerSecond' | 'bytesPerPoint'>,
  shared: ReadonlySet<string>,
): Money {
  const none = { usdPerMonth: null, usdPerMillionPoints: null, usdPerMillionQuestions: null };
  const { price } = config.module;
  if (price === undefined) return { ...none, assumption: 'no price is known for this kind' };
  const usage = { pointsPerSecond, bytesPerSecond: pointsPerSecond * bytesPerPoint };
  const perRow = result.room?.bytesPerRow ?? undefined;
  const storedBytes = perRow === undefined ? undefined : perRow * pointsPerSecond * SECONDS_PER_MONTH;
  const month = price.estimate(config.prices, { ...usage, storedBytes, storedWhen: 'after a month' });
  const written = price.estimate(config.prices, { ...usage, storedBytes: 0 });
  if (month.usdPerMonth === null) return { ...none, assumption: month.assumption };
  const each = secondsPerQuestion(result.questions, shared);
  const { priceMonth } = config.prices as { readonly priceMonth?: number };
  const perMillionQuestions =
    each === undefined || priceMonth === undefined ? null : (priceMonth * each) / MONTH_MILLIONS;
  const kept = 'with a month of rows kept, at the size of a row measured here';
  const asked =
    perMillionQuestions === null
      ? 'questions have no price'
      : `a question costs its share of the instance: the mean of the ${shared.size} that all stores answered, each at the highest rate of answers measured here`;
  return {
    usdPerMonth: month.usdPerMonth,
    usdPerMillionPoints:
      written.usdPerMonth === null ? null : written.usdPerMonth / (pointsPerSecond * MONTH_MILLIONS),
    usdPerMillionQuestions: perMillionQuestions,
    assumption: `${month.assumption}; ${kept}; ${asked}`,
  };
}

/** Compares every row of the tables with the windows. */
export async function prove(
  stores: readonly TrialStore[],
  {
    windows,
    tiling,
    range,
  }: { readonly windows: readonly ClosedWindow[]; readonly tiling: Tiling; readonly range: WindowRange },
  signal: AbortSignal,
  proved: (points: number) => void,
): Promise<void> {
  const able = stores.filter(({ table }) => table !== undefined);
  const sinks = able.map((store) => ({
    id: store.config.id,
    range,
    read: (part: WindowRange): AsyncIterable<StoredPoint> => store.table!.sink.read(part, signal),
  }));
  const verification = new Verification({ tiling, range, sinks, signal });
  for (const [index, window] of windows.entries()) {
    if (signal.aborted) return;
    const boundary = windows[index + 1]?.start ?? range.to;
    await verification.onWindows([window], boundary, 0);
    proved(window.size);
  }
  for (const [index, store] of able.entries()) {
    const { rows, examples, reasons } = verification.judges[index]!.verdict();
    for (const reason of reasons) store.remark(`not all rows were proved: ${reason}`);
    store.result.proof = { ...rows, examples: examples.map(describeDifference) };
  }
}

/** The points that a store must hold. */
export function pointsOf(windows: readonly ClosedWindow[]): number {
  return windows.reduce((sum, window) => sum + storable(window), 0);
}
