/** Misspelled names: the known name that is nearest to an unknown one. */

/** The most edits, as a share of the longer text, for which one name counts as a misspelling of the other. */
const MAX_SHARE = 0.4;
const MAX_EDITS = 3;

/** Returns the candidate that the text abbreviates, or that is the fewest edits away; undefined if none is near. */
export function nearest(text: string, candidates: Iterable<string>): string | undefined {
  let best: string | undefined;
  let fewest = MAX_EDITS + 1;
  const all = [...candidates];
  const long = all.filter((candidate) => abbreviates(text, candidate));
  if (long.length === 1 && !all.some((candidate) => isOneEdit(text, candidate))) return long[0];
  for (const candidate of all) {
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

/** `SINK_A_DB` for `SINK_A_DATABASE`: the last word begins alike, and has fewer of its letters, in order. */
function abbreviates(text: string, candidate: string): boolean {
  const at = text.lastIndexOf('_') + 1;
  const [short, word] = [text.slice(at), candidate.slice(at)];
  if (text.slice(0, at) !== candidate.slice(0, at) || short.length < 2 || word.length <= short.length)
    return false;
  if (short[0] !== word[0] || word.includes('_')) return false;
  let found = 0;
  for (const letter of word) if (letter === short[found]) found += 1;
  return found === short.length;
}

/** Whether `edits` is at most 1, in a fraction of the time. */
export function isOneEdit(a: string, b: string): boolean {
  let start = 0;
  while (start < a.length && a[start] === b[start]) start += 1;
  let [endA, endB] = [a.length, b.length];
  while (endA > start && endB > start && a[endA - 1] === b[endB - 1]) {
    endA -= 1;
    endB -= 1;
  }
  const [restA, restB] = [a.slice(start, endA), b.slice(start, endB)];
  if (restA.length <= 1 && restB.length <= 1) return true;
  return restA.length === 2 && restB.length === 2 && restA[0] === restB[1] && restA[1] === restB[0];
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
