import fc from 'fast-check';
import { expect, test } from 'vitest';
import { METRIC_TYPES } from '../../src/aggregate/point.ts';
import { systemClock } from '../../src/base/clock.ts';
import { BlockMaker } from '../../src/recent/block.ts';
import { LATELY_MS, type RecentQuestion } from '../../src/recent/question.ts';
import { RecentQuestions } from '../../src/recent/recent-questions.ts';
import { RecentWindows } from '../../src/recent/recent-windows.ts';
import { effort } from '../effort.ts';
import { boundaryAfter, Feed, recentWindows, type Sent, START, TILING, WINDOW_MS } from './feed.ts';

/** So few bits apart that a sum and what rounding took off it hold all of them, in any order. */
const sampleArbitrary: fc.Arbitrary<Omit<Sent, 'window'>> = fc.record({
  name: fc.constantFrom('a', 'b', 'http.requests'),
  type: fc.constantFrom(...METRIC_TYPES),
  dimensions: fc.constantFrom<Record<string, string>>({}, { app: 'api' }, { app: 'web', status: '200' }),
  value: fc.oneof(
    fc.integer({ min: -3, max: 300 }),
    fc.integer({ min: -(2 ** 40), max: 2 ** 40 }).map((n) => n / 1024),
    // Timers of these have buckets that are halved.
    fc.integer({ min: -20, max: 31 }).map((n) => 2 ** n),
    fc.constantFrom(0, -0.5, 255, 256, 65_536, 2 ** 31, 0.1),
  ),
});
const trafficArbitrary = fc.array(fc.array(sampleArbitrary, { maxLength: 10 }), {
  minLength: 20,
  maxLength: 45,
});
const QUESTIONS: readonly RecentQuestion[] = [
  { where: [], by: [] },
  { where: [], by: ['app', 'status'] },
  { name: 'a', where: [{ key: 'app', glob: '*i' }], by: [] },
];

const sampleOf = (window: number, i: number): Sent => ({
  window,
  name: `n${i % 5}`,
  type: METRIC_TYPES[i % 3]!,
  dimensions: { id: `${i}` },
  value: i,
});
const samplesOf = (window: number, series: number) =>
  Array.from({ length: series }, (_, i) => sampleOf(window, i));

async function fed(windows: RecentWindows, feed: Feed, from: number, to: number, series: number) {
  for (let window = from; window < to; window++)
    windows.closed(feed.window(window, samplesOf(window, series)), boundaryAfter(window));
  await windows.settled();
}

test('answers are the same to the last bit from blocks and from windows, also where windows were recomputed', async () => {
  await fc.assert(
    fc.asyncProperty(
      trafficArbitrary,
      fc.array(fc.record({ window: fc.nat(44), samples: fc.array(sampleArbitrary, { maxLength: 5 }) }), {
        maxLength: 3,
      }),
      fc.nat(19),
      async (traffic, again, first) => {
        const { windows, questions, questionsOf } = recentWindows();
        const feed = new Feed();
        const close = async (window: number) => {
          const sent = traffic[window]!.map((sample) => ({ ...sample, window }));
          windows.closed(feed.window(window, sent), boundaryAfter(window));
          await windows.settled();
        };
        const same = async (from: number) => {
          for (const question of QUESTIONS) {
            const asked = { ...question, from: START + from * WINDOW_MS, sketches: true };
            // Nobody asked these before, so they have no blocks.
            const expected = await questionsOf('0/1').answer(asked);
            for (let times = 0; times < 3; times++) {
              expect(await questions.answer(asked)).toEqual(expected);
              await questions.prepared();
            }
          }
        };
        windows.began(START, TILING);
        for (let window = 0; window < traffic.length - 1; window++) await close(window);
        await same(first);
        for (const [i, { window, samples }] of again.entries()) {
          if (window >= traffic.length - 1) continue;
          const sent = samples.map((sample) => ({ ...sample, window }));
          windows.recomputed(START + window * WINDOW_MS, new Feed().window(window, sent)[0], 100 + i);
        }
        await windows.settled();
        await same(first);
        await close(traffic.length - 1);
        await same(first + 1);
      },
    ),
    { numRuns: effort(25) },
  );
});

test('what rounding took off a sum of a block is not lost where that sum is whole and small', async () => {
  const { windows, questions } = recentWindows();
  windows.began(START, TILING);
  const feed = new Feed();
  const values: Readonly<Record<number, number>> = { 8: 2 ** 70, 9: 0.5, 10: -(2 ** 70) };
  for (let window = 0; window < 24; window++) {
    const sent = { window, name: 'a', type: 'counter', dimensions: {}, value: values[window] ?? 0 } as const;
    windows.closed(feed.window(window, [sent]), boundaryAfter(window));
  }
  await windows.settled();
  const sumFrom = async (window: number) => {
    const { groups } = await questions.answer({ where: [], by: [], from: START + window * WINDOW_MS });
    await questions.prepared();
    return groups[0]!.sum;
  };
  // Blocks are made of windows that were asked about twice; totals of series, when the same is asked twice.
  for (const window of [0, 0, 1, 1, 1]) expect(await sumFrom(window)).toBe(0.5);
});

/** As `recentWindows`, on a clock whose time is given. */
function made(limitBytes: number) {
  let now = 0;
  const clock = { ...systemClock, now: () => START, steady: () => now };
  const windows = new RecentWindows({ limitBytes, clock });
  windows.began(START, TILING);
  const questions = new RecentQuestions({ windows, clock, slice: '0/1', parts: false });
  const ask = async () => {
    await questions.answer({ where: [], by: [], from: START });
    await questions.prepared();
  };
  return { windows, questions, ask, pass: (ms: number) => (now += ms) };
}

test('blocks are made when windows are asked about again, and given back when nobody asked for long', async () => {
  const { windows, questions, ask, pass } = made(64e6);
  const feed = new Feed(undefined, 2000);
  await fed(windows, feed, 0, 40, 600);
  const before = windows.bytes;
  await ask();
  const once = windows.bytes - before;
  await ask();
  const twice = windows.bytes - before;
  // The totals of all series take some of it, and were there before there were blocks.
  expect(once).toBeLessThan(10_000);
  expect(twice).toBeGreaterThan(once + 40_000);
  pass(LATELY_MS - 1);
  await fed(windows, feed, 40, 41, 1);
  await questions.prepared();
  expect(windows.bytes).toBeGreaterThan(before + 40_000);
  pass(1);
  await fed(windows, feed, 41, 42, 1);
  expect(windows.bytes).toBeLessThan(before + 10_000);
});

test('no more is made of windows than room was asked for, whether their sums are whole or not', async () => {
  await fc.assert(
    fc.asyncProperty(trafficArbitrary, fc.constantFrom(1, 0.1), async (traffic, unit) => {
      const { windows } = recentWindows();
      const feed = new Feed();
      windows.began(START, TILING);
      for (const [window, samples] of traffic.entries()) {
        const sent = samples.map((sample) => ({ ...sample, value: sample.value * unit, window }));
        windows.closed(feed.window(window, sent), boundaryAfter(window));
      }
      await windows.settled();
      const view = windows.view()!;
      const maker = new BlockMaker(view.windows, view.dictionary);
      const made = await maker.make(async () => true);
      expect(made!.reduce((sum, { bytes }) => sum + bytes, 0)).toBeLessThanOrEqual(maker.bytes);
    }),
    { numRuns: effort(25) },
  );
});

test('counters that are whole need no room for what rounding takes off their sums', async () => {
  const roomFor = async (value: number) => {
    const { windows } = recentWindows();
    const feed = new Feed(undefined, 2000);
    windows.began(START, TILING);
    const sent = Array.from({ length: 500 }, (_, i): Sent => ({ ...sampleOf(0, 3 * i), value }));
    windows.closed(feed.window(0, sent), boundaryAfter(0));
    await windows.settled();
    const view = windows.view()!;
    const bytes = view.windows.reduce((sum, window) => sum + window.bytes, 0);
    return new BlockMaker(view.windows, view.dictionary).bytes - bytes;
  };
  expect((await roomFor(0.1)) - (await roomFor(1))).toBe(500 * Float64Array.BYTES_PER_ELEMENT);
});

test('blocks make room for windows, and no window goes for a block', async () => {
  const limit = 4_000_000;
  const [asked, quiet] = [made(limit), made(limit)];
  const [feed, other] = [new Feed(undefined, 6000), new Feed(undefined, 6000)];
  let [most, mostMore] = [0, 0];
  const windows = 72;
  for (let window = 0; window < windows; window++) {
    await fed(asked.windows, feed, window, window + 1, 3000);
    await fed(quiet.windows, other, window, window + 1, 3000);
    if (window > 20) for (let times = 0; times < 2; times++) await asked.ask();
    most = Math.max(most, asked.windows.bytes);
    mostMore = Math.max(mostMore, asked.windows.bytes - quiet.windows.bytes);
    expect(asked.windows.view()!.windows.length).toBe(quiet.windows.view()!.windows.length);
  }
  expect(most).toBeLessThanOrEqual(limit);
  expect(mostMore).toBeGreaterThan(200_000);
  expect(quiet.windows.view()!.windows.length).toBeLessThan(windows);
});
