/**
 * The series of the kept windows, numbered 0, 1, 2...: what a question needs to know of them, in arrays. It is apart
 * from the table of the live path, which forgets series as it needs to.
 */

import { finalized, type KeySource, MAX_PROBES, slotsFor, term } from '../aggregate/keyed-hash.ts';
import type { SeriesRecords, SeriesRef } from '../aggregate/series-records.ts';
import { longer } from '../aggregate/typed-arrays.ts';
import { Texts } from './texts.ts';

const ID_WORDS = 4;
const MIN_SLOTS = 1024;
const FREE = 0;
const TYPE_BITS = 2;
const MS_PER_S = 1000;
const GROWTH = 1.5;
const MIN_ROOM = 256;
/** Of a number without a series. */
const NEVER = 0;

export class SeriesDictionary {
  readonly texts = new Texts();
  readonly #keys: KeySource;
  readonly #key = new Int32Array(ID_WORDS);
  #ids = new Int32Array();
  /** By number: the name and the type; where its pairs begin in the pool; when it was seen, in seconds since 1970. */
  #names = new Uint32Array();
  #pairsAt = new Uint32Array();
  #first = new Uint32Array();
  #last = new Uint32Array();
  /** The number of pairs, and the pairs. */
  #pool = new Uint32Array();
  #poolUsed = 0;
  #size = 0;
  #alive = 0;
  #free: number[] = [];
  /** Numbers plus 1, by id. */
  #slots = new Uint32Array();

  constructor(keys: KeySource) {
    this.#keys = keys;
    keys(this.#key);
  }

  /** All numbers are below. Some may have no series. */
  get size(): number {
    return this.#size;
  }

  /** How many series there are. */
  get count(): number {
    return this.#alive;
  }

  get bytes(): number {
    const arrays = [this.#ids, this.#names, this.#pairsAt, this.#first, this.#last, this.#pool, this.#slots];
    return arrays.reduce((sum, { byteLength }) => sum + byteLength, this.texts.bytes + 8 * this.#free.length);
  }

  typeOf(number: number): number {
    return this.#names[number]! & ((1 << TYPE_BITS) - 1);
  }

  /** The number of the name in `texts`. */
  nameOf(number: number): number {
    return this.#names[number]! >>> TYPE_BITS;
  }

  /** Where the pairs are, as numbers in `texts`: the pool has how many there are at this place, and then these. */
  pairsAt(number: number): number {
    return this.#pairsAt[number]!;
  }

  get pool(): Uint32Array {
    return this.#pool;
  }

  isAlive(number: number): boolean {
    return this.#last[number] !== NEVER;
  }

  /** The starts of the first and of the last window with the series, in seconds since 1970. */
  firstSeen(number: number): number {
    return this.#first[number]!;
  }

  lastSeen(number: number): number {
    return this.#last[number]!;
  }

  /** Notes that a window that starts then has the series. */
  saw(number: number, start: number): void {
    const seconds = Math.floor(start / MS_PER_S);
    if (seconds > this.#last[number]!) this.#last[number] = seconds;
    if (seconds < this.#first[number]!) this.#first[number] = seconds;
  }

  /** Returns the number of the series, which it has from now on. */
  intern(records: SeriesRecords, ref: SeriesRef): number {
    for (let i = 0; i < ID_WORDS; i++) WORDS[i] = records.idWord(ref, i);
    const known = this.#find(WORDS);
    if (known >= 0) return known;
    const dimensions = Object.entries(JSON.parse(records.dimensionsJsonOf(ref)) as Record<string, string>);
    const pairs = dimensions.map(([key, value]) => this.texts.pair(key, value));
    return this.#add(this.#free.pop() ?? this.#size, WORDS, records.typeOf(ref), records.nameOf(ref), pairs);
  }

  /**
   * Takes the series of another dictionary under the same number, and so its name. Afterwards, `settle`: numbers in
   * between that were not taken are free.
   */
  adopt(other: SeriesDictionary, number: number): void {
    for (let i = 0; i < ID_WORDS; i++) WORDS[i] = other.#ids[ID_WORDS * number + i]!;
    const at = other.#pairsAt[number]!;
    const pairs: number[] = [];
    for (let i = 1; i <= other.#pool[at]!; i++) {
      const pair = other.#pool[at + i]!;
      pairs.push(this.texts.pair(other.texts.keys[other.texts.keyOf[pair]!]!, other.texts.values[pair]!));
    }
    const name = other.nameOf(number);
    this.texts.adoptName(other.texts.names[name]!, name);
    this.#add(number, WORDS, other.typeOf(number), other.texts.names[name]!, pairs);
    this.#first[number] = other.#first[number]!;
    this.#last[number] = other.#last[number]!;
  }

  settle(): void {
    this.texts.settle();
    this.#free = [];
    for (let number = this.#size - 1; number >= 0; number--) {
      if (!this.isAlive(number)) this.#free.push(number);
    }
  }

  #add(number: number, words: Int32Array, type: number, name: string, pairs: readonly number[]): number {
    if (number >= this.#names.length) this.#growTo(number + 1);
    this.#size = Math.max(this.#size, number + 1);
    this.#ids.set(words, ID_WORDS * number);
    this.#names[number] = (this.texts.name(name) << TYPE_BITS) | type;
    this.#first[number] = 0xffff_ffff;
    this.#last[number] = NEVER;
    const end = this.#poolUsed + 1 + pairs.length;
    if (end > this.#pool.length) this.#pool = longer(this.#pool, new Uint32Array(roomFor(this.#pool, end)));
    this.#pairsAt[number] = this.#poolUsed;
    this.#pool[this.#poolUsed] = pairs.length;
    this.#pool.set(pairs, this.#poolUsed + 1);
    this.#poolUsed = end;
    this.#alive += 1;
    if (2 * this.#alive > this.#slots.length || !this.#place(number)) this.#rehash(number);
    return number;
  }

  #growTo(size: number): void {
    const room = roomFor(this.#names, size);
    this.#ids = longer(this.#ids, new Int32Array(ID_WORDS * room));
    this.#names = longer(this.#names, new Uint32Array(room));
    this.#pairsAt = longer(this.#pairsAt, new Uint32Array(room));
    this.#first = longer(this.#first, new Uint32Array(room));
    this.#last = longer(this.#last, new Uint32Array(room));
  }

  #find(words: Int32Array): number {
    if (this.#slots.length === 0) return -1;
    const mask = this.#slots.length - 1;
    let slot = this.#hash(words, 0) & mask;
    for (let probe = 0; probe < MAX_PROBES; probe++, slot = (slot + 1) & mask) {
      const taken = this.#slots[slot]!;
      if (taken === FREE) return -1;
      const at = ID_WORDS * (taken - 1);
      let i = 0;
      while (i < ID_WORDS && this.#ids[at + i] === words[i]) i++;
      if (i === ID_WORDS) return taken - 1;
    }
    return -1;
  }

  #place(number: number): boolean {
    const mask = this.#slots.length - 1;
    let slot = this.#hash(this.#ids, ID_WORDS * number) & mask;
    for (let probe = 0; probe < MAX_PROBES; probe++, slot = (slot + 1) & mask) {
      if (this.#slots[slot] !== FREE) continue;
      this.#slots[slot] = number + 1;
      return true;
    }
    return false;
  }

  /** Places all and this one by a new key, in a table that is large enough: larger still, if by chance it is not. */
  #rehash(number: number): void {
    const taken = this.#slots.filter((each) => each !== FREE);
    for (let slots = slotsFor(this.#alive, MIN_SLOTS); ; slots *= 2) {
      this.#keys(this.#key);
      this.#slots = new Uint32Array(slots);
      if (this.#place(number) && taken.every((each) => each === number + 1 || this.#place(each - 1))) return;
    }
  }

  #hash(words: Int32Array, at: number): number {
    let sum = 0;
    for (let i = 0; i < ID_WORDS; i++) sum = (sum + term(words[at + i]!, this.#key[i]!)) | 0;
    return finalized(sum);
  }
}

/** The words of one id, while it is looked for. */
const WORDS = new Int32Array(ID_WORDS);

function roomFor({ length }: { readonly length: number }, needed: number): number {
  return Math.max(needed, Math.ceil(GROWTH * length), MIN_ROOM);
}

/**
 * Which numbers the series of the live path have, by the reference of their record: most windows have the same series
 * as the one before. References mean something else once the table has given up records.
 */
export class KnownRefs {
  #origin: object | undefined;
  /** A reference and the number plus 1, one after the other. */
  #slots = new Uint32Array();
  #size = 0;

  get bytes(): number {
    return this.#slots.byteLength;
  }

  /** Forgets all that is not about these records: each window has a part of them. */
  begin({ origin }: Pick<SeriesRecords, 'origin'>): void {
    if (origin !== this.#origin) this.clear();
    this.#origin = origin;
  }

  clear(): void {
    this.#origin = undefined;
    this.#slots = new Uint32Array();
    this.#size = 0;
  }

  /** Returns -1 if it is not known. */
  find(ref: SeriesRef): number {
    const mask = this.#slots.length / 2 - 1;
    for (let slot = hashOf(ref) & mask; this.#size > 0; slot = (slot + 1) & mask) {
      const taken = this.#slots[2 * slot + 1]!;
      if (taken === FREE) return -1;
      if (this.#slots[2 * slot] === ref) return taken - 1;
    }
    return -1;
  }

  add(ref: SeriesRef, number: number): void {
    this.#size += 1;
    if (4 * this.#size > this.#slots.length) {
      const old = this.#slots;
      this.#slots = new Uint32Array(2 * slotsFor(this.#size, MIN_SLOTS));
      for (let i = 0; i < old.length; i += 2) if (old[i + 1] !== FREE) this.#place(old[i]!, old[i + 1]!);
    }
    this.#place(ref, number + 1);
  }

  #place(ref: SeriesRef, taken: number): void {
    const mask = this.#slots.length / 2 - 1;
    let slot = hashOf(ref) & mask;
    while (this.#slots[2 * slot + 1] !== FREE) slot = (slot + 1) & mask;
    this.#slots[2 * slot] = ref;
    this.#slots[2 * slot + 1] = taken;
  }
}

/** References ascend by the lengths of records, which nobody can choose such that these spread badly. */
function hashOf(ref: SeriesRef): number {
  return finalized(ref);
}
