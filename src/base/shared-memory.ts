/**
 * Frees memory that threads share. V8 does not count it: a thread that has little else to do collects no garbage, and
 * keeps all that it was ever given.
 */
import { collectGarbage } from './garbage.ts';

/** Garbage is collected once this much may be free, in bytes: it takes some 10 to 40 ms. */
const MIN_RETIRED_BYTES = 8 * 1024 * 1024;

/** One that gives up memory, of several in this thread. */
export class SharedMemoryCount {
  #freedBytes = 0;

  /** `retiredBytes`: how much was given up so far, of which somebody in this thread may have had a part. */
  free(retiredBytes: number): void {
    // Another count has begun.
    if (retiredBytes < this.#freedBytes) this.#freedBytes = 0;
    if (retiredBytes - this.#freedBytes < MIN_RETIRED_BYTES) return;
    this.#freedBytes = retiredBytes;
    collectGarbage();
  }
}
