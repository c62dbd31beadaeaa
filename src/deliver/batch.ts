import type { Point } from '../aggregate/point.ts';
import type { ClosedWindow } from '../aggregate/window.ts';
import type { Batch } from '../sink.ts';

/** Some points of one window: which, not what. The points are made where somebody looks at them, in the sink's thread. */
export class WindowBatch implements Batch {
  readonly window: ClosedWindow;
  /** Of the points in the window. */
  readonly indices: Uint32Array;
  #points: readonly Point[] | undefined;

  constructor(window: ClosedWindow, indices: Uint32Array) {
    this.window = window;
    this.indices = indices;
  }

  get size(): number {
    return this.indices.length;
  }

  get points(): readonly Point[] {
    this.#points ??= Array.from(this.indices, (index) => this.window.point(index));
    return this.#points;
  }

  point(position: number): Point {
    return this.window.point(this.indices[position]!);
  }

  sumOf(position: number): number {
    return this.window.sumOf(this.indices[position]!);
  }

  /** The points at these positions of the batch. */
  subset(positions: readonly number[]): WindowBatch {
    return new WindowBatch(
      this.window,
      Uint32Array.from(positions, (position) => this.indices[position]!),
    );
  }
}
