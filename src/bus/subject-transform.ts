/**
 * Subject transforms of nats-server (from 2.10 on): under which subject a message is stored that was published under
 * another. A transform has a pattern, and a destination whose tokens are literals or functions of the tokens that the
 * wildcards of the pattern stand for.
 */
import { covers, intersection } from './subjects.ts';

export interface SubjectTransform {
  /** Empty: every subject. */
  readonly src?: string;
  /** Empty: subjects stay as they are. */
  readonly dest?: string;
}

/** Some of the messages that come in somewhere. */
export interface Flow {
  /** The pattern of their subjects. */
  readonly pattern: string;
  /** The pattern of the subjects of all that come in there. */
  readonly all: string;
  /** Whether none of the others has a subject of `pattern`. */
  readonly isExact: boolean;
}

const WILDCARD = /^(?:\$(\d+)|\{\{\s*wildcard\s*\(\s*(\d+)\s*\)\s*\}\})$/i;
/** Make several tokens of one, or not: nobody knows how many. */
const MANY = /^\{\{\s*(split|slice)/i;
const FUNCTION = /^\{\{.*\}\}$/;

/** Returns what becomes of a flow. Each message passes the first transform that it matches, or none. */
export function transformed(flow: Flow, transforms: readonly SubjectTransform[]): readonly Flow[] {
  const images = transforms.flatMap((transform) => imageOf(flow, transform) ?? []);
  const isWhole = transforms.some(({ src }) => covers(src || '>', flow.pattern));
  return isWhole ? images : [...images, flow];
}

function imageOf(flow: Flow, { src, dest }: SubjectTransform): Flow | undefined {
  const source = src || '>';
  const some = intersection(flow.pattern, source);
  const all = intersection(flow.all, source);
  if (some === undefined || all === undefined) return undefined;
  if (!dest) return { pattern: some, all, isExact: flow.isExact };
  const sources = source.split('.');
  return {
    pattern: substituted(dest, sources, some.split('.')),
    all: substituted(dest, sources, all.split('.')),
    isExact: flow.isExact && keepsApart(dest, sources, some.split('.'), all.split('.')),
  };
}

function substituted(dest: string, sources: readonly string[], tokens: readonly string[]): string {
  const stored: string[] = [];
  for (const token of dest.split('.')) {
    if (MANY.test(token)) return [...stored, '>'].join('.');
    const at = wildcardOf(token, sources);
    if (token === '>') stored.push(...tokens.slice(sources.length - 1));
    else if (at !== undefined) stored.push(tokens[at]!);
    else stored.push(FUNCTION.test(token) ? '*' : token);
  }
  return stored.join('.');
}

/** Returns whether the destination has all tokens by which `some` differs from `all`. */
function keepsApart(
  dest: string,
  sources: readonly string[],
  some: readonly string[],
  all: readonly string[],
): boolean {
  const destination = dest.split('.');
  if (destination.some((token) => MANY.test(token))) return some.join('.') === all.join('.');
  const kept = destination.map((token) => wildcardOf(token, sources));
  return sources.every((token, i) => token !== '*' || some[i] === all[i] || kept.includes(i));
}

/** Returns the position of the wildcard that a token of the destination stands for. */
function wildcardOf(token: string, sources: readonly string[]): number | undefined {
  const match = WILDCARD.exec(token);
  if (match === null) return undefined;
  const wildcards = sources.flatMap((source, i) => (source === '*' ? [i] : []));
  return wildcards[Number(match[1] ?? match[2]) - 1];
}
