/** Which windows an answer has, and what it lacks: in moments, and in words. */
import type { Tiling } from '../aggregate/tiling.ts';
import {
  type Absence,
  DEFAULT_LAST_MS,
  DOUBTS,
  type Doubt,
  LOSSES,
  RECENT_MS,
  type RecentAnswer,
  type RecentQuestion,
  spanInWords,
  timeInWords,
  Unanswerable,
} from './question.ts';
import { isWithin, missingOf, partsWithin, type Ranges, type TimeRange } from './ranges.ts';
import type { RecentView } from './recent-windows.ts';

export interface Coverage {
  /** Whether the window that starts then is added up. */
  readonly has: (start: number) => boolean;
  readonly seconds: number;
  readonly words: Omit<RecentAnswer, 'groups' | 'others'>;
}

/** Spans of one kind in an answer. Those beyond are joined, or of those covered left out. */
const MAX_SPANS = 64;

/** Follows a span of time. */
const ABSENCES: Readonly<Record<Absence, string>> = {
  open: 'not closed yet',
  not_read: 'not read since the start of the instance',
  expired: 'over an hour ago',
  evicted: 'no longer kept, for lack of room (RECENT_BYTES)',
  skipped: 'not taken, because too much came at once (after a start)',
  too_large: 'not kept, because a window has too many series (RECENT_BYTES)',
};

const IN_DOUBT: Readonly<Record<Doubt, string>> = {
  gap: 'perhaps too low, because the stream had lost messages',
  changed: 'out of date, because samples came after it was closed; it is computed again',
  partial: 'a part only, because reading began in it',
};

export function coverageOf(
  question: RecentQuestion,
  view: RecentView,
  { now, slice, parts }: { readonly now: number; readonly slice: string; readonly parts: boolean },
): Coverage {
  const { boundary, tiling } = view;
  if (boundary === undefined) throw new Unanswerable('busy', 'the instance has read nothing yet: ask again');
  const range = rangeOf(question, boundary, tiling);
  const asked = question.only === undefined ? [range] : partsWithin(question.only, range);
  const covered = asked.flatMap((one) => partsWithin(view.covered, one));
  const missing = asked
    .flatMap((one) => missingOf(view.covered, one))
    .flatMap((one) => absencesOf(one, view));
  const [index, of] = slice.split('/').map(Number);
  const isOurs = (start: number, windowMs: number) => mod(start / windowMs, of!) === index;
  const hasOurs = (one: TimeRange) => shaped(one, tiling).some((part) => windowsOf(part, isOurs) > 0);
  const doubtful = DOUBTS.flatMap((reason) =>
    covered
      .flatMap((one) => partsWithin(view.doubts[reason], one))
      .filter(hasOurs)
      .map((one) => ({ ...one, reason })),
  );
  const spans = covered.flatMap((one) => shaped(one, tiling));
  const counts = spans.map((one) => windowsOf(one, isOurs));
  const windows = counts.reduce((sum, count) => sum + count, 0);
  const gaps = {
    missing: limited(missing).map((one) => ({ ...spanInWords(one), reason: one.reason })),
    doubtful: limited(doubtful).map((one) => ({ ...spanInWords(one), reason: one.reason })),
  };
  const remarks = [
    ...remarksOf(gaps),
    ...outsideOf(question, range),
    ...(of! > 1 ? [`only slice ${slice}: the other slices have the other windows`] : []),
    ...(parts ? ['core mode: other instances may have other parts of the same windows'] : []),
  ];
  const seconds = spans.reduce((sum, { windowMs }, i) => sum + (counts[i]! * windowMs) / 1000, 0);
  return {
    has: (start) => isWithin(covered, start),
    seconds,
    words: {
      ...spanInWords(range),
      complete: remarks.length === 0,
      windows,
      seconds,
      covered: spans.map((one) => ({ ...spanInWords(one), windowMs: one.windowMs })),
      ...gaps,
      boundary: timeInWords(boundary),
      behindSeconds: Math.max(0, (now - boundary) / 1000),
      since: view.covered.length === 0 ? null : timeInWords(view.covered[0]!.from),
      slice,
      parts,
      remarks,
    },
  };
}

/** Says in words which of the ranges that are asked for are not in the range that they are parts of. */
function outsideOf({ only }: RecentQuestion, range: TimeRange): string[] {
  if (only?.length === 0) return ['no windows are asked for: ranges is empty'];
  return limited((only ?? []).flatMap((one) => missingOf([range], one)))
    .map(spanInWords)
    .map(({ from, to }) => `${from} to ${to}: in ranges, but not between from and to of the answer`);
}

const mod = (value: number, by: number) => ((value % by) + by) % by;

/** Says in words what is missing, and what is not sure. */
export function remarksOf({ missing, doubtful }: Pick<RecentAnswer, 'missing' | 'doubtful'>): string[] {
  return [
    ...missing.map(({ from, to, reason }) => `${from} to ${to}: ${ABSENCES[reason]}`),
    ...doubtful.map(({ from, to, reason }) => `${from} to ${to}: ${IN_DOUBT[reason]}`),
  ];
}

/** All times are moved to the start of their window. */
function rangeOf(
  { last = DEFAULT_LAST_MS, ...given }: RecentQuestion,
  boundary: number,
  tiling: Tiling,
): TimeRange {
  const to = tiling.startOf(given.to ?? boundary);
  const from = tiling.startOf(given.from ?? to - last);
  return { from: Math.min(from, to), to };
}

/** Cuts a range where windows have another length from. */
function shaped(range: TimeRange, tiling: Tiling): (TimeRange & { readonly windowMs: number })[] {
  const { epochs } = tiling;
  return epochs.flatMap(({ from, windowMs }, i) =>
    partsWithin([range], { from, to: epochs[i + 1]?.from ?? Number.POSITIVE_INFINITY }).map((part) => ({
      ...part,
      windowMs,
    })),
  );
}

function windowsOf(
  { from, to, windowMs }: TimeRange & { readonly windowMs: number },
  isOurs: (start: number, windowMs: number) => boolean,
): number {
  let windows = 0;
  for (let start = Math.ceil(from / windowMs) * windowMs; start < to; start += windowMs)
    if (isOurs(start, windowMs)) windows++;
  return windows;
}

/** Says of each part of a range that is missing why that is. */
function absencesOf(
  range: TimeRange,
  { boundary, absences }: RecentView,
): (TimeRange & { reason: Absence })[] {
  const found: (TimeRange & { reason: Absence })[] = [];
  let left: Ranges = [range];
  const take = (reason: Absence, ranges: Ranges) => {
    for (const one of ranges) {
      found.push(...left.flatMap((part) => partsWithin([one], part)).map((part) => ({ ...part, reason })));
      left = left.flatMap((part) => missingOf([one], part));
    }
  };
  take('open', [{ from: boundary!, to: Number.POSITIVE_INFINITY }]);
  take('expired', [{ from: Number.NEGATIVE_INFINITY, to: boundary! - RECENT_MS }]);
  for (const reason of LOSSES) take(reason, absences[reason]);
  take('not_read', left);
  return found.sort((a, b) => a.from - b.from);
}

/** What is between spans is called the same as the last one, if there are too many. */
function limited<S extends TimeRange>(spans: readonly S[]): readonly S[] {
  if (spans.length <= MAX_SPANS) return spans;
  const last = spans[MAX_SPANS - 1]!;
  return [...spans.slice(0, MAX_SPANS - 1), { ...last, to: spans.at(-1)!.to }];
}
