import { type KeySource, systemKeys } from './keyed-hash.ts';
import { METRIC_TYPES, type Series } from './point.ts';
import { FILTERED, type Spelling, TYPE_MASK } from './sample.ts';
import { type Dimension, type Identity, identify, OVERFLOW_DIMENSION, seriesOf } from './series.ts';
import { SeriesIndex } from './series-index.ts';
import { SeriesRecords, type SeriesRef } from './series-records.ts';
import { SpellingHash } from './spelling-hash.ts';
import {
  type Entry,
  type HashedSpelling,
  MAX_SPELLING_BYTES,
  NO_ENTRY,
  Spellings,
} from './spelling-table.ts';
import type { Tiling } from './tiling.ts';
import { longer } from './typed-arrays.ts';
import { seriesCost } from './window-budget.ts';

/** Memory per series to keep, if no other is named: enough for several spellings of typical length. */
const BYTES_PER_SERIES = 512;

/** What a series number takes in the tables, beside record and spellings: some 24 to 56 bytes. */
const NUMBER_BYTES = 40;

/**
 * Room for new series after a sweep, as a share of what is in use, and of what the table may keep: a full table must
 * not sweep all the time.
 */
const MIN_ROOM = 1 / 4;
const MIN_ROOM_KEPT = 1 / 4;

/** From this many series on, the table does not fit in the inner caches of a processor. */
const PREFETCH_SERIES = 4096;

const INITIAL_NUMBERS = 1 << 10;

/**
 * What a sweep does with each spelling that is added, until it is through: it counts what is kept of so many numbers.
 * Then it looks at so many again, and moves so many of the series that are kept. Each takes some 10 us.
 */
const COUNTED_NUMBERS = 256;
const SWEPT_NUMBERS = 128;
const SWEPT_SERIES = 16;

/** What a sweep does with a number. */
const FORGOTTEN = 0;
const KEPT = 1;
const KEPT_AND_MOVED = 2;

/**
 * Origins come from subjects, which are the producers' to choose. When so many keys are known, or they have so many
 * UTF-16 code units, all are forgotten, and get other numbers when they come again.
 */
const MAX_ORIGINS = 65_536;
const MAX_ORIGINS_LENGTH = 8_000_000;
/** No number is used twice: a spelling may still have it. Spellings of what has none are not kept. */
const LAST_ORIGIN = 0x7fff_ffff;
const NO_ORIGIN = -1;

const OVERFLOW_DIMENSIONS: readonly Dimension[] = [[OVERFLOW_DIMENSION, 'true']];

/** Keeps series numbers beyond a call. The next sweep reuses every number that no holder marks. */
export interface SeriesHolder {
  markSeries(mark: (series: number) => void): void;
}

/**
 * A sweep under way. All that is new goes to new tables. A series that is kept moves there, and until then it is found
 * in these. What is to be forgotten is not found at once, but its number is free only when its turn comes.
 */
interface Sweep {
  /** By series number, up to the largest when the sweep began. */
  readonly fates: Uint8Array;
  /** All numbers before this one are counted. */
  counted: number;
  /** All numbers before this one have had their turn. */
  next: number;
  readonly spellings: Spellings;
  readonly index: SeriesIndex;
}

/**
 * Numbers the series, 0, 1, 2..., and remembers how messages spell them.
 *
 * A series is kept as its record, which is found by its id: all spellings of a series lead to the same number. When the
 * table is full, it forgets what no holder marks, so producers that invent series or spellings cannot make it grow. It
 * does so little by little: nothing that is done in one go takes longer than a few milliseconds.
 */
export class SeriesTable {
  #spellings: Spellings;
  #records = new SeriesRecords();
  /** By series number: its record. For a free number, the value has no meaning. */
  #refs = new Uint32Array(INITIAL_NUMBERS);
  /** By series number: the entry of its newest spelling, or NO_ENTRY. */
  #spelled = new Int32Array(INITIAL_NUMBERS);
  #numbers = 0;
  #free: number[] = [];
  #size = 0;
  #index: SeriesIndex;
  /**
   * By series number: its overflow series plus 1, once asked for; else 0. An overflow series has itself. Only as long
   * as it had to be: most tables fold nothing.
   */
  #overflow = new Uint32Array();
  /** By type: the series that takes the rest; undefined until it is needed. */
  #overflowOfAll: (number | undefined)[] = [];
  readonly #origins = new Map<string, number>();
  #originsLength = 0;
  #lastOrigin = 0;
  readonly #holders = new Set<SeriesHolder>();
  readonly #keep: number;
  readonly #keepBytes: number;
  #maxSeries: number;
  #maxBytes: number;
  #sweep: Sweep | undefined;

  /** `keep`: how many series the table may hold before it looks for series to forget; `keepBytes`: how much memory. */
  constructor(keep: number, keepBytes: number = keep * BYTES_PER_SERIES, keys: KeySource = systemKeys) {
    this.#keep = keep;
    this.#keepBytes = keepBytes;
    this.#spellings = new Spellings(new SpellingHash(keys), 0, keepBytes);
    this.#index = new SeriesIndex(keys);
    this.#maxSeries = keep;
    this.#maxBytes = keepBytes;
  }

  /** Returns a table for windows of these shapes. */
  static of({ maxSeries, maxSeriesBytes }: Tiling): SeriesTable {
    return new SeriesTable(maxSeries, maxSeriesBytes);
  }

  /** How many series the table knows. */
  get size(): number {
    return this.#size;
  }

  /** Memory that the spellings take. */
  get spellingBytes(): number {
    return this.#spellings.bytes;
  }

  /** Memory that the series take, about. */
  get bytes(): number {
    return this.#records.bytes + this.#spellings.bytes + this.size * NUMBER_BYTES;
  }

  hold(holder: SeriesHolder): void {
    this.#holders.add(holder);
  }

  release(holder: SeriesHolder): void {
    this.#holders.delete(holder);
  }

  /**
   * Hashes the first `count`, for `find` and `prefetch`. A hash from before an `add` may be out of date: it finds
   * nothing.
   */
  hashAll(spellings: readonly HashedSpelling[], count: number): void {
    this.#spellings.hashAll(spellings, count);
  }

  /** Returns the number of the series with this spelling, or `FILTERED`; -1 if the spelling is new. */
  find(spelling: Spelling, hash?: number): number {
    const entry = this.#spellings.find(spelling, hash);
    if (entry !== NO_ENTRY) return this.#spellings.seriesOf(entry);
    return this.#sweep === undefined ? -1 : findUnmoved(this.#sweep, spelling);
  }

  /**
   * Loads the memory in which the first `count` spellings will be looked up, and writes to `series` which series they
   * probably are, -1 for none. Returns false, and does nothing, if the table is so small that the caches hold it.
   */
  prefetch(spellings: readonly { readonly hash: number }[], count: number, series: Int32Array): boolean {
    // Otherwise, a sweep that began would keep the memory of the old tables for as long as nothing new comes.
    if (this.#sweep !== undefined) this.#sweepOn(this.#sweep);
    if (this.size < PREFETCH_SERIES) return false;
    this.#spellings.prefetch(spellings, count, series);
    return true;
  }

  /** Adds a spelling that `find` did not know, and returns the number of its series. */
  add(spelling: Spelling, identity: Identity): number {
    this.#makeRoom();
    const series = this.#intern(spelling.type & TYPE_MASK, identity);
    if (isKept(spelling)) this.#spelled[series] = this.#spellings.insert(spelling, series);
    return series;
  }

  /** Adds a spelling that `find` did not know, of samples that are not to be counted. */
  addFiltered(spelling: Spelling): number {
    this.#makeRoom();
    if (isKept(spelling)) this.#spellings.insert(spelling, FILTERED);
    return FILTERED;
  }

  /**
   * Returns the number that stands for a text on which the series of a spelling depends beside its bytes: by which
   * rules it is read, and what it gets from elsewhere.
   */
  originOf(key: string): number {
    const known = this.#origins.get(key);
    if (known !== undefined) return known;
    this.#originsLength += key.length;
    if (this.#origins.size >= MAX_ORIGINS || this.#originsLength > MAX_ORIGINS_LENGTH) {
      this.#origins.clear();
      this.#originsLength = key.length;
    }
    const origin = this.#lastOrigin < LAST_ORIGIN ? ++this.#lastOrigin : NO_ORIGIN;
    this.#origins.set(key, origin);
    return origin;
  }

  #makeRoom(): void {
    if (this.#sweep !== undefined) this.#sweepOn(this.#sweep);
    else if (this.size >= this.#maxSeries || this.bytes >= this.#maxBytes) this.#sweepOn(this.#startSweep());
  }

  series(series: number): Series {
    return this.#records.series(this.#refs[series]!);
  }

  /** The records to which `recordOf` refers. A sweep replaces them: to use a reference for longer, keep this object. */
  get records(): SeriesRecords {
    return this.#records;
  }

  /** Returns where the record of the series is, in `records` as they are now. Valid for as long as these are kept. */
  recordOf(series: number): SeriesRef {
    return this.#records.give(this.#refs[series]!);
  }

  /** What the series costs of a window's budget. */
  costOf(series: number): number {
    const ref = this.#refs[series]!;
    return seriesCost(this.#records.typeOf(ref), this.#records.textBytesOf(ref));
  }

  /** Returns the series into which series of the same name and type are folded when they are over the limit. */
  overflowOf(series: number): number {
    if (this.#sweep?.fates[series] === KEPT) this.#move(series, this.#sweep);
    const known = series < this.#overflow.length ? this.#overflow[series]! : 0;
    if (known !== 0) return known - 1;
    const ref = this.#refs[series]!;
    const identity = identify(this.#records.nameOf(ref), OVERFLOW_DIMENSIONS);
    const overflow = this.#intern(this.#records.typeOf(ref), identity);
    this.#setOverflow(series, overflow + 1);
    return overflow;
  }

  /** Returns the series into which series of one type are folded when there are too many overflow series. */
  overflowOfAll(type: number): number {
    this.#overflowOfAll[type] ??= this.#intern(type, identify(OVERFLOW_DIMENSION, OVERFLOW_DIMENSIONS));
    return this.#overflowOfAll[type]!;
  }

  isOverflow(series: number): boolean {
    return series < this.#overflow.length && this.#overflow[series] === series + 1;
  }

  #setOverflow(series: number, overflow: number): void {
    if (series >= this.#overflow.length) {
      if (overflow === 0) return;
      this.#overflow = longer(this.#overflow, new Uint32Array(this.#refs.length));
    }
    this.#overflow[series] = overflow;
  }

  #intern(type: number, identity: Identity): number {
    const made = seriesOf(identity, METRIC_TYPES[type]!);
    const known = this.#index.find(made.id, this.#refs, this.#records) ?? this.#findUnmoved(made.id);
    if (known !== undefined) return known;
    this.#size += 1;
    const series = this.#free.pop() ?? this.#numbers++;
    if (series >= this.#refs.length) this.#growNumbers();
    this.#refs[series] = this.#records.add(made);
    this.#spelled[series] = NO_ENTRY;
    this.#setOverflow(series, isOverflow(identity) ? series + 1 : 0);
    this.#index.add(series, this.#refs, this.#records);
    return series;
  }

  #growNumbers(): void {
    const size = 2 * this.#refs.length;
    this.#refs = longer(this.#refs, new Uint32Array(size));
    this.#spelled = longer(this.#spelled, new Int32Array(size));
  }

  /** Begins to forget the series that no holder marks, and all but one spelling of each other series. */
  #startSweep(): Sweep {
    const fates = new Uint8Array(this.#numbers);
    let kept = 0;
    const mark = (series: number) => {
      if (fates[series] === FORGOTTEN) kept++;
      fates[series] = KEPT;
    };
    for (const holder of this.#holders) holder.markSeries(mark);
    const [spellings, index] = [this.#spellings, this.#index];
    const adds = fates.length / COUNTED_NUMBERS + fates.length / SWEPT_NUMBERS + kept / SWEPT_SERIES;
    const room = kept + Math.ceil(adds);
    this.#spellings = new Spellings(spellings.hash, room, spellings.bytes + this.#keepBytes);
    this.#index = index.emptied(room);
    this.#records.compact();
    this.#size = kept;
    this.#free = [];
    this.#overflowOfAll = [];
    this.#sweep = { fates, counted: 0, next: 0, spellings, index };
    return this.#sweep;
  }

  #sweepOn(sweep: Sweep): void {
    const { fates } = sweep;
    if (sweep.counted < fates.length) this.#countOn(sweep);
    if (sweep.counted < fates.length) return;
    const end = Math.min(sweep.next + SWEPT_NUMBERS, fates.length);
    let moves = 0;
    while (sweep.next < end && moves < SWEPT_SERIES) {
      const series = sweep.next++;
      if (fates[series] === FORGOTTEN) this.#free.push(series);
      else if (fates[series] === KEPT) {
        this.#move(series, sweep);
        moves++;
        // It moved while others were still counted: its record did not.
      } else this.#refs[series] = this.#records.moved(this.#refs[series]!);
    }
    if (sweep.next === fates.length) this.#endSweep();
  }

  #countOn(sweep: Sweep): void {
    const { fates } = sweep;
    const end = Math.min(sweep.counted + COUNTED_NUMBERS, fates.length);
    for (let series = sweep.counted; series < end; series++)
      if (fates[series] !== FORGOTTEN) this.#records.keep(this.#refs[series]!);
    sweep.counted = end;
    if (end === fates.length) this.#records.decide();
  }

  #endSweep(): void {
    this.#sweep?.spellings.free();
    this.#sweep = undefined;
    this.#records = this.#records.compacted();
    // More than what is in use: otherwise, a table full of series in use would be swept for every new series.
    this.#maxSeries = Math.max(this.#keep, 2 * this.size);
    const room = Math.max(MIN_ROOM_KEPT * this.#keepBytes, MIN_ROOM * this.bytes);
    this.#maxBytes = Math.max(this.#keepBytes, this.bytes + room);
  }

  /** Moves a series that is kept to the new tables. */
  #move(series: number, { fates, spellings }: Sweep): void {
    fates[series] = KEPT_AND_MOVED;
    this.#refs[series] = this.#records.moved(this.#refs[series]!);
    // A series may be kept while its overflow series is forgotten.
    if (!this.isOverflow(series)) this.#setOverflow(series, 0);
    const entry: Entry = this.#spelled[series]!;
    if (entry !== NO_ENTRY) this.#spelled[series] = this.#spellings.insertFrom(spellings, entry);
    this.#index.add(series, this.#refs, this.#records);
  }

  /** Finds a series that a sweep keeps and has not moved yet, and moves it. */
  #findUnmoved(id: string): number | undefined {
    const sweep = this.#sweep;
    if (sweep === undefined) return undefined;
    const series = sweep.index.find(id, this.#refs, this.#records);
    if (series === undefined || sweep.fates[series] !== KEPT) return undefined;
    this.#move(series, sweep);
    return series;
  }
}

/** Longer spellings are parsed each time. */
function isKept({ nameLength, dimensionsLength, origin }: Spelling): boolean {
  return nameLength + dimensionsLength <= MAX_SPELLING_BYTES && origin !== NO_ORIGIN;
}

/** Returns -1 if the sweep found no series with this spelling that it keeps. */
function findUnmoved({ spellings, fates }: Sweep, spelling: Spelling): number {
  const entry = spellings.find(spelling);
  if (entry === NO_ENTRY) return -1;
  const series = spellings.seriesOf(entry);
  return fates[series] === FORGOTTEN ? -1 : series;
}

function isOverflow({ dimensions }: Identity): boolean {
  const [first] = dimensions;
  return dimensions.length === 1 && first![0] === OVERFLOW_DIMENSION && first![1] === 'true';
}
