import { finalized, type KeySource, term } from './keyed-hash.ts';
import type { Spelling } from './sample.ts';

/** In bytes. */
const WORD = 4;
/** Longer texts are not kept in the table, so what follows need not change the hash. */
const MAX_WORDS = 1100;
/** Of name and dimensions together. */
const MAX_BYTES = 4 * (MAX_WORDS - 2);

/** Odd, so that no two origins come to the same. */
const ORIGIN_FACTOR = 0x9e3779b1;

/** Hashes spellings under one key: type, lengths, origin and both texts. */
export class SpellingHash {
  /** A word for each word of a text. */
  readonly #key = new Int32Array(MAX_WORDS);
  readonly #source: KeySource;

  constructor(source: KeySource) {
    this.#source = source;
    source(this.#key);
  }

  /** Returns a hash with another key. */
  rekeyed(): SpellingHash {
    return new SpellingHash(this.#source);
  }

  /** Returns 32 bits. */
  of(spelling: Spelling): number {
    const { view, nameLength, dimensionsLength } = spelling;
    const key = this.#key;
    if (nameLength + dimensionsLength > MAX_BYTES) return 0;
    const origin = Math.imul(spelling.origin, ORIGIN_FACTOR);
    const shape = (spelling.type << 26) ^ (nameLength << 13) ^ dimensionsLength ^ origin;
    const name = hashBytes(shape, view, spelling.nameStart, nameLength, key, 0);
    const at = 1 + (nameLength >>> 2);
    return finalized(hashBytes(name, view, spelling.dimensionsStart, dimensionsLength, key, at));
  }

  /**
   * Returns the same for a name at 0 with the dimensions right behind it. Written out: the hot loop has one kind of
   * spelling, and a second one would make `of` slower, as a call from there to here would.
   */
  ofText(view: DataView, type: number, nameLength: number, dimensionsLength: number, origin: number): number {
    const key = this.#key;
    const lengths = (nameLength << 13) ^ dimensionsLength;
    const shape = (type << 26) ^ lengths ^ Math.imul(origin, ORIGIN_FACTOR);
    const name = hashBytes(shape, view, 0, nameLength, key, 0);
    const at = 1 + (nameLength >>> 2);
    return finalized(hashBytes(name, view, nameLength, dimensionsLength, key, at));
  }
}

/**
 * Adds the words of a text to the sum, with the key from `at` on. As `term` does, written out: this is the hot loop.
 * The last word overlaps the one before, so that no byte is read alone. Words are read in one byte order, because only
 * equality matters.
 */
function hashBytes(
  before: number,
  view: DataView,
  start: number,
  length: number,
  key: Int32Array,
  at: number,
): number {
  if (length < WORD) return hashFewBytes(before, view, start, length, key[at]!);
  const last = start + length - WORD;
  let sum = before;
  let i = start;
  let k = at;
  // Two at a time: each round of a loop costs as much as a word.
  for (; i + WORD < last; i += 2 * WORD, k += 2) {
    const one = (view.getInt32(i, true) + key[k]!) | 0;
    const two = (view.getInt32(i + WORD, true) + key[k + 1]!) | 0;
    sum = (sum + Math.imul(one & 0xffff, one >>> 16) + Math.imul(two & 0xffff, two >>> 16)) | 0;
  }
  if (i < last) {
    const word = (view.getInt32(i, true) + key[k++]!) | 0;
    sum = (sum + Math.imul(word & 0xffff, word >>> 16)) | 0;
  }
  const word = (view.getInt32(last, true) + key[k]!) | 0;
  return (sum + Math.imul(word & 0xffff, word >>> 16)) | 0;
}

function hashFewBytes(before: number, view: DataView, start: number, length: number, k: number): number {
  let word = 0;
  for (let i = start; i < start + length; i++) word = (word << 8) | view.getUint8(i);
  return (before + term(word, k)) | 0;
}
