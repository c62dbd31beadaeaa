/**
 * Verifies a share of a lane's windows while the service runs: some time after a window was confirmed, what the store
 * holds of it is read back and compared with a digest of what was written; for some, with one of the window computed
 * again from the stream as well. One window at a time, and never where that could hold up the lane.
 */
import type { ClosedWindow } from '../aggregate/window.ts';
import { Bell, type Clock } from '../base/clock.ts';
import { type Digest, isChosen, isSameDigest, NO_ROWS } from './lane/digest.ts';
import { windowBytes } from './lane/queue.ts';
import type { SinkDigests } from './lane/writer.ts';
import type { Recomputed } from './replay/recompute-window.ts';

/** Windows that wait to be verified; those past it are unknown. */
const MAX_WAITING = 1000;
/**
 * Whole windows that are kept to be read back by their keys, for a store that cannot be asked for a range (DynamoDB).
 * A window that does not fit is unknown.
 */
export const MAX_KEPT_BYTES = 64_000_000;
/** Windows that a lane remembers to have been reopened: what must have been read to compute one again. */
const MAX_REOPENED = 1000;
/** Of one window, read back or computed again; where that takes longer, it cannot be verified. */
const TIMEOUT_MS = 120_000;
/** After a difference was found, until the store is read once more. */
const SECOND_LOOK_MS = 5000;

export interface VerifySettings {
  /** Of the confirmed windows, from 0 to 1. */
  readonly share: number;
  /** Of the confirmed windows, those that are computed again as well. */
  readonly replayShare: number;
  /** From the confirmation until a window is read back. */
  readonly delayMs: number;
}

/** Windows that were read back since the start and compared with what was written, a share of all. */
export interface VerifiedWindows {
  readonly equal: number;
  readonly different: number;
  /** Could not be judged: the store did not answer, was catching up, or cannot be read. */
  readonly unknown: number;
  /** The last difference, in words; null where there was none. */
  readonly lastDifference: string | null;
}

export interface VerifierOptions extends VerifySettings {
  /** Undefined where the store cannot be read. */
  readonly digests: SinkDigests | undefined;
  /** Whether the store is up, and not catching up. */
  readonly isUsable: () => boolean;
  /** Whether no message of the window is known to be lost: what was written of it may be a part. */
  readonly isWhole: (start: number) => boolean;
  /**
   * The window that begins there, computed again from the stream with all messages up to that sequence at least;
   * undefined where the stream does not hold it any more. Absent in core mode.
   */
  readonly recompute?:
    | ((start: number, through: number, signal: AbortSignal) => Promise<Recomputed | undefined>)
    | undefined;
  /** Sequence up to which all had been read when the windows confirmed last were closed. */
  readonly closedThrough: () => number;
  /**
   * Sequences up to which the live path has read, and told what that reopened, and at which the stream ends as far as
   * it knows.
   */
  readonly position: () => { readonly read: number; readonly end: number };
  readonly clock: Clock;
  /** Synchronous, and must not throw. */
  readonly differs: (difference: string, start: number) => void;
}

interface Waiting {
  readonly window: Pick<ClosedWindow, 'start' | 'windowMs' | 'instance'>;
  /** By the steady clock. */
  readonly due: number;
  /** To compute it again, all messages up to this sequence must have been read, whatever the stream times say. */
  readonly through: number;
  /** Undefined where that could not be told. */
  readonly written: Promise<Digest | undefined>;
  /** The whole window, where the store has to be asked for its keys. */
  readonly keys: ClosedWindow | undefined;
  /** The memory of `keys`, or 0. */
  readonly keptBytes: number;
  /** It was reopened: it comes again when it has been written anew. */
  isStale: boolean;
}

/** Of a window as the stream gives it, by all messages up to sequence `read`. */
interface TrueDigest {
  readonly digest: Digest;
  readonly read: number;
}

type Judgement =
  | { readonly kind: 'equal' | 'unknown' }
  | { readonly kind: 'different'; readonly how: string };
const EQUAL: Judgement = { kind: 'equal' };
const UNKNOWN: Judgement = { kind: 'unknown' };

export class Verifier {
  readonly #options: VerifierOptions;
  readonly #counts = { equal: 0, different: 0, unknown: 0 };
  #lastDifference: string | null = null;
  #waiting: Waiting[] = [];
  /** Being judged. */
  #current: Waiting | undefined;
  /** By start of a window: see `recompute`. */
  readonly #through = new Map<number, number>();
  readonly #work = new Bell();

  constructor(options: VerifierOptions) {
    this.#options = options;
  }

  get stats(): VerifiedWindows {
    return { ...this.#counts, lastDifference: this.#lastDifference };
  }

  /** Every point of the window was acknowledged, but for so many that were refused for good. */
  confirmed(window: ClosedWindow, refused: number): void {
    const { share, digests, delayMs, clock, isUsable, closedThrough } = this.#options;
    if (!isChosen(window.start, share)) return;
    this.#forget(window.start);
    if (digests === undefined || refused > 0 || !isUsable() || this.#waiting.length >= MAX_WAITING) {
      this.#counts.unknown += 1;
      return;
    }
    const keptBytes = digests.needsKeys ? windowBytes(window) : 0;
    if (this.#keptBytes + keptBytes > MAX_KEPT_BYTES) {
      this.#counts.unknown += 1;
      return;
    }
    const { start, windowMs, instance } = window;
    this.#waiting.push({
      window: { start, windowMs, instance },
      due: clock.steady() + delayMs,
      through: Math.max(closedThrough(), this.#through.get(window.start) ?? 0),
      written: digests.ofWindow(window).catch(() => undefined),
      keys: digests.needsKeys ? window : undefined,
      keptBytes,
      isStale: false,
    });
    this.#work.ring();
  }

  get #keptBytes(): number {
    return this.#waiting.reduce((sum, { keptBytes }) => sum + keptBytes, this.#current?.keptBytes ?? 0);
  }

  /** The window got a message, `through`, after it was handed out: it is written anew. */
  reopened(start: number, through: number): void {
    this.#forget(start);
    if (!isChosen(start, this.#options.share)) return;
    this.#through.set(start, through);
    const [oldest] = this.#through.keys();
    if (this.#through.size > MAX_REOPENED) this.#through.delete(oldest!);
  }

  #forget(start: number): void {
    if (this.#current?.window.start === start) this.#current.isStale = true;
    this.#waiting = this.#waiting.filter(({ window }) => window.start !== start);
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    while (!signal.aborted) {
      const [next] = this.#waiting;
      if (next === undefined) await this.#work.wait(signal);
      else if (next.due > clock.steady()) await clock.sleep(next.due - clock.steady(), signal);
      else {
        this.#waiting.shift();
        this.#current = next;
        const judgement = await this.#judge(next, signal).catch(() => UNKNOWN);
        this.#current = undefined;
        if (!next.isStale && !signal.aborted) this.#take(judgement, next.window.start);
      }
    }
  }

  #take(judgement: Judgement, start: number): void {
    this.#through.delete(start);
    this.#counts[judgement.kind] += 1;
    if (judgement.kind !== 'different') return;
    this.#lastDifference = `window ${new Date(start).toISOString()}: ${judgement.how}`;
    this.#options.differs(this.#lastDifference, start);
  }

  /** Rejects where the store does not answer. */
  async #judge(waiting: Waiting, signal: AbortSignal): Promise<Judgement> {
    if (!this.#options.isUsable() || !this.#options.isWhole(waiting.window.start)) return UNKNOWN;
    const written = await waiting.written;
    if (written === undefined) return UNKNOWN;
    const stored = await this.#read(waiting, signal);
    const isAsWritten = isSameDigest(stored, written);
    if (isAsWritten && !isChosen(waiting.window.start, this.#options.replayShare)) return EQUAL;
    const recomputed = await this.#recompute(waiting, signal);
    if (recomputed === undefined) {
      if (isAsWritten) return EQUAL;
      // Where the stream could say who is right and does not any more, nobody knows.
      return this.#options.recompute === undefined ? different(stored, written, 'as written') : UNKNOWN;
    }
    if (isSameDigest(stored, recomputed.digest)) return EQUAL;
    return await this.#lookAgain(waiting, recomputed, signal);
  }

  /**
   * Another instance may have written the window anew, or be about to: for a message that is in the stream, and that we
   * have not read yet. When we have, the window was reopened here as well, or there was none.
   */
  async #lookAgain(waiting: Waiting, { digest, read }: TrueDigest, signal: AbortSignal): Promise<Judgement> {
    const { clock, position } = this.#options;
    const due = Math.max(read, position().end);
    await clock.sleep(SECOND_LOOK_MS, signal);
    if (waiting.isStale || position().read < due) return UNKNOWN;
    const stored = await this.#read(waiting, signal);
    return isSameDigest(stored, digest) ? EQUAL : different(stored, digest, 'by the stream');
  }

  #read({ window, keys }: Waiting, signal: AbortSignal): Promise<Digest> {
    return this.#bounded(signal, (until) => this.#options.digests!.ofStore(window, keys, until));
  }

  async #recompute({ window, through }: Waiting, signal: AbortSignal): Promise<TrueDigest | undefined> {
    const { recompute, digests } = this.#options;
    if (recompute === undefined) return undefined;
    const found = await this.#bounded(signal, (until) => recompute(window.start, through, until));
    if (found === undefined) return undefined;
    const [recomputed] = found.windows;
    const digest = recomputed === undefined ? NO_ROWS : await digests!.ofWindow(recomputed);
    return { digest, read: found.read };
  }

  /** Rejects when the time is over, or `signal` aborts. */
  async #bounded<T>(signal: AbortSignal, work: (until: AbortSignal) => Promise<T>): Promise<T> {
    const over = new AbortController();
    const late = this.#options.clock.sleep(TIMEOUT_MS, AbortSignal.any([over.signal, signal]));
    const timedOut = late.then((): never => {
      throw new Error('not in time');
    });
    timedOut.catch(() => {});
    try {
      return await Promise.race([work(over.signal), timedOut]);
    } finally {
      over.abort();
    }
  }
}

function different(stored: Digest, expected: Digest, source: string): Judgement {
  const how =
    stored.rows === expected.rows
      ? `the values of its ${stored.rows} rows in the store are not those ${source}`
      : `it has ${stored.rows} rows in the store, and ${expected.rows} ${source}`;
  return { kind: 'different', how };
}
