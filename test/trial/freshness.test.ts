import { expect, test } from 'vitest';
import type { Clock } from '../../src/base/clock.ts';
import { measureFreshness } from '../../src/trial/freshness.ts';
import { MISSED_AFTER_MS } from '../../src/trial/result.ts';
import type { TrialTable } from '../../src/trial/tables.ts';
import { makePoint, START, WINDOW_MS } from '../conformance/points.ts';
import { windowsOf } from './windows.ts';

const windows = windowsOf(
  Array.from({ length: 10 }, (_, index) =>
    makePoint({ name: 'requests', windowStart: START + index * WINDOW_MS, values: { count: 1, sum: 1 } }),
  ),
);

/** A store that takes everything, and returns the rows of the first windows only. */
async function fresh(returned: number) {
  let now = 0;
  const clock: Clock = {
    now: () => now,
    steady: () => now,
    sleep: async (ms) => {
      now += ms;
    },
    nextTurn: async () => {},
    random: () => 0,
  };
  const sink = {
    async query({ range }: { range: { from: number } }) {
      now += 1;
      return [{ key: [], value: range.from < START + returned * WINDOW_MS ? 1 : 0 }];
    },
  };
  const writer = { write: async () => ({ kind: 'written' }) };
  const limits = { maxPoints: 1000, maxBytes: 1e6, inFlight: 1 };
  const table = {
    config: { module: { limits }, values: {}, timeoutMs: 1000 },
    clients: async () => [sink, sink],
    writers: async () => [writer],
  } as unknown as TrialTable;
  return await measureFreshness(table, windows, {
    ...{ writers: 1, latenessMs: 2000, clock, signal: new AbortController().signal },
    windowOver: () => {},
  });
}

test('a window that a query does not return counts as the longest wait, and not as none', async () => {
  expect(await fresh(10)).toMatchObject({ missed: 0, windows: 10 });
  expect((await fresh(10))!.returned.p95).toBeLessThan(10);
  const some = (await fresh(8))!;
  expect([some.missed, some.returned.p95]).toEqual([2, MISSED_AFTER_MS]);
  expect(some.returned.p50).toBeLessThan(10);
  expect(await fresh(0)).toMatchObject({
    missed: 10,
    returned: { p50: MISSED_AFTER_MS, p95: MISSED_AFTER_MS },
  });
});
