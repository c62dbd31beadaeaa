import type { SeriesRecords } from './series-records.ts';

const INITIAL_SLOTS = 1 << 11;
const FREE = 0;

/**
 * Series numbers by the ids in their records, 8 to 16 bytes for each. Open addressing: an id is a hash already (the
 * head of a SHA-256), and two series that share one are one to every store.
 */
export class SeriesIndex {
  /** Series number + 1, or FREE. At most half are taken. */
  #slots = new Uint32Array(INITIAL_SLOTS);
  #count = 0;

  /** `refs`: by series number, its record. */
  find(id: string, refs: Uint32Array, records: SeriesRecords): number | undefined {
    const mask = this.#slots.length - 1;
    for (let slot = Number.parseInt(id.slice(0, 8), 16) & mask; ; slot = (slot + 1) & mask) {
      const taken = this.#slots[slot]!;
      if (taken === FREE) return undefined;
      if (records.idOf(refs[taken - 1]!) === id) return taken - 1;
    }
  }

  /** The series must not be there yet. */
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
