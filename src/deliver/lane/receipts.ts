/**
 * What a lane knows of the receipts in its store, by which it tells a store that holds older content: one that was
 * restored from a backup. A receipt says that the store has all windows before it. It is raised before the checkpoint
 * moves, so a store that has lost no content never holds one older than the checkpoint speaks of.
 */
import type { Clock } from '../../base/clock.ts';
import { isAsKnown, type Sink } from '../../sink/contract.ts';

/** If only empty windows follow the last one, another says nothing new: it only shows what the store holds. */
const UNCHANGED_MS = 60_000;

/** Whose receipt the lane gives, and which ones its store must hold. */
export interface KnownReceipts {
  /** Who writes: the same for all instances that write the same windows. */
  readonly writer: string;
  /** By writer: as the checkpoints say. */
  readonly known: ReadonlyMap<string, number>;
}

/** What the store holds, if that is older than it was: all windows before `to`; undefined if that is unknown. */
export interface OlderContent {
  readonly to: number | undefined;
}

/**
 * `unknown`: the store was not asked to keep one so far. `kept`: it has the last one. `failing`: the last one failed.
 * `none`: it cannot keep any, or does not let us.
 */
export type ReceiptState = 'unknown' | 'kept' | 'failing' | 'none';

/** What there is to know of the receipts of a lane. */
export interface ReceiptStatus {
  readonly state: ReceiptState;
  /** The own receipt, as far as it is known, in ms since 1970; null if there is none. */
  readonly until: number | null;
  /** The last one that failed; null if none did. */
  readonly lastFailure: { readonly at: number; readonly message: string } | null;
}

/** How soon a store that keeps no receipts is asked again: an operator may have let us meanwhile. */
const ASK_AGAIN_MS = 3_600_000;

type ReceiptSink = Pick<Sink, 'receipt' | 'giveReceipt'>;

export class Receipts {
  readonly #sink: ReceiptSink;
  readonly #clock: Pick<Clock, 'now' | 'steady'>;
  readonly #writer: string;
  /** By writer: what the store held when it was last asked. */
  readonly #known: Map<string, number>;
  /**
   * What the checkpoint says. While the store is filled again, that is more than the store holds. A slice that goes on
   * where others have stopped has only their receipts, until it gives its own.
   */
  #claimed: Readonly<Record<string, number>>;
  #state: ReceiptState = 'unknown';
  /** When a store that keeps none is asked again, by the steady clock. */
  #askAgainAt = 0;
  #lastFailure: ReceiptStatus['lastFailure'] = null;
  /** How many could not be given, for another reason than that the store keeps none. */
  failures = 0;
  /** The last one that was given, and when. */
  #given: { readonly time: number; readonly at: number } | undefined;

  constructor(sink: ReceiptSink, { writer, known }: KnownReceipts, clock: Pick<Clock, 'now' | 'steady'>) {
    this.#sink = sink;
    this.#clock = clock;
    this.#writer = writer;
    this.#known = new Map(known);
    this.#claimed = Object.fromEntries(known);
  }

  get status(): ReceiptStatus {
    const until = this.#known.get(this.#writer) ?? null;
    return { state: this.#state, until, lastFailure: this.#lastFailure };
  }

  /** One could not be given. Returns whether that is news. */
  failed(message: string): boolean {
    const isNews = this.#state !== 'failing';
    this.failures += 1;
    this.#state = 'failing';
    this.#lastFailure = { at: this.#clock.now(), message };
    return isNews;
  }

  /**
   * Asks the store for the receipts that it must hold. Resolves to a function that compares them, to be called when it
   * is known that this is still the same store; it returns undefined if the store has what it had.
   */
  async ask(signal: AbortSignal): Promise<() => OlderContent | undefined> {
    const asked: { readonly writer: string; readonly known: number; readonly held: number | undefined }[] =
      [];
    for (const [writer, known] of [...this.#known])
      asked.push({ writer, known, held: await this.#sink.receipt?.(writer, signal) });
    return () => {
      // One that has changed meanwhile was compared by whoever changed it.
      const older = asked.filter(
        ({ writer, known, held }) => this.#known.get(writer) === known && !isAsKnown(held, known),
      );
      for (const { writer, held } of older) this.#hold(writer, held);
      if (older.length === 0) return undefined;
      const held = older.map((one) => one.held);
      return { to: held.includes(undefined) ? undefined : Math.min(...held.map(Number)) };
    };
  }

  /** Whether one says anything new. `latest`: the start of the latest window that was written. */
  isDue(latest: number): boolean {
    const given = this.#given;
    return given === undefined || latest >= given.time || this.#clock.steady() - given.at >= UNCHANGED_MS;
  }

  /**
   * Raises the receipt to `time`, unless the store then turns out to hold older content. `isWhole`: whether it has all
   * windows before it, as far as the lane knows.
   */
  async give(time: number, isWhole: () => boolean, signal: AbortSignal): Promise<OlderContent | undefined> {
    const known = this.#known.get(this.#writer);
    const isFutile = this.#state === 'none' && this.#clock.steady() < this.#askAgainAt;
    if (isFutile || !isWhole()) return undefined;
    const told = await this.#sink.giveReceipt?.(this.#writer, time, known, signal);
    if (signal.aborted) {
      // Nobody waits for it any more. What it gave is there. Older content is not taken for known: it is found again.
      const isGiven = told !== undefined && isAsKnown(told.before, known);
      if (isGiven && this.#known.get(this.#writer) === known) this.#hold(this.#writer, time);
      return undefined;
    }
    this.#state = told === undefined ? 'none' : 'kept';
    if (told === undefined) this.#askAgainAt = this.#clock.steady() + ASK_AGAIN_MS;
    // Another content was found meanwhile.
    if (told === undefined || this.#known.get(this.#writer) !== known) return undefined;
    const { before } = told;
    if (!isAsKnown(before, known)) {
      this.#hold(this.#writer, before);
      return { to: before };
    }
    this.#hold(this.#writer, time);
    this.#given = { time, at: this.#clock.steady() };
    return undefined;
  }

  /** Returns what a checkpoint may say. `isWhole`: whether the store has all windows before the checkpoint. */
  claim(isWhole: boolean): Readonly<Record<string, number>> {
    const own = this.#known.get(this.#writer);
    if (isWhole && own !== undefined) this.#claimed = { [this.#writer]: own };
    // Nobody would raise them any more.
    if (isWhole && this.#state === 'none') this.#claimed = {};
    return this.#claimed;
  }

  /** Another store has taken the place of that one. */
  forget(): void {
    this.#known.clear();
    this.#given = undefined;
  }

  #hold(writer: string, held: number | undefined): void {
    this.#given = undefined;
    if (held === undefined) this.#known.delete(writer);
    else this.#known.set(writer, held);
  }
}
