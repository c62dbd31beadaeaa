/** A thread that runs sinks, seen from outside. */
import { setTimeout as sleep } from 'node:timers/promises';
import { getHeapStatistics } from 'node:v8';
import { MessageChannel, type MessagePort, type Worker } from 'node:worker_threads';
import { errorText } from '../../base/error-text.ts';
import { startThread } from '../../base/limited-thread.ts';
import { ownModule } from '../../base/own-program.ts';
import { threadEnded, threadStarted } from '../../base/process-end.ts';
import type { SeatData, ThreadData } from './messages.ts';

/**
 * The part of a thread's heap for short-lived objects. By default V8 takes up to 96 MB for each thread, and gives it
 * back late. With more than this, nothing gets faster.
 */
const YOUNG_HEAP_MB = 6;
/**
 * At most, for all other objects. A thread needs some 40 MB. If V8 may take 2 GB or more, it lets the heap grow to four
 * times what is in use before it looks for garbage; with this bound, to 1.4 times.
 */
const MAX_OLD_HEAP_MB = 512;
/** How long to wait for a thread that was ended. One that is blocked in the operating system is left behind. */
const TERMINATE_TIMEOUT_MS = 1000;
const THREAD_ENDED = 'the thread of the sink ended';

export class SinkWorker {
  readonly #worker: Worker;
  /** What to do when the thread has ended, by the sink's port. */
  readonly #seats = new Map<MessagePort, (error: Error) => void>();
  #ended: Error | undefined;
  #isGivenUp = false;
  readonly #stillness = Promise.withResolvers<void>();

  constructor(name: string) {
    const limits = { young: YOUNG_HEAP_MB, old: oldHeapMb() };
    this.#worker = startThread(ownModule('deliver/thread/sink-thread'), name, undefined, limits);
    let failure: Error | undefined;
    this.#worker.on('error', (thrown: unknown) => {
      failure = new Error(`the thread of the sink failed: ${errorText(thrown)}`);
    });
    this.#worker.on('exit', () => {
      threadEnded(this);
      this.#ended = failure ?? new Error(THREAD_ENDED);
      const seats = [...this.#seats.values()];
      this.#seats.clear();
      for (const ended of seats) ended(this.#ended);
    });
    this.#worker.unref();
    threadStarted(this);
  }

  /** Since its start, how long the thread had something to do, and how long it had not, in ms. */
  get spent(): { readonly active: number; readonly idle: number } {
    return this.#worker.performance.eventLoopUtilization();
  }

  /** Not if it has ended or soon will, nor if it may be blocked. */
  get takesSinks(): boolean {
    return this.#ended === undefined && !this.#isGivenUp;
  }

  /** Nobody has ended it. */
  get endedByItself(): boolean {
    return this.#ended !== undefined && !this.#isGivenUp;
  }

  /** Resolves when one of its sinks stands still. */
  get stillness(): Promise<void> {
    return this.#stillness.promise;
  }

  standsStill(): void {
    this.#isGivenUp = true;
    this.#stillness.resolve();
  }

  /** Has the thread run a sink, which is spoken to through the port. `ended` is called once. */
  seat(data: ThreadData, ended: (error: Error) => void): MessagePort {
    const { port1: here, port2: port } = new MessageChannel();
    this.#seats.set(here, ended);
    const seat: SeatData = { data, port };
    this.#worker.postMessage(seat, [port]);
    return here;
  }

  /** Gives up the sink of this port; the thread ends after the last one. Resolves soon, whatever the thread does. */
  async leave(port: MessagePort): Promise<void> {
    port.close();
    const left = this.#seats.get(port);
    if (left === undefined) return;
    if (this.#seats.size > 1) {
      this.#seats.delete(port);
      left(new Error(THREAD_ENDED));
      return;
    }
    this.#isGivenUp = true;
    const ended = new AbortController();
    const late = sleep(TERMINATE_TIMEOUT_MS, undefined, { signal: ended.signal }).catch(() => {});
    await Promise.race([this.#worker.terminate(), late]);
    ended.abort();
  }
}

/** In a small container, the whole process has less. */
function oldHeapMb(): number {
  return Math.min(MAX_OLD_HEAP_MB, Math.floor(getHeapStatistics().heap_size_limit / 2 ** 20));
}
