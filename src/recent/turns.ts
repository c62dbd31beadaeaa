import type { Clock } from '../base/clock.ts';

/** How long the thread is held in one go, in milliseconds, give or take what happens between two looks. */
const TURN_MS = 4;

/** Long work in turns, between which everything else of the thread has its own. */
export class Turns {
  readonly #clock: Pick<Clock, 'steady' | 'nextTurn'>;
  readonly #left: AbortSignal | undefined;
  #began: number;
  #cpu = cpuMs();
  /** The processor time of the turns before this one. */
  #spent = 0;

  /** `left` aborts when nobody wants the result any longer. */
  constructor(clock: Pick<Clock, 'steady' | 'nextTurn'>, left?: AbortSignal) {
    this.#clock = clock;
    this.#left = left;
    this.#began = clock.steady();
  }

  get isUnwanted(): boolean {
    return this.#left?.aborted === true;
  }

  get isOver(): boolean {
    return this.#clock.steady() - this.#began >= TURN_MS;
  }

  /**
   * The processor time of the work so far, without what came between, in milliseconds. While the machine is busy, a
   * turn takes longer, and is no more work for that.
   */
  get workedMs(): number {
    return this.#spent + cpuMs() - this.#cpu;
  }

  async next(): Promise<void> {
    this.#spent = this.workedMs;
    await this.#clock.nextTurn();
    this.#began = this.#clock.steady();
    this.#cpu = cpuMs();
  }
}

/** Of this thread. */
function cpuMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}
