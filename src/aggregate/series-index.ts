import {
  finalized,
  type KeySource,
  MAX_PROBES,
  MAX_SLOTS_PER_ENTRY,
  MOVED_SLOTS,
  slotsFor,
  term,
} from './keyed-hash.ts';
import { type IdWords, idWords, type SeriesRecords, type SeriesRef } from './series-records.ts';

const INITIAL_SLOTS = 1 << 11;
const FREE = 0;
/** As many as an id has words. */
const KEY_WORDS = 4;

/** Open addressing. */
interface Slots {
  readonly key: Int32Array;
  /** Series number + 1, or FREE. At most half are taken. */
  readonly taken: Uint32Array;
}

/**
 * Series numbers by the ids in their records, 8 to 16 bytes each. An id is the head of a SHA-256, and a producer with
 * time can choose some of its bits. So the slot comes from a hash with a secret key, and no lookup takes more than
 * `MAX_PROBES` steps, or twice as many while the index grows or takes another key. Two series that share an id are one
 * series to every store.
 */
export class SeriesIndex {
  readonly #keys: KeySource;
  #slots: Slots;
  #count = 0;
  /** While the index moves: where it moves from, and how far it has come. What has moved stays in there. */
  #old: Slots | undefined;
  #moved = 0;
  /** By id: those that found no place. The next slots, which have another key, take them. */
  readonly #strays = new Map<string, number>();

  /** `room`: how many series find slots from the start. */
  constructor(keys: KeySource, room = 0) {
    this.#keys = keys;
    this.#slots = this.#newSlots(slotsFor(room, INITIAL_SLOTS));
  }

  emptied(room: number): SeriesIndex {
    return new SeriesIndex(this.#keys, room);
  }

  /** `refs`: by series number, its record. */
  find(id: string, refs: Uint32Array, records: SeriesRecords): number | undefined {
    const words = idWords(id);
    const found = findIn(this.#slots, words, refs, records);
    if (found !== undefined || this.#old === undefined) return found ?? this.#strays.get(id);
    return findIn(this.#old, words, refs, records) ?? this.#strays.get(id);
  }

  /** Returns how many slots `find` looks at. */
  stepsTo(id: string, refs: Uint32Array, records: SeriesRecords): number {
    const words = idWords(id);
    const steps = stepsIn(this.#slots, words, refs, records);
    if (this.#old === undefined || findIn(this.#slots, words, refs, records) !== undefined) return steps;
    return steps + stepsIn(this.#old, words, refs, records);
  }

  /** The series must not be there yet. */
  add(series: number, refs: Uint32Array, records: SeriesRecords): void {
    this.#count += 1;
    const size = this.#slots.taken.length;
    if (this.#old !== undefined) this.#moveOn(this.#old, refs, records);
    else if (2 * this.#count > size) this.#moveTo({ ...this.#slots, taken: new Uint32Array(2 * size) });
    if (place(this.#slots, series + 1, refs, records)) return;
    this.#strays.set(records.idOf(refs[series]!), series);
    if (this.#old === undefined) this.#changeKey(refs, records);
  }

  #newSlots(size: number): Slots {
    const key = new Int32Array(KEY_WORDS);
    this.#keys(key);
    return { key, taken: new Uint32Array(size) };
  }

  /** By chance, in an index that is full, or because somebody found out the key: some found no place under it. */
  #changeKey(refs: Uint32Array, records: SeriesRecords): void {
    const size = this.#slots.taken.length;
    this.#moveTo(this.#newSlots(size < MAX_SLOTS_PER_ENTRY * this.#count ? 2 * size : size));
    for (const [id, series] of this.#strays)
      if (place(this.#slots, series + 1, refs, records)) this.#strays.delete(id);
  }

  #moveTo(slots: Slots): void {
    this.#old = this.#slots;
    this.#slots = slots;
    this.#moved = 0;
  }

  #moveOn({ taken }: Slots, refs: Uint32Array, records: SeriesRecords): void {
    const end = Math.min(this.#moved + MOVED_SLOTS, taken.length);
    for (let i = this.#moved; i < end; i++) {
      if (taken[i] === FREE || place(this.#slots, taken[i]!, refs, records)) continue;
      const series = taken[i]! - 1;
      this.#strays.set(records.idOf(refs[series]!), series);
    }
    this.#moved = end;
    if (end < taken.length) return;
    this.#old = undefined;
    if (this.#strays.size > 0) this.#changeKey(refs, records);
  }
}

function findIn(
  { taken, key }: Slots,
  words: IdWords,
  refs: Uint32Array,
  records: SeriesRecords,
): number | undefined {
  const mask = taken.length - 1;
  for (let step = 0, slot = hash(key, words) & mask; step < MAX_PROBES; step++, slot = (slot + 1) & mask) {
    const number = taken[slot]!;
    if (number === FREE) return undefined;
    if (records.hasId(refs[number - 1]!, words)) return number - 1;
  }
  return undefined;
}

/** Returns how many slots `findIn` looks at. */
function stepsIn({ taken, key }: Slots, words: IdWords, refs: Uint32Array, records: SeriesRecords): number {
  const mask = taken.length - 1;
  const from = hash(key, words) & mask;
  for (let step = 0; step < MAX_PROBES; step++) {
    const number = taken[(from + step) & mask]!;
    if (number === FREE || records.hasId(refs[number - 1]!, words)) return step + 1;
  }
  return MAX_PROBES;
}

/** Returns false if there is no free slot within `MAX_PROBES` steps. */
function place({ taken, key }: Slots, number: number, refs: Uint32Array, records: SeriesRecords): boolean {
  const mask = taken.length - 1;
  const from = hashOf(key, refs[number - 1]!, records) & mask;
  for (let step = 0; step < MAX_PROBES; step++) {
    const slot = (from + step) & mask;
    if (taken[slot] !== FREE) continue;
    taken[slot] = number;
    return true;
  }
  return false;
}

function hash(key: Int32Array, words: IdWords): number {
  let sum = 0;
  for (let i = 0; i < words.length; i++) sum = (sum + term(words[i]!, key[i]!)) | 0;
  return finalized(sum);
}

/** Returns the same hash for a record, without an array of its words. */
function hashOf(key: Int32Array, ref: SeriesRef, records: SeriesRecords): number {
  let sum = 0;
  for (let i = 0; i < KEY_WORDS; i++) sum = (sum + term(records.idWord(ref, i), key[i]!)) | 0;
  return finalized(sum);
}
