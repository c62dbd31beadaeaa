/** A sign of life that one thread gives and others read. Reading it does not wake the thread that gives it. */

const NS_PER_MS = 1e6;

export class Heartbeat {
  /** To be handed to the threads that read it. */
  readonly memory: SharedArrayBuffer;
  readonly #now: () => bigint;
  readonly #last: BigInt64Array;

  /**
   * `now`: nanoseconds by a clock that is never set and that all threads share. (Each has a `performance.now` of its
   * own.)
   */
  constructor(
    memory = new SharedArrayBuffer(BigInt64Array.BYTES_PER_ELEMENT),
    now: () => bigint = process.hrtime.bigint,
  ) {
    this.memory = memory;
    this.#now = now;
    this.#last = new BigInt64Array(memory);
  }

  beat(): void {
    Atomics.store(this.#last, 0, this.#now());
  }

  /** Milliseconds since the last beat. */
  get silentMs(): number {
    return Number(this.#now() - Atomics.load(this.#last, 0)) / NS_PER_MS;
  }
}
