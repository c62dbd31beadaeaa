/** Collecting garbage when we know better than V8 that it is worth it. Node.js has no other way to ask for it. */
import { getHeapStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

type Collect = (options?: { readonly type: 'major'; readonly flavor: 'last-resort' }) => void;

/** What a thread does first is over by then: its modules are loaded, and the store or the bus is connected. */
const SETTLED_MS = 5_000;
/** A larger heap is one that works: collecting it would take longer than 30 ms, and give little back. */
const MAX_SETTLED_BYTES = 48 * 1024 * 1024;

/**
 * Our threads have it from their start. Elsewhere it comes from another context of V8, which takes 0.2 MB: it is not
 * kept.
 */
function collector(): Collect {
  const { gc } = globalThis as { readonly gc?: Collect };
  if (gc !== undefined) return gc;
  setFlagsFromString('--expose-gc');
  return runInNewContext('gc') as Collect;
}

export function collectGarbage(): void {
  const collect = collector();
  collect();
}

/**
 * Soon gives back what this thread needed only to start: V8 collects a heap when it grows, and that of a thread which
 * has little to do does not. Every thread may call it, once.
 */
export function shrinkWhenSettled(afterMs: number = SETTLED_MS): void {
  setTimeout(() => {
    if (getHeapStatistics().used_heap_size > MAX_SETTLED_BYTES) return;
    const collect = collector();
    collect({ type: 'major', flavor: 'last-resort' });
  }, afterMs).unref();
}
