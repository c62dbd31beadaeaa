import { expect, test } from 'vitest';
import type { AgreedShapes, KnownShapes } from '../../src/bus/kv/window-shapes.ts';
import { EpochWatch, planEpochs, type Wanted } from '../../src/deliver/epochs.ts';
import { settle, VirtualClock } from './virtual-clock.ts';

const SHAPE = { windowMs: 10_000, latenessMs: 2000, maxAheadMs: 1000, maxSeries: 100 };
const NOW = 1_700_000_005_000;
const DELAY_MS = 60_000;
/** How long an announcement may take. */
const ANNOUNCE_MS = 10_000;
const wanted = (shape = {}, more: Partial<Wanted> = {}): Wanted => ({
  shape: { ...SHAPE, ...shape },
  delayMs: DELAY_MS,
  before: undefined,
  nexts: [],
  ...more,
});
const AUTO_INPUT = { format: 'auto' };
const none: KnownShapes = { shapes: undefined, at: NOW };
const known = (...changes: object[]): AgreedShapes => ({
  at: NOW,
  shapes: {
    delayMs: DELAY_MS,
    epochs: [{}, ...changes].map((each) => ({ ...SHAPE, from: Number.NEGATIVE_INFINITY, ...each })),
  },
});
const AUTO: KnownShapes = { ...known(), shapes: planEpochs(known(), wanted({ input: AUTO_INPUT })) };
const beginningOf = (plan: ReturnType<typeof planEpochs>) => plan!.epochs.at(-1)!.from;

test('the first start: one shape for all time; the same settings again: nothing to announce', () => {
  const first = planEpochs(none, wanted())!;
  expect(first).toEqual({ delayMs: DELAY_MS, epochs: [{ ...SHAPE, from: Number.NEGATIVE_INFINITY }] });
  expect(planEpochs({ shapes: first, at: NOW + 1 }, wanted())).toBeUndefined();
});

test.each([
  ['WINDOW', { windowMs: 4000 }],
  ['LATENESS', { latenessMs: 0 }],
  ['MAX_AHEAD', { maxAheadMs: 0 }],
  ['MAX_SERIES', { maxSeries: 7 }],
  ['MAX_SERIES_BYTES', { maxSeriesBytes: 7_000_000 }],
  ['MAX_SERIES_BY_NAME', { maxSeriesByName: ['a=1'] }],
  ['METRICS_FORMAT', { input: { format: 'statsd' } }],
  ['kind of sketches', { sketchScale: 6 }],
  ['METRICS_NAMES', { input: { format: 'auto', names: ['a'] } }],
])('a new %s takes effect where windows of both shapes start, after the delay', (_, change) => {
  const from = beginningOf(planEpochs(AUTO, wanted({ input: AUTO_INPUT, ...change })));
  expect(from).toBeGreaterThanOrEqual(NOW + DELAY_MS + ANNOUNCE_MS);
  expect(from).toBeLessThanOrEqual(NOW + DELAY_MS + ANNOUNCE_MS + 20_000);
  expect(from % 10_000).toBe(0);
  expect(from % 4000 === 0 || !('windowMs' in change)).toBe(true);
});

test('a first budget is announced once, and so is a changed one', () => {
  const announced = planEpochs(known(), wanted({ maxSeriesBytes: 7 }))!;
  expect(announced.epochs.map(({ maxSeriesBytes }) => maxSeriesBytes)).toEqual([undefined, 7]);
  const stored = { shapes: { ...announced, epochs: JSON.parse(JSON.stringify(announced.epochs)) }, at: NOW };
  expect(planEpochs(stored, wanted({ maxSeriesBytes: 7 }))).toBeUndefined();
  expect(planEpochs(stored, wanted({ maxSeriesBytes: 8 }))!.epochs).toHaveLength(3);
});

test('epochs of an earlier version are read as the settings say at the first start of this one, for good', () => {
  const old = known({ from: NOW - 5000, latenessMs: 1 }, { from: NOW, latenessMs: 2 });
  const input = { format: 'influx', counters: ['a'] };
  const first = planEpochs(old, wanted({ latenessMs: 2, input }))!;
  expect(first.epochs).toEqual(old.shapes.epochs.map((epoch) => ({ ...epoch, input })));
  expect(planEpochs({ shapes: first, at: NOW }, wanted({ latenessMs: 2, input }))).toBeUndefined();
  const second = planEpochs({ shapes: first, at: NOW }, wanted({ latenessMs: 2, input: AUTO_INPUT }))!;
  expect(second.epochs.map((epoch) => epoch.input)).toEqual([input, input, input, AUTO_INPUT]);
  expect(planEpochs(old, wanted({ input }))!.epochs.map((epoch) => epoch.input)).toEqual(
    Array(4).fill(input),
  );
});

test('formats that changed very often, or long lists: the oldest epochs are forgotten', () => {
  let shapes = AUTO.shapes!;
  for (let i = 0; i < 20; i++)
    shapes = planEpochs({ shapes, at: NOW }, wanted({ input: { format: 'influx', counters: [`${i}`] } }))!;
  expect(shapes.epochs.map(({ input }) => input?.counters)).toEqual(
    Array.from({ length: 16 }, (_, i) => [`${i + 4}`]),
  );
  for (const name of ['a', 'b', 'c']) {
    const counters = Array(10_000).fill(`${name}.long_name`);
    shapes = planEpochs({ shapes, at: NOW }, wanted({ input: { format: 'influx', counters } }))!;
  }
  expect(shapes.epochs).toHaveLength(2);
});

test('an epoch begins after every checkpoint, after the previous epoch, and after the longer of two delays', () => {
  const next = NOW + 1_000_000;
  expect(
    beginningOf(planEpochs(known(), wanted({ windowMs: 5000 }, { nexts: [NOW, next] }))),
  ).toBeGreaterThan(next);
  const later = known({ from: 1_700_001_000_000, latenessMs: 1 });
  expect(beginningOf(planEpochs(later, wanted()))).toBeGreaterThan(1_700_001_000_000);
  const patient = wanted({ latenessMs: 1 }, { delayMs: 5 * DELAY_MS });
  expect(beginningOf(planEpochs(known(), patient))).toBeGreaterThanOrEqual(NOW + 5 * DELAY_MS);
  expect(planEpochs(known(), wanted({ latenessMs: 1 }, { delayMs: 1 }))!.delayMs).toBe(1);
});

test('a longer delay applies at once, a shorter one from the next epoch on', () => {
  const { shapes } = known();
  const delayMs = 5 * DELAY_MS;
  expect(planEpochs(known(), wanted({}, { delayMs }))).toEqual({ ...shapes, delayMs });
  expect(planEpochs(known(), wanted({}, { delayMs: 1 }))).toBeUndefined();
});

test('checkpoints of another shape without epochs: confirmed windows keep their shape', () => {
  const before = { ...SHAPE, windowMs: 2000 };
  const { epochs } = planEpochs(none, wanted({}, { before, nexts: [NOW] }))!;
  expect(epochs.map(({ windowMs }) => windowMs)).toEqual([2000, 10_000]);
  expect(epochs[1]!.from).toBeGreaterThanOrEqual(NOW + DELAY_MS + ANNOUNCE_MS);
});

test('window lengths that have a common start only once in years are refused, with advice', () => {
  const change = wanted({ windowMs: 86_399_999 });
  expect(() => planEpochs(known({ windowMs: 86_399_993 }), change)).toThrow(/cannot follow/);
});

function setUp(delayMs = 8000) {
  const clock = new VirtualClock(NOW);
  const shapes = { ...known().shapes, delayMs };
  const store = {
    known: { shapes, at: NOW } as KnownShapes,
    down: false,
    looks: 0,
    async load() {
      this.looks += 1;
      if (this.down) throw new Error('down');
      return { ...this.known, at: clock.now() };
    },
    async change() {
      throw new Error('not asked for');
    },
  };
  const failures: unknown[] = [];
  const watch = new EpochWatch(store, { shapes, at: NOW }, clock, (error) => failures.push(error));
  const end = new AbortController();
  const running = watch.run(end.signal);
  const stop = async () => {
    end.abort();
    await running;
  };
  return { clock, store, watch, failures, stop };
}

test('while the store answers, no window ever waits', async () => {
  const { clock, watch, failures, stop } = setUp();
  for (let i = 0; i < 100; i++) {
    expect(watch.untilShaped(clock.now())).toBeUndefined();
    await clock.pass(500);
  }
  expect(failures).toEqual([]);
  await stop();
});

test('the same epochs with their fields in another order are not a change', async () => {
  const { clock, store, watch, stop } = setUp();
  const { epochs, delayMs } = store.known.shapes!;
  const turned = epochs.map((epoch) => Object.fromEntries(Object.entries(epoch).reverse()));
  store.known = { shapes: { delayMs, epochs: turned as unknown as typeof epochs }, at: 0 };
  await clock.pass(20_000);
  expect(watch.changed.aborted).toBe(false);
  expect(store.looks).toBeGreaterThan(10);
  await stop();
});

test.each([
  ['since the start', 0, 7900],
  // The last look was at most a second earlier.
  ['after some looks', 20_500, 6900],
])(
  'if the store is out of reach %s, windows wait after the delay, and go on when it is back',
  async (_, upMs, knownMs) => {
    const { clock, store, watch, failures, stop } = setUp();
    await clock.pass(upMs);
    store.down = true;
    await clock.pass(knownMs);
    expect(watch.untilShaped(clock.now())).toBeUndefined();
    await clock.pass(8100 - knownMs);
    let isShaped = false;
    void watch.untilShaped(clock.now())!.then(() => {
      isShaped = true;
    });
    await clock.pass(60_000);
    expect([isShaped, failures.length > 10]).toEqual([false, true]);
    store.down = false;
    await clock.pass(2000);
    expect(isShaped).toBe(true);
    await stop();
  },
);

test('an epoch that another instance announces is seen long before it begins, and no more windows close', async () => {
  const { clock, store, watch, stop } = setUp();
  const shapes = { ...known({ from: NOW + 100_000, latenessMs: 1 }).shapes, delayMs: 8000 };
  store.known = { shapes, at: 0 };
  await clock.pass(1100);
  await settle();
  expect(watch.changed.aborted).toBe(true);
  const { looks } = store;
  await clock.pass(20_000);
  expect(store.looks).toBe(looks);
  expect(watch.untilShaped(clock.now())).toBeInstanceOf(Promise);
  await stop();
});
