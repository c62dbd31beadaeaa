import { setImmediate, setTimeout } from 'node:timers/promises';

/** Time and chance, passed in so that the whole pipeline can run on a virtual clock from a seed. */
export interface Clock {
  /** Milliseconds since 1970. */
  now(): number;
  /**
   * Milliseconds since some moment, by a clock that is never set: for durations and due times. `now` may jump, also
   * back, when somebody sets the clock of the machine.
   */
  steady(): number;
  /** Resolves after `ms`, or at once when the signal aborts. Never rejects: the caller checks its signal. */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
  /** Resolves when all other work of the thread that is due has had its turn. */
  nextTurn(): Promise<void>;
  /** Returns a number in [0, 1). */
  random(): number;
}

/**
 * libuv accepts one connection in each round of the event loop. If there were one round between two long pieces of
 * work, requests over the control socket would wait behind all other connections to it, and be lost once 511 wait. An
 * idle round takes 2 us.
 */
const ROUNDS_PER_TURN = 16;

export const systemClock: Clock = {
  now: Date.now,
  steady: () => performance.now(),
  random: Math.random,
  async sleep(ms, signal) {
    await setTimeout(ms, undefined, { signal }).catch(() => {});
  },
  async nextTurn() {
    for (let round = 0; round < ROUNDS_PER_TURN; round++) await setImmediate();
  },
};

const BACKOFF_BASE_MS = 100;
export const BACKOFF_CAP_MS = 30_000;

/**
 * Returns how long to wait before attempt number `attempt` (from 1): exponential with full jitter (Brooker,
 * "Exponential Backoff And Jitter", 2015), so that lanes that failed together do not all retry together.
 */
export function backoffMs(attempt: number, random: number): number {
  return Math.round(random * Math.min(BACKOFF_CAP_MS, BACKOFF_BASE_MS * 2 ** Math.min(attempt, 20)));
}

/**
 * Resolves as the promise does, or to undefined when the signal aborts. Nobody waits for the promise then: whether it
 * rejects does not matter.
 */
export async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T | undefined> {
  promise.catch(() => {});
  const { promise: aborted, resolve } = Promise.withResolvers<undefined>();
  const stop = () => resolve(undefined);
  signal.addEventListener('abort', stop);
  if (signal.aborted) stop();
  return await Promise.race([promise, aborted]).finally(() => signal.removeEventListener('abort', stop));
}

/** Lets one task sleep until another has something for it. A ring that nobody waits for is kept, once. */
export class Bell {
  #pending = false;
  #waiters: (() => void)[] = [];

  ring(): void {
    this.#pending = this.#waiters.length === 0;
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const wake of waiters) wake();
  }

  /** Resolves at the next ring (at once if one was kept), or when the signal aborts. */
  async wait(signal: AbortSignal): Promise<void> {
    if (this.#pending || signal.aborted) {
      this.#pending = false;
      return;
    }
    await new Promise<void>((resolve) => {
      const done = () => {
        signal.removeEventListener('abort', done);
        resolve();
      };
      signal.addEventListener('abort', done);
      this.#waiters.push(done);
    });
  }
}
