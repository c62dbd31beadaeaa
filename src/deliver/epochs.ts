/**
 * Handles changes of WINDOW, LATENESS, MAX_AHEAD, MAX_SERIES and MAX_SERIES_BYTES, and of the settings that decide what
 * a message means and which series come of it. These shape the windows, so a new value takes effect at a boundary that
 * every instance of the pipeline knows before reaching it.
 *
 * This is certain without any instance waiting for another: an epoch begins at least `delayMs` after it was announced,
 * by the server's clock, and no instance closes a window at a stream time more than `delayMs` after it last looked.
 */

import { isDeepStrictEqual } from 'node:util';
import { MAX_DIALECTS } from '../aggregate/sample.ts';
import { type Epoch, floorTo, inputsOf, shapeOf, Tiling, type WindowShape } from '../aggregate/tiling.ts';
import { backoffMs, type Clock } from '../base/clock.ts';
import { BusError } from '../bus/bus-error.ts';
import type { AgreedShapes, KnownShapes, ShapeStore, Shapes } from '../bus/kv/window-shapes.ts';

/** How long an announcement may take, from reading the server's clock until it is stored. */
const ANNOUNCE_MS = 10_000;
/** An epoch begins where windows of both shapes begin. That must not be next year. */
const MAX_WAIT_MS = 7 * 24 * 3_600_000;
/** Older epochs are forgotten: their windows have left every stream. */
const MAX_EPOCHS = 200;
/** As JSON, in UTF-16 code units. An entry of the bucket holds a megabyte, and no variable of a process 128 KiB. */
const MAX_EPOCHS_LENGTH = 300_000;
/** Looks per delay: this many may fail before windows wait. */
const LOOKS_PER_DELAY = 8;
const MIN_LOOK_MS = 250;

export interface Wanted {
  readonly shape: WindowShape;
  readonly delayMs: number;
  /** The shape of windows computed before there were epochs, if known. */
  readonly before: WindowShape | undefined;
  /** The checkpoints: confirmed windows already have their shape. */
  readonly nexts: readonly number[];
}

/**
 * Returns what to announce; undefined if everything is as wanted. Throws a `BusError` if the new shape cannot begin
 * soon.
 */
export function planEpochs({ shapes, at }: KnownShapes, wanted: Wanted): Shapes | undefined {
  const { shape, delayMs } = wanted;
  if (shapes === undefined) {
    const first = { epochs: [beginning(Number.NEGATIVE_INFINITY, wanted.before ?? shape)], delayMs };
    return planEpochs({ shapes: first, at }, wanted) ?? first;
  }
  const named = withInput(shapes, shape);
  if (named !== shapes) return planEpochs({ shapes: named, at }, wanted) ?? named;
  const last = shapes.epochs.at(-1)!;
  // An instance that has not heard of a longer delay only waits earlier. With a shorter delay it would wait too late:
  // that takes an epoch.
  if (isSameShape(last, shape)) return delayMs > shapes.delayMs ? { ...shapes, delayMs } : undefined;
  const step = leastCommonMultiple(last.windowMs, shape.windowMs);
  const soonest = at + ANNOUNCE_MS + Math.max(delayMs, shapes.delayMs);
  const from = floorTo(Math.max(soonest, last.from, ...wanted.nexts), step) + step;
  if (from > soonest + MAX_WAIT_MS) {
    throw new BusError(
      `windows of ${shape.windowMs} ms cannot follow windows of ${last.windowMs} ms before ${new Date(from).toISOString()}: only then do windows of both lengths begin together`,
      'Choose a WINDOW that is a multiple or a divisor of the other. Or set PIPELINE to a new name.',
    );
  }
  return { epochs: latest([...shapes.epochs, beginning(from, shape)]), delayMs };
}

/**
 * Earlier versions did not note what messages meant. Whatever the settings say now is the best guess, and from now on
 * it stays the same.
 */
function withInput(shapes: Shapes, { input }: WindowShape): Shapes {
  if (input === undefined || shapes.epochs.every((epoch) => epoch.input !== undefined)) return shapes;
  return { ...shapes, epochs: shapes.epochs.map((epoch) => ({ ...epoch, input: epoch.input ?? input })) };
}

/** Leaves out the oldest epochs, if there are more than may be kept. */
function latest(epochs: readonly Epoch[]): Epoch[] {
  let kept = epochs.slice(-MAX_EPOCHS);
  while (inputsOf(kept).length > MAX_DIALECTS || JSON.stringify(kept).length > MAX_EPOCHS_LENGTH)
    kept = kept.slice(1);
  return kept;
}

function beginning(from: number, shape: WindowShape): Epoch {
  return { from, ...shapeOf(shape) };
}

export function isSameShape(a: WindowShape, b: WindowShape): boolean {
  return isDeepStrictEqual(shapeOf(a), shapeOf(b));
}

function leastCommonMultiple(a: number, b: number): number {
  let [divisor, rest] = [a, b];
  while (rest > 0) [divisor, rest] = [rest, divisor % rest];
  return (a / divisor) * b;
}

/** Checks regularly for new epochs, for as long as windows are computed. */
export class EpochWatch {
  readonly tiling: Tiling;
  /** Aborts when an epoch is announced that `tiling` does not have: computation has to start again with it. */
  readonly changed: AbortSignal;
  readonly #changed = new AbortController();
  readonly #store: ShapeStore;
  readonly #clock: Clock;
  readonly #shapes: Shapes;
  readonly #failed: (error: unknown) => void;
  /** Up to this stream time, the windows are certain to be those of `tiling`. */
  #known: number;
  #waiting: { readonly streamTime: number; readonly go: () => void }[] = [];

  /** `known`: the store's last answer. */
  constructor(store: ShapeStore, known: AgreedShapes, clock: Clock, failed: (error: unknown) => void) {
    this.#store = store;
    this.#clock = clock;
    this.#shapes = known.shapes;
    this.#failed = failed;
    this.#known = known.at + known.shapes.delayMs;
    this.tiling = new Tiling(known.shapes.epochs);
    this.changed = this.#changed.signal;
  }

  /** See `PipelineOptions`. */
  untilShaped(streamTime: number): Promise<void> | undefined {
    if (streamTime <= this.#known) return undefined;
    return new Promise((go) => this.#waiting.push({ streamTime, go }));
  }

  /** Keeps checking until the signal aborts or the shapes change. */
  async run(signal: AbortSignal): Promise<void> {
    const intervalMs = Math.max(MIN_LOOK_MS, this.#shapes.delayMs / LOOKS_PER_DELAY);
    let attempt = 0;
    while (!signal.aborted && !this.changed.aborted) {
      await this.#clock.sleep(
        attempt === 0 ? intervalMs : Math.min(intervalMs, backoffMs(attempt, this.#clock.random())),
        signal,
      );
      if (signal.aborted) return;
      try {
        this.#take(await this.#store.load());
        attempt = 0;
      } catch (error) {
        attempt += 1;
        this.#failed(error);
      }
    }
  }

  #take({ shapes, at }: KnownShapes): void {
    if (shapes === undefined || !isDeepStrictEqual(shapes, this.#shapes)) {
      this.#changed.abort();
      return;
    }
    this.#known = Math.max(this.#known, at + this.#shapes.delayMs);
    const due = this.#waiting.filter(({ streamTime }) => streamTime <= this.#known);
    this.#waiting = this.#waiting.filter(({ streamTime }) => streamTime > this.#known);
    for (const { go } of due) go();
  }
}
