import { BACKOFF_CAP_MS, Bell, backoffMs, type Clock } from './clock.ts';

/** So many failures in a row, and the store is taken to be down. */
const FAILURES_TO_OPEN = 3;

/**
 * A circuit breaker. Closed: everybody may try. Open: nobody, until a growing wait is over; then one probe at a time,
 * whose success closes it. A store that is down is so asked seldom, and not by all writers at once when it comes back.
 */
export class Breaker {
  readonly #clock: Clock;
  readonly #changed = new Bell();
  #failures = 0;
  #retryAt = 0;
  #probing = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get closed(): boolean {
    return this.#failures < FAILURES_TO_OPEN;
  }

  /** Resolves when the caller may try; it must then report one of success, failure or release. */
  async enter(signal: AbortSignal): Promise<void> {
    while (!this.closed && !signal.aborted) {
      const wait = this.#retryAt - this.#clock.now();
      if (!this.#probing && wait <= 0) {
        this.#probing = true;
        return;
      }
      if (this.#probing) await this.#changed.wait(signal);
      else await this.#clock.sleep(wait, signal);
    }
  }

  success(): void {
    this.#failures = 0;
    this.release();
  }

  /** `afterMs`: not before; where the store said so, or where only an operator can help. */
  failure(afterMs = 0): void {
    this.#failures += 1;
    const wait = Math.max(afterMs, backoffMs(this.#failures, this.#clock.random()));
    this.#retryAt = this.#clock.now() + Math.min(wait, BACKOFF_CAP_MS);
    this.release();
  }

  /** Leaves without having learnt anything. */
  release(): void {
    this.#probing = false;
    this.#changed.ring();
  }
}
