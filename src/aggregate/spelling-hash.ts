import { finalized, type KeySource } from './keyed-hash.ts';
import type { Spelling } from './sample.ts';

/** Longer texts are not kept in the table, so what follows need not change the hash. */
const MAX_WORDS = 1100;
/** Of name and dimensions together. */
const MAX_BYTES = 4 * (MAX_WORDS - 2);

/** Odd, so that no two origins come to the same. */
const ORIGIN_FACTOR = 0x9e3779b1;

/** Words are read in this machine's byte order, because only equality matters. */
export const LITTLE_ENDIAN = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;

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
}

/**
 * Adds the words of a text to the sum, with the key from `at` on. As `term` does, written out: this is the hot loop.
 */
function hashBytes(
  before: number,
  view: DataView,
  start: number,
  length: number,
  key: Int32Array,
  at: number,
): number {
  let sum = before;
  const words = length >>> 2;
  for (let i = 0; i < words; i++) {
    const word = (view.getInt32(start + 4 * i, LITTLE_ENDIAN) + key[at + i]!) | 0;
    sum = (sum + Math.imul(word & 0xffff, word >>> 16)) | 0;
  }
  let rest = 0;
  for (let i = words * 4; i < length; i++) rest = (rest << 8) | view.getUint8(start + i);
  rest = (rest + key[at + words]!) | 0;
  return (sum + Math.imul(rest & 0xffff, rest >>> 16)) | 0;
}
