/** How many series the names of a window may have each. */
import { matchesGlob } from './glob.ts';

export interface NameLimit {
  readonly glob: string;
  readonly limit: number;
}

/** As MAX_SERIES. */
const MOST_SERIES = 50_000_000;

/** Parses `http.*=1000`; undefined if it is not like that. */
export function parseNameLimit(rule: string): NameLimit | undefined {
  const [, glob, digits] = /^(.*\S)\s*=\s*(\d{1,8})$/s.exec(rule) ?? [];
  const limit = Number(digits);
  return glob !== undefined && limit >= 1 && limit <= MOST_SERIES ? { glob, limit } : undefined;
}

/** The limits of one shape of windows. */
export class NameLimits {
  readonly #limits: readonly NameLimit[];

  constructor(rules: readonly string[]) {
    this.#limits = rules.map((rule) => parseNameLimit(rule)!);
  }

  /** By the first glob that matches; Infinity if none does. */
  of(name: string): number {
    return this.#limits.find(({ glob }) => matchesGlob(glob, name))?.limit ?? Number.POSITIVE_INFINITY;
  }
}
