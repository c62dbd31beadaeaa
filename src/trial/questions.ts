/** Chooses what the stores are asked: the shapes of dashboards, about the busiest series of the traffic. Pure. */
import { METRIC_TYPES, type Series } from '../aggregate/point.ts';
import { COUNTER, TIMER } from '../aggregate/sample.ts';
import type { ClosedWindow } from '../aggregate/window.ts';
import type { Query, WindowRange } from '../sink/contract.ts';
import { seriesDimension } from '../sink/rows.ts';

export interface TrialQuestion {
  readonly id: string;
  /** In words. */
  readonly text: string;
  readonly query: Query;
}

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;
const TOP = 10;
/** With more series, a store that finds rows only by series is not asked. */
const MAX_LISTED_SERIES = 250;

/** PromQL takes these words for numbers wherever a label may be. */
const IS_NUMBER = /^(nan|inf)$/i;

/** What is asked about. */
interface Name {
  readonly name: string;
  /** By id, with how many samples it has. */
  readonly series: Map<string, { readonly series: Series; samples: number }>;
  samples: number;
}

/** Returns the questions about the windows of the range; none without a counter. */
export function chooseQuestions(windows: readonly ClosedWindow[], range: WindowRange): TrialQuestion[] {
  const counter = busiest(windows, COUNTER);
  const timer = busiest(windows, TIMER);
  return [
    ...(counter === undefined ? [] : aboutCounter(counter, range, windows[0]!.windowMs)),
    ...(timer === undefined ? [] : [aboutTimer(timer, range)]),
    liveSeries(range),
  ];
}

/** Returns the name of that type with the most samples. Names with dimensions come first. */
function busiest(windows: readonly ClosedWindow[], type: number): Name | undefined {
  const samples = new Map<string, number>();
  for (const window of windows) {
    for (let index = 0; index < window.size; index++) {
      if (window.typeOf(index) !== type) continue;
      const name = window.nameOf(index);
      samples.set(name, (samples.get(name) ?? 0) + window.countOf(index));
    }
  }
  const ordered = [...samples].sort(([a, more], [b, less]) => less - more || (a < b ? -1 : 1));
  const names = ordered.map(([name]) => name).filter((name) => name.isWellFormed() && !name.includes('\0'));
  let plain: Name | undefined;
  for (const name of names) {
    const known = seriesOf(windows, type, name);
    if (dimensionsOf(known).length > 0) return known;
    plain ??= known;
  }
  return plain;
}

function seriesOf(windows: readonly ClosedWindow[], type: number, name: string): Name {
  const known: Name = { name, series: new Map(), samples: 0 };
  for (const window of windows) {
    for (let index = 0; index < window.size; index++) {
      if (window.typeOf(index) !== type || window.nameOf(index) !== name) continue;
      const { series } = window.point(index);
      const held = known.series.get(series.id) ?? { series, samples: 0 };
      held.samples += window.countOf(index);
      known.series.set(series.id, held);
      known.samples += window.countOf(index);
    }
  }
  return known;
}

/** Returns the dimensions of a name that any store can be asked about, that with the most values first. */
function dimensionsOf({ series }: Name): string[] {
  const values = new Map<string, Set<string>>();
  for (const { series: one } of series.values()) {
    for (const [key, value] of one.dimensions) values.set(key, (values.get(key) ?? new Set()).add(value));
  }
  return [...values]
    .filter(([key]) => key.isWellFormed() && !key.includes('\0') && !IS_NUMBER.test(key))
    .sort(([a, many], [b, few]) => few.size - many.size || (a < b ? -1 : 1))
    .map(([key]) => key);
}

/** Returns the last part of the range. */
function last(ms: number, { from, to }: WindowRange): WindowRange {
  return { from: Math.max(from, to - ms), to };
}

function lasting({ from, to }: WindowRange): string {
  const minutes = (to - from) / MINUTE_MS;
  const number = (value: number) => String(Number(value.toFixed(1)));
  if (minutes < 1) return `${number(60 * minutes)} s`;
  return minutes < 120 ? `${number(minutes)} min` : `${number(minutes / 60)} h`;
}

function listed({ series }: Name): readonly Series[] | undefined {
  return series.size > MAX_LISTED_SERIES ? undefined : [...series.values()].map((known) => known.series);
}

function aboutCounter(counter: Name, range: WindowRange, windowMs: number): TrialQuestion[] {
  const { name } = counter;
  const common = { kind: 'sums', name, type: METRIC_TYPES[COUNTER]!, where: [], by: [] } as const;
  const about = { ...common, series: listed(counter) };
  const hour = last(HOUR_MS, range);
  const [first = 'app', second = first] = dimensionsOf(counter);
  const busy = [...counter.series.values()].reduce((most, one) => (one.samples > most.samples ? one : most));
  const both = [...new Set([first, second])];
  const stepMs = Math.max(MINUTE_MS, windowMs);
  const whole = { from: Math.floor(hour.from / stepMs) * stepMs, to: Math.ceil(hour.to / stepMs) * stepMs };
  const spans = [
    ['sum-5m', last(5 * MINUTE_MS, range)],
    ['sum-1h', hour],
    ['sum-all', range],
  ] as const;
  // Of less traffic, the longer spans are the same.
  const sums = spans.filter(([, { from }], index) => index === 0 || from < spans[index - 1]![1].from);
  return [
    ...sums.map(
      ([id, part]): TrialQuestion => ({
        id,
        text: `sum of ${name} over ${lasting(part)}`,
        query: { ...about, range: part },
      }),
    ),
    {
      id: 'by-one',
      text: `sum of ${name} over ${lasting(hour)}, by ${first}`,
      query: { ...about, by: [first], range: hour },
    },
    {
      id: 'by-two',
      text: `sum of ${name} over ${lasting(hour)}, by ${both.join(' and ')}`,
      query: { ...about, by: both, range: hour },
    },
    {
      id: 'top-10',
      text: `the ${TOP} largest ${first} by ${name} over ${lasting(hour)}`,
      query: { ...about, by: [first], top: TOP, range: hour },
    },
    {
      id: 'filter',
      text: `sum of ${name} over ${lasting(hour)}, of one ${both.join(' and one ')}`,
      query: {
        ...about,
        where: both.map((key) => [key, seriesDimension(busy.series, key)] as const),
        range: hour,
      },
    },
    {
      id: 'rate',
      text: `${name} per ${stepMs === MINUTE_MS ? 'minute' : lasting({ from: 0, to: stepMs })} over ${lasting(hour)}, by ${second}`,
      query: { ...about, by: [second], stepMs, range: whole },
    },
    {
      id: 'one-series',
      text: `one series of ${name} over ${lasting(hour)}, in windows`,
      query: { kind: 'windows', series: busy.series, range: hour },
    },
  ];
}

/** The percentiles of windows cannot be merged, and no store holds what they were made from. So: the highest. */
function aboutTimer(timer: Name, range: WindowRange): TrialQuestion {
  const day = last(DAY_MS, range);
  return {
    id: 'highest-p99',
    text: `highest p99 of ${timer.name} in any window over ${lasting(day)}`,
    query: { kind: 'highest_p99', name: timer.name, series: listed(timer), range: day },
  };
}

function liveSeries(range: WindowRange): TrialQuestion {
  const part = last(5 * MINUTE_MS, range);
  return {
    id: 'live-series',
    text: `number of series in ${lasting(part)}`,
    query: { kind: 'live_series', range: part },
  };
}
