import { describe, expect, test } from 'vitest';
import { SKETCH_SCALE } from '../../src/aggregate/buckets.ts';
import { coarseTiling } from '../../src/aggregate/coarse-tiling.ts';
import { Tiling } from '../../src/aggregate/tiling.ts';
import type { ClosedWindow } from '../../src/aggregate/window.ts';
import { WindowMerger } from '../../src/aggregate/window-merger.ts';
import { NameChoices } from '../../src/deliver/name-choices.ts';
import { SinkError, type StoredPoint, type WindowRange } from '../../src/sink/contract.ts';
import { onlyMatching, Verification } from '../../src/verify/verification.ts';
import { counterWindow, WINDOW_MS } from '../deliver/fixtures.ts';

const TILING = Tiling.of({ windowMs: WINDOW_MS, latenessMs: 100, maxAheadMs: 100, maxSeries: 100 });
const never = new AbortController().signal;

/** A store in memory that holds what the windows say, and counts how often it is read. */
class Store {
  readonly points: StoredPoint[];
  reads: WindowRange[] = [];
  failures = 0;

  constructor(windows: readonly ClosedWindow[]) {
    this.points = windows.flatMap((window) => Array.from(window.refs, (_, i) => window.point(i)));
  }

  async *read(range: WindowRange): AsyncGenerator<StoredPoint> {
    this.reads.push(range);
    const { from, to } = range;
    yield* this.points.filter(({ windowStart }) => windowStart >= from && windowStart < to).slice(0, 1);
    if (this.failures-- > 0) throw new SinkError('connection', 'lost the connection', 'Look at the network.');
    yield* this.points.filter(({ windowStart }) => windowStart >= from && windowStart < to).slice(1);
  }
}

const windows = (from: number, to: number) =>
  Array.from({ length: to - from }, (_, i) => counterWindow(from + i, 5));

function verificationOf(store: Store, options: { from?: number; to?: number; groupPoints?: number } = {}) {
  const { from = 0, to = 10, groupPoints = 10 } = options;
  const range = { from: from * WINDOW_MS, to: to * WINDOW_MS };
  const sink = { id: 's', range, read: (part: WindowRange) => store.read(part) };
  return new Verification({ tiling: TILING, range, sinks: [sink], groupPoints, signal: never });
}

const verdict = (verification: Verification) => verification.judges[0]!.verdict();

test('windows are judged in groups, and forgotten', async () => {
  const store = new Store(windows(0, 10));
  const verification = verificationOf(store);
  for (const window of windows(0, 10)) await verification.onWindows([window], window.start + WINDOW_MS, 0);
  expect(store.reads.map(({ from, to }) => [from / WINDOW_MS, to / WINDOW_MS])).toEqual([
    [0, 2],
    [2, 4],
    [4, 6],
    [6, 8],
    [8, 10],
  ]);
  expect(verification.done.aborted).toBe(true);
  expect(verdict(verification)).toEqual({
    windows: { equal: 10, different: 0, notOwed: 0, unknown: 0 },
    rows: { equal: 50, missing: 0, extra: 0, different: 0 },
    reasons: [],
    examples: [],
  });
});

test('rows of a window without samples, duplicate rows, and rows of an instance in core mode are extra', async () => {
  const store = new Store([...windows(0, 3), ...windows(4, 5)]);
  store.points.push(store.points[0]!, { ...store.points[1]!, instance: 'boot' });
  const verification = verificationOf(store, { to: 5 });
  await verification.onWindows(windows(0, 3), 5 * WINDOW_MS, 0);
  const { windows: judged, rows, examples } = verdict(verification);
  expect(judged).toEqual({ equal: 3, different: 2, notOwed: 0, unknown: 0 });
  expect(rows).toEqual({ equal: 15, missing: 0, extra: 7, different: 0 });
  expect(examples).toHaveLength(5);
});

test('windows with missing messages are unknown, whatever the store has', async () => {
  const store = new Store(windows(0, 4));
  const verification = verificationOf(store);
  await verification.onWindows(windows(0, 3), 3 * WINDOW_MS, 0);
  verification.gap({ fromTime: 3200, toTime: 5300, messages: 7 });
  await verification.onWindows(windows(6, 9), 10 * WINDOW_MS, 0);
  const { windows: judged, reasons, rows } = verdict(verification);
  // The gap is in windows 3 to 5. The store has nothing of 6 to 8.
  expect(judged).toEqual({ equal: 4, different: 3, notOwed: 0, unknown: 3 });
  expect(rows).toMatchObject({ missing: 15, extra: 0 });
  expect(reasons).toEqual(['the stream lost messages that belong to these windows (retention)']);
});

test('a read that fails is retried once, and nothing counts twice; then the store is given up', async () => {
  const store = new Store(windows(0, 10));
  store.points.splice(2, 1);
  store.failures = 1;
  const verification = verificationOf(store);
  await verification.onWindows(windows(0, 2), 2 * WINDOW_MS, 0);
  expect(verdict(verification)).toMatchObject({
    windows: { equal: 1, different: 1, notOwed: 0, unknown: 8 },
    rows: { equal: 9, missing: 1 },
  });
  store.failures = 2;
  await verification.onWindows(windows(2, 4), 4 * WINDOW_MS, 0);
  const reads = store.reads.length;
  await verification.onWindows(windows(4, 10), 10 * WINDOW_MS, 0);
  expect(store.reads.length).toBe(reads);
  expect(verdict(verification)).toMatchObject({
    windows: { equal: 1, different: 1, notOwed: 0, unknown: 8 },
    reasons: ['the store cannot be read: lost the connection. Look at the network.'],
  });
});

test('a window that got samples after it was closed is judged again, with everything that belongs to it', async () => {
  const sums = (i: number) => 7 + i;
  const store = new Store([counterWindow(0, 5, sums), ...windows(1, 3), counterWindow(3, 5, sums)]);
  const verification = verificationOf(store, { to: 4, groupPoints: 10 });
  await verification.onWindows(windows(0, 2), 2 * WINDOW_MS, 0);
  // Window 0 has been found different; window 3 is still to come.
  verification.reopened([0], 77);
  await verification.onWindows(windows(2, 4).slice(0, 1), 3 * WINDOW_MS, 0);
  verification.reopened([2000], 78);
  await verification.onWindows(windows(3, 4), 4 * WINDOW_MS, 0);
  expect(verdict(verification).windows).toEqual({ equal: 1, different: 1, notOwed: 0, unknown: 2 });
  const asked: [number, number][] = [];
  await verification.judgeAgain(async (start, through) => {
    asked.push([start, through]);
    return [start === 0 ? counterWindow(0, 5, sums) : counterWindow(2, 5)];
  });
  expect(asked).toEqual([
    [0, 77],
    [2000, 78],
  ]);
  const { windows: judged, rows, examples } = verdict(verification);
  expect(judged).toEqual({ equal: 3, different: 1, notOwed: 0, unknown: 0 });
  expect(rows).toMatchObject({ missing: 0, extra: 0, different: 5 });
  expect(examples.map(({ windowStart }) => windowStart)).toEqual(Array(5).fill(3000));
});

test('rows that a store need not have are not missing, but what it has must be right', async () => {
  const store = new Store(windows(2, 10));
  // Of the window 2, one row is left, with a wrong value; of the window 3, one row is missing.
  const [wrong] = store.points.splice(0, 6);
  store.points.push({ ...wrong!, count: 99 });
  const range = { from: 0, to: 10 * WINDOW_MS };
  const read = (part: WindowRange) => store.read(part);
  const sinks = [{ id: 's', range, read, owedFrom: 3 * WINDOW_MS }];
  const verification = new Verification({ tiling: TILING, range, sinks, groupPoints: 10, signal: never });
  for (const window of windows(0, 10)) await verification.onWindows([window], window.start + WINDOW_MS, 0);
  expect(verdict(verification)).toMatchObject({
    windows: { equal: 6, different: 2, notOwed: 2, unknown: 0 },
    rows: { missing: 4 + 1, different: 1 },
  });
  expect(verdict(verification).examples).toContainEqual(expect.objectContaining({ kind: 'different' }));
});

describe('a sink with windows of its own, of three of the pipeline', () => {
  const FINE = Tiling.of({ ...TILING.epochs[0]!, sketchScale: SKETCH_SCALE });
  const OWN = coarseTiling(FINE, 3 * WINDOW_MS);
  const merged = () => {
    const merger = new WindowMerger(OWN, FINE);
    for (const window of windows(0, 12)) merger.add(window);
    return merger.takeAll();
  };
  const verificationOf = (store: Store) => {
    // What the others are judged by does not end where a window of its own does.
    const range = { from: 2 * WINDOW_MS, to: 11 * WINDOW_MS };
    const own = { from: 3 * WINDOW_MS, to: 9 * WINDOW_MS };
    const read = (part: WindowRange) => store.read(part);
    const fine = new Store(windows(0, 12));
    const sinks = [
      { id: 'own', range: own, windows: OWN, read },
      { id: 'fine', range, read: (part: WindowRange) => fine.read(part) },
    ];
    return new Verification({ tiling: FINE, range, sinks, groupPoints: 10, signal: never });
  };
  const judge = async (verification: Verification, from = 2) => {
    for (const window of windows(from, 11))
      await verification.onWindows([window], window.start + WINDOW_MS, 0);
    return verification.judges.map((each) => each.verdict().windows);
  };
  const equal = (count: number) => ({ equal: count, different: 0, notOwed: 0, unknown: 0 });

  test('is compared with these, whatever the groups of the others', async () => {
    expect(await judge(verificationOf(new Store(merged())))).toEqual([equal(2), equal(9)]);
    const lacking = new Store(merged());
    lacking.points.splice(
      lacking.points.findIndex(({ windowStart }) => windowStart === 6 * WINDOW_MS),
      1,
    );
    expect(await judge(verificationOf(lacking))).toEqual([{ ...equal(1), different: 1 }, equal(9)]);
    // Rows of the pipeline's windows are none of its own.
    const [own] = await judge(verificationOf(new Store(windows(0, 12))));
    expect(own).toEqual({ ...equal(0), different: 2 });
  });

  test('if a part of one is reopened, or lost, that is about the whole of it', async () => {
    const verification = verificationOf(new Store(merged()));
    await judge(verification);
    verification.reopened([4 * WINDOW_MS], 7);
    expect(verification.judges[0]!.verdict().windows).toEqual({ ...equal(1), unknown: 1 });
    const asked: (readonly [start: number, through: number, windowMs: number])[] = [];
    await verification.judgeAgain(async (start, through, tiling) => {
      const { windowMs } = tiling.epochAt(start);
      asked.push([start / WINDOW_MS, through, windowMs / WINDOW_MS]);
      return (windowMs === WINDOW_MS ? windows(0, 12) : merged()).filter((window) => window.start === start);
    });
    expect(asked).toEqual([
      [4, 7, 1],
      [3, 7, 3],
    ]);
    expect(verification.judges.map((each) => each.verdict().windows)).toEqual([equal(2), equal(9)]);
    const gapped = verificationOf(new Store(merged()));
    const at = 5 * WINDOW_MS + 1;
    gapped.gap({ fromTime: at, toTime: at, messages: 1 });
    const [own] = await judge(gapped);
    expect(own).toEqual({ ...equal(1), unknown: 1 });
  });
});

test('of a window, a store is compared with what was chosen for it; rows of other names are counted', async () => {
  const store = new Store(windows(0, 10));
  const names = new NameChoices([
    { from: 0, names: ['s1', 's2'] },
    { from: 5 * WINDOW_MS, names: ['s2', 's3'] },
  ]);
  const lose = (number: number, name: string) => {
    const at = store.points.findIndex(
      ({ windowStart, series }) => windowStart === number * WINDOW_MS && series.name === name,
    );
    store.points.splice(at, 1);
  };
  lose(2, 's3');
  lose(3, 's1');
  lose(6, 's1');
  lose(7, 's3');
  const range = { from: 0, to: 10 * WINDOW_MS };
  const read = (part: WindowRange) => store.read(part);
  const whole = new Store(windows(0, 10));
  const sinks = [
    { id: 's', range, read, names },
    { id: 'all', range, read: (part: WindowRange) => whole.read(part) },
  ];
  const verification = new Verification({ tiling: TILING, range, sinks, groupPoints: 10, signal: never });
  for (const window of windows(0, 10)) await verification.onWindows([window], window.start + WINDOW_MS, 0);
  const { windows: judged, rows, examples } = verdict(verification);
  expect(judged).toEqual({ equal: 8, different: 2, notOwed: 0, unknown: 0 });
  expect(rows).toEqual({ equal: 18, missing: 2, extra: 0, different: 0, notChosen: 28 });
  expect(examples.map(({ windowStart, name }) => [windowStart, name])).toEqual([
    [3000, 's1'],
    [7000, 's3'],
  ]);
  expect(verification.judges[1]!.verdict().rows).toEqual({ equal: 50, missing: 0, extra: 0, different: 0 });
});

test('windows of which nobody knows what was chosen are unknown', async () => {
  const store = new Store(windows(0, 10));
  const names = new NameChoices([{ from: 4 * WINDOW_MS, names: ['s1'] }]);
  const range = { from: 0, to: 10 * WINDOW_MS };
  const unknownNames = { from: 1 * WINDOW_MS, to: 4 * WINDOW_MS };
  const sinks = [{ id: 's', range, read: (part: WindowRange) => store.read(part), names, unknownNames }];
  const verification = new Verification({ tiling: TILING, range, sinks, groupPoints: 10, signal: never });
  verification.reopened([2 * WINDOW_MS], 5);
  for (const window of windows(0, 10)) await verification.onWindows([window], window.start + WINDOW_MS, 0);
  await verification.judgeAgain(async () => [counterWindow(2, 5)]);
  expect(verdict(verification).windows).toEqual({ equal: 7, different: 0, notOwed: 0, unknown: 3 });
});

test('only series with a matching name are compared', async () => {
  const store = new Store(windows(0, 2));
  store.points.splice(0, 1);
  const range = { from: 0, to: 2 * WINDOW_MS };
  const matches = (name: string) => name !== 's0';
  const read = (part: WindowRange) => onlyMatching(store.read(part), matches);
  const sinks = [{ id: 's', range, read }];
  const verification = new Verification({ tiling: TILING, range, sinks, matches, signal: never });
  await verification.onWindows(windows(0, 2), range.to, 0);
  expect(verdict(verification).rows).toEqual({ equal: 8, missing: 0, extra: 0, different: 0 });
});
