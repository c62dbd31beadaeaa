import type { Tiling } from '../../aggregate/tiling.ts';
import type { ClosedWindow } from '../../aggregate/window.ts';
import { WindowMerger } from '../../aggregate/window-merger.ts';
import { backoffMs, type Clock } from '../../base/clock.ts';
import type { Reader, SourceStats } from '../../bus/read/source.ts';
import type { Lane } from '../lane/lane.ts';
import { inTurns } from '../lane/merging.ts';
import { sizeWindow } from '../lane/queue.ts';
import type { OpenReplay } from './catch-up.ts';

export interface RecomputeOptions {
  readonly open: OpenReplay;
  readonly tiling: Tiling;
  /** The windows of the sink, if they are not those of `tiling`. */
  readonly own?: Tiling | undefined;
  /** Starts of windows of the pipeline that are in the window, to be returned as well. */
  readonly parts?: ReadonlySet<number> | undefined;
  readonly clock: Clock;
  readonly failed: (error: unknown) => void;
}

export interface RewriteOptions extends RecomputeOptions {
  /** Told what each of `parts` is with all up to sequence `read`, before it is written; undefined if it is empty. */
  readonly found?: (start: number, window: ClosedWindow | undefined, read: number) => void;
}

/**
 * Rewrites a window that got a message after it was handed out (the slack was too small, or the server's clock stepped
 * back). Computes the window again from the stream, with at least all messages up to sequence `through`, and writes it
 * over what the store has. Resolves when that is done, or when `signal` aborts. Of a window that the stream no longer
 * holds whole, the store has more than could be computed: that one stays as it is, and the gap was reported.
 */
export async function rewriteWindow(
  lane: Lane,
  start: number,
  through: number,
  options: RewriteOptions,
  signal: AbortSignal,
): Promise<void> {
  const { parts = NO_PARTS } = options;
  const found = await recomputeWindow(start, through, options, signal);
  if (found === undefined || !found.isWhole) return;
  for (const part of parts) options.found?.(part, found.parts?.get(part), Math.max(found.read, through));
  await lane.rewrite(found.windows.map(sizeWindow), signal);
}

/** A window as computed from the stream. */
export interface Recomputed {
  /** None if the window is empty. */
  readonly windows: readonly ClosedWindow[];
  /** By start: the windows of the pipeline that were asked for. */
  readonly parts?: ReadonlyMap<number, ClosedWindow>;
  /** Sequence of the last message that was read for the window. */
  readonly read: number;
}

const NO_PARTS: ReadonlySet<number> = new Set();

/**
 * Computes the window that begins at `start` from the stream, with at least all messages up to sequence `through`.
 * Resolves to undefined when `signal` aborts. `isWhole`: the stream still held all messages that it depends on.
 */
export async function recomputeWindow(
  start: number,
  through: number,
  { open, tiling, own = tiling, parts = NO_PARTS, clock, failed }: RecomputeOptions,
  signal: AbortSignal,
): Promise<(Recomputed & { readonly isWhole: boolean }) | undefined> {
  const end = own.endOf(start);
  for (let attempt = 1; !signal.aborted; attempt++) {
    const done = new AbortController();
    const until = AbortSignal.any([signal, done.signal]);
    const merger = new WindowMerger(own, tiling);
    const kept = new Map<number, ClosedWindow>();
    let read = 0;
    let isWhole = true;
    const gapped = () => {
      isWhole = false;
    };
    const { source, reader, release } = open(start, undefined, async (windows, boundary, sequence) => {
      // What is read after the window was closed is not in it.
      if (done.signal.aborted) return;
      read = sequence;
      for (const window of windows) {
        if (window.start < start || window.start >= end) continue;
        if (parts.has(window.start)) kept.set(window.start, window);
        await inTurns(merger.addInSteps(window), clock, until);
      }
      if (boundary >= end) done.abort();
    });
    try {
      await source.run(patient(reader, through, source.stats, gapped), until);
      const windows = await inTurns(merger.takeInSteps(Number.POSITIVE_INFINITY), clock, signal);
      return windows && { windows, parts: kept, read, isWhole };
    } catch (error) {
      failed(error);
      await clock.sleep(backoffMs(attempt, clock.random()), signal);
    } finally {
      release();
    }
  }
  return undefined;
}

/**
 * Returns a reader that closes nothing until everything up to `through` has been read, whatever the stream times say.
 */
function patient(reader: Reader, through: number, stats: Readonly<SourceStats>, gapped: () => void): Reader {
  let read = 0;
  reader.completeAfter?.(through);
  return {
    message(message, envelope) {
      read = message.sequence;
      reader.message(message, envelope);
    },
    ...(reader.flush && { flush: () => reader.flush!() }),
    // What the window does not depend on is not handed over, if it came before.
    progress: (streamTime) =>
      Math.max(read, stats.readThrough) >= through ? reader.progress(streamTime) : undefined,
    gap: (gap) => {
      gapped();
      reader.gap?.(gap);
    },
  };
}
