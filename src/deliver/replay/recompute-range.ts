/**
 * Windows computed again from the stream, by commands that run beside the service: which, how, and what is read for it.
 */

import type { SeriesTable } from '../../aggregate/series-table.ts';
import type { Tiling } from '../../aggregate/tiling.ts';
import { systemClock } from '../../base/clock.ts';
import { BusError } from '../../bus/bus-error.ts';
import type { Bus } from '../../bus/connect.ts';
import { createJetStreamSource } from '../../bus/read/jetstream.ts';
import type { Gap } from '../../bus/read/source.ts';
import { describeStream } from '../../bus/stream.ts';
import type { Config } from '../../config/config.ts';
import type { WindowRange } from '../../sink/contract.ts';
import { openPipeline } from '../pipeline.ts';
import { firstWholeWindow, readFrom } from '../start-points.ts';
import type { OpenReplay } from './catch-up.ts';

export interface WholeWindows extends WindowRange {
  /**
   * Windows asked for before them that the stream no longer holds whole: what they should be, nobody can tell any more.
   */
  readonly lost: number;
}

/** Why windows that were asked for are not there. */
export function lostInWords({ from, lost }: Pick<WholeWindows, 'from' | 'lost'>): string {
  return `the stream no longer holds the ${lost} windows before ${new Date(from).toISOString()}`;
}

/**
 * Of the windows from `from` to `to`, those that are complete and that the stream still holds whole; without a `from`,
 * from the first of these, and without a `to`, all. Rejects with a `BusError` where there is none.
 */
export async function wholeWindows(
  { from, to }: { readonly from?: number; readonly to?: number },
  { core }: Config,
  bus: Bus,
  tiling: Tiling,
): Promise<WholeWindows> {
  const facts = await describeStream(bus, core);
  const now = systemClock.now();
  const extent = { firstTime: facts.firstTime, truncated: facts.firstSequence > 1 };
  const whole = firstWholeWindow(extent, tiling, now);
  const complete = tiling.completeBefore(now - core.idleSlack);
  const asked = tiling.startOf(from ?? whole);
  const range = {
    from: Math.max(whole, asked),
    to: Math.min(complete, tiling.startOf(to ?? complete)),
    lost: extent.truncated ? Math.round(tiling.windowsBetween(asked, whole)) : 0,
  };
  if (range.from >= range.to) {
    throw new BusError(
      `there is no complete window in that range: the stream holds whole windows from ${new Date(whole).toISOString()}, and up to ${new Date(complete).toISOString()} they are complete`,
      'Choose --from and --to in between.',
    );
  }
  return range;
}

/** What the reading comes upon; all calls are synchronous. */
export interface RecomputeEvents {
  onGap(gap: Gap): void;
  /** See `PipelineOptions`. */
  onReopened?(starts: readonly number[], sequence: number): void;
  /** Messages read since the replay began. */
  onProgress?(messages: number): void;
}

/** Opens replays of all slices, whichever is ours: a range belongs to all of them. */
export function replays(
  { core }: Config,
  bus: Bus,
  tiling: Tiling,
  table: SeriesTable,
  events: RecomputeEvents,
): OpenReplay {
  const settings = { ...core, slice: { index: 0, of: 1 } };
  return (from, closedThrough, onWindows) => {
    const { pipeline } = openPipeline(
      table,
      settings,
      { from, closedThrough, instance: '', tiling },
      {
        onWindows: (windows, boundary, sequence) => {
          events.onProgress?.(pipeline.stats.received);
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
      release: () => pipeline.release(),
    };
  };
}
