/**
 * Removes what a rollback of the stream left in a store. A window that is computed again may lack series that the store
 * has rows of: only messages that the stream took back had them. Writing the window again does not remove these rows.
 *
 * When a lane begins, the store is asked which windows it holds from there on: somebody wrote them before. Normally
 * these are the last few, and all their rows are written again. After a rollback they are all that it touched, even if
 * the checkpoints were set back together with the stream. Each is swept once the lane has written it. The checkpoint
 * waits for that.
 *
 * Pipelines may share a table. So a row is removed only if the windows before hold no rows but ours.
 */
import type { Tiling } from '../aggregate/tiling.ts';
import type { Clock } from '../base/clock.ts';
import { backoffMs } from '../base/clock.ts';
import type { Slice } from '../config/core-settings.ts';
import type { WindowRange } from '../sink/contract.ts';
import type { Lane } from './lane/lane.ts';
import type { ClosedBoundary } from './lane/queue.ts';
import type { StraySink } from './lane/writer.ts';
import type { NameChoices } from './name-choices.ts';
import type { Recomputed } from './replay/recompute-window.ts';
import { CLOCK_MARGIN_MS } from './start-points.ts';

/** How many windows before the lane's first one must hold no rows but ours. */
const WITNESSES = 30;
/** For one question to the store. */
const TIMEOUT_MS = 120_000;
/** For one window to be computed. The checkpoint waits meanwhile. */
const RECOMPUTE_MS = 30_000;
const IDLE_RECOMPUTE_MS = 5_000;
/** How often the store is asked in vain, while it takes writes, before the rows are left. */
const MAX_FAILURES = 20;
/** The same if no rollback is known, so that there is hardly anything to find. */
const MAX_IDLE_FAILURES = 3;
/** How often to look whether the lane has passed a window. */
const POLL_MS = 250;
/** How many boundaries are kept. Of more, the earliest are forgotten, and more is read than needed. */
const MAX_PASSED = 4000;

/** Counts of windows since the start. */
export interface StrayWindows {
  /** Windows from which rows were removed that the stream no longer gives. */
  removed: number;
  /** Windows that hold such rows, or may: nobody can tell, or the store cannot remove single rows. */
  left: number;
}

export interface SweepOptions {
  readonly lane: Lane;
  /** Start of the first window that the lane writes. */
  readonly from: number;
  readonly instance: string;
  /** Absent if the store cannot be read by range, or cannot remove single rows. */
  readonly strays: StraySink | undefined;
  /** Which names the sink gets; absent: all. Rows of other names are left alone. */
  readonly names?: NameChoices | undefined;
  /** The windows that a rollback touched, if one is known. */
  readonly rolledBack: WindowRange | undefined;
  readonly tiling: Tiling;
  readonly slice: Slice;
  readonly recompute: (
    start: number,
    through: number,
    signal: AbortSignal,
  ) => Promise<Recomputed | undefined>;
  /** Has a window computed and written again. */
  readonly rewrite: (start: number, through: number) => void;
  readonly clock: Clock;
  /** Called once, at the end, if anything was removed or left. Synchronous; must not throw. */
  readonly swept: (windows: StrayWindows, why: string | undefined) => void;
}

export class Sweep {
  readonly stats: StrayWindows = { removed: 0, left: 0 };
  readonly #options: SweepOptions;
  /** Windows that got a message after they were handed out. */
  readonly #reopened = new Map<number, number>();
  /** Whether others write to the same table. */
  #others: 'none' | 'found' | 'unknown' | undefined;
  /** The boundaries of the lane from time to time, ascending. */
  readonly #passed: ClosedBoundary[] = [];
  /** Whether everything is swept: the checkpoint does not wait any more. */
  isOver = false;

  constructor(options: SweepOptions) {
    this.#options = options;
  }

  /** See `SweepOptions`. */
  get rolledBack(): WindowRange | undefined {
    return this.#options.rolledBack;
  }

  /** See `Verifier`. */
  reopened(start: number, through: number): void {
    if (!this.isOver) this.#reopened.set(start, through);
  }

  /** Resolves when everything is swept, or when the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { lane, strays, swept } = this.#options;
    let why: string | undefined;
    if (strays === undefined) {
      this.#leave();
      why = 'this kind of store cannot be asked for them, or cannot remove single rows';
    } else {
      lane.hold();
      void this.#follow(signal);
      why = await this.#sweep(strays, signal).catch((error: unknown) => String(error));
      if (signal.aborted) return;
      lane.release();
    }
    this.isOver = true;
    this.#reopened.clear();
    this.#passed.length = 0;
    if (this.stats.removed + this.stats.left > 0) swept(this.stats, why);
  }

  /** Resolves to why rows were left, if any were. */
  async #sweep(strays: StraySink, signal: AbortSignal): Promise<string | undefined> {
    const { from, clock, tiling } = this.#options;
    // Nobody can have written a window that begins later, whatever the server's clock says.
    const to = tiling.endOf(clock.now() + tiling.maxAheadMs + CLOCK_MARGIN_MS);
    const held = await this.#tried(signal, (until) => strays.windows({ from, to }, until));
    if (held === undefined) {
      this.#leave();
      return 'the store did not say what it holds';
    }
    let why: string | undefined;
    // Rows of other lengths, or of none: they are in a window of ours, and not of it.
    const starts = new Set(held.map((one) => tiling.startOf(one)));
    for (const start of [...starts].filter((one) => this.#isOurs(one))) {
      while (!this.#isPast(start) && !signal.aborted) await clock.sleep(POLL_MS, signal);
      if (signal.aborted) return undefined;
      const left = await this.#sweepOne(start, strays, signal);
      if (left === undefined) continue;
      why = left;
      // Without a rollback that is known, what cannot be looked at says nothing.
      if (this.#options.rolledBack === undefined) return undefined;
      this.stats.left += 1;
    }
    return why;
  }

  /** Whether the lane has written the window, and it is known what had been read when it was closed. */
  #isPast(start: number): boolean {
    const { next, closed } = this.#options.lane;
    return next > start && (closed === undefined || closed.boundary > start);
  }

  async #follow(signal: AbortSignal): Promise<void> {
    const { lane, clock } = this.#options;
    while (!this.isOver && !signal.aborted) {
      const { closed } = lane;
      if (closed !== undefined && this.#passed.at(-1)?.boundary !== closed.boundary)
        this.#passed.push(closed);
      if (this.#passed.length > MAX_PASSED) this.#passed.splice(0, MAX_PASSED / 2);
      await clock.sleep(POLL_MS, signal);
    }
  }

  /** Nobody can tell what the windows of a rollback hold. */
  #leave(): void {
    const { rolledBack, tiling } = this.#options;
    if (rolledBack !== undefined)
      this.stats.left += Math.round(tiling.windowsBetween(rolledBack.from, rolledBack.to));
  }

  async #sweepOne(start: number, strays: StraySink, signal: AbortSignal): Promise<string | undefined> {
    const found = await this.#strays(start, strays, 'count', signal);
    if (found === 0 || signal.aborted) return undefined;
    if (found === undefined) return 'the stream no longer holds the window, or the store did not answer';
    this.#others ??= await this.#lookForOthers(strays, signal);
    if (signal.aborted) return undefined;
    if (this.#others === 'unknown')
      return 'no window before them tells whether others write to the same table';
    if (this.#others === 'found') return 'others write to the same table';
    const removed = await this.#strays(start, strays, 'remove', signal);
    if (signal.aborted) return undefined;
    // What came meanwhile may have been written, and then removed.
    const through = this.#reopened.get(start);
    if (through !== undefined) this.#options.rewrite(start, through);
    if (removed === undefined) return 'the store did not answer';
    if (removed > 0) this.stats.removed += 1;
    return undefined;
  }

  /**
   * Resolves to the number of rows that the store should not have; undefined if that cannot be found out. `count all`:
   * also of names that the sink does not get, for they may be another writer's.
   */
  async #strays(
    start: number,
    strays: StraySink,
    doing: 'count' | 'count all' | 'remove',
    signal: AbortSignal,
  ): Promise<number | undefined> {
    const { lane, recompute, rolledBack, tiling, instance } = this.#options;
    const remove = doing === 'remove';
    // If the server's clock was set back, the lane may have closed the window with more messages than its stream times
    // say. To read them all is expensive, so it is done only where something is removed.
    const closed = this.#passed.find(({ boundary }) => boundary > start) ?? lane.closed;
    const closedThrough = remove ? (closed?.sequence ?? 0) : 0;
    const through = Math.max(closedThrough, this.#reopened.get(start) ?? 0);
    const recomputeMs = rolledBack === undefined ? IDLE_RECOMPUTE_MS : RECOMPUTE_MS;
    const found = await this.#bounded(recomputeMs, signal, (until) => recompute(start, through, until));
    if (found === undefined) return undefined;
    const window = { start, windowMs: tiling.endOf(start) - start, instance };
    const names = doing === 'count all' ? undefined : this.#options.names?.of(window);
    return this.#tried(signal, (until) => strays.count(window, found.windows[0], remove, until, names));
  }

  /** Looks at the windows before the first one. `none`: they hold rows of ours, and no others. */
  async #lookForOthers(strays: StraySink, signal: AbortSignal): Promise<'none' | 'found' | 'unknown'> {
    const { from, tiling } = this.#options;
    let own = 0;
    let start = from;
    for (let looked = 0; looked < WITNESSES && !signal.aborted; looked++) {
      do start = tiling.startOf(start - 1);
      while (!this.#isOurs(start));
      const window = { from: start, to: tiling.endOf(start) };
      const held = await this.#tried(signal, (until) => strays.windows(window, until));
      if (held?.length === 0) continue;
      const others = await this.#strays(start, strays, 'count all', signal);
      if (others !== undefined && others > 0) return 'found';
      if (others === 0) own += 1;
    }
    return own > 0 ? 'none' : 'unknown';
  }

  #isOurs(start: number): boolean {
    const { slice, tiling } = this.#options;
    const number = start / tiling.epochAt(start).windowMs;
    return ((number % slice.of) + slice.of) % slice.of === slice.index;
  }

  /** Tries again while the store is down, and a few times while it is not. Resolves to undefined if that is no use. */
  async #tried<T>(signal: AbortSignal, ask: (until: AbortSignal) => Promise<T>): Promise<T | undefined> {
    const { clock, lane, rolledBack } = this.#options;
    const most = rolledBack === undefined ? MAX_IDLE_FAILURES : MAX_FAILURES;
    for (let failures = 0; failures < most && !signal.aborted; ) {
      const answer = lane.up ? await this.#bounded(TIMEOUT_MS, signal, ask) : undefined;
      if (answer !== undefined) return answer;
      if (lane.up) failures += 1;
      await clock.sleep(backoffMs(failures + 1, clock.random()), signal);
    }
    return undefined;
  }

  /** Resolves to undefined if the work fails, or takes too long. */
  async #bounded<T>(
    ms: number,
    signal: AbortSignal,
    work: (until: AbortSignal) => Promise<T | undefined>,
  ): Promise<T | undefined> {
    const over = new AbortController();
    const until = AbortSignal.any([signal, over.signal]);
    const late = this.#options.clock.sleep(ms, until).then(() => undefined);
    const done = work(until).catch(() => undefined);
    const result = await Promise.race([done, late]);
    over.abort();
    return result;
  }
}
