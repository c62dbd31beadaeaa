/** One thread for sinks that have little to do: each thread takes memory, most of which is the same in all of them. */
import { SinkWorker } from './sink-worker.ts';

/**
 * A window with more points is one that the others would have to wait for: encoding it takes some 10 ms for each sink.
 */
const MAX_LIGHT_POINTS = 5_000;

/** How often to look how busy the thread is. */
const LOOK_MS = 30_000;
/** If it was busy for more of the time, its sinks wait for each other. */
const MAX_BUSY_SHARE = 0.7;

export type SplitReason =
  | 'a window is large'
  | 'the thread is busy'
  | 'a sink stood still'
  | 'a sink ended the thread';

/** A sink that runs in the shared thread. */
export interface Sharer {
  /** It gets a thread of its own for new calls. Must not throw. */
  moveOut(): void;
}

export class SharedThread {
  readonly #sharers = new Set<Sharer>();
  readonly #split: (why: SplitReason) => void;
  readonly #lookMs: number;
  #worker: SinkWorker | undefined;
  /** Of the worker, at the last look; undefined until it has started. */
  #spent: SinkWorker['spent'] | undefined;
  #isSplit = false;

  /** `split`: told once, when each sink gets a thread of its own, for as long as the process runs. */
  constructor(split: (why: SplitReason) => void, lookMs: number = LOOK_MS) {
    this.#split = split;
    this.#lookMs = lookMs;
  }

  /** The thread, if this sink may run in it. It is told when it has to move out. */
  enter(sharer: Sharer): SinkWorker | undefined {
    if (this.#isSplit) return undefined;
    this.#sharers.add(sharer);
    if (!this.#worker?.takesSinks) {
      this.#worker = new SinkWorker('sinks');
      this.#spent = undefined;
    }
    return this.#worker;
  }

  /** The sink runs there no more. */
  leave(sharer: Sharer): void {
    this.#sharers.delete(sharer);
    if (this.#sharers.size === 0) this.#worker = undefined;
  }

  /** To be told before a window of so many points is written. */
  writes(points: number): void {
    if (points > MAX_LIGHT_POINTS) this.split('a window is large');
    else if (this.#isBusy()) this.split('the thread is busy');
  }

  /** At first it loads modules, and V8 compiles them. */
  #isBusy(): boolean {
    if (this.#worker === undefined) return false;
    const now = this.#worker.spent;
    const before = this.#spent;
    const [active, idle] = [now.active - (before?.active ?? 0), now.idle - (before?.idle ?? 0)];
    if (active + idle < this.#lookMs) return false;
    this.#spent = now;
    return before !== undefined && active > MAX_BUSY_SHARE * (active + idle);
  }

  /** If there is only one sink, it stays where it is: it has the thread for itself. */
  split(why: SplitReason): void {
    if (this.#sharers.size < 2) return;
    this.#isSplit = true;
    const sharers = [...this.#sharers];
    this.#sharers.clear();
    this.#worker = undefined;
    this.#split(why);
    for (const sharer of sharers) sharer.moveOut();
  }
}
