import type { Tiling } from '../aggregate/tiling.ts';
import type { Reader } from '../bus/source.ts';
import type { OpenReplay } from './catch-up.ts';
import { backoffMs, type Clock } from './clock.ts';
import type { Lane } from './lane.ts';
import { type Handout, handOut } from './queue.ts';

export interface RewriteOptions {
  readonly open: OpenReplay;
  readonly tiling: Tiling;
  readonly clock: Clock;
  readonly failed: (error: unknown) => void;
}

/**
 * A message turned up for a window that was already handed out (the slack was too small, or the server's clock stepped
 * back): computes the window again from the stream, with all messages up to sequence `through` at least, and writes it
 * over what the store has. Resolves when that is done, or when `signal` aborts.
 */
export async function rewriteWindow(
  lane: Lane,
  start: number,
  through: number,
  options: RewriteOptions,
  signal: AbortSignal,
): Promise<void> {
  const end = options.tiling.endOf(start);
  for (let attempt = 1; !signal.aborted; attempt++) {
    const done = new AbortController();
    const until = AbortSignal.any([signal, done.signal]);
    let found: Handout[] = [];
    const { source, reader, release } = options.open(start, undefined, (windows, boundary) => {
      found = [...found, ...windows.filter((window) => window.start === start).map(handOut)];
      if (boundary >= end) done.abort();
    });
    try {
      await source.run(patient(reader, through), until);
      if (signal.aborted) return;
      return await lane.rewrite(found, signal);
    } catch (error) {
      options.failed(error);
      await options.clock.sleep(backoffMs(attempt, options.clock.random()), signal);
    } finally {
      release();
    }
  }
}

/** Closes nothing before everything up to `through` was read, whatever the stream times say. */
function patient(reader: Reader, through: number): Reader {
  let read = 0;
  return {
    message(bytes, start, end, streamTime, sequence) {
      read = sequence;
      reader.message(bytes, start, end, streamTime, sequence);
    },
    progress: (streamTime) => (read >= through ? reader.progress(streamTime) : undefined),
    gap: (gap) => reader.gap?.(gap),
  };
}
