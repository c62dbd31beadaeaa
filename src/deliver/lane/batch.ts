import type { Point } from '../../aggregate/point.ts';
import type { ClosedWindow } from '../../aggregate/window.ts';
import type { Batch } from '../../sink/contract.ts';

/**
 * Some points of one window, held as indices. The points themselves are only created when read, in the sink's thread.
 */
export class WindowBatch implements Batch {
  readonly window: ClosedWindow;
  /** Indices of the points in the window. */
  readonly indices: Uint32Array;
  /** Measured by `pointBytes`; 0 if not measured. */
  readonly bytes: number;
  #points: readonly Point[] | undefined;

  constructor(window: ClosedWindow, indices: Uint32Array, bytes = 0) {
    this.window = window;
    this.indices = indices;
    this.bytes = bytes;
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

  /** Returns the points at these positions of the batch, with their share of its bytes. */
  subset(positions: readonly number[]): WindowBatch {
    return new WindowBatch(
      this.window,
      Uint32Array.from(positions, (position) => this.indices[position]!),
      this.bytesOf(positions.length),
    );
  }

  /** Returns the average size of this many of its points. */
  bytesOf(points: number): number {
    return this.size === 0 ? 0 : (this.bytes * points) / this.size;
  }
}
