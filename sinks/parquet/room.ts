/** Bounds the bytes that are in memory at once: who needs more than there is waits, and all in the order of asking. */
export class Room {
  readonly #bytes: number;
  #taken = 0;
  readonly #waiting: { readonly bytes: number; readonly enter: () => void }[] = [];

  constructor(bytes: number) {
    this.#bytes = bytes;
  }

  /** Resolves to what gives the bytes back, which may be called twice. More than there is in all comes in alone. */
  async take(bytes: number, signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const one = { bytes, enter: resolve };
    const abort = () => {
      const at = this.#waiting.indexOf(one);
      if (at < 0) return;
      this.#waiting.splice(at, 1);
      this.#letIn();
      reject(signal.reason);
    };
    this.#waiting.push(one);
    signal.addEventListener('abort', abort);
    this.#letIn();
    try {
      await promise;
    } finally {
      signal.removeEventListener('abort', abort);
    }
    let left = bytes;
    return () => {
      this.#taken -= left;
      left = 0;
      this.#letIn();
    };
  }

  #letIn(): void {
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      if (this.#taken > 0 && this.#taken + next.bytes > this.#bytes) return;
      this.#waiting.shift();
      this.#taken += next.bytes;
      next.enter();
    }
  }
}
