import type { ClosedWindow } from '../../aggregate/window.ts';
import { backoffMs, type Clock } from '../../base/clock.ts';
import type { Reader, Source } from '../../bus/read/source.ts';
import type { Lane } from '../lane/lane.ts';
import { sizeWindow } from '../lane/queue.ts';
import type { WindowHandler } from '../pipeline.ts';

/**
 * Opens a source with all messages that windows from `from` on depend on, and its reader: a pipeline that begins with
 * `from`. If `closedThrough` is known, the earlier windows were closed after all messages up to it had been read.
 */
export type OpenReplay = (
  from: number,
  closedThrough: number | undefined,
  onWindows: WindowHandler,
) => Replay;

export interface Replay {
  readonly source: Source;
  readonly reader: Reader;
  /** How many messages the reader has received and not finished. */
  readonly waiting: () => number;
  readonly release: () => void;
}

export interface CatchUpOptions {
  readonly open: OpenReplay;
  /**
   * Returns the start of the first window that the live path has not handed out, and the sequence up to which it had
   * read at that point.
   */
  readonly live: () => { readonly boundary: number; readonly sequence: number };
  /**
   * Called in the same turn in which the lane joins. Its windows were closed after all messages up to `sequence` had
   * been read.
   */
  readonly joined: (sequence: number) => void;
  readonly clock: Clock;
  readonly failed: (error: unknown) => void;
}

/**
 * I7: a lane that is behind reads the stream on its own from its checkpoint (I6), computes its windows again, and joins
 * the live path at a window boundary. Only its own sink holds it back, never the live path. Resolves when the lane has
 * joined, or when `signal` aborts.
 */
export async function catchUp(lane: Lane, options: CatchUpOptions, signal: AbortSignal): Promise<void> {
  const from = lane.offeredTo;
  const joined = new AbortController();
  const until = AbortSignal.any([signal, joined.signal]);
  // Windows being handed over must reach the lane before anything else does, even if reading fails in the meantime.
  let handing = Promise.resolve();
  const onWindows: WindowHandler = (windows, boundary, sequence) => {
    handing = handOver(windows, boundary, sequence);
    return handing;
  };
  let readThrough = () => 0;
  let waiting = () => 0;
  /** Windows closed by this replay but not yet by the live path: its clock may be ahead of the live path's. */
  let ahead: readonly ClosedWindow[] = [];
  const handOver = async (...[windows, boundary, sequence]: Parameters<WindowHandler>): Promise<void> => {
    ahead = [...ahead, ...windows];
    // What the source has handed over while messages wait, these may have yet to reopen.
    const read = waiting() > 0 ? sequence : Math.max(sequence, readThrough());
    for (;;) {
      const limit = Math.min(boundary, options.live().boundary);
      const due = ahead.filter(({ start }) => start < limit);
      ahead = ahead.slice(due.length);
      await lane.replay(due.map(sizeWindow), limit, sequence, until);
      if (until.aborted) return;
      const live = options.live();
      // Nothing that the live path has read may be missed: if the server's clock was set back, it may belong to earlier
      // windows.
      const hasRead = read >= live.sequence;
      // Nor may a message be missed that the live path will count in a window that the lane had before all this.
      const isPast = live.boundary >= from;
      // No await between the comparison and the join: the live path cannot hand out a window in between.
      if (lane.offeredTo >= live.boundary && hasRead && isPast) {
        lane.join();
        options.joined(sequence);
        joined.abort();
        return;
      }
      if (limit === boundary || lane.offeredTo >= live.boundary) return lane.untilReplayed(until);
    }
  };
  for (let attempt = 1; !until.aborted; attempt++) {
    lane.startCatchUp();
    const replay = options.open(lane.offeredTo, lane.closedThrough, onWindows);
    const { source, reader, release } = replay;
    ahead = [];
    readThrough = () => source.stats.readThrough;
    waiting = replay.waiting;
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
