import type { Clock } from '../base/clock.ts';

/** How long the thread is held in one go, in milliseconds, give or take what happens between two looks. */
const TURN_MS = 4;

/** Long work in turns, between which everything else of the thread has its own. */
export class Turns {
  readonly #clock: Pick<Clock, 'steady' | 'nextTurn'>;
  #began: number;
  /** How long the turns before this one took. */
  #spent = 0;

  constructor(clock: Pick<Clock, 'steady' | 'nextTurn'>) {
    this.#clock = clock;
    this.#began = clock.steady();
  }

  get isOver(): boolean {
    return this.#clock.steady() - this.#began >= TURN_MS;
  }

  /** How long the work took so far, without what came between, in milliseconds. */
  get workedMs(): number {
    return this.#spent + this.#clock.steady() - this.#began;
  }

  async next(): Promise<void> {
    this.#spent = this.workedMs;
    await this.#clock.nextTurn();
    this.#began = this.#clock.steady();
  }
}
