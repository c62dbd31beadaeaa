/** Seeded randomness. Pure: the same seed gives the same draws on every machine. */

/** Uniform in [0, 1), in steps of 2^-32. */
export type Random = () => number;

const TWO_POW_32 = 2 ** 32;
/** Number of draws until the state of sfc32 no longer shows how it was seeded. */
const WARM_UP_DRAWS = 16;

/** Chris Doty-Humphrey's sfc32: small, fast, and passes PractRand. */
export function seededRandom(seed: number): Random {
  let a = seed | 0;
  let b = Math.floor(seed / TWO_POW_32) | 0;
  let c = 0x9e3779b9 | 0;
  let counter = 1;
  const draw = () => {
    const sum = (((a + b) | 0) + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (c << 21) | (c >>> 11);
    c = (c + sum) | 0;
    return (sum >>> 0) / TWO_POW_32;
  };
  for (let i = 0; i < WARM_UP_DRAWS; i++) draw();
  return draw;
}

/**
 * Draws from a log-normal distribution, the shape of durations and queue lengths. `sigma` is the standard deviation of
 * the logarithm.
 */
export function logNormal(random: Random, median: number, sigma: number): number {
  const radius = Math.sqrt(-2 * Math.log(1 - random()));
  return median * Math.exp(sigma * radius * Math.cos(2 * Math.PI * random()));
}

/** Picks a number from 0..size-1, k with a probability proportional to (k + 1) ** -exponent. Vose's alias method. */
export class Zipf {
  readonly #keep: Float64Array;
  readonly #alias: Uint32Array;

  constructor(size: number, exponent: number) {
    const weights = Float64Array.from({ length: size }, (_, rank) => (rank + 1) ** -exponent);
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    const keep = weights.map((weight) => (weight / total) * size);
    const alias = Uint32Array.from({ length: size }, (_, rank) => rank);
    const small: number[] = [];
    const large: number[] = [];
    keep.forEach((share, rank) => {
      (share < 1 ? small : large).push(rank);
    });
    while (small.length > 0 && large.length > 0) {
      const low = small.pop()!;
      const high = large.pop()!;
      alias[low] = high;
      keep[high] = keep[high]! + keep[low]! - 1;
      (keep[high]! < 1 ? small : large).push(high);
    }
    // The entries left over differ from 1 only by rounding.
    for (const rank of [...small, ...large]) keep[rank] = 1;
    this.#keep = keep;
    this.#alias = alias;
  }

  pick(random: Random): number {
    const rank = Math.floor(random() * this.#keep.length);
    return random() < this.#keep[rank]! ? rank : this.#alias[rank]!;
  }
}

/** Returns 0..size-1 in an order decided by `random`. */
export function shuffled(size: number, random: Random): Uint32Array {
  const order = Uint32Array.from({ length: size }, (_, i) => i);
  for (let i = size - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    const moved = order[i]!;
    order[i] = order[j]!;
    order[j] = moved;
  }
  return order;
}
