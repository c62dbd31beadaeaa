/** A thread whose heap has limits of its own. */
import { setFlagsFromString } from 'node:v8';
import { Worker } from 'node:worker_threads';

/** In MB. */
export interface HeapLimits {
  /** Short-lived objects. */
  readonly young: number;
  /** All others. */
  readonly old: number;
}

export function startThread(url: URL, name: string, workerData: unknown, { young, old }: HeapLimits): Worker {
  // The process is started with a bound for the young heap of its main thread, which V8 prefers to that of any thread.
  // Without it, the limit below counts; the heap of the main thread, which exists, stays as it is.
  setFlagsFromString('--max-semi-space-size=0');
  return new Worker(url, {
    workerData,
    name,
    resourceLimits: { maxYoungGenerationSizeMb: young, maxOldGenerationSizeMb: old },
  });
}
