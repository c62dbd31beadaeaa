import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { METRIC_TYPES } from '../../src/aggregate/point.ts';
import { RELATIVE_ERROR } from '../../src/aggregate/sketch.ts';
import { Tiling } from '../../src/aggregate/tiling.ts';
import { answerRecent } from '../../src/control/http-query.ts';
import { seededRandom } from '../../src/load/random.ts';
import { together } from '../../src/recent/merge.ts';
import type { RecentAnswer, RecentQuestion } from '../../src/recent/question.ts';
import { RecentQuestions } from '../../src/recent/recent-questions.ts';
import type { RecentWindows } from '../../src/recent/recent-windows.ts';
import { KnownRefs } from '../../src/recent/series-dictionary.ts';
import { effort } from '../effort.ts';
import {
  boundaryAfter,
  expectedGroups,
  Feed,
  keyOfGroup,
  recentWindows,
  type Sent,
  START,
  TILING,
  WINDOW_MS,
} from './feed.ts';

const ALL: RecentQuestion = { where: [], by: [] };
const time = (window: number) => new Date(START + window * WINDOW_MS).toISOString();

/** Sums of whole numbers and of halves are the same in any order, to the last bit. */
const value = fc.oneof(
  fc.integer({ min: -3, max: 300 }),
  fc.integer({ min: -1e6, max: 1e9 }),
  fc.integer({ min: 0, max: 5000 }).map((n) => n / 2),
  fc.constantFrom(0, 0.5, 2 ** 40),
);
const sampleArbitrary: fc.Arbitrary<Omit<Sent, 'window'>> = fc.record({
  name: fc.constantFrom('a', 'b', 'http.requests', 'http.errors'),
  type: fc.constantFrom(...METRIC_TYPES),
  dimensions: fc.constantFrom<Record<string, string>>(
    {},
    { app: 'api' },
    { app: 'web', status: '200' },
    { app: 'api', status: '500' },
    { status: '404', host: 'é"\\' },
  ),
  value,
});
const trafficArbitrary = fc.array(fc.array(sampleArbitrary, { maxLength: 12 }), {
  minLength: 1,
  maxLength: 8,
});
const questionArbitrary = fc.record({
  name: fc.constantFrom(undefined, 'a', 'http.*', '*s', 'none'),
  where: fc.constantFrom<RecentQuestion['where']>(
    [],
    [{ key: 'app', glob: 'api' }],
    [{ key: 'status', glob: '' }],
    [
      { key: 'app', glob: '*' },
      { key: 'status', glob: '?0*' },
    ],
    [{ key: 'nobody', glob: 'has' }],
  ),
  by: fc.constantFrom<string[]>([], ['app'], ['status'], ['status', 'app'], ['host', 'nobody']),
});

function expectGroups(answer: RecentAnswer, sent: readonly Sent[], question: RecentQuestion): void {
  const expected = expectedGroups(sent, question);
  const found = new Map(
    answer.groups.map(({ count, sum, min, max, p50, p90, p95, p99, ...group }) => [
      keyOfGroup(group, question.by),
      { count, sum, min, max, percentiles: [p50, p90, p95, p99] },
    ]),
  );
  expect(found).toEqual(expected);
  expect(answer.others).toEqual([]);
}

/** Tells all windows, as the live path does. */
async function fed(traffic: readonly (readonly Omit<Sent, 'window'>[])[], limitBytes?: number) {
  const made = recentWindows(limitBytes);
  const feed = new Feed();
  made.windows.began(START, TILING);
  const sent: Sent[] = [];
  for (const [window, samples] of traffic.entries()) {
    const ofWindow = samples.map((sample) => ({ ...sample, window }));
    sent.push(...ofWindow);
    made.windows.closed(feed.window(window, ofWindow), boundaryAfter(window));
  }
  await made.windows.settled();
  return { ...made, sent };
}

describe('answers', () => {
  test('of 360 windows of 20 series have percentiles within the error of one sketch', async () => {
    const random = seededRandom(360);
    const gauss = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
    const traffic = Array.from({ length: 360 }, () =>
      Array.from({ length: 160 }, (_, i) => ({
        name: 'took',
        type: 'timer' as const,
        dimensions: { host: `h${i % 20}` },
        value: 1000 * Math.exp((i % 20) / 10 + 1.5 * gauss()),
      })),
    );
    const [feed, { windows, questions }] = [new Feed(), recentWindows()];
    windows.began(START, TILING);
    for (const [window, samples] of traffic.entries()) {
      const sent = samples.map((sample) => ({ ...sample, window }));
      windows.closed(feed.window(window, sent), boundaryAfter(window));
      await windows.settled();
    }
    const [group] = (await questions.answer({ where: [], by: [], from: START })).groups;
    const exact = traffic.flatMap((samples) => samples.map(({ value }) => value)).sort((a, b) => a - b);
    expect(group!.count).toBe(360 * 160);
    for (const [share, found] of [
      [0.5, group!.p50],
      [0.9, group!.p90],
      [0.95, group!.p95],
      [0.99, group!.p99],
    ] as const)
      expect(Math.abs(found! / exact[Math.floor(share * (exact.length - 1))]! - 1)).toBeLessThan(
        RELATIVE_ERROR + 1e-9,
      );
  });

  test('of windows of an earlier version have percentiles within the error of their sketches and of ours', async () => {
    const { sketchScale: _, ...old } = TILING.epochs[0]!;
    const [feed, { windows, questions }] = [new Feed(undefined, 1000, Tiling.of(old)), recentWindows()];
    windows.began(START, TILING);
    const values = Array.from({ length: 500 }, (__, i) => (i % 7 === 0 ? -1 : 1) * 1.03 ** i);
    const timer = { name: 't', type: 'timer', dimensions: {} } as const;
    for (const window of [0, 1]) {
      const samples = values
        .filter((__, i) => i % 2 === window)
        .map((value) => ({ ...timer, value, window }));
      windows.closed(feed.window(window, samples), boundaryAfter(window));
    }
    await windows.settled();
    const [group] = (await questions.answer({ where: [], by: [], from: START })).groups;
    const exact = [...values].sort((a, b) => a - b);
    const error = (share: number, found: number | null) => found! / exact[Math.floor(share * 499)]! - 1;
    for (const found of [error(0.5, group!.p50), error(0.9, group!.p90), error(0.99, group!.p99)])
      expect(Math.abs(found)).toBeLessThan(0.0155);
  });

  test('are what the samples give: counts, sums, limits and percentiles, of any windows', async () => {
    await fc.assert(
      fc.asyncProperty(
        trafficArbitrary,
        questionArbitrary,
        fc.nat(8),
        fc.nat(8),
        async (traffic, question, one, other) => {
          const { questions, sent } = await fed(traffic);
          const [from, to] = [
            Math.min(one, other, traffic.length),
            Math.min(Math.max(one, other), traffic.length),
          ];
          const range = { from: START + from * WINDOW_MS, to: START + to * WINDOW_MS };
          const meant = sent.filter(({ window }) => window >= from && window < to);
          // The first question about names in these windows, the second, and those that find what the second left.
          for (const each of [question, ALL, question, ALL, question]) {
            const answer = await questions.answer({ ...each, ...range });
            expectGroups(answer, meant, each);
            expect(answer).toMatchObject({
              complete: true,
              windows: to - from,
              seconds: to - from,
              remarks: [],
            });
          }
        },
      ),
      { numRuns: effort(300) },
    );
  });

  test('what rounding takes off a sum is not lost, however often it is asked', async () => {
    const values = [1e16, 0.5, -1e16, 1];
    const { questions } = await fed(
      values.map((value) => [{ name: 'a', type: 'gauge', dimensions: {}, value } as const]),
    );
    for (const by of [[], [], ['app'], ['app']])
      expect((await questions.answer({ ...ALL, by })).groups[0]!.sum).toBe(1.5);
  });

  test('cover the newest five minutes if nothing is said of time, and begin where reading began', async () => {
    const { questions, windows } = await fed([[], [], []]);
    expect(await questions.answer(ALL)).toMatchObject({
      from: time(-297),
      to: time(3),
      complete: false,
      windows: 3,
      since: time(0),
      boundary: time(3),
      missing: [{ from: time(-297), to: time(0), reason: 'not_read' }],
    });
    windows.closed([], START + 400 * WINDOW_MS);
    await windows.settled();
    expect(await questions.answer(ALL)).toMatchObject({ from: time(100), to: time(400), complete: true });
    expect(await questions.answer({ ...ALL, last: 10_500 })).toMatchObject({ from: time(389), windows: 11 });
  });

  test('rates are those of the windows that are covered', async () => {
    const sample = { name: 'a', type: 'counter', dimensions: {}, value: 3 } as const;
    const { questions } = await fed([[sample], [sample, sample], [], []]);
    const { groups } = await questions.answer({ ...ALL, last: 60_000 });
    expect(groups).toMatchObject([{ count: 3, sum: 9, countPerSecond: 0.75, sumPerSecond: 2.25 }]);
  });

  test('say in JSON what a sum is that is not finite', async () => {
    const [name, dimensions] = ['a', {}];
    const { questions } = await fed([
      [
        { name, type: 'counter', dimensions, value: 1.7e308 },
        { name, type: 'timer', dimensions, value: -1.7e308 },
      ],
      [
        { name, type: 'counter', dimensions, value: 1.7e308 },
        { name, type: 'timer', dimensions, value: -1.7e308 },
      ],
    ]);
    const answer = await questions.answer({ ...ALL, from: START, sketches: true });
    const read = JSON.parse(JSON.stringify(answer)) as RecentAnswer;
    expect(read).toEqual(answer);
    const sums = ({ groups }: Pick<RecentAnswer, 'groups'>) =>
      groups.map(({ type, sum, sumPerSecond }) => [type, sum, sumPerSecond]);
    const expected = [
      ['counter', 'Infinity', 'Infinity'],
      ['timer', '-Infinity', '-Infinity'],
    ];
    expect(sums(read)).toEqual(expected);
    const instances = [
      { instance: 'x', answer: { ...read, parts: true } },
      { instance: 'y', answer: { ...read, parts: true } },
    ];
    const merged = await together(instances, [], ({ instance }) =>
      Promise.resolve(instances.find((one) => one.instance === instance)),
    );
    expect(sums(merged)).toEqual(expected);
  });

  test('of no ranges, or of ranges outside of the time, are not complete', async () => {
    const { questions } = await fed([[], [], []]);
    const asked = { ...ALL, from: START, to: START + WINDOW_MS };
    expect(await questions.answer({ ...asked, only: [] })).toMatchObject({
      complete: false,
      windows: 0,
      remarks: ['no windows are asked for: ranges is empty'],
    });
    const only = [{ from: START, to: START + 2 * WINDOW_MS }];
    expect(await questions.answer({ ...asked, only })).toMatchObject({
      complete: false,
      windows: 1,
      remarks: [`${time(1)} to ${time(2)}: in ranges, but not between from and to of the answer`],
    });
  });

  test('have the largest thousand groups, and the rest by type', async () => {
    const many = Array.from({ length: 1200 }, (_, i): Omit<Sent, 'window'>[] => {
      const sample = { name: 'a', type: 'counter', dimensions: { id: `${i}` }, value: 2 } as const;
      return i < 900 ? [sample, sample] : [sample];
    });
    const { questions, windows } = recentWindows();
    windows.began(START, TILING);
    // More series than the table keeps: their records move while windows are still taken.
    const feed = new Feed(undefined, 10_000);
    windows.closed(
      feed.window(
        0,
        many.flat().map((sample) => ({ ...sample, window: 0 })),
      ),
      boundaryAfter(0),
    );
    await windows.settled();
    const { groups, others } = await questions.answer({ where: [], by: ['id'], from: START });
    expect(groups).toHaveLength(1000);
    expect(groups.filter(({ count }) => count === 2)).toHaveLength(900);
    expect(others).toEqual([{ type: 'counter', groups: 200, count: 200, sum: 400 }]);
  });
});

describe('what is not whole is said', () => {
  const one = (window: number, value = 1): Sent => ({
    window,
    name: 'a',
    type: 'counter',
    dimensions: {},
    value,
  });
  const sumOf = ({ groups }: RecentAnswer) => groups.reduce((sum, group) => sum + Number(group.sum), 0);

  test('a window that got a sample after it was closed, until it is computed again', async () => {
    const { questions, windows } = await fed([[one(0)], [one(1)], [one(2)]]);
    const asked = { ...ALL, from: START };
    const again = () => new Feed().window(1, [one(1, 5)])[0];
    windows.reopened([START + WINDOW_MS], 100);
    const stale = { complete: false, doubtful: [{ from: time(1), to: time(2), reason: 'changed' }] };
    expect(await questions.answer(asked)).toMatchObject(stale);
    expect(sumOf(await questions.answer(asked))).toBe(3);
    windows.recomputed(START + WINDOW_MS, again(), 100);
    // Another sample came before that was taken.
    windows.reopened([START + WINDOW_MS], 200);
    await windows.settled();
    expect(await questions.answer(asked)).toMatchObject(stale);
    windows.recomputed(START + WINDOW_MS, again(), 200);
    await windows.settled();
    const answer = await questions.answer(asked);
    expect(answer).toMatchObject({ complete: true, doubtful: [], windows: 3 });
    expect(sumOf(answer)).toBe(7);
    windows.reopened([START], 300);
    windows.recomputed(START, undefined, 300);
    await windows.settled();
    expect(sumOf(await questions.answer(asked))).toBe(6);
  });

  test('a window that was reopened again while it was computed again', async () => {
    const { questions, windows } = await fed([[one(0)]]);
    const holding = (sum: number) => new Feed().window(0, [one(0, sum)])[0];
    windows.reopened([START], 100);
    // A lane reads all up to 100 now, and meanwhile...
    windows.reopened([START], 200);
    windows.recomputed(START, holding(11), 150);
    await windows.settled();
    const answer = await questions.answer({ ...ALL, from: START });
    expect(answer).toMatchObject({ complete: false, doubtful: [{ reason: 'changed' }] });
    expect(sumOf(answer)).toBe(11);
    windows.recomputed(START, holding(12), 200);
    await windows.settled();
    expect(await questions.answer({ ...ALL, from: START })).toMatchObject({ complete: true });
  });

  test('of what two lanes compute again, that which read more counts, whichever comes last', async () => {
    const { questions, windows } = await fed([[one(0)]]);
    const holding = (sum: number) => new Feed().window(0, [one(0, sum)])[0];
    windows.reopened([START], 100);
    windows.reopened([START], 200);
    windows.recomputed(START, holding(12), 200);
    windows.recomputed(START, holding(11), 100);
    // A lane that catches up finds what was late once more.
    windows.reopened([START], 150);
    await windows.settled();
    const answer = await questions.answer({ ...ALL, from: START });
    expect(answer).toMatchObject({ complete: true, doubtful: [] });
    expect(sumOf(answer)).toBe(12);
    // After a rollback, sequences are lower.
    windows.began(START, TILING, START);
    windows.closed(new Feed().window(0, [one(0, 3)]), boundaryAfter(0));
    windows.reopened([START], 50);
    await windows.settled();
    expect(await questions.answer({ ...ALL, from: START })).toMatchObject({ complete: false });
    windows.recomputed(START, holding(4), 50);
    await windows.settled();
    const rolledBack = await questions.answer({ ...ALL, from: START });
    expect(rolledBack).toMatchObject({ complete: true });
    expect(sumOf(rolledBack)).toBe(4);
  });

  test('messages that the stream had lost', async () => {
    const { questions, windows } = await fed([[one(0)], [one(1)], [one(2)]]);
    windows.gapped({ from: START + WINDOW_MS, to: START + 2 * WINDOW_MS });
    const answer = await questions.answer({ ...ALL, from: START });
    expect(answer).toMatchObject({
      complete: false,
      doubtful: [{ from: time(1), to: time(2), reason: 'gap' }],
      remarks: [`${time(1)} to ${time(2)}: perhaps too low, because the stream had lost messages`],
    });
    expect(sumOf(answer)).toBe(3);
    expect(await questions.answer({ ...ALL, from: START, to: START + WINDOW_MS })).toMatchObject({
      complete: true,
    });
  });

  test('after a rollback, windows are those that are told again', async () => {
    const { questions, windows } = await fed([[one(0)], [one(1)], [one(2)]]);
    windows.gapped({ from: START + WINDOW_MS, to: START + 2 * WINDOW_MS });
    windows.began(START + 2 * WINDOW_MS, TILING, START + WINDOW_MS);
    windows.closed(new Feed().window(2, [one(2, 10)]), boundaryAfter(2));
    await windows.settled();
    const answer = await questions.answer({ ...ALL, from: START });
    expect(answer).toMatchObject({
      windows: 2,
      doubtful: [],
      missing: [{ from: time(1), to: time(2), reason: 'not_read' }],
    });
    expect(sumOf(answer)).toBe(11);
  });

  test('core mode: the first window is a part, and parts of a window add up', async () => {
    const { questions, windows } = recentWindows();
    windows.began(Number.NEGATIVE_INFINITY, TILING);
    windows.closed(new Feed().window(0, [one(0)]), boundaryAfter(0));
    windows.began(Number.NEGATIVE_INFINITY, TILING);
    windows.closed(new Feed().window(0, [one(0)]), boundaryAfter(0));
    windows.closed(new Feed().window(1, [one(1)]), boundaryAfter(1));
    await windows.settled();
    const answer = await questions.answer({ ...ALL, from: START });
    expect(answer.doubtful).toEqual([{ from: time(0), to: time(1), reason: 'partial' }]);
    expect(sumOf(answer)).toBe(3);
  });

  test('names that are gone with their windows change nothing about the names that stay', async () => {
    const { windows, questions } = recentWindows();
    windows.began(START, TILING);
    const feed = new Feed();
    const sent = (window: number, name: string, series: number) =>
      Array.from({ length: series }, (_, i): Sent => {
        return { window, name, type: 'counter', dimensions: { i: `${i}` }, value: i };
      });
    const hour = 3_600_000 / WINDOW_MS;
    for (const [window, name, series] of [
      [0, 'gone', 10],
      [1, 'gone too', 10],
      [hour - 1, 'stays', 3],
      [hour + 1, 'comes', 2],
      [hour + 2, 'comes later', 2],
    ] as const) {
      windows.closed(feed.window(window, sent(window, name, series)), boundaryAfter(window));
      await windows.settled();
    }
    const ask = async (name: string) =>
      (await questions.answer({ ...ALL, name, from: START + 2 * WINDOW_MS })).groups.map((group) => [
        group.name,
        group.count,
      ]);
    expect(await ask('stays')).toEqual([['stays', 3]]);
    expect(await ask('comes')).toEqual([['comes', 2]]);
    expect(await ask('comes later')).toEqual([['comes later', 2]]);
    expect(await ask('*')).toHaveLength(3);
    const { names } = await questions.cardinality();
    expect(names.map(({ name }) => name).sort()).toEqual(['comes', 'comes later', 'stays']);
  });

  test('windows that are over an hour old are gone, and windows that are not closed yet are not there', async () => {
    const { questions, windows } = await fed([[one(0)], [one(1)]]);
    windows.closed([], START + 3601 * WINDOW_MS);
    await windows.settled();
    const answer = await questions.answer({ ...ALL, from: START, to: START + 3602 * WINDOW_MS });
    expect(answer.missing).toEqual([
      { from: time(0), to: time(1), reason: 'expired' },
      { from: time(3601), to: time(3602), reason: 'open' },
    ]);
    expect(sumOf(answer)).toBe(1);
  });

  test('more at once than may wait: the latest are taken, the others skipped', async () => {
    const { windows, questions } = recentWindows(1e6);
    windows.began(START, TILING);
    const feed = new Feed(undefined, 4000);
    for (let window = 0; window < 40; window++) {
      const samples = Array.from({ length: 1000 }, (_, i) => ({ ...one(window), dimensions: { i: `${i}` } }));
      windows.closed(feed.window(window, samples), boundaryAfter(window));
    }
    await windows.settled();
    const { missing, covered } = await questions.answer({ ...ALL, from: START });
    expect(missing).toMatchObject([{ from: time(0), reason: 'skipped' }]);
    expect(covered).toEqual([{ from: missing[0]!.to, to: time(40), windowMs: WINDOW_MS }]);
  });

  test('a window that has no room, even alone', async () => {
    const { windows, questions } = recentWindows(1e6);
    windows.began(START, TILING);
    const feed = new Feed(undefined, 20_000);
    const big = (window: number) =>
      Array.from({ length: 8000 }, (_, i) => ({ ...one(window), dimensions: { id: `${window}-${i}` } }));
    windows.closed(feed.window(0, [one(0)]), boundaryAfter(0));
    await windows.settled();
    windows.closed(feed.window(1, big(1)), boundaryAfter(1));
    await windows.settled();
    windows.closed(feed.window(2, [one(2, 4)]), boundaryAfter(2));
    await windows.settled();
    const answer = await questions.answer({ ...ALL, from: START });
    expect(answer.missing).toEqual([
      { from: time(0), to: time(1), reason: 'evicted' },
      { from: time(1), to: time(2), reason: 'too_large' },
    ]);
    expect(sumOf(answer)).toBe(4);
  });

  test('a slice says that it has only its own windows', async () => {
    const { windows, questionsOf } = recentWindows();
    const feed = new Feed({ index: 1, of: 2 });
    windows.began(START, TILING);
    for (let window = 0; window < 4; window++)
      windows.closed(feed.window(window, [one(window)]), boundaryAfter(window));
    await windows.settled();
    const answer = await questionsOf('1/2').answer({ ...ALL, from: START });
    expect(answer).toMatchObject({ complete: false, windows: 2, seconds: 2, slice: '1/2' });
    expect(answer.remarks).toEqual(['only slice 1/2: the other slices have the other windows']);
    expect(answer.groups).toMatchObject([{ sum: 2, sumPerSecond: 1 }]);
  });
});

describe('questions', () => {
  const wide = (timers: number) =>
    Array.from({ length: 200 * timers }, (_, i): Sent => {
      const dimensions = { id: `${i % timers}` };
      return { window: 0, name: 't', type: 'timer', dimensions, value: 10 ** ((i * 0.37) % 18) };
    });
  const windowOf = async (windows: RecentWindows, timers: number) => {
    windows.began(START, TILING);
    windows.closed(new Feed().window(0, wide(timers)), boundaryAfter(0));
    await windows.settled();
  };

  test('let others have their turn after so many bins and groups, however few points they have', async () => {
    const { windows } = recentWindows();
    const timers = 100;
    await windowOf(windows, timers);
    let [turns, now] = [0, 0];
    // Whenever somebody looks, the turn is over.
    const clock = {
      now: () => START,
      steady: () => (now += 10),
      nextTurn: async () => {
        turns += 1;
      },
    };
    const questions = new RecentQuestions({ windows, clock, slice: '0/1', parts: false });
    const { groups } = await questions.answer({ where: [], by: ['id'], from: START });
    expect(groups).toHaveLength(timers);
    // By timer, for its sketch and for its group; and while the sketches are read, some 30 KB of them.
    expect(turns).toBeGreaterThan(2 * timers + 5);
  });

  test('those that nobody waits for are not answered, and make room for others at once', async () => {
    const { windows, questions } = recentWindows();
    await windowOf(windows, 10);
    const left = new AbortController();
    const kept = questions.answer(ALL);
    const gone = Array.from({ length: 3 }, () => questions.answer(ALL, left.signal));
    await expect(questions.answer(ALL)).rejects.toMatchObject({ code: 'busy' });
    left.abort();
    const more = [questions.answer(ALL), questions.cardinality()];
    const refused = await Promise.allSettled(gone);
    expect(refused.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected']);
    expect((await kept).groups).toHaveLength(1);
    await Promise.all(more);
  });

  test('one that has waited for too long is refused, and the next one is answered', async () => {
    const { windows } = recentWindows();
    await windowOf(windows, 10);
    let now = 0;
    const [held, begun] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const clock = {
      now: () => START,
      steady: () => (now += 10),
      nextTurn: () => {
        begun.resolve();
        return held.promise;
      },
    };
    const questions = new RecentQuestions({ windows, clock, slice: '0/1', parts: false });
    const [first, second] = [questions.answer(ALL), questions.answer(ALL)];
    second.catch(() => {});
    await begun.promise;
    now += 60_000;
    held.resolve();
    // Time that others take is no work of the question.
    await first;
    await expect(second).rejects.toMatchObject({ code: 'busy' });
    await questions.answer(ALL);
  });
});

describe('memory', () => {
  test('stays within RECENT_BYTES whatever comes, and what is left is right', async () => {
    const windowArbitrary = fc.record({
      series: fc.integer({ min: 0, max: 900 }),
      churn: fc.nat(400),
      wide: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(windowArbitrary, { minLength: 10, maxLength: 60 }),
        fc.integer({ min: 3_000_000, max: 6_000_000 }),
        async (drawn, limit) => {
          const { windows, questions } = recentWindows(limit);
          windows.began(START, TILING);
          const feed = new Feed(undefined, 2000);
          const sent: Sent[] = [];
          let next = 0;
          let most = 0;
          let mostWaiting = 0;
          for (const [window, { series, churn, wide }] of drawn.entries()) {
            next += churn;
            const samples = Array.from({ length: series }, (_, i): Sent => {
              const id = `${next + i}`;
              const type = METRIC_TYPES[i % 3]!;
              const dimensions = { id, pod: `pod-${'x'.repeat(wide ? 100 : 1)}-${id}` };
              return { window, name: `n${i % 5}`, type, dimensions, value: i / 8 };
            });
            sent.push(...samples);
            windows.closed(feed.window(window, samples), boundaryAfter(window));
            // While one is taken, others may come: they take a quarter at most.
            mostWaiting = Math.max(mostWaiting, windows.bytes);
            if (window % 3 === 0) continue;
            await windows.settled();
            if (window % 2 > 0) for (let again = 0; again < 2; again++) await questions.answer(ALL);
            most = Math.max(most, windows.bytes);
          }
          await windows.settled();
          expect(most).toBeLessThanOrEqual(limit);
          expect(mostWaiting).toBeLessThanOrEqual(1.25 * limit);
          const question: RecentQuestion = { where: [], by: [], from: START };
          const answer = await questions.answer(question);
          const isCovered = ({ window }: Sent) =>
            answer.covered.some(({ from, to }) => time(window) >= from && time(window) < to);
          expectGroups(answer, sent.filter(isCovered), question);
          expect(answer.covered.at(-1)?.to).toBe(time(drawn.length));
          for (const { reason } of answer.missing) expect(reason).toBe('evicted');
          const cardinality = await questions.cardinality();
          const seriesOf = ({ name, type, dimensions }: Sent) => JSON.stringify([name, type, dimensions]);
          expect(cardinality.series.count).toBe(new Set(sent.filter(isCovered).map(seriesOf)).size);
        },
      ),
      { numRuns: effort(12) },
    );
  });

  test('windows that wait count in full, with their sketches, and those that do not fit are skipped', async () => {
    const limit = 2_000_000;
    const { windows, questions } = recentWindows(limit);
    windows.began(START, TILING);
    const feed = new Feed();
    // 20 timers, whose values have hundreds of bins each: some 0.3 MB of sketches for 0.01 MB of rows.
    const samples = (window: number, timers: number) =>
      Array.from({ length: 60 * timers }, (_, i): Sent => {
        const dimensions = { id: `${i % timers}` };
        return { window, name: 't', type: 'timer', dimensions, value: 10 ** ((i * 7) % 18) };
      });
    let most = 0;
    for (let window = 0; window < 20; window++) {
      windows.closed(feed.window(window, samples(window, 20)), boundaryAfter(window));
      most = Math.max(most, windows.bytes);
    }
    expect(most).toBeGreaterThan(300_000);
    expect(most).toBeLessThanOrEqual(limit / 2);
    // One that alone is larger than all may be.
    windows.closed(feed.window(20, samples(20, 200)), boundaryAfter(20));
    expect(windows.bytes).toBeLessThanOrEqual(limit / 2);
    await windows.settled();
    const { missing, covered } = await questions.answer({ ...ALL, from: START });
    expect(missing.map(({ reason }) => reason)).toEqual(['skipped', 'too_large']);
    expect(missing[1]).toMatchObject({ from: time(20), to: time(21) });
    expect(covered).toMatchObject([{ from: missing[0]!.to, to: time(20) }]);
    // What was closed is computed again, and is too large now.
    windows.reopened([START + 19 * WINDOW_MS], 5);
    windows.recomputed(START + 19 * WINDOW_MS, new Feed().window(19, samples(19, 200))[0], 5);
    await windows.settled();
    const after = await questions.answer({ ...ALL, from: START });
    expect(after.missing.at(-1)).toEqual({ from: time(19), to: time(21), reason: 'too_large' });
  });

  test('none is taken before there is data', () => {
    const { windows } = recentWindows();
    expect(windows.bytes).toBeLessThan(1000);
    windows.began(START, TILING);
    expect(windows.bytes).toBeLessThan(1000);
  });
});

test('the number of a series is found by the reference of its record, from one window to the next', async () => {
  const feed = new Feed();
  const samples = (window: number) =>
    Array.from({ length: 10 }, (_, i): Sent => {
      return { window, name: 'a', type: 'counter', dimensions: { i: `${i}` }, value: 1 };
    });
  const known = new KnownRefs();
  const [[first], [second], [foreign]] = [
    feed.window(0, samples(0)),
    feed.window(1, samples(1)),
    new Feed().window(0, samples(0)),
  ];
  known.begin(first!.records);
  known.add(first!.refs[3]!, 33);
  known.begin(second!.records);
  expect(known.find(second!.refs[3]!)).toBe(33);
  known.begin(foreign!.records);
  expect(known.find(foreign!.refs[3]!)).toBe(-1);
});

test('a question over HTTP for another pipeline is refused', async () => {
  const { questions } = await fed([[]]);
  const reply = async (search: string) =>
    await answerRecent({ kind: 'query', search }, { questions, pipeline: 'mine', now: START });
  expect((await reply('pipeline=mine')).code).toBe(200);
  const refused = await reply('pipeline=other');
  expect(refused.code).toBe(404);
  expect(JSON.parse(String(refused.body))).toMatchObject({ error: { code: 'unknown_instance' } });
});
