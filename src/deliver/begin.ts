/** Where reading begins: pure arithmetic on windows and what the stream still holds. All times in ms since 1970. */
import type { Begin } from '../config.ts';

export interface WindowShape {
  readonly windowMs: number;
  readonly latenessMs: number;
  readonly maxAheadMs: number;
}

/** What a stream holds. */
export interface StreamExtent {
  /** Stream time of the first message; undefined where there is none. */
  readonly firstTime: number | undefined;
  /** Whether messages before the first were removed (retention). */
  readonly truncated: boolean;
}

export function windowStart(time: number, windowMs: number): number {
  return Math.floor(time / windowMs) * windowMs;
}

/** The clocks of server and service are taken to be no further apart than this; windows without samples cost nothing. */
const CLOCK_MARGIN_MS = 60_000;

/**
 * The first window whose samples the stream holds all. An untruncated stream holds every window that its first message
 * can reach back to (LATENESS); a truncated one only those whose earliest possible sample (MAX_AHEAD before their
 * start) is younger than its first message: one with the same stamp may have gone. The first message of an empty stream is still to come.
 */
export function firstWholeWindow(extent: StreamExtent, shape: WindowShape, now: number): number {
  const { windowMs, latenessMs, maxAheadMs } = shape;
  if (extent.truncated) return windowStart((extent.firstTime ?? now) + maxAheadMs + windowMs, windowMs);
  return windowStart((extent.firstTime ?? now - CLOCK_MARGIN_MS) - latenessMs, windowMs);
}

/** The first window that a sink without a checkpoint gets: always a whole one (I3). */
export function firstWanted(begin: Begin, extent: StreamExtent, shape: WindowShape, now: number): number {
  const whole = firstWholeWindow(extent, shape, now);
  switch (begin.kind) {
    case 'earliest':
      return whole;
    case 'now':
      return Math.max(whole, windowStart(now, shape.windowMs));
    case 'at':
      return Math.max(whole, windowStart(begin.ms, shape.windowMs));
    default:
      return begin satisfies never;
  }
}

/** I6: from checkpoint W, messages from this stream time on are all that is needed. */
export function readFrom(next: number, shape: WindowShape): number {
  return next - shape.maxAheadMs;
}

/** Lanes so many windows behind the foremost start with it; one further behind catches up by a replay of its own. */
const TOGETHER_WINDOWS = 6;

/** Where the live path begins: at the hindmost of the lanes that are near the foremost. */
export function liveFrom(nexts: readonly number[], windowMs: number): number {
  const foremost = Math.max(...nexts);
  return Math.min(...nexts.filter((next) => next >= foremost - TOGETHER_WINDOWS * windowMs));
}
