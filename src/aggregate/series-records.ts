import { METRIC_TYPES, type Series } from './point.ts';
import { TYPE_CODES } from './sample.ts';
import { storedSeries } from './series.ts';

/** Words (4 bytes) before a record's text: type, bytes of the name, bytes of the dimensions, size, and the id. */
const HEADER_WORDS = 8;
const TYPE = 0;
const NAME_BYTES = 1;
const DIMENSIONS_BYTES = 2;
const SIZE = 3;
const ID_BYTE = 16;
const ID_BYTES = 16;

/** A reference is the number of a chunk times this, plus the word within the chunk. */
const CHUNK_WORDS = 1 << 18;
const FIRST_CHUNK_WORDS = 1 << 12;
/** How many series are kept as objects. When there are more, all objects are dropped and created again on demand. */
const MAX_OBJECTS = 65_536;

/** Where the record of a series is; 32 bits. */
export type SeriesRef = number;

/** The 16 bytes of an id as four big-endian words. */
export type IdWords = readonly [number, number, number, number];

/** Parses an id of 32 hexadecimal digits. */
export function idWords(id: string): IdWords {
  const word = (i: number) => Number.parseInt(id.slice(8 * i, 8 * i + 8), 16) | 0;
  return [word(0), word(1), word(2), word(3)];
}

interface Chunk {
  readonly memory: SharedArrayBuffer;
  readonly words: Uint32Array;
  readonly text: Buffer;
}

/**
 * Series as bytes in memory that all threads share, written once and never changed. A window names its series by
 * reference; an object is created only when a thread reads a point. A series takes its text plus 40 bytes.
 */
export class SeriesRecords {
  readonly #chunks: Chunk[];
  /** Used words of the last chunk. */
  #usedWords = 0;
  readonly #objects = new Map<SeriesRef, Series>();

  /** Starts with the records that are already in this memory. */
  constructor(memory: readonly SharedArrayBuffer[] = []) {
    this.#chunks = memory.map(chunkOf);
    this.#usedWords = this.#chunks.at(-1)?.words.length ?? 0;
  }

  get memory(): readonly SharedArrayBuffer[] {
    return this.#chunks.map(({ memory }) => memory);
  }

  add({ id, name, type, dimensionsJson }: Series): SeriesRef {
    const nameBytes = Buffer.byteLength(name);
    const dimensionsBytes = Buffer.byteLength(dimensionsJson);
    const ref = this.#allocate(HEADER_WORDS + Math.ceil((nameBytes + dimensionsBytes) / 4));
    const { words, text } = this.#chunkOf(ref);
    const word = ref % CHUNK_WORDS;
    words[word + TYPE] = TYPE_CODES[type];
    words[word + NAME_BYTES] = nameBytes;
    words[word + DIMENSIONS_BYTES] = dimensionsBytes;
    words[word + SIZE] = name.length + dimensionsJson.length;
    text.write(id, word * 4 + ID_BYTE, 'hex');
    const start = (word + HEADER_WORDS) * 4;
    text.write(name, start);
    text.write(dimensionsJson, start + nameBytes);
    return ref;
  }

  /** Copies a record from other records. */
  addFrom(other: SeriesRecords, from: SeriesRef): SeriesRef {
    const { words } = other.#chunkOf(from);
    const first = from % CHUNK_WORDS;
    const bytes = words[first + NAME_BYTES]! + words[first + DIMENSIONS_BYTES]!;
    const length = HEADER_WORDS + Math.ceil(bytes / 4);
    const ref = this.#allocate(length);
    this.#chunkOf(ref).words.set(words.subarray(first, first + length), ref % CHUNK_WORDS);
    return ref;
  }

  /** Returns the series, usually as the same object each time. */
  series(ref: SeriesRef): Series {
    let series = this.#objects.get(ref);
    if (series === undefined) {
      series = this.#read(ref);
      if (this.#objects.size >= MAX_OBJECTS) this.#objects.clear();
      this.#objects.set(ref, series);
    }
    return series;
  }

  /** Returns the length in characters of its name and of its dimensions as JSON. */
  sizeOf(ref: SeriesRef): number {
    return this.#chunkOf(ref).words[(ref % CHUNK_WORDS) + SIZE]!;
  }

  typeOf(ref: SeriesRef): number {
    return this.#chunkOf(ref).words[(ref % CHUNK_WORDS) + TYPE]!;
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
    const { words, text } = this.#chunkOf(ref);
    const word = ref % CHUNK_WORDS;
    const start = (word + HEADER_WORDS) * 4;
    return text.toString('utf8', start, start + words[word + NAME_BYTES]!);
  }

  #read(ref: SeriesRef): Series {
    const { words, text } = this.#chunkOf(ref);
    const word = ref % CHUNK_WORDS;
    const nameStart = (word + HEADER_WORDS) * 4;
    const nameEnd = nameStart + words[word + NAME_BYTES]!;
    return storedSeries(
      this.idOf(ref),
      text.toString('utf8', nameStart, nameEnd),
      METRIC_TYPES[words[word + TYPE]!]!,
      text.toString('utf8', nameEnd, nameEnd + words[word + DIMENSIONS_BYTES]!),
    );
  }

  #chunkOf(ref: SeriesRef): Chunk {
    return this.#chunks[Math.floor(ref / CHUNK_WORDS)]!;
  }

  /** Reserves words within one chunk. A record that is larger than a chunk gets a chunk of its own. */
  #allocate(words: number): SeriesRef {
    const last = this.#chunks.at(-1);
    if (last === undefined || this.#usedWords + words > last.words.length) {
      const length = Math.min(CHUNK_WORDS, FIRST_CHUNK_WORDS * 2 ** this.#chunks.length);
      this.#chunks.push(chunkOf(new SharedArrayBuffer(4 * Math.max(length, words))));
      this.#usedWords = 0;
    }
    const ref = (this.#chunks.length - 1) * CHUNK_WORDS + this.#usedWords;
    this.#usedWords += words;
    return ref;
  }
}

function chunkOf(memory: SharedArrayBuffer): Chunk {
  return { memory, words: new Uint32Array(memory), text: Buffer.from(memory) };
}
