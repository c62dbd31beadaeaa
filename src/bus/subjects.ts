/** NATS subjects: tokens separated by dots; `*` stands for one token, a final `>` for one or more. */

/** Returns whether `cover` matches every subject that `pattern` matches. */
export function covers(cover: string, pattern: string): boolean {
  const left = cover.split('.');
  const right = pattern.split('.');
  for (let i = 0; ; i++) {
    if (left[i] === '>') return i < right.length;
    if (i === left.length || i === right.length) return left.length === right.length;
    if (right[i] === '>' || (right[i] === '*' && left[i] !== '*')) return false;
    if (left[i] !== '*' && left[i] !== right[i]) return false;
  }
}

/** Returns whether a single one of `covering` covers the pattern, or the subject. */
export function isCovered(pattern: string, covering: readonly string[]): boolean {
  return covering.some((cover) => covers(cover, pattern));
}

/** Returns the `patterns` that no single one of `covering` covers. */
export function uncovered(patterns: readonly string[], covering: readonly string[]): string[] {
  return patterns.filter((pattern) => !isCovered(pattern, covering));
}

/** Returns whether one of the two patterns covers the other. */
export function nests(one: string, other: string): boolean {
  return covers(one, other) || covers(other, one);
}

/** Returns the pattern of the subjects that match both patterns; undefined if there are none. */
export function intersection(a: string, b: string): string | undefined {
  const left = a.split('.');
  const right = b.split('.');
  const tokens: string[] = [];
  for (let i = 0; ; i++) {
    if (left[i] === '>' && i < right.length) return [...tokens, ...right.slice(i)].join('.');
    if (right[i] === '>' && i < left.length) return [...tokens, ...left.slice(i)].join('.');
    if (i === left.length || i === right.length)
      return left.length === right.length ? tokens.join('.') : undefined;
    if (left[i] !== '*' && right[i] !== '*' && left[i] !== right[i]) return undefined;
    tokens.push(left[i] === '*' ? right[i]! : left[i]!);
  }
}
