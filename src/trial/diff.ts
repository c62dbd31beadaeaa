/** Compares two trials: which stores changed by more than noise. Pure. */
import { amount, counted, percent } from '../base/number-format.ts';
import { FORMAT, type StoreResult, type TrialResult } from './result.ts';
import { believed, mannWhitneyP, medianOf, squaresOf, studentP, weightedMedian } from './statistics.ts';

/** Of the figures that are shown, at most this share is expected to be chance. */
const FALSE_DISCOVERY_RATE = 0.01;
/** How likely it is, at most, that any store is named by chance. */
const FALSE_ALARMS = 0.001;
/** Of a store that is named for one kind of its figures, how likely a change of another kind is told by chance. */
const FALSE_ALARMS_OF_NAMED = 0.05;
/** A smaller change is not reported, however sure: two runs on one machine differ by as much. */
const MIN_CHANGE = 0.25;
/** Nor is one by fewer milliseconds. */
const MIN_CHANGE_MS = 0.2;
/** Fewer rounds on either side say nothing. */
const MIN_ROUNDS = 4;
/** A store is not named for a single figure: of many, one may be chance after all. */
const MIN_FIGURES = 2;
/** Of answers: the middle of fewer figures says little, as a plan or a cache may change one. */
const MIN_ANSWERS = 4;
/** With fewer stores, nobody can tell whether the store changed or what all of them share. */
const MIN_STORES_FOR_DRIFT = 3;
/** What figures are about. Each kind is disturbed in its own way. */
const KINDS = ['answers', 'answers to several clients', 'ingest', 'freshness'] as const;
type Kind = (typeof KINDS)[number];

/**
 * By how much a store is off from one trial to the next though nothing changed (the standard deviation of the logarithm
 * of its middle figure), by kind, and how many stores of these two trials that knowledge is worth. The fastest of many
 * answers to one client hardly depends on what else the machine does; all else does.
 */
const USUAL_NOISE: Readonly<Record<Kind, number>> = {
  answers: 0.05,
  'answers to several clients': 0.2,
  ingest: 0.3,
  freshness: 0.5,
};
const USUAL_NOISE_WORTH = 12;
/** A busy machine makes the same store take writes several times as slowly as before: that alone names none. */
const NAMING_KINDS: readonly Kind[] = ['answers', 'answers to several clients'];
/** A machine that is busier, or less so, changes the stores by different amounts: by this share of the change. */
const DRIFT_NOISE = 0.15;

export const TEST_IN_WORDS =
  `Test: a store is named if its middle change (weighted median over its figures of one kind) differs from that of the other stores by more than ` +
  `trials differ anyway: Student's t, moderated (Smyth 2004). The noise is what the other stores' changes scatter by, what the stores scatter by from the first half ` +
  `of each trial's rounds to the second, where nothing changed, what is usual (${KINDS.map((kind) => `${kind} ${percent(USUAL_NOISE[kind])}`).join(', ')}; worth ${USUAL_NOISE_WORTH} stores), and ${percent(DRIFT_NOISE)} of what they have in common. At most ` +
  `${percent(FALSE_ALARMS)} false alarms for all stores and kinds together (Bonferroni), and only changes from ${percent(MIN_CHANGE)} on, between any half of the one trial and ` +
  `any half of the other. Of three stores or more, what the others have in common is taken out first: it is the machine, or this program. Of two or three, a change must differ ` +
  `from that of each other store. Ingest and freshness name no store alone. Kinds: the fastest answers to one client, the fastest rounds with several, points ` +
  `a second, and freshness; of answers, from ${MIN_ANSWERS} figures on. Figures of a named store are shown if their rounds differ by a two-sided Mann-Whitney U test, exact, with the false discovery rate ` +
  `held at ${percent(FALSE_DISCOVERY_RATE)} (Benjamini-Hochberg), by ${percent(MIN_CHANGE)} and, of latencies, ${MIN_CHANGE_MS} ms.`;

export interface FigureChange {
  readonly store: string;
  readonly what: string;
  readonly unit: 'ms' | 'points/s';
  /** With what all stores have in common. */
  readonly before: number;
  readonly after: number;
  readonly p: number;
  /** Undefined if it is no more than noise. */
  readonly change: 'better' | 'worse' | undefined;
}

export interface TrialDifference {
  readonly figures: readonly FigureChange[];
  /** What changed without a test: answers, rows, stores, versions, traffic. */
  readonly facts: readonly string[];
  /** What all stores have in common. No store changed for that. */
  readonly machine: string | undefined;
  /** By store and kind of its figures. */
  readonly shifts: readonly Shift[];
  /** The stores of which something changed by more than noise. */
  readonly changed: readonly string[];
  readonly verdict: readonly string[];
  /** Whether figures were compared, and nothing changed. */
  readonly isSame: boolean;
}

/** How a store changed, in figures of one kind. */
export interface Shift {
  readonly store: string;
  readonly kind: Kind;
  readonly figures: number;
  /** How many times as slow the store is, less what the others have in common. */
  readonly slowdown: number;
  /** What such changes scatter by, as a factor, if nothing changed. */
  readonly noise: number;
  readonly p: number;
  readonly isBeyondNoise: boolean;
  /** Large, but of a kind that names no store alone. */
  readonly isDoubtful: boolean;
}

interface Figure {
  readonly kind: Kind;
  readonly what: string;
  readonly unit: 'ms' | 'points/s';
  readonly rounds: readonly number[];
  /** What is compared between trials, and between the halves of one, in its unit; and how much it is worth. */
  readonly best: number;
  readonly halves: readonly [number, number];
  readonly weight: number;
}

function figuresOf({ ingest, questions, freshness }: StoreResult): Figure[] {
  const figures: Figure[] = [];
  for (const { writers, rounds, pointsPerSecond } of ingest?.rungs ?? []) {
    const what = `ingest, ${writersText(writers)}`;
    const halves = halvesOf(rounds, medianOf);
    figures.push({
      kind: 'ingest',
      what,
      unit: 'points/s',
      rounds,
      best: pointsPerSecond,
      halves,
      weight: 1,
    });
  }
  for (const { id, asked } of questions) {
    for (const { clients, answers, rounds, fastest = rounds } of asked.kind === 'equal' ? asked.hot : []) {
      const isOne = clients === 1;
      // Whatever else goes on makes an answer slower, never faster (Chen and Revels, 2016). Of several clients, one is
      // always first in the queue: for them, the best is that of whole rounds.
      const times = isOne ? fastest : rounds;
      figures.push({
        kind: isOne ? 'answers' : 'answers to several clients',
        what: `${id}, ${counted(clients, 'client')}`,
        unit: 'ms',
        rounds,
        best: Math.min(...times),
        halves: halvesOf(times, (half) => Math.min(...half)),
        weight: Math.log1p(answers),
      });
    }
  }
  if (freshness !== null) {
    const { rounds } = freshness;
    const [best, halves] = [medianOf(rounds), halvesOf(rounds, medianOf)];
    figures.push({ kind: 'freshness', what: 'freshness', unit: 'ms', rounds, best, halves, weight: 1 });
  }
  return figures;
}

function halvesOf(
  rounds: readonly number[],
  best: (half: readonly number[]) => number,
): readonly [number, number] {
  const middle = Math.floor(rounds.length / 2);
  return [best(rounds.slice(0, middle)), best(rounds.slice(middle))];
}

export function writersText(writers: number): string {
  return counted(writers, 'writer');
}

export function diffOf(a: TrialResult, b: TrialResult): TrialDifference {
  const facts: string[] = trafficFacts(a, b);
  const compared: Pair[] = [];
  for (const after of b.stores) {
    const before = a.stores.find(({ id }) => id === after.id);
    if (before === undefined) {
      facts.push(`${after.id} is only in the second trial.`);
      continue;
    }
    facts.push(...storeFacts(before, after));
    const known = new Map(figuresOf(before).map((figure) => [figure.what, figure]));
    for (const figure of figuresOf(after)) {
      const old = known.get(figure.what);
      if (old === undefined || Math.min(old.rounds.length, figure.rounds.length) < MIN_ROUNDS) continue;
      compared.push({ store: after.id, before: old, after: figure });
    }
  }
  for (const { id } of a.stores)
    if (!b.stores.some((store) => store.id === id)) facts.push(`${id} is only in the first trial.`);
  const drifts = new Map(KINDS.map((kind) => [kind, driftOf(compared, kind)]));
  const shifts = shiftsOf(compared);
  const tested = compared.map((pair) => testedPair(pair, drifts.get(pair.after.kind)!));
  const sure = believed(
    tested.map(({ p }) => p),
    FALSE_DISCOVERY_RATE,
  );
  const figures = tested.map(({ isLarge, direction, kind, ...figure }, index): FigureChange => {
    const isNamed = shifts.some(
      (shift) =>
        shift.isBeyondNoise &&
        shift.store === figure.store &&
        shift.kind === kind &&
        shift.slowdown > 1 === (direction === 'worse'),
    );
    return { ...figure, change: sure[index] && isLarge && isNamed ? direction : undefined };
  });
  const changed = namedStores(figures, shifts);
  const isSame = figures.length > 0 && changed.length === 0 && facts.length === 0;
  const machine = machineInWords(drifts);
  return { figures, facts, machine, shifts, changed, verdict: diffVerdict(figures, facts, shifts), isSame };
}

/** A figure of both trials. */
interface Pair {
  readonly store: string;
  readonly before: Figure;
  readonly after: Figure;
}

/** Returns the logarithm of how many times as slow the second one is. */
function slowdownOf(unit: Figure['unit'], before: number, after: number): number {
  if (unit === 'points/s') return Math.log(before / after);
  return Math.log(Math.max(after, MIN_CHANGE_MS) / Math.max(before, MIN_CHANGE_MS));
}

/** Returns the middle change of each store, in logarithms. */
function middleChanges(
  pairs: readonly Pair[],
  change: (pair: Pair) => number = ({ before, after }) => slowdownOf(after.unit, before.best, after.best),
): Map<string, number> {
  const middleOf = (own: readonly Pair[]) =>
    weightedMedian(
      own.map((pair) => ({ value: change(pair), weight: Math.min(pair.before.weight, pair.after.weight) })),
    );
  const byStore = Map.groupBy(pairs, ({ store }) => store);
  return new Map([...byStore].map(([store, own]) => [store, middleOf(own)]));
}

/** Returns those of stores that have enough of them. */
function ofKind(pairs: readonly Pair[], kind: Kind): readonly Pair[] {
  const enough = kind === 'ingest' || kind === 'freshness' ? 1 : MIN_ANSWERS;
  const byStore = Map.groupBy(
    pairs.filter(({ after }) => after.kind === kind),
    ({ store }) => store,
  );
  return [...byStore.values()].filter((own) => own.length >= enough).flat();
}

/** Returns how many times as slow all stores are together, as far as that can be told from what one of them did. */
function driftOf(pairs: readonly Pair[], kind: Kind): number {
  const changes = [...middleChanges(ofKind(pairs, kind)).values()];
  return changes.length < MIN_STORES_FOR_DRIFT ? 1 : Math.exp(medianOf(changes));
}

function machineInWords(drifts: ReadonlyMap<Kind, number>): string | undefined {
  const drift = drifts.get('answers')!;
  if (Math.max(drift, 1 / drift) < 1 + MIN_CHANGE) return undefined;
  const how = drift > 1 ? `${amount(drift)} times as slow` : `${amount(1 / drift)} times as fast`;
  return `All stores together were ${how} in the second trial: the machine, or this program. That is no change of a store, and is taken out.`;
}

/** Tests the middle change of each store against those of the others. */
function shiftsOf(pairs: readonly Pair[]): Shift[] {
  const stores = new Set(pairs.map(({ store }) => store)).size;
  const all = KINDS.flatMap((kind) => {
    const own = ofKind(pairs, kind);
    const changes = middleChanges(own);
    // Of so few of the stores, nobody could tell what is the machine.
    if (changes.size < Math.min(stores, MIN_STORES_FOR_DRIFT)) return [];
    const within = withinTrials(own, changes.size);
    // What the fastest of few answers feels of a busy machine, whole rounds of the others feel more.
    const rounds = middleChanges(own, ({ before, after }) =>
      slowdownOf(after.unit, medianOf(before.rounds), medianOf(after.rounds)),
    );
    const ofHalves = HALVES.map(([before, after]) =>
      middleChanges(own, (pair) =>
        slowdownOf(pair.after.unit, pair.before.halves[before], pair.after.halves[after]),
      ),
    );
    return [...changes.keys()].map((store) => {
      const figures = own.filter((pair) => pair.store === store).length;
      const least = ofHalves.map((half) => shiftOf(store, half)).reduce(nearerToZero);
      return { store, kind, figures, least, ...judged(store, changes, rounds, within, USUAL_NOISE[kind]) };
    });
  });
  const isLarge = ({ shift, least }: (typeof all)[number]) =>
    Math.abs(nearerToZero(shift, least)) >= Math.log(1 + MIN_CHANGE);
  const large = all.filter(isLarge);
  const isNaming = ({ kind, p }: (typeof all)[number]) =>
    NAMING_KINDS.includes(kind) && p * all.length < FALSE_ALARMS;
  const named = new Set(large.filter(isNaming).map(({ store }) => store));
  const told = new Set(large.filter(({ store, p }) => named.has(store) && p < FALSE_ALARMS_OF_NAMED));
  return all.map((one) => {
    const { store, kind, figures, shift, noise, p } = one;
    return {
      ...{ store, kind, figures, p },
      slowdown: Math.exp(shift),
      noise: Math.exp(noise),
      isBeyondNoise: told.has(one),
      isDoubtful:
        large.includes(one) && !told.has(one) && p < FALSE_ALARMS_OF_NAMED && !NAMING_KINDS.includes(kind),
    };
  });
}

/** Each half of the first trial, with each of the second: what disturbs a trial for a while is not in all of them. */
const HALVES = [
  [0, 0],
  [0, 1],
  [1, 0],
  [1, 1],
] as const;

/** Of two changes in one direction, the smaller one; else none. */
function nearerToZero(one: number, other: number): number {
  if (one * other <= 0) return 0;
  return Math.abs(one) < Math.abs(other) ? one : other;
}

/** Returns what is left of a store's change without what it has in common with the others. */
function shiftOf(store: string, changes: ReadonlyMap<string, number>): number {
  const change = changes.get(store)!;
  const others = [...changes].filter(([other]) => other !== store).map(([, value]) => value);
  if (others.length === 0) return change;
  if (others.length > 2) return change - medianOf(others);
  // One of so few may be the one that changed: then what is left is what differs from each of them.
  const shifts = others.map((other) => change - other);
  return (others.length === 1 ? [change, ...shifts] : shifts).reduce(nearerToZero);
}

/** A sum of squares, and how many independent values are in it. */
interface Scatter {
  readonly squares: number;
  readonly freedom: number;
}

/** What the stores scatter by from the first half of a trial's rounds to the second: nothing changed there. */
function withinTrials(pairs: readonly Pair[], stores: number): Scatter {
  const halves = (['before', 'after'] as const).map((side) => {
    const changes = middleChanges(pairs, (pair) => slowdownOf(pair[side].unit, ...pair[side].halves));
    return scatterOf([...changes.values()], stores >= MIN_STORES_FOR_DRIFT);
  });
  return {
    squares: halves.reduce((sum, { squares }) => sum + squares, 0),
    freedom: halves.reduce((sum, { freedom }) => sum + freedom, 0),
  };
}

/** `hasDrift`: whether what they have in common is no scatter. */
function scatterOf(values: readonly number[], hasDrift: boolean): Scatter {
  if (!hasDrift)
    return { squares: values.reduce((sum, value) => sum + value ** 2, 0), freedom: values.length };
  return { squares: squaresOf(values), freedom: Math.max(0, values.length - 1) };
}

/** The moderated t: what these trials say of the noise between them, and what is usual, each by what it is worth. */
function judged(
  store: string,
  changes: ReadonlyMap<string, number>,
  rounds: ReadonlyMap<string, number>,
  within: Scatter,
  usual: number,
) {
  const others = [...changes].filter(([other]) => other !== store).map(([, value]) => value);
  const count = others.length;
  const shift = shiftOf(store, changes);
  const between = scatterOf(others, true);
  const freedom = USUAL_NOISE_WORTH + between.freedom + within.freedom;
  const squares = USUAL_NOISE_WORTH * usual ** 2 + between.squares + within.squares;
  const ofOthers = [...rounds].filter(([other]) => other !== store).map(([, value]) => value);
  const drift =
    count === 0 ? 0 : DRIFT_NOISE * Math.max(Math.abs(medianOf(others)), Math.abs(medianOf(ofOthers)));
  const noise = Math.sqrt((squares / freedom) * (count === 0 ? 1 : 1 + 1 / count) + drift ** 2);
  return { shift, noise, p: studentP(shift / noise, freedom) };
}

function testedPair({ store, before: old, after: figure }: Pair, drift: number) {
  const { kind, what, unit } = figure;
  const factor = unit === 'ms' ? drift : 1 / drift;
  const expected = old.rounds.map((value) => value * factor);
  const [before, after] = [medianOf(expected), medianOf(figure.rounds)];
  const ratio = Math.max(before, after) / Math.min(before, after);
  const isLarge = ratio >= 1 + MIN_CHANGE && (unit !== 'ms' || Math.abs(after - before) >= MIN_CHANGE_MS);
  const direction = after > before === (unit === 'ms') ? ('worse' as const) : ('better' as const);
  return {
    store,
    kind,
    what,
    unit,
    before,
    after,
    p: mannWhitneyP(expected, figure.rounds),
    isLarge,
    direction,
  };
}

/** Returns the stores that changed beyond noise, in enough figures. */
function namedStores(figures: readonly FigureChange[], shifts: readonly Shift[]): string[] {
  const named = shifts.filter(({ isBeyondNoise }) => isBeyondNoise).map(({ store }) => store);
  const ofStore = (store: string) => figures.filter((figure) => figure.store === store).length;
  return [...new Set(named)].filter((store) => ofStore(store) >= MIN_FIGURES);
}

function trafficFacts(a: TrialResult, b: TrialResult): string[] {
  const facts: string[] = [];
  if (
    a.traffic.from !== b.traffic.from ||
    a.traffic.to !== b.traffic.to ||
    a.traffic.points !== b.traffic.points
  )
    facts.push(
      `The traffic is not the same: ${counted(a.traffic.points, 'point')} from ${a.traffic.from}, then ${amount(b.traffic.points)} from ${b.traffic.from}.`,
    );
  if (a.secondsEach !== b.secondsEach)
    facts.push(`The times are not the same: ${a.secondsEach} s each, then ${b.secondsEach} s.`);
  if (a.machine.cpu !== b.machine.cpu || a.machine.cores !== b.machine.cores)
    facts.push(
      `The machines are not the same: ${a.machine.cores} cores of ${a.machine.cpu}, then ${b.machine.cores} of ${b.machine.cpu}.`,
    );
  if (a.program.version !== b.program.version)
    facts.push(`metrics-fanout was ${a.program.version}, then ${b.program.version}.`);
  return facts;
}

function storeFacts(before: StoreResult, after: StoreResult): string[] {
  const facts: string[] = [];
  if (before.version !== after.version)
    facts.push(
      `${after.id} was ${before.version ?? 'of unknown version'}, then ${after.version ?? 'of unknown version'}.`,
    );
  for (const { id, asked } of after.questions) {
    const was = before.questions.find((question) => question.id === id)?.asked;
    if (was === undefined || was.kind === asked.kind) continue;
    facts.push(`${after.id}, ${id}: was ${KIND_TEXTS[was.kind]}, then ${KIND_TEXTS[asked.kind]}.`);
  }
  const wrong = ({ proof }: StoreResult) => proof && proof.missing + proof.extra + proof.different;
  if (wrong(before) !== wrong(after))
    facts.push(`${after.id}: ${wrong(before) ?? 'unknown'} wrong rows, then ${wrong(after) ?? 'unknown'}.`);
  return facts;
}

const KIND_TEXTS = {
  not_asked: 'not asked',
  failed: 'without an answer',
  different: 'answered wrongly',
  equal: 'answered rightly',
} as const;

function diffVerdict(
  figures: readonly FigureChange[],
  facts: readonly string[],
  shifts: readonly Shift[],
): string[] {
  if (figures.length === 0) return [NOTHING_COMPARED];
  const stores = [...new Set(figures.map(({ store }) => store))];
  const changed = namedStores(figures, shifts);
  const sentences = changed.map((store) => {
    const own = shifts.filter((shift) => shift.store === store && shift.isBeyondNoise);
    const parts = own.map(({ kind, slowdown }) => {
      const how =
        slowdown > 1 ? `${amount(slowdown)} times as slow` : `${amount(1 / slowdown)} times as fast`;
      return `${kind} ${how}`;
    });
    return `${store} changed: ${parts.join(', ')}, in the middle.`;
  });
  const doubts = shifts.flatMap(({ store, kind, slowdown, isDoubtful }) => {
    const how = slowdown > 1 ? `${amount(slowdown)} times as slow` : `${amount(1 / slowdown)} times as fast`;
    return isDoubtful ? [`In doubt: ${kind} of ${store}, ${how}. Run both trials again.`] : [];
  });
  const same = stores.filter((store) => !changed.includes(store));
  if (changed.length === 0) {
    const nothing = facts.length === 0 ? 'Nothing changed' : 'No figure changed';
    const sure = doubts.length === 0 ? 'by more than noise' : 'beyond doubt';
    return [`${nothing} ${sure}: ${counted(figures.length, 'figure')} of ${stores.join(', ')}.`, ...doubts];
  }
  return [...sentences, ...doubts, ...(same.length > 0 ? [`No more than noise: ${same.join(', ')}.`] : [])];
}

const NOTHING_COMPARED = 'There is no figure that both trials measured often enough to compare.';

/** Returns the trial in the text, or says what is wrong with it. */
export function parseTrial(text: string): TrialResult | string {
  try {
    const parsed = JSON.parse(text) as Partial<TrialResult> | null;
    if (parsed?.format === FORMAT && Array.isArray(parsed.stores)) return parsed as TrialResult;
  } catch {
    return 'it is not JSON';
  }
  return `it is not the JSON of a trial ("format": "${FORMAT}")`;
}
