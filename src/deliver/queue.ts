import type { ClosedWindow } from '../aggregate/window.ts';
import { type Point, pointBytes, type SinkLimits } from '../sink.ts';

/** A window on its way to the lanes, which share it. */
export interface Handout {
  readonly window: ClosedWindow;
  /** Memory it is taken to hold: the backlog's measure. */
  readonly bytes: number;
}

/** What a point holds in memory besides its series' text: typed-array columns and its share of the window. */
const POINT_MEMORY_BYTES = 120;

export function handOut(window: ClosedWindow): Handout {
  let text = 0;
  for (let i = 0; i < window.size; i++) {
    const { name, dimensionsJson } = window.series[i]!;
    text += name.length + dimensionsJson.length;
  }
  return { window, bytes: window.size * POINT_MEMORY_BYTES + text };
}

/** One batch on its way; its window is confirmed when all of its jobs are settled. */
export interface Job {
  readonly points: readonly Point[];
  readonly entry: Entry;
}

interface Entry {
  readonly handout: Handout;
  /** Index of the next point to take. */
  cursor: number;
  /** Jobs taken and not settled. */
  open: number;
}

/**
 * The windows that a lane has been offered and not yet confirmed, oldest first. Confirmation is in order (I5): `next`
 * never passes a window that has a point neither acknowledged nor refused for good.
 */
export class WindowQueue {
  readonly #limits: SinkLimits;
  #entries: Entry[] = [];
  #offeredTo: number;
  #bytes = 0;
  #points = 0;

  /** `from`: start of the first window that is wanted; -Infinity for all. */
  constructor(limits: SinkLimits, from: number) {
    this.#limits = limits;
    this.#offeredTo = from;
  }

  /** Start of the first window that was not offered yet. */
  get offeredTo(): number {
    return this.#offeredTo;
  }

  /** Start of the first window that is not confirmed: the checkpoint. */
  get next(): number {
    return this.#entries[0]?.handout.window.start ?? this.#offeredTo;
  }

  /** Of the windows offered and not confirmed; those of batches in flight count until their window is confirmed. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Points neither written nor refused yet. */
  get points(): number {
    return this.#points;
  }

  get empty(): boolean {
    return this.#entries.length === 0;
  }

  /** Appends a window; one that was offered before is ignored (I6). */
  offer(handout: Handout): void {
    const { start, windowMs, size } = handout.window;
    if (start < this.#offeredTo) return;
    this.#entries.push({ handout, cursor: 0, open: 0 });
    this.#offeredTo = start + windowMs;
    this.#bytes += handout.bytes;
    this.#points += size;
  }

  /** Every window before `boundary` has been offered; those without points never come. */
  advance(boundary: number): void {
    this.#offeredTo = Math.max(this.#offeredTo, boundary);
  }

  /** The next batch within the sink's limits, from one window; undefined where nothing waits. */
  take(): Job | undefined {
    const entry = this.#entries.find(({ cursor, handout }) => cursor < handout.window.size);
    if (entry === undefined) return undefined;
    const { window } = entry.handout;
    const points: Point[] = [];
    let bytes = 0;
    while (entry.cursor < window.size && points.length < this.#limits.maxPoints) {
      const point = window.point(entry.cursor);
      bytes += pointBytes(point);
      if (points.length > 0 && bytes > this.#limits.maxBytes) break;
      points.push(point);
      entry.cursor += 1;
    }
    entry.open += 1;
    return { points, entry };
  }

  /** Every point of the job was acknowledged or refused for good. Returns whether `next` may have moved. */
  settle(job: Job): boolean {
    job.entry.open -= 1;
    if (!this.#entries.includes(job.entry)) return false;
    this.#points -= job.points.length;
    const before = this.next;
    while (this.#entries[0] && isConfirmed(this.#entries[0]))
      this.#bytes -= this.#entries.shift()!.handout.bytes;
    return this.next !== before;
  }

  /** Whether the job's window is still in the queue: its result matters only then. */
  holds(job: Job): boolean {
    return this.#entries.includes(job.entry);
  }

  /** Takes out the oldest window of which nothing is in flight (core mode); returns its unsettled points, 0 if none. */
  dropOldest(): number {
    const index = this.#entries.findIndex(({ open }) => open === 0);
    const [dropped] = index < 0 ? [] : this.#entries.splice(index, 1);
    if (dropped === undefined) return 0;
    const points = dropped.handout.window.size - dropped.cursor;
    this.#bytes -= dropped.handout.bytes;
    this.#points -= points;
    return points;
  }

  /** Forgets all that is not confirmed: it is owed by replay from `next` (I7). */
  clear(): void {
    this.#offeredTo = this.next;
    this.#entries = [];
    this.#bytes = 0;
    this.#points = 0;
  }
}

function isConfirmed({ handout, cursor, open }: Entry): boolean {
  return open === 0 && cursor === handout.window.size;
}
