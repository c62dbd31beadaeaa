import { Bell, backoffMs, type Clock } from '../../base/clock.ts';
import { BucketGone, type BusError, UnreadableCheckpoint } from '../../bus/bus-error.ts';
import type { Checkpoint, CheckpointStore } from '../../bus/kv/checkpoints.ts';

/** A lane saves its checkpoint at most this often. After a crash, what it confirmed since the last save is replayed. */
const SAVE_INTERVAL_MS = 1000;

export interface KeeperOptions {
  readonly sink: string;
  readonly store: CheckpointStore;
  /** Returns what a checkpoint at `next` records about the settings and the time. */
  readonly describe: (next: number) => Omit<Checkpoint, 'next' | 'sequence' | 'store' | 'receipts'>;
  readonly clock: Clock;
  /** A checkpoint could not be saved. It is tried again, except `atStop`. */
  readonly failed: (error: unknown, next: number, atStop: boolean) => void;
}

/** Saves a lane's checkpoint in the background: a checkpoint store that is down or slow does not stop the lane. */
export class CheckpointKeeper {
  failures = 0;
  /** Whether the bucket was deleted, and no checkpoint has been saved since. */
  isBucketGone = false;
  /** Called when the stored checkpoint turns out to be unreadable, and with undefined when it is readable again. */
  onUnreadable: ((error: BusError | undefined) => void) | undefined;
  /**
   * Called before a checkpoint is saved. Resolves to what it may say of the store's receipts. `isFirst`: nothing was
   * saved so far.
   */
  receiptsFor: ((next: number, isFirst: boolean) => Promise<Checkpoint['receipts']>) | undefined;
  /** Called while a lane fills a store again, at most once per SAVE_INTERVAL_MS: it has the windows before `next`. */
  refilledTo: ((next: number) => Promise<void>) | undefined;
  readonly #options: KeeperOptions;
  readonly #moved = new Bell();
  readonly #stored = Promise.withResolvers<void>();
  #next: number | undefined;
  /** How far the store is filled again; undefined if nobody has to be told. */
  #refilled: number | undefined;
  #sequence = 0;
  #store: string | undefined;
  #saved: number | undefined;
  #sent: number | undefined;
  #isUnreadable = false;

  constructor(options: KeeperOptions) {
    this.#options = options;
  }

  /**
   * I5: every window before `next` is confirmed, and was closed when everything up to `sequence` had been read.
   * `store`: the identity of the store that has them; undefined if unknown. A checkpoint never moves backwards: while a
   * lane fills an empty store again, the last one stays, and says of which store it is.
   */
  confirmed(next: number, sequence: number, store?: string): void {
    if (this.#next !== undefined && next <= this.#next) {
      if (next === this.#next) return;
      this.#refilled = next;
      this.#moved.ring();
      return;
    }
    this.#refilled = undefined;
    this.#next = next;
    this.#sequence = sequence;
    this.#store = store;
    this.#moved.ring();
  }

  /** Resolves when a checkpoint is stored, ours or that of another instance. */
  get stored(): Promise<void> {
    return this.#stored.promise;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    while (!signal.aborted) {
      await this.#moved.wait(signal);
      await this.#tellRefilled();
      for (let attempt = 1; !signal.aborted && this.#saved !== this.#next; attempt++) {
        if (await this.#save(false)) break;
        await clock.sleep(backoffMs(attempt, clock.random()), signal);
      }
      await clock.sleep(SAVE_INTERVAL_MS, signal);
    }
  }

  async #tellRefilled(): Promise<void> {
    const next = this.#refilled;
    if (next === undefined) return;
    this.#refilled = undefined;
    await this.refilledTo?.(next);
  }

  /** Tries once more to save the last checkpoint. */
  async flush(): Promise<void> {
    if (this.#saved !== this.#next) await this.#save(true);
  }

  async #save(atStop: boolean): Promise<boolean> {
    const next = this.#next;
    if (next === undefined || !Number.isFinite(next)) return true;
    try {
      const { store, sink, describe } = this.#options;
      const checkpoint = { ...describe(next), store: this.#store, next, sequence: this.#sequence };
      // First the receipt: a store that then has an older one has lost what the checkpoint speaks of.
      const receipts = await this.receiptsFor?.(next, this.#saved === undefined);
      // Meanwhile, a later one may have been sent.
      if (this.#sent !== undefined && this.#sent > next) return true;
      this.#sent = next;
      await store.save(sink, { ...checkpoint, ...(receipts !== undefined && { receipts }) });
      this.#saved = next;
      this.#stored.resolve();
      this.isBucketGone = false;
      this.#found(undefined);
      return true;
    } catch (error) {
      this.failures += 1;
      if (error instanceof BucketGone) this.isBucketGone = true;
      if (error instanceof UnreadableCheckpoint) this.#found(error);
      this.#options.failed(error, next, atStop);
      return false;
    }
  }

  #found(error: BusError | undefined): void {
    if (error === undefined && !this.#isUnreadable) return;
    this.#isUnreadable = error !== undefined;
    this.onUnreadable?.(error);
  }
}
