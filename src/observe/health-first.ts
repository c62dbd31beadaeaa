/**
 * Health before everything else: while a crowd connects, other requests wait. Node.js takes one new connection in a
 * round of its event loop, so the answers to those who came before a health check would delay it by as much as they
 * take, each in its round.
 */

/** While others connect, one request in so many rounds is answered: whoever connects all the time must not stop it. */
const ROUNDS_WHILE_CROWDED = 8;

export class HealthFirst {
  readonly #nextRound: (work: () => void) => unknown;
  readonly #waiting = new Set<() => void>();
  #hasNewcomer = false;
  #isNextRoundOurs = false;
  #passed = 0;

  /** `nextRound`: has a function called in the next round of the event loop. */
  constructor(nextRound: (work: () => void) => unknown = setImmediate) {
    this.#nextRound = nextRound;
  }

  /** Somebody has connected. */
  newcomer(): void {
    this.#hasNewcomer = true;
  }

  /**
   * Does the work when nobody connects any longer, or it is its turn. Returns a function that gives it up, for when the
   * peer has left: so there is no more to be done than there are connections.
   */
  later(work: () => void): () => void {
    this.#waiting.add(work);
    if (!this.#isNextRoundOurs) this.#inNextRound();
    return () => this.#waiting.delete(work);
  }

  #inNextRound(): void {
    this.#isNextRoundOurs = true;
    this.#nextRound(this.#round);
  }

  readonly #round = (): void => {
    this.#isNextRoundOurs = false;
    const isCrowded = this.#hasNewcomer;
    this.#hasNewcomer = false;
    this.#passed += 1;
    if (!isCrowded || this.#passed >= ROUNDS_WHILE_CROWDED) {
      this.#passed = 0;
      const [work] = this.#waiting;
      if (work !== undefined) {
        this.#waiting.delete(work);
        work();
      }
    }
    if (this.#waiting.size > 0 && !this.#isNextRoundOurs) this.#inNextRound();
  };
}
