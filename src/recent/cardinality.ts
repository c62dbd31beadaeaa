/** Which names and which dimensions have how many series, and since when that many. */
import { METRIC_TYPES } from '../aggregate/point.ts';
import type { FoldedStatus } from './folds.ts';
import { timeInWords } from './question.ts';
import type { RecentView } from './recent-windows.ts';
import { patience } from './selection.ts';
import type { SeriesDictionary } from './series-dictionary.ts';
import type { Turns } from './turns.ts';

/** Names and keys of an answer, and keys of a name: those with the most. */
const MAX_LISTED = 20;
const MAX_KEYS_OF_NAME = 3;
/** A key may be 256 bytes long, a name more. */
const MAX_SHOWN_CHARACTERS = 300;
const STEP_SERIES = 1024;
/** What is first seen within this time from the first window on was there before, as far as anybody knows. */
const WARM_UP_S = 60;
const NAMES_AT_ONCE = 31;
const NEVER = 0xffff_ffff;

/** How many there are, and what has come since. */
export interface Spread {
  readonly count: number;
  /** How many of them are new: first seen more than a minute after `since` of the answer. */
  readonly added: number;
  readonly addedPerMinute: number;
  /** When that began: the first window that brought no fewer than the mean; null if there is nothing new. */
  readonly growingSince: string | null;
}

export interface NameCardinality extends Spread {
  readonly name: string;
  readonly types: readonly string[];
  /** The dimensions of its series with the most values, and how many. */
  readonly keys: readonly { readonly key: string; readonly values: number }[];
}

export interface KeyCardinality extends Spread {
  readonly key: string;
  /** How many series have it. */
  readonly series: number;
}

export interface CardinalityAnswer {
  /** Times in words are RFC 3339. From where on to where windows are kept: nothing is known about what was before. */
  readonly since: string | null;
  readonly boundary: string | null;
  readonly series: Spread;
  /** Those with the most series, most first. */
  readonly names: readonly NameCardinality[];
  /** Those with the most values. */
  readonly keys: readonly KeyCardinality[];
  /** Since the start of the instance, the latest first. Earlier versions do not have it. */
  readonly folded?: readonly FoldedStatus[];
}

/** Counts what is new by the second in which it was first seen. */
class Arrivals {
  count = 0;
  added = 0;
  #bySecond: Map<number, number> | undefined;

  add(firstSeen: number, warm: number): void {
    this.count += 1;
    if (firstSeen <= warm) return;
    this.added += 1;
    this.#bySecond ??= new Map();
    this.#bySecond.set(firstSeen, (this.#bySecond.get(firstSeen) ?? 0) + 1);
  }

  growth(warm: number, end: number, windowS: number): Spread {
    const seconds = Math.max(windowS, end - warm);
    const mean = (this.added / seconds) * windowS;
    const seen = [...(this.#bySecond ?? [])].sort(([a], [b]) => a - b);
    const first = seen.find(([, count]) => count >= mean)?.[0];
    return {
      count: this.count,
      added: this.added,
      addedPerMinute: (60 * this.added) / seconds,
      growingSince: first === undefined ? null : timeInWords(1000 * first),
    };
  }
}

export async function cardinalityOf(
  { dictionary, windows, covered, boundary, tiling }: RecentView,
  turns: Turns,
): Promise<CardinalityAnswer> {
  const oldest = (windows[0]?.start ?? Number.POSITIVE_INFINITY) / 1000;
  const isMeant = (number: number) =>
    dictionary.isAlive(number) && dictionary.lastSeen(number) >= Math.floor(oldest);
  const since = covered[0]?.from;
  const warm = Math.floor((since ?? 0) / 1000) + WARM_UP_S;
  const end = (boundary ?? 0) / 1000;
  const windowS = Math.max(1, tiling.epochAt(boundary ?? 0).windowMs / 1000);
  const { texts, size } = dictionary;
  const all = new Arrivals();
  const names = texts.names.map(() => new Arrivals());
  const types = new Uint8Array(texts.names.length);
  const series = new Uint32Array(texts.keys.length);
  const firstOf = new Uint32Array(texts.values.length).fill(NEVER);
  for (let number = 0; number < size; number++) {
    if (number % STEP_SERIES === 0) await patience(turns);
    const name = dictionary.nameOf(number);
    if (!isMeant(number) || name >= names.length) continue;
    const first = dictionary.firstSeen(number);
    all.add(first, warm);
    names[name]!.add(first, warm);
    types[name]! |= 1 << dictionary.typeOf(number);
    for (const pair of pairsOf(dictionary, number)) {
      if (pair >= firstOf.length) continue;
      series[texts.keyOf[pair]!]! += 1;
      if (first < firstOf[pair]!) firstOf[pair] = first;
    }
  }
  const keys = Array.from(series, () => new Arrivals());
  for (let pair = 0; pair < firstOf.length; pair++)
    if (firstOf[pair] !== NEVER) keys[texts.keyOf[pair]!]!.add(firstOf[pair]!, warm);
  const shownNames = most(names);
  const keysOf = await keysOfNames(dictionary, shownNames, isMeant, turns);
  const growth = (arrivals: Arrivals) => arrivals.growth(warm, end, windowS);
  return {
    since: since === undefined ? null : timeInWords(since),
    boundary: boundary === undefined ? null : timeInWords(boundary),
    series: growth(all),
    names: shownNames.map((name, i) => ({
      name: shown(texts.names[name]!),
      types: METRIC_TYPES.filter((_, type) => (types[name]! & (1 << type)) > 0),
      ...growth(names[name]!),
      keys: keysOf[i]!,
    })),
    keys: most(keys).map((key) => ({
      key: shown(texts.keys[key]!),
      ...growth(keys[key]!),
      series: series[key]!,
    })),
  };
}

function* pairsOf(dictionary: SeriesDictionary, number: number): Generator<number> {
  const { pool } = dictionary;
  const at = dictionary.pairsAt(number);
  for (let i = 1; i <= pool[at]!; i++) yield pool[at + i]!;
}

/** Returns the numbers of those with the most. */
function most(arrivals: readonly Arrivals[]): number[] {
  const found: number[] = [];
  for (const [i, { count }] of arrivals.entries()) {
    if (count === 0 || (found.length === MAX_LISTED && count <= arrivals[found.at(-1)!]!.count)) continue;
    const after = found.findIndex((other) => arrivals[other]!.count < count);
    found.splice(after < 0 ? found.length : after, 0, i);
    found.length = Math.min(found.length, MAX_LISTED);
  }
  return found;
}

/** Returns by name which of its dimensions have the most values. */
async function keysOfNames(
  dictionary: SeriesDictionary,
  names: readonly number[],
  isMeant: (number: number) => boolean,
  turns: Turns,
): Promise<{ key: string; values: number }[][]> {
  const { texts, size } = dictionary;
  const bitOf = new Map(names.slice(0, NAMES_AT_ONCE).map((name, i) => [name, i]));
  /** By pair, a bit for each name that has it. */
  const seen = new Uint32Array(texts.values.length);
  const counts = names.map(() => new Map<number, number>());
  for (let number = 0; number < size; number++) {
    if (number % STEP_SERIES === 0) await patience(turns);
    const bit = bitOf.get(dictionary.nameOf(number));
    if (bit === undefined || !isMeant(number)) continue;
    for (const pair of pairsOf(dictionary, number)) {
      if (pair >= seen.length || (seen[pair]! & (1 << bit)) !== 0) continue;
      seen[pair]! |= 1 << bit;
      const key = texts.keyOf[pair]!;
      counts[bit]!.set(key, (counts[bit]!.get(key) ?? 0) + 1);
    }
  }
  return counts.map((values) =>
    [...values]
      .sort(([, a], [, b]) => b - a)
      .slice(0, MAX_KEYS_OF_NAME)
      .map(([key, count]) => ({ key: shown(texts.keys[key]!), values: count })),
  );
}

function shown(text: string): string {
  return text.length <= MAX_SHOWN_CHARACTERS ? text : `${text.slice(0, MAX_SHOWN_CHARACTERS)}…`;
}
