/**
 * Writes to one store until it has taken everything: timeouts, retries with backoff, circuit breaker, reopening. It
 * knows no windows and no checkpoint, which belong to the lane.
 */
import type { Point } from '../../aggregate/point.ts';
import type { ClosedWindow } from '../../aggregate/window.ts';
import { BACKOFF_CAP_MS, Bell, backoffMs, type Clock } from '../../base/clock.ts';
import type {
  Rejection,
  RejectReason,
  RetryReason,
  Sink,
  Unidentified,
  WindowRange,
  WriteOutcome,
} from '../../sink/contract.ts';
import {
  failureInWords,
  REFUSE_REASONS,
  REJECT_REASONS,
  RETRY_REASONS,
  SinkError,
} from '../../sink/contract.ts';
import type { ChosenNames } from '../name-choices.ts';
import type { WindowBatch } from './batch.ts';
import { type Attempt, Breaker } from './breaker.ts';
import type { Digest } from './digest.ts';
import type { OlderContent, Receipts } from './receipts.ts';

/** A sink that does not close in time stays open until the process ends. */
const CLOSE_TIMEOUT_MS = 2000;

/** What a lane needs from a sink, whichever thread the sink runs in. */
export interface LaneSink extends Pick<Sink, 'open' | 'close' | 'identity' | 'receipt' | 'giveReceipt'> {
  write(batch: WindowBatch, signal: AbortSignal): Promise<WriteOutcome>;
  /** Absent if the store cannot be read back. */
  readonly digests?: SinkDigests | undefined;
  /** Absent if the store cannot be read by range, or cannot remove single rows. */
  readonly strays?: StraySink | undefined;
  /** How often the sink stood still, so that its thread was ended. Absent if it has no thread. */
  readonly stalls?: number;
}

/** How windows are verified: no rows travel between threads, only their digests. Every call rejects if it fails. */
export interface SinkDigests {
  /** Digests what the store must hold of the window. `names`: which names the sink gets; absent: all. */
  ofWindow(window: ClosedWindow, names?: ChosenNames): Promise<Digest>;
  /**
   * Digests what the store really holds of the window under these names. `keys`: the whole window, if the store has to
   * be asked for its keys.
   */
  ofStore(
    window: Pick<ClosedWindow, 'start' | 'windowMs' | 'instance'>,
    keys: ClosedWindow | undefined,
    signal: AbortSignal,
    names?: ChosenNames,
  ): Promise<Digest>;
  readonly needsKeys: boolean;
}

/** How rows are found and removed that the stream no longer gives. Every call rejects if it fails. */
export interface StraySink {
  /** Resolves to the starts of the windows in the range that the store holds rows of, in ascending order. */
  windows(range: WindowRange, signal: AbortSignal): Promise<readonly number[]>;
  /**
   * Resolves to the number of rows of the window under keys that `keys` lacks. Removes them with `remove`. `names`:
   * rows of other names do not count; absent: all do.
   */
  count(
    window: Pick<ClosedWindow, 'start' | 'windowMs' | 'instance'>,
    keys: ClosedWindow | undefined,
    remove: boolean,
    signal: AbortSignal,
    names?: ChosenNames,
  ): Promise<number>;
}

/** A longer identity is ignored: every checkpoint holds it. */
const MAX_IDENTITY_CHARACTERS = 100;
/** A store is asked again which one it is before the first write after this time. */
const NAMED_FOR_MS = 30_000;
/** How often in a row a store may fail to say which one it is, before it is written to all the same. */
const MAX_UNNAMED = 5;
/** Failures after which the store is still the same. */
const OF_THE_SAME_STORE: readonly string[] = ['throttled', 'conflict'] satisfies RetryReason[];

type PartialOutcome = WriteOutcome & { readonly kind: 'partial' };

export interface StoreFailure {
  readonly at: number;
  readonly reason: string;
  readonly message: string;
}

/** Counters; only the writer changes them. */
export interface WriterStats {
  written: number;
  /** Size of the points written, by `pointBytes`: the same measure for every sink. */
  writtenBytes: number;
  readonly rejected: Map<RejectReason, number>;
  readonly retries: Map<string, number>;
}

/** What the writer reports. All calls are synchronous and must not throw. */
export interface WriterEvents {
  /** A write ended after this many seconds. `taken`: the store took points of it, or refused them for good. */
  wrote(seconds: number, taken: boolean): void;
  rejected(points: readonly { readonly point: Point; readonly rejection: Rejection }[]): void;
  /** Some points were rejected, and nobody knows which. */
  unidentified(points: Unidentified): void;
  /** The sink is open, perhaps again. */
  opened(): void;
  /** See `Sink.identity`. `compare`: returns what the store holds if that is older than it was. */
  identified(identity: string, compare: () => OlderContent | undefined): void;
  /** The sink cannot say which store it has, and why. It is written to all the same. */
  unnamed(reason: string): void;
  /** The store went down or came back up. */
  changed(up: boolean, failure: StoreFailure | undefined): void;
}

export interface WriterOptions {
  readonly sink: LaneSink;
  readonly receipts: Pick<Receipts, 'ask'>;
  /** For each write, and for each attempt to open. */
  readonly timeoutMs: number;
  readonly clock: Clock;
  readonly events: WriterEvents;
  /** Aborts everything. */
  readonly halt: AbortSignal;
}

/** The result of one write. */
interface Tried {
  /** Points neither written nor refused for good. */
  readonly left: WindowBatch;
  /** The minimum wait before these points are tried again. */
  readonly waitMs: number;
  readonly refused?: number;
}

export class StoreWriter {
  readonly stats: WriterStats = { written: 0, writtenBytes: 0, rejected: new Map(), retries: new Map() };
  readonly #options: WriterOptions;
  readonly #breaker: Breaker;
  readonly #becameOpen = new Bell();
  readonly #mustOpen = new Bell();
  readonly #resumed = new Bell();
  #paused = false;
  #opened = false;
  #hasOpened = false;
  /** How often the store may have become another one, and how often it had when it last said which it is. */
  #doubts = 1;
  #settledDoubts = 0;
  /** When it last said so, by the steady clock. */
  #namedAt = Number.NEGATIVE_INFINITY;
  /** How often in a row it did not say. */
  #unnamed = 0;
  /** Undefined until the store first answered or failed. */
  #up: boolean | undefined;
  #lastFailure: StoreFailure | undefined;
  #downSince: number | undefined;
  /** Until when writers wait before they try again, by the steady clock. */
  readonly #waits: number[] = [];
  /** How many writers wait for the breaker to let them try. */
  #entering = 0;
  /** How many writes are under way. */
  #underWay = 0;
  readonly #wrote = new Bell();
  /** When the sink is opened again, by the steady clock; undefined if it is open or being opened. */
  #reopensAt: number | undefined;

  constructor(options: WriterOptions) {
    this.#options = options;
    this.#breaker = new Breaker(options.clock);
  }

  get opened(): boolean {
    return this.#opened;
  }

  /** Whether the sink was ever open. */
  get hasOpened(): boolean {
    return this.#hasOpened;
  }

  /** Whether the store took the last write, or opened and has not been written to yet. */
  get up(): boolean {
    return this.#up === true;
  }

  get lastFailure(): StoreFailure | undefined {
    return this.#lastFailure;
  }

  /** Since when the store takes nothing, in ms since 1970; undefined while it does, and before it was first tried. */
  get downSince(): number | undefined {
    return this.#downSince;
  }

  /** In how many ms it is tried again; undefined if that is under way, or waits for something else than time. */
  get nextAttemptMs(): number | undefined {
    const at = this.#opened ? this.#writesAt() : this.#reopensAt;
    if (this.#paused || at === undefined) return undefined;
    return Math.max(0, at - this.#options.clock.steady());
  }

  #writesAt(): number | undefined {
    const { retryAt } = this.#breaker;
    if (retryAt === undefined) return undefined;
    if (this.#entering > 0) return retryAt;
    return this.#waits.length === 0 ? undefined : Math.max(retryAt, Math.min(...this.#waits));
  }

  /** Until `resume`, no attempt to write or to open begins. An attempt under way finishes. */
  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#resumed.ring();
  }

  /** Resolves when no write is under way, or when the signal aborts. Pause the writer first. */
  async quiet(signal: AbortSignal): Promise<void> {
    while (this.#underWay > 0 && !signal.aborted) await this.#wrote.wait(signal);
  }

  /**
   * Writes until every point is written or refused for good, or the points no longer matter, or the writer halts.
   * Resolves to the number of points that the store refused for good.
   */
  async deliver(batch: WindowBatch, matters: () => boolean): Promise<number> {
    const { clock, halt } = this.#options;
    let refused = 0;
    let left = this.#rejectUnstorable(batch);
    for (let attempt = 1; left.size > 0 && matters(); attempt++) {
      await this.#untilResumed();
      while (!this.#opened && !halt.aborted) await this.#becameOpen.wait(halt);
      this.#entering += 1;
      const ticket = await this.#breaker.enter(halt);
      this.#entering -= 1;
      if (halt.aborted) break;
      const isKnown = !this.#isDoubtful() || (await this.#isKnownAgain(ticket));
      if (!isKnown) await this.#wait(backoffMs(attempt, clock.random()));
      if (!isKnown || halt.aborted) continue;
      if (this.#paused || !matters()) {
        this.#breaker.release();
        continue;
      }
      const tried = await this.#attempt(left, ticket);
      if (tried.left.size < left.size) attempt = 0;
      left = tried.left;
      refused += tried.refused ?? 0;
      if (left.size > 0) await this.#wait(Math.max(tried.waitMs, backoffMs(attempt, clock.random())));
    }
    return refused;
  }

  /** Before another attempt. */
  async #wait(ms: number): Promise<void> {
    const { clock, halt } = this.#options;
    const until = clock.steady() + ms;
    this.#waits.push(until);
    await clock.sleep(ms, halt);
    this.#waits.splice(this.#waits.indexOf(until), 1);
  }

  /** One write. */
  async #attempt(batch: WindowBatch, ticket: Attempt): Promise<Tried> {
    const outcome = await this.#write(batch);
    switch (outcome.kind) {
      case 'written':
        this.#succeed(batch, batch.size);
        return { left: batch.subset([]), waitMs: 0 };
      case 'partial':
        return {
          left: this.#takePartial(batch, outcome, ticket),
          waitMs: 0,
          refused: rejectedBy(outcome),
        };
      case 'retry': {
        const waitMs = waitOf(outcome.afterMs);
        this.#fail(outcome.reason, outcome.message);
        this.#breaker.failure(ticket, waitMs);
        return { left: batch, waitMs };
      }
      case 'refused':
        // Only an operator can help. The batch is held and tried at the slowest pace, and the sink is reopened before
        // each try.
        this.#opened = false;
        this.#mustOpen.ring();
        this.#fail(outcome.reason, outcome.message);
        this.#breaker.failure(ticket, BACKOFF_CAP_MS / 2);
        return { left: batch, waitMs: 0 };
      default:
        return outcome satisfies never;
    }
  }

  #takePartial(batch: WindowBatch, outcome: PartialOutcome, ticket: Attempt): WindowBatch {
    const { retry, rejected, unidentified, reason = 'throttled' } = outcome;
    this.#reject(batch, rejected);
    if (unidentified !== undefined && unidentified.count > 0) {
      this.#countRejected('unidentified', unidentified.count);
      this.#options.events.unidentified(unidentified);
    }
    if (isProgress(outcome, batch.size)) {
      this.#succeed(batch, batch.size - retry.length - rejectedBy(outcome));
      if (retry.length > 0) this.#countRetry(reason);
    } else {
      this.#fail(reason, 'the store took no point of the batch');
      this.#breaker.failure(ticket);
    }
    return batch.subset(retry);
  }

  /** Calls the sink's write with the lane's timeout. Anything it throws is an unknown outcome. */
  async #write(batch: WindowBatch): Promise<WriteOutcome> {
    const { clock, events, sink } = this.#options;
    const started = clock.steady();
    this.#underWay += 1;
    const outcome = await this.#bounded(async (signal) => sink.write(batch, signal));
    this.#underWay -= 1;
    this.#wrote.ring();
    const told = makesSense(outcome, batch.size) ? outcome : NONSENSE;
    events.wrote((clock.steady() - started) / 1000, isProgress(told, batch.size));
    return told;
  }

  /** Runs `work` for at most the timeout. A sink that ignores its signal is abandoned: writes are idempotent. */
  async #bounded(work: (signal: AbortSignal) => Promise<WriteOutcome>): Promise<WriteOutcome> {
    const abort = new AbortController();
    const stopped = AbortSignal.any([abort.signal, this.#options.halt]);
    const { timeoutMs, clock } = this.#options;
    const timedOut = clock.sleep(timeoutMs, stopped).then((): WriteOutcome => {
      const message = `no answer within ${timeoutMs} ms`;
      return { kind: 'retry', reason: 'timeout', message };
    });
    const done = work(stopped).catch(outcomeOfError);
    const outcome = await Promise.race([done, timedOut]);
    abort.abort();
    return outcome;
  }

  /** Opens the sink, with backoff, and reopens it whenever the store has refused it. Runs until the writer halts. */
  async keepOpen(): Promise<void> {
    const { clock, halt, sink } = this.#options;
    for (let attempt = 1; !halt.aborted; attempt++) {
      await this.#untilResumed();
      if (halt.aborted) return;
      const outcome = await this.#bounded(async (signal): Promise<WriteOutcome> => {
        await sink.open(signal);
        return { kind: 'written' };
      });
      const failure = failureIn(outcome) ?? (await this.#identify('opened'));
      if (halt.aborted) return;
      if (failure !== undefined) {
        this.#fail(failure.reason, failure.message);
        const waitMs = backoffMs(attempt, clock.random());
        this.#reopensAt = clock.steady() + waitMs;
        await clock.sleep(waitMs, halt);
        this.#reopensAt = undefined;
        continue;
      }
      this.#opened = true;
      this.#hasOpened = true;
      this.#options.events.opened();
      // After a refusal, only a write shows that the store is healthy again.
      if (this.#up === undefined || attempt > 1) this.#setUp(true);
      this.#becameOpen.ring();
      while (this.#opened && !halt.aborted) await this.#mustOpen.wait(halt);
      attempt = 0;
    }
  }

  /**
   * Asks the store which one it is, and what it holds. Resolves to a failure that may pass. A sink that can never say
   * is written to all the same: that is worth more than knowing when its store was replaced.
   */
  async #identify(when: 'opened' | 'failed'): Promise<Failure | undefined> {
    const { sink, receipts, events, halt, clock } = this.#options;
    let identity: string | undefined;
    let compare = (): OlderContent | undefined => undefined;
    const doubts = this.#doubts;
    const outcome = await this.#bounded(async (signal): Promise<WriteOutcome> => {
      identity = await sink.identity?.(signal);
      if (identity !== undefined) compare = await receipts.ask(signal);
      return { kind: 'written' };
    });
    if (halt.aborted) return undefined;
    const failure = failureIn(outcome);
    if (failure !== undefined) {
      this.#unnamed += 1;
      // A store that has failed may lack what `open` makes.
      const mayLackSchema = failure.reason === 'not_found' && when === 'failed';
      const mayPass = mayLackSchema || (failure.kind === 'retry' && failure.reason !== 'unknown');
      if (mayPass && this.#unnamed <= MAX_UNNAMED) return failure;
      events.unnamed(failure.message);
    }
    this.#unnamed = 0;
    // What failed while it was asked may be of another store.
    this.#settledDoubts = doubts;
    this.#namedAt = clock.steady();
    if (typeof identity === 'string' && identity.length <= MAX_IDENTITY_CHARACTERS)
      events.identified(identity, compare);
    return undefined;
  }

  /** Another writer may have made the store anew, and then it fails no write of ours. */
  #isDoubtful(): boolean {
    const { sink, clock } = this.#options;
    if (sink.identity === undefined) return false;
    return this.#doubts > this.#settledDoubts || clock.steady() - this.#namedAt >= NAMED_FOR_MS;
  }

  async #isKnownAgain(ticket: Attempt): Promise<boolean> {
    const failure = await this.#identify('failed');
    if (failure === undefined) return true;
    this.#opened = false;
    this.#mustOpen.ring();
    this.#fail(failure.reason, failure.message);
    this.#breaker.failure(ticket);
    return false;
  }

  async #untilResumed(): Promise<void> {
    const { halt } = this.#options;
    while (this.#paused && !halt.aborted) await this.#resumed.wait(halt);
  }

  /**
   * A sum that overflowed float64 is not a number that stores accept. It is rejected here, so that all stores hold the
   * same.
   */
  #rejectUnstorable(batch: WindowBatch): WindowBatch {
    const bad: Rejection[] = [];
    const good: number[] = [];
    for (let index = 0; index < batch.size; index++) {
      if (Number.isFinite(batch.sumOf(index))) good.push(index);
      else bad.push({ index, reason: 'invalid_value', message: 'the sum is not finite' });
    }
    if (bad.length === 0) return batch;
    this.#reject(batch, bad);
    return batch.subset(good);
  }

  #reject(batch: WindowBatch, rejections: readonly Rejection[]): void {
    if (rejections.length === 0) return;
    for (const { reason } of rejections) this.#countRejected(reason, 1);
    this.#options.events.rejected(
      rejections.map((rejection) => ({ point: batch.point(rejection.index), rejection })),
    );
  }

  #countRejected(reason: RejectReason, points: number): void {
    this.stats.rejected.set(reason, (this.stats.rejected.get(reason) ?? 0) + points);
  }

  #countRetry(reason: string): void {
    this.stats.retries.set(reason, (this.stats.retries.get(reason) ?? 0) + 1);
  }

  #succeed(batch: WindowBatch, written: number): void {
    this.stats.written += written;
    this.stats.writtenBytes += batch.bytesOf(written);
    this.#breaker.success();
    this.#setUp(true);
  }

  #fail(reason: string, message: string): void {
    // An attempt cut short by the halt says nothing about the store.
    if (this.#options.halt.aborted) return;
    this.#countRetry(reason);
    if (!OF_THE_SAME_STORE.includes(reason)) this.#doubts += 1;
    this.#lastFailure = { at: this.#options.clock.now(), reason, message };
    this.#setUp(false);
  }

  #setUp(up: boolean): void {
    const changed = this.#up !== up;
    this.#up = up;
    if (changed) this.#downSince = up ? undefined : this.#lastFailure?.at;
    if (changed) this.#options.events.changed(up, this.#lastFailure);
  }

  async close(): Promise<void> {
    const abort = new AbortController();
    const close = async () => this.#options.sink.close();
    const closed = close().catch(() => {});
    await Promise.race([closed, this.#options.clock.sleep(CLOSE_TIMEOUT_MS, abort.signal)]);
    abort.abort();
  }
}

/** A store that takes part of a batch is alive. Only an answer without any progress counts against it. */
function isProgress(outcome: WriteOutcome, points: number): boolean {
  return outcome.kind === 'written' || (outcome.kind === 'partial' && outcome.retry.length < points);
}

type Failure = Extract<WriteOutcome, { readonly kind: 'retry' | 'refused' }>;

function failureIn(outcome: WriteOutcome): Failure | undefined {
  return outcome.kind === 'retry' || outcome.kind === 'refused' ? outcome : undefined;
}

/** A third-party sink may return anything. A nonsensical answer is an unknown outcome, like a throw. */
const NONSENSE: WriteOutcome = {
  kind: 'retry',
  reason: 'unknown',
  message: "the sink's answer makes no sense",
};

function makesSense(outcome: WriteOutcome, points: number): boolean {
  switch (outcome?.kind) {
    case 'written':
      return true;
    case 'retry':
      return RETRY_REASONS.includes(outcome.reason);
    case 'refused':
      return REFUSE_REASONS.includes(outcome.reason);
    case 'partial':
      return isPartOf(outcome, points);
    default:
      outcome satisfies never;
      return false;
  }
}

/** Returns how many points the store refused for good, whether anybody knows which or not. */
function rejectedBy({ rejected, unidentified }: PartialOutcome): number {
  return rejected.length + (unidentified?.count ?? 0);
}

function isPartOf(outcome: PartialOutcome, points: number): boolean {
  const { retry, rejected, unidentified = NOTHING, reason = 'unknown' } = outcome;
  if (!Array.isArray(retry) || !Array.isArray(rejected) || !RETRY_REASONS.includes(reason)) return false;
  const named = [...retry, ...rejected.map(({ index }) => index)];
  const isPoint = (index: number) => Number.isInteger(index) && index >= 0 && index < points;
  const isKnown = rejected.every(({ reason }) => REJECT_REASONS.includes(reason));
  const isCount = Number.isInteger(unidentified?.count) && unidentified.count >= 0;
  if (!isCount || named.length + unidentified.count > points) return false;
  return isKnown && named.every(isPoint) && new Set(named).size === named.length;
}

const NOTHING: Unidentified = { count: 0, message: '' };

/**
 * A store, or a proxy in front of it, may ask for a wait of a day, and a sink for a wait that is not a number. The lane
 * must not stand still.
 */
function waitOf(afterMs = 0): number {
  return afterMs > 0 ? Math.min(afterMs, BACKOFF_CAP_MS) : 0;
}

function outcomeOfError(error: unknown): WriteOutcome {
  const message = failureInWords(error);
  if (!(error instanceof SinkError)) return { kind: 'retry', reason: 'unknown', message };
  switch (error.reason) {
    case 'unauthorized':
    case 'untrusted':
    case 'not_found':
    case 'schema_mismatch':
    case 'bad_request':
      return { kind: 'refused', reason: error.reason, message };
    default:
      return {
        kind: 'retry',
        reason: RETRY_REASONS.includes(error.reason) ? error.reason : 'unknown',
        message,
      };
  }
}
