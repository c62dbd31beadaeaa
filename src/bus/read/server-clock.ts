/**
 * Estimates the server's clock, never ahead of it. With nothing pending, windows close by this clock (I2): closing one
 * too early would be wrong, closing one too late is only late.
 *
 * The server timestamps what it stores. A timestamp taken between the local times `before` and `after` shows that the
 * server's clock is ahead of ours by at least `stamp - after` and at most `stamp + 1 - before` (timestamps are rounded
 * down to milliseconds). The largest lower bound is kept, and loosened over time by how far two clocks may drift apart.
 */

/** Clocks of ordinary machines drift apart by less than this per ms: 200 parts per million. */
const DRIFT_PER_MS = 0.0002;

export class ServerClock {
  /** Lower bound of the server's clock minus ours, as of `#at`. */
  #offset: number | undefined;
  #at = 0;

  /** Takes the timestamp of something we sent at `before`, and that was known to be stored at `after`. */
  stamped(serverMs: number, before: number, after: number): void {
    const lower = serverMs - after;
    const upper = serverMs + 1 - before;
    const kept = this.#offsetAt(after);
    // A lower bound above the upper bound shows that a clock was set: earlier knowledge is worthless.
    const isStale = kept === undefined || kept > upper;
    this.#set(isStale ? lower : Math.max(kept, lower), after);
  }

  /** Takes the timestamp of a message that arrived: the server's clock had reached at least `serverMs`. */
  arrived(serverMs: number, now: number): void {
    const kept = this.#offsetAt(now);
    if (kept === undefined || serverMs - now > kept) this.#set(serverMs - now, now);
  }

  /**
   * Returns the least that the server's clock showed when ours showed `localMs`; undefined before anything is known.
   */
  at(localMs: number): number | undefined {
    const offset = this.#offsetAt(localMs);
    return offset === undefined ? undefined : Math.floor(localMs + offset);
  }

  #offsetAt(localMs: number): number | undefined {
    return this.#offset === undefined
      ? undefined
      : this.#offset - Math.abs(localMs - this.#at) * DRIFT_PER_MS;
  }

  #set(offset: number, at: number): void {
    this.#offset = offset;
    this.#at = at;
  }
}

/**
 * Returns milliseconds since 1970 by a clock that is never set: whatever happens to the system's clock, differences
 * stay true.
 */
export function steadyNow(): number {
  return performance.timeOrigin + performance.now();
}
