import type { SeriesRecords } from './series-records.ts';

const INITIAL_SLOTS = 1 << 11;
const FREE = 0;

/**
 * Series numbers by the ids in their records, with 8 to 16 bytes for each. Open addressing: an id is already a hash
 * (the head of a SHA-256), and every store takes two series that share an id for one.
 */
export class SeriesIndex {
  /** Series number + 1, or FREE. At most half of the slots are taken. */
  #slots = new Uint32Array(INITIAL_SLOTS);
  #count = 0;

  /** Returns the series number of the id. `refs`: the record of each series, by its number. */
  find(id: string, refs: Uint32Array, records: SeriesRecords): number | undefined {
    const mask = this.#slots.length - 1;
    for (let slot = Number.parseInt(id.slice(0, 8), 16) & mask; ; slot = (slot + 1) & mask) {
      const taken = this.#slots[slot]!;
      if (taken === FREE) return undefined;
      if (records.idOf(refs[taken - 1]!) === id) return taken - 1;
    }
  }

  /** Adds a series, which must not be in the index yet. */
  add(series: number, refs: Uint32Array, records: SeriesRecords): void {
    this.#count += 1;
    if (2 * this.#count > this.#slots.length) {
      const old = this.#slots;
      this.#slots = new Uint32Array(2 * old.length);
      for (const taken of old) if (taken !== FREE) this.#place(taken, records.hashOf(refs[taken - 1]!));
    }
    this.#place(series + 1, records.hashOf(refs[series]!));
  }

  #place(taken: number, hash: number): void {
    const mask = this.#slots.length - 1;
    let slot = hash & mask;
    while (this.#slots[slot] !== FREE) slot = (slot + 1) & mask;
    this.#slots[slot] = taken;
  }
}
