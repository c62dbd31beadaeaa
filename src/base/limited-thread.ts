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
  // The process is started with bounds for the heap of its main thread, which V8 prefers to those of any thread.
  // Without them, the limits below count; the heap of the main thread, which exists, stays as it is. With most
  // other flags, the thread would start slowly: see garbage.ts.
  for (const bound of ['--max-semi-space-size=0', '--max-old-space-size=0']) setFlagsFromString(bound);
  return new Worker(url, {
    workerData,
    name,
    resourceLimits: { maxYoungGenerationSizeMb: young, maxOldGenerationSizeMb: old },
  });
}
