/**
 * The slow, obvious twin of the rules on names and dimensions: regular expressions, and the words of docs/shaping.md
 * taken literally. Shares nothing with what it checks.
 */

/** As in the settings of the same names: text. Absent: no rules. */
export interface RuleTexts {
  readonly names?: string;
  readonly drop?: string;
  readonly keep?: string;
  readonly rename?: string;
  readonly subjects?: string;
  readonly subjectWins?: boolean;
}

type Dimensions = Readonly<Record<string, string>>;

export interface Shaped {
  readonly name: string;
  readonly dimensions: Dimensions;
}

const listed = (text: string, separator: string) =>
  text === '' ? [] : text.split(separator).map((part) => part.trim());

export function fits(glob: string, text: string): boolean {
  const escaped = glob.replace(/[.+^${}()|[\]\\]/g, '\\$&');
  return new RegExp(`^${escaped.replaceAll('*', '.*').replaceAll('?', '.')}$`, 's').test(text);
}

/** What a series becomes; undefined if its name is not taken. */
export function expectedShape(
  name: string,
  given: Dimensions,
  subject: string,
  rules: RuleTexts,
): Shaped | undefined {
  const { names = '', drop = '', keep = '', rename = '', subjects = '', subjectWins = false } = rules;
  if (!isTaken(name, listed(names, ','))) return undefined;
  const own = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== ''));
  const added = tokensOf(subject, listed(subjects, ','));
  const dimensions = subjectWins ? { ...own, ...added } : { ...added, ...own };
  const keysOf = (rule: string) => listed(rule.slice(rule.indexOf(': ') + 1), ',');
  const ofName = (text: string) =>
    listed(text, ';').filter((rule) => fits(rule.slice(0, rule.indexOf(': ')), name));
  for (const key of Object.keys(dimensions)) {
    const keepers = ofName(keep);
    const isKept = keepers.length === 0 || keepers.flatMap(keysOf).some((glob) => fits(glob, key));
    const isDropped = ofName(drop)
      .flatMap(keysOf)
      .some((glob) => fits(glob, key));
    if (isDropped || !isKept) delete dimensions[key];
  }
  const forNames = listed(rename, ';').filter((rule) => !rule.includes(': '));
  const forKeys = ofName(
    listed(rename, ';')
      .filter((rule) => rule.includes(': '))
      .join(';'),
  );
  return {
    name: becomes(
      name,
      forNames.flatMap((rule) => listed(rule, ',')),
    ),
    dimensions: rekeyed(dimensions, forKeys.flatMap(keysOf)),
  };
}

function isTaken(name: string, globs: readonly string[]): boolean {
  const some = (wanted: readonly string[]) => wanted.some((glob) => fits(glob, name));
  const excluded = globs.filter((glob) => glob[0] === '!').map((glob) => glob.slice(1));
  const taken = globs.filter((glob) => glob[0] !== '!');
  return (taken.length === 0 || some(taken)) && !some(excluded);
}

function tokensOf(subject: string, patterns: readonly string[]): Record<string, string> {
  for (const pattern of patterns) {
    const keys: string[] = [];
    const source = pattern
      .split('.')
      .map((token) => {
        if (token === '>') return '.+';
        if (token === '*') return '[^.]+';
        if (!token.startsWith('{')) return token;
        keys.push(token.slice(1, -1));
        return '([^.]+)';
      })
      .join('\\.');
    const found = new RegExp(`^${source}$`).exec(subject);
    if (found !== null) return Object.fromEntries(keys.map((key, i) => [key, found[i + 1]!]));
  }
  return {};
}

function becomes(text: string, pairs: readonly string[]): string {
  for (const pair of pairs) {
    const [from, to] = pair.split('=').map((side) => side.trim()) as [string, string];
    if (from === text) return to;
    if (from.endsWith('*') && text.startsWith(from.slice(0, -1)))
      return `${to.slice(0, -1)}${text.slice(from.length - 1)}` || text;
  }
  return text;
}

function rekeyed(dimensions: Dimensions, pairs: readonly string[]): Dimensions {
  const result: Record<string, string> = {};
  const keys = Object.keys(dimensions).sort();
  for (const key of keys) if (becomes(key, pairs) === key) result[key] = dimensions[key]!;
  for (const key of keys) {
    const other = becomes(key, pairs);
    if (!Object.hasOwn(result, other)) result[other] = dimensions[key]!;
  }
  return result;
}
