/** Looks at the windows that were closed, in small pieces between other work: the hot loop knows nothing of it. */
import { setImmediate as yieldToEvents } from 'node:timers/promises';
import type { ClosedWindow } from '../aggregate/window.ts';
import { Subject } from './question-subject.ts';
import { type TopName, TopNames } from './top-names.ts';

/** Of a larger window, every second, third... point is looked at, and counts twice, three times... */
const MAX_POINTS = 131_072;
/** Between two chances for everything else: half a millisecond's work. */
const POINTS_PER_TURN = 4_096;
/** Windows that come faster than they can be looked at are passed over. */
const MAX_WAITING = 4;

/** Among so many names, one is looked for that the stores can be asked about. */
const PROPOSED_NAMES = 50;

export class WindowScan {
  /** What the stores are asked about. */
  readonly subject = new Subject();
  readonly #names = new TopNames();
  #waiting: ClosedWindow[] = [];
  #running = false;

  /** Returns at once. */
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
    this.subject.propose(counters, window.start);
    this.#names.begin(window.windowMs);
    for (let index = 0, looked = 0; index < window.size; index += step, looked++) {
      if (looked % POINTS_PER_TURN === 0) await yieldToEvents();
      const name = window.nameOf(index);
      this.#names.count(window.typeOf(index), name, step * window.countOf(index));
      this.subject.look(window, index, name);
    }
  }
}
