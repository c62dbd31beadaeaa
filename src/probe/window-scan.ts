/** Scans closed windows in small pieces between other work; the hot loop is not involved. */
import { setImmediate as yieldToEvents } from 'node:timers/promises';
import type { ClosedWindow } from '../aggregate/window.ts';
import type { WindowRange } from '../sink/contract.ts';
import { Subject, WINDOWS_MS } from './question-subject.ts';
import { type TopName, TopNames } from './top-names.ts';

/** Of a larger window, only every second, third... point is looked at, and counts twice, three times... */
const MAX_POINTS = 131_072;
/** Points scanned before other work gets its turn: half a millisecond's work. */
const POINTS_PER_TURN = 4_096;
/**
 * At most this many windows wait, each with as much memory as a window may take. If they arrive faster than they can be
 * scanned, the oldest are skipped.
 */
const MAX_WAITING = 1;

/** This many of the top names are candidates for the questions: a sink may get only names that are not the busiest. */
const PROPOSED_NAMES = 250;

/** Returns, for a range of windows, how many sinks get a name in all of them. */
export type HoldersIn = (range: WindowRange) => (name: string) => number;

export class WindowScan {
  /** The subject of the questions to the stores. */
  readonly subject = new Subject();
  readonly #names = new TopNames();
  #waiting: ClosedWindow[] = [];
  #running = false;
  readonly #holdersIn: HoldersIn;

  /** Without `holdersIn`, every sink gets every name. */
  constructor(holdersIn: HoldersIn = () => () => 0) {
    this.#holdersIn = holdersIn;
  }

  /** Queues windows to be scanned. Returns at once. */
  take(windows: readonly ClosedWindow[]): void {
    this.#waiting = [...this.#waiting, ...windows].slice(-MAX_WAITING);
    if (!this.#running) void this.#run();
  }

  topNames(limit: number): TopName[] {
    return this.#names.top(limit);
  }

  async #run(): Promise<void> {
    this.#running = true;
    for (let window = this.#waiting.shift(); window; window = this.#waiting.shift()) await this.#scan(window);
    this.#running = false;
  }

  async #scan(window: ClosedWindow): Promise<void> {
    const step = Math.ceil(window.size / MAX_POINTS);
    const names = this.#names.top(PROPOSED_NAMES);
    const counters = names.filter(({ type }) => type === 'counter').map(({ name }) => name);
    const asked = { from: window.start - WINDOWS_MS, to: window.start + window.windowMs };
    this.subject.propose(counters, window.start, this.#holdersIn(asked));
    this.#names.begin(window.windowMs);
    for (let index = 0, looked = 0; index < window.size; index += step, looked++) {
      if (looked % POINTS_PER_TURN === 0) await yieldToEvents();
      const name = window.nameOf(index);
      this.#names.count(window.typeOf(index), name, step * window.countOf(index));
      this.subject.look(window, index, name);
    }
  }
}
