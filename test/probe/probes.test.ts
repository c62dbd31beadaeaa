/** What asking the stores regularly finds out about them. */
import { expect, test } from 'vitest';
import { type ProbedSink, Probes } from '../../src/probe/probes.ts';
import type { Question } from '../../src/sink/contract.ts';
import { VirtualClock } from '../deliver/virtual-clock.ts';

const INTERVAL_MS = 1000;
const range = { from: 0, to: 60_000 };
const QUESTIONS: { readonly sums: Question; readonly windows: Question } = {
  sums: { kind: 'sums', name: 'a', type: 'counter', dimension: 'b', series: undefined, range },
  windows: {
    kind: 'windows',
    series: { id: 'x', name: 'a', type: 'counter', dimensions: [] } as never,
    range,
  },
};

/** A store that answers as `state` says. */
function setUp() {
  const clock = new VirtualClock();
  const state = {
    seconds: 1 as number | undefined,
    bytes: 0 as number | undefined,
    written: 0,
    well: true,
    version: '1.0',
    asked: 0,
    questions: 0,
    holds: true,
    name: 'a',
  };
  const heard: (readonly [sink: string, seconds: number])[] = [];
  const answered = (sink: string, seconds: number) => void heard.push([sink, seconds]);
  const questions = () => ({
    sums: { ...QUESTIONS.sums, name: state.name } as Question,
    windows: { ...QUESTIONS.windows, series: { name: state.name, dimensions: [] } as never } as Question,
  });
  const probes = new Probes({ intervalMs: INTERVAL_MS, clock, questions, answered });
  const probed: ProbedSink = {
    id: 'a',
    sink: {
      ask: async () => {
        state.questions += 1;
        if (state.seconds === undefined) throw new Error('no');
        return { seconds: state.seconds, rows: 1 };
      },
      storage: async () => state.bytes,
      version: async () => {
        state.asked += 1;
        return state.version;
      },
    },
    holds: () => state.holds,
    isWell: () => state.well,
    written: () => state.written,
  };
  void probes.run([probed], new AbortController().signal);
  return { clock, state, probes, heard };
}

test('each answer is heard of once, and a question without an answer is not', async () => {
  const { clock, state, heard } = setUp();
  for (const seconds of [1, undefined, 3]) {
    state.seconds = seconds;
    await clock.pass(INTERVAL_MS);
  }
  expect(heard).toEqual([1, 1, 3, 3].map((seconds) => ['a', seconds]));
});

test('the percentiles are of the latest answers, and failed questions are none', async () => {
  const { clock, state, probes } = setUp();
  expect(probes.of('a').querySeconds).toBeNull();
  for (let round = 1; round <= 30; round++) {
    state.seconds = round % 3 === 0 ? undefined : round;
    await clock.pass(INTERVAL_MS);
  }
  // The last 10 rounds that were answered: 16 to 29 without every third, each with two answers.
  const answered = [16, 17, 19, 20, 22, 23, 25, 26, 28, 29];
  expect(probes.of('a').querySeconds).toMatchObject({ p50: answered[4], p95: answered[9], count: 20 });
  // Failed rounds do not make them younger.
  expect(probes.of('a').querySeconds!.overSeconds).toBe(14);
});

test('bytes per row are what the store grew by, not what was in it before, and unknown for a few rows', async () => {
  const { clock, state, probes } = setUp();
  Object.assign(state, { bytes: 5_000_000, written: 700 });
  await clock.pass(INTERVAL_MS);
  Object.assign(state, { bytes: 5_050_000, written: 1_200 });
  await clock.pass(INTERVAL_MS);
  expect(probes.of('a').bytesPerRow).toBeNull();
  Object.assign(state, { bytes: 5_200_000, written: 2_700 });
  await clock.pass(INTERVAL_MS);
  expect(probes.of('a')).toMatchObject({ bytesPerRow: 100, storedBytes: 5_200_000 });
  // It merged what it had.
  state.bytes = 4_000_000;
  await clock.pass(INTERVAL_MS);
  expect(probes.of('a').bytesPerRow).toBeNull();
});

test('what a store grows by a day is known after ten minutes', async () => {
  const { clock, state, probes } = setUp();
  state.bytes = 1_000_000;
  await clock.pass(INTERVAL_MS);
  const from = clock.steady();
  let told: number | null = null;
  while (told === null && clock.steady() - from < 3_600_000) {
    state.bytes += 1_000;
    await clock.pass(INTERVAL_MS);
    told = probes.of('a').bytesPerDay;
  }
  expect(clock.steady() - from).toBeGreaterThanOrEqual(600_000);
  expect(told! / ((1_000 / INTERVAL_MS) * 86_400_000)).toBeCloseTo(1, 1);
  // It deletes more than it gets.
  state.bytes = 0;
  await clock.pass(INTERVAL_MS);
  expect(probes.of('a').bytesPerDay).toBeLessThan(0);
});

test('a store is asked for its version once, and again after it was in trouble', async () => {
  const { clock, state, probes } = setUp();
  await clock.pass(5 * INTERVAL_MS);
  expect([probes.of('a').version, state.asked]).toEqual(['1.0', 1]);
  state.well = false;
  await clock.pass(2 * INTERVAL_MS);
  Object.assign(state, { well: true, version: '1.1' });
  await clock.pass(3 * INTERVAL_MS);
  expect([probes.of('a').version, state.asked]).toEqual(['1.1', 2]);
});

test('a store is not asked about what it does not hold, and says so; its size is known all the same', async () => {
  const { clock, state, probes } = setUp();
  await clock.pass(INTERVAL_MS);
  expect(probes.of('a')).toMatchObject({ notAsked: null, sums: { rows: 1 }, querySeconds: { count: 2 } });
  const before = state.questions;
  Object.assign(state, { holds: false, name: 'b', bytes: 700 });
  await clock.pass(3 * INTERVAL_MS);
  expect(state.questions).toBe(before);
  expect(probes.of('a')).toMatchObject({
    sums: null,
    windows: null,
    querySeconds: null,
    notAsked: 'it did not get b in all of the last 1 minutes (SINK_A_NAMES)',
    storedBytes: 700,
  });
  state.holds = true;
  await clock.pass(INTERVAL_MS);
  expect(probes.of('a')).toMatchObject({ notAsked: null, sums: { rows: 1 }, querySeconds: { count: 2 } });
});

test('the percentiles are of answers about one name', async () => {
  const { clock, state, probes } = setUp();
  await clock.pass(5 * INTERVAL_MS);
  Object.assign(state, { name: 'b', seconds: 3 });
  await clock.pass(INTERVAL_MS);
  expect(probes.of('a').querySeconds).toMatchObject({ p50: 3, p95: 3, count: 2 });
});
