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
  readonly queueGroup?: string | undefined;
  /** Names of which series were folded, for the answer about cardinality. */
  readonly folded?: () => readonly FoldedStatus[];
}

export class RecentQuestions {
  readonly #options: RecentQuestionsOptions;
  #adder: Adder | undefined;
  #last: Promise<unknown> = Promise.resolve();
  #waiting = 0;
  #preparing: Promise<void> | undefined;

  constructor(options: RecentQuestionsOptions) {
    this.#options = options;
    options.windows?.whenTaken(() => this.#prepare());
  }

  /** Rejects with an `Unanswerable`. `left` aborts when nobody waits for the answer any longer. */
  async answer(question: RecentQuestion, left?: AbortSignal): Promise<RecentAnswer> {
    const { clock, slice, parts, queueGroup = null } = this.#options;
    try {
      const answer = await this.#inTurn((view, turns) => {
        this.#adder ??= new Adder();
        const of = { now: clock.now(), steady: clock.steady(), slice, parts };
        return this.#adder.answer(question, view, of, turns);
      }, left);
      return { ...answer, ...(parts && { queueGroup }) };
    } finally {
      this.#options.windows?.asked();
      this.#prepare();
    }
  }

  /** Likewise. */
  async cardinality(left?: AbortSignal): Promise<CardinalityAnswer> {
    const answer = await this.#inTurn((view, turns) => cardinalityOf(view, turns), left);
    return { ...answer, folded: this.#options.folded?.() ?? [] };
  }

  /** Between questions, gets ready for the next ones, if there were some lately. */
  #prepare(): void {
    const { windows, clock } = this.#options;
    const [adder, view] = [this.#adder, windows?.view()];
    if (this.#preparing !== undefined || adder === undefined || view === undefined || !windows!.isAskedLately)
      return;
    let turns = new Turns(clock);
    const pause = async () => {
      if (!turns.isOver) return;
      await turns.next();
      // Those that wait already. Others that come one after another find a turn of this before each.
      if (this.#waiting > 0) await this.#last;
      turns = new Turns(clock);
    };
    this.#preparing = adder.prepare(view, clock.steady, pause).finally(() => {
      this.#preparing = undefined;
    });
  }

  /** Resolves when nothing is left to get ready for questions like those so far. */
  async prepared(): Promise<void> {
    await this.#preparing;
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
