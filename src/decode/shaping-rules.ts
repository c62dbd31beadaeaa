/** The rules on names and dimensions, as settings have them: text that is checked here, and parsed. */

import { matchesGlob } from '../aggregate/glob.ts';
import { parseNameLimit } from '../aggregate/name-limits.ts';

/** In one setting. A rule is looked at for each new spelling of a series. */
const MAX_RULES = 100;
/** In UTF-16 code units, in one setting: shapes of windows are agreed on, and what holds them is bounded. */
const MAX_RULES_LENGTH = 4000;

/** Which names are taken: those that match a glob, and none with `!`. Without globs other than these, all others. */
export interface NameRules {
  readonly taken: readonly string[];
  readonly excluded: readonly string[];
}

/** Keys of series of which the name matches a glob. */
export interface KeyRule {
  readonly name: string;
  readonly keys: readonly string[];
}

/** What a text becomes: one that is equal to `from`, or, if `isPrefix`, that begins with it. */
export interface Renaming {
  readonly from: string;
  readonly to: string;
  readonly isPrefix: boolean;
}

export interface RenameRules {
  readonly names: readonly Renaming[];
  /** Of series of which the name matches a glob. */
  readonly keys: readonly { readonly name: string; readonly renamings: readonly Renaming[] }[];
}

/** A token of a subject: a literal, or any token (then perhaps the value of a dimension). */
export type SubjectToken = { readonly literal: string } | { readonly key: string | undefined };

export interface SubjectPattern {
  readonly tokens: readonly SubjectToken[];
  /** More tokens follow, at least one. */
  readonly isOpen: boolean;
}

/** What is wrong with a rule, and what to do. Ends without a full stop. */
class RuleProblem extends Error {}

/** Returns the rules of a text, each trimmed, without reading them. Throws a `RuleProblem`. */
function split(text: string, separator: ',' | ';', what: string): string[] {
  if (text.length > MAX_RULES_LENGTH)
    throw new RuleProblem(
      `it has ${text.length} characters, and ${MAX_RULES_LENGTH} are the most: use globs`,
    );
  const rules = text.split(separator).map((rule) => rule.trim());
  if (rules.length > MAX_RULES)
    throw new RuleProblem(`it has ${rules.length} rules, and ${MAX_RULES} are the most: use globs`);
  const empty = rules.indexOf('');
  if (empty >= 0) throw new RuleProblem(`rule ${empty + 1} is empty: leave out a "${separator}", or ${what}`);
  return rules;
}

/** Returns what stands before the first `: `, and after it. */
function atColon(rule: string): [string, string] | undefined {
  const at = rule.search(/:\s/);
  return at < 0 ? undefined : [rule.slice(0, at).trim(), rule.slice(at + 1).trim()];
}

export function nameRules(rules: readonly string[]): NameRules {
  for (const rule of rules)
    if (rule === '!' || rule === '')
      throw new RuleProblem(`"${rule}" names nothing: write a glob, as !debug.*`);
  return {
    taken: rules.filter((rule) => !rule.startsWith('!')),
    excluded: rules.filter((rule) => rule.startsWith('!')).map((rule) => rule.slice(1)),
  };
}

export function isTaken({ taken, excluded }: NameRules, name: string): boolean {
  const matches = (glob: string) => matchesGlob(glob, name);
  return (taken.length === 0 || taken.some(matches)) && !excluded.some(matches);
}

export function keyRules(rules: readonly string[]): KeyRule[] {
  return rules.map((rule) => {
    const [name = '', keys = ''] = atColon(rule) ?? [];
    if (name === '' || keys === '')
      throw new RuleProblem(
        `"${rule}" is no rule: write names, a colon and a space, keys, as http.*: host, pod`,
      );
    return { name, keys: split(keys, ',', 'name a key there') };
  });
}

function renamings(list: string): Renaming[] {
  return split(list, ',', 'say what becomes of what').map((pair) => {
    const [from = '', to = '', ...more] = pair.split('=').map((side) => side.trim());
    if (from === '' || to === '' || more.length > 0)
      throw new RuleProblem(
        `"${pair}" renames nothing: write what it is called, =, what it becomes, as old=new`,
      );
    const isPrefix = from.endsWith('*');
    if (isPrefix !== to.endsWith('*'))
      throw new RuleProblem(`"${pair}" has a * on one side only: write old.*=new.* for all that begin so`);
    const cut = isPrefix ? -1 : undefined;
    const made = { from: from.slice(0, cut), to: to.slice(0, cut), isPrefix };
    if (/[*?]/.test(made.from + made.to))
      throw new RuleProblem(
        `"${pair}" has a wildcard that is not a * at the end: rename by name or by prefix`,
      );
    return made;
  });
}

export function renameRules(rules: readonly string[]): RenameRules {
  const names: Renaming[] = [];
  const keys: { name: string; renamings: Renaming[] }[] = [];
  for (const rule of rules) {
    const [name, list] = atColon(rule) ?? [];
    if (name === undefined || list === undefined) names.push(...renamings(rule));
    else if (name === '') throw new RuleProblem(`"${rule}" is of no names: write * before the colon for all`);
    else keys.push({ name, renamings: renamings(list) });
  }
  return { names, keys };
}

export function subjectPatterns(rules: readonly string[]): SubjectPattern[] {
  return rules.map((rule) => {
    const problem = (text: string) => new RuleProblem(`"${rule}" ${text}, as metrics.{app}.{env}.>`);
    const parts = rule.match(/\{[^{}]*\}|[^.{}\s]+/g) ?? [];
    if (parts.length === 0 || parts.join('.') !== rule)
      throw problem('is no subject: write tokens with dots between them');
    const isOpen = parts.at(-1) === '>';
    const tokens = (isOpen ? parts.slice(0, -1) : parts).map((part): SubjectToken => {
      if (part === '>') throw problem('has a > that is not its last token: write > last');
      if (part === '*') return { key: undefined };
      return part.startsWith('{') ? { key: part.slice(1, -1).trim() } : { literal: part };
    });
    const keys = tokens.flatMap((token) => ('key' in token && token.key !== undefined ? [token.key] : []));
    if (keys.length === 0) throw problem('gives no dimension: write the key of one in braces');
    if (keys.includes(''))
      throw problem('has braces with nothing in them: write the key of a dimension there');
    if (new Set(keys).size < keys.length)
      throw problem('names a key twice: give each token a key of its own');
    return { tokens, isOpen };
  });
}

function nameLimits(rules: readonly string[]): void {
  for (const rule of rules)
    if (parseNameLimit(rule) === undefined)
      throw new RuleProblem(
        `"${rule}" is no limit: write a glob, =, and a number of at least 1, as http.*=1000`,
      );
}

/** What a setting's text comes to: its rules, or what is wrong. */
type ReadRules = { readonly rules: readonly string[] } | { readonly problem: string };

function readRules(
  text: string,
  separator: ',' | ';',
  parse: (rules: readonly string[]) => unknown,
): ReadRules {
  try {
    const rules = split(text, separator, 'write a rule there');
    parse(rules);
    return { rules };
  } catch (error) {
    if (error instanceof RuleProblem) return { problem: error.message };
    throw error;
  }
}

/** The settings with rules: how their rules are separated and read. */
export const RULE_KINDS = {
  names: (text: string) => readRules(text, ',', nameRules),
  dimensions: (text: string) => readRules(text, ';', keyRules),
  rename: (text: string) => readRules(text, ';', renameRules),
  subjects: (text: string) => readRules(text, ',', subjectPatterns),
  limits: (text: string) => readRules(text, ',', nameLimits),
} as const satisfies Record<string, (text: string) => ReadRules>;

/**
 * Whether these are rules of this kind, of which each is for itself. They are as a setting had them, so with nothing
 * but the separators between them they are no longer than it was.
 */
export function areRules(kind: keyof typeof RULE_KINDS, rules: unknown): boolean {
  if (!Array.isArray(rules) || !rules.every((rule) => typeof rule === 'string')) return false;
  return 'rules' in RULE_KINDS[kind](rules.join(kind === 'dimensions' || kind === 'rename' ? ';' : ','));
}
