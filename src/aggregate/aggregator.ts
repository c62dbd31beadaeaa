import { type FoldedName, FoldedNames } from './folded-names.ts';
import { NameLimits } from './name-limits.ts';
import type { MetricType } from './point.ts';
import { COUNTER, GAUGE, type Sample } from './sample.ts';
import type { SeriesHolder, SeriesTable } from './series-table.ts';
import { type Epoch, floorTo, type Tiling } from './tiling.ts';
import { type ClosedWindow, OpenWindow, type WindowSizes } from './window.ts';

/** The most names of a window that have limits of their own: those that come first. */
export const MAX_LIMITED_NAMES = 50_000;

/** The most windows to remember that must be computed again, until the caller takes them. */
export const MAX_REOPENED = 4096;

/** All times are whole milliseconds since 1970. */
export interface AggregatorOptions {
  readonly tiling: Tiling;
  /** Start of the first window to compute: samples of earlier windows are ignored (I6). -Infinity: compute all. */
  readonly from: number;
  /**
   * Stream sequence up to which everything had been read when the windows before `from` were closed, if known. A later
   * sample for such a window reopens it.
   */
  readonly closedThrough?: number | undefined;
  /** See `Point.instance`. */
  readonly instance?: string;
  /** Compute only the windows whose number is `index` modulo `of`; other instances compute the rest. */
  readonly slice?: { readonly index: number; readonly of: number };
  /** Whether closed windows keep their sketches until somebody takes them: see `ClosedWindow.takeSketches`. */
  readonly keepsSketches?: boolean;
  /** Whether points have their sketches: see `Point`. */
  readonly hasSketches?: boolean;
  /** Whether to note which names are folded: see `takeFolded`. */
  readonly notesFolds?: boolean;
  /** Told when a sample made a series into which its own is folded: that costs as much as a new spelling. */
  readonly onFolded?: () => void;
}

/**
 * Every added sample is counted under its type. Some of these are ignored, foreign or reopened; all others are in a
 * window.
 */
export interface AggregatorStats extends Record<MetricType, number> {
  /** In the window of their stream time instead of that of their event time (I1). */
  late: number;
  ahead: number;
  /** Folded into an overflow series. */
  overflowed: number;
  /** Of timers whose sketch got no more bins, so that the lowest values were counted together. */
  coarse: number;
  /** Of windows before `from`, which already hold them. */
  ignored: number;
  /** Of windows of other slices. */
  foreign: number;
  /** Of windows that are already closed: see `takeReopened`. */
  reopened: number;
  /** Of windows that had to be reopened but could not be remembered. */
  reopenedLost: number;
}

/**
 * Puts samples into tumbling windows and hands the windows out when they are complete. The points depend on the order
 * of the samples, their stream times and the options, and on nothing else (I3). It does not matter when `close` is
 * called.
 */
export class Aggregator implements SeriesHolder {
  readonly stats: AggregatorStats = {
    counter: 0,
    gauge: 0,
    timer: 0,
    late: 0,
    ahead: 0,
    overflowed: 0,
    coarse: 0,
    ignored: 0,
    foreign: 0,
    reopened: 0,
    reopenedLost: 0,
  };
  readonly #table: SeriesTable;
  readonly #options: AggregatorOptions;
  readonly #open = new Map<number, OpenWindow>();
  /** The window of the last sample, and usually that of the next one too. */
  #recent: OpenWindow | undefined;
  /** The series of the last closed window, which will most likely appear again in those that are being filled. */
  #lastClosed: Int32Array = new Int32Array();
  #completeAt = Number.POSITIVE_INFINITY;
  /** What the series of that window cost, and what they might have cost. */
  #lastSeriesBytes = 0;
  #lastBudget = Number.POSITIVE_INFINITY;
  #sizes: WindowSizes = { values: 0, numbers: 0, points: 0 };
  #boundary: number;
  readonly #reopened = new Set<number>();
  readonly #limits = new Map<Epoch, NameLimits>();
  #folded: FoldedName[] = [];
  /** The windows that `adoptWindows` was called with. */
  readonly #adopted: { readonly from: number; readonly sequence: number }[] = [];
  /** Windows before `from` of which samples were ignored, with the sequence of the last of these. */
  readonly #ignored = new Map<number, number>();

  constructor(table: SeriesTable, options: AggregatorOptions) {
    this.#table = table;
    this.#options = options;
    this.#boundary = options.from;
    table.hold(this);
  }

  /** Start of the first incomplete window. All earlier ones were handed out, or are empty. Never decreases. */
  get boundary(): number {
    return this.#boundary;
  }

  get openWindows(): number {
    return this.#open.size;
  }

  /** The stream time from which on a window may be complete; Infinity if none is open. */
  get completeAt(): number {
    return this.#completeAt;
  }

  /** The stream time at which the boundary moves next. */
  get boundaryMovesAt(): number {
    const { tiling } = this.#options;
    return tiling.endOf(this.#boundary) + tiling.epochAt(this.#boundary).latenessMs;
  }

  /** What the series of a window cost: the most of any open window and the last closed one. */
  get seriesBytes(): number {
    return Math.max(this.#lastSeriesBytes, ...[...this.#open.values()].map(({ budget }) => budget.used));
  }

  /** Adds a sample, whose series must be a number of this aggregator's table. `sequence` is that of its message. */
  add(sample: Sample, streamTime: number, sequence = 0): void {
    const { type } = sample;
    // Each by its name: looking up a property by a computed key is expensive.
    if (type === COUNTER) this.stats.counter++;
    else if (type === GAUGE) this.stats.gauge++;
    else this.stats.timer++;
    const eventTime = Number.isNaN(sample.eventTime) ? streamTime : sample.eventTime;
    const window = this.#windowOf(eventTime, streamTime, sequence);
    if (window === undefined) return;
    const row = window.rowOf(sample.series) || this.#admit(window, sample.series, type);
    window.add(row, sample, eventTime);
  }

  /** Loads the rows of the series whose samples come next, assuming that they belong in the current window. */
  prefetch(series: Int32Array, count: number): void {
    this.#recent?.prefetch(series, count);
  }

  /** Closes and returns the windows that are complete at this stream time (I2), oldest first. */
  close(streamTime: number): ClosedWindow[] {
    return this.#closeBefore(this.#options.tiling.completeBefore(streamTime));
  }

  /** Closes and returns all windows, complete or not: for the end of core mode. */
  closeAll(): ClosedWindow[] {
    const ends = [...this.#open.values()].map(({ end }) => end);
    return this.#closeBefore(Math.max(...ends));
  }

  /**
   * Returns the starts of the windows that got a sample after they were handed out, since the last call, in ascending
   * order. The sample was not added: the caller must compute the window again from the stream.
   */
  takeReopened(): number[] {
    const starts = [...this.#reopened].sort((a, b) => a - b);
    this.#reopened.clear();
    return starts;
  }

  /** Returns what was folded in the windows that were closed since the last call, by window and name. */
  takeFolded(): FoldedName[] {
    const folded = this.#folded;
    this.#folded = [];
    return folded;
  }

  /**
   * From now on also watches the windows from `from` on, which this aggregator does not compute. They were closed when
   * everything up to `sequence` had been read. A later sample reopens its window, even if it was already ignored.
   */
  adoptWindows(from: number, sequence: number): void {
    this.#adopted.push({ from, sequence });
    for (const [start, last] of this.#ignored) {
      if (!this.#isAdopted(start, last)) continue;
      this.#ignored.delete(start);
      this.#remember(start);
    }
  }

  /** Ends the use of this aggregator: the table may forget its series. */
  release(): void {
    this.#table.release(this);
  }

  markSeries(mark: (series: number) => void): void {
    let largest = 0;
    let used = 0;
    let budgeted = this.#lastBudget;
    for (const { numbers, budget, roomOf } of this.#open.values()) {
      markAll(numbers, mark);
      // What a name has left is known by the number of its overflow series, which may have no row.
      for (const overflow of roomOf.keys()) mark(overflow);
      largest = Math.max(largest, numbers.length);
      used += budget.used;
      budgeted = Math.max(budgeted, budget.total);
    }
    const last = this.#lastClosed;
    // Of no use once a window has as many series: it has what appears again.
    if (largest >= last.length) return;
    // Series usually appear in the same order, so those from the end have yet to. If all of them and those of the open
    // windows cost more than a window may, the windows have not the same series, and few will appear again.
    const fitting = Math.floor((last.length * Math.max(0, budgeted - used)) / this.#lastSeriesBytes);
    markAll(fitting < last.length ? last.subarray(last.length - fitting) : last, mark);
  }

  /** Returns the window of a sample by I1; undefined if the sample must not be added. */
  #windowOf(eventTime: number, streamTime: number, sequence: number): OpenWindow | undefined {
    const recent = this.#recent;
    if (
      recent !== undefined &&
      eventTime >= recent.start &&
      eventTime < recent.end &&
      streamTime < recent.completeAt &&
      eventTime <= streamTime + recent.epoch.maxAheadMs
    ) {
      return recent;
    }
    return this.#assign(eventTime, streamTime, sequence);
  }

  #assign(eventTime: number, streamTime: number, sequence: number): OpenWindow | undefined {
    const { tiling, from, closedThrough } = this.#options;
    const own = tiling.epochAt(eventTime);
    const late = streamTime >= floorTo(eventTime, own.windowMs) + own.windowMs + own.latenessMs;
    const ahead = eventTime > streamTime + own.maxAheadMs;
    const time = late || ahead ? streamTime : eventTime;
    const epoch = late || ahead ? tiling.epochAt(streamTime) : own;
    const start = floorTo(time, epoch.windowMs);
    if (!this.#isOurs(start, epoch.windowMs)) {
      this.stats.foreign++;
      return undefined;
    }
    if (
      start < from &&
      !(closedThrough !== undefined && sequence > closedThrough) &&
      !this.#isAdopted(start, sequence)
    ) {
      this.stats.ignored++;
      if (this.#ignored.size < MAX_REOPENED || this.#ignored.has(start)) this.#ignored.set(start, sequence);
      return undefined;
    }
    if (start < this.#boundary) {
      this.#reopen(start);
      return undefined;
    }
    if (late) this.stats.late++;
    if (ahead) this.stats.ahead++;
    let window = this.#open.get(start);
    if (window === undefined) {
      window = new OpenWindow(start, epoch, this.#sizes, this.stats, this.#options.hasSketches);
      this.#open.set(start, window);
      this.#completeAt = Math.min(this.#completeAt, window.completeAt);
    }
    this.#recent = window;
    return window;
  }

  #isOurs(start: number, windowMs: number): boolean {
    const { slice } = this.#options;
    if (slice === undefined || slice.of === 1) return true;
    const remainder = (start / windowMs) % slice.of;
    return (remainder < 0 ? remainder + slice.of : remainder) === slice.index;
  }

  #isAdopted(start: number, sequence: number): boolean {
    return this.#adopted.some((adopted) => start >= adopted.from && sequence > adopted.sequence);
  }

  #reopen(start: number): void {
    this.stats.reopened++;
    this.#remember(start);
  }

  #remember(start: number): void {
    if (this.#reopened.size < MAX_REOPENED || this.#reopened.has(start)) this.#reopened.add(start);
    else this.stats.reopenedLost++;
  }

  /**
   * Makes a row for a series that has none in the window, or finds that of its overflow series. The limits count only
   * the series of this window, in the order of the stream, so a window's points do not depend on its neighbors. A
   * series that does not fit never will, because a budget only shrinks.
   */
  #admit(window: OpenWindow, series: number, type: number): number {
    const { budget, epoch } = window;
    const { maxSeries } = epoch;
    const table = this.#table;
    if (!table.isOverflow(series)) {
      const room = this.#roomOf(window, series);
      if (room > 0 && window.ordinary < maxSeries && budget.admit(table.costOf(series))) {
        window.ordinary++;
        if (Number.isFinite(room)) window.roomOf.set(table.overflowOf(series), room - 1);
        return window.enter(series, type);
      }
      this.stats.overflowed++;
      const overflow = this.#overflowOf(series);
      if (this.#options.notesFolds) {
        window.folded ??= new FoldedNames();
        window.folded.add(series, overflow, table);
      }
      series = overflow;
      const row = window.rowOf(series);
      if (row !== 0) return row;
    }
    // There is no limit on names either: if no more overflow series fit, one per type takes the rest, at no cost.
    if (window.overflow >= maxSeries || !budget.admitOverflow(table.costOf(series))) {
      series = table.overflowOfAll(type);
      const row = window.rowOf(series);
      if (row !== 0) return row;
    }
    window.overflow++;
    return window.enter(series, type);
  }

  /** Returns how many more series of this one's name and type the window takes, as far as there is a limit of them. */
  #roomOf({ epoch, roomOf }: OpenWindow, series: number): number {
    if (epoch.maxSeriesByName === undefined) return Number.POSITIVE_INFINITY;
    const overflow = this.#overflowOf(series);
    const known = roomOf.get(overflow);
    if (known !== undefined) return known;
    if (roomOf.size >= MAX_LIMITED_NAMES) return Number.POSITIVE_INFINITY;
    let limits = this.#limits.get(epoch);
    if (limits === undefined) {
      limits = new NameLimits(epoch.maxSeriesByName);
      this.#limits.set(epoch, limits);
    }
    const room = limits.of(this.#table.series(series).name);
    roomOf.set(overflow, room);
    return room;
  }

  #overflowOf(series: number): number {
    const before = this.#table.size;
    const overflow = this.#table.overflowOf(series);
    if (this.#table.size !== before) this.#options.onFolded?.();
    return overflow;
  }

  #closeBefore(boundary: number): ClosedWindow[] {
    if (!(boundary > this.#boundary)) return [];
    this.#boundary = boundary;
    const starts = [...this.#open.keys()].filter((start) => start < boundary).sort((a, b) => a - b);
    const closed = starts.map((start) => this.#closeOne(start));
    this.#completeAt = Math.min(...[...this.#open.values()].map(({ completeAt }) => completeAt));
    return closed;
  }

  #closeOne(start: number): ClosedWindow {
    const window = this.#open.get(start)!;
    this.#open.delete(start);
    if (this.#recent === window) this.#recent = undefined;
    this.#lastClosed = window.numbers;
    this.#lastSeriesBytes = window.budget.used;
    this.#lastBudget = window.budget.total;
    this.#sizes = window.sizes;
    if (window.folded !== undefined) this.#folded.push(...window.folded.list());
    const { instance = '', keepsSketches } = this.#options;
    return window.close(this.#table, instance, keepsSketches);
  }
}

/** Often runs before the compiler has seen to it, on many numbers: a loop by index is much faster then. */
function markAll(numbers: Int32Array, mark: (series: number) => void): void {
  for (let i = 0; i < numbers.length; i++) mark(numbers[i]!);
}
