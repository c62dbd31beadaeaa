import type { SampleHandler } from './decoder.ts';
import type { InputRejection } from './rejection.ts';

/**
 * The rejected elements of one message, which are handed over together: a message may hold half a million of them, and
 * a call for each would take longer than reading it.
 */
export class RejectedElements {
  readonly #counts = new Map<InputRejection, number>();

  add(reason: InputRejection, count = 1): void {
    this.#counts.set(reason, (this.#counts.get(reason) ?? 0) + count);
  }

  /** Hands over what was added since the last call. */
  hand(handler: SampleHandler, message: Uint8Array): void {
    for (const [reason, count] of this.#counts) handler.rejected(reason, message, count);
    this.#counts.clear();
  }
}
