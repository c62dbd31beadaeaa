/**
 * Up to which time a mirror holds what its origin holds, by what the mirror says of itself. While nothing arrives, the
 * time of the bus moves only that far: what the mirror lacks may belong to any later time.
 *
 * A mirror that has just found its origin, or found it again, says that it has no lag before it has heard anything. So
 * one answer is not enough: between two of them that say so, it must have heard from its origin, which sends something
 * once a second. Then it has what the origin had when the mirror had heard from it before the first answer. (A message
 * that is on its way all the same reopens its window.)
 */

/** What a mirror says. */
export interface MirrorState {
  /** Messages that it has yet to get; 0 also if it does not know. */
  readonly lag: number;
  /** How long ago it heard from its origin; negative if it never did. */
  readonly heardMsAgo: number;
  readonly isBroken: boolean;
}

/** All times are by the local clock. */
export class MirrorLevel {
  /** The earlier answer that said that there is no lag. */
  #before: { readonly heardAt: number; readonly answeredAt: number } | undefined;
  #level: { readonly through: number; readonly since: number } | undefined;

  /** Takes an answer to a question of `askedAt`. */
  take({ lag, heardMsAgo, isBroken }: MirrorState, askedAt: number, answeredAt: number): void {
    if (lag > 0 || isBroken || heardMsAgo < 0) {
      this.#before = undefined;
      return;
    }
    const heardAt = askedAt - heardMsAgo;
    if (this.#before !== undefined) {
      if (heardAt <= this.#before.answeredAt) return;
      this.#level = { through: this.#before.heardAt, since: answeredAt };
    }
    this.#before = { heardAt, answeredAt };
  }

  /**
   * Returns the time up to which the mirror held everything at `time`; undefined if that is not known, or was not known
   * yet then.
   */
  at(time: number): number | undefined {
    return this.#level !== undefined && time >= this.#level.since ? this.#level.through : undefined;
  }
}
