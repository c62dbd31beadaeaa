import { randomInt } from 'node:crypto';
import { expect, test } from 'vitest';
import { LIMIT_MS } from '../limits.ts';
import { runChaos } from './chaos.ts';
import { findings, renderReport } from './report.ts';

/** `npm run chaos` can run for any length of time; this is a short run. */
const RUN = { ms: 15_000, kills: 10, rate: 1_500, series: 150, healMs: LIMIT_MS } as const;
const FIXED_SEED = 1;

test.each([
  ['a fixed seed', FIXED_SEED],
  ['a random seed', randomInt(2 ** 31)],
])('with faults everywhere, %s (%i): every store ends with exactly the truth', async (_, seed) => {
  const log: string[] = [];
  const report = await runChaos(
    { ...RUN, seed, tell: (line) => log.push(line) },
    new AbortController().signal,
  );
  expect(findings(report), `${renderReport(report)}\n${log.join('\n')}`).toEqual([]);
  expect(report.faults.service?.['kill -9']).toBeGreaterThan(2);
  expect(report.messages).toBeGreaterThan(0);
  expect(report.shaped).toBeGreaterThan(0);
});
