/** Makes something expensive once a second at most, however many ask for it. */
import type { Clock } from '../base/clock.ts';

/** The most often that anything is rendered. */
export const RENDERED_MS = 1000;

export class SharedRendering {
  readonly #render: () => string | Promise<string>;
  readonly #clock: Pick<Clock, 'now'>;
  #rendering: Promise<Buffer> | undefined;
  #isRunning = false;
  #began = Number.NaN;

  constructor(render: () => string | Promise<string>, clock: Pick<Clock, 'now'>) {
    this.#render = render;
    this.#clock = clock;
  }

  /**
   * Returns the rendering that is under way, or the last one if it began less than a second ago, or a new one. A
   * failure is shared too: it may have taken as long.
   */
  get(): Promise<Buffer> {
    // A clock that was set back does not prolong the second.
    const age = this.#clock.now() - this.#began;
    const isKept = this.#isRunning || (age >= 0 && age < RENDERED_MS);
    if (this.#rendering === undefined || !isKept) this.#rendering = this.#begin();
    return this.#rendering;
  }

  async #begin(): Promise<Buffer> {
    this.#began = this.#clock.now();
    this.#isRunning = true;
    try {
      return Buffer.from(await this.#render());
    } finally {
      this.#isRunning = false;
    }
  }
}
