import { BACKOFF_CAP_MS, Bell, backoffMs, type Clock } from '../../base/clock.ts';

/** So many failures in a row, and the store is taken to be down. */
const FAILURES_TO_OPEN = 3;

/**
 * A circuit breaker. Closed: everybody may try. Open: nobody, until a growing wait is over; then one probe at a time,
 * whose success closes it. A store that is down is so asked seldom, and not by all writers at once when it comes back.
 */
/** How many failures in a row there were when an attempt began. */
export type Attempt = number;

export class Breaker {
  readonly #clock: Clock;
  readonly #changed = new Bell();
  #failures = 0;
  /** By the steady clock. */
  #retryAt = 0;
  #probing = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get closed(): boolean {
    return this.#failures < FAILURES_TO_OPEN;
  }

  /** Resolves when the caller may try; it must then report one of success, failure or release, with what it got. */
  async enter(signal: AbortSignal): Promise<Attempt> {
    while (!this.closed && !signal.aborted) {
      const wait = this.#retryAt - this.#clock.steady();
      if (!this.#probing && wait <= 0) {
        this.#probing = true;
        break;
      }
      if (this.#probing) await this.#changed.wait(signal);
      else await this.#clock.sleep(wait, signal);
    }
    return this.#failures;
  }

  success(): void {
    this.#failures = 0;
    this.#retryAt = 0;
    this.release();
  }

  /**
   * `afterMs`: not before; where the store said so, or where only an operator can help. Attempts that began together
   * and fail together are one failure: a moment's fault must not count as many in a row.
   */
  failure(attempt: Attempt, afterMs = 0): void {
    if (attempt >= this.#failures) this.#failures += 1;
    const wait = Math.max(afterMs, backoffMs(this.#failures, this.#clock.random()));
    this.#retryAt = Math.max(this.#retryAt, this.#clock.steady() + Math.min(wait, BACKOFF_CAP_MS));
    this.release();
  }

  /** Leaves without having learnt anything. */
  release(): void {
    this.#probing = false;
    this.#changed.ring();
  }
}
