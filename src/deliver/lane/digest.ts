/**
 * Sums up the contents of a window in a few numbers. They are the same for the same rows in any order, and differ if
 * any bit differs. By chance, two different windows have the same digest once in 2^64 times.
 */
import { setImmediate } from 'node:timers/promises';
import { ALL_FIELDS, type Point } from '../../aggregate/point.ts';
import type { ClosedWindow } from '../../aggregate/window.ts';
import { isCheckProbe } from '../../sink/check-probe.ts';
import type { StoredPoint } from '../../sink/contract.ts';
import { type ChosenNames, nameMatcher } from '../name-choices.ts';

export interface Digest {
  readonly rows: number;
  readonly a: number;
  readonly b: number;
  /** Of the sketches of timers; absent if not all of them have one. */
  readonly sketches?: number;
}

export const NO_ROWS: Digest = { rows: 0, a: 0, b: 0 };

/** A turn takes a few milliseconds. Writes in the same thread go on between turns. */
const POINTS_PER_TURN = 4096;

const SEED_A = 0x9747b28c;
const SEED_B = 0x3c6ef372;

export function isSameDigest(one: Digest, other: Digest): boolean {
  // What was written before the sink wrote sketches has none: that is no difference.
  const { sketches = other.sketches } = one;
  const isSame = sketches === (other.sketches ?? sketches);
  return one.rows === other.rows && one.a === other.a && one.b === other.b && isSame;
}

/**
 * Digests what a store must hold of the window: every point under these names (absent: all), except those whose sum
 * overflowed, which no store gets.
 * Yields regularly, so that it holds up nothing for long.
 */
export async function digestOfWindow(window: ClosedWindow, names?: ChosenNames): Promise<Digest> {
  const digester = new Digester();
  const isChosen = names && nameMatcher(names);
  for (let i = 0; i < window.size; i++) {
    const isGiven = isChosen === undefined || isChosen(window.nameOf(i));
    if (isGiven && Number.isFinite(window.sumOf(i))) digester.add(window.point(i));
    if (i % POINTS_PER_TURN === POINTS_PER_TURN - 1) await setImmediate();
  }
  return digester.result();
}

/** Digests stored rows under these names; in core mode, only the parts that this instance wrote. */
export async function digestOfRows(
  stored: AsyncIterable<StoredPoint>,
  instance: string,
  names?: ChosenNames,
): Promise<Digest> {
  const digester = new Digester();
  const isChosen = nameMatcher(names);
  for await (const point of stored) {
    if ((instance === '' || point.instance === instance) && isChosen(point.series.name)) digester.add(point);
  }
  return digester.result();
}

/** Adds up the hashes of all rows. Two seeds are used, because 32 bits alone are too few. */
class Digester {
  #rows = 0;
  #a = 0;
  #b = 0;
  #sketches = 0;
  #haveSketches = true;
  readonly #values = new Float64Array(ALL_FIELDS.length);
  readonly #words = new Uint32Array(this.#values.buffer);

  add(point: StoredPoint | Point): void {
    if (isCheckProbe(point.series)) return;
    // + 0 turns -0 into 0, because stores do not distinguish them.
    ALL_FIELDS.forEach((field, i) => {
      this.#values[i] = (point[field] ?? Number.NaN) + 0;
    });
    const key = `${point.series.id} ${point.instance}`;
    this.#rows += 1;
    this.#a = (this.#a + this.#hash(SEED_A, key)) >>> 0;
    this.#b = (this.#b + this.#hash(SEED_B, key)) >>> 0;
    if (point.series.type !== 'timer') return;
    if (typeof point.sketch !== 'string') this.#haveSketches = false;
    else this.#sketches = (this.#sketches + this.#hash(SEED_A, key + point.sketch)) >>> 0;
  }

  result(): Digest {
    const sketches = this.#haveSketches ? { sketches: this.#sketches } : {};
    return { rows: this.#rows, a: this.#a, b: this.#b, ...sketches };
  }

  #hash(seed: number, key: string): number {
    let hash = seed;
    for (let i = 0; i < key.length; i++) hash = mix(hash, key.charCodeAt(i));
    for (let i = 0; i < this.#words.length; i++) hash = mix(hash, this.#words[i]!);
    return finish(hash);
  }
}

/** The mixing steps of 32-bit MurmurHash3 (A. Appleby, public domain). */
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
 * Returns whether a window is among a share (0 to 1) of all windows. The choice is the same for every sink, and a
 * smaller share is a subset of a larger one.
 */
export function isChosen(start: number, share: number): boolean {
  const high = Math.floor(start / 2 ** 32) | 0;
  return finish(mix(mix(SEED_A, start | 0), high)) < share * 2 ** 32;
}
