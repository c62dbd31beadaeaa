import type { ClosedWindow } from '../../aggregate/window.ts';
import type { SinkLimits } from '../../sink/contract.ts';
import { POINT_BYTES } from '../../sink/rows.ts';
import { WindowBatch } from './batch.ts';

/** A window on its way to the lanes, shared by all of them. */
export interface SizedWindow {
  readonly window: ClosedWindow;
  /** The estimated memory that it holds; the backlog is measured in this. */
  readonly bytes: number;
  /** The size of each point: see `pointBytes`. */
  readonly sizes: Uint32Array;
}

/** The memory that a point takes in addition to its series' text: typed-array columns and its share of the window. */
const POINT_MEMORY_BYTES = 120;

/** Returns the memory that a window is taken to hold, in bytes: the `bytes` of `sizeWindow`. */
export function windowBytes(window: ClosedWindow): number {
  let text = 0;
  for (let i = 0; i < window.size; i++) text += window.textBytesOf(i);
  return window.size * POINT_MEMORY_BYTES + window.sketchBytes + text;
}

export function sizeWindow(window: ClosedWindow): SizedWindow {
  const sizes = new Uint32Array(window.size);
  let text = 0;
  for (let i = 0; i < window.size; i++) {
    text += window.textBytesOf(i);
    sizes[i] = POINT_BYTES + window.textSizeOf(i) + window.sketchSizeOf(i);
  }
  return { window, bytes: window.size * POINT_MEMORY_BYTES + window.sketchBytes + text, sizes };
}

/** One batch being written. Its window is confirmed when all of the window's jobs are settled. */
export interface Job {
  readonly batch: WindowBatch;
  readonly entry: Entry;
}

/** All windows before `boundary` were closed after everything up to `sequence` had been read. */
export interface ClosedBoundary {
  readonly boundary: number;
  readonly sequence: number;
}

/** Returns the indices of the points of a window that a sink gets; undefined if it gets all. */
export type PickPoints = (window: ClosedWindow) => Uint32Array | undefined;

interface Entry {
  readonly sized: SizedWindow;
  /** Indices of the points that the sink gets; undefined if it gets all. */
  readonly chosen: Uint32Array | undefined;
  /** The sizes of these points. */
  readonly sizes: Uint32Array;
  /** Position of the next of these points to take. */
  cursor: number;
  /** Jobs that are taken but not settled. */
  open: number;
  /** Points neither written nor refused so far. */
  left: number;
  /** Points refused for good. */
  refused: number;
}

/** A window whose points are all written or refused for good. */
export interface Confirmed {
  readonly window: ClosedWindow;
  readonly refused: number;
}

/**
 * The windows that were offered to a lane and are not confirmed yet, oldest first. Confirmation is in order (I5):
 * `next` never passes a window with a point that is neither acknowledged nor refused for good.
 */
export class WindowQueue {
  readonly #limits: SinkLimits;
  #entries: Entry[] = [];
  /** Windows that were confirmed before and are being rewritten. They do not move `next`. */
  #rewrites: Entry[] = [];
  /** Windows that were released with batches in flight: until those are over, they are not written again. */
  #released: Entry[] = [];
  /** The closed boundaries from `next` on, ascending. */
  #closed: ClosedBoundary[] = [];
  readonly #first: number;
  readonly #pick: PickPoints;
  /** What was picked of windows that are about to be offered. */
  readonly #picked = new WeakMap<SizedWindow, Uint32Array | undefined>();
  #offeredTo: number;
  #unchosen = 0;
  #bytes = 0;
  #points = 0;

  /**
   * `from`: start of the first window needed; -Infinity for all. `closedThrough`: see the getter. `first`: start of the
   * first window that the sink ever gets. `pick`: which points of a window it gets.
   */
  constructor(
    limits: SinkLimits,
    from: number,
    closedThrough?: number,
    first: number = Number.NEGATIVE_INFINITY,
    pick: PickPoints = () => undefined,
  ) {
    this.#limits = limits;
    this.#first = first;
    this.#pick = pick;
    this.#offeredTo = from;
    if (closedThrough !== undefined) this.#closed.push({ boundary: from, sequence: closedThrough });
  }

  /** Start of the first window that was not offered yet. */
  get offeredTo(): number {
    return this.#offeredTo;
  }

  /** Start of the first window that is not confirmed: the checkpoint. */
  get next(): number {
    return this.#entries[0]?.sized.window.start ?? this.#offeredTo;
  }

  /**
   * The sequence up to which all messages had been read when the windows before `next` were closed; undefined if
   * unknown.
   */
  get closedThrough(): number | undefined {
    // A lower sequence claims less than is known, so more messages are treated as news: the safe side.
    return (this.#closed.find(({ boundary }) => boundary >= this.next) ?? this.#closed.at(-1))?.sequence;
  }

  /** The latest boundary that is known: see `advance`. Windows after it may have been offered. */
  get closed(): ClosedBoundary | undefined {
    return this.#closed.at(-1);
  }

  /** How many of the latest windows that were offered have points of which the sink gets none. */
  get unchosen(): number {
    return this.#unchosen;
  }

  /** Size of the windows offered and not confirmed. Batches in flight count until their window is confirmed. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Points neither written nor refused so far. */
  get points(): number {
    return this.#points;
  }

  /** Whether more than half of the points of these windows are neither written nor refused so far. */
  get mostlyWaits(): boolean {
    const sum = (entries: readonly Entry[]) => entries.reduce((all, { sizes }) => all + sizes.length, 0);
    return 2 * this.#points > sum(this.#entries) + sum(this.#rewrites);
  }

  get empty(): boolean {
    return this.size === 0;
  }

  /** How many windows are not confirmed, or are being rewritten. */
  get size(): number {
    return this.#entries.length + this.#rewrites.length;
  }

  /** Whether there is anything to write of a window that is about to be offered: otherwise it needs no room. */
  needs(sized: SizedWindow): boolean {
    const { start } = sized.window;
    return start >= this.#offeredTo && start >= this.#first && this.#pickOf(sized)?.length !== 0;
  }

  /**
   * Appends a window. A window that was offered before is ignored (I6). One of which the sink gets nothing is confirmed
   * with those before it.
   */
  offer(sized: SizedWindow): void {
    const { start, windowMs } = sized.window;
    if (start < this.#offeredTo) return;
    this.#offeredTo = start + windowMs;
    this.#append(this.#entries, sized);
    if (start >= this.#first && sized.window.size > 0)
      this.#unchosen = this.#pickOf(sized)?.length === 0 ? this.#unchosen + 1 : 0;
  }

  /**
   * Records that every window before `boundary` has been offered, and was closed after everything up to `sequence` had
   * been read.
   */
  advance(boundary: number, sequence: number): void {
    this.#offeredTo = Math.max(this.#offeredTo, boundary);
    this.#forgetMarks();
    const last = this.#closed.at(-1)?.boundary ?? Number.NEGATIVE_INFINITY;
    // 0 means that nothing had been read. That does not make every message news.
    if (boundary > last && sequence > 0) this.#closed.push({ boundary, sequence });
  }

  /** Appends a window that was confirmed before, to be rewritten. */
  rewrite(sized: SizedWindow): void {
    this.#append(this.#rewrites, sized);
  }

  /** Returns whether the window still has to be rewritten. */
  isRewriting(sized: SizedWindow): boolean {
    return this.#rewrites.some((entry) => entry.sized === sized);
  }

  /** Returns the next batch within the sink's limits, from one window; undefined if nothing waits. */
  take(): Job | undefined {
    // A batch that is still in flight could land after a newer one of the same window.
    const waits = (entry: Entry) => entry.cursor < entry.sizes.length && !this.#isInFlight(entry);
    const entry = this.#rewrites.find(waits) ?? this.#entries.find(waits);
    if (entry === undefined) return undefined;
    const { sized, chosen, sizes } = entry;
    const first = entry.cursor;
    const end = Math.min(sizes.length, first + this.#limits.maxPoints);
    let bytes = 0;
    while (entry.cursor < end) {
      const size = sizes[entry.cursor]!;
      if (entry.cursor > first && bytes + size > this.#limits.maxBytes) break;
      bytes += size;
      entry.cursor += 1;
    }
    entry.open += 1;
    const indices =
      chosen?.slice(first, entry.cursor) ??
      Uint32Array.from({ length: entry.cursor - first }, (_, i) => first + i);
    return { batch: new WindowBatch(sized.window, indices, bytes), entry };
  }

  /**
   * Settles a job: every point was acknowledged, except `refused` points that were refused for good. Returns the
   * windows that are confirmed by that.
   */
  settle({ entry, batch }: Job, refused: number): Confirmed[] {
    entry.open -= 1;
    entry.left -= batch.size;
    entry.refused += refused;
    if (!this.#has(entry)) {
      if (entry.open === 0) this.#released = this.#released.filter((other) => other !== entry);
      return [];
    }
    this.#points -= batch.size;
    const done: Entry[] = [];
    while (this.#entries[0]?.left === 0) done.push(this.#entries.shift()!);
    if (entry.left === 0 && this.#rewrites.includes(entry)) {
      this.#rewrites = this.#rewrites.filter((other) => other !== entry);
      done.push(entry);
    }
    for (const { sized } of done) this.#bytes -= sized.bytes;
    return done.map(({ sized, refused }) => ({ window: sized.window, refused }));
  }

  /** Returns whether the job's window is still in the queue; only then does its result matter. */
  holds({ entry }: Job): boolean {
    return this.#has(entry);
  }

  /**
   * Removes the oldest window with nothing in flight (core mode). Returns the number of its unsettled points, 0 if
   * there is no such window.
   */
  dropOldest(): number {
    const index = this.#entries.findIndex(({ open }) => open === 0);
    const [dropped] = index < 0 ? [] : this.#entries.splice(index, 1);
    if (dropped === undefined) return 0;
    this.#bytes -= dropped.sized.bytes;
    this.#points -= dropped.left;
    return dropped.left;
  }

  /** Forgets everything that is not confirmed, because replay owes it from `next` (I7). Rewrites stay. */
  clear(): void {
    const { closedThrough } = this;
    this.#offeredTo = this.next;
    this.#closed = closedThrough === undefined ? [] : [{ boundary: this.next, sequence: closedThrough }];
    this.#released.push(...this.#entries.filter(({ open }) => open > 0));
    this.#entries = [];
    this.#unchosen = 0;
    this.#bytes = this.#rewrites.reduce((sum, { sized }) => sum + sized.bytes, 0);
    this.#points = this.#rewrites.reduce((sum, { left }) => sum + left, 0);
  }

  /** Forgets everything that is not confirmed, and what was confirmed from `from` on. */
  restart(from: number): void {
    this.clear();
    this.#offeredTo = from;
    this.#closed = [];
  }

  #append(entries: Entry[], sized: SizedWindow): void {
    if (sized.window.start < this.#first) return;
    const chosen = this.#pickOf(sized);
    if (chosen?.length === 0) return;
    const sizes = chosen?.map((index) => sized.sizes[index]!) ?? sized.sizes;
    const left = sizes.length;
    this.#bytes += sized.bytes;
    this.#points += left;
    entries.push({ sized, chosen, sizes, cursor: 0, open: 0, left, refused: 0 });
  }

  #pickOf(sized: SizedWindow): Uint32Array | undefined {
    if (!this.#picked.has(sized)) this.#picked.set(sized, this.#pick(sized.window));
    return this.#picked.get(sized);
  }

  /** Returns whether batches of the same window are in flight that were taken before it was released. */
  #isInFlight({ sized }: Entry): boolean {
    return this.#released.some((other) => other.sized.window.start === sized.window.start);
  }

  #has(entry: Entry): boolean {
    return this.#entries.includes(entry) || this.#rewrites.includes(entry);
  }

  /** The first mark at or after `next` is the one that closed everything before it; earlier marks add nothing. */
  #forgetMarks(): void {
    const { next } = this;
    const kept = this.#closed.findIndex(({ boundary }) => boundary >= next);
    // No mark at or after `next` yet: the last one still says the most.
    this.#closed.splice(0, kept < 0 ? this.#closed.length - 1 : kept);
  }
}
