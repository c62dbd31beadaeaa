import fc from 'fast-check';
import { expect, test } from 'vitest';
import { SKETCH_SCALE } from '../../src/aggregate/buckets.ts';
import { Tiling } from '../../src/aggregate/tiling.ts';
import { ClosedWindow } from '../../src/aggregate/window.ts';
import {
  digestOfRows,
  digestOfWindow,
  isChosen,
  isSameDigest,
  NO_ROWS,
} from '../../src/deliver/lane/digest.ts';
import { sizeWindow, windowBytes } from '../../src/deliver/lane/queue.ts';
import type { SinkDigests } from '../../src/deliver/lane/writer.ts';
import { NameChoices } from '../../src/deliver/name-choices.ts';
import { MAX_KEPT_BYTES, Verifier, type VerifierOptions } from '../../src/deliver/verifier.ts';
import type { StoredPoint } from '../../src/sink/contract.ts';
import { closedWindow } from '../aggregate/closed-window.ts';
import { counterWindow, WINDOW_MS } from './fixtures.ts';
import { settle, VirtualClock } from './virtual-clock.ts';

async function* rowsOf(points: readonly StoredPoint[]) {
  yield* points;
}
const pointsOf = (window: ReturnType<typeof counterWindow>): StoredPoint[] =>
  Array.from(window.refs, (_, i) => window.point(i));

test('a digest has the sketches of timers, and a row that was written without is no difference', async () => {
  const samples = ['a', 'b', 'c'].map((name, i) => ({
    name,
    type: i < 2 ? ('timer' as const) : ('gauge' as const),
    value: 5,
  }));
  const shape = { windowMs: 1000, latenessMs: 0, maxAheadMs: 0, maxSeries: 10, sketchScale: SKETCH_SCALE };
  const window = closedWindow(samples, Tiling.of(shape), { hasSketches: true });
  const whole = await digestOfWindow(window);
  const points = pointsOf(window);
  const isSame = async (rows: typeof points) => isSameDigest(await digestOfRows(rowsOf(rows), ''), whole);
  expect(await isSame(points)).toBe(true);
  const first = points[0]!;
  const other = { ...first, sketch: first.sketch!.replace(',1]', ',2]') };
  expect(await isSame([other, ...points.slice(1)])).toBe(false);
  expect(await isSame([{ ...first, sketch: null }, ...points.slice(1)])).toBe(true);
  expect(await isSame([{ ...first, sum: 6, sketch: null }, ...points.slice(1)])).toBe(false);
  const plain = await digestOfWindow(closedWindow(samples, Tiling.of(shape)));
  expect(isSameDigest(plain, whole)).toBe(true);
});

test('a digest is the same for the same rows in any order, and different for any other rows', async () => {
  const window = counterWindow(3, 20);
  const whole = await digestOfWindow(window);
  const points = pointsOf(window);
  await fc.assert(
    fc.asyncProperty(fc.shuffledSubarray(points, { minLength: 20 }), async (shuffled) => {
      expect(await digestOfRows(rowsOf(shuffled), '')).toEqual(whole);
    }),
  );
  const [first, second] = points;
  const others = [
    points.slice(1),
    [...points, first!],
    [{ ...first!, sum: first!.sum + 2 ** -40 }, ...points.slice(1)],
    [{ ...first!, min: 0 }, ...points.slice(1)],
    // The values of two rows, swapped.
    [{ ...first!, sum: second!.sum }, { ...second!, sum: first!.sum }, ...points.slice(2)],
    [{ ...first!, instance: 'x' }, ...points.slice(1)],
  ];
  for (const other of others) expect(isSameDigest(await digestOfRows(rowsOf(other), ''), whole)).toBe(false);
  // In core mode, the rows of other instances do not count.
  const mine = { ...first!, instance: 'me' };
  expect(await digestOfRows(rowsOf([mine, second!]), 'me')).toEqual(await digestOfRows(rowsOf([mine]), ''));
});

test('the choice depends only on the window and the share, and a larger share includes a smaller one', () => {
  const starts = Array.from({ length: 20_000 }, (_, i) => 1_763_861_400_000 + i * 10_000);
  const chosen = (share: number) => starts.filter((start) => isChosen(start, share));
  expect(chosen(1)).toHaveLength(starts.length);
  expect(chosen(0)).toHaveLength(0);
  const tenth = chosen(0.1);
  expect(Math.abs(tenth.length - 2000)).toBeLessThan(200);
  expect(chosen(0.01).every((start) => tenth.includes(start))).toBe(true);
});

/** A verifier of a store that holds `held` and answers as `state.answer` says. */
function setUp(options: Partial<VerifierOptions> = {}) {
  const clock = new VirtualClock(0);
  const held = new Map([1, 2, 3].map((number) => [number * 1000, counterWindow(number, 5)]));
  const state = {
    usable: true,
    reads: [] as number[],
    partial: 0,
    closedThrough: 0,
    position: { read: 5, end: 5 },
    answer: 'rows' as 'rows' | 'fails' | 'hangs',
  };
  const digests: SinkDigests = {
    needsKeys: false,
    ofWindow: (window, names) => digestOfWindow(window, names),
    async ofStore({ start, instance }, _keys, _signal, names) {
      state.reads.push(start);
      if (state.answer === 'fails') throw new Error('no connection');
      if (state.answer === 'hangs') return await new Promise(() => {});
      return await digestOfRows(rowsOf(pointsOf(held.get(start)!)), instance, names);
    },
  };
  const told: string[] = [];
  const verifier = new Verifier({
    share: 1,
    replayShare: 0,
    delayMs: 1000,
    digests,
    isUsable: () => state.usable,
    isWhole: (start) => start !== state.partial,
    closedThrough: () => state.closedThrough,
    position: () => state.position,
    clock,
    differs: (difference) => told.push(difference),
    ...options,
  });
  const stop = new AbortController();
  void verifier.run(stop.signal);
  const counts = () => {
    const { equal, different, unknown } = verifier.stats;
    return { equal, different, unknown };
  };
  return { clock, held, state, told, verifier, counts, digests };
}

test('windows are read back after the delay, one at a time', async () => {
  const { clock, state, verifier, counts } = setUp();
  for (const number of [1, 2, 3]) verifier.confirmed(counterWindow(number, 5), 0);
  await clock.pass(900);
  expect(state.reads).toEqual([]);
  state.answer = 'hangs';
  await clock.pass(10_000);
  expect(state.reads).toEqual([1000]);
  state.answer = 'rows';
  // The first read is given up in the end, and the others get their turn.
  await clock.pass(120_000);
  expect(state.reads).toEqual([1000, 2000, 3000]);
  expect(counts()).toEqual({ equal: 2, different: 0, unknown: 1 });
});

test('what a sink is not given is not missing, and what it is given must be there', async () => {
  const names = new NameChoices([
    { from: 0, names: ['s1'] },
    { from: 2000, names: ['!s4'] },
  ]);
  const { clock, held, verifier, counts, told } = setUp({ names });
  for (const number of [1, 2]) held.set(number * WINDOW_MS, counterWindow(number, 4));
  held.set(3000, counterWindow(3, 3));
  for (const number of [1, 2, 3]) verifier.confirmed(counterWindow(number, 5), 0);
  await clock.pass(10_000);
  expect(counts()).toEqual({ equal: 2, different: 1, unknown: 0 });
  expect(told).toEqual([expect.stringContaining('it has 3 rows in the store, not the 4')]);
});

test('it says of how many windows those that were checked are a part, and when it last could tell', async () => {
  const some = setUp({ share: 0 });
  for (const number of [1, 2, 3]) some.verifier.confirmed(counterWindow(number, 5), 0);
  expect(some.verifier.stats).toMatchObject({ confirmed: 3, lastAt: null });
  const { clock, state, verifier } = setUp();
  verifier.confirmed(counterWindow(1, 5), 0);
  await clock.pass(1500);
  const found = { equal: 1, lastAt: '1970-01-01T00:00:01.000Z' };
  expect(verifier.stats).toMatchObject(found);
  state.answer = 'fails';
  verifier.confirmed(counterWindow(2, 5), 0);
  await clock.pass(5000);
  expect(verifier.stats).toMatchObject({ ...found, confirmed: 2, unknown: 1 });
});

test('windows that are read back by their keys take bounded memory: those that do not fit are unknown', async () => {
  const first = counterWindow(1, 150_000);
  const large = (number: number) => new ClosedWindow({ ...first, start: number * WINDOW_MS });
  const fits = Math.floor(MAX_KEPT_BYTES / windowBytes(large(1)));
  expect(fits).toBeGreaterThan(1);
  expect(windowBytes(large(1))).toBe(sizeWindow(large(1)).bytes);
  const NUMBERS = Array.from({ length: fits + 2 }, (_, i) => i + 1);
  const confirmAll = async (needsKeys: boolean) => {
    const digests: SinkDigests = {
      needsKeys,
      ofWindow: async () => NO_ROWS,
      ofStore: async () => NO_ROWS,
    };
    const { clock, verifier, counts } = setUp({ digests });
    for (const number of NUMBERS) verifier.confirmed(large(number), 0);
    const before = counts();
    await clock.pass(2000);
    verifier.confirmed(large(100), 0);
    await clock.pass(2000);
    return { before: before.unknown, after: counts() };
  };
  expect(await confirmAll(true)).toEqual({ before: 2, after: { equal: fits + 1, different: 0, unknown: 2 } });
  // For a store that is read by range, no window has to be kept.
  expect(await confirmAll(false)).toEqual({
    before: 0,
    after: { equal: fits + 3, different: 0, unknown: 0 },
  });
});

test('setting the clock back or forward does not change when a window is verified', async () => {
  const { clock, state, verifier, counts } = setUp();
  verifier.confirmed(counterWindow(1, 5), 0);
  await clock.pass(500);
  clock.setBack(3_600_000);
  verifier.confirmed(counterWindow(2, 5), 0);
  await clock.pass(600);
  expect(state.reads).toEqual([1000]);
  clock.setBack(-7_200_000);
  verifier.confirmed(counterWindow(3, 5), 0);
  await clock.pass(500);
  expect(state.reads).toEqual([1000, 2000]);
  await clock.pass(600);
  expect(counts()).toEqual({ equal: 3, different: 0, unknown: 0 });
});

test('unknown: the store is down or catching up, refused points, cannot be read, or does not answer', async () => {
  const { clock, state, verifier, counts } = setUp();
  state.usable = false;
  verifier.confirmed(counterWindow(1, 5), 0);
  state.usable = true;
  verifier.confirmed(counterWindow(2, 5), 1);
  expect(counts()).toEqual({ equal: 0, different: 0, unknown: 2 });
  verifier.confirmed(counterWindow(3, 5), 0);
  state.answer = 'fails';
  await clock.pass(2000);
  expect(counts()).toEqual({ equal: 0, different: 0, unknown: 3 });
  expect(state.reads).toEqual([3000]);
  verifier.confirmed(counterWindow(1, 5), 0);
  state.usable = false;
  await clock.pass(2000);
  state.usable = true;
  verifier.confirmed(counterWindow(2, 5), 0);
  state.partial = 2000;
  await clock.pass(2000);
  expect(counts().unknown).toBe(5);
  expect(state.reads).toEqual([3000]);
  const blind = setUp({ digests: undefined });
  blind.verifier.confirmed(counterWindow(1, 5), 0);
  expect(blind.counts()).toEqual({ equal: 0, different: 0, unknown: 1 });
});

test('a window that is old enough to be deleted is unknown, however late it was written', async () => {
  const { clock, held, state, told, verifier, counts } = setUp({ keepsMs: 3_600_000 });
  await clock.pass(7_200_000);
  held.set(1000, counterWindow(1, 0));
  verifier.confirmed(counterWindow(1, 5), 0);
  const young = counterWindow(7200, 5);
  held.set(young.start, young);
  verifier.confirmed(young, 0);
  await clock.pass(10_000);
  expect(counts()).toEqual({ equal: 1, different: 0, unknown: 1 });
  expect([told, state.reads]).toEqual([[], [young.start]]);
});

test('a rewritten window is verified as it was last written, even if it was just being read', async () => {
  const { clock, held, state, told, verifier, counts, digests } = setUp();
  const sums = (i: number) => i + 0.5;
  verifier.confirmed(counterWindow(1, 5), 0);
  verifier.reopened(1000, 77);
  held.set(1000, counterWindow(1, 5, sums));
  await clock.pass(5000);
  expect(state.reads).toEqual([]);
  verifier.confirmed(counterWindow(1, 5, sums), 0);
  await clock.pass(5000);
  expect(counts()).toEqual({ equal: 1, different: 0, unknown: 0 });

  let answer: () => void = () => {};
  const ofStore = digests.ofStore;
  digests.ofStore = async (window, keys, signal) => {
    await new Promise<void>((resolve) => {
      answer = resolve;
    });
    return await ofStore(window, keys, signal);
  };
  verifier.confirmed(counterWindow(2, 5), 0);
  await clock.pass(2000);
  held.set(2000, counterWindow(2, 5, sums));
  verifier.reopened(2000, 78);
  answer();
  await settle();
  expect(counts()).toEqual({ equal: 1, different: 0, unknown: 0 });
  expect(told).toEqual([]);
});

test('a difference is reported only if the stream confirms it', async () => {
  const asked: [number, number][] = [];
  const sums = (i: number) => i + 0.5;
  let truth = [counterWindow(1, 5, sums)];
  const { clock, held, state, told, verifier, counts } = setUp({
    recompute: async (start, through) => {
      asked.push([start, through]);
      return { windows: truth, read: 5 };
    },
  });
  // Another instance has rewritten the window, and we have not read the message yet.
  held.set(1000, counterWindow(1, 5, sums));
  verifier.confirmed(counterWindow(1, 5), 0);
  await clock.pass(2000);
  expect(counts()).toEqual({ equal: 1, different: 0, unknown: 0 });
  expect(state.reads).toEqual([1000]);
  truth = [counterWindow(2, 5)];
  held.set(2000, counterWindow(2, 4));
  verifier.reopened(2000, 9);
  state.closedThrough = 7;
  verifier.confirmed(counterWindow(2, 5), 0);
  await clock.pass(2000);
  // The window is read once more, some time later.
  expect(counts().different).toBe(0);
  await clock.pass(5000);
  expect(counts()).toEqual({ equal: 1, different: 1, unknown: 0 });
  expect(state.reads).toEqual([1000, 2000, 2000]);
  expect(told).toEqual([
    'window 1970-01-01T00:00:02.000Z: it has 4 rows in the store, not the 5 computed from the stream',
  ]);
  expect(verifier.stats.lastDifference).toBe(told[0]);
  expect(asked).toEqual([
    [1000, 0],
    [2000, 9],
  ]);
});

test('a window that another instance is rewriting, for a message that we have not read yet, is not a difference', async () => {
  const sums = (i: number) => i + 0.5;
  let read = 5;
  const { clock, held, state, told, verifier, counts } = setUp({
    recompute: async (start) => ({ windows: [counterWindow(start / 1000, 5)], read }),
  });
  // The other instance had written half of it.
  held.set(1000, counterWindow(1, 5, sums));
  verifier.confirmed(counterWindow(1, 5), 0);
  await clock.pass(2000);
  held.set(1000, counterWindow(1, 5));
  await clock.pass(5000);
  expect(counts()).toEqual({ equal: 1, different: 0, unknown: 0 });
  // We get the message in time, or not.
  held.set(2000, counterWindow(2, 5, sums));
  verifier.confirmed(counterWindow(2, 5), 0);
  await clock.pass(2000);
  verifier.reopened(2000, 9);
  await clock.pass(5000);
  expect(counts()).toEqual({ equal: 1, different: 0, unknown: 0 });
  verifier.confirmed(counterWindow(2, 5), 0);
  state.position = { read: 5, end: 8 };
  await clock.pass(10_000);
  expect(counts()).toEqual({ equal: 1, different: 0, unknown: 1 });
  verifier.confirmed(counterWindow(2, 5), 0);
  state.position = { read: 5, end: 5 };
  read = 6;
  await clock.pass(10_000);
  expect(counts()).toEqual({ equal: 1, different: 0, unknown: 2 });
  expect(told).toEqual([]);
});

test('a share is recomputed from the stream, even if the store has what was written', async () => {
  const { clock, told, verifier, counts } = setUp({
    replayShare: 1,
    recompute: async () => ({ windows: [counterWindow(1, 6)], read: 5 }),
  });
  verifier.confirmed(counterWindow(1, 5), 0);
  await clock.pass(10_000);
  expect(counts()).toEqual({ equal: 0, different: 1, unknown: 0 });
  expect(told[0]).toContain('it has 5 rows in the store, not the 6 computed from the stream');
  // If the stream no longer holds the window, the store is compared with what was written.
  const old = setUp({ replayShare: 1, recompute: async () => undefined });
  old.verifier.confirmed(counterWindow(1, 5), 0);
  old.held.set(2000, counterWindow(2, 4));
  old.verifier.confirmed(counterWindow(2, 5), 0);
  await old.clock.pass(2000);
  expect(old.counts()).toEqual({ equal: 1, different: 0, unknown: 1 });
  // In core mode, only what was written is known.
  const core = setUp({ recompute: undefined });
  core.held.set(2000, counterWindow(2, 4));
  core.verifier.confirmed(counterWindow(2, 5), 0);
  await core.clock.pass(2000);
  expect(core.told).toEqual([
    'window 1970-01-01T00:00:02.000Z: it has 4 rows in the store, not the 5 written',
  ]);
});
