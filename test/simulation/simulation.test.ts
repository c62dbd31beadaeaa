/**
 * The whole engine on a virtual clock, with faults from a seed. A failure names its seed: SIM_SEED=<seed> runs that one
 * alone. Longer: npm run simulate -- --seeds 100000.
 */
import { expect, test } from 'vitest';
import { describeFailure, type Outcome, simulate } from './simulation.ts';

const SEEDS = 1000;
/** On two cores that others share. */
const TIMEOUT_MS = 300_000;
/** What a run may meet: none of it may be missing from so many seeds, or they test less than they seem to. */
const MET = [
  'take',
  'crawl',
  'late',
  'partial',
  'fail-before',
  'fail-after',
  'fail-part',
  'hang',
  'deaf',
  'throttle',
  'refuse',
  'kill',
  'stop',
  'landed-late',
  'disconnect',
  'lose-consumers',
  'checkpoints',
  'gap',
  'gave-up',
  'catch-up',
  'caught-up',
  'replay-failed',
  'reopened',
  'set-back',
  'reshaped',
  'reslice',
  'pause',
  'resume',
];

const only = process.env.SIM_SEED;

async function failureOf(outcome: Outcome): Promise<string | undefined> {
  // Others of this process get their turn: nothing in a run waits for the event loop.
  await new Promise((resolve) => setImmediate(resolve));
  return outcome.failure === undefined ? undefined : describeFailure(outcome);
}

test.runIf(only !== undefined)('the seed SIM_SEED', async () => {
  expect(await failureOf(await simulate(Number(only)))).toBeUndefined();
});

test.runIf(only === undefined)(
  `${SEEDS} seeds: every store holds the truth, whatever happens`,
  async () => {
    const met = new Map<string, number>();
    for (let seed = 1; seed <= SEEDS; seed++) {
      const outcome = await simulate(seed);
      expect(await failureOf(outcome)).toBeUndefined();
      for (const [kind, count] of outcome.counts) met.set(kind, (met.get(kind) ?? 0) + count);
    }
    for (const kind of MET) expect(met.get(kind) ?? 0, kind).toBeGreaterThan(10);
  },
  TIMEOUT_MS,
);

test.runIf(only === undefined)(
  'it finds a source that does not wait for a reader who asked for time',
  async () => {
    for (let seed = 1; seed <= 300; seed++) {
      if ((await simulate(seed, { forgetsHold: true })).failure?.invariant === 'I5') return;
    }
    expect.unreachable('the simulation does not see what it is there to see');
  },
);

test.runIf(only === undefined)('a seed is one run: the same steps to the last', async () => {
  for (const seed of [1, 2, 3, 1001, 123_456_789]) {
    const [first, second] = [await simulate(seed), await simulate(seed)];
    expect(second.hash).toBe(first.hash);
    expect([...second.counts]).toEqual([...first.counts]);
  }
  expect((await simulate(1)).hash).not.toBe((await simulate(2)).hash);
});
