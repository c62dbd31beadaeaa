/** Answers questions about the recent windows, one after another. */
import type { Clock } from '../base/clock.ts';
import { Adder } from './answer.ts';
import { type CardinalityAnswer, cardinalityOf } from './cardinality.ts';
import { type RecentAnswer, type RecentQuestion, Unanswerable } from './question.ts';
import type { RecentView, RecentWindows } from './recent-windows.ts';
import { Turns } from './turns.ts';

/** Questions that wait for others. */
const MAX_WAITING = 16;

export interface RecentQuestionsOptions {
  /** Undefined: nothing is kept. */
  readonly windows: RecentWindows | undefined;
  readonly clock: Pick<Clock, 'now' | 'steady' | 'nextTurn'>;
  /** See `RecentAnswer`. */
  readonly slice: string;
  readonly parts: boolean;
}

export class RecentQuestions {
  readonly #options: RecentQuestionsOptions;
  #adder: Adder | undefined;
  #last: Promise<unknown> = Promise.resolve();
  #waiting = 0;

  constructor(options: RecentQuestionsOptions) {
    this.#options = options;
  }

  /** Rejects with an `Unanswerable`. */
  async answer(question: RecentQuestion): Promise<RecentAnswer> {
    const { clock, slice, parts } = this.#options;
    return await this.#inTurn((view, turns) => {
      this.#adder ??= new Adder();
      return this.#adder.answer(question, view, { now: clock.now(), slice, parts }, turns);
    });
  }

  /** Rejects with an `Unanswerable`. */
  async cardinality(): Promise<CardinalityAnswer> {
    return await this.#inTurn((view, turns) => cardinalityOf(view, turns));
  }

  async #inTurn<T>(work: (view: RecentView, turns: Turns) => Promise<T>): Promise<T> {
    const { windows, clock } = this.#options;
    if (windows === undefined)
      throw new Unanswerable('not_configured', 'the instance keeps no recent windows (RECENT_BYTES=0)');
    if (this.#waiting >= MAX_WAITING)
      throw new Unanswerable('busy', `${MAX_WAITING} questions wait already: ask again`);
    this.#waiting += 1;
    const answered = this.#last.then(() => {
      const view = windows.view();
      if (view === undefined) throw new Unanswerable('busy', 'the instance has read nothing yet: ask again');
      return work(view, new Turns(clock));
    });
    this.#last = answered.catch(() => {});
    try {
      return await answered;
    } finally {
      this.#waiting -= 1;
    }
  }
}
