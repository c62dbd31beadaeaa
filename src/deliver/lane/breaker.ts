import { BACKOFF_CAP_MS, Bell, backoffMs, type Clock } from '../../base/clock.ts';

/** After this many failures in a row, the store is considered down. */
const FAILURES_TO_OPEN = 3;

/** How many failures in a row there were when an attempt began. */
export type Attempt = number;

/**
 * A circuit breaker. Closed: every caller may try. Open: nobody may, until a growing wait ends; then one probe at a
 * time, and a successful one closes it. So a store that is down is tried rarely, and not by all writers at once when it
 * comes back.
 */
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

  /** Before that, by the steady clock, nobody may try. Undefined while the one who may is trying. */
  get retryAt(): number | undefined {
    if (this.closed) return 0;
    return this.#probing ? undefined : this.#retryAt;
  }

  get closed(): boolean {
    return this.#failures < FAILURES_TO_OPEN;
  }

  /**
   * Resolves when the caller may try. The caller must then report `success`, `failure` (with the attempt that this
   * resolves to) or `release`.
   */
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
   * `afterMs`: the earliest time for the next attempt, if the store named one or only an operator can help. Attempts
   * that began together and fail together count as one failure: one momentary fault must not count as many in a row.
   */
  failure(attempt: Attempt, afterMs = 0): void {
    if (attempt >= this.#failures) this.#failures += 1;
    const wait = Math.max(afterMs, backoffMs(this.#failures, this.#clock.random()));
    this.#retryAt = Math.max(this.#retryAt, this.#clock.steady() + Math.min(wait, BACKOFF_CAP_MS));
    this.release();
  }

  /** Ends an attempt that told us nothing about the store. */
  release(): void {
    this.#probing = false;
    this.#changed.ring();
  }
}
