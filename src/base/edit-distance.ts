/** Misspelled names: the known name that is nearest to an unknown one. */

/** The most edits, as a share of the longer text, for which one name counts as a misspelling of the other. */
const MAX_SHARE = 0.4;
const MAX_EDITS = 3;

/** Returns the candidate that is the fewest edits away; undefined if none is near. */
export function nearest(text: string, candidates: Iterable<string>): string | undefined {
  let best: string | undefined;
  let fewest = MAX_EDITS + 1;
  for (const candidate of candidates) {
    // Each character that one of them has more is an edit.
    if (Math.abs(text.length - candidate.length) >= fewest) continue;
    const count = edits(text, candidate);
    if (count < fewest && count <= MAX_SHARE * Math.max(text.length, candidate.length)) {
      best = candidate;
      fewest = count;
    }
  }
  return best;
}

/** Returns how many characters to insert, delete, replace or swap with a neighbor (optimal string alignment). */
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
