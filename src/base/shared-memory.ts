/**
 * Frees memory that threads share. V8 does not count it: a thread that has little else to do collects no garbage, and
 * keeps all that it was ever given.
 */
import { collectGarbage } from './garbage.ts';

/** Garbage is collected once this much may be free, in bytes: it takes some 10 to 40 ms. */
const MIN_RETIRED_BYTES = 8 * 1024 * 1024;

let freedBytes = 0;

/** `retiredBytes`: how much was given up so far, of which somebody in this thread may have had a part. */
export function freeSharedMemory(retiredBytes: number): void {
  // Another count has begun.
  if (retiredBytes < freedBytes) freedBytes = 0;
  if (retiredBytes - freedBytes < MIN_RETIRED_BYTES) return;
  freedBytes = retiredBytes;
  collectGarbage();
}
