/**
 * A lane runs one sink: queue, batches, writes in flight, timeouts, retries, circuit breaker, checkpoint. It never
 * waits for another lane (I7), and the path that feeds it never waits for it.
 */
import type { ClosedWindow } from '../../aggregate/window.ts';
import type { WindowMerger } from '../../aggregate/window-merger.ts';
import { Bell, type Clock, unlessAborted } from '../../base/clock.ts';
import type { Checkpoint } from '../../bus/kv/checkpoints.ts';
import { failureInWords, type SinkLimits } from '../../sink/contract.ts';
import type { NameChoices } from '../name-choices.ts';
import type { CheckpointKeeper } from './checkpoint-saver.ts';
import { Merging } from './merging.ts';
import { type ClosedBoundary, type SizedWindow, sizeWindow, WindowQueue } from './queue.ts';
import { type KnownReceipts, type OlderContent, type ReceiptStatus, Receipts } from './receipts.ts';
import {
  type LaneSink,
  type StoreFailure,
  StoreWriter,
  type WriterEvents,
  type WriterStats,
} from './writer.ts';

/**
 * What a replay may put into the backlog beside a first window. The stream holds the rest: more would take memory from
 * the live path, and the store would get nothing sooner.
 */
const REPLAYED_BYTES = 16 * 1024 * 1024;

/** So much of it may wait while the replay reads on: with small windows, it stays ahead of the store. */
const REPLAYED_AHEAD_BYTES = 2 * 1024 * 1024;

/** With so many windows in a row of which the sink gets nothing, its names may be misspelled. */
const UNCHOSEN_WINDOWS = 3;

/** How long a checkpoint waits for the store to keep a receipt. */
const RECEIPT_TIMEOUT_MS = 5000;

const NEVER_ASKED: ReceiptStatus = { state: 'none', until: null, lastFailure: null };

const NO_RECEIPTS: Pick<Receipts, 'ask'> = { ask: async () => () => undefined };

/**
 * `catching_up`: the live path is ignored, and windows come from the lane's own replay. `paused`: the store is left
 * alone until the lane is resumed. `stopped`: the lane has ended, or an operator must first remove its checkpoint.
 */
export type LaneState = 'opening' | 'live' | 'catching_up' | 'paused' | 'stopped';

/** Points offered = written + rejected + dropped + backlog + owed by replay. */
export interface LaneStats extends Readonly<WriterStats> {
  /** Points given up for lack of room, when nothing can be read again (core mode). */
  readonly dropped: number;
  /** Points that were folded because a window of the sink's own had too many series. */
  readonly folded: number;
  /** How often the lane exceeded its backlog and left its windows to replay. */
  readonly overflows: number;
  /** See `LaneSink`. */
  readonly stalls: number;
  /** How often the store was found replaced, emptied or with older content, so that it gets windows again. */
  readonly refills: number;
  /** How often the store could not be given a receipt, though it keeps them as far as it is known. */
  readonly receiptFailures: number;
}

/** What the lane reports to the rest of the service. All calls are synchronous and must not throw. */
export interface LaneEvents extends Omit<WriterEvents, 'identified' | 'opened' | 'unnamed'> {
  /**
   * The store is not the one of the checkpoint, or holds only what `older` says: the lane waits for `beginAgain`.
   */
  storeReplaced?(older: OlderContent | undefined): void;
  /** The store said which one it is. If the lane must not write to it, it is blocked when this returns. */
  identified?(identity: string): void;
  /** The sink would not notice if its store was replaced. */
  unnamed?(reason: string): void;
  /** Receipts can no longer be given, because of `failure`; undefined: they can again. */
  receiptsChanged?(failure: string | undefined): void;
  /** The lane has released windows and needs a replay from `next`. */
  fellBehind(): void;
  /** So many points of a window of the pipeline were folded: the window of the sink has too many series. */
  folded?(points: number): void;
  /** See `Lane.unchosenWindows`. Once. */
  nothingChosen?(windows: number): void;
  /**
   * Every point of the window was acknowledged, except `refused` points that were refused for good. `isAgain`: it was
   * confirmed before, and rewritten.
   */
  confirmed?(window: ClosedWindow, refused: number, isAgain: boolean): void;
}

export interface LaneOptions {
  readonly id: string;
  readonly sink: LaneSink;
  readonly limits: SinkLimits;
  readonly timeoutMs: number;
  readonly backlogBytes: number;
  /** Start of the first window that the sink still needs; -Infinity in core mode. */
  readonly from: number;
  /**
   * The sequence up to which all messages had been read when the windows before `from` were closed; undefined if
   * unknown.
   */
  readonly closedThrough?: number | undefined;
  /** Start of the first window that the sink ever gets; undefined if unknown. */
  readonly first?: number | undefined;
  /** Which names the sink gets; absent: all. */
  readonly names?: NameChoices | undefined;
  /** Makes the windows of the sink of those that it is offered; absent: they are the same. */
  readonly merger?: WindowMerger | undefined;
  /** The identity of the store that the checkpoint is about; undefined if unknown. */
  readonly identity?: string | undefined;
  /** Absent if it has none, and never gets one. */
  readonly receipts?: KnownReceipts | undefined;
  /** Whether the sink has no checkpoint yet. It is written to only when it has one: see `Lane.run`. */
  readonly begins?: boolean;
  /** Whether the stream can be read again. If not, the oldest windows are dropped and counted. */
  readonly replayable: boolean;
  /** Absent in core mode, where nothing can be read again. */
  readonly keeper: CheckpointKeeper | undefined;
  readonly clock: Clock;
  readonly events: LaneEvents;
}

export class Lane {
  readonly id: string;
  readonly #options: LaneOptions;
  readonly #queue: WindowQueue;
  readonly #writer: StoreWriter;
  readonly #work = new Bell();
  readonly #settled = new Bell();
  readonly #halt = new AbortController();
  readonly #receipts: Receipts | undefined;
  /** The start of the latest window that was written. */
  #latestWritten = Number.NEGATIVE_INFINITY;
  /** Resolves when the last checkpoint is saved: until then the store may be asked for its receipt. */
  readonly #flushed = Promise.withResolvers<void>();
  #catchingUp = false;
  #paused = false;
  /** Why the lane must not write, whoever resumes it. */
  #blocked: StoreFailure | undefined;
  /** While it is blocked. */
  #stored: Pick<Lane, 'confirmedTo'> | undefined;
  /** How many rewrites under way hold the checkpoint. */
  #holds = 0;
  #dropped = 0;
  #overflows = 0;
  #identity: string | undefined;
  /** The identity of the store that has taken the place of that one, until it is known where to begin again. */
  #replacedBy: string | undefined;
  /** How often `beginAgain` is still to be called, and the earliest it was called with meanwhile. */
  #replacements = 0;
  #beginsAgainAt = Number.POSITIVE_INFINITY;
  #refills = 0;
  #hasToldUnchosen = false;
  readonly #merging: Merging | undefined;
  /** With a merger: start of the first window that the lane was not offered yet. */
  #mergedTo: number;

  constructor(options: LaneOptions) {
    const { id, sink, timeoutMs, clock, events, names } = options;
    this.id = id;
    this.#options = options;
    const { limits, from, closedThrough, first } = options;
    const pick = names && ((window: ClosedWindow) => names.pick(window));
    this.#queue = new WindowQueue(limits, from, closedThrough, first, pick);
    this.#merging =
      options.merger &&
      new Merging(options.merger, clock, {
        folded: (points) => events.folded?.(points),
        made: (...made) => this.#acceptMade(...made),
      });
    this.#mergedTo = from;
    this.#identity = options.identity;
    this.#receipts = options.receipts && new Receipts(sink, options.receipts, clock);
    if (options.keeper !== undefined) {
      options.keeper.receiptsFor = (...saved) => this.#receiptsFor(...saved);
      options.keeper.refilledTo = (next) => this.#giveReceipt(next);
    }
    this.#writer = new StoreWriter({
      sink,
      receipts: this.#receipts ?? NO_RECEIPTS,
      timeoutMs,
      clock,
      events: {
        ...events,
        opened: () => this.#begin(),
        identified: (identity, compare) => this.#identified(identity, compare),
        unnamed: (reason) => events.unnamed?.(reason),
      },
      halt: this.#halt.signal,
    });
  }

  get state(): LaneState {
    if (this.#halt.signal.aborted || this.#blocked !== undefined) return 'stopped';
    if (this.#paused) return 'paused';
    if (this.#catchingUp) return 'catching_up';
    return this.#writer.opened ? 'live' : 'opening';
  }

  get stats(): LaneStats {
    const { stalls = 0 } = this.#options.sink;
    return {
      ...this.#writer.stats,
      dropped: this.#dropped,
      folded: this.#merging?.folded ?? 0,
      overflows: this.#overflows,
      stalls,
      refills: this.#refills,
      receiptFailures: this.#receipts?.failures ?? 0,
    };
  }

  /** Whether the store took the last write, or opened and has not been written to yet. */
  get up(): boolean {
    return this.#writer.up && this.#blocked === undefined;
  }

  /** Whether the sink was ever open. */
  get hasOpened(): boolean {
    return this.#writer.hasOpened;
  }

  get lastFailure(): StoreFailure | undefined {
    return this.#blocked ?? this.#writer.lastFailure;
  }

  /** By receipts it is known whether the store was restored from a backup. */
  get receipts(): ReceiptStatus {
    return this.#receipts?.status ?? NEVER_ASKED;
  }

  /** Since when the store takes nothing, in ms since 1970; undefined while it does. */
  get downSince(): number | undefined {
    return this.#blocked?.at ?? this.#writer.downSince;
  }

  /** In how many ms the store is tried again; undefined if that is under way, or does not depend on time. */
  get nextAttemptMs(): number | undefined {
    return this.resting ? undefined : this.#writer.nextAttemptMs;
  }

  /** Start of the first window that is not confirmed. */
  get next(): number {
    return this.#queue.next;
  }

  /** All windows before this time are confirmed; undefined if nobody knows, for its checkpoint cannot be read. */
  get confirmedTo(): number | undefined {
    return this.#blocked === undefined ? this.next : this.#stored?.confirmedTo;
  }

  /** Start of the first window of the pipeline that it was not offered yet. */
  get offeredTo(): number {
    return this.#merging === undefined ? this.#queue.offeredTo : this.#mergedTo;
  }

  /**
   * The sequence up to which all messages had been read when the windows before `next` were closed; undefined if
   * unknown.
   */
  get closedThrough(): number | undefined {
    return this.#queue.closedThrough;
  }

  /** See `WindowQueue`. */
  get closed(): ClosedBoundary | undefined {
    return this.#queue.closed;
  }

  /** How many of the latest windows have points, and none of a name that the sink gets; 0 if they are few. */
  get unchosenWindows(): number {
    const { unchosen } = this.#queue;
    return unchosen < UNCHOSEN_WINDOWS ? 0 : unchosen;
  }

  get backlogPoints(): number {
    return this.#queue.points;
  }

  get backlogBytes(): number {
    return this.#queue.bytes + (this.#merging?.bytes ?? 0);
  }

  /** Runs until `stop`: opens the sink, writes what is offered, keeps the checkpoint. */
  async run(): Promise<void> {
    const { limits, keeper } = this.#options;
    // The start of a sink without a checkpoint is decided once: when it is first open. A restart after that must not
    // forget it: nobody would repair the rows that were written before another start.
    this.#confirm();
    const tasks = Array.from({ length: limits.inFlight }, () => this.#write());
    await Promise.all([this.#writer.keepOpen(), keeper?.run(this.#halt.signal), ...tasks]);
    await this.#flushed.promise;
    await this.#writer.close();
  }

  /**
   * Takes a window from the live path. Never waits: if the backlog is exceeded, the lane leaves its windows to replay
   * (or drops the oldest).
   */
  offer(sized: SizedWindow): void {
    if (this.#catchingUp) return;
    if (this.#merging === undefined) this.#accept(sized);
    else if (this.#isNext(sized.window)) this.#merge(this.#merging, sized);
  }

  #merge(merging: Merging, sized: SizedWindow): void {
    // While a store takes the only one that waits, the next one is made beside it, however large both are: one that
    // takes longer to write than WINDOW would be dropped each time before it is written, and read again.
    const isRoom = this.#queue.empty || (this.#queue.size === 1 && this.up);
    const mayExceed = isRoom && !merging.isBehind;
    merging.offer(sized);
    const isFull = !mayExceed && merging.bytes > 0 && this.backlogBytes > this.#options.backlogBytes;
    if (!isFull) return;
    if (this.#options.replayable) this.#fallBehind();
    // What waits to be merged takes more room than what it is merged into.
    else merging.finish();
  }

  /** Whether a window of the pipeline was not offered yet. From now on it was. */
  #isNext({ start, windowMs }: ClosedWindow): boolean {
    if (start < this.#mergedTo) return false;
    this.#mergedTo = start + windowMs;
    return true;
  }

  /** Takes a window of the sink. */
  #accept(sized: SizedWindow): void {
    const isTooMuch = !this.#queue.empty && this.#queue.bytes + sized.bytes > this.#options.backlogBytes;
    if (isTooMuch && this.#queue.needs(sized)) {
      if (this.#options.replayable) {
        this.#fallBehind();
        return;
      }
      this.#dropUntilFits(sized.bytes);
    }
    this.#enter(sized);
    this.#work.ring();
  }

  #enter(sized: SizedWindow): void {
    this.#queue.offer(sized);
    const { unchosenWindows } = this;
    if (unchosenWindows === 0 || this.#hasToldUnchosen) return;
    this.#hasToldUnchosen = true;
    this.#options.events.nothingChosen?.(unchosenWindows);
  }

  /** Tells the lane, from the live path, that every window before `boundary` has been offered. */
  advance(boundary: number, sequence: number): void {
    if (this.#catchingUp) return;
    if (this.#merging === undefined) {
      this.#pass(boundary, sequence);
      return;
    }
    this.#mergedTo = Math.max(this.#mergedTo, boundary);
    this.#merging.advance(boundary, sequence);
  }

  /** Takes windows of the sink, in place of what it was offered before `boundary`. */
  #acceptMade(windows: readonly ClosedWindow[], boundary: number, sequence: number): void {
    for (const window of windows) {
      this.#accept(sizeWindow(window));
      if (this.#catchingUp) return;
    }
    this.#pass(boundary, sequence);
  }

  #pass(boundary: number, sequence: number): void {
    this.#mergedTo = Math.max(this.#mergedTo, boundary);
    this.#queue.advance(this.#merging?.startOf(boundary) ?? boundary, sequence);
    this.#confirm();
    // Without anything to write, nothing is settled, and a rewrite may wait for `next`.
    this.#settled.ring();
  }

  /**
   * Stops writing until `resume`. If the stream can be read again, the lane releases its copies (I7): nothing is lost
   * while the stream holds the messages. End any catch-up first.
   */
  pause(): void {
    if (this.#paused) return;
    this.#paused = true;
    this.#leaveAlone();
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#takeUp();
  }

  /**
   * As `pause`, until `unblock`, and independent of it. End any catch-up first. `stored`: what a lane that has not
   * begun is known to have confirmed earlier.
   */
  block(failure: StoreFailure, stored: Pick<Lane, 'confirmedTo'> = { confirmedTo: this.next }): void {
    this.#blocked = failure;
    this.#stored = stored;
    this.#leaveAlone();
  }

  unblock(): void {
    if (this.#blocked === undefined) return;
    this.#blocked = undefined;
    this.#takeUp();
  }

  /** Whether the store is left alone: the lane is paused or blocked. */
  get resting(): boolean {
    return this.#paused || this.#blocked !== undefined;
  }

  /** Whether a stored checkpoint that cannot be read, or who else writes to the store, keeps the lane from writing. */
  get blocked(): boolean {
    return this.#blocked !== undefined;
  }

  /** The store said which one it is. */
  #identified(identity: string, compare: () => OlderContent | undefined): void {
    this.#options.events.identified?.(identity);
    if (this.#blocked !== undefined) return;
    const known = this.#replacedBy ?? this.#identity;
    if (known === undefined) this.#identity = identity;
    if (!this.#options.replayable) return;
    if (known !== undefined && known !== identity) {
      this.#receipts?.forget();
      this.#replaced(identity, undefined);
      return;
    }
    const older = compare();
    if (older !== undefined) this.#replaced(identity, older);
  }

  #replaced(identity: string, older: OlderContent | undefined): void {
    this.#replacedBy = identity;
    this.#replacements += 1;
    this.#refills += 1;
    this.#clear();
    this.#catchingUp = true;
    this.#options.events.storeReplaced?.(older);
  }

  /** Resolves to what the checkpoint at `next` may say. The one where a sink begins must not wait for the store. */
  async #receiptsFor(next: number, isFirst: boolean): Promise<Checkpoint['receipts']> {
    if (!isFirst || !this.#options.begins) await this.#giveReceipt(next);
    return this.#receipts?.claim(this.#isWholeTo(next));
  }

  #isWholeTo(next: number): boolean {
    return this.#replacedBy === undefined && this.next >= next;
  }

  /**
   * Has the store keep that it has all windows before `next`. Also while it is filled again: if it were restored from
   * the same backup once more, it would lose what it got since.
   */
  async #giveReceipt(next: number): Promise<void> {
    const receipts = this.#receipts;
    const mayBeAsked = this.#writer.opened && this.#writer.up && !this.resting;
    if (receipts === undefined || !mayBeAsked || this.#identity === undefined) return;
    if (!receipts.isDue(this.#latestWritten)) return;
    const older = await this.#givenReceipt(receipts, next, () => this.#isWholeTo(next));
    if (older !== undefined && this.#options.replayable) this.#replaced(this.#identity, older);
  }

  /** If that fails, it is counted, and comes with the next checkpoint. */
  async #givenReceipt(
    receipts: Receipts,
    next: number,
    isWhole: () => boolean,
  ): Promise<OlderContent | undefined> {
    const { timeoutMs, clock, events } = this.#options;
    const late = new AbortController();
    const given = new AbortController();
    const limitMs = Math.min(timeoutMs, RECEIPT_TIMEOUT_MS);
    const tooLate = clock.sleep(limitMs, given.signal).then(() => {
      late.abort();
      throw new Error(`no answer within ${limitMs} ms`);
    });
    const wasFailing = receipts.status.state === 'failing';
    const giving = receipts.give(next, isWhole, late.signal);
    try {
      const older = await Promise.race([giving, tooLate]);
      const { state } = receipts.status;
      // A store that lets us keep none from now on says that itself.
      if (wasFailing && state === 'kept') events.receiptsChanged?.(undefined);
      return older;
    } catch (error) {
      const message = failureInWords(error);
      if (receipts.failed(message)) events.receiptsChanged?.(message);
      return undefined;
    } finally {
      // Whichever of them is left fails later, or not at all.
      giving.catch(() => {});
      tooLate.catch(() => {});
      given.abort();
    }
  }

  /**
   * The store gets all windows from `from` on again, from a replay. The checkpoint stays until they have passed it. If
   * the store was replaced several times, the lane waits for the answer to each.
   */
  beginAgain(from: number): void {
    this.#replacements -= 1;
    this.#beginsAgainAt = Math.min(this.#beginsAgainAt, from);
    if (this.#replacements > 0) return;
    this.#queue.restart(this.#beginsAgainAt);
    this.#mergeAnew();
    this.#beginsAgainAt = Number.POSITIVE_INFINITY;
    this.#identity = this.#replacedBy;
    this.#replacedBy = undefined;
    if (!this.resting) this.#options.events.fellBehind();
  }

  #leaveAlone(): void {
    this.#writer.pause();
    if (!this.#options.replayable) return;
    this.#clear();
    this.#catchingUp = true;
  }

  #clear(): void {
    this.#queue.clear();
    this.#mergeAnew();
  }

  /** Forgets the window that is being merged: the windows that it is made of come again, from its start. */
  #mergeAnew(): void {
    this.#merging?.clear();
    this.#mergedTo = this.#queue.offeredTo;
  }

  #takeUp(): void {
    if (this.resting) return;
    this.#writer.resume();
    // Otherwise, what it begins again with follows.
    if (this.#options.replayable && this.#replacedBy === undefined) this.#options.events.fellBehind();
  }

  #goOn(): void {
    this.#paused = false;
    this.#writer.resume();
  }

  /** Ignores the live path until `join`. The replay begins with `offeredTo`. */
  startCatchUp(): void {
    this.#catchingUp = true;
    this.#mergeAnew();
  }

  /**
   * Takes windows from the replay, as `offer` and `advance` do, but waits until there is room, which holds back the
   * replay.
   */
  async replay(
    windows: readonly SizedWindow[],
    boundary: number,
    sequence: number,
    signal: AbortSignal,
  ): Promise<void> {
    // One that was ended reads on for a moment. Another one may have begun since, with earlier windows.
    if (signal.aborted) return;
    const merging = this.#merging;
    const own = merging === undefined ? windows : await this.#merged(merging, windows, boundary, signal);
    for (const sized of own) {
      await this.#enqueue(sized, signal, () => this.#enter(sized));
      if (signal.aborted) return;
    }
    // A replay that was ended must not advance past windows that have been released since.
    if (signal.aborted) return;
    this.#pass(boundary, sequence);
  }

  async #merged(
    merging: Merging,
    windows: readonly SizedWindow[],
    boundary: number,
    signal: AbortSignal,
  ): Promise<readonly SizedWindow[]> {
    const added = windows.map(({ window }) => window).filter((window) => this.#isNext(window));
    return (await merging.replay(added, boundary, signal)).map(sizeWindow);
  }

  /**
   * Resolves when it is time for a replay to read on: the backlog is small, or most of it is written. While a store
   * takes nothing, what the replay would read next had only to wait in memory.
   */
  async untilReplayed(signal: AbortSignal): Promise<void> {
    while (!signal.aborted && this.#queue.bytes > REPLAYED_AHEAD_BYTES && this.#queue.mostlyWaits)
      await this.#settled.wait(signal);
  }

  /**
   * Holds the checkpoint where it is until `release`, because a window that was handed out has to be computed again: a
   * restart then finds the reason again.
   */
  hold(): void {
    this.#holds += 1;
  }

  release(): void {
    this.#holds -= 1;
    this.#confirm();
  }

  /** Rewrites windows that were confirmed before. Resolves when all of them are written, or when the signal aborts. */
  async rewrite(windows: readonly SizedWindow[], signal: AbortSignal): Promise<void> {
    for (const sized of windows) {
      // Points of the old window that are still to be written must not arrive after the new ones.
      while (this.next <= sized.window.start && !signal.aborted) await this.#settled.wait(signal);
      await this.#enqueue(sized, signal, () => this.#queue.rewrite(sized));
      if (signal.aborted) return;
    }
    while (windows.some((sized) => this.#queue.isRewriting(sized)) && !signal.aborted) {
      await this.#settled.wait(signal);
    }
  }

  /**
   * Calls `add` when there is room, with no await in between: a replay and a rewrite that wait together must not both
   * take the same room.
   */
  async #enqueue(sized: SizedWindow, signal: AbortSignal, add: () => void): Promise<void> {
    const room = Math.min(REPLAYED_BYTES, this.#options.backlogBytes);
    while (!signal.aborted && !this.#queue.empty && this.#queue.bytes + sized.bytes > room)
      await this.#settled.wait(signal);
    if (signal.aborted) return;
    add();
    this.#work.ring();
  }

  /** Saves where a sink begins without a checkpoint. Nothing was written, whatever holds the checkpoint later. */
  #begin(): void {
    const { begins, keeper, from, closedThrough = 0 } = this.#options;
    if (!begins) return;
    keeper?.confirmed(from, closedThrough, this.#identity);
    this.#confirm();
  }

  #confirm(): void {
    if (this.#holds > 0 || this.#replacedBy !== undefined) return;
    // Only by saving its checkpoint does a blocked lane learn that it may go on.
    if (this.#options.begins && !this.#writer.hasOpened && !this.blocked) return;
    this.#options.keeper?.confirmed(this.next, this.#queue.closedThrough ?? 0, this.#identity);
  }

  /** Returns the lane to the live path, whose next window must not start after `offeredTo`. */
  join(): void {
    this.#catchingUp = false;
  }

  /** Writes what is queued until `deadline`, then ends the lane and saves the last checkpoint. */
  async stop(deadline: AbortSignal): Promise<void> {
    // Messages that cannot be read again must not be lost because of a pause.
    if (!this.#options.replayable) this.#goOn();
    this.#merging?.finish();
    if (!this.#options.replayable)
      for (const window of this.#merging?.takeAll() ?? []) this.#accept(sizeWindow(window));
    while (!this.resting && !this.#queue.empty && !deadline.aborted) await this.#settled.wait(deadline);
    this.#halt.abort();
    await this.#options.keeper?.flush();
    this.#flushed.resolve();
  }

  /**
   * Ends the lane while its engine goes on: another one takes its place. Writes under way end first, so that none of
   * them lands on what that one writes. End any catch-up first. `hurry` ends the wait.
   */
  async end(hurry: AbortSignal): Promise<void> {
    this.#leaveAlone();
    await this.#writer.quiet(AbortSignal.any([hurry, this.#halt.signal]));
    await this.stop(AbortSignal.abort());
  }

  #fallBehind(): void {
    this.#overflows += 1;
    this.#clear();
    this.#catchingUp = true;
    this.#options.events.fellBehind();
  }

  #dropUntilFits(bytes: number): void {
    while (!this.#queue.empty && this.#queue.bytes + bytes > this.#options.backlogBytes) {
      const dropped = this.#queue.dropOldest();
      if (dropped === 0) return;
      this.#dropped += dropped;
    }
  }

  /** Runs one of the lane's writers: one batch in flight at a time. */
  async #write(): Promise<void> {
    const { signal } = this.#halt;
    const { begins = false, keeper } = this.#options;
    if (begins && keeper !== undefined) await unlessAborted(keeper.stored, signal);
    while (!signal.aborted) {
      const job = this.#queue.take();
      if (job === undefined) {
        await this.#work.wait(signal);
        continue;
      }
      const refused = await this.#writer.deliver(job.batch, () => this.#queue.holds(job));
      const isReleased = !this.#queue.holds(job);
      if (!signal.aborted) {
        const { next } = this;
        for (const done of this.#queue.settle(job, refused)) {
          this.#latestWritten = Math.max(this.#latestWritten, done.window.start);
          this.#options.events.confirmed?.(done.window, done.refused, done.window.start < next);
        }
        this.#confirm();
      }
      this.#settled.ring();
      // Other writers may wait for its window to be free.
      if (isReleased) this.#work.ring();
    }
  }
}
