import { finalized, type KeySource, MAX_PROBES, MAX_SLOTS_PER_ENTRY, term } from './keyed-hash.ts';
import { type IdWords, idWords, type SeriesRecords, type SeriesRef } from './series-records.ts';

const INITIAL_SLOTS = 1 << 11;
const FREE = 0;
/** As many as an id has words. */
const KEY_WORDS = 4;

/**
 * Series numbers by the ids in their records, 8 to 16 bytes each. Open addressing. An id is the head of a SHA-256, and
 * a producer with time can choose some of its bits. So the slot comes from a hash with a secret key, and no lookup
 * takes more than `MAX_PROBES` steps. Two series that share an id are one series to every store.
 */
export class SeriesIndex {
  readonly #keys: KeySource;
  readonly #key = new Int32Array(KEY_WORDS);
  /** Series number + 1, or FREE. At most half are taken. */
  #slots = new Uint32Array(INITIAL_SLOTS);
  #count = 0;

  constructor(keys: KeySource) {
    this.#keys = keys;
    keys(this.#key);
  }

  emptied(): SeriesIndex {
    return new SeriesIndex(this.#keys);
  }

  /** `refs`: by series number, its record. */
  find(id: string, refs: Uint32Array, records: SeriesRecords): number | undefined {
    const words = idWords(id);
    const mask = this.#slots.length - 1;
    for (let step = 0, slot = this.#hash(words) & mask; step < MAX_PROBES; step++, slot = (slot + 1) & mask) {
      const taken = this.#slots[slot]!;
      if (taken === FREE) return undefined;
      if (records.hasId(refs[taken - 1]!, words)) return taken - 1;
    }
    return undefined;
  }

  /** Returns how many slots `find` looks at. */
  stepsTo(id: string, refs: Uint32Array, records: SeriesRecords): number {
    const words = idWords(id);
    const mask = this.#slots.length - 1;
    const from = this.#hash(words) & mask;
    for (let step = 0; step < MAX_PROBES; step++) {
      const taken = this.#slots[(from + step) & mask]!;
      if (taken === FREE || records.hasId(refs[taken - 1]!, words)) return step + 1;
    }
    return MAX_PROBES;
  }

  /** The series must not be there yet. */
  add(series: number, refs: Uint32Array, records: SeriesRecords): void {
    this.#count += 1;
    const size = this.#slots.length;
    if (2 * this.#count <= size && this.#place(series + 1, refs, records)) return;
    this.#rebuild(series + 1, 2 * this.#count > size ? 2 * size : size, refs, records);
  }

  /** Places all series in new slots. If one finds no place there, takes another key, and more slots if they are few. */
  #rebuild(added: number, slots: number, refs: Uint32Array, records: SeriesRecords): void {
    const all = [added, ...this.#slots.filter((taken) => taken !== FREE)];
    let size = slots;
    this.#slots = new Uint32Array(size);
    while (!all.every((taken) => this.#place(taken, refs, records))) {
      this.#keys(this.#key);
      if (size < MAX_SLOTS_PER_ENTRY * this.#count) size *= 2;
      this.#slots = new Uint32Array(size);
    }
  }

  /** Returns false if there is no free slot within `MAX_PROBES` steps. */
  #place(taken: number, refs: Uint32Array, records: SeriesRecords): boolean {
    const mask = this.#slots.length - 1;
    const from = this.#hashOf(refs[taken - 1]!, records) & mask;
    for (let step = 0; step < MAX_PROBES; step++) {
      const slot = (from + step) & mask;
      if (this.#slots[slot] !== FREE) continue;
      this.#slots[slot] = taken;
      return true;
    }
    return false;
  }

  #hash(words: IdWords): number {
    const key = this.#key;
    let sum = 0;
    for (let i = 0; i < words.length; i++) sum = (sum + term(words[i]!, key[i]!)) | 0;
    return finalized(sum);
  }

  /** Returns the same hash for a record, without an array of its words. */
  #hashOf(ref: SeriesRef, records: SeriesRecords): number {
    const key = this.#key;
    let sum = 0;
    for (let i = 0; i < KEY_WORDS; i++) sum = (sum + term(records.idWord(ref, i), key[i]!)) | 0;
    return finalized(sum);
  }
}
