/**
 * Computes windows again from the stream, for commands that run next to the service: which windows, how, and from what.
 */

import type { SeriesTable } from '../../aggregate/series-table.ts';
import type { Tiling } from '../../aggregate/tiling.ts';
import { systemClock } from '../../base/clock.ts';
import { counted } from '../../base/number-format.ts';
import { BusError } from '../../bus/bus-error.ts';
import type { Bus } from '../../bus/connect.ts';
import { createJetStreamSource } from '../../bus/read/jetstream.ts';
import type { Gap } from '../../bus/read/source.ts';
import { describeStream, isTruncated } from '../../bus/stream.ts';
import { type Config, hasSketches } from '../../config/config.ts';
import type { WindowRange } from '../../sink/contract.ts';
import { openPipeline, type PipelineStats } from '../pipeline.ts';
import { firstWholeWindow, readFrom } from '../start-points.ts';
import type { OpenReplay } from './catch-up.ts';

export interface WholeWindows extends WindowRange {
  /**
   * How many of the requested windows, before `from`, the stream no longer holds completely: nobody can tell what they
   * should be.
   */
  readonly lost: number;
  /** Without a requested start: whether the stream held more before `from`. */
  readonly isTruncated: boolean;
}

/** Returns why requested windows are missing. */
export function lostInWords({ from, lost }: Pick<WholeWindows, 'from' | 'lost'>): string {
  return `the stream no longer holds the ${counted(lost, 'window')} before ${new Date(from).toISOString()}`;
}

/** Says that nobody can look further back. `windows`: how many there were; undefined if nobody knows. */
export function notHeldInWords(from: number, windows?: number): string {
  const many = windows === undefined ? 'windows' : counted(windows, 'window');
  return `the stream no longer holds the ${many} before ${new Date(from).toISOString()} (retention)`;
}

/**
 * Resolves to the windows between `from` and `to` that are complete and that the stream still holds completely. Without
 * `from`, starts at the first of these; without `to`, ends at the last. Rejects with a `BusError` if there are none.
 */
export async function wholeWindows(
  { from, to }: { readonly from?: number; readonly to?: number },
  { core }: Config,
  bus: Bus,
  tiling: Tiling,
): Promise<WholeWindows> {
  if (from !== undefined && to !== undefined && from >= to)
    throw new BusError(
      // Of `14:00` and `23:00`, the later one may have been yesterday.
      `--from is not before --to: ${new Date(from).toISOString()} and ${new Date(to).toISOString()}`,
      'Give an earlier --from, or a later --to.',
    );
  const facts = await describeStream(bus, core);
  const now = systemClock.now();
  const extent = { firstTime: facts.firstTime, truncated: isTruncated(facts) };
  const whole = firstWholeWindow(extent, tiling, now);
  const complete = tiling.completeBefore(now - core.idleSlack);
  const asked = tiling.startOf(from ?? whole);
  const range = {
    from: Math.max(whole, asked),
    to: Math.min(complete, tiling.startOf(to ?? complete)),
    lost: extent.truncated ? Math.round(tiling.windowsBetween(asked, whole)) : 0,
    isTruncated: extent.truncated && from === undefined,
  };
  if (range.from < range.to) return range;
  const readyAt = tiling.endOf(whole) + tiling.latenessMs + core.idleSlack;
  throw noWindow(
    { from: from && asked, to: to && tiling.startOf(to) },
    { ...extent, whole, complete, readyAt },
  );
}

interface Held {
  readonly truncated: boolean;
  /** Start of the first whole window. */
  readonly whole: number;
  /** All windows before are complete. */
  readonly complete: number;
  /** When the first whole window is complete. */
  readonly readyAt: number;
}

/** Says why there is no window, and what to do: `from` and `to` are starts of windows, undefined if not given. */
export function noWindow(
  { from, to }: { readonly from: number | undefined; readonly to: number | undefined },
  { truncated, whole, complete, readyAt }: Held,
): BusError {
  const iso = (ms: number) => new Date(ms).toISOString();
  const held = `the stream holds whole windows from ${iso(whole)} on`;
  if (complete <= whole) {
    const none = 'there is no complete window yet';
    // What it removes meanwhile moves the first whole window.
    if (truncated)
      return new BusError(
        `${none}: ${held}, and they are complete up to ${iso(complete)}`,
        'Try again later. If that does not help, let the stream keep more: raise its max_age or max_bytes.',
      );
    return new BusError(`${none}: the first one is complete at ${iso(readyAt)}`, 'Try again then.');
  }
  const none = 'there is no complete window in that range';
  if (to !== undefined && to <= whole) return new BusError(`${none}: ${held}`, 'Give a later --to.');
  if (from !== undefined && from >= complete)
    return new BusError(`${none}: windows are complete up to ${iso(complete)}`, 'Give an earlier --from.');
  return new BusError(
    `${none}: --from and --to are in the same window`,
    'Give a --to that is at least one window later.',
  );
}

/** What a replay reports. All calls are synchronous. */
export interface RecomputeEvents {
  onGap(gap: Gap): void;
  /** See `PipelineOptions`. */
  onReopened?(starts: readonly number[], sequence: number): void;
  /** Reports how many messages were read since the replay began, and what of them was rejected. */
  onProgress?(messages: number, rejected: Pick<PipelineStats, 'rejectedMessages' | 'rejectedSamples'>): void;
}

/** Returns the function that opens a replay of all slices, whichever is ours: a range belongs to all of them. */
export function replays(
  config: Config,
  bus: Bus,
  tiling: Tiling,
  table: SeriesTable,
  events: RecomputeEvents,
): OpenReplay {
  const { core } = config;
  const settings = { ...core, hasSketches: hasSketches(config), slice: { index: 0, of: 1 } };
  return (from, closedThrough, onWindows) => {
    const { pipeline } = openPipeline(
      table,
      settings,
      { from, closedThrough, instance: '', tiling },
      {
        nextTurn: systemClock.nextTurn,
        onWindows: (windows, boundary, sequence) => {
          events.onProgress?.(pipeline.stats.received, pipeline.stats);
          return onWindows(windows, boundary, sequence);
        },
        onGap: (gap) => events.onGap(gap),
        onReopened: (starts, sequence) => events.onReopened?.(starts, sequence),
      },
    );
    const start = { kind: 'time', ms: readFrom(from, tiling) } as const;
    return {
      source: createJetStreamSource(bus, core, { start, isPassive: true }),
      reader: pipeline,
      waiting: () => pipeline.waiting,
      release: () => pipeline.release(),
    };
  };
}
