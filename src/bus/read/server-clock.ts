/**
 * The server's clock, estimated so that the estimate is never ahead of it: with nothing pending, windows close by this
 * clock (I2), and closing one too early would be wrong where closing it late is only late.
 *
 * The server stamps what it stores. A stamp taken between the local times `before` and `after` says that the server's
 * clock is ahead of ours by at least `stamp - after` and at most `stamp + 1 - before` (stamps are rounded down to
 * milliseconds). The largest lower bound is kept, loosened as time passes by what two clocks may drift apart.
 */

/** Clocks of ordinary machines drift less than this apart, per ms: 200 parts per million. */
const DRIFT_PER_MS = 0.0002;

export class ServerClock {
  /** Lower bound of the server's clock less ours, as of `#at`. */
  #offset: number | undefined;
  #at = 0;

  /** Something of ours was stamped: sent at `before`, known to be stored at `after`. */
  stamped(serverMs: number, before: number, after: number): void {
    const lower = serverMs - after;
    const upper = serverMs + 1 - before;
    const kept = this.#offsetAt(after);
    // A bound above the upper one shows that a clock was set: what was known before is worth nothing.
    const isStale = kept === undefined || kept > upper;
    this.#set(isStale ? lower : Math.max(kept, lower), after);
  }

  /** A message stamped `serverMs` arrived: the server's clock was at least there. */
  arrived(serverMs: number, now: number): void {
    const kept = this.#offsetAt(now);
    if (kept === undefined || serverMs - now > kept) this.#set(serverMs - now, now);
  }

  /** What the server's clock showed at least when ours showed `localMs`; undefined before anything is known. */
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

/** Milliseconds since 1970 by a clock that is never set: whatever happens to the system's, differences stay true. */
export function steadyNow(): number {
  return performance.timeOrigin + performance.now();
}
