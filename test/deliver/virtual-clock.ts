import { setImmediate } from 'node:timers/promises';
import type { Clock } from '../../src/base/clock.ts';

/** A clock that moves only on demand, and a random source with a seed: runs are exactly repeatable. */
export class VirtualClock implements Clock {
  /** The time that has passed, by the steady clock. */
  #passed = 0;
  /** How much more the machine's clock shows. */
  #offset: number;
  #seed: number;
  #sleepers: { readonly at: number; readonly wake: () => void }[] = [];

  constructor(start = 1_700_000_000_000, seed = 1) {
    this.#offset = start;
    this.#seed = seed;
  }

  now(): number {
    return this.#passed + this.#offset;
  }

  steady(): number {
    return this.#passed;
  }

  /** Sets the machine's clock back. */
  setBack(ms: number): void {
    this.#offset -= ms;
  }

  /** Mulberry32. */
  random(): number {
    this.#seed = (this.#seed + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#seed ^ (this.#seed >>> 15), 1 | this.#seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  sleep(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal.aborted) return resolve();
      const wake = () => {
        // Each listener that is left makes adding the next one slower.
        signal.removeEventListener('abort', wake);
        resolve();
      };
      signal.addEventListener('abort', wake);
      this.#sleepers.push({ at: this.#passed + Math.max(0, ms), wake });
    });
  }

  nextTurn(): Promise<void> {
    return setImmediate();
  }

  /** Lets `ms` pass: wakes every sleeper at its time, and lets its work run before the next one wakes. */
  async pass(ms: number): Promise<void> {
    const until = this.#passed + ms;
    await settle();
    for (;;) {
      const next = this.#sleepers.reduce<number>(
        (least, { at }) => Math.min(least, at),
        Number.POSITIVE_INFINITY,
      );
      if (next > until) break;
      this.#passed = Math.max(this.#passed, next);
      const due = this.#sleepers.filter(({ at }) => at <= this.#passed);
      this.#sleepers = this.#sleepers.filter(({ at }) => at > this.#passed);
      for (const { wake } of due) wake();
      await settle();
    }
    this.#passed = until;
  }
}

/** Waits until everything that can run without time passing has run. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 5; i++) await setImmediate();
}
