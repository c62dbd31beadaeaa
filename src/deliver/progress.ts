import type { Lane } from './lane.ts';

/** How far a catch-up is. */
export interface CatchUpProgress {
  readonly windowsBehind: number;
  readonly windowsPerSecond: number;
  /** Until it joins the live path at this rate; null while it does not gain on it. */
  readonly secondsLeft: number | null;
}

/** Follows one catch-up from its beginning. */
export class CatchUpWatch {
  readonly #lane: Lane;
  readonly #windowMs: number;
  readonly #startedAt: number;
  readonly #startedFrom: number;

  constructor(lane: Lane, windowMs: number, now: number) {
    this.#lane = lane;
    this.#windowMs = windowMs;
    this.#startedAt = now;
    this.#startedFrom = lane.next;
  }

  progress(liveBoundary: number, now: number): CatchUpProgress {
    const windowsBehind = Math.max(0, (liveBoundary - this.#lane.next) / this.#windowMs);
    const seconds = Math.max(0.001, (now - this.#startedAt) / 1000);
    const windowsPerSecond = (this.#lane.next - this.#startedFrom) / this.#windowMs / seconds;
    // The live path goes on meanwhile, by the clock.
    const gained = windowsPerSecond - 1000 / this.#windowMs;
    return { windowsBehind, windowsPerSecond, secondsLeft: gained > 0 ? windowsBehind / gained : null };
  }
}
