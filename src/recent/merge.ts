/**
 * Answers of several instances as one. Slices have different windows, which add up; a standby has the same ones, and a
 * window counts once, whoever has it. In core mode every answer is a part, and all of them add up.
 */
import { METRIC_TYPES } from '../aggregate/point.ts';
import { counted } from '../base/number-format.ts';
import { percentilesOf, ratesOf } from './answer.ts';
import { BinSums } from './bin-sums.ts';
import { remarksOf } from './coverage.ts';
import { type AnswerGroup, type OtherGroups, type RecentAnswer, spanInWords, sumInJson } from './question.ts';
import { isWithin, missingOf, partsWithin, type Ranges, type TimeRange, withRange } from './ranges.ts';
import { roundedOff } from './series-totals.ts';
import { SketchReader } from './sketch-bytes.ts';

export interface InstanceAnswer {
  readonly instance: string;
  readonly answer: RecentAnswer;
}

/** Which windows of which instance are added up. */
export interface Share {
  readonly instance: string;
  /** Undefined: all that it has. */
  readonly only: Ranges | undefined;
}

type Times = Pick<RecentAnswer, 'from' | 'to'>;

/**
 * Returns the range that all should answer for: up to where each slice has closed its windows, in some instance. The
 * newest window is closed by one a moment before the other.
 */
function commonRange(answers: readonly RecentAnswer[]): Times {
  const bySlice = new Map<string, RecentAnswer>();
  for (const [i, answer] of answers.entries()) {
    const key = answer.parts ? `${i}` : answer.slice;
    const known = bySlice.get(key);
    if (known === undefined || answer.to > known.to) bySlice.set(key, answer);
  }
  return rangeOf([...bySlice.values()].reduce((least, one) => (one.to < least.to ? one : least)));
}

const rangeOf = ({ from, to }: Times): Times => ({ from, to });

/** Decides whose windows count, such that each counts once. The answers must be about the same range. */
function sharesOf(answers: readonly InstanceAnswer[]): Share[] {
  if (answers.some(({ answer }) => answer.parts))
    return answers.map(({ instance }) => ({ instance, only: undefined }));
  const known = answers.map(({ instance, answer }) => ({ instance, windows: windowsOf(answer) }));
  known.sort((a, b) => sureOf(b.windows) - sureOf(a.windows) || (a.instance < b.instance ? -1 : 1));
  const taken = new Set<number>();
  const given = new Map(known.map(({ instance }) => [instance, new Set<number>()]));
  // A window that one instance is not sure of may be whole in another.
  for (const isSure of [true, false]) {
    for (const { instance, windows } of known) {
      for (const window of windows) {
        if (window.isSure !== isSure || taken.has(window.start)) continue;
        taken.add(window.start);
        given.get(instance)!.add(window.start);
      }
    }
  }
  return known.flatMap(({ instance, windows }): Share[] => {
    const mine = given.get(instance)!;
    if (mine.size === 0) return [];
    return [{ instance, only: mine.size === windows.length ? undefined : runsOf(windows, mine) }];
  });
}

/**
 * Makes one answer of the first ones, which were asked without regard to each other. `ask` asks an instance for its
 * share of a range; it resolves to undefined if that does not answer. `silent`: instances that gave no answer at first,
 * and why, in words.
 */
export async function together(
  first: readonly InstanceAnswer[],
  silent: readonly string[],
  ask: (share: Share, range: Times) => Promise<InstanceAnswer | undefined>,
): Promise<MergedAnswer> {
  if (first.length === 1) return mergedAnswer(first, [first[0]!.answer], rangeOf(first[0]!.answer), silent);
  const range = commonRange(first.map(({ answer }) => answer));
  const asked = await Promise.all(first.map(({ instance }) => ask({ instance, only: undefined }, range)));
  const same = asked.flatMap((answer) => answer ?? []);
  const taken = await Promise.all(
    sharesOf(same).map((share) =>
      share.only === undefined ? same.find(({ instance }) => instance === share.instance) : ask(share, range),
    ),
  );
  const answers = taken.flatMap((answer) => answer ?? []);
  const lost = first.filter(({ instance }) => !same.some((one) => one.instance === instance));
  const known = same.map(({ answer }) => answer);
  const lostInWords = lost.map(({ instance }) => `${instance} did not answer`);
  return mergedAnswer(answers, known, range, [...silent, ...lostInWords]);
}

interface Window {
  readonly start: number;
  readonly windowMs: number;
  readonly isSure: boolean;
}

function windowsOf({
  covered,
  doubtful,
  slice,
}: Pick<RecentAnswer, 'covered' | 'doubtful' | 'slice'>): Window[] {
  const [index, of] = slice.split('/').map(Number);
  const doubts = rangesOf(doubtful);
  return covered.flatMap(({ from, to, windowMs }) => {
    const windows: Window[] = [];
    const end = Date.parse(to);
    for (let start = Math.ceil(Date.parse(from) / windowMs) * windowMs; start < end; start += windowMs)
      if ((start / windowMs) % of! === index)
        windows.push({ start, windowMs, isSure: !isWithin(doubts, start) });
    return windows;
  });
}

const sureOf = (windows: readonly Window[]) => windows.filter(({ isSure }) => isSure).length;
const rangesOf = (spans: readonly Times[]): TimeRange[] =>
  spans.map(({ from, to }) => ({ from: Date.parse(from), to: Date.parse(to) }));

/** Returns ranges with the windows that are meant, and with none of the others that the instance has. */
function runsOf(windows: readonly Window[], isMeant: ReadonlySet<number>): Ranges {
  const runs: TimeRange[] = [];
  let isOpen = false;
  for (const { start, windowMs } of windows) {
    const last = runs.at(-1);
    if (isMeant.has(start) && isOpen) runs[runs.length - 1] = { from: last!.from, to: start + windowMs };
    else if (isMeant.has(start)) runs.push({ from: start, to: start + windowMs });
    isOpen = isMeant.has(start);
  }
  return runs;
}

/** What a merged answer says. */
export interface MergedAnswer extends Omit<RecentAnswer, 'boundary' | 'slice' | 'parts' | 'queueGroup'> {
  readonly instances: readonly string[];
}

/**
 * Adds up answers with no window in common, but in core mode. `known`: all answers, also of those whose windows do not
 * count: they say why something is missing. `silent`: of instances of which nobody knows what they have, why.
 */
function mergedAnswer(
  answers: readonly InstanceAnswer[],
  known: readonly RecentAnswer[],
  range: Times,
  silent: readonly string[],
): MergedAnswer {
  const all = answers.map(({ answer }) => answer);
  const isCore = known.some(({ parts }) => parts);
  const windows = new Map(all.flatMap((answer) => windowsOf(answer)).map((window) => [window.start, window]));
  const seconds = [...windows.values()].reduce((sum, { windowMs }) => sum + windowMs / 1000, 0);
  const left = missingOf(unionOf([...windows.values()]), rangesOf([range])[0]!);
  const windowMs = known.flatMap(({ covered }) => covered).at(-1)?.windowMs;
  // What one does not have, another may have.
  const missing = isCore
    ? all.flatMap((answer) => answer.missing)
    : known.flatMap((answer) => clipped(answer, left, windowMs));
  const doubtful = all.flatMap((answer) => answer.doubtful);
  const { groups, others, isFolded } = mergedGroups(all, seconds);
  const lacks = [
    ...(left.length > 0 ? unansweredSlices(known) : []),
    ...(left.length > 0 || isCore ? silent : []),
    ...readTwice(known),
    ...(isFolded && all.length > 1 ? ['there are too many groups: some of those shown may be too low'] : []),
  ];
  const since = known.flatMap((answer) => answer.since ?? []).sort();
  return {
    ...range,
    complete: left.length + missing.length + doubtful.length + lacks.length === 0,
    windows: windows.size,
    seconds,
    covered: all.flatMap((answer) => answer.covered),
    missing,
    doubtful,
    behindSeconds: Math.max(0, ...known.map((answer) => answer.behindSeconds)),
    since: since[0] ?? null,
    remarks: [
      ...new Set([
        ...remarksOf({ missing, doubtful }),
        ...lacks,
        ...(isCore ? [partsInWords(all.length)] : []),
      ]),
    ],
    groups,
    others,
    instances: answers.map(({ instance }) => instance),
  };
}

/** In core mode, all who share no group read the same messages. */
function readTwice(answers: readonly RecentAnswer[]): string[] {
  const groups = answers.flatMap(({ queueGroup }) => (queueGroup === undefined ? [] : [queueGroup]));
  const readers = groups.filter((group) => group === null).length + new Set(groups.filter(Boolean)).size;
  if (readers < 2) return [];
  return [
    `all messages are read ${readers} times over, so they count ${readers} times here and in the stores: give all instances the same METRICS_QUEUE_GROUP`,
  ];
}

/** Nobody knows how many instances there are. */
function partsInWords(instances: number): string {
  return `plain NATS: the parts of ${counted(instances, 'instance')}; one that was too slow to be found is not noticed`;
}

function unionOf(windows: readonly Window[]): Ranges {
  return windows.reduce<Ranges>(
    (ranges, { start, windowMs }) => withRange(ranges, { from: start, to: start + windowMs }),
    [],
  );
}

/** Returns what is missing in the answer, as far as it is missing in all of them, and has windows of its slice. */
function clipped(
  { missing, slice }: RecentAnswer,
  left: Ranges,
  windowMs: number | undefined,
): RecentAnswer['missing'] {
  return missing.flatMap(({ from, to, reason }) =>
    partsWithin(left, { from: Date.parse(from), to: Date.parse(to) })
      .filter((part) => {
        const span = windowMs === undefined ? [] : [{ ...spanInWords(part), windowMs }];
        return windowMs === undefined || windowsOf({ covered: span, doubtful: [], slice }).length > 0;
      })
      .map((part) => ({ ...spanInWords(part), reason })),
  );
}

function unansweredSlices(answers: readonly RecentAnswer[]): string[] {
  const slices = new Set(answers.map(({ slice }) => slice));
  const counts = new Set([...slices].map((slice) => Number(slice.split('/')[1])));
  return [...counts].flatMap((of) =>
    Array.from({ length: of }, (_, index) => `${index}/${of}`)
      .filter((slice) => !slices.has(slice))
      .map((slice) => `no instance of slice ${slice} answered: its windows are missing`),
  );
}

interface Sums {
  group: AnswerGroup;
  rest: number;
  sketch: number;
}

function mergedGroups(answers: readonly RecentAnswer[], seconds: number) {
  const timers = answers.reduce((sum, { groups }) => sum + groups.length, 0);
  const bins = new BinSums(timers);
  const reader = new SketchReader();
  const sums = new Map<string, Sums>();
  const others = new Map<string, OtherGroups>();
  for (const answer of answers) {
    for (const group of answer.groups) {
      const { name, type, dimensions, sketch } = group;
      const key = JSON.stringify([name, type, Object.values(dimensions)]);
      const known = sums.get(key) ?? { group: { ...group, count: 0, sum: 0 }, rest: 0, sketch: sums.size };
      sums.set(key, known);
      addGroup(known, group);
      if (sketch === undefined) continue;
      reader.begin(Buffer.from(sketch, 'base64'));
      reader.addTo(bins, known.sketch);
    }
    for (const { type, groups, count, sum } of answer.others) {
      const known = others.get(type) ?? { type, groups: 0, count: 0, sum: 0 };
      // Which ones they are, nobody says: some are the same in several answers.
      const most = Math.max(known.groups, groups);
      others.set(type, {
        type,
        groups: most,
        count: known.count + count,
        sum: sumInJson(Number(known.sum) + Number(sum)),
      });
    }
  }
  const groups = [...sums.values()].map(
    ({ group: { sketch: _, rest: __, ...group }, rest, sketch }): AnswerGroup => {
      const added = Number(group.sum);
      const sum = Number.isFinite(added) ? added + rest : added;
      const merged = answers.length > 1 && group.type === 'timer';
      return {
        ...group,
        sum: sumInJson(sum),
        ...ratesOf(group.count, sum, seconds),
        ...(merged && percentilesOf(bins, sketch, group.min ?? 0, group.max ?? 0)),
      };
    },
  );
  bins.release();
  groups.sort((a, b) => b.count - a.count);
  return {
    groups,
    others: METRIC_TYPES.flatMap((type) => others.get(type) ?? []),
    isFolded: others.size > 0,
  };
}

function addGroup(known: Sums, { count, sum, rest = 0, min, max }: AnswerGroup): void {
  const { group } = known;
  const [before, more] = [Number(group.sum), Number(sum)];
  const total = before + more;
  known.rest += rest + roundedOff(before, more, total);
  known.group = {
    ...group,
    count: group.count + count,
    sum: sumInJson(total),
    min: least(group.min, min, Math.min),
    max: least(group.max, max, Math.max),
  };
}

function least(a: number | null, b: number | null, of: (a: number, b: number) => number): number | null {
  return a === null || b === null ? (a ?? b) : of(a, b);
}

/** A share's ranges, as a request has them. */
export function rangesInWords(ranges: Ranges): [from: string, to: string][] {
  return ranges.map((range) => {
    const { from, to } = spanInWords(range);
    return [from, to];
  });
}
