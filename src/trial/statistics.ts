/** What a trial makes of its samples: quantiles, and whether two sets of samples differ by more than chance. Pure. */

/** Returns the quantile of ascending values, between two of them if need be; NaN of none. */
export function quantileOf(ascending: readonly number[], share: number): number {
  if (ascending.length === 0) return Number.NaN;
  const at = share * (ascending.length - 1);
  const below = ascending[Math.floor(at)]!;
  const above = ascending[Math.ceil(at)]!;
  return below + (above - below) * (at - Math.floor(at));
}

export function ascendingOf(values: readonly number[]): number[] {
  return [...values].sort((a, b) => a - b);
}

export function medianOf(values: readonly number[]): number {
  return quantileOf(ascendingOf(values), 0.5);
}

/** Returns the geometric mean of positive values: the mean for ratios. NaN of none. */
export function geometricMean(values: readonly number[]): number {
  return Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);
}

/** Returns the value below which half of the weight lies. NaN of none. */
export function weightedMedian(
  values: readonly { readonly value: number; readonly weight: number }[],
): number {
  const ascending = [...values].sort((a, b) => a.value - b.value);
  let left = values.reduce((sum, { weight }) => sum + weight, 0) / 2;
  for (const [i, { value, weight }] of ascending.entries()) {
    left -= weight;
    if (left < 0) return value;
    if (left === 0) return (value + (ascending[i + 1]?.value ?? value)) / 2;
  }
  return ascending.at(-1)?.value ?? Number.NaN;
}

/** Returns the sum of the squared distances to the mean. */
export function squaresOf(values: readonly number[]): number {
  const mean = values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);
  return values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
}

/**
 * Returns the two-sided p of Student's t with so many degrees of freedom, a whole number (Abramowitz and Stegun, 26.7.3
 * and 26.7.4).
 */
export function studentP(t: number, freedom: number): number {
  const angle = Math.atan(Math.abs(t) / Math.sqrt(freedom));
  const squared = Math.cos(angle) ** 2;
  const isOdd = freedom % 2 === 1;
  let term = isOdd ? Math.cos(angle) : 1;
  let sum = freedom === 1 ? 0 : term;
  for (let i = isOdd ? 2 : 1; i <= freedom - 3; i += 2) {
    term *= (squared * i) / (i + 1);
    sum += term;
  }
  const within = isOdd ? (2 / Math.PI) * (angle + Math.sin(angle) * sum) : Math.sin(angle) * sum;
  return Math.max(0, 1 - within);
}

/** The most samples of both sides together: the work grows with its cube. */
const MAX_SAMPLES = 64;

/**
 * Returns the two-sided p of the Mann-Whitney U test: how likely it is, if both sides come from the same distribution,
 * that their ranks lie as far apart as these. Exact, with ties too: it counts all ways to choose the ranks of one side.
 * 1 if a side is empty.
 */
export function mannWhitneyP(a: readonly number[], b: readonly number[]): number {
  const all = a.length + b.length;
  if (a.length === 0 || b.length === 0) return 1;
  if (all > MAX_SAMPLES) throw new RangeError(`more than ${MAX_SAMPLES} samples`);
  const ranks = doubledRanks([...a, ...b]);
  const sumOf = (some: readonly number[]) => some.reduce((sum, rank) => sum + rank, 0);
  const observed = sumOf(ranks.slice(0, a.length));
  /** By number of ranks chosen, and their sum: in how many ways. */
  const total = sumOf(ranks);
  const ways = Array.from({ length: a.length + 1 }, () => new Float64Array(total + 1));
  ways[0]![0] = 1;
  for (const rank of ranks) {
    for (let chosen = a.length; chosen > 0; chosen--) {
      const [to, from] = [ways[chosen]!, ways[chosen - 1]!];
      for (let sum = total; sum >= rank; sum--) to[sum]! += from[sum - rank]!;
    }
  }
  const expected = a.length * (all + 1);
  const distance = Math.abs(observed - expected);
  let extreme = 0;
  let possible = 0;
  for (const [sum, count] of ways[a.length]!.entries()) {
    possible += count;
    if (Math.abs(sum - expected) >= distance) extreme += count;
  }
  return extreme / possible;
}

/** Returns the ranks of the values, doubled, so that the middle rank of equal values is whole. */
function doubledRanks(values: readonly number[]): number[] {
  return values.map((value) => {
    const less = values.filter((other) => other < value).length;
    const equal = values.filter((other) => other === value).length;
    return 2 * less + equal + 1;
  });
}

/**
 * Says which of many p-values to believe (Benjamini and Hochberg, 1995), so that of those that are believed at most the
 * share `rate` is expected to be chance.
 */
export function believed(ps: readonly number[], rate: number): boolean[] {
  const ordered = ascendingOf(ps);
  const last = ordered.findLastIndex((p, index) => p <= ((index + 1) / ps.length) * rate);
  const limit = last < 0 ? -1 : ordered[last]!;
  return ps.map((p) => p <= limit);
}
