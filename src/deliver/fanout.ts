import type { ClosedWindow } from '../aggregate/window.ts';
import type { Lane } from './lane/lane.ts';
import { sizeWindow } from './lane/queue.ts';

/** The end of the live path: hands every complete window to all lanes, and waits for none (I7). */
export class FanOut {
  #lanes: readonly Lane[];
  #boundary: number;
  #sequence = 0;
  /** The sequence up to which the live path had read when it last told the lanes that windows were reopened. */
  reopenedThrough = 0;

  /** `from`: start of the first window that the live path computes. */
  constructor(lanes: readonly Lane[], from: number) {
    this.#lanes = lanes;
    this.#boundary = from;
  }

  get lanes(): readonly Lane[] {
    return this.#lanes;
  }

  /** The windows that come from now on go to `other` in place of `lane`. */
  replace(lane: Lane, other: Lane): void {
    this.#lanes = this.#lanes.map((one) => (one === lane ? other : one));
  }

  /** Every window before this time has been handed to the lanes. */
  get boundary(): number {
    return this.#boundary;
  }

  /** All messages up to this sequence had been read at that point. */
  get sequence(): number {
    return this.#sequence;
  }

  hand(windows: readonly ClosedWindow[], boundary: number, sequence: number): void {
    const sizedWindows = windows.map(sizeWindow);
    this.#boundary = Math.max(this.#boundary, boundary);
    this.#sequence = sequence;
    for (const lane of this.#lanes) {
      for (const sized of sizedWindows) lane.offer(sized);
      lane.advance(boundary, sequence);
    }
  }
}
