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
function edits(a: string, b: string): number {
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

/** What an orchestrator sets for a service called `metrics` or `nats` (service links): not meant for us. */
const SERVICE_LINK = /_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)$/;
const MAX_SLIPS = 1;

/**
 * Variables of the environment that are most likely ours and misspelt, a sentence each: those that begin with METRICS_,
 * and those that are one slip away from one of ours. The environment belongs to others as well, so they are no errors.
 */
export function unknownVariables(
  env: Readonly<Record<string, string | undefined>>,
  known: readonly string[],
): string[] {
  const names = Object.keys(env).filter((name) => !known.includes(name) && !SERVICE_LINK.test(name));
  return names.sort().flatMap((name) => {
    const meant = nearest(name, known);
    const isNear = meant !== undefined && edits(name, meant) <= MAX_SLIPS;
    if (!isNear && !name.startsWith('METRICS_')) return [];
    return `${name} is no setting${meant === undefined ? '' : `: did you mean ${meant}?`}`;
  });
}
