/**
 * Makes the windows of a sink whose own are longer, of those that its lane is given. A window of 100,000 series takes
 * 0.1 s to merge, so the thread does it in turns: nobody else waits for that (I7).
 */
import { atOnce, type Stepwise } from '../../aggregate/stepwise.ts';
import type { ClosedWindow } from '../../aggregate/window.ts';
import type { WindowMerger } from '../../aggregate/window-merger.ts';
import type { Clock } from '../../base/clock.ts';
import type { SizedWindow } from './queue.ts';

export interface MergingEvents {
  /** So many points of a window of the pipeline were folded. */
  folded(points: number): void;
  /** All that was offered before `boundary` is merged, and has made these windows. */
  made(windows: readonly ClosedWindow[], boundary: number, sequence: number): void;
}

/** From the live path. */
type Offered =
  | { readonly kind: 'window'; readonly sized: SizedWindow }
  | { readonly kind: 'boundary'; readonly boundary: number; readonly sequence: number };

export class Merging {
  readonly #merger: WindowMerger;
  readonly #clock: Pick<Clock, 'nextTurn'>;
  readonly #events: MergingEvents;
  /** In the order of the live path. The lane bounds it: see `bytes`. */
  #waiting: Offered[] = [];
  #waitingBytes = 0;
  /** What is being done about the one that waited first. */
  #begun: Stepwise<void> | undefined;
  #isWorking = false;

  constructor(merger: WindowMerger, clock: Pick<Clock, 'nextTurn'>, events: MergingEvents) {
    this.#merger = merger;
    this.#clock = clock;
    this.#events = events;
  }

  /** Memory of what waits, and of what is merged. */
  get bytes(): number {
    return this.#waitingBytes + this.#merger.bytes;
  }

  /** Whether something waits. */
  get isBehind(): boolean {
    return this.#waiting.length > 0;
  }

  /** How many points were folded. */
  get folded(): number {
    return this.#merger.folded;
  }

  startOf(time: number): number {
    return this.#merger.startOf(time);
  }

  /** Takes a window from the live path. A small one is merged when this returns, if nothing else waits. */
  offer(sized: SizedWindow): void {
    this.#waitingBytes += sized.bytes;
    this.#waiting.push({ kind: 'window', sized });
    void this.#work();
  }

  /** Likewise: all windows before `boundary` were offered. */
  advance(boundary: number, sequence: number): void {
    this.#waiting.push({ kind: 'boundary', boundary, sequence });
    void this.#work();
  }

  /** Forgets all. What was begun does not go on. */
  clear(): void {
    this.#waiting = [];
    this.#waitingBytes = 0;
    this.#begun = undefined;
    this.#merger.clear();
  }

  /** Does all that waits now. */
  finish(): void {
    for (let steps = this.#next(); steps !== undefined; steps = this.#next()) {
      atOnce(steps);
      this.#done(steps);
    }
  }

  /** Returns all windows, whole or not, if nothing waits. */
  takeAll(): ClosedWindow[] {
    return this.#merger.takeAll();
  }

  /**
   * Merges windows from a replay, which come in place of the live path. Resolves to the windows that they make; to none
   * once the signal aborts: this may be at work for others by then.
   */
  async replay(
    windows: readonly ClosedWindow[],
    boundary: number,
    signal: AbortSignal,
  ): Promise<readonly ClosedWindow[]> {
    for (const window of windows) {
      await inTurns(this.#add(window), this.#clock, signal);
      if (signal.aborted) return [];
    }
    return (await inTurns(this.#merger.takeInSteps(boundary), this.#clock, signal)) ?? [];
  }

  async #work(): Promise<void> {
    if (this.#isWorking) return;
    this.#isWorking = true;
    for (let steps = this.#next(); steps !== undefined; steps = this.#next()) {
      if (steps.next().done) this.#done(steps);
      else await this.#clock.nextTurn();
    }
    this.#isWorking = false;
  }

  #next(): Stepwise<void> | undefined {
    const [first] = this.#waiting;
    if (this.#begun === undefined && first !== undefined) this.#begun = this.#take(first);
    return this.#begun;
  }

  /** It may have cleared all, and what waits first now is another one. */
  #done(steps: Stepwise<void>): void {
    if (this.#begun !== steps) return;
    this.#begun = undefined;
    const done = this.#waiting.shift();
    if (done?.kind === 'window') this.#waitingBytes -= done.sized.bytes;
  }

  *#take(offered: Offered): Stepwise<void> {
    switch (offered.kind) {
      case 'window':
        return yield* this.#add(offered.sized.window);
      case 'boundary': {
        const { boundary, sequence } = offered;
        this.#events.made(yield* this.#merger.takeInSteps(boundary), boundary, sequence);
      }
    }
  }

  *#add(window: ClosedWindow): Stepwise<void> {
    const before = this.#merger.folded;
    yield* this.#merger.addInSteps(window);
    if (this.#merger.folded > before) this.#events.folded(this.#merger.folded - before);
  }
}

/** Does the work in turns. Resolves to undefined if the signal aborts. */
export async function inTurns<T>(
  steps: Stepwise<T>,
  clock: Pick<Clock, 'nextTurn'>,
  signal: AbortSignal,
): Promise<T | undefined> {
  while (!signal.aborted) {
    const step = steps.next();
    if (step.done) return step.value;
    await clock.nextTurn();
  }
  return undefined;
}
