import type { ClosedWindow } from '../../aggregate/window.ts';
import { backoffMs, type Clock } from '../../base/clock.ts';
import type { Reader, Source } from '../../bus/read/source.ts';
import type { Lane } from '../lane/lane.ts';
import { sizeWindow } from '../lane/queue.ts';
import type { WindowHandler } from '../pipeline.ts';

/**
 * A source with all that windows from `from` on depend on, and what reads it: a pipeline that begins with `from`. The
 * windows before it were closed when all up to `closedThrough` had been read, where that is known.
 */
export type OpenReplay = (
  from: number,
  closedThrough: number | undefined,
  onWindows: WindowHandler,
) => { readonly source: Source; readonly reader: Reader; readonly release: () => void };

export interface CatchUpOptions {
  readonly open: OpenReplay;
  /** Start of the first window that the live path has not handed out, and what it had read then. */
  readonly live: () => { readonly boundary: number; readonly sequence: number };
  /** In the same breath as the lane joins: its windows were closed when all up to `sequence` had been read. */
  readonly joined: (sequence: number) => void;
  readonly clock: Clock;
  readonly failed: (error: unknown) => void;
}

/**
 * I7: a lane that is behind reads the stream for itself from its checkpoint (I6), computes its windows again, and joins
 * the live path at a window boundary. It is held back by its own sink alone, and by nothing of the live path's.
 * Resolves when the lane has joined, or when `signal` aborts.
 */
export async function catchUp(lane: Lane, options: CatchUpOptions, signal: AbortSignal): Promise<void> {
  lane.startCatchUp();
  const joined = new AbortController();
  const until = AbortSignal.any([signal, joined.signal]);
  // What is handed over must be with the lane before anything else comes, also where the reading failed meanwhile.
  let handing = Promise.resolve();
  const onWindows: WindowHandler = (windows, boundary, sequence) => {
    handing = handOver(windows, boundary, sequence);
    return handing;
  };
  let readThrough = () => 0;
  /** Closed by this one, but not by the live path yet: its clock may be ahead of that one's. */
  let ahead: readonly ClosedWindow[] = [];
  const handOver = async (...[windows, boundary, sequence]: Parameters<WindowHandler>): Promise<void> => {
    ahead = [...ahead, ...windows];
    for (;;) {
      const limit = Math.min(boundary, options.live().boundary);
      const due = ahead.filter(({ start }) => start < limit);
      ahead = ahead.slice(due.length);
      await lane.replay(due.map(sizeWindow), limit, sequence, until);
      if (until.aborted) return;
      const live = options.live();
      // What the live path has read is not to be missed: with the server's clock set back, it may be for windows
      // before.
      const hasRead = Math.max(sequence, readThrough()) >= live.sequence;
      // No await between the comparison and the join: the live path cannot hand out a window in between.
      if (lane.offeredTo >= live.boundary && hasRead) {
        lane.join();
        options.joined(sequence);
        joined.abort();
        return;
      }
      if (limit === boundary || lane.offeredTo >= live.boundary) return;
    }
  };
  for (let attempt = 1; !until.aborted; attempt++) {
    const { source, reader, release } = options.open(lane.offeredTo, lane.closedThrough, onWindows);
    ahead = [];
    readThrough = () => source.stats.readThrough;
    try {
      await source.run(reader, until);
    } catch (error) {
      options.failed(error);
      await options.clock.sleep(backoffMs(attempt, options.clock.random()), until);
    } finally {
      await handing;
      release();
    }
  }
}
