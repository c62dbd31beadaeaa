/**
 * Which names a sink gets (`SINK_<ID>_NAMES`), and from which window on. It is up to the start of a window alone, so
 * whoever writes or verifies a window, and whenever, comes to the same points. Pure. All times are in ms since 1970.
 */
import type { ClosedWindow } from '../aggregate/window.ts';
import type { Checkpoint, NameChoice } from '../bus/kv/checkpoints.ts';
import { isTaken, nameRules } from '../decode/shaping-rules.ts';
import type { WindowRange } from '../sink/contract.ts';

/** How many choices a checkpoint remembers. Of windows before the oldest of them, nobody knows which names they got. */
export const MAX_CHOICES = 20;
/** How much they may take as JSON, in bytes, unless the latest alone takes more: checkpoints are saved often. */
export const MAX_CHOICES_BYTES = 16 * 1024;
/** For how many names at most it is kept whether they are chosen; then all are forgotten. */
const MAX_KEPT_NAMES = 20_000;

type Spanned = Pick<ClosedWindow, 'start' | 'windowMs'>;

/** Globs, as in the setting; empty: all names. */
export type ChosenNames = readonly string[];

export class NameChoices {
  /** Ascending by start. Empty: always all names. */
  readonly list: readonly NameChoice[];
  readonly #parts: readonly Part[];
  readonly #matchers = new Map<ChosenNames, (name: string) => boolean>();

  constructor(list: readonly NameChoice[]) {
    this.list = list;
    this.#parts = list.map(({ slice }) => partOf(slice));
  }

  /** Returns what was chosen for the window; for windows of which that is not known, the first that is known. */
  of(window: Spanned): ChosenNames {
    return (this.#latest(window) ?? this.#first(window.start / window.windowMs))?.names ?? ALL_NAMES;
  }

  /** Whether it is still known what was chosen for the window. */
  knows(window: Spanned): boolean {
    return this.list.length === 0 || this.#latest(window) !== undefined;
  }

  /** Of windows before this time, nobody knows any longer what was chosen, unless the sink began later. */
  get knownFrom(): number {
    if (this.list.length === 0) return Number.NEGATIVE_INFINITY;
    const parts = this.#parts.reduce((all, { of }) => leastCommonMultiple(all, of), 1);
    const ofAll = this.list.find(({ slice }) => slice === undefined)?.from ?? Number.POSITIVE_INFINITY;
    // Then it may be known earlier, and whoever asks is on the safe side.
    if (parts > MAX_PARTS) return ofAll;
    const firstOf = (number: number) => this.#first(number)?.from ?? Number.POSITIVE_INFINITY;
    const first = Array.from({ length: parts }, (_, number) => firstOf(number));
    return first.reduce((latest, one) => Math.max(latest, one));
  }

  /** Returns the indices of the points that are chosen; undefined if all are. */
  pick(window: ClosedWindow): Uint32Array | undefined {
    const names = this.of(window);
    return names.length === 0 ? undefined : indicesOf(window, this.#matcherOf(names));
  }

  /** Whether the sink gets this name in the window. */
  gives(name: string, window: Spanned): boolean {
    return this.#matcherOf(this.of(window))(name);
  }

  /** Returns a function that says whether the sink gets a name in all windows of the range, as far as is known. */
  givenIn({ from, to }: WindowRange): (name: string) => boolean {
    // Of windows before the first choice of their slice, that one is what is known.
    const isFirst = ({ slice }: NameChoice, at: number) =>
      !this.list.slice(0, at).some((earlier) => earlier.slice === undefined || earlier.slice === slice);
    const begun = this.list.filter((choice, at) => choice.from < to || isFirst(choice, at));
    const inForce = holdingFrom(begun, from);
    return (name) => inForce.every(({ names }) => this.#matcherOf(names)(name));
  }

  /** Returns the choice that holds for the window; undefined if it is not known. */
  #latest({ start, windowMs }: Spanned): NameChoice | undefined {
    return this.list.findLast(({ from }, i) => from <= start && isIn(this.#parts[i]!, start / windowMs));
  }

  /** Returns the oldest choice about the windows with this number, or its like. */
  #first(number: number): NameChoice | undefined {
    return this.list.find((_, i) => isIn(this.#parts[i]!, number));
  }

  #matcherOf(names: ChosenNames): (name: string) => boolean {
    const known = this.#matchers.get(names) ?? nameMatcher(names);
    this.#matchers.set(names, known);
    return known;
  }
}

const ALL_NAMES: ChosenNames = [];

function indicesOf(window: ClosedWindow, isChosen: (name: string) => boolean): Uint32Array {
  const chosen = new Uint32Array(window.size);
  let count = 0;
  for (let index = 0; index < window.size; index++) {
    if (isChosen(window.nameOf(index))) {
      chosen[count] = index;
      count += 1;
    }
  }
  // Parts of it are sent to another thread, and a view takes all that it is a view of along.
  return chosen.slice(0, count);
}

/** Returns a function that says whether a name is chosen. It remembers what it said. */
export function nameMatcher(names: ChosenNames = ALL_NAMES): (name: string) => boolean {
  if (names.length === 0) return () => true;
  const rules = nameRules(names);
  const known = new Map<string, boolean>();
  return (name) => {
    let chosen = known.get(name);
    if (chosen === undefined) {
      chosen = isTaken(rules, name);
      if (known.size >= MAX_KEPT_NAMES) known.clear();
      known.set(name, chosen);
    }
    return chosen;
  };
}

/** Windows of which the number (their start in windows since 1970) leaves the remainder `index`, of `of`. */
interface Part {
  readonly index: number;
  readonly of: number;
}

/** More than this many are not told apart. */
const MAX_PARTS = 10_000;

/** `slice`: for example 0/2; undefined: all windows. */
function partOf(slice: string | undefined): Part {
  const [index = 0, of = 1] = slice?.split('/').map(Number) ?? [];
  return { index, of };
}

function isIn({ index, of }: Part, number: number): boolean {
  return ((number % of) + of) % of === index;
}

/** Returns the windows that are in both; undefined if there are none. */
function intersection(one: Part, other: Part): Part | undefined {
  const of = leastCommonMultiple(one.of, other.of);
  for (let index = one.index; index < of; index += one.of) if (isIn(other, index)) return { index, of };
  return undefined;
}

function leastCommonMultiple(one: number, other: number): number {
  let [a, b] = [one, other];
  while (b > 0) [a, b] = [b, a % b];
  return (one / a) * other;
}

type Position = Pick<Checkpoint, 'next' | 'began' | 'choices'>;

/** What is known when a sink begins, or resumes. */
export interface Beginning {
  /** The names that the setting gives it now. */
  readonly names: ChosenNames;
  /** Start of its first window, if it has no checkpoint. */
  readonly from: number;
  /** Start of the first window that the stream holds whole. */
  readonly whole: number;
}

/**
 * Returns what a sink gets: what its checkpoint says, and from the first window on that the checkpoint does not
 * confirm, what the setting says now. `position`: as it is stored, whatever was rolled back since; undefined if it has
 * none.
 */
export function choicesOf(
  position: Position | undefined,
  { names, from, whole }: Beginning,
): readonly NameChoice[] {
  const now = canonical(names);
  if (position === undefined) return now.length === 0 ? [] : [{ from, names: now }];
  const { choices: known = [], next, began } = position;
  if (isLatestChoice(known, now)) return bounded(known, whole, began);
  const before = known.length > 0 ? known : [{ from: began ?? 0, names: ALL_NAMES }];
  // What another slice has chosen later was for windows that are written again.
  const kept = before.filter((choice) => choice.from < next);
  return bounded([...kept, { from: next, names: now }], whole, began);
}

/** Returns what each sink gets, by its id. One that has always got all names has no entry. */
export function namesOf(
  choices: readonly (readonly [sink: string, list: readonly NameChoice[]])[],
): ReadonlyMap<string, NameChoices> {
  return new Map(
    choices.filter(([, list]) => list.length > 0).map(([sink, list]) => [sink, new NameChoices(list)]),
  );
}

function canonical(names: ChosenNames): ChosenNames {
  return [...new Set(names)].sort();
}

/** Whether this is what holds at the end, for all slices. `list`: see `Checkpoint.choices`. */
export function isLatestChoice(list: readonly NameChoice[] | undefined, names: ChosenNames): boolean {
  const now = canonical(names);
  return latestOf(list ?? []).every((latest) => isSameChoice(latest, now));
}

function isSameChoice(one: ChosenNames, other: ChosenNames): boolean {
  return one.length === other.length && one.every((name, i) => name === other[i]);
}

/** Returns what holds at the end: one, or several if slices may differ. */
function latestOf(list: readonly NameChoice[]): ChosenNames[] {
  const common = list.findLastIndex(({ slice }) => slice === undefined);
  const bySlice = new Map<string | undefined, ChosenNames>();
  if (common >= 0) bySlice.set(undefined, list[common]!.names);
  for (const { slice, names } of list.slice(common + 1)) bySlice.set(slice, names);
  return bySlice.size === 0 ? [ALL_NAMES] : [...bySlice.values()];
}

/** Returns the choices without those that hold for no window from `from` on, since later ones took their place. */
export function holdingFrom(list: readonly NameChoice[], from: number): NameChoice[] {
  const isOver = ({ slice }: NameChoice, at: number) =>
    list.some(
      (later, i) => i > at && later.from <= from && (later.slice === undefined || later.slice === slice),
    );
  return list.filter((choice, at) => !isOver(choice, at));
}

/**
 * Forgets what was chosen only for windows that the stream no longer holds, and the oldest of too many. The last one is
 * of all slices, so none is left without any. `began`: nobody asks for earlier windows.
 */
function bounded(list: readonly NameChoice[], whole: number, began = 0): NameChoice[] {
  const kept = withinBytes(holdingFrom(list, whole).slice(-MAX_CHOICES));
  // All names for as long as anybody can tell: as if there had never been another choice.
  const isPlain = kept.every(({ names }) => names.length === 0);
  return isPlain && new NameChoices(kept).knownFrom <= Math.max(whole, began) ? [] : kept;
}

function withinBytes(list: NameChoice[]): NameChoice[] {
  let first = list.length;
  let bytes = 0;
  while (first > 0) {
    bytes += Buffer.byteLength(JSON.stringify(list[first - 1])) + 1;
    if (bytes > MAX_CHOICES_BYTES && first < list.length) break;
    first -= 1;
  }
  return list.slice(first);
}

/**
 * Returns the choices of all slices of a slicing as one list, in which each is marked that is of one slice only. If all
 * agree at the end, one of all slices says so. `slices`: in their order.
 */
export function mergeChoices(slices: readonly Position[]): NameChoice[] {
  if (slices.every(({ choices = [] }) => choices.length === 0)) return [];
  const lists = slices.map(({ choices = [], began = 0 }) =>
    choices.length > 0 ? choices : [{ from: began, names: ALL_NAMES }],
  );
  const [first = [], ...others] = lists.map((list) => list.map((choice) => JSON.stringify(choice)));
  const shared = new Set(first.filter((text) => others.every((list) => list.includes(text))));
  const all = lists.flatMap((list, index) =>
    list.flatMap((choice): NameChoice[] => {
      if (shared.has(JSON.stringify(choice))) return index === 0 ? [choice] : [];
      // What it says of the windows of others, these may know better.
      const part = intersection(partOf(choice.slice), { index, of: lists.length });
      return part === undefined ? [] : [{ ...choice, slice: `${part.index}/${part.of}` }];
    }),
  );
  const ascending = all.sort((a, b) => a.from - b.from);
  const [now = ALL_NAMES] = latestOf(lists[0]!);
  if (!lists.every((list) => isLatestChoice(list, now))) return ascending;
  const from = Math.max(...lists.map((list) => list.at(-1)!.from));
  return [...ascending.filter((choice) => choice.from < from), { from, names: now }];
}
