/**
 * What a window holds, in a few numbers: the same for the same rows in any order, another for any other bit. Two
 * different windows look alike by chance once in 2^64 times.
 */
import { setImmediate } from 'node:timers/promises';
import { ALL_FIELDS, type Point } from '../../aggregate/point.ts';
import type { ClosedWindow } from '../../aggregate/window.ts';
import type { StoredPoint } from '../../sink/contract.ts';

export interface Digest {
  readonly rows: number;
  readonly a: number;
  readonly b: number;
}

export const NO_ROWS: Digest = { rows: 0, a: 0, b: 0 };

/** A turn takes a few milliseconds: writes in the same thread go on in between. */
const POINTS_PER_TURN = 4096;

const SEED_A = 0x9747b28c;
const SEED_B = 0x3c6ef372;

export function isSameDigest(one: Digest, other: Digest): boolean {
  return one.rows === other.rows && one.a === other.a && one.b === other.b;
}

/**
 * Of what a store must hold of the window: a sum that overflowed is refused to every store. Holds nobody up for long.
 */
export async function digestOfWindow(window: ClosedWindow): Promise<Digest> {
  const digester = new Digester();
  for (let i = 0; i < window.size; i++) {
    if (Number.isFinite(window.sumOf(i))) digester.add(window.point(i));
    if (i % POINTS_PER_TURN === POINTS_PER_TURN - 1) await setImmediate();
  }
  return digester.result();
}

/** In core mode, of the parts that are of this instance. */
export async function digestOfRows(stored: AsyncIterable<StoredPoint>, instance: string): Promise<Digest> {
  const digester = new Digester();
  for await (const point of stored) {
    if (instance === '' || point.instance === instance) digester.add(point);
  }
  return digester.result();
}

/** Adds up a hash of each row; two by different seeds make up for 32 bits being few. */
class Digester {
  #rows = 0;
  #a = 0;
  #b = 0;
  readonly #values = new Float64Array(ALL_FIELDS.length);
  readonly #words = new Uint32Array(this.#values.buffer);

  add(point: StoredPoint | Point): void {
    // + 0 makes 0 of -0, which stores do not tell apart.
    ALL_FIELDS.forEach((field, i) => {
      this.#values[i] = (point[field] ?? Number.NaN) + 0;
    });
    const key = `${point.series.id} ${point.instance}`;
    this.#rows += 1;
    this.#a = (this.#a + this.#hash(SEED_A, key)) >>> 0;
    this.#b = (this.#b + this.#hash(SEED_B, key)) >>> 0;
  }

  result(): Digest {
    return { rows: this.#rows, a: this.#a, b: this.#b };
  }

  #hash(seed: number, key: string): number {
    let hash = seed;
    for (let i = 0; i < key.length; i++) hash = mix(hash, key.charCodeAt(i));
    for (let i = 0; i < this.#words.length; i++) hash = mix(hash, this.#words[i]!);
    return finish(hash);
  }
}

/** The steps of MurmurHash3 for 32 bits (A. Appleby, public domain). */
function mix(hash: number, word: number): number {
  const part = Math.imul(rotate(Math.imul(word, 0xcc9e2d51), 15), 0x1b873593);
  return (Math.imul(rotate(hash ^ part, 13), 5) + 0xe6546b64) | 0;
}

function finish(hash: number): number {
  let mixed = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}

function rotate(word: number, bits: number): number {
  return (word << bits) | (word >>> (32 - bits));
}

/**
 * Whether a window is among a share (0 to 1) of all: the same for every sink, and for smaller shares within larger
 * ones.
 */
export function isChosen(start: number, share: number): boolean {
  const high = Math.floor(start / 2 ** 32) | 0;
  return finish(mix(mix(SEED_A, start | 0), high)) < share * 2 ** 32;
}
