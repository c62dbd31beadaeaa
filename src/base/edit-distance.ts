/** Names that were meant otherwise: what is nearest to a text that nobody knows. */

/** Edits, as a part of the longer text, up to which two names count as the same one misspelt. */
const MAX_SHARE = 0.4;
const MAX_EDITS = 3;

/** The candidate that is least edits away; undefined where none is near. */
export function nearest(text: string, candidates: Iterable<string>): string | undefined {
  let best: string | undefined;
  let fewest = MAX_EDITS + 1;
  for (const candidate of candidates) {
    const count = edits(text, candidate);
    if (count < fewest && count <= MAX_SHARE * Math.max(text.length, candidate.length)) {
      best = candidate;
      fewest = count;
    }
  }
  return best;
}

/** Characters to insert, delete, replace or swap with their neighbour (optimal string alignment). */
export function edits(a: string, b: string): number {
  const rows = [Array.from({ length: b.length + 1 }, (_, j) => j)];
  for (let i = 1; i <= a.length; i++) {
    const above = rows[i - 1]!;
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const isSame = a[i - 1] === b[j - 1];
      const isSwap = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      const least = Math.min(above[j]! + 1, row[j - 1]! + 1, above[j - 1]! + (isSame ? 0 : 1));
      row.push(isSwap ? Math.min(least, rows[i - 2]![j - 2]! + 1) : least);
    }
    rows.push(row);
  }
  return rows[a.length]![b.length]!;
}
