import { METRIC_TYPES, type Series } from './point.ts';
import type { Spelling } from './sample.ts';
import { type Dimension, type Identity, identify, OVERFLOW_DIMENSION, seriesOf } from './series.ts';
import { SeriesRecords, type SeriesRef } from './series-records.ts';
import { type Entry, NONE, Spellings } from './spellings.ts';

/** Longer spellings are read anew each time: remembering them would cost more memory than the series itself. */
const MAX_SPELLING_BYTES = 4096;

/** Room for the spellings, per series that the table is to keep; twice that of a typical one and its canonical form. */
const SPELLING_BYTES_PER_SERIES = 512;

const NO_RECORD = -1;

/** So many series do not fit into a processor's nearer caches. */
const PREFETCH_SERIES = 4096;

const OVERFLOW_DIMENSIONS: readonly Dimension[] = [[OVERFLOW_DIMENSION, 'true']];

/** Whoever keeps numbers of series beyond a call says so here, or they are given away in the next sweep. */
export interface SeriesHolder {
  markSeries(mark: (series: number) => void): void;
}

/**
 * Numbers the series, 0, 1, 2..., and remembers how messages spell them.
 *
 * A series is kept as its canonical spelling (the JSON of its name and of its dimensions), which is an entry of the
 * same table as the spellings seen in messages: any two spellings of one series lead to one number. What no holder
 * marks is forgotten when the table is full, so producers that invent series or spellings cannot make it grow.
 */
export class SeriesTable {
  #spellings = new Spellings();
  /** By series number: the entry of the canonical spelling, NONE where the number is free. */
  #canonical: Entry[] = [];
  /** By series number: the entry of the spelling seen last, if it is another than the canonical one. */
  #alias: Entry[] = [];
  /** By series number: that of its overflow series, or -1 while nobody has asked. Overflow series name themselves. */
  #overflow: number[] = [];
  /** By type, while known. */
  #overflowOfAll: (number | undefined)[] = [];
  /** By series number, NO_RECORD where nobody has asked. */
  #records: number[] = [];
  #series = new SeriesRecords();
  #free: number[] = [];
  readonly #holders = new Set<SeriesHolder>();
  readonly #keep: number;
  #maxSeries: number;
  #maxBytes: number;
  /** The series numbered last: it is the one that will be asked for first. */
  #newest: { readonly series: number; readonly identity: Identity } | undefined;
  readonly #writer = new CanonicalWriter();

  /** `keep`: how many series the table may hold before it looks for some to forget. */
  constructor(keep: number) {
    this.#keep = keep;
    this.#maxSeries = keep;
    this.#maxBytes = keep * SPELLING_BYTES_PER_SERIES;
  }

  /** Series known at the moment. */
  get size(): number {
    return this.#canonical.length - this.#free.length;
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
    return entry === NONE ? -1 : this.#spellings.seriesOf(entry);
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
    const length = spelling.nameLength + spelling.dimensionsLength;
    if (length <= MAX_SPELLING_BYTES && this.#spellings.find(spelling) === NONE) {
      this.#alias[series] = this.#spellings.insert(spelling, series);
    }
    return series;
  }

  series(series: number): Series {
    return this.#series.series(this.recordOf(series));
  }

  /** What `recordOf` refers to, until the table forgets series: whoever needs it for longer keeps this too. */
  get records(): SeriesRecords {
    return this.#series;
  }

  recordOf(series: number): SeriesRef {
    let ref = this.#records[series]!;
    if (ref === NO_RECORD) {
      const type = METRIC_TYPES[this.#spellings.typeOf(this.#canonical[series]!)]!;
      const identity = this.#newest?.series === series ? this.#newest.identity : this.#identity(series);
      ref = this.#series.add(seriesOf(identity, type));
      this.#records[series] = ref;
    }
    return ref;
  }

  /** The series into which those of the same name and type are folded that are over the limit. */
  overflowOf(series: number): number {
    if (this.#overflow[series]! < 0) {
      const entry = this.#canonical[series]!;
      const identity = identify(this.#name(entry), OVERFLOW_DIMENSIONS);
      this.#overflow[series] = this.#intern(this.#spellings.typeOf(entry), identity);
    }
    return this.#overflow[series]!;
  }

  /** The series into which those of one type are folded when there are too many overflow series. */
  overflowOfAll(type: number): number {
    this.#overflowOfAll[type] ??= this.#intern(type, identify(OVERFLOW_DIMENSION, OVERFLOW_DIMENSIONS));
    return this.#overflowOfAll[type]!;
  }

  isOverflow(series: number): boolean {
    return this.#overflow[series] === series;
  }

  #name(entry: Entry): string {
    return JSON.parse(`"${toText(this.#spellings.nameOf(entry))}"`) as string;
  }

  #identity(series: number): Identity {
    const entry = this.#canonical[series]!;
    const json = toText(this.#spellings.dimensionsOf(entry));
    return identify(this.#name(entry), Object.entries(JSON.parse(json) as Record<string, string>));
  }

  #intern(type: number, identity: Identity): number {
    const canonical = this.#writer.write(type, identity);
    const known = this.#spellings.find(canonical);
    if (known !== NONE) return this.#spellings.seriesOf(known);
    const series = this.#free.pop() ?? this.#canonical.length;
    this.#canonical[series] = this.#spellings.insert(canonical, series);
    this.#alias[series] = NONE;
    this.#overflow[series] = isOverflow(identity) ? series : -1;
    this.#records[series] = NO_RECORD;
    this.#newest = { series, identity };
    return series;
  }

  /** Forgets the series that no holder marks, and of the others all spellings but two. */
  #sweep(): void {
    const marked = new Uint8Array(this.#canonical.length);
    for (const holder of this.#holders) {
      holder.markSeries((series) => {
        marked[series] = 1;
      });
    }
    this.#overflowOfAll = [];
    this.#newest = undefined;
    const old = this.#spellings;
    const kept = new Spellings();
    const oldSeries = this.#series;
    this.#series = new SeriesRecords();
    for (let series = 0; series < marked.length; series++) {
      const canonical = this.#canonical[series]!;
      if (marked[series] === 1) {
        const alias = this.#alias[series]!;
        this.#canonical[series] = kept.insertFrom(old, canonical);
        if (alias !== NONE) this.#alias[series] = kept.insertFrom(old, alias);
        const ref = this.#records[series]!;
        if (ref !== NO_RECORD) this.#records[series] = this.#series.addFrom(oldSeries, ref);
        // Its overflow series may be among those forgotten.
        if (!this.isOverflow(series)) this.#overflow[series] = -1;
      } else if (canonical !== NONE) {
        this.#canonical[series] = NONE;
        this.#records[series] = NO_RECORD;
        this.#free.push(series);
      }
    }
    this.#spellings = kept;
    // Twice what is in use at least, or a table full of series in use would be swept for every new one.
    this.#maxSeries = Math.max(this.#keep, 2 * this.size);
    this.#maxBytes = Math.max(this.#keep * SPELLING_BYTES_PER_SERIES, 2 * kept.bytes);
  }
}

/** Spells a series canonically. Its own spelling is reused by every call. */
class CanonicalWriter {
  #bytes = new Uint8Array(1 << 12);
  #view = new DataView(this.#bytes.buffer);
  readonly #encoder = new TextEncoder();

  write(type: number, { name, dimensionsJson }: Identity): Spelling {
    const nameJson = JSON.stringify(name).slice(1, -1);
    const text = nameJson + dimensionsJson;
    if (this.#bytes.length < 3 * text.length) {
      this.#bytes = new Uint8Array(3 * text.length);
      this.#view = new DataView(this.#bytes.buffer);
    }
    const { written } = this.#encoder.encodeInto(text, this.#bytes);
    const nameLength = Buffer.byteLength(nameJson);
    return {
      view: this.#view,
      type,
      nameStart: 0,
      nameLength,
      dimensionsStart: nameLength,
      dimensionsLength: written - nameLength,
    };
  }
}

function isOverflow({ dimensions }: Identity): boolean {
  const [first] = dimensions;
  return dimensions.length === 1 && first![0] === OVERFLOW_DIMENSION && first![1] === 'true';
}

function toText(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('utf8');
}
