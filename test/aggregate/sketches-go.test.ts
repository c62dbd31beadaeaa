/** The sketch beside Datadog's own in Go, where Go is at hand and can get it. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { QUANTILES } from '../../src/aggregate/sketch.ts';
import { seededRandom } from '../../src/load/random.ts';
import { temporaryFolder } from '../../src/servers/server-process.ts';
import { effort } from '../effort.ts';
import { DATADOG_ERROR, draw, ownQuantiles } from './distributions.ts';

const DISTRIBUTIONS = effort(10_000);
const MAX_OUTPUT_BYTES = 100_000_000;

/** Of two negative values on both sides of a rank, sketches-go takes the higher; all else takes the lower. */
function indexOfGo(sorted: readonly number[], rank: number): number {
  const negative = sorted.filter((value) => value < 0).length;
  return rank < negative ? negative - 1 - Math.max(0, Math.floor(negative - 1 - rank)) : Math.floor(rank);
}

test('has the quantiles of sketches-go within the sum of both errors', (context) => {
  const folder = temporaryFolder('sketches-go');
  context.onTestFinished(() => folder.remove());
  const program = join(folder.path, 'sketches');
  const source = join(import.meta.dirname, 'sketches-go');
  const built = spawnSync('go', ['build', '-o', program, '.'], { cwd: source, encoding: 'utf8' });
  context.skip(built.status !== 0, `needs go, and its modules: ${built.error?.message ?? built.stderr}`);

  const random = seededRandom(21);
  const all = Array.from({ length: DISTRIBUTIONS }, () => draw(random));
  const input = all.map((values) => JSON.stringify({ values, quantiles: QUANTILES })).join('\n');
  const { status, stdout, stderr } = spawnSync(program, {
    input,
    encoding: 'utf8',
    maxBuffer: MAX_OUTPUT_BYTES,
  });
  expect(status, stderr).toBe(0);
  const answers = stdout
    .trim()
    .split('\n')
    .map((line): number[] => JSON.parse(line));
  expect(answers.length).toBe(DISTRIBUTIONS);
  let compared = 0;
  for (const [i, values] of all.entries()) {
    const { quantiles, error } = ownQuantiles(values);
    const sorted = [...values].sort((a, b) => a - b);
    for (const [j, q] of QUANTILES.entries()) {
      const rank = q * (values.length - 1);
      const exact = sorted[indexOfGo(sorted, rank)]!;
      const other = answers[i]![j]!;
      expect(Math.abs(other - exact)).toBeLessThanOrEqual((1e-9 + DATADOG_ERROR) * Math.abs(exact));
      if (exact !== sorted[Math.floor(rank)]) continue;
      compared++;
      expect(Math.abs(quantiles[j]! - other)).toBeLessThanOrEqual(
        (1e-9 + error + DATADOG_ERROR) * Math.abs(exact),
      );
    }
  }
  expect(compared).toBeGreaterThan(0.9 * DISTRIBUTIONS * QUANTILES.length);
});
