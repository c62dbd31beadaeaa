/** The words of a trial: what it says about the stores, in the order in which one wants to know. Pure. */
import { amount, bytes, counted, dollars, percent, seconds } from '../base/number-format.ts';
import {
  type AskedResult,
  type HotRun,
  isFailure,
  MISSED_AFTER_MS,
  type StoreResult,
  type TrialResult,
} from './result.ts';
import { geometricMean } from './statistics.ts';

export interface Sentence {
  readonly text: string;
  readonly tone: 'good' | 'warn' | 'bad' | 'plain';
}

/** Stores that are this near to each other count as the same. */
const SAME = 1.1;
/** Less than this is no saving: prices are estimates. */
const MIN_SAVING = 0.05;
/** Of the clients that ask: the number that the verdict looks at. Some stores are too slow for it. */
export const VERDICT_CLIENTS = 8;

export function verdictOf(trial: TrialResult): Sentence[] {
  return [
    ...questionsVerdict(trial),
    ...endedEarly(trial),
    ...costVerdict(trial),
    ...capacityVerdict(trial),
    ...freshnessVerdict(trial),
    ...roomVerdict(trial),
    ...wrongAnswers(trial),
    ...proofVerdict(trial),
    ...(trial.complete ? [] : [{ text: stoppedText(trial), tone: 'warn' as const }]),
  ];
}

/** The questions that any store was asked. Only they are shown. */
export function askedQuestions({ stores, questions }: TrialResult): TrialResult['questions'] {
  return questions.filter(({ id }) =>
    stores.some((store) => store.questions.some((one) => one.id === id && one.asked.kind !== 'not_asked')),
  );
}

function stoppedText(trial: TrialResult): string {
  const all = trial.questions.length;
  const unasked = all - askedQuestions(trial).length;
  const what =
    unasked === 0
      ? ''
      : `: ${unasked} of ${counted(all, 'question')} ${unasked === 1 ? 'was' : 'were'} not asked`;
  return `The trial was stopped before its end${what}.`;
}

/** Returns the run of that many clients. */
export function hotRunOf(
  asked: AskedResult | undefined,
  clients: number = VERDICT_CLIENTS,
): HotRun | undefined {
  return asked?.kind === 'equal' ? asked.hot.find((run) => run.clients === clients) : undefined;
}

interface Answering {
  /** How many questions all of them answered. */
  readonly shared: number;
  /** The fastest first. */
  readonly ranked: readonly { readonly store: StoreResult; readonly ms: number }[];
}

/**
 * How fast a store answers: the geometric mean of the medians of what all of these stores answered, by as many clients
 * as all of them were asked by.
 */
function answering({ stores, questions }: TrialResult): Answering {
  const able = stores.filter((store) => store.questions.some(({ asked }) => asked.kind === 'equal'));
  const runs = questions.flatMap(({ id }) => {
    const asked = able.map((store) => store.questions.find((one) => one.id === id)?.asked);
    for (const clients of [VERDICT_CLIENTS, 1]) {
      const all = asked.flatMap((one) => hotRunOf(one, clients) ?? []);
      if (all.length === able.length) return [all];
    }
    return [];
  });
  if (runs.length === 0) return { shared: 0, ranked: [] };
  const ranked = able
    .map((store, index) => ({
      store,
      ms: geometricMean(runs.map((all) => Math.max(all[index]!.p50, 0.001))),
    }))
    .sort((a, b) => a.ms - b.ms);
  return { shared: runs.length, ranked };
}

export function times(ratio: number): string {
  return ratio < SAME ? 'as fast as' : `${amount(ratio)} times as fast as`;
}

function questionsVerdict(trial: TrialResult): Sentence[] {
  const { shared, ranked } = answering(trial);
  const [best, ...others] = ranked;
  if (best === undefined || others.length === 0) return [];
  const ratios = others.map(({ store, ms }) => `${times(ms / best.ms)} ${store.id}`);
  const all = askedQuestions(trial).length;
  // A verdict on few questions must not pass for one on all.
  const about =
    shared === all
      ? ''
      : ` (${shared} of ${all}: those that ${others.length === 1 ? 'both' : 'all'} answered rightly)`;
  const text = `On this traffic ${best.store.id} answers the usual questions${about} ${inWords(ratios)}.`;
  return [{ text, tone: 'good' }];
}

/** Stores that dropped out are missing in what follows. */
function endedEarly({ stores }: TrialResult): Sentence[] {
  return stores.flatMap(({ id, remarks }): Sentence[] =>
    remarks.filter(isFailure).map((remark) => ({ text: `${id}: ${remark}.`, tone: 'bad' })),
  );
}

function costVerdict({ stores, traffic }: TrialResult): Sentence[] {
  const priced = stores
    .flatMap(({ id, money }) => (money?.usdPerMonth == null ? [] : [{ id, usd: money.usdPerMonth }]))
    .sort((a, b) => a.usd - b.usd);
  const [least, next] = priced;
  if (least === undefined) return [];
  const rate = `at ${amount(traffic.pointsPerSecond)} points/s`;
  if (next === undefined)
    return [{ text: `${least.id} costs ${dollars(least.usd)} a month ${rate}.`, tone: 'plain' }];
  const saved = next.usd > 0 ? 1 - least.usd / next.usd : 0;
  if (saved < MIN_SAVING) {
    const text = `${least.id} and ${next.id} cost the same: ${dollars(least.usd)} and ${dollars(next.usd)} a month ${rate}.`;
    return [{ text, tone: 'plain' }];
  }
  const than = `${percent(saved)} less than ${next.id} (${dollars(least.usd)} and ${dollars(next.usd)} a month ${rate})`;
  return [{ text: `${least.id} costs ${than}.`, tone: 'plain' }];
}

/** The rate that the store keeps up with: the ceiling of the ladder, or that of the backfill without one. */
export function capacityOf({ ingest, backfill }: StoreResult): number | undefined {
  return ingest?.ceiling ?? backfill?.pointsPerSecond;
}

function capacityVerdict({ stores, traffic }: TrialResult): Sentence[] {
  const able = stores.flatMap((store) => {
    const capacity = capacityOf(store);
    return capacity === undefined || store.isReadable === false ? [] : [{ id: store.id, capacity }];
  });
  const slow = able.filter(({ capacity }) => capacity < traffic.pointsPerSecond);
  const fast = able.filter(({ capacity }) => capacity >= traffic.pointsPerSecond);
  fast.sort((a, b) => b.capacity - a.capacity);
  const sentences = slow.map(({ id, capacity }): Sentence => {
    const rate = `this traffic has ${amount(traffic.pointsPerSecond)} points/s`;
    return { text: `${id} cannot keep up above ${amount(capacity)} points/s: ${rate}.`, tone: 'bad' };
  });
  if (fast.length === 0) return sentences;
  const takes = fast.map(
    ({ id, capacity }) =>
      `${id} ${amount(capacity)} (${amount(capacity / traffic.pointsPerSecond)} times its rate)`,
  );
  return [...sentences, { text: `Of points a second, ${inWords(takes, 'takes')}.`, tone: 'plain' }];
}

function freshnessVerdict({ stores }: TrialResult): Sentence[] {
  const fresh = stores.flatMap(({ id, freshness }) => (freshness === null ? [] : [{ id, freshness }]));
  fresh.sort((a, b) => a.freshness.returned.p95 - b.freshness.returned.p95);
  const late = fresh.filter(({ freshness }) => freshness.missed > 0);
  const sentences = late.map(({ id, freshness }): Sentence => {
    const text = `${id} did not return all rows of ${amount(freshness.missed)} of ${counted(freshness.windows, 'window')} within ${seconds(MISSED_AFTER_MS / 1000)}.`;
    return { text, tone: 'bad' };
  });
  // Of the others it cannot be said.
  const whole = fresh.filter((one) => !late.includes(one));
  const [best, worst] = [whole[0], whole.at(-1)];
  if (best === undefined || worst === undefined) return sentences;
  const shown = ({ id, freshness }: typeof best) =>
    `${seconds((freshness.lateness + freshness.returned.p95) / 1000)} in ${id}`;
  const isSame = worst.freshness.returned.p95 < SAME * best.freshness.returned.p95;
  const both = isSame ? shown(best) : `${shown(best)}, and ${shown(worst)}`;
  const waited = `of which ${seconds(best.freshness.lateness / 1000)} are LATENESS`;
  const windows = Math.max(...whole.map(({ freshness }) => freshness.windows));
  const text = `95 % of ${counted(windows, 'window')} can be asked for within ${both} after their end, ${waited}.`;
  return [...sentences, { text, tone: 'plain' }];
}

function roomVerdict({ stores }: TrialResult): Sentence[] {
  const sized = stores
    .flatMap(({ id, room }) => (room?.bytesPerRow == null ? [] : [{ id, each: room.bytesPerRow }]))
    .sort((a, b) => a.each - b.each);
  const [least, ...others] = sized;
  if (least === undefined) return [];
  const more = others.map(({ id, each }) =>
    each < SAME * least.each ? `as much in ${id}` : `${amount(each / least.each)} times that in ${id}`,
  );
  const text = `A row takes ${bytes(least.each)} in ${least.id}${more.length > 0 ? `, ${inWords(more)}` : ''}.`;
  return [{ text, tone: 'plain' }];
}

function wrongAnswers({ stores }: TrialResult): Sentence[] {
  return stores.flatMap(({ id, questions }): Sentence[] => {
    const wrong = questions.filter(({ asked }) => asked.kind === 'different').length;
    if (wrong === 0) return [];
    const text = `${id} answers ${counted(wrong, 'question')} wrongly. A wrong answer has no time below, but the difference.`;
    return [{ text, tone: 'bad' }];
  });
}

function proofVerdict({ stores }: TrialResult): Sentence[] {
  const proved = stores.flatMap(({ id, proof }) => (proof === null ? [] : [{ id, proof }]));
  const differing = proved.filter(({ proof }) => proof.missing + proof.extra + proof.different > 0);
  const equal = proved.filter((one) => !differing.includes(one));
  const sentences = differing.map(({ id, proof }): Sentence => {
    const counts = `${amount(proof.missing)} missing, ${amount(proof.extra)} too many, ${amount(proof.different)} different`;
    return { text: `${id} does not hold what was written: of its rows, ${counts}.`, tone: 'bad' };
  });
  const [first] = equal;
  if (first === undefined) return sentences;
  const who = inWords(equal.map(({ id }) => id));
  const text = `Proved row by row: ${who} ${equal.length === 1 ? 'holds' : 'hold'} the same ${counted(first.proof.equal, 'row')} as the stream.`;
  return [...sentences, { text, tone: 'good' }];
}

function inWords(parts: readonly string[], verb = ''): string {
  const [first = '', ...others] = parts;
  const begun = verb === '' ? first : first.replace(' ', ` ${verb} `);
  if (others.length === 0) return begun;
  return `${[begun, ...others.slice(0, -1)].join(', ')} and ${others.at(-1)}`;
}
