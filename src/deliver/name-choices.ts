/**
 * Which names a sink gets (`SINK_<ID>_NAMES`), and from which window on. It is up to the start of a window alone, so
 * whoever writes or verifies a window, and whenever, comes to the same points. Pure. All times are in ms since 1970.
 */
import type { ClosedWindow } from '../aggregate/window.ts';
import type { Checkpoint, NameChoice } from '../bus/kv/checkpoints.ts';
import { isTaken, nameRules } from '../decode/shaping-rules.ts';

/** How many choices a checkpoint remembers. Of windows before the oldest of them, nobody knows which names they got. */
export const MAX_CHOICES = 20;
/** For how many names at most it is kept whether they are chosen; then all are forgotten. */
const MAX_KEPT_NAMES = 20_000;

type Spanned = Pick<ClosedWindow, 'start' | 'windowMs'>;

/** Globs, as in the setting; empty: all names. */
export type ChosenNames = readonly string[];

export class NameChoices {
  /** Ascending by start. Empty: always all names. */
  readonly list: readonly NameChoice[];
  readonly #matchers = new Map<ChosenNames, (name: string) => boolean>();

  constructor(list: readonly NameChoice[]) {
    this.list = list;
  }

  /** Returns what was chosen for the window; for windows before the first choice, what that one says. */
  of({ start, windowMs }: Spanned): ChosenNames {
    const own = this.list.filter(({ slice }) => slice === undefined || isOfSlice(start, windowMs, slice));
    const choice = own.findLast(({ from }) => from <= start) ?? own[0];
    return choice?.names ?? ALL_NAMES;
  }

  /** Of windows before this time, nobody knows any longer what was chosen, unless the sink began later. */
  get knownFrom(): number {
    const firstOf = (slice: string | undefined) =>
      this.list.find((choice) => choice.slice === undefined || choice.slice === slice)?.from;
    const known = [...new Set(this.list.map(({ slice }) => slice))].map(firstOf);
    return Math.max(Number.NEGATIVE_INFINITY, ...known.flatMap((from) => from ?? []));
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

/** `slice`: for example 0/2. */
function isOfSlice(start: number, windowMs: number, slice: string): boolean {
  const [index, of] = slice.split('/').map(Number);
  const number = start / windowMs;
  return ((number % of!) + of!) % of! === index;
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
  const { choices: known = [], next } = position;
  if (isLatestChoice(known, now)) return bounded(known, whole);
  const before = known.length > 0 ? known : [{ from: position.began ?? 0, names: ALL_NAMES }];
  // What another slice has chosen later was for windows that are written again.
  const kept = before.filter((choice) => choice.from < next);
  return bounded([...kept, { from: next, names: now }], whole);
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

/** Returns what holds at the end: one for each slice, if they differ. */
function latestOf(list: readonly NameChoice[]): ChosenNames[] {
  const common = list.findLastIndex(({ slice }) => slice === undefined);
  const bySlice = new Map<string | undefined, ChosenNames>();
  if (common >= 0) bySlice.set(undefined, list[common]!.names);
  for (const { slice, names } of list.slice(common + 1)) bySlice.set(slice, names);
  return bySlice.size === 0 ? [ALL_NAMES] : [...bySlice.values()];
}

/** Forgets what was chosen only for windows that the stream no longer holds, and the oldest of too many. */
function bounded(list: readonly NameChoice[], whole: number): NameChoice[] {
  const isOver = ({ slice }: NameChoice, at: number) =>
    list.some(
      (later, i) => i > at && later.from <= whole && (later.slice === undefined || later.slice === slice),
    );
  const kept = list.filter((choice, at) => !isOver(choice, at)).slice(-MAX_CHOICES);
  // All names for as long as anybody can tell: as if there had never been another choice.
  const isPlain = kept.every(({ names }) => names.length === 0) && list.length <= MAX_CHOICES;
  return isPlain ? [] : kept;
}

/**
 * Returns the choices of all slices of a slicing as one list, in which each is marked that is of one slice only.
 * `slices`: in their order.
 */
export function mergeChoices(slices: readonly Position[]): NameChoice[] {
  const lists = slices.map(({ choices = [] }) => choices);
  const [first = []] = lists;
  const text = JSON.stringify(first);
  if (lists.every((list) => JSON.stringify(list) === text)) return [...first];
  const marked = slices.flatMap(({ choices, began = 0 }, index) => {
    const list = choices ?? [{ from: began, names: ALL_NAMES }];
    return list.map((choice): NameChoice => ({ slice: `${index}/${slices.length}`, ...choice }));
  });
  return marked.sort((a, b) => a.from - b.from).slice(-MAX_CHOICES * slices.length);
}
