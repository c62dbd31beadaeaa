/** Rows that a rollback took back: removed if nobody else can have written them, otherwise left and reported. */
import { expect, test } from 'vitest';
import { Tiling } from '../../src/aggregate/tiling.ts';
import { heldWindows, straysOf } from '../../src/deliver/lane/stray-rows.ts';
import type { StraySink } from '../../src/deliver/lane/writer.ts';
import { NameChoices } from '../../src/deliver/name-choices.ts';
import { type StrayWindows, Sweep, type SweepOptions } from '../../src/deliver/strays.ts';
import { counterWindow, keyOf, laneOf, ScriptedSink, WINDOW_MS } from './fixtures.ts';
import { VirtualClock } from './virtual-clock.ts';

const TILING = Tiling.of({ windowMs: WINDOW_MS, latenessMs: 100, maxAheadMs: 100, maxSeries: 100 });
/** The first window of the lane, by number. */
const FROM = 10;
const ROLLED_BACK = { from: FROM * WINDOW_MS, to: (FROM + 3) * WINDOW_MS };

class Store extends ScriptedSink {
  readonly asked: string[] = [];
  answers = true;
  readonly strays: StraySink = {
    windows: async (range) => {
      if (!this.answers) throw new Error('no answer');
      this.asked.push(`windows ${range.from / WINDOW_MS}`);
      return await heldWindows(this.read(range));
    },
    count: async ({ start, windowMs, instance }, keys, remove, _signal, names) => {
      if (!this.answers) throw new Error('no answer');
      const rows = this.read({ from: start, to: start + windowMs });
      const strays = await straysOf(rows, keys, { windowMs, instance, names });
      for (const point of remove ? strays : []) this.stored.delete(keyOf(point));
      this.beforeNext?.();
      return strays.length;
    },
  };
  beforeNext: (() => void) | undefined;

  /** Puts this many series into a window. */
  hold(number: number, size: number): void {
    const window = counterWindow(number, size);
    for (let i = 0; i < size; i++) this.stored.set(keyOf(window.point(i)), window.point(i));
  }

  rowsOf(number: number): number {
    return [...this.stored.values()].filter(({ windowStart }) => windowStart === number * WINDOW_MS).length;
  }
}

/** Sets up a sweep with a stream that has two series in each window of `given`. */
function sweeping(options: Partial<SweepOptions>, store: Store, given: readonly number[]) {
  const clock = new VirtualClock((FROM + 3) * WINDOW_MS);
  const { lane } = laneOf(clock, store, { from: FROM * WINDOW_MS });
  void lane.run();
  const told: [StrayWindows, string | undefined][] = [];
  const rewritten: number[] = [];
  const sweep: Sweep = new Sweep({
    lane,
    from: FROM * WINDOW_MS,
    instance: '',
    strays: store.strays,
    rolledBack: ROLLED_BACK,
    tiling: TILING,
    slice: { index: 0, of: 1 },
    recompute: async (start) => {
      const number = start / WINDOW_MS;
      return { windows: given.includes(number) ? [counterWindow(number, 2)] : [], read: 1 };
    },
    rewrite: (start) => rewritten.push(start / WINDOW_MS),
    clock,
    swept: (windows, why) => told.push([{ ...windows }, why]),
    ...options,
  });
  store.beforeNext = () => {
    if (options.rewrite !== undefined) sweep.reopened(FROM * WINDOW_MS, 7);
  };
  const over = new AbortController();
  const run = sweep.run(over.signal);
  const stop = async () => {
    over.abort();
    await run;
    await lane.stop(AbortSignal.abort());
  };
  return { clock, lane, sweep, told, rewritten, stop };
}

async function swept(options: Partial<SweepOptions>, store: Store, given: readonly number[]) {
  const { clock, lane, sweep, told, rewritten, stop } = sweeping(options, store, given);
  await clock.pass(1_000);
  const before = { isOver: sweep.isOver, rows: store.rowsOf(FROM) };
  lane.advance((FROM + 5) * WINDOW_MS, 9);
  await clock.pass(900_000);
  await stop();
  return { told, sweep, rewritten, before };
}

const BEFORE = [FROM - 3, FROM - 2];

function storeWith(strayIn: readonly number[]): Store {
  const store = new Store();
  for (const number of BEFORE) store.hold(number, 2);
  for (const number of strayIn) store.hold(number, 4);
  return store;
}

test('stray rows are removed from a window that changed and from one that is gone, once the lane is past them', async () => {
  const store = storeWith([FROM, FROM + 1]);
  const { told, before, sweep } = await swept({}, store, [...BEFORE, FROM]);
  expect(before).toEqual({ isOver: false, rows: 4 });
  expect([
    store.rowsOf(FROM),
    store.rowsOf(FROM + 1),
    ...BEFORE.map((number) => store.rowsOf(number)),
  ]).toEqual([2, 0, 2, 2]);
  expect(told).toEqual([[{ removed: 2, left: 0 }, undefined]]);
  expect(sweep.isOver).toBe(true);
});

test('rows of names that the sink does not get are left alone, but they may be of another writer', async () => {
  // Each window has s0 to s3, of which the stream gives s0 and s1.
  const names = new NameChoices([{ from: 0, names: ['!s3'] }]);
  const store = storeWith([FROM]);
  const { told } = await swept({ names }, store, [...BEFORE, FROM]);
  expect(told).toEqual([[{ removed: 1, left: 0 }, undefined]]);
  expect([...store.stored.keys()].filter((key) => key.startsWith(`${FROM}:`))).toEqual(
    ['s0', 's1', 's3'].map((name) => `${FROM}:${name}`),
  );
  const shared = storeWith([FROM]);
  for (const number of BEFORE) shared.hold(number, 4);
  const others = await swept({ names: new NameChoices([{ from: 0, names: ['s0', 's2'] }]) }, shared, [
    ...BEFORE,
    FROM,
  ]);
  expect(others.told).toEqual([[{ removed: 0, left: 1 }, 'others write to the same table']]);
});

test('a window is recomputed from what the lane had read when it was past the window', async () => {
  const throughs: number[] = [];
  const recompute: SweepOptions['recompute'] = async (start, through) => {
    throughs.push(through);
    const number = start / WINDOW_MS;
    return { windows: number < FROM ? [counterWindow(number, 2)] : [], read: through };
  };
  const store = storeWith([FROM]);
  const { clock, lane, sweep, stop } = sweeping({ recompute }, store, []);
  lane.advance((FROM + 1) * WINDOW_MS, 9);
  // While the store does not answer, the lane goes on.
  store.answers = false;
  await clock.pass(1_000);
  lane.advance((FROM + 5) * WINDOW_MS, 900);
  store.answers = true;
  await clock.pass(900_000);
  expect(sweep.stats.removed).toBe(1);
  expect(Math.max(...throughs)).toBe(9);
  await stop();
});

test('this works without a known rollback too: the checkpoints may have been rolled back with the stream', async () => {
  const store = storeWith([FROM]);
  const { told } = await swept({ rolledBack: undefined }, store, [...BEFORE, FROM]);
  expect(store.rowsOf(FROM)).toBe(2);
  expect(told).toEqual([[{ removed: 1, left: 0 }, undefined]]);
});

test('others write to the same table: nothing is removed, and this is reported', async () => {
  const store = storeWith([FROM]);
  store.hold(FROM - 2, 3);
  const { told } = await swept({}, store, [...BEFORE, FROM]);
  expect(store.rowsOf(FROM)).toBe(4);
  expect(told).toEqual([[{ removed: 0, left: 1 }, 'others write to the same table']]);
  // Every start looks. Without a rollback there is nothing to report.
  const { told: idle } = await swept({ rolledBack: undefined }, store, [...BEFORE, FROM]);
  expect([store.rowsOf(FROM), idle]).toEqual([4, []]);
});

test('no earlier window shows whether others write there: nothing is removed', async () => {
  const store = new Store();
  store.hold(FROM, 4);
  const { told } = await swept({}, store, [FROM]);
  expect(store.rowsOf(FROM)).toBe(4);
  expect(told[0]![0]).toEqual({ removed: 0, left: 1 });
});

test('rows of other slices are left alone', async () => {
  const store = storeWith([FROM, FROM + 1]);
  await swept({ slice: { index: 1, of: 2 } }, store, [...BEFORE, FROM, FROM + 1]);
  expect([store.rowsOf(FROM), store.rowsOf(FROM + 1)]).toEqual([4, 2]);
});

test('a window that got a message in the meantime is rewritten: its new row may have been removed', async () => {
  const rewritten: number[] = [];
  const rewrite = (start: number) => rewritten.push(start / WINDOW_MS);
  await swept({ rewrite }, storeWith([FROM]), [...BEFORE, FROM]);
  expect(rewritten).toEqual([FROM]);
});

test('a store that cannot do it, or does not answer: its windows are reported once, and the lane goes on', async () => {
  const { told } = await swept({ strays: undefined }, new Store(), []);
  expect(told).toEqual([[{ removed: 0, left: 3 }, expect.stringContaining('this kind of store')]]);
  const silent = storeWith([FROM]);
  silent.answers = false;
  const { told: later, sweep } = await swept({}, silent, [...BEFORE, FROM]);
  expect(later).toEqual([[{ removed: 0, left: 3 }, 'the store did not say what it holds']]);
  expect(sweep.isOver).toBe(true);
});
