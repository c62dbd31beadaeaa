/**
 * Verifies a share of a lane's windows while the service runs. Some time after a window was confirmed, it is read back
 * from the store and compared with a digest of what was written. Some windows are also computed again from the stream
 * and compared with that. One window is verified at a time, and never when that could hold up the lane.
 */

import type { ClosedWindow } from '../aggregate/window.ts';
import { Bell, type Clock } from '../base/clock.ts';
import { amount, counted } from '../base/number-format.ts';
import { type Digest, isChosen, isSameDigest, NO_ROWS } from './lane/digest.ts';
import { windowBytes } from './lane/queue.ts';
import type { SinkDigests } from './lane/writer.ts';
import type { ChosenNames, NameChoices } from './name-choices.ts';
import type { Recomputed } from './replay/recompute-window.ts';

/** At most this many windows wait to be verified; any more count as unknown. */
const MAX_WAITING = 1000;
/**
 * How much memory whole windows may take that are kept to be read back by key, for a store that cannot be asked for a
 * range (DynamoDB). A window that does not fit counts as unknown.
 */
export const MAX_KEPT_BYTES = 64_000_000;
/** For this many reopened windows, a lane remembers what must be read to compute them again. */
const MAX_REOPENED = 1000;
/** For reading back or computing one window again. If that takes longer, the window cannot be verified. */
const TIMEOUT_MS = 120_000;
/** Wait after a difference was found, before the store is read once more. */
const SECOND_LOOK_MS = 5000;
/** So much longer it may take to read a window, and so much may clocks differ, until its rows are deleted. */
export const KEPT_MARGIN_MS = 600_000;

export interface VerifySettings {
  /** Share of the confirmed windows to verify, from 0 to 1. */
  readonly share: number;
  /** Share of the confirmed windows to compute again too, from 0 to 1. */
  readonly replayShare: number;
  /** Time from the confirmation until a window is read back. */
  readonly delayMs: number;
}

/** Counts of windows verified since the start: a share of all windows. */
export interface VerifiedWindows {
  readonly equal: number;
  readonly different: number;
  /** Could not be judged: the store did not answer, was catching up, or cannot be read. */
  readonly unknown: number;
  /** The last difference, in words; null if there was none. */
  readonly lastDifference: string | null;
  /** Windows confirmed by the store, of which these are a part. A window that was written again counts again. */
  readonly confirmed: number;
  /** When a window was last found equal or different: RFC 3339; null if none was. */
  readonly lastAt: string | null;
}

export interface VerifierOptions extends VerifySettings {
  /** Undefined if the store cannot be read. */
  readonly digests: SinkDigests | undefined;
  /** Whether the store is up and not catching up. */
  readonly isUsable: () => boolean;
  /** Whether no message of the window is known to be lost. If one is, what was written may be incomplete. */
  readonly isWhole: (start: number) => boolean;
  /** How long rows are kept, in ms: older ones may be deleted. Absent: for ever. */
  readonly keepsMs?: number | undefined;
  /** Which names the sink gets; absent: all. */
  readonly names?: NameChoices | undefined;
  /**
   * Computes the window that begins at `start` again from the stream, with at least all messages up to sequence
   * `through`. Resolves to undefined if the stream no longer holds the window. Absent in core mode.
   */
  readonly recompute?:
    | ((start: number, through: number, signal: AbortSignal) => Promise<Recomputed | undefined>)
    | undefined;
  /** The sequence up to which all messages had been read when the last confirmed windows were closed. */
  readonly closedThrough: () => number;
  /**
   * `read`: the sequence up to which the live path has read, and has reported what that reopened. `end`: where the
   * stream ends, as far as the live path knows.
   */
  readonly position: () => { readonly read: number; readonly end: number };
  readonly clock: Clock;
  /** Called synchronously; must not throw. */
  readonly differs: (difference: string, start: number) => void;
}

interface Waiting {
  readonly window: Pick<ClosedWindow, 'start' | 'windowMs' | 'instance'>;
  /** By the steady clock. */
  readonly due: number;
  /**
   * To compute the window again, all messages up to this sequence must have been read, whatever the stream times say.
   */
  readonly through: number;
  /** Resolves to undefined if the digest could not be computed. */
  readonly written: Promise<Digest | undefined>;
  /** The whole window, if the store has to be asked for its keys. */
  readonly keys: ClosedWindow | undefined;
  /** The memory of `keys`, or 0. */
  readonly keptBytes: number;
  /** The window was reopened. It comes again once it has been rewritten. */
  isStale: boolean;
}

/** The digest of a window as the stream has it, from all messages up to sequence `read`. */
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
  readonly #counts = { equal: 0, different: 0, unknown: 0, confirmed: 0 };
  #lastDifference: string | null = null;
  #lastAt: string | null = null;
  #waiting: Waiting[] = [];
  /** The window being judged. */
  #current: Waiting | undefined;
  /** By start of a window: the `through` of `recompute`. */
  readonly #through = new Map<number, number>();
  readonly #work = new Bell();

  constructor(options: VerifierOptions) {
    this.#options = options;
  }

  get stats(): VerifiedWindows {
    return { ...this.#counts, lastDifference: this.#lastDifference, lastAt: this.#lastAt };
  }

  /** Every point of the window was acknowledged, except `refused` points that were refused for good. */
  confirmed(window: ClosedWindow, refused: number): void {
    const { share, digests, delayMs, clock, isUsable, closedThrough } = this.#options;
    this.#counts.confirmed += 1;
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
      written: digests.ofWindow(window, this.#namesOf(window)).catch(() => undefined),
      keys: digests.needsKeys ? window : undefined,
      keptBytes,
      isStale: false,
    });
    this.#work.ring();
  }

  #namesOf(window: Pick<ClosedWindow, 'start' | 'windowMs'>): ChosenNames | undefined {
    return this.#options.names?.of(window);
  }

  get #keptBytes(): number {
    return this.#waiting.reduce((sum, { keptBytes }) => sum + keptBytes, this.#current?.keptBytes ?? 0);
  }

  /** The window got a message, with sequence `through`, after it was handed out. It is being rewritten. */
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
    if (judgement.kind !== 'unknown') this.#lastAt = new Date(this.#options.clock.now()).toISOString();
    if (judgement.kind !== 'different') return;
    this.#lastDifference = `window ${new Date(start).toISOString()}: ${judgement.how}`;
    this.#options.differs(this.#lastDifference, start);
  }

  /** Rejects if the store does not answer. */
  async #judge(waiting: Waiting, signal: AbortSignal): Promise<Judgement> {
    const { isUsable, isWhole } = this.#options;
    const { start } = waiting.window;
    if (!isUsable() || !isWhole(start) || !this.#isKept(start)) return UNKNOWN;
    const written = await waiting.written;
    if (written === undefined) return UNKNOWN;
    const stored = await this.#read(waiting, signal);
    const isAsWritten = isSameDigest(stored, written);
    if (isAsWritten && !isChosen(waiting.window.start, this.#options.replayShare)) return EQUAL;
    const recomputed = await this.#recompute(waiting, signal);
    if (recomputed === undefined) {
      if (isAsWritten) return EQUAL;
      // If the stream could have settled it but no longer can, nobody knows which is right.
      return this.#options.recompute === undefined ? different(stored, written, 'written') : UNKNOWN;
    }
    if (isSameDigest(stored, recomputed.digest)) return EQUAL;
    return await this.#lookAgain(waiting, recomputed, signal);
  }

  /** After a long standstill, windows are written that are about to be deleted. */
  #isKept(start: number): boolean {
    const { keepsMs, clock } = this.#options;
    return keepsMs === undefined || start >= clock.now() - keepsMs + KEPT_MARGIN_MS;
  }

  /**
   * Another instance may have rewritten the window, or be about to, because of a message in the stream that we have not
   * read yet. Once we have read it, the window was reopened here too, or there was no such message.
   */
  async #lookAgain(waiting: Waiting, { digest, read }: TrueDigest, signal: AbortSignal): Promise<Judgement> {
    const { clock, position } = this.#options;
    const due = Math.max(read, position().end);
    await clock.sleep(SECOND_LOOK_MS, signal);
    if (waiting.isStale || position().read < due) return UNKNOWN;
    const stored = await this.#read(waiting, signal);
    return isSameDigest(stored, digest) ? EQUAL : different(stored, digest, 'computed from the stream');
  }

  #read({ window, keys }: Waiting, signal: AbortSignal): Promise<Digest> {
    const names = this.#namesOf(window);
    return this.#bounded(signal, (until) => this.#options.digests!.ofStore(window, keys, until, names));
  }

  async #recompute({ window, through }: Waiting, signal: AbortSignal): Promise<TrueDigest | undefined> {
    const { recompute, digests } = this.#options;
    if (recompute === undefined) return undefined;
    const found = await this.#bounded(signal, (until) => recompute(window.start, through, until));
    if (found === undefined) return undefined;
    const [recomputed] = found.windows;
    const names = this.#namesOf(window);
    const digest = recomputed === undefined ? NO_ROWS : await digests!.ofWindow(recomputed, names);
    return { digest, read: found.read };
  }

  /** Rejects after the timeout, or when `signal` aborts. */
  async #bounded<T>(signal: AbortSignal, work: (until: AbortSignal) => Promise<T>): Promise<T> {
    const over = new AbortController();
    const late = this.#options.clock.sleep(TIMEOUT_MS, AbortSignal.any([over.signal, signal]));
    const timedOut = late.then((): never => {
      throw new Error(`no result within ${TIMEOUT_MS} ms`);
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
      ? `the values of its ${counted(stored.rows, 'row')} in the store differ from those ${source}`
      : `it has ${counted(stored.rows, 'row')} in the store, not the ${amount(expected.rows)} ${source}`;
  return { kind: 'different', how };
}
