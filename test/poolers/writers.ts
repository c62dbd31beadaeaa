/** Several writers at once, as lanes of several services behind one pooler. */
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import type { Point } from '../../src/aggregate/point.ts';
import type { Sink } from '../../src/sink/contract.ts';
import { differences, EVERYTHING, manyPoints, readAll, START, WINDOW_MS } from '../conformance/points.ts';

const NEVER = new AbortController().signal;
/** Each sink has this many writes under way, so three sinks have about twenty connections. */
const LANES = 7;
const WINDOWS = 6;
const POINTS = 1_500;
const BATCH = 150;
const MAX_ATTEMPTS = 100;
const AGAIN_MS = 20;

/** The points of six windows. */
export function sixWindows(instance: string, salt: number): Point[] {
  return Array.from({ length: WINDOWS }, (_, window) =>
    manyPoints(POINTS, salt + window).map((point) => ({
      ...point,
      instance,
      windowStart: START + window * WINDOW_MS,
    })),
  ).flat();
}

/** Writes all points in batches, in a random order, as a lane does: again until they are written. */
export async function writeAll(sink: Sink, points: readonly Point[]): Promise<void> {
  const batches = Array.from({ length: Math.ceil(points.length / BATCH) }, (_, n) =>
    points.slice(n * BATCH, (n + 1) * BATCH),
  ).sort(() => Math.random() - 0.5);
  const lane = async () => {
    for (let batch = batches.pop(); batch !== undefined; batch = batches.pop()) await writeOne(sink, batch);
  };
  await Promise.all(Array.from({ length: LANES }, lane));
}

async function writeOne(sink: Sink, points: readonly Point[]): Promise<void> {
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt += 1) {
    const outcome = await sink.write({ points }, NEVER);
    if (outcome.kind === 'written') return;
    expect(outcome.kind).toBe('retry');
    await sleep(AGAIN_MS);
  }
  throw new Error(`not written after ${MAX_ATTEMPTS} attempts`);
}

/**
 * `one` and `other` have tables of their own; `same` has that of `one`. All of them write, read and remove at once. The
 * rows must then be exactly those that were written and not removed.
 */
export async function expectExactRows(one: Sink, other: Sink, same: Sink): Promise<void> {
  const [ofOne, ofOther, ofSame] = [sixWindows('a', 0), sixWindows('b', 7), sixWindows('c', 11)];
  const gone = manyPoints(POINTS, 99).map((point) => ({ ...point, windowStart: START - WINDOW_MS }));
  await writeAll(one, gone);
  await Promise.all([
    writeAll(one, ofOne),
    writeAll(other, ofOther),
    writeAll(same, ofSame),
    // What a reader sees meanwhile may be incomplete, but is never something else.
    readAll(other, EVERYTHING, NEVER),
    same.remove({ points: gone }, NEVER),
  ]);
  expect(differences(await readAll(one, EVERYTHING, NEVER), [...ofOne, ...ofSame])).toEqual([]);
  expect(differences(await readAll(other, EVERYTHING, NEVER), ofOther)).toEqual([]);
  // The same keys from two sinks at once: the rows of either, whole, and no key twice.
  await Promise.all([writeAll(one, ofOne), writeAll(same, ofOne), writeAll(other, ofOther)]);
  expect(differences(await readAll(same, EVERYTHING, NEVER), [...ofOne, ...ofSame])).toEqual([]);
  expect(differences(await readAll(other, EVERYTHING, NEVER), ofOther)).toEqual([]);
}
