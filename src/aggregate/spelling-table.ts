import type { Spelling } from './sample.ts';

/** Longer spellings are parsed each time: keeping them would cost more memory than the series itself. */
export const MAX_SPELLING_BYTES = 4096;
/** Bits that hold such a length. */
const LENGTH_BITS = 13;
const LENGTH_MASK = (1 << LENGTH_BITS) - 1;

/** Words (4 bytes) before the bytes of an entry: series, hash, and one with the type and the lengths of both texts. */
const HEADER_WORDS = 3;
const SERIES = 0;
const HASH = 1;
const SHAPE = 2;

const CACHE_LINE_WORDS = 16;
const INITIAL_SLOTS = 1 << 10;
const INITIAL_WORDS = 1 << 14;

/** Words are compared in this machine's byte order, because only equality matters. */
const LITTLE_ENDIAN = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;

/** An entry's position in the table, or NO_ENTRY. */
export type Entry = number;
export const NO_ENTRY = 0;

/**
 * A flat hash table from spellings to series numbers: a lookup touches one slot and one run of bytes, and creates no
 * object. The hash only finds candidates. An entry matches only if every byte does, so two series never merge.
 */
export class Spellings {
  /** Open addressing. A slot is a hash and an entry, which is NO_ENTRY if the slot is free. At most half are taken. */
  #slots = new Int32Array(2 * INITIAL_SLOTS);
  #mask = INITIAL_SLOTS - 1;
  #count = 0;
  /** The entries, each aligned to a word. Word 0 is unused, so that no entry is at NO_ENTRY. */
  #words = new Int32Array(INITIAL_WORDS);
  #bytes = new Uint8Array(this.#words.buffer);
  #used = 1;
  /** Has no meaning. It uses what `prefetch` reads, so that the compiler does not drop the reads. */
  #touched = 0;

  get bytes(): number {
    return this.#used * 4;
  }

  find(spelling: Spelling, hash = hashOf(spelling)): Entry {
    const slots = this.#slots;
    const mask = this.#mask;
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const entry = slots[2 * slot + 1]!;
      if (entry === NO_ENTRY) return NO_ENTRY;
      if (slots[2 * slot] === hash && this.#matches(entry, spelling)) return entry;
    }
  }

  /**
   * Reads what `find` will read, for many spellings at once, so that the waits for memory overlap. Writes the probable
   * series of each to `series`, -1 for none. Does not say whether the spellings are in the table.
   */
  prefetch(spellings: readonly { readonly hash: number }[], count: number, series: Int32Array): void {
    const slots = this.#slots;
    const words = this.#words;
    const mask = this.#mask;
    for (let i = 0; i < count; i++) series[i] = slots[2 * (spellings[i]!.hash & mask) + 1]!;
    let touched = 0;
    for (let i = 0; i < count; i++) {
      const entry = series[i]!;
      // An entry takes two or three cache lines.
      touched ^= words[entry + CACHE_LINE_WORDS]! ^ words[entry + 2 * CACHE_LINE_WORDS]!;
      series[i] = entry === NO_ENTRY ? -1 : words[entry + SERIES]!;
    }
    this.#touched ^= touched;
  }

  seriesOf(entry: Entry): number {
    return this.#words[entry + SERIES]!;
  }

  /** Inserts a spelling, which must be new and at most `MAX_SPELLING_BYTES` long. */
  insert(spelling: Spelling, series: number): Entry {
    const nameWords = wordsFor(spelling.nameLength);
    const entry = this.#allocate(HEADER_WORDS + nameWords + wordsFor(spelling.dimensionsLength));
    const hash = hashOf(spelling);
    this.#words[entry + SERIES] = series;
    this.#words[entry + HASH] = hash;
    this.#words[entry + SHAPE] = shapeOf(spelling);
    const { buffer, byteOffset } = spelling.view;
    const name = new Uint8Array(buffer, byteOffset + spelling.nameStart, spelling.nameLength);
    this.#bytes.set(name, (entry + HEADER_WORDS) * 4);
    const dimensions = new Uint8Array(
      buffer,
      byteOffset + spelling.dimensionsStart,
      spelling.dimensionsLength,
    );
    this.#bytes.set(dimensions, (entry + HEADER_WORDS + nameWords) * 4);
    this.#link(entry, hash);
    return entry;
  }

  /** Copies an entry from another table. */
  insertFrom(other: Spellings, from: Entry): Entry {
    const shape = other.#words[from + SHAPE]!;
    const nameWords = wordsFor((shape >>> LENGTH_BITS) & LENGTH_MASK);
    const length = HEADER_WORDS + nameWords + wordsFor(shape & LENGTH_MASK);
    const entry = this.#allocate(length);
    this.#words.set(other.#words.subarray(from, from + length), entry);
    this.#link(entry, this.#words[entry + HASH]!);
    return entry;
  }

  #matches(entry: Entry, spelling: Spelling): boolean {
    const words = this.#words;
    const { view, nameLength, dimensionsLength } = spelling;
    if (nameLength + dimensionsLength > MAX_SPELLING_BYTES) return false;
    if (words[entry + SHAPE] !== shapeOf(spelling)) return false;
    const name = entry + HEADER_WORDS;
    const dimensions = name + wordsFor(nameLength);
    return (
      this.#sameBytes(dimensions, view, spelling.dimensionsStart, dimensionsLength) &&
      this.#sameBytes(name, view, spelling.nameStart, nameLength)
    );
  }

  #sameBytes(word: number, view: DataView, start: number, length: number): boolean {
    const words = this.#words;
    const whole = length >>> 2;
    for (let i = 0; i < whole; i++) {
      if (words[word + i] !== view.getInt32(start + 4 * i, LITTLE_ENDIAN)) return false;
    }
    for (let i = whole * 4; i < length; i++) {
      if (this.#bytes[word * 4 + i] !== view.getUint8(start + i)) return false;
    }
    return true;
  }

  #allocate(words: number): Entry {
    const entry = this.#used;
    this.#used += words;
    if (this.#used > this.#words.length) {
      const grown = new Int32Array(Math.max(2 * this.#words.length, this.#used));
      grown.set(this.#words.subarray(0, entry));
      this.#words = grown;
      this.#bytes = new Uint8Array(grown.buffer);
    }
    return entry;
  }

  #link(entry: Entry, hash: number): void {
    if (2 * (this.#count + 1) > this.#mask + 1) this.#growSlots();
    this.#count++;
    place(this.#slots, this.#mask, entry, hash);
  }

  #growSlots(): void {
    const old = this.#slots;
    const grown = new Int32Array(2 * old.length);
    this.#mask = 2 * this.#mask + 1;
    for (let i = 0; i < old.length; i += 2) {
      if (old[i + 1] !== NO_ENTRY) place(grown, this.#mask, old[i + 1]!, old[i]!);
    }
    this.#slots = grown;
  }
}

function place(slots: Int32Array, mask: number, entry: Entry, hash: number): void {
  let slot = hash & mask;
  while (slots[2 * slot + 1] !== NO_ENTRY) slot = (slot + 1) & mask;
  slots[2 * slot] = hash;
  slots[2 * slot + 1] = entry;
}

function shapeOf({ type, nameLength, dimensionsLength }: Spelling): number {
  return (type << (2 * LENGTH_BITS)) | (nameLength << LENGTH_BITS) | dimensionsLength;
}

function wordsFor(bytes: number): number {
  return (bytes + 3) >>> 2;
}

/** Returns where to look for a spelling. Different spellings may share a hash. */
export function hashOf(spelling: Spelling): number {
  const { view } = spelling;
  let hash = hashBytes(spelling.type, view, spelling.nameStart, spelling.nameLength);
  hash = hashBytes(hash, view, spelling.dimensionsStart, spelling.dimensionsLength);
  // The low bits choose the slot, so mix the high bits into them (the finalizer of MurmurHash3).
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return hash ^ (hash >>> 16);
}

/** Hashes word by word. A multiplication carries only upwards, so a rotation follows each word. */
function hashBytes(seed: number, view: DataView, start: number, length: number): number {
  let hash = seed ^ length;
  const whole = start + (length & ~3);
  for (let i = start; i < whole; i += 4) {
    hash = Math.imul(hash ^ view.getInt32(i, LITTLE_ENDIAN), 0x9e3779b1);
    hash = (hash << 15) | (hash >>> 17);
  }
  let rest = 0;
  for (let i = whole; i < start + length; i++) rest = (rest << 8) | view.getUint8(i);
  hash = Math.imul(hash ^ rest, 0x9e3779b1);
  return (hash << 15) | (hash >>> 17);
}
