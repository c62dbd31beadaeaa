import { METRIC_TYPES, type Series } from './point.ts';
import type { Spelling } from './sample.ts';
import { type Dimension, type Identity, identify, OVERFLOW_DIMENSION, seriesOf } from './series.ts';
import { SeriesIndex } from './series-index.ts';
import { SeriesRecords, type SeriesRef } from './series-records.ts';
import { type Entry, MAX_SPELLING_BYTES, NO_ENTRY, Spellings } from './spelling-table.ts';

/** Room for the spellings, per series that the table is to keep: several of typical length. */
const SPELLING_BYTES_PER_SERIES = 512;

/** So many series do not fit into a processor's nearer caches. */
const PREFETCH_SERIES = 4096;

const INITIAL_NUMBERS = 1 << 10;

const OVERFLOW_DIMENSIONS: readonly Dimension[] = [[OVERFLOW_DIMENSION, 'true']];

/** Whoever keeps numbers of series beyond a call says so here, or they are given away in the next sweep. */
export interface SeriesHolder {
  markSeries(mark: (series: number) => void): void;
}

/**
 * Numbers the series, 0, 1, 2..., and remembers how messages spell them.
 *
 * A series is kept as its record, which is found by its id: any two spellings of one series lead to one number. What no
 * holder marks is forgotten when the table is full, so producers that invent series or spellings cannot make it grow.
 */
export class SeriesTable {
  #spellings = new Spellings();
  #records = new SeriesRecords();
  /** By series number; those of free numbers mean nothing. */
  #refs = new Uint32Array(INITIAL_NUMBERS);
  /** By series number: the entry of the spelling seen last, NONE where none is remembered. */
  #spelled = new Int32Array(INITIAL_NUMBERS);
  #numbers = 0;
  #free: number[] = [];
  #index = new SeriesIndex();
  /** By series number, for those asked about: the number of its overflow series. Overflow series name themselves. */
  readonly #overflow = new Map<number, number>();
  /** By type, while known. */
  #overflowOfAll: (number | undefined)[] = [];
  readonly #holders = new Set<SeriesHolder>();
  readonly #keep: number;
  #maxSeries: number;
  #maxBytes: number;

  /** `keep`: how many series the table may hold before it looks for some to forget. */
  constructor(keep: number) {
    this.#keep = keep;
    this.#maxSeries = keep;
    this.#maxBytes = keep * SPELLING_BYTES_PER_SERIES;
  }

  /** Series known at the moment. */
  get size(): number {
    return this.#numbers - this.#free.length;
  }

  /** Memory behind the spellings. */
  get spellingBytes(): number {
    return this.#spellings.bytes;
  }

  hold(holder: SeriesHolder): void {
    this.#holders.add(holder);
  }

  release(holder: SeriesHolder): void {
    this.#holders.delete(holder);
  }

  /** The number of the series that was spelled like this before, or -1. */
  find(spelling: Spelling, hash?: number): number {
    const entry = this.#spellings.find(spelling, hash);
    return entry === NO_ENTRY ? -1 : this.#spellings.seriesOf(entry);
  }

  /**
   * Has the memory at hand in which the first `count` spellings will be looked up, and says which series they probably
   * are, -1 for none. False, and nothing done, where the table is so small that it is at hand anyway.
   */
  prefetch(spellings: readonly { readonly hash: number }[], count: number, series: Int32Array): boolean {
    if (this.size < PREFETCH_SERIES) return false;
    this.#spellings.prefetch(spellings, count, series);
    return true;
  }

  /** Remembers a spelling that `find` did not know, and what it means. */
  add(spelling: Spelling, identity: Identity): number {
    if (this.size >= this.#maxSeries || this.#spellings.bytes >= this.#maxBytes) this.#sweep();
    const series = this.#intern(spelling.type, identity);
    if (spelling.nameLength + spelling.dimensionsLength <= MAX_SPELLING_BYTES)
      this.#spelled[series] = this.#spellings.insert(spelling, series);
    return series;
  }

  series(series: number): Series {
    return this.#records.series(this.recordOf(series));
  }

  /** What `recordOf` refers to, until the table forgets series: whoever needs it for longer keeps this too. */
  get records(): SeriesRecords {
    return this.#records;
  }

  recordOf(series: number): SeriesRef {
    return this.#refs[series]!;
  }

  /** The series into which those of the same name and type are folded that are over the limit. */
  overflowOf(series: number): number {
    let overflow = this.#overflow.get(series);
    if (overflow === undefined) {
      const ref = this.recordOf(series);
      const identity = identify(this.#records.nameOf(ref), OVERFLOW_DIMENSIONS);
      overflow = this.#intern(this.#records.typeOf(ref), identity);
      this.#overflow.set(series, overflow);
    }
    return overflow;
  }

  /** The series into which those of one type are folded when there are too many overflow series. */
  overflowOfAll(type: number): number {
    this.#overflowOfAll[type] ??= this.#intern(type, identify(OVERFLOW_DIMENSION, OVERFLOW_DIMENSIONS));
    return this.#overflowOfAll[type]!;
  }

  isOverflow(series: number): boolean {
    return this.#overflow.get(series) === series;
  }

  #intern(type: number, identity: Identity): number {
    const made = seriesOf(identity, METRIC_TYPES[type]!);
    const known = this.#index.find(made.id, this.#refs, this.#records);
    if (known !== undefined) return known;
    const series = this.#free.pop() ?? this.#numbers++;
    if (series >= this.#refs.length) this.#growNumbers();
    this.#refs[series] = this.#records.add(made);
    this.#spelled[series] = NO_ENTRY;
    if (isOverflow(identity)) this.#overflow.set(series, series);
    this.#index.add(series, this.#refs, this.#records);
    return series;
  }

  #growNumbers(): void {
    const [refs, spelled] = [this.#refs, this.#spelled];
    this.#refs = new Uint32Array(2 * refs.length);
    this.#refs.set(refs);
    this.#spelled = new Int32Array(2 * spelled.length);
    this.#spelled.set(spelled);
  }

  /** Forgets the series that no holder marks, and of the others all spellings but one. */
  #sweep(): void {
    const marked = this.#marked();
    const [oldSpellings, oldRecords] = [this.#spellings, this.#records];
    this.#spellings = new Spellings();
    this.#records = new SeriesRecords();
    this.#index = new SeriesIndex();
    this.#free = [];
    for (let series = 0; series < this.#numbers; series++) {
      if (marked[series] === 1) this.#keepFrom(series, oldSpellings, oldRecords);
      else this.#free.push(series);
    }
    this.#overflowOfAll = [];
    for (const [series, overflow] of this.#overflow) {
      // The overflow series of one that is kept may be among those forgotten.
      if (series !== overflow || marked[series] === 0) this.#overflow.delete(series);
    }
    // Twice what is in use at least, or a table full of series in use would be swept for every new one.
    this.#maxSeries = Math.max(this.#keep, 2 * this.size);
    this.#maxBytes = Math.max(this.#keep * SPELLING_BYTES_PER_SERIES, 2 * this.#spellings.bytes);
  }

  #marked(): Uint8Array {
    const marked = new Uint8Array(this.#numbers);
    for (const holder of this.#holders) {
      holder.markSeries((series) => {
        marked[series] = 1;
      });
    }
    return marked;
  }

  #keepFrom(series: number, spellings: Spellings, records: SeriesRecords): void {
    const entry: Entry = this.#spelled[series]!;
    if (entry !== NO_ENTRY) this.#spelled[series] = this.#spellings.insertFrom(spellings, entry);
    this.#refs[series] = this.#records.addFrom(records, this.#refs[series]!);
    this.#index.add(series, this.#refs, this.#records);
  }
}

function isOverflow({ dimensions }: Identity): boolean {
  const [first] = dimensions;
  return dimensions.length === 1 && first![0] === OVERFLOW_DIMENSION && first![1] === 'true';
}
