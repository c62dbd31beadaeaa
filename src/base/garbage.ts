/** Collecting garbage when we know better than V8 that it is worth it. Node.js has no other way to ask for it. */
import { getHeapStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

type Collect = (options?: { readonly type: 'major'; readonly flavor: 'last-resort' }) => void;

/** What a thread does first is over by then: its modules are loaded, and the store or the bus is connected. */
const SETTLED_MS = 5_000;
/** A larger heap is one that works: collecting it would take longer than 30 ms, and give little back. */
const MAX_SETTLED_BYTES = 48 * 1024 * 1024;

/**
 * It comes from another context of V8, which takes 0.2 MB. The flag is set for that moment only: with another flag
 * than at the start of the process, V8 does not take the code that Node.js keeps of its own modules, and a thread needs
 * twice as long to start.
 */
function collector(): Collect {
  const { gc } = globalThis as { readonly gc?: Collect };
  if (gc !== undefined) return gc;
  setFlagsFromString('--expose-gc');
  try {
    return runInNewContext('gc') as Collect;
  } finally {
    setFlagsFromString('--no-expose-gc');
  }
}

let kept: Collect | undefined;

/** A thread that needs it once needs it again: it keeps the other context. */
export function collectGarbage(): void {
  kept ??= collector();
  kept();
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
