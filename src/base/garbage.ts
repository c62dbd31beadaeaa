/** Collecting garbage when we know better than V8 that it is worth it. Node.js has no other way to ask for it. */
import { getHeapStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

type Collect = (options?: { readonly type: 'major'; readonly flavor: 'last-resort' }) => void;
/** V8 otherwise keeps the pages that become free, and code that is not used any more. */
const GIVES_BACK = { type: 'major', flavor: 'last-resort' } as const;

/** What a thread does first is over by then: its modules are loaded, and the store or the bus is connected. */
const SETTLED_MS = 5_000;
/** How often a thread then looks whether its heap has grown. */
const LOOK_MS = 120_000;
/** By so much. A collection takes 10 to 60 ms, and then some code has to be compiled again. */
const GROWN_BYTES = 3 * 1024 * 1024;
/** A larger heap is one that works: collecting it would take up to 200 ms, and give little back. */
const MAX_SMALL_BYTES = 24 * 1024 * 1024;

/** Enough: another thread would have to come between each time. */
const MAX_TRIES = 100;

/**
 * It comes from another context of V8, which takes 0.2 MB. The flag is set for that moment only: with another flag
 * than at the start of the process, V8 does not take the code that Node.js keeps of its own modules, and a thread needs
 * twice as long to start. All threads have the same flags: one that is done may clear the flag that this one has just
 * set, and then the context has no collector.
 */
function collector(): Collect | undefined {
  const { gc } = globalThis as { readonly gc?: Collect };
  if (gc !== undefined) return gc;
  for (let tries = 0; tries < MAX_TRIES; tries++) {
    setFlagsFromString('--expose-gc');
    try {
      const found = runInNewContext('globalThis.gc') as Collect | undefined;
      if (found !== undefined) return found;
    } finally {
      setFlagsFromString('--no-expose-gc');
    }
  }
  return undefined;
}

let kept: Collect | undefined;
let isLookedAt = false;

/** A thread that needs it twice needs it again: it keeps the other context. */
function keptCollector(): Collect | undefined {
  kept ??= collector();
  return kept;
}

export function collectGarbage(): void {
  keptCollector()?.();
}

export interface HeapLooks {
  /** Milliseconds until the first collection, and from then on between two looks. */
  readonly settledMs: number;
  readonly lookMs: number;
}

/**
 * Gives back what this thread needed only to start, and later what its work left: V8 collects a heap when it has grown
 * by half or so, and that of a thread with little to do may stay as large for an hour. Goes on as long as the thread
 * does: a second call does nothing.
 */
export function keepHeapSmall(
  { settledMs, lookMs }: HeapLooks = { settledMs: SETTLED_MS, lookMs: LOOK_MS },
): void {
  if (isLookedAt) return;
  isLookedAt = true;
  let leastBytes = 0;
  const look = (collect: () => Collect | undefined) => {
    const { used_heap_size: used, total_heap_size: bytes } = getHeapStatistics();
    if (bytes < leastBytes + GROWN_BYTES || used > MAX_SMALL_BYTES) return;
    collect()?.(GIVES_BACK);
    leastBytes = getHeapStatistics().total_heap_size;
  };
  setTimeout(() => {
    // An idle thread never needs another one, so it is not kept.
    look(collector);
    setInterval(look, lookMs, keptCollector).unref();
  }, settledMs).unref();
}
