/**
 * Questions about the recent windows (`ask`) with 100,000 series: how long one takes at random, how long the longest
 * turn holds the thread, what taking a window costs, and what the windows take.
 */
import { Aggregator } from '../../src/aggregate/aggregator.ts';
import { SKETCH_SCALE } from '../../src/aggregate/buckets.ts';
import type { Sample } from '../../src/aggregate/sample.ts';
import { TIMER, TYPE_CODES } from '../../src/aggregate/sample.ts';
import { SeriesTable } from '../../src/aggregate/series-table.ts';
import { Tiling } from '../../src/aggregate/tiling.ts';
import { type Clock, systemClock } from '../../src/base/clock.ts';
import { makeDecoder } from '../../src/decode/formats.ts';
import { wholeMessage } from '../../src/decode/raw-message.ts';
import { logNormal, type Random, seededRandom } from '../../src/load/random.ts';
import type { RecentQuestion } from '../../src/recent/question.ts';
import { RecentQuestions } from '../../src/recent/recent-questions.ts';
import { RecentWindows } from '../../src/recent/recent-windows.ts';
import { type Figure, figure } from './measure.ts';

const SERIES = 100_000;
const WINDOW_MS = 10_000;
const START = 1_795_000_000_000;
/** Five minutes, and some more that have to go. */
const WINDOWS = 45;
const SAMPLES_PER_SERIES = 2;
const LIMIT_BYTES = 64e6;
const LAST_MS = 300_000;
const QUESTIONS = 200;
const NAMES = 20;
const APPS = 20;
const STATUSES = ['200', '204', '301', '404', '500'];
const PERCENTILES = [0.5, 0.99] as const;
const FORMAT = { metricsFormat: 'auto', metricsCounters: undefined, maxMessageBytes: 1_048_576 } as const;

/** Of 20 names, 14 are counters, 3 gauges and 3 timers. */
const typeOf = (name: number) => (name < 14 ? 'counter' : name < 17 ? 'gauge' : 'timer');

function messageOf(series: number): string {
  const name = series % NAMES;
  const rest = Math.floor(series / NAMES);
  const dimensions = {
    app: `app-${rest % APPS}`,
    route: `/v1/r${Math.floor(rest / APPS) % 50}`,
    status: STATUSES[Math.floor(rest / APPS / 50)],
    host: `h${series % 250}`,
  };
  return JSON.stringify({ name: `name.${name}`, type: typeOf(name), value: 1, dimensions });
}

class Traffic {
  readonly #random: Random = seededRandom(7);
  readonly #aggregator: Aggregator;
  readonly #series: Int32Array;
  readonly tiling = Tiling.of({
    windowMs: WINDOW_MS,
    latenessMs: 0,
    maxAheadMs: 1000,
    maxSeries: SERIES,
    sketchScale: SKETCH_SCALE,
  });

  constructor() {
    const table = new SeriesTable(2 * SERIES);
    this.#aggregator = new Aggregator(table, { tiling: this.tiling, from: START, keepsSketches: true });
    const decoder = makeDecoder(table, FORMAT);
    const numbers: number[] = [];
    const handler = {
      expect() {},
      sample: ({ series }: Sample) => void numbers.push(series),
      rejected() {},
      rejectedMessage() {},
    };
    for (let i = 0; i < SERIES; i++) {
      decoder.steps.left = 1e6;
      decoder.take(wholeMessage(Buffer.from(messageOf(i)), START, 1), handler);
      decoder.flush(handler);
    }
    this.#series = Int32Array.from(numbers);
  }

  window(number: number) {
    const random = this.#random;
    const start = START + number * WINDOW_MS;
    for (let i = 0; i < SAMPLES_PER_SERIES * SERIES; i++) {
      const index = Math.floor(random() * SERIES);
      const type = TYPE_CODES[typeOf(index % NAMES)];
      const value = type === TIMER ? logNormal(random, 0.05, 0.8) : Math.floor(random() * 10);
      const sample = {
        series: this.#series[index]!,
        type,
        value,
        weight: 1,
        eventTime: Number.NaN,
        streamTime: start,
        sequence: 1,
      };
      this.#aggregator.add(sample, start);
    }
    return this.#aggregator.close(start + WINDOW_MS);
  }
}

/** About one name, of a twentieth of the series; or about half of them and more. */
function questionOf(random: Random, isWide: boolean, last: number): RecentQuestion {
  const pick = <T>(from: readonly T[]) => from[Math.floor(random() * from.length)]!;
  const name = pick(isWide ? ['name.1*', 'name.*', undefined] : ['name.1', 'name.8', 'name.15', 'name.18']);
  const where = pick([
    [],
    [{ key: 'app', glob: 'app-3' }],
    [
      { key: 'app', glob: 'app-1*' },
      { key: 'status', glob: '5*' },
    ],
  ]);
  return { name, where, by: pick([[], ['status'], ['app'], ['app', 'status'], ['route']]), last };
}

function cpuMsSince(before: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}

const quantile = (values: readonly number[], share: number) =>
  [...values].sort((a, b) => a - b)[Math.floor(share * (values.length - 1))]!;

export async function measureAsk(rounds: number, tell: (line: string) => void): Promise<Figure[]> {
  let longestTurn = 0;
  let turnBegan = performance.now();
  const clock: Clock = {
    ...systemClock,
    async nextTurn() {
      longestTurn = Math.max(longestTurn, performance.now() - turnBegan);
      await systemClock.nextTurn();
      turnBegan = performance.now();
    },
  };
  const windows = new RecentWindows({ limitBytes: LIMIT_BYTES, clock });
  const traffic = new Traffic();
  windows.began(START, traffic.tiling);
  await windows.settled();
  longestTurn = 0;
  const taking: number[] = [];
  for (let number = 0; number < WINDOWS; number++) {
    const closed = traffic.window(number);
    const before = process.cpuUsage();
    turnBegan = performance.now();
    windows.closed(closed, START + (number + 1) * WINDOW_MS);
    await windows.settled();
    taking.push(cpuMsSince(before));
  }
  const longestTaking = longestTurn;
  longestTurn = 0;
  const questions = new RecentQuestions({ windows, clock, slice: '0/1', parts: false });
  const random = seededRandom(11);
  /** `isFirst`: each question is about other windows than the one before, as the first one after a window closed is. */
  const put = async (isWide: boolean, isFirst: boolean) => {
    const figures = {
      times: PERCENTILES.map((): number[] => []),
      costs: PERCENTILES.map((): number[] => []),
    };
    for (let round = 0; round < rounds; round++) {
      const times: number[] = [];
      const costs: number[] = [];
      for (let i = 0; i < QUESTIONS; i++) {
        const last = LAST_MS - (isFirst ? (i % 2) * WINDOW_MS : 0);
        const question = questionOf(random, isWide, last);
        const before = process.cpuUsage();
        const began = performance.now();
        turnBegan = began;
        await questions.answer(question);
        times.push(performance.now() - began);
        costs.push(cpuMsSince(before));
        longestTurn = Math.max(longestTurn, performance.now() - turnBegan);
        await systemClock.nextTurn();
      }
      for (const [i, share] of PERCENTILES.entries()) {
        figures.times[i]!.push(quantile(times, share));
        figures.costs[i]!.push(quantile(costs, share));
      }
      const last = (values: readonly number[][]) =>
        values.map((each) => each.at(-1)!.toFixed(1)).join(' and ');
      tell(`ask: ${last(figures.times)} ms (p50, p99), ${last(figures.costs)} ms on a processor`);
    }
    const about = isWide ? 'half of the series and more' : 'one name of 20';
    const what = isFirst ? `${about}, first of its windows` : about;
    return PERCENTILES.flatMap((share, i) => [
      figure('i', `ask, ${what}, p${100 * share}`, 'ms', figures.times[i]!),
      figure('i', `ask, ${what}, p${100 * share}, on a processor`, 'ms', figures.costs[i]!),
    ]);
  };
  const asked = [
    ...(await put(false, false)),
    ...(await put(true, false)),
    ...(await put(false, true)),
    ...(await put(true, true)),
  ];
  const view = windows.view()!;
  const points = view.windows.reduce(
    (sum, { chunks }) => sum + chunks.reduce((n, { size }) => n + size, 0),
    0,
  );
  const kept = view.windows.reduce((sum, { bytes }) => sum + bytes, 0);
  return [
    ...asked,
    figure('i', 'ask, longest turn of a question', 'ms', [longestTurn]),
    figure('i', `taking a window of ${SERIES} series`, 'ms', taking.slice(1)),
    figure('i', 'longest turn of taking a window', 'ms', [longestTaking]),
    figure('i', `kept at ${LIMIT_BYTES / 1e6} MB (RECENT_BYTES)`, 's', [
      (view.windows.length * WINDOW_MS) / 1000,
    ]),
    figure('i', 'a point that is kept', 'bytes/point', [kept / points]),
    figure('i', 'what is kept, with the series', 'MB', [windows.bytes / 1e6]),
  ];
}
