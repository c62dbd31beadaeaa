/** Answers questions about the recent windows, one after another. */
import type { Clock } from '../base/clock.ts';
import { Adder } from './answer.ts';
import { type CardinalityAnswer, cardinalityOf } from './cardinality.ts';
import type { FoldedStatus } from './folds.ts';
import { type RecentAnswer, type RecentQuestion, Unanswerable } from './question.ts';
import type { RecentView, RecentWindows } from './recent-windows.ts';
import { unwanted } from './selection.ts';
import { Turns } from './turns.ts';

/** Questions at a time, with the one that is being answered: few, so that each has its answer before HTTP gives up. */
const MAX_WAITING = 4;
/** A question that has waited for so long has no time left to be answered in. */
const MAX_WAIT_MS = 12_000;

export interface RecentQuestionsOptions {
  /** Undefined: nothing is kept. */
  readonly windows: RecentWindows | undefined;
  readonly clock: Pick<Clock, 'now' | 'steady' | 'nextTurn'>;
  /** See `RecentAnswer`. */
  readonly slice: string;
  readonly parts: boolean;
  /** Names of which series were folded, for the answer about cardinality. */
  readonly folded?: () => readonly FoldedStatus[];
}

export class RecentQuestions {
  readonly #options: RecentQuestionsOptions;
  #adder: Adder | undefined;
  #last: Promise<unknown> = Promise.resolve();
  #waiting = 0;

  constructor(options: RecentQuestionsOptions) {
    this.#options = options;
  }

  /** Rejects with an `Unanswerable`. `left` aborts when nobody waits for the answer any longer. */
  async answer(question: RecentQuestion, left?: AbortSignal): Promise<RecentAnswer> {
    const { clock, slice, parts } = this.#options;
    return await this.#inTurn((view, turns) => {
      this.#adder ??= new Adder();
      return this.#adder.answer(question, view, { now: clock.now(), slice, parts }, turns);
    }, left);
  }

  /** Likewise. */
  async cardinality(left?: AbortSignal): Promise<CardinalityAnswer> {
    const answer = await this.#inTurn((view, turns) => cardinalityOf(view, turns), left);
    return { ...answer, folded: this.#options.folded?.() ?? [] };
  }

  async #inTurn<T>(
    work: (view: RecentView, turns: Turns) => Promise<T>,
    left: AbortSignal | undefined,
  ): Promise<T> {
    const { windows, clock } = this.#options;
    if (windows === undefined)
      throw new Unanswerable('not_configured', 'the instance keeps no recent windows (RECENT_BYTES=0)');
    if (this.#waiting >= MAX_WAITING)
      throw new Unanswerable('busy', `${MAX_WAITING} questions wait already: ask again`);
    this.#waiting += 1;
    let waits = true;
    // One that nobody waits for makes room at once, also while another one is answered.
    const leave = () => {
      if (waits) this.#waiting -= 1;
      waits = false;
    };
    left?.addEventListener('abort', leave);
    const asked = clock.steady();
    const answered = this.#last.then(() => {
      if (left?.aborted) throw unwanted();
      if (clock.steady() - asked > MAX_WAIT_MS)
        throw new Unanswerable('busy', `others took more than ${MAX_WAIT_MS / 1000} s: ask again`);
      const view = windows.view();
      if (view === undefined) throw new Unanswerable('busy', 'the instance has read nothing yet: ask again');
      return work(view, new Turns(clock, left));
    });
    this.#last = answered.catch(() => {});
    try {
      return await answered;
    } finally {
      leave();
      left?.removeEventListener('abort', leave);
    }
  }
}
