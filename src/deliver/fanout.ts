import type { ClosedWindow } from '../aggregate/window.ts';
import type { Slice } from '../config.ts';
import type { Lane } from './lane.ts';
import { type Handout, handOut } from './queue.ts';

/** The windows of a slice: those whose number is `index` modulo `of`. Together, all slices have each window once. */
export function ofSlice(windows: readonly ClosedWindow[], slice: Slice): Handout[] {
  const ours = windows.filter(({ start, windowMs }) => {
    const remainder = (start / windowMs) % slice.of;
    return (remainder + slice.of) % slice.of === slice.index;
  });
  return ours.map(handOut);
}

/** The live path's end: hands every complete window to all lanes, and waits for none (I7). */
export class FanOut {
  readonly lanes: readonly Lane[];
  readonly #slice: Slice;
  #boundary: number;

  /** `from`: start of the first window that the live path computes. */
  constructor(lanes: readonly Lane[], slice: Slice, from: number) {
    this.lanes = lanes;
    this.#slice = slice;
    this.#boundary = from;
  }

  /** Every window before it has been handed to the lanes. */
  get boundary(): number {
    return this.#boundary;
  }

  hand(windows: readonly ClosedWindow[], boundary: number): void {
    const handouts = ofSlice(windows, this.#slice);
    this.#boundary = Math.max(this.#boundary, boundary);
    for (const lane of this.lanes) {
      for (const handout of handouts) lane.offer(handout);
      lane.advance(boundary);
    }
  }
}
