import { METRIC_TYPES, type Series } from './point.ts';
import { TYPE_CODES } from './sample.ts';
import { storedSeries } from './series.ts';
import { patternOf, readValues, type TextPlace, writeValues } from './series-text.ts';

/**
 * Words (4 bytes) of a record, before its text: what it is, and the id. What it is: the type, the two bits below, and
 * the bytes of the name and of the dimensions.
 */
const HEADER_WORDS = 5;
const WHAT = 0;
const ID_BYTE = 4;
const ID_BYTES = 16;
const TYPE_MASK = 3;
/** Only the values of the text are here. A word follows that says which record has the rest. */
const OF_OTHER = 1 << 2;
/** Bytes of name and dimensions, and characters of both, are words of their own: too large, or not the same. */
const WIDE = 1 << 3;
const WIDE_WORDS = 3;
const NAME_SHIFT = 4;
const MAX_NAME_BYTES = (1 << 12) - 1;
const DIMENSIONS_SHIFT = 16;
const MAX_DIMENSIONS_BYTES = (1 << 16) - 1;

/** A reference is the number of a chunk times this, plus the word within the chunk. */
const CHUNK_BITS = 18;
const CHUNK_WORDS = 1 << CHUNK_BITS;
/** Of a record of which another one in the chunk has the rest: its words, and above them where the other one begins. */
const WORDS_BITS = 32 - CHUNK_BITS;
const MAX_WORDS = 1 << WORDS_BITS;
const FIRST_CHUNK_WORDS = 1 << 12;
/**
 * How much memory series may take as objects in a thread, with what a sink derives from them, in bytes. When they take
 * more, all objects are dropped and created again on demand.
 */
const MAX_OBJECTS_BYTES = 16 * 1024 * 1024;
/** What an object takes: so much, and so much for each character. The text is in it as JSON, in pieces, and encoded. */
const OBJECT_BYTES = 400;
const OBJECT_BYTES_PER_CHARACTER = 8;

/** Of how many patterns, about, the newest chunk knows a whole text. */
const PATTERNS = 1 << 9;
const SCRATCH_BYTES = 1 << 16;

/** Where texts and values are put together. */
const SCRATCH = Buffer.allocUnsafeSlow(SCRATCH_BYTES);
const VALUES = Buffer.allocUnsafeSlow(SCRATCH_BYTES);

/** A chunk of which at least this share is in use is kept as it is. */
const MIN_USED = 1 / 2;

/** Where the record of a series is; 32 bits. */
export type SeriesRef = number;

/** The 16 bytes of an id as four big-endian words. */
export type IdWords = readonly [number, number, number, number];

/** Parses an id of 32 hexadecimal digits. */
export function idWords(id: string): IdWords {
  const word = (i: number) => Number.parseInt(id.slice(8 * i, 8 * i + 8), 16) | 0;
  return [word(0), word(1), word(2), word(3)];
}

/** The series that a thread has as objects, of all its records: older ones are read until their windows are gone. */
export class SeriesObjects {
  readonly #maps = new Set<Map<SeriesRef, Series>>();
  #bytes = 0;

  set(map: Map<SeriesRef, Series>, ref: SeriesRef, series: Series, bytes: number): void {
    if (this.#bytes + bytes > MAX_OBJECTS_BYTES) this.#drop();
    map.set(ref, series);
    this.#maps.add(map);
    this.#bytes += bytes;
  }

  #drop(): void {
    for (const map of this.#maps) map.clear();
    this.#maps.clear();
    this.#bytes = 0;
  }
}

/** By number of chunk: its memory, or undefined if nothing is left of it. */
export type SharedMemory = readonly (SharedArrayBuffer | undefined)[];

/** What is written of a record, with its text in `SCRATCH`. */
interface Header {
  readonly type: number;
  readonly nameBytes: number;
  readonly dimensionsBytes: number;
  readonly size: number;
}

interface Chunk {
  readonly memory: SharedArrayBuffer;
  readonly words: Uint32Array;
  readonly text: Buffer;
  usedWords: number;
  /** Whether a reference into it was given away: then it must stay as it is, for as long as anybody has the records. */
  isGiven: boolean;
}

/**
 * Series as bytes in memory that all threads share, written once and never changed. A window names its series by
 * reference; an object is created only when a thread reads a point. A series takes its text plus 20 bytes, or the
 * values of its dimensions plus 24 to 30 if a series in its chunk has the same name and the same keys.
 */
export class SeriesRecords {
  /** Undefined: nothing is left of the chunk, and its number is free. */
  readonly #chunks: (Chunk | undefined)[];
  readonly #freeChunks: number[] = [];
  /** The number of the chunk that takes new records; -1 if there is none. */
  #newest = -1;
  #usedWords = 0;
  /** Chunks that nobody reads any more, to be filled again. */
  readonly #spare: Chunk[] = [];
  /** By number of chunk, see `compact`: how many words of it are kept, and 1 if what is kept moves to other chunks. */
  #kept = new Float64Array();
  #leaving = new Uint8Array();
  #retiredBytes = 0;
  readonly #objects: SeriesObjects;
  /** By pattern: a record in the newest chunk that has a text with it, plus 1. */
  readonly #patterns = new Uint32Array(PATTERNS);
  #series = new Map<SeriesRef, Series>();
  /** Not this: whoever has a part would keep all of it. */
  #origin: object = {};

  /** Starts with the records that are already in this memory. */
  constructor(memory: SharedMemory = [], objects = new SeriesObjects()) {
    this.#objects = objects;
    this.#chunks = memory.map((each) => each && chunkOf(each));
  }

  /** Returns what is needed to read these records, so that nobody who has it keeps the memory of all others. */
  partOf(refs: Uint32Array): SeriesRecords {
    const part = new SeriesRecords([], this.#objects);
    for (let i = 0; i < refs.length; i++) {
      const number = chunkNumber(refs[i]!);
      part.#chunks[number] ??= this.#chunks[number];
    }
    part.#series = this.#series;
    part.#retiredBytes = this.#retiredBytes;
    part.#origin = this.#origin;
    return part;
  }

  /** The same object for these records and every `partOf` them: a reference has one meaning in all of them. */
  get origin(): object {
    return this.#origin;
  }

  get memory(): SharedMemory {
    return Array.from(this.#chunks, (chunk) => chunk?.memory);
  }

  /** Memory that the records take that were added here or taken over. */
  get bytes(): number {
    return 4 * this.#usedWords;
  }

  /**
   * How much shared memory these records and all before them gave up that somebody else may still have. V8 does not
   * count it, and is in no hurry to free it.
   */
  get retiredBytes(): number {
    return this.#retiredBytes;
  }

  /** Marks the record as given away: it stays as it is while anybody has these records, even after `compacted`. */
  give(ref: SeriesRef): SeriesRef {
    this.#chunkOf(ref).isGiven = true;
    return ref;
  }

  /** Adds the chunks that have come since. All others are the same. */
  grow(memory: SharedMemory): void {
    for (const [number, each] of memory.entries()) {
      if (each !== undefined && this.#chunks[number] === undefined) this.#chunks[number] = chunkOf(each);
    }
  }

  add({ id, name, type, dimensionsJson }: Series): SeriesRef {
    const nameBytes = Buffer.byteLength(name);
    const dimensionsBytes = Buffer.byteLength(dimensionsJson);
    const text = scratchOf(nameBytes + dimensionsBytes);
    text.write(name, 0);
    text.write(dimensionsJson, nameBytes);
    const size = name.length + dimensionsJson.length;
    const ref = this.#write({ type: TYPE_CODES[type], nameBytes, dimensionsBytes, size }, text);
    this.#chunkOf(ref).text.write(id, (ref % CHUNK_WORDS) * 4 + ID_BYTE, 'hex');
    return ref;
  }

  /** Copies a record from other records. */
  addFrom(other: SeriesRecords, from: SeriesRef): SeriesRef {
    const nameBytes = other.nameBytesOf(from);
    const dimensionsBytes = other.dimensionsBytesOf(from);
    const text = scratchOf(nameBytes + dimensionsBytes);
    const { bytes, start, end } = other.#textOf(from, text);
    if (bytes !== text) text.set(bytes.subarray(start, end));
    const type = other.typeOf(from);
    const ref = this.#write({ type, nameBytes, dimensionsBytes, size: other.sizeOf(from) }, text);
    const id = (from % CHUNK_WORDS) * 4 + ID_BYTE;
    other
      .#chunkOf(from)
      .text.copy(this.#chunkOf(ref).text, (ref % CHUNK_WORDS) * 4 + ID_BYTE, id, id + ID_BYTES);
    return ref;
  }

  /**
   * Begins to give up what is not kept, in three steps: `keep` every record that is kept of those that are here now,
   * then `decide`, then let each of them be `moved`. `compacted` ends this.
   */
  compact(): void {
    // All chunks but those that take what comes meanwhile.
    this.#kept = Float64Array.from(this.#chunks, (chunk, number) =>
      chunk === undefined || number === this.#newest ? Number.POSITIVE_INFINITY : 0,
    );
    this.#leaving = new Uint8Array();
  }

  keep(ref: SeriesRef): void {
    this.#kept[chunkNumber(ref)]! += this.#wordsOf(ref);
  }

  /** Chunks of which most is kept stay as they are. */
  decide(): void {
    this.#leaving = Uint8Array.from(this.#kept, (kept, number) => {
      const chunk = this.#chunks[number];
      return Number(chunk !== undefined && kept < MIN_USED * chunk.usedWords);
    });
  }

  /** Returns where the record is from now on. Until `compacted`, it can be read at both places. */
  moved(ref: SeriesRef): SeriesRef {
    return this.#leaving[chunkNumber(ref)] === 1 ? this.addFrom(this, ref) : ref;
  }

  /**
   * Returns new records without the chunks that all have left. Of these records, only references that were given away
   * are valid afterwards. If there are none in a chunk, its memory is filled again.
   */
  compacted(): SeriesRecords {
    const compact = new SeriesRecords([], this.#objects);
    compact.#retiredBytes = this.#retiredBytes;
    compact.#spare.push(...this.#spare);
    for (const [number, chunk] of this.#chunks.entries()) {
      const isLeft = chunk === undefined || this.#leaving[number] === 1;
      compact.#chunks.push(isLeft ? undefined : chunk);
      if (!isLeft) compact.#usedWords += chunk.usedWords;
      else {
        compact.#freeChunks.push(number);
        if (chunk?.isGiven) compact.#retiredBytes += chunk.memory.byteLength;
        else if (chunk !== undefined) compact.#spare.push(chunk);
      }
    }
    compact.#newest = this.#newest;
    return compact;
  }

  /** Returns empty records for others to have later. By then, nobody may need these any more. */
  successor(): SeriesRecords {
    const next = new SeriesRecords([], this.#objects);
    const held = this.#chunks.reduce((sum, chunk) => sum + (chunk?.memory.byteLength ?? 0), 0);
    next.#retiredBytes = this.#retiredBytes + held;
    return next;
  }

  /** Returns the series, usually as the same object each time. */
  series(ref: SeriesRef): Series {
    let series = this.#series.get(ref);
    if (series === undefined) {
      series = this.#read(ref);
      const bytes = OBJECT_BYTES + OBJECT_BYTES_PER_CHARACTER * this.sizeOf(ref);
      this.#objects.set(this.#series, ref, series, bytes);
    }
    return series;
  }

  /** Returns the length in characters of its name and of its dimensions as JSON. */
  sizeOf(ref: SeriesRef): number {
    const { words } = this.#chunkOf(ref);
    const word = ref % CHUNK_WORDS;
    const what = words[word + WHAT]!;
    return (what & WIDE) !== 0
      ? words[word + HEADER_WORDS + 2]!
      : nameBytesIn(what) + dimensionsBytesIn(what);
  }

  /** Returns the length in bytes of its name and of its dimensions as JSON. */
  textBytesOf(ref: SeriesRef): number {
    return this.nameBytesOf(ref) + this.dimensionsBytesOf(ref);
  }

  nameBytesOf(ref: SeriesRef): number {
    const { words } = this.#chunkOf(ref);
    const word = ref % CHUNK_WORDS;
    const what = words[word + WHAT]!;
    return (what & WIDE) !== 0 ? words[word + HEADER_WORDS]! : nameBytesIn(what);
  }

  /** Returns the length in bytes of the dimensions as JSON. */
  dimensionsBytesOf(ref: SeriesRef): number {
    const { words } = this.#chunkOf(ref);
    const word = ref % CHUNK_WORDS;
    const what = words[word + WHAT]!;
    return (what & WIDE) !== 0 ? words[word + HEADER_WORDS + 1]! : dimensionsBytesIn(what);
  }

  typeOf(ref: SeriesRef): number {
    return this.#chunkOf(ref).words[(ref % CHUNK_WORDS) + WHAT]! & TYPE_MASK;
  }

  idOf(ref: SeriesRef): string {
    const start = (ref % CHUNK_WORDS) * 4 + ID_BYTE;
    return this.#chunkOf(ref).text.toString('hex', start, start + ID_BYTES);
  }

  /** Returns word `i` of its id, 0 to 3. */
  idWord(ref: SeriesRef, i: number): number {
    return this.#chunkOf(ref).text.readInt32BE((ref % CHUNK_WORDS) * 4 + ID_BYTE + 4 * i);
  }

  hasId(ref: SeriesRef, words: IdWords): boolean {
    const { text } = this.#chunkOf(ref);
    const start = (ref % CHUNK_WORDS) * 4 + ID_BYTE;
    for (let i = 0; i < words.length; i++) if (text.readInt32BE(start + 4 * i) !== words[i]) return false;
    return true;
  }

  /** Returns the name without creating an object for the series. */
  nameOf(ref: SeriesRef): string {
    const { text } = this.#chunkOf(ref);
    // The other one has the same name.
    const { start, nameBytes } = this.#placeOf(this.#isOfOther(ref) ? this.#otherOf(ref) : ref);
    return text.toString('utf8', start, start + nameBytes);
  }

  /** Returns the dimensions as canonical JSON, likewise. */
  dimensionsJsonOf(ref: SeriesRef): string {
    const { bytes, start, nameBytes, end } = this.#textOf(ref);
    return bytes.toString('utf8', start + nameBytes, end);
  }

  #read(ref: SeriesRef): Series {
    const { bytes, start, nameBytes, end } = this.#textOf(ref);
    const nameEnd = start + nameBytes;
    return storedSeries(
      this.idOf(ref),
      bytes.toString('utf8', start, nameEnd),
      METRIC_TYPES[this.typeOf(ref)]!,
      bytes.toString('utf8', nameEnd, end),
    );
  }

  #isOfOther(ref: SeriesRef): boolean {
    return (this.#chunkOf(ref).words[(ref % CHUNK_WORDS) + WHAT]! & OF_OTHER) !== 0;
  }

  #otherOf(ref: SeriesRef): SeriesRef {
    const header = this.#headerWordsOf(ref);
    const other = this.#chunkOf(ref).words[(ref % CHUNK_WORDS) + header - 1]! >>> WORDS_BITS;
    return chunkNumber(ref) * CHUNK_WORDS + other;
  }

  #headerWordsOf(ref: SeriesRef): number {
    const what = this.#chunkOf(ref).words[(ref % CHUNK_WORDS) + WHAT]!;
    return headerWords((what & WIDE) !== 0, (what & OF_OTHER) !== 0);
  }

  /** Returns where the text of a record is that has all of it. */
  #placeOf(ref: SeriesRef): TextPlace & { readonly bytes: Buffer } {
    const { text: bytes } = this.#chunkOf(ref);
    const start = ((ref % CHUNK_WORDS) + this.#headerWordsOf(ref)) * 4;
    const nameBytes = this.nameBytesOf(ref);
    return { bytes, start, nameBytes, end: start + nameBytes + this.dimensionsBytesOf(ref) };
  }

  /** Returns where the text of a record is: in its chunk, or in memory that is used again for the next one. */
  #textOf(ref: SeriesRef, scratch?: Buffer): TextPlace & { readonly bytes: Buffer } {
    const place = this.#placeOf(ref);
    if (!this.#isOfOther(ref)) return place;
    const { nameBytes } = place;
    const end = nameBytes + this.dimensionsBytesOf(ref);
    const bytes = scratch ?? scratchOf(end);
    readValues(place.bytes, place.start, this.#placeOf(this.#otherOf(ref)), bytes);
    return { bytes, start: 0, nameBytes, end };
  }

  /** Writes a record without its id. `text`: all of it, from its beginning. */
  #write(header: Header, text: Buffer): SeriesRef {
    const { nameBytes, dimensionsBytes } = header;
    const end = nameBytes + dimensionsBytes;
    const place = { bytes: text, start: 0, nameBytes, end };
    const isWide =
      header.size !== end || nameBytes > MAX_NAME_BYTES || dimensionsBytes > MAX_DIMENSIONS_BYTES;
    const wholeWords = headerWords(isWide, false) + Math.ceil(end / 4);
    const pattern = patternOf(place);
    const other = pattern < 0 ? 0 : this.#patterns[pattern % PATTERNS]!;
    if (other !== 0) {
      const written = writeValues(place, this.#placeOf(this.#newest * CHUNK_WORDS + other - 1), VALUES);
      const words = headerWords(isWide, true) + Math.ceil(written / 4);
      if (written >= 0 && words < Math.min(wholeWords, MAX_WORDS) && this.#fits(words)) {
        const ref = this.#writeHeader(header, words, isWide, true);
        const { words: all, text: bytes } = this.#chunkOf(ref);
        const first = (ref % CHUNK_WORDS) + headerWords(isWide, true);
        all[first - 1] = ((other - 1) << WORDS_BITS) | words;
        bytes.set(VALUES.subarray(0, written), first * 4);
        return ref;
      }
    }
    const ref = this.#writeHeader(header, wholeWords, isWide, false);
    const first = (ref % CHUNK_WORDS) + headerWords(isWide, false);
    this.#chunkOf(ref).text.set(text.subarray(0, end), first * 4);
    if (pattern >= 0) this.#patterns[pattern % PATTERNS] = (ref % CHUNK_WORDS) + 1;
    return ref;
  }

  #writeHeader(header: Header, length: number, isWide: boolean, isOfOther: boolean): SeriesRef {
    const { type, nameBytes, dimensionsBytes, size } = header;
    const ref = this.#allocate(length);
    const { words } = this.#chunkOf(ref);
    const word = ref % CHUNK_WORDS;
    const what = type | (isOfOther ? OF_OTHER : 0);
    if (isWide) {
      words[word + WHAT] = what | WIDE;
      words.set([nameBytes, dimensionsBytes, size], word + HEADER_WORDS);
    } else words[word + WHAT] = what | (nameBytes << NAME_SHIFT) | (dimensionsBytes << DIMENSIONS_SHIFT);
    return ref;
  }

  #chunkOf(ref: SeriesRef): Chunk {
    return this.#chunks[chunkNumber(ref)]!;
  }

  #newChunk(words: number): Chunk {
    const length = Math.min(CHUNK_WORDS, FIRST_CHUNK_WORDS * 2 ** this.#chunks.length);
    return chunkOf(new SharedArrayBuffer(4 * Math.max(length, words)));
  }

  #spareChunk(words: number): Chunk | undefined {
    const spare = this.#spare.pop();
    if (spare === undefined || spare.words.length < words) return undefined;
    spare.usedWords = 0;
    return spare;
  }

  #wordsOf(ref: SeriesRef): number {
    const header = this.#headerWordsOf(ref);
    if (!this.#isOfOther(ref)) return header + Math.ceil(this.textBytesOf(ref) / 4);
    return this.#chunkOf(ref).words[(ref % CHUNK_WORDS) + header - 1]! & (MAX_WORDS - 1);
  }

  /** Whether so many words fit into the newest chunk. */
  #fits(words: number): boolean {
    const chunk = this.#chunks[this.#newest];
    return chunk !== undefined && chunk.usedWords + words <= chunk.words.length;
  }

  /** Reserves words within one chunk. A record that is larger than a chunk gets a chunk of its own. */
  #allocate(words: number): SeriesRef {
    if (!this.#fits(words)) {
      const chunk = this.#spareChunk(words) ?? this.#newChunk(words);
      this.#newest = this.#freeChunks.pop() ?? this.#chunks.length;
      this.#chunks[this.#newest] = chunk;
      this.#patterns.fill(0);
    }
    const chunk = this.#chunks[this.#newest]!;
    const ref = this.#newest * CHUNK_WORDS + chunk.usedWords;
    chunk.usedWords += words;
    this.#usedWords += words;
    return ref;
  }
}

/** A record has more words than this power of two, so each begins in another of these places. */
const PLACE_BITS = Math.floor(Math.log2(HEADER_WORDS));

/** Numbers by reference, of records with one `origin`; 0 where none was set. 256 KiB for each chunk. */
export class RefNumbers {
  readonly #chunks: (Int32Array | undefined)[] = [];

  get(ref: SeriesRef): number {
    const chunk = this.#chunks[chunkNumber(ref)];
    return chunk === undefined ? 0 : chunk[(ref % CHUNK_WORDS) >>> PLACE_BITS]!;
  }

  set(ref: SeriesRef, number: number): void {
    const of = chunkNumber(ref);
    this.#chunks[of] ??= new Int32Array(CHUNK_WORDS >>> PLACE_BITS);
    this.#chunks[of][(ref % CHUNK_WORDS) >>> PLACE_BITS] = number;
  }
}

function chunkNumber(ref: SeriesRef): number {
  return ref >>> CHUNK_BITS;
}

function chunkOf(memory: SharedArrayBuffer): Chunk {
  return { memory, words: new Uint32Array(memory), text: Buffer.from(memory), usedWords: 0, isGiven: false };
}

function headerWords(isWide: boolean, isOfOther: boolean): number {
  return HEADER_WORDS + (isWide ? WIDE_WORDS : 0) + (isOfOther ? 1 : 0);
}

function nameBytesIn(what: number): number {
  return (what >>> NAME_SHIFT) & MAX_NAME_BYTES;
}

function dimensionsBytesIn(what: number): number {
  return what >>> DIMENSIONS_SHIFT;
}

/** Returns memory for a text, until the next call. */
function scratchOf(bytes: number): Buffer {
  return bytes <= SCRATCH_BYTES ? SCRATCH : Buffer.allocUnsafe(bytes);
}
