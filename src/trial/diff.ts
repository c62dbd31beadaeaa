/** Compares two trials: which figures changed by more than noise. Pure. */
import { amount, percent } from '../base/number-format.ts';
import { FORMAT, type StoreResult, type TrialResult } from './result.ts';
import { believed, mannWhitneyP, medianOf } from './statistics.ts';

/** Of the changes that are reported, at most this share is expected to be chance. */
const FALSE_DISCOVERY_RATE = 0.01;
/** A smaller change is not reported, however sure: two runs on one machine differ by as much. */
const MIN_CHANGE = 0.25;
/** Nor is one by fewer milliseconds. */
const MIN_CHANGE_MS = 0.2;
/** Fewer rounds on either side say nothing. */
const MIN_ROUNDS = 4;

/** A store is not named for a single figure: of many, one may be chance after all. */
const MIN_FIGURES = 2;
/** With fewer stores, nobody can tell whether the store changed or what all of them share. */
const MIN_STORES_FOR_DRIFT = 3;

export const TEST_IN_WORDS =
  `Test: two-sided Mann-Whitney U, exact, over the rounds of each figure (medians of latencies, points a second of equal parts), ` +
  `with the false discovery rate of all figures held at ${percent(FALSE_DISCOVERY_RATE)} (Benjamini-Hochberg). A change counts from ` +
  `${percent(MIN_CHANGE)} on, and of latencies from ${MIN_CHANGE_MS} ms on; a store is named for ${MIN_FIGURES} figures or more. Of three ` +
  `stores or more, what all of them have in common (the middle one of their middle changes) is taken out first: it is the machine, or this program.`;

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
  /** The stores of which something changed by more than noise. */
  readonly changed: readonly string[];
  readonly verdict: readonly string[];
  /** Whether figures were compared, and nothing changed. */
  readonly isSame: boolean;
}

interface Figure {
  readonly what: string;
  readonly unit: 'ms' | 'points/s';
  readonly rounds: readonly number[];
}

function figuresOf({ ingest, questions, freshness }: StoreResult): Figure[] {
  const rungs = ingest?.rungs ?? [];
  return [
    ...rungs.map(
      ({ writers, rounds }): Figure => ({
        what: `ingest, ${writersText(writers)}`,
        unit: 'points/s',
        rounds,
      }),
    ),
    ...questions.flatMap(({ id, asked }) =>
      asked.kind === 'equal'
        ? asked.hot.map(
            ({ clients, rounds }): Figure => ({
              what: `${id}, ${clients === 1 ? '1 client' : `${clients} clients`}`,
              unit: 'ms',
              rounds,
            }),
          )
        : [],
    ),
    ...(freshness === null ? [] : [{ what: 'freshness', unit: 'ms', rounds: freshness.rounds } as const]),
  ];
}

export function writersText(writers: number): string {
  return writers === 1 ? '1 writer' : `${writers} writers`;
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
    for (const { what, unit, rounds } of figuresOf(after)) {
      const old = known.get(what);
      if (old === undefined || Math.min(old.rounds.length, rounds.length) < MIN_ROUNDS) continue;
      compared.push({ store: after.id, what, unit, before: old.rounds, after: rounds });
    }
  }
  for (const { id } of a.stores)
    if (!b.stores.some((store) => store.id === id)) facts.push(`${id} is only in the first trial.`);
  const drift = driftOf(compared);
  if (isDrift(drift)) facts.push(driftInWords(drift));
  const tested = compared.map((pair) => testedPair(pair, drift));
  const sure = believed(
    tested.map(({ p }) => p),
    FALSE_DISCOVERY_RATE,
  );
  const figures = tested.map(({ isLarge, direction, ...figure }, index) => ({
    ...figure,
    change: sure[index] && isLarge ? direction : undefined,
  }));
  const changed = namedStores(figures);
  const isSame = figures.length > 0 && changed.length === 0 && facts.length === 0;
  return { figures, facts, changed, verdict: diffVerdict(figures, facts, changed), isSame };
}

/** A figure of both trials, with its rounds. */
interface Pair extends Pick<FigureChange, 'store' | 'what' | 'unit'> {
  readonly before: readonly number[];
  readonly after: readonly number[];
}

/** Returns how many times as slow the second one is. */
function slowdownOf({ unit, before, after }: Pair): number {
  const ratio = medianOf(after) / medianOf(before);
  return unit === 'ms' ? ratio : 1 / ratio;
}

/** Returns how many times as slow all stores are together, as far as that can be told from what one of them did. */
function driftOf(pairs: readonly Pair[]): number {
  const stores = [...Map.groupBy(pairs, ({ store }) => store).values()];
  if (stores.length < MIN_STORES_FOR_DRIFT) return 1;
  return medianOf(stores.map((own) => medianOf(own.map(slowdownOf))));
}

function isDrift(drift: number): boolean {
  return Math.max(drift, 1 / drift) >= 1 + MIN_CHANGE;
}

function driftInWords(drift: number): string {
  const how = drift > 1 ? `${amount(drift)} times as slow` : `${amount(1 / drift)} times as fast`;
  return `All stores together were ${how} in the second trial: the machine, or this program. That is taken out of what follows.`;
}

function testedPair(pair: Pair, drift: number) {
  const { store, what, unit } = pair;
  const factor = unit === 'ms' ? drift : 1 / drift;
  const expected = pair.before.map((value) => value * factor);
  const [before, after] = [medianOf(expected), medianOf(pair.after)];
  const ratio = Math.max(before, after) / Math.min(before, after);
  const isLarge = ratio >= 1 + MIN_CHANGE && (unit !== 'ms' || Math.abs(after - before) >= MIN_CHANGE_MS);
  const direction: FigureChange['change'] = after > before === (unit === 'ms') ? 'worse' : 'better';
  return { store, what, unit, before, after, p: mannWhitneyP(expected, pair.after), isLarge, direction };
}

/** Returns the stores with enough figures that changed in the same direction. */
function namedStores(figures: readonly FigureChange[]): string[] {
  const changes = Map.groupBy(
    figures.filter(({ change }) => change !== undefined),
    ({ store, change }) => `${change} ${store}`,
  );
  const named = [...changes.values()].filter((some) => some.length >= MIN_FIGURES);
  return [...new Set(named.map(([first]) => first!.store))];
}

function trafficFacts(a: TrialResult, b: TrialResult): string[] {
  const facts: string[] = [];
  if (
    a.traffic.from !== b.traffic.from ||
    a.traffic.to !== b.traffic.to ||
    a.traffic.points !== b.traffic.points
  )
    facts.push(
      `The traffic is not the same: ${amount(a.traffic.points)} points from ${a.traffic.from}, then ${amount(b.traffic.points)} from ${b.traffic.from}.`,
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
  changed: readonly string[],
): string[] {
  if (figures.length === 0) return [NOTHING_COMPARED];
  const stores = [...new Set(figures.map(({ store }) => store))];
  const sentences = changed.flatMap((store) => {
    const own = figures.filter((figure) => figure.store === store);
    return (['worse', 'better'] as const).flatMap((change) => {
      const some = own.filter((figure) => figure.change === change);
      if (some.length === 0) return [];
      const ratios = some.map(({ before, after }) => Math.max(before, after) / Math.min(before, after));
      const what = `${some.length} of ${own.length} figures are ${change}, in the middle ${amount(medianOf(ratios))} times`;
      return [`${store}: ${what}.`];
    });
  });
  const same = stores.filter((store) => !changed.includes(store));
  if (changed.length === 0) {
    const nothing = facts.length === 0 ? 'Nothing changed' : 'No figure changed';
    return [`${nothing} by more than noise: ${figures.length} figures of ${stores.join(', ')}.`];
  }
  return [...sentences, ...(same.length > 0 ? [`No more than noise: ${same.join(', ')}.`] : [])];
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
