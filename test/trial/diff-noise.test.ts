/** How often `trial diff` names a store for noise, and how often it misses a change, in trials drawn at random. */
import { expect, test } from 'vitest';
import { seededRandom } from '../../src/load/random.ts';
import { diffOf } from '../../src/trial/diff.ts';
import { effort } from '../effort.ts';
import { naturesOf, noisyTrial } from './noisy-trials.ts';

const STORES = [2, 3, 4];
/** At most this share of pairs may name a store though nothing changed. (Of the first 2,000, it is 0.0015.) */
const FALSE_SHARE = 0.0025;
const FOUND_SHARE = 0.99;
const QUERY_MS = 15;
const DELAY_MS = 20;

/** Returns which stores are named in so many pairs of trials, by number of pair. */
function named(pairs: number, delayMs: number): string[] {
  return Array.from({ length: pairs }, (_, pair) => {
    const random = seededRandom(pair);
    const natures = naturesOf(STORES[pair % STORES.length]!, random, delayMs > 0 ? QUERY_MS : undefined);
    const before = noisyTrial(natures, random);
    const after = noisyTrial(natures, random, { delayed: 'a', delayMs });
    return diffOf(before, after).changed.join();
  });
}

test('names no store of the same build, however busy the machine', () => {
  const pairs = effort(400);
  const wrong = named(pairs, 0).flatMap((changed, pair) => (changed === '' ? [] : [`${pair}: ${changed}`]));
  expect(wrong.length, wrong.join('; ')).toBeLessThanOrEqual(FALSE_SHARE * pairs);
});

test('names the store that got 20 ms slower, and only it', () => {
  const pairs = effort(200);
  const wrong = named(pairs, DELAY_MS).flatMap((changed, pair) =>
    changed === 'a' ? [] : [`${pair}: ${changed}`],
  );
  expect(wrong.length, wrong.join('; ')).toBeLessThanOrEqual((1 - FOUND_SHARE) * pairs);
});
