import type { Reader, Source } from '../bus/source.ts';
import { backoffMs, type Clock } from './clock.ts';
import type { Lane } from './lane.ts';
import type { Hand } from './pipeline.ts';
import { handOut } from './queue.ts';

/**
 * A source with all that windows from `from` on depend on, and what reads it: a pipeline that begins with `from`. The
 * windows before it were closed when all up to `closedAt` had been read, where that is known.
 */
export type OpenReplay = (
  from: number,
  closedAt: number | undefined,
  hand: Hand,
) => { readonly source: Source; readonly reader: Reader; readonly release: () => void };

export interface CatchUpOptions {
  readonly open: OpenReplay;
  /** Start of the first window that the live path has not handed out. */
  readonly liveBoundary: () => number;
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
  const hand: Hand = (windows, boundary, sequence) => {
    handing = lane.replay(windows.map(handOut), boundary, sequence, until).then(() => {
      // No await between the comparison and the join: the live path cannot hand out a window in between.
      if (until.aborted || lane.offeredTo < options.liveBoundary()) return;
      lane.join();
      joined.abort();
    });
    return handing;
  };
  for (let attempt = 1; !until.aborted; attempt++) {
    const { source, reader, release } = options.open(lane.offeredTo, lane.closedAt, hand);
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
