import type { Tiling } from '../../aggregate/tiling.ts';
import type { Lane } from '../lane/lane.ts';

/** How far a catch-up has got. */
export interface CatchUpProgress {
  readonly windowsBehind: number;
  readonly windowsPerSecond: number;
  /** Time until it joins the live path at this rate; null if it is not gaining on the live path. */
  readonly secondsLeft: number | null;
}

/** Tracks one catch-up from its start. All times are from the steady clock. */
export class CatchUpWatch {
  readonly #lane: Lane;
  readonly #tiling: Tiling;
  readonly #startedAt: number;
  readonly #startedFrom: number;

  constructor(lane: Lane, tiling: Tiling, now: number) {
    this.#lane = lane;
    this.#tiling = tiling;
    this.#startedAt = now;
    this.#startedFrom = lane.next;
  }

  progress(liveBoundary: number, now: number): CatchUpProgress {
    const { next } = this.#lane;
    const windowsBehind = this.#tiling.windowsBetween(next, liveBoundary);
    const seconds = Math.max(0.001, (now - this.#startedAt) / 1000);
    const windowsPerSecond = this.#tiling.windowsBetween(this.#startedFrom, next) / seconds;
    // Meanwhile the live path moves on with the clock.
    const gained = windowsPerSecond - 1000 / this.#tiling.epochAt(liveBoundary).windowMs;
    return { windowsBehind, windowsPerSecond, secondsLeft: gained > 0 ? windowsBehind / gained : null };
  }
}
