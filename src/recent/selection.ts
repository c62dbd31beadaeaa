/** Which series a question means, and which group each of them is in. */
import { matchesGlob } from '../aggregate/glob.ts';
import type { Chunk } from './columns.ts';
import { MAX_WHERE, type RecentQuestion, Unanswerable } from './question.ts';
import type { SeriesDictionary } from './series-dictionary.ts';
import type { Turns } from './turns.ts';

/** Groups that are told apart while counting. Any more are counted by type. */
const MAX_COUNTED_GROUPS = 65_536;
/** Series between two looks at the clock; of globs that have to be tried, fewer. */
const STEP_SERIES = 2048;
const STEP_TEXTS = 32;
/** How much of the processor's time a question may take, in milliseconds. */
const MAX_WORK_MS = 2_000;
/** Entries of a level that are in an array. */
const FIRST_LEVEL = 64;
const MAX_LEVEL = 1_048_576;
const TYPES = 3;
export const NO_GROUP = -1;
/** What a judgement of a pair consists of: a dimension in the lowest bits, and filters from these bits on. */
const SLOTS = 2 ** 8 - 1;
const BITS = 8;
const MASKS = 16;
const FILTERS = 2 ** MAX_WHERE - 1;

/** The first groups are the rest, by type. */
export const REST_GROUPS = TYPES;

export interface SelectedGroup {
  readonly type: number;
  /** Of a rest: undefined. */
  readonly name: string | undefined;
  readonly values: readonly string[];
}

export interface Selection {
  /** By number of a series: its group, or NO_GROUP. */
  readonly groupOf: Int32Array;
  readonly groups: readonly SelectedGroup[];
  /** By name and type: whether series with these may be in a group. */
  readonly named: Uint32Array;
}

/** Whether series of the chunk's type and names may be in a group. */
export function hasChunk(
  { named }: Selection,
  { type, firstName, lastName }: Pick<Chunk, 'type' | 'firstName' | 'lastName'>,
): boolean {
  const end = Math.min(named.length, TYPES * (lastName + 1));
  for (let i = TYPES * firstName + type; i < end; i += TYPES) if (named[i]! > 0) return true;
  return false;
}

/** Whether series of the name and type of that place may be in a group. */
export function isNamed({ named }: Selection, at: number): boolean {
  return named[at]! > 0;
}

/** `groupOf`: at least as long as the dictionary, to be written over. */
export async function selectSeries(
  dictionary: SeriesDictionary,
  { name, where, by }: RecentQuestion,
  groupOf: Int32Array,
  turns: Turns,
): Promise<Selection> {
  const { texts, size } = dictionary;
  const names = await matching(name, texts.names, turns);
  const judged = await judgedPairs(dictionary, where, by, turns);
  const groups = new Groups(dictionary, judged.widths);
  groupOf.fill(NO_GROUP);
  const choice = new Choice({ where, by }, judged, groups);
  for (let from = 0; from < size; from += STEP_SERIES) {
    await patience(turns);
    choice.make(dictionary, names, groupOf, from, Math.min(size, from + STEP_SERIES));
  }
  return { groupOf, groups: groups.found, named: groups.named };
}

/** Chooses series. */
class Choice {
  readonly #isAboutPairs: boolean;
  readonly #all: number;
  readonly #judged: JudgedPairs;
  readonly #groups: Groups;
  readonly #values: Int32Array;
  readonly #pairs: Int32Array;

  constructor({ where, by }: Pick<RecentQuestion, 'where' | 'by'>, judged: JudgedPairs, groups: Groups) {
    this.#isAboutPairs = where.length + by.length > 0;
    this.#all = 2 ** where.length - 1;
    this.#judged = judged;
    this.#groups = groups;
    this.#values = new Int32Array(by.length);
    this.#pairs = new Int32Array(by.length);
  }

  make(
    dictionary: SeriesDictionary,
    names: Uint8Array | undefined,
    groupOf: Int32Array,
    from: number,
    to: number,
  ): void {
    const { judgements, ranks, absent } = this.#judged;
    const [values, pairs, groups, all] = [this.#values, this.#pairs, this.#groups, this.#all];
    const { pool } = dictionary;
    for (let number = from; number < to; number++) {
      if (!dictionary.isAlive(number) || names?.[dictionary.nameOf(number)] === 0) continue;
      const at = dictionary.pairsAt(number);
      let found = absent;
      for (let i = 0; i < values.length; i++) values[i] = 0;
      for (let i = this.#isAboutPairs ? at + pool[at]! : at; i > at; i--) {
        const pair = pool[i]!;
        // It has come since the question was begun, and so has the series.
        if (pair >= judgements.length) continue;
        const judgement = judgements[pair]!;
        if (judgement === 0) continue;
        found = (found & ~(judgement >> MASKS)) | ((judgement >> BITS) & FILTERS);
        const slot = judgement & SLOTS;
        if (slot === 0) continue;
        values[slot - 1] = ranks[pair]!;
        pairs[slot - 1] = pair;
      }
      if ((found & FILTERS) === all) groupOf[number] = groups.of(number, values, pairs);
    }
  }
}

/** Lets others have their turn, if it is time. Where that is asked often, `isOver` first: an `await` makes objects. */
export async function patience(turns: Turns): Promise<void> {
  if (!turns.isOver) return;
  if (turns.isUnwanted) throw unwanted();
  if (turns.workedMs > MAX_WORK_MS)
    throw new Unanswerable(
      'too_large',
      `the question takes more than ${MAX_WORK_MS / 1000} s of processor time: ask for less`,
    );
  await turns.next();
}

/** Nobody gets to see it. */
export function unwanted(): Unanswerable {
  return new Unanswerable('busy', 'nobody waits for the answer any longer');
}

/** Returns by number whether the text matches; undefined if all do. */
async function matching(
  glob: string | undefined,
  texts: readonly string[],
  turns: Turns,
): Promise<Uint8Array | undefined> {
  if (glob === undefined || glob === '*') return undefined;
  const found = new Uint8Array(texts.length);
  for (let i = 0; i < found.length; i++) {
    if (matchesGlob(glob, texts[i]!)) found[i] = 1;
    if (i % STEP_TEXTS === 0) await patience(turns);
  }
  return found;
}

interface JudgedPairs {
  /**
   * By pair of a key and a value, from the lowest bit on: which dimension of the groups it is, from 1 on, 0 for none;
   * which filters it meets; which filters are about its key.
   */
  readonly judgements: Int32Array;
  /** By pair: which of the values of that dimension, from 1 on. */
  readonly ranks: Int32Array;
  /** By dimension: how many values there are, and one for none. */
  readonly widths: readonly number[];
  /** The filters that a series meets that has no such key. */
  readonly absent: number;
}

async function judgedPairs(
  { texts }: SeriesDictionary,
  where: RecentQuestion['where'],
  by: readonly string[],
  turns: Turns,
): Promise<JudgedPairs> {
  const length = texts.values.length;
  const judgements = new Int32Array(length);
  const ranks = new Int32Array(length);
  const widths = by.map(() => 1);
  const filterKeys = where.map(({ key }) => texts.keyNumber(key));
  const slotOf = new Uint8Array(texts.keys.length);
  for (const [i, key] of by.entries()) {
    const number = texts.keyNumber(key);
    if (number >= 0) slotOf[number] = i + 1;
  }
  for (let pair = 0; pair < length; pair++) {
    const key = texts.keyOf[pair]!;
    const slot = slotOf[key]!;
    let [bits, masks] = [0, 0];
    if (slot > 0) ranks[pair] = widths[slot - 1]!++;
    for (let i = 0; i < where.length; i++) {
      if (filterKeys[i] !== key) continue;
      masks |= 1 << i;
      if (matchesGlob(where[i]!.glob, texts.values[pair]!)) bits |= 1 << i;
    }
    judgements[pair] = slot | (bits << BITS) | (masks << MASKS);
    if (pair % STEP_TEXTS === 0) await patience(turns);
  }
  const absent = where.reduce((found, { glob }, i) => found | (matchesGlob(glob, '') ? 1 << i : 0), 0);
  return { judgements, ranks, widths, absent };
}

/** Numbers the groups, by name, type and one value after another. */
class Groups {
  readonly found: SelectedGroup[];
  readonly #dictionary: SeriesDictionary;
  /** By name and type: a number from 0 on, plus 1. */
  readonly named: Uint32Array;
  #firsts = 0;
  /** One after another: from the number of what is before and the value to a number from 0 on, at last the group. */
  readonly #levels: readonly Level[];

  constructor(dictionary: SeriesDictionary, widths: readonly number[]) {
    this.#dictionary = dictionary;
    this.named = new Uint32Array(TYPES * dictionary.texts.names.length);
    // Without a dimension to group by, name and type are the group.
    this.#levels = (widths.length === 0 ? [1] : widths).map((width) => new Level(width));
    this.found = Array.from({ length: REST_GROUPS }, (_, type) => ({ type, name: undefined, values: [] }));
  }

  /** `values`: by dimension, which of its values; 0 for a series without it, otherwise `pairs` has the pair. */
  of(number: number, values: Int32Array, pairs: Int32Array): number {
    const type = this.#dictionary.typeOf(number);
    const name = this.#dictionary.nameOf(number);
    const first = TYPES * name + type;
    // Names that have come since the question was begun belong to no window of it.
    if (first >= this.named.length) return NO_GROUP;
    let group = this.named[first]! - 1;
    if (group < 0) {
      group = this.#firsts++;
      this.named[first] = group + 1;
    }
    const last = this.#levels.length - 1;
    for (let depth = 0; depth < last; depth++) {
      const level = this.#levels[depth]!;
      const known = level.find(group, values[depth]!);
      group = known >= 0 ? known : level.add(group, values[depth]!, level.size);
    }
    const [level, value] = [this.#levels[last]!, last < values.length ? values[last]! : 0];
    const known = level.find(group, value);
    if (known >= 0) return known;
    if (this.found.length >= MAX_COUNTED_GROUPS) return type;
    return level.add(group, value, this.#make(type, name, values, pairs));
  }

  #make(type: number, name: number, values: Int32Array, pairs: Int32Array): number {
    const { texts } = this.#dictionary;
    const words = Array.from(values, (value, i) => (value === 0 ? '' : texts.values[pairs[i]!]!));
    return this.found.push({ type, name: texts.names[name]!, values: words }) - 1;
  }
}

/** A number for each two of a number and a value, in an array if it is small enough. */
class Level {
  size = 0;
  readonly #width: number;
  /** Plus 1. */
  #table = new Uint32Array(FIRST_LEVEL);
  readonly #others = new Map<number, number>();

  constructor(width: number) {
    this.#width = width;
  }

  /** Returns -1 for two that are new. */
  find(before: number, value: number): number {
    const at = before * this.#width + value;
    return at < this.#table.length ? this.#table[at]! - 1 : (this.#others.get(at) ?? -1);
  }

  add(before: number, value: number, made: number): number {
    this.size += 1;
    const at = before * this.#width + value;
    if (at >= this.#table.length && at < MAX_LEVEL && this.#others.size === 0) {
      const longer = new Uint32Array(Math.min(MAX_LEVEL, Math.max(at + 1, 2 * this.#table.length)));
      longer.set(this.#table);
      this.#table = longer;
    }
    if (at < this.#table.length) this.#table[at] = made + 1;
    else this.#others.set(at, made);
    return made;
  }
}
