/**
 * A hash with a secret key. Producers choose what the tables hold, but must not be able to choose entries that collide.
 * So each process draws its own key. That is the only randomness in this folder, and no result depends on it (I3).
 *
 * For each word w at position i, with the key word k of that position, the hash adds up
 *
 *     low(w + k) * high(w + k)        of the sum modulo 2^32, its lower and its upper 16 bits
 *
 * This is the hash NH (Black et al., "UMAC: Fast and Secure Message Authentication", CRYPTO 1999), with the carry of
 * the lower half left in. For a given lower half of the key, the upper half of the product's second factor is still the
 * text's plus the key's. So two texts of equal lengths, whatever they are, collide under at most 2 keys in 65,536.
 */
import { randomFillSync } from 'node:crypto';

/**
 * How far an entry may be from where its hash says, in slots: what a lookup in one table costs at most. If an entry
 * would be further away, the table takes another key.
 */
export const MAX_PROBES = 64;
/** Slots for each entry of a table. Beyond this, more slots would not help; only another key does. */
export const MAX_SLOTS_PER_ENTRY = 16;

/**
 * A table does not grow in one go, which would hold the thread: with each entry that is added, this many slots move to
 * the new table. So a table of n slots has moved after n / 32 entries.
 */
export const MOVED_SLOTS = 32;

/** Returns a power of two: slots for this many entries, at most half of them taken. */
export function slotsFor(entries: number, atLeast: number): number {
  let slots = atLeast;
  while (slots < 2 * entries) slots *= 2;
  return slots;
}

/** Fills an array with numbers that nobody can guess. Tests pass in others. */
export type KeySource = (key: Int32Array) => void;

export const systemKeys: KeySource = randomFillSync;

/** Returns what one word adds to the sum. */
export function term(word: number, k: number): number {
  const sum = (word + k) | 0;
  return Math.imul(sum & 0xffff, sum >>> 16);
}

/** Mixes the high bits into the low ones, which choose the slot (the finalizer of MurmurHash3, a bijection). */
export function finalized(sum: number): number {
  let hash = Math.imul(sum ^ (sum >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return hash ^ (hash >>> 16);
}
