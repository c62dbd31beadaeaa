import { expect, test } from 'vitest';
import { WINDOWS } from '../chaos/traffic.ts';
import { STANDARD_KINDS } from './kinds/index.ts';
import { correctness, renderReport } from './report.ts';
import { runSiege } from './siege.ts';

/** `npm run siege` goes on for a minute, and looks at times and memory as well. */
const RUN = { seconds: 5, rate: 1_000, kinds: STANDARD_KINDS, env: WINDOWS } as const;

test('everything hostile at once: the honest series are equal, all is accounted for, and nothing of others changes', async () => {
  const report = await runSiege({ ...RUN, tell() {} });
  const missed = correctness(report).filter(({ isMet }) => !isMet);
  expect(missed, renderReport(report)).toEqual([]);
  expect(report.honest.rows).toBeGreaterThan(0);
  // The siege was one.
  const { still, ...active } = report.kinds;
  for (const [name, { done }] of Object.entries(active)) expect(done, name).toBeGreaterThan(0);
  expect(active.viewer!.refused).toBeGreaterThan(0);
  expect(active.operator!.refused).toBeGreaterThan(0);
  expect(report.refusedRequests).toBeGreaterThan(0);
  expect(report.counts.late).toBeGreaterThan(0);
  expect(report.counts.ahead).toBeGreaterThan(0);
  expect(report.counts['messages rejected: not_json']).toBeGreaterThan(0);
});
