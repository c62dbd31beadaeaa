import { SKETCH_SCALE } from './buckets.ts';
import type { FoldedNames } from './folded-names.ts';
import { FIELDS, type Point } from './point.ts';
import { COUNTER, GAUGE, type Sample, TIMER } from './sample.ts';
import type { SeriesRecords } from './series-records.ts';
import type { SeriesTable } from './series-table.ts';
import { type Growth, type SketchColumns, Sketches } from './sketch.ts';
import { sketchSize, sketchText } from './sketch-text.ts';
import type { Epoch } from './tiling.ts';
import { WindowBudget } from './window-budget.ts';

/**
 * The numbers of a window are rows in one Float64Array, in the order in which the series first appear. A row holds the
 * fields of its type in the order of `FIELDS`, so closing a window seldom copies them. While a window is open, a
 * gauge's row also has the event time of `last` at its end, and a timer's row has the number of its sketch instead of
 * p50.
 */
export const ROW_LENGTHS = [FIELDS.counter.length, FIELDS.gauge.length + 1, FIELDS.timer.length] as const;
const COUNT = 0;
const SUM = 1;
const MIN = 2;
const MAX = 3;
const LAST = 4;
const LAST_TIME = 5;
const P50 = 4;

/** The most samples of one call of `prefetch`. */
const MAX_PREFETCHED = 256;

/** A row's offset in the values. Offset 0 means that a series has no row. */
type Row = number;
const NO_ROW = 0;

/** A window that still takes samples. */
export class OpenWindow {
  readonly start: number;
  readonly end: number;
  readonly epoch: Epoch;
  /** The stream time at which it is complete and takes no more samples (I2). */
  readonly completeAt: number;
  /** How many ordinary series it has, which count towards the limit, and how many overflow series. */
  ordinary = 0;
  overflow = 0;
  readonly budget: WindowBudget;
  /** How many series a name may still have, by the number of its overflow series. */
  readonly roomOf = new Map<number, number>();
  /** Undefined until a sample is folded. */
  folded: FoldedNames | undefined;
  #values: Float64Array;
  #used = 1;
  /** By series number: its row. */
  #rowOf: Int32Array;
  /** By point, in order of first appearance: the number of its series. */
  #numbers: Int32Array;
  #size = 0;
  /** Has no meaning. It uses what `prefetch` reads, so that the compiler does not drop the reads. */
  #touched = 0;
  readonly #prefetched = new Int32Array(MAX_PREFETCHED);
  readonly #sketches: Sketches;
  readonly #hasSketches: boolean;
  /** By sketch: its row. */
  readonly #sketchRows: Row[] = [];

  /** `sizes`: those of an earlier window, so that arrays seldom have to grow. `counts`: see `WindowBudget`. */
  constructor(
    start: number,
    epoch: Epoch,
    sizes: WindowSizes,
    counts: { coarse: number },
    hasSketches = false,
  ) {
    this.start = start;
    this.end = start + epoch.windowMs;
    this.epoch = epoch;
    this.completeAt = this.end + epoch.latenessMs;
    this.budget = new WindowBudget(epoch.maxSeriesBytes ?? Number.POSITIVE_INFINITY, counts);
    // Those of earlier versions fit no scale, so they stay here.
    this.#hasSketches = hasSketches && epoch.sketchScale !== undefined;
    this.#sketches = new Sketches(epoch.sketchScale, this.#hasSketches);
    this.#values = sharedValues(sizes.values);
    this.#rowOf = new Int32Array(sizes.numbers);
    this.#numbers = new Int32Array(sizes.points);
  }

  get sizes(): WindowSizes {
    return { values: this.#used, numbers: this.#rowOf.length, points: this.#size };
  }

  /** The numbers of its series, in order of first appearance. */
  get numbers(): Int32Array {
    return this.#numbers.subarray(0, this.#size);
  }

  rowOf(series: number): Row {
    return series < this.#rowOf.length ? this.#rowOf[series]! : NO_ROW;
  }

  /** Reads what `rowOf` and `add` will read, for many series at once, so that the waits for memory overlap. */
  prefetch(series: Int32Array, count: number): void {
    const rowOf = this.#rowOf;
    const values = this.#values;
    const rows = this.#prefetched;
    for (let i = 0; i < count; i++) {
      const number = series[i]!;
      rows[i] = number >= 0 && number < rowOf.length ? rowOf[number]! : NO_ROW;
    }
    let touched = 0;
    for (let i = 0; i < count; i++) touched += values[rows[i]!]!;
    this.#touched += touched;
  }

  /** Makes a row for a series that has none. */
  enter(number: number, type: number): Row {
    const row = this.#used;
    this.#used += ROW_LENGTHS[type]!;
    if (this.#used > this.#values.length)
      this.#values = sharedValues(grownLength(this.#values.length, this.#used), this.#values);
    if (number >= this.#rowOf.length) {
      this.#rowOf = grown(this.#rowOf, number + 1);
    }
    this.#rowOf[number] = row;
    if (this.#size === this.#numbers.length) this.#numbers = grown(this.#numbers, this.#size + 1);
    this.#numbers[this.#size] = number;
    this.#size += 1;
    if (type !== COUNTER) {
      this.#values[row + MIN] = Number.POSITIVE_INFINITY;
      this.#values[row + MAX] = Number.NEGATIVE_INFINITY;
      if (type === GAUGE) this.#values[row + LAST_TIME] = Number.NEGATIVE_INFINITY;
      else {
        this.#values[row + P50] = this.#sketches.begin();
        this.#sketchRows.push(row);
      }
    }
    return row;
  }

  add(row: Row, sample: Sample, eventTime: number): void {
    const { type, value } = sample;
    const weight = type === TIMER ? sample.weight : 1;
    const values = this.#values;
    values[row + COUNT]! += weight;
    values[row + SUM]! += weight * value;
    if (type === COUNTER) return;
    if (value < values[row + MIN]!) values[row + MIN] = value;
    if (value > values[row + MAX]!) values[row + MAX] = value;
    if (type !== GAUGE) {
      this.#sketches.add(values[row + P50]!, value, weight, this.budget);
    } else if (eventTime >= values[row + LAST_TIME]!) {
      values[row + LAST] = value;
      values[row + LAST_TIME] = eventTime;
    }
  }

  /**
   * Closes the window. It must take no sample afterwards, because the closed window owns its arrays. `keepsSketches`:
   * see `takeSketches`.
   */
  close(table: SeriesTable, instance: string, keepsSketches = false): ClosedWindow {
    const values = this.#values;
    for (let i = 0; i < this.#sketches.size; i++) {
      const row = this.#sketchRows[i]!;
      const [count, min, max] = [values[row + COUNT]!, values[row + MIN]!, values[row + MAX]!];
      this.#sketches.quantiles(i, count, min, max, values, row + P50);
      // Weights need not be whole, but stores hold whole counts, so round once, after adding all.
      values[row + COUNT] = Math.round(values[row + COUNT]!);
    }
    const size = this.#size;
    const rows = new Uint32Array(shared(size, Uint32Array.BYTES_PER_ELEMENT));
    const refs = new Uint32Array(shared(size, Uint32Array.BYTES_PER_ELEMENT));
    for (let i = 0; i < size; i++) {
      rows[i] = this.#rowOf[this.#numbers[i]!]!;
      refs[i] = table.recordOf(this.#numbers[i]!);
    }
    const columns = {
      start: this.start,
      windowMs: this.end - this.start,
      instance,
      records: table.records.partOf(refs),
      refs,
      rows,
      // Copy a small window out of a large array: otherwise, it would keep the memory of a large earlier window.
      values:
        2 * this.#used < values.length
          ? sharedValues(this.#used, values.subarray(0, this.#used))
          : values.subarray(0, this.#used),
      ...(this.#hasSketches && { sketches: this.#sketches.columns() }),
    };
    return new ClosedWindow(columns, keepsSketches && this.#sketches.size > 0 ? this.#sketches : undefined);
  }
}

export interface WindowSizes {
  readonly values: number;
  readonly numbers: number;
  readonly points: number;
}

export interface WindowColumns {
  readonly start: number;
  readonly windowMs: number;
  readonly instance: string;
  /** By point, in order of first appearance in the stream: the reference of its series in the records. */
  readonly refs: Uint32Array;
  readonly records: SeriesRecords;
  /** By point: where its row begins in `values`. A row holds the fields of `FIELDS[type]`, in that order. */
  readonly rows: Uint32Array;
  readonly values: Float64Array;
  /** If points have sketches: those of the timers, numbered in the order of their points. */
  readonly sketches?: SketchColumns;
}

/** A window that no longer changes. The lanes share it. */
export class ClosedWindow implements WindowColumns {
  readonly start: number;
  readonly windowMs: number;
  readonly instance: string;
  readonly refs: Uint32Array;
  readonly records: SeriesRecords;
  readonly rows: Uint32Array;
  readonly values: Float64Array;
  readonly sketches?: SketchColumns;
  #sketches: Sketches | undefined;
  readonly #written: WrittenSketches | undefined;

  constructor(columns: WindowColumns, sketches?: Sketches) {
    this.#sketches = sketches;
    this.start = columns.start;
    this.windowMs = columns.windowMs;
    this.instance = columns.instance;
    this.refs = columns.refs;
    this.records = columns.records;
    this.rows = columns.rows;
    this.values = columns.values;
    if (columns.sketches === undefined) return;
    this.sketches = columns.sketches;
    this.#written = new WrittenSketches(this, columns.sketches);
  }

  /** How many points the window has. */
  get size(): number {
    return this.refs.length;
  }

  /** Memory that the window takes without its records. */
  get ownBytes(): number {
    const sketches = this.#written?.bytes ?? 0;
    return this.refs.byteLength + this.rows.byteLength + this.values.byteLength + sketches;
  }

  /**
   * Returns the sketches of the timers, numbered in the order of their points, and keeps them no longer: a window may
   * wait in a lane for hours. Undefined if they were not kept, or have been taken.
   */
  takeSketches(): Sketches | undefined {
    const sketches = this.#sketches;
    this.#sketches = undefined;
    return sketches;
  }

  /** Returns the length in characters of the name and the dimensions of the point's series. */
  textSizeOf(index: number): number {
    return this.records.sizeOf(this.refs[index]!);
  }

  /** Returns their length in bytes: the memory that they take. */
  textBytesOf(index: number): number {
    return this.records.textBytesOf(this.refs[index]!);
  }

  /** Returns about how long the sketch of the point is as text, at most; 0 if it has none. */
  sketchSizeOf(index: number): number {
    return this.#written?.sizeOf(index) ?? 0;
  }

  /** Memory that the sketches take. */
  get sketchBytes(): number {
    return this.#written?.bytes ?? 0;
  }

  /**
   * Adds what the sketch of the point counts to another sketch, whose bins may grow as far as `growth` lets them.
   * Returns the sum of the weights; 0 if the point has none.
   */
  addSketchTo(index: number, sketches: Sketches, sketch: number, growth: Growth): number {
    return this.#written?.addTo(index, sketches, sketch, growth) ?? 0;
  }

  nameOf(index: number): string {
    return this.records.nameOf(this.refs[index]!);
  }

  /** Returns the point's type as an index in METRIC_TYPES. */
  typeOf(index: number): number {
    return this.records.typeOf(this.refs[index]!);
  }

  countOf(index: number): number {
    return this.values[this.rows[index]! + COUNT]!;
  }

  sumOf(index: number): number {
    return this.values[this.rows[index]! + SUM]!;
  }

  point(index: number): Point {
    const ref = this.refs[index];
    if (ref === undefined) throw new RangeError(`no point ${index} in a window of ${this.size}`);
    const series = this.records.series(ref);
    const row = this.rows[index]!;
    const gauge = series.type === 'gauge';
    const timer = series.type === 'timer';
    const field = (offset: number): number => this.values[row + offset]!;
    return {
      series,
      windowStart: this.start,
      windowMs: this.windowMs,
      instance: this.instance,
      count: field(COUNT),
      sum: field(SUM),
      min: gauge || timer ? field(MIN) : null,
      max: gauge || timer ? field(MAX) : null,
      last: gauge ? field(LAST) : null,
      p50: timer ? field(P50) : null,
      p90: timer ? field(P50 + 1) : null,
      p95: timer ? field(P50 + 2) : null,
      p99: timer ? field(P50 + 3) : null,
      ...(this.#written && { sketch: this.#written.textOf(index) }),
    };
  }
}

/** The sketches of a window's points, found by point. */
class WrittenSketches {
  readonly bytes: number;
  readonly #window: ClosedWindow;
  readonly #sketches: Sketches;
  /** By point: which sketch it has; negative if it has none. Made when it is first needed. */
  #numbers: Int32Array | undefined;

  constructor(window: ClosedWindow, columns: SketchColumns) {
    this.#window = window;
    this.#sketches = new Sketches(SKETCH_SCALE, true, columns);
    this.bytes = this.#sketches.bytes;
  }

  sizeOf(index: number): number {
    const sketch = this.#numberOf(index);
    return sketch < 0 ? 0 : sketchSize(this.#sketches, sketch, this.#window.countOf(index));
  }

  addTo(index: number, sketches: Sketches, to: number, growth: Growth): number {
    const sketch = this.#numberOf(index);
    if (sketch < 0) return 0;
    const halvings = this.#sketches.halvingsOf(sketch);
    let sum = 0;
    this.#sketches.eachBucket(sketch, (sign, bucket, weight) => {
      sum += weight;
      sketches.addBucket(to, sign, bucket, halvings, weight, growth);
    });
    return sum;
  }

  textOf(index: number): string | null {
    const sketch = this.#numberOf(index);
    return sketch < 0 ? null : sketchText(this.#sketches, sketch);
  }

  #numberOf(index: number): number {
    this.#numbers ??= this.#numbered();
    return this.#numbers[index]!;
  }

  #numbered(): Int32Array {
    const numbers = new Int32Array(this.#window.size).fill(-1);
    for (let i = 0, timers = 0; i < numbers.length; i++)
      if (this.#window.typeOf(i) === TIMER) numbers[i] = timers++;
    return numbers;
  }
}

function grownLength(length: number, needed: number): number {
  return Math.max(needed, 2 * length, 64);
}

function grown(array: Int32Array, needed: number): Int32Array {
  const longer = new Int32Array(grownLength(array.length, needed));
  longer.set(array);
  return longer;
}

/** Allocates memory that all threads share, so that handing a window to a lane's thread copies nothing. */
function shared(length: number, bytes: number): SharedArrayBuffer {
  return new SharedArrayBuffer(length * bytes);
}

function sharedValues(length: number, from: ArrayLike<number> = []): Float64Array {
  const values = new Float64Array(shared(length, Float64Array.BYTES_PER_ELEMENT));
  values.set(from);
  return values;
}
