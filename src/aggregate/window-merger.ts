/**
 * Makes the windows of a sink of those of the pipeline, where its own are longer: see `coarse-tiling.ts`. Windows are
 * merged in their order, so a merged one depends on the stream and the settings alone, as they do (I3).
 *
 * Counts and sums are added, window by window. `last` is that of the latest event time. Percentiles are those of the
 * merged sketches. A merged window has as many series, and as much memory for them, as a window may have: MAX_SERIES
 * and MAX_SERIES_BYTES of the epoch in which it begins. Series that come later are folded, point by point, into the
 * overflow series of their names.
 */

import { SKETCH_SCALE } from './buckets.ts';
import { FIELDS, METRIC_TYPES } from './point.ts';
import { COUNTER, GAUGE, TIMER } from './sample.ts';
import { identify, OVERFLOW_DIMENSION, seriesOf } from './series.ts';
import { RefNumbers, SeriesRecords, type SeriesRef } from './series-records.ts';
import { Sketches } from './sketch.ts';
import { atOnce, type Stepwise } from './stepwise.ts';
import type { Epoch, Tiling } from './tiling.ts';
import { longer, sharedCopy } from './typed-arrays.ts';
import { ClosedWindow, ROW_LENGTHS } from './window.ts';
import { seriesCost, WindowBudget } from './window-budget.ts';

const OVERFLOW_DIMENSIONS = [[OVERFLOW_DIMENSION, 'true']] as const;
const OVERFLOW_JSON = identify('', OVERFLOW_DIMENSIONS).dimensionsJson;
const OVERFLOW_BYTES = Buffer.byteLength(OVERFLOW_JSON);

/** What a point takes in the tables of a merged window, about, in bytes. */
const TABLE_BYTES = 120;

/** Points of a step. One with a series that is new to the window takes 1 to 2 us. */
const STEP_POINTS = 1024;

export class WindowMerger {
  readonly #own: Tiling;
  readonly #fine: Tiling;
  readonly #stepPoints: number;
  #records = new SeriesRecords();
  #running: MergedWindow | undefined;
  #done: ClosedWindow[] = [];

  /** `own`: the windows to make; `fine`: those that they are made of. `stepPoints`: see `addInSteps`; for tests. */
  constructor(own: Tiling, fine: Tiling, stepPoints = STEP_POINTS) {
    this.#own = own;
    this.#fine = fine;
    this.#stepPoints = stepPoints;
  }

  /** Returns the start of the window to make that holds `time`. */
  startOf(time: number): number {
    return this.#own.startOf(time);
  }

  /** Memory of the window that is being merged. */
  get bytes(): number {
    return this.#running?.bytes ?? 0;
  }

  /** How many points were folded. */
  folded = 0;

  /** Takes the next window of the pipeline. */
  add(window: ClosedWindow): void {
    atOnce(this.addInSteps(window));
  }

  /** Likewise. Each call ends before the next one begins; after `clear`, those under way must not go on. */
  *addInSteps(window: ClosedWindow): Stepwise<void> {
    const { windowMs } = this.#own.epochAt(window.start);
    const start = this.#own.startOf(window.start);
    if (this.#running !== undefined && this.#running.start !== start) yield* this.#finish();
    if (windowMs === window.windowMs) {
      this.#done.push(window);
      return;
    }
    if (this.#running === undefined) {
      this.#records = this.#records.successor();
      const epoch = this.#fine.epochAt(start);
      this.#running = new MergedWindow({ start, windowMs, instance: window.instance }, epoch, this.#records);
    }
    this.folded += yield* this.#running.add(window, this.#stepPoints);
  }

  /** Returns the windows that are whole, if all windows of the pipeline before `boundary` were added. */
  take(boundary: number): ClosedWindow[] {
    return atOnce(this.takeInSteps(boundary));
  }

  /** Likewise, as `addInSteps`. */
  *takeInSteps(boundary: number): Stepwise<ClosedWindow[]> {
    if (this.#running !== undefined && this.#running.end <= boundary) yield* this.#finish();
    const done = this.#done;
    this.#done = [];
    return done;
  }

  /** Returns all windows, whole or not. */
  takeAll(): ClosedWindow[] {
    return this.take(Number.POSITIVE_INFINITY);
  }

  clear(): void {
    this.#running = undefined;
    this.#done = [];
  }

  *#finish(): Stepwise<void> {
    if (this.#running !== undefined) this.#done.push(yield* this.#running.close(this.#stepPoints));
    this.#running = undefined;
  }
}

type Place = Pick<ClosedWindow, 'start' | 'windowMs' | 'instance'>;

/** Numbers of a row, as in `FIELDS`. */
const [COUNT, SUM, MIN, MAX, LAST, LAST_TIME] = [0, 1, 2, 3, 4, 5] as const;
const P50 = FIELDS.timer.indexOf('p50');
const FIRST_LENGTH = 64;

class MergedWindow {
  readonly start: number;
  readonly end: number;
  readonly #place: Place;
  readonly #epoch: Epoch;
  readonly #budget: WindowBudget;
  readonly #records: SeriesRecords;
  readonly #sketches = new Sketches(SKETCH_SCALE, true);
  /** By sketch: its point, and the sum of its weights. */
  readonly #timers: number[] = [];
  readonly #weights: number[] = [];
  /** By id of a series: its point. */
  readonly #points = new Map<string, number>();
  /** By reference in the records that the last windows shared: what `#pointOf` returns, plus 1 if it is no ~point. */
  #known = new RefNumbers();
  #origin: object | undefined;
  #refs = new Uint32Array(FIRST_LENGTH);
  #rows = new Uint32Array(FIRST_LENGTH);
  #values = new Float64Array(FIRST_LENGTH);
  /** Of a timer: which sketch it has. */
  #sketchOf = new Int32Array(FIRST_LENGTH);
  #used = 1;
  #size = 0;
  #ordinary = 0;
  #overflow = 0;

  constructor(place: Place, epoch: Epoch, records: SeriesRecords) {
    this.start = place.start;
    this.end = place.start + place.windowMs;
    this.#place = place;
    this.#epoch = epoch;
    this.#records = records;
    this.#budget = new WindowBudget(epoch.maxSeriesBytes ?? Number.POSITIVE_INFINITY, { coarse: 0 });
  }

  get bytes(): number {
    return this.#values.byteLength + this.#size * TABLE_BYTES + this.#records.bytes + this.#sketches.bytes;
  }

  /** Returns how many points were folded. */
  *add(window: ClosedWindow, stepPoints: number): Stepwise<number> {
    const { refs, records } = window;
    if (this.#origin !== records.origin) this.#known = new RefNumbers();
    this.#origin = records.origin;
    let folded = 0;
    for (let i = 0; i < refs.length; i++) {
      const ref = refs[i]!;
      let known = this.#known.get(ref);
      if (known === 0) {
        const point = this.#pointOf(records, ref);
        known = point < 0 ? point : point + 1;
        this.#known.set(ref, known);
      }
      if (known < 0) folded += 1;
      this.#addPoint(known < 0 ? ~known : known - 1, window, i);
      if (i % stepPoints === stepPoints - 1) yield;
    }
    return folded;
  }

  /** Returns the point that a series goes to: its own or, as ~point, that of the series into which it is folded. */
  #pointOf(records: SeriesRecords, ref: SeriesRef): number {
    const id = records.idOf(ref);
    const known = this.#points.get(id);
    if (known !== undefined) return known;
    const type = records.typeOf(ref);
    const cost = seriesCost(type, records.textBytesOf(ref));
    const add = () => this.#records.addFrom(records, ref);
    const mayBe = records.dimensionsBytesOf(ref) === OVERFLOW_BYTES;
    if (mayBe && records.dimensionsJsonOf(ref) === OVERFLOW_JSON) {
      const point = this.#enterOverflow(id, type, cost, add);
      return point ?? ~this.#pointOfAll(type);
    }
    if (this.#ordinary < this.#epoch.maxSeries && this.#budget.admit(cost)) {
      this.#ordinary += 1;
      return this.#enter(id, type, add());
    }
    return ~this.#overflowPoint(records.nameOf(ref), type);
  }

  #overflowPoint(name: string, type: number): number {
    const series = seriesOf(identify(name, OVERFLOW_DIMENSIONS), METRIC_TYPES[type]!);
    const known = this.#points.get(series.id);
    if (known !== undefined) return known;
    const cost = seriesCost(type, Buffer.byteLength(name) + OVERFLOW_BYTES);
    const point = this.#enterOverflow(series.id, type, cost, () => this.#records.add(series));
    return point ?? this.#pointOfAll(type);
  }

  /** Returns undefined if no more overflow series fit. */
  #enterOverflow(id: string, type: number, cost: number, add: () => SeriesRef): number | undefined {
    if (this.#overflow >= this.#epoch.maxSeries || !this.#budget.admitOverflow(cost)) return undefined;
    this.#overflow += 1;
    return this.#enter(id, type, add());
  }

  /** As in a window of the pipeline: one series per type takes the rest, at no cost. */
  #pointOfAll(type: number): number {
    const series = seriesOf(identify(OVERFLOW_DIMENSION, OVERFLOW_DIMENSIONS), METRIC_TYPES[type]!);
    const known = this.#points.get(series.id);
    if (known !== undefined) return known;
    this.#overflow += 1;
    return this.#enter(series.id, type, this.#records.add(series));
  }

  #enter(id: string, type: number, ref: SeriesRef): number {
    const point = this.#size++;
    const row = this.#used;
    this.#used += ROW_LENGTHS[type]!;
    if (point === this.#refs.length) {
      this.#refs = longer(this.#refs, new Uint32Array(2 * point));
      this.#rows = longer(this.#rows, new Uint32Array(2 * point));
      this.#sketchOf = longer(this.#sketchOf, new Int32Array(2 * point));
    }
    if (this.#used > this.#values.length)
      this.#values = longer(this.#values, new Float64Array(Math.max(this.#used, 2 * this.#values.length)));
    this.#refs[point] = ref;
    this.#rows[point] = row;
    this.#points.set(id, point);
    if (type === COUNTER) return point;
    this.#values[row + MIN] = Number.POSITIVE_INFINITY;
    this.#values[row + MAX] = Number.NEGATIVE_INFINITY;
    if (type === GAUGE) this.#values[row + LAST_TIME] = Number.NEGATIVE_INFINITY;
    if (type === TIMER) {
      this.#sketchOf[point] = this.#sketches.begin();
      this.#timers.push(point);
      this.#weights.push(0);
    }
    return point;
  }

  #addPoint(point: number, window: ClosedWindow, index: number): void {
    const [values, row] = [this.#values, this.#rows[point]!];
    const [from, at] = [window.values, window.rows[index]!];
    values[row + COUNT]! += from[at + COUNT]!;
    values[row + SUM]! += from[at + SUM]!;
    const type = this.#records.typeOf(this.#refs[point]!);
    if (type === COUNTER) return;
    values[row + MIN] = Math.min(values[row + MIN]!, from[at + MIN]!);
    values[row + MAX] = Math.max(values[row + MAX]!, from[at + MAX]!);
    if (type === TIMER) {
      const sketch = this.#sketchOf[point]!;
      this.#weights[sketch]! += window.addSketchTo(index, this.#sketches, sketch, this.#budget);
    } else if (from[at + LAST_TIME]! >= values[row + LAST_TIME]!) {
      values[row + LAST] = from[at + LAST]!;
      values[row + LAST_TIME] = from[at + LAST_TIME]!;
    }
  }

  *close(stepPoints: number): Stepwise<ClosedWindow> {
    const values = sharedCopy(this.#values.subarray(0, this.#used));
    for (const [sketch, point] of this.#timers.entries()) {
      const row = this.#rows[point]!;
      const weight = this.#weights[sketch]!;
      this.#sketches.quantiles(sketch, weight, values[row + MIN]!, values[row + MAX]!, values, row + P50);
      if (sketch % stepPoints === stepPoints - 1) yield;
    }
    const columns = {
      ...this.#place,
      records: this.#records,
      refs: sharedCopy(this.#refs.subarray(0, this.#size)),
      rows: sharedCopy(this.#rows.subarray(0, this.#size)),
      values,
      sketches: this.#sketches.columns(),
    };
    return new ClosedWindow(columns);
  }
}
