import { MAX_PROBES, MAX_SLOTS_PER_ENTRY, MOVED_SLOTS, slotsFor } from './keyed-hash.ts';
import type { Spelling } from './sample.ts';
import type { SpellingHash } from './spelling-hash.ts';

/** Longer spellings are parsed each time: keeping them would cost more memory than the series itself. */
export const MAX_SPELLING_BYTES = 4096;
/** Bits that hold such a length. */
const LENGTH_BITS = 13;
const LENGTH_MASK = (1 << LENGTH_BITS) - 1;

/**
 * Words (4 bytes) before the bytes of an entry: series, hash, one with the type and the lengths of both texts, and the
 * origin.
 */
const HEADER_WORDS = 4;
const SERIES = 0;
const HASH = 1;
const SHAPE = 2;
const ORIGIN = 3;

const WORD_BYTES = 4;
const CACHE_LINE_WORDS = 16;
const INITIAL_SLOTS = 1 << 10;
const INITIAL_WORDS = 1 << 14;

/**
 * The most memory that is reserved for entries, in bytes. The system gives it only as it is written to. If there are
 * more entries, all are copied to twice the memory.
 */
const MAX_RESERVED_BYTES = 256 * 1024 * 1024;

/** A spelling with room for its hash. */
export interface HashedSpelling extends Spelling {
  hash: number;
}

/** An entry's position in the table, or NO_ENTRY. */
export type Entry = number;
export const NO_ENTRY = 0;

/** Where a table moves its entries from. */
interface OldSlots {
  readonly slots: Int32Array;
  readonly mask: number;
  readonly hash: SpellingHash;
}

/**
 * A flat hash table from spellings to series numbers: a lookup touches one slot and one run of bytes, and creates no
 * object. The hash only finds candidates. An entry matches only if every byte does, so two series never merge.
 * Producers choose the spellings. So the hash has a secret key, and no lookup takes more than `MAX_PROBES` steps, or
 * twice as many while the table grows or takes another key.
 */
export class Spellings {
  #hash: SpellingHash;
  /** Open addressing. A slot is a hash and an entry, which is NO_ENTRY if the slot is free. At most half are taken. */
  #slots: Int32Array;
  #mask: number;
  #count = 0;
  /** While the table moves: where it moves from, and how far it has come. What has moved stays in there. */
  #old: OldSlots | undefined;
  #moved = 0;
  /** The entries, each aligned to a word. Word 0 is unused, so that no entry is at NO_ENTRY. */
  #words: Int32Array;
  #bytes: Uint8Array;
  #view: DataView;
  #used = 1;
  /** Has no meaning. It uses what `prefetch` reads, so that the compiler does not drop the reads. */
  #touched = 0;

  /** `room`: how many entries find slots from the start; `reserve`: how many bytes, at most, they should take. */
  constructor(hash: SpellingHash, room = 0, reserve = 0) {
    this.#hash = hash;
    const slots = slotsFor(room, INITIAL_SLOTS);
    this.#slots = new Int32Array(2 * slots);
    this.#mask = slots - 1;
    this.#words = new Int32Array(
      Math.max(INITIAL_WORDS, Math.ceil(Math.min(reserve, MAX_RESERVED_BYTES) / 4)),
    );
    this.#bytes = new Uint8Array(this.#words.buffer);
    this.#view = new DataView(this.#words.buffer);
  }

  /** Gives the memory back now, not when V8 collects garbage. Nothing may use the table afterwards. */
  free(): void {
    for (const { buffer } of [this.#words, this.#slots]) (buffer as ArrayBuffer).transfer(0);
  }

  get hash(): SpellingHash {
    return this.#hash;
  }

  get bytes(): number {
    return this.#used * 4;
  }

  /** Returns the hash for `find` and `prefetch`. It changes with the key; an old one finds nothing. */
  hashOf(spelling: Spelling): number {
    return this.#hash.of(spelling);
  }

  /** Sets the hashes of the first `count`. */
  hashAll(spellings: readonly HashedSpelling[], count: number): void {
    const hash = this.#hash;
    for (let i = 0; i < count; i++) {
      const spelling = spellings[i]!;
      spelling.hash = hash.of(spelling);
    }
  }

  find(spelling: Spelling, hash = this.hashOf(spelling)): Entry {
    const slots = this.#slots;
    const mask = this.#mask;
    for (let step = 0, slot = hash & mask; step < MAX_PROBES; step++, slot = (slot + 1) & mask) {
      const entry = slots[2 * slot + 1]!;
      if (entry === NO_ENTRY) break;
      if (slots[2 * slot] === hash && this.#matches(entry, spelling)) return entry;
    }
    return this.#old === undefined ? NO_ENTRY : this.#findOld(this.#old, spelling);
  }

  #findOld({ slots, mask, hash: keyed }: OldSlots, spelling: Spelling): Entry {
    const hash = keyed.of(spelling);
    for (let step = 0, slot = hash & mask; step < MAX_PROBES; step++, slot = (slot + 1) & mask) {
      const entry = slots[2 * slot + 1]!;
      if (entry === NO_ENTRY) return NO_ENTRY;
      if (slots[2 * slot] === hash && this.#matches(entry, spelling)) return entry;
    }
    return NO_ENTRY;
  }

  /** Returns how many slots `find` looks at. */
  stepsTo(spelling: Spelling): number {
    const found = this.find(spelling);
    const steps = stepsIn(this.#slots, this.#mask, this.hashOf(spelling), found);
    if (this.#old === undefined || steps.isFound) return steps.count;
    const { slots, mask, hash } = this.#old;
    return steps.count + stepsIn(slots, mask, hash.of(spelling), found).count;
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
    const hash = this.hashOf(spelling);
    this.#words[entry + SERIES] = series;
    this.#words[entry + HASH] = hash;
    this.#words[entry + SHAPE] = shapeOf(spelling);
    this.#words[entry + ORIGIN] = spelling.origin;
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
    // Both tables usually have the same key. An entry of a table that takes another one may still have the old hash.
    if (other.#hash !== this.#hash || other.#old !== undefined)
      this.#words[entry + HASH] = this.#hash.of(this.#spellingAt(entry));
    this.#link(entry, this.#words[entry + HASH]!);
    return entry;
  }

  #matches(entry: Entry, spelling: Spelling): boolean {
    const words = this.#words;
    const { view, nameLength, dimensionsLength } = spelling;
    if (nameLength + dimensionsLength > MAX_SPELLING_BYTES) return false;
    if (words[entry + SHAPE] !== shapeOf(spelling) || words[entry + ORIGIN] !== spelling.origin) return false;
    const name = entry + HEADER_WORDS;
    const dimensions = name + wordsFor(nameLength);
    return (
      this.#sameBytes(dimensions, view, spelling.dimensionsStart, dimensionsLength) &&
      this.#sameBytes(name, view, spelling.nameStart, nameLength)
    );
  }

  /** Whether the text from a word on is the one from `start` on. The last four bytes may overlap those before. */
  #sameBytes(word: number, view: DataView, start: number, length: number): boolean {
    const kept = this.#view;
    const from = word * WORD_BYTES;
    if (length < WORD_BYTES) {
      for (let i = 0; i < length; i++) if (kept.getUint8(from + i) !== view.getUint8(start + i)) return false;
      return true;
    }
    const last = length - WORD_BYTES;
    let i = 0;
    // Two words at a time: each round of a loop costs as much as a word.
    for (; i + WORD_BYTES < last; i += 2 * WORD_BYTES) {
      const one = kept.getInt32(from + i, true) ^ view.getInt32(start + i, true);
      const two = kept.getInt32(from + i + WORD_BYTES, true) ^ view.getInt32(start + i + WORD_BYTES, true);
      if ((one | two) !== 0) return false;
    }
    if (i < last && kept.getInt32(from + i, true) !== view.getInt32(start + i, true)) return false;
    return kept.getInt32(from + last, true) === view.getInt32(start + last, true);
  }

  #allocate(words: number): Entry {
    const entry = this.#used;
    this.#used += words;
    if (this.#used > this.#words.length) {
      // The memory of the shorter array is free at once.
      const length = Math.max(2 * this.#words.length, this.#used);
      const grown = (this.#words.buffer as ArrayBuffer).transfer(4 * length);
      this.#words = new Int32Array(grown);
      this.#bytes = new Uint8Array(grown);
      this.#view = new DataView(grown);
    }
    return entry;
  }

  /** An entry that finds no place is forgotten: messages with its spelling are parsed each time. */
  #link(entry: Entry, hash: number): void {
    this.#count++;
    const size = this.#mask + 1;
    const old = this.#old;
    if (old !== undefined) this.#moveOn(old);
    else if (2 * this.#count > size) this.#moveTo(2 * size);
    if (place(this.#slots, this.#mask, entry, hash)) return;
    if (old === undefined) this.#changeKey(entry);
  }

  /** By chance, in a table that is full, or because somebody found out the key: the entry finds no place under it. */
  #changeKey(added: Entry): void {
    const size = this.#mask + 1;
    this.#moveTo(size < MAX_SLOTS_PER_ENTRY * this.#count ? 2 * size : size);
    this.#hash = this.#hash.rekeyed();
    this.#placeByKey(added);
  }

  #moveTo(size: number): void {
    this.#old = { slots: this.#slots, mask: this.#mask, hash: this.#hash };
    this.#slots = new Int32Array(2 * size);
    this.#mask = size - 1;
    this.#moved = 0;
  }

  #moveOn({ slots, mask, hash }: OldSlots): void {
    const end = Math.min(this.#moved + MOVED_SLOTS, mask + 1);
    const isSameKey = hash === this.#hash;
    for (let i = this.#moved; i < end; i++) {
      const entry = slots[2 * i + 1]!;
      if (entry === NO_ENTRY) continue;
      if (isSameKey) place(this.#slots, this.#mask, entry, slots[2 * i]!);
      else this.#placeByKey(entry);
    }
    this.#moved = end;
    if (end > mask) this.#old = undefined;
  }

  #placeByKey(entry: Entry): void {
    const hash = this.#hash.of(this.#spellingAt(entry));
    this.#words[entry + HASH] = hash;
    place(this.#slots, this.#mask, entry, hash);
  }

  /** Returns the spelling that an entry holds. */
  #spellingAt(entry: Entry): Spelling {
    const shape = this.#words[entry + SHAPE]!;
    const nameLength = (shape >>> LENGTH_BITS) & LENGTH_MASK;
    const nameStart = (entry + HEADER_WORDS) * 4;
    return {
      view: this.#view,
      type: shape >>> (2 * LENGTH_BITS),
      nameStart,
      nameLength,
      dimensionsStart: nameStart + 4 * wordsFor(nameLength),
      dimensionsLength: shape & LENGTH_MASK,
      origin: this.#words[entry + ORIGIN]!,
    };
  }
}

/** Returns false if there is no free slot within `MAX_PROBES` steps. */
function place(slots: Int32Array, mask: number, entry: Entry, hash: number): boolean {
  for (let step = 0, slot = hash & mask; step < MAX_PROBES; step++, slot = (slot + 1) & mask) {
    if (slots[2 * slot + 1] !== NO_ENTRY) continue;
    slots[2 * slot] = hash;
    slots[2 * slot + 1] = entry;
    return true;
  }
  return false;
}

/** Looks for an entry as `find` does. */
function stepsIn(
  slots: Int32Array,
  mask: number,
  hash: number,
  entry: Entry,
): { count: number; isFound: boolean } {
  for (let step = 0; step < MAX_PROBES; step++) {
    const at = slots[2 * ((hash + step) & mask) + 1]!;
    if (at === entry || at === NO_ENTRY) return { count: step + 1, isFound: at === entry };
  }
  return { count: MAX_PROBES, isFound: false };
}

function shapeOf({ type, nameLength, dimensionsLength }: Spelling): number {
  return (type << (2 * LENGTH_BITS)) | (nameLength << LENGTH_BITS) | dimensionsLength;
}

function wordsFor(bytes: number): number {
  return (bytes + 3) >>> 2;
}
