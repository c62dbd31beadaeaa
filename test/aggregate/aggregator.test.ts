import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Aggregator, type AggregatorOptions, MAX_REOPENED } from '../../src/aggregate/aggregator.ts';
import type { Point } from '../../src/aggregate/point.ts';
import { makeSeries, OVERFLOW_DIMENSION } from '../../src/aggregate/series.ts';
import { SeriesTable } from '../../src/aggregate/series-table.ts';
import { Tiling, type WindowShape } from '../../src/aggregate/tiling.ts';
import { JsonDecoder } from '../../src/decode/json.ts';
import { decodeMessage } from '../decode/decoded.ts';
import { effort } from '../effort.ts';
import { expectedSamples, expectedWindows, type OracleMessage, windowAt, windowStart } from './oracle.ts';
import { pointsOf, run, settingsAndStream, tilingOf } from './stream.ts';

const SHAPE: WindowShape = { windowMs: 10, latenessMs: 4, maxAheadMs: 3, maxSeries: 100 };

function optionsOf(options: Partial<AggregatorOptions & WindowShape> = {}): AggregatorOptions {
  const tiling = Tiling.of({ ...SHAPE, ...options });
  return { tiling, from: Number.NEGATIVE_INFINITY, ...options };
}

function setUp(options: Partial<AggregatorOptions & WindowShape> = {}) {
  const table = new SeriesTable(1000);
  const decoder = new JsonDecoder(table);
  const aggregator = new Aggregator(table, optionsOf(options));
  const add = (fields: object, streamTime: number) => {
    const message = { name: 'a', type: 'counter', value: 1, ...fields };
    const rejection = decodeMessage(decoder, new TextEncoder().encode(JSON.stringify(message)), {
      sample: (sample) => aggregator.add(sample, streamTime),
      rejected: () => {},
    });
    expect(rejection).toBeUndefined();
  };
  return { table, aggregator, add };
}

const at = (ms: number) => ({ timestamp: new Date(ms).toISOString() });

describe('the series that a sweep of the table keeps', () => {
  /** 100 series cost a little less than the budget. */
  const marked = (last: readonly number[], next: readonly number[]) => {
    const { table, aggregator, add } = setUp({ maxSeriesBytes: 25_000 });
    const names = (numbers: readonly number[], time: number) => {
      for (const number of numbers) add({ name: `s${100 + number}`, ...at(time) }, time);
    };
    names(last, 5);
    expect(aggregator.close(14)).toHaveLength(1);
    names(next, 15);
    const found = new Set<string>();
    aggregator.markSeries((series) => found.add(table.series(series).name));
    return [...found].map((name) => Number(name.slice(1)) - 100).sort((a, b) => a - b);
  };
  const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);

  test('are those of the window before, if they appear again: all of them', () => {
    expect(marked(range(0, 100), range(0, 40))).toEqual(range(0, 100));
    expect(marked(range(0, 100), [])).toEqual(range(0, 100));
  });

  test('are no more than a window may have, if others appear', () => {
    const kept = marked(range(0, 100), range(100, 180));
    expect(kept.filter((number) => number >= 100)).toEqual(range(100, 180));
    // About as many as have still room, and those that would appear last.
    expect(kept.filter((number) => number < 100).length).toBeGreaterThan(10);
    expect(kept.length).toBeLessThan(130);
    expect(kept[0]).toBe(100 - kept.filter((number) => number < 100).length);
  });
});

describe('against the oracle', () => {
  test('every window holds the points that the design prescribes, whenever windows are closed', () => {
    fc.assert(
      fc.property(
        settingsAndStream,
        fc.infiniteStream(fc.boolean()),
        fc.nat(12),
        ([settings, messages], coin, keep) => {
          const expected = expectedWindows(messages, settings);
          const atOnce = run(messages, settings);
          const inSteps = run(messages, settings, () => coin.next().value, keep);
          expect(atOnce.windows).toEqual(expected);
          expect([...inSteps.windows]).toEqual([...expected]);
          expect(inSteps.stats).toEqual(atOnce.stats);
          expect(inSteps.stats.reopened).toBe(0);
        },
      ),
      { numRuns: effort(1500) },
    );
  });

  test('together, the slices have every window once, and it is the same as without slices', () => {
    fc.assert(
      fc.property(settingsAndStream, fc.integer({ min: 2, max: 5 }), ([settings, messages], of) => {
        const whole = run(messages, settings);
        const slices = Array.from({ length: of }, (_, index) =>
          run(messages, { ...settings, slice: { index, of } }),
        );
        const together = slices.flatMap(({ windows }) => [...windows]).sort(([a], [b]) => a - b);
        expect(together).toEqual([...whole.windows]);
        const samples = whole.stats.counter + whole.stats.gauge + whole.stats.timer;
        expect(slices.reduce((sum, { stats }) => sum + stats.foreign, 0)).toBe(samples * (of - 1));
      }),
    );
  });

  test('every sample is counted once', () => {
    fc.assert(
      fc.property(settingsAndStream, ([settings, messages]) => {
        const { windows, stats } = run(messages, settings);
        const samples = messages.flatMap(({ payload }) => expectedSamples(payload));
        const inWindows = [...windows.values()].flat().reduce((sum, point) => sum + point.count, 0);
        expect(stats.counter + stats.gauge + stats.timer).toBe(samples.length);
        expect(inWindows).toBe(samples.length);
        for (const type of ['counter', 'gauge', 'timer'] as const) {
          expect(stats[type]).toBe(samples.filter((sample) => sample.type === type).length);
        }
        const moved = messages.flatMap(({ payload, streamTime }) =>
          expectedSamples(payload).filter(
            ({ eventTime = streamTime }) =>
              windowStart(eventTime, streamTime, settings) !== windowAt(eventTime, settings),
          ),
        );
        expect(stats.late + stats.ahead).toBeGreaterThanOrEqual(moved.length);
      }),
    );
  });

  test('resumed at any window, an aggregator gives the same windows from there on, to the last bit', () => {
    fc.assert(
      fc.property(settingsAndStream, fc.nat(20), fc.nat(), ([settings, messages], skip, seed) => {
        const whole = run(messages, settings).windows;
        const starts = [...whole.keys()];
        const from = starts[skip % Math.max(1, starts.length)] ?? 0;
        const { maxAheadMs } = tilingOf(settings);
        const tail = messages.filter(({ streamTime }) => streamTime >= from - maxAheadMs);
        const resumed = run(tail, { ...settings, from }, (i) => (i + seed) % 3 === 0);
        expect([...resumed.windows]).toEqual([...whole].filter(([start]) => start >= from));
      }),
      { numRuns: effort(500) },
    );
  });
});

describe('assignment (I1)', () => {
  const windowsOf = (eventTime: number, streamTime: number) => {
    const { aggregator, add } = setUp();
    add(at(eventTime), streamTime);
    const { late, ahead } = aggregator.stats;
    return { start: aggregator.closeAll()[0]!.start, late, ahead };
  };

  test.each([
    ['inside', 15, 15, { start: 10, late: 0, ahead: 0 }],
    ['at the start of a window', 10, 12, { start: 10, late: 0, ahead: 0 }],
    ['just before end + lateness', 9, 13, { start: 0, late: 0, ahead: 0 }],
    ['at end + lateness', 9, 14, { start: 10, late: 1, ahead: 0 }],
    ['at t + max ahead', 20, 17, { start: 20, late: 0, ahead: 0 }],
    ['just past t + max ahead', 20, 16, { start: 10, late: 0, ahead: 1 }],
    ['before 1970', -1, -1, { start: -10, late: 0, ahead: 0 }],
    ['far in the past', -62_135_596_800_000, 5, { start: 0, late: 1, ahead: 0 }],
    ['far in the future', 253_402_300_799_999, 5, { start: 0, late: 0, ahead: 1 }],
  ])('%s', (_, eventTime, streamTime, expected) => {
    expect(windowsOf(eventTime, streamTime)).toEqual(expected);
  });

  test('a sample without a timestamp gets the stream time', () => {
    const { aggregator, add } = setUp();
    add({}, 25);
    expect(aggregator.closeAll()[0]!.start).toBe(20);
  });
});

describe('closing (I2)', () => {
  test('a window closes when stream time reaches its end plus lateness, and not before', () => {
    const { aggregator, add } = setUp();
    add({}, 5);
    expect(aggregator.close(13)).toEqual([]);
    expect(aggregator.close(14).map(({ start }) => start)).toEqual([0]);
    expect(aggregator.close(14)).toEqual([]);
  });

  test('the boundary moves past empty windows and never goes back', () => {
    const { aggregator } = setUp({ from: 0 });
    expect(aggregator.boundary).toBe(0);
    expect(aggregator.close(1000)).toEqual([]);
    expect(aggregator.boundary).toBe(990);
    aggregator.close(500);
    expect(aggregator.boundary).toBe(990);
  });

  test('windows are closed oldest first', () => {
    const { aggregator, add } = setUp({ latenessMs: 100 });
    for (const time of [25, 5, 35, 15]) add(at(time), 36);
    expect(aggregator.openWindows).toBe(4);
    expect(aggregator.closeAll().map(({ start }) => start)).toEqual([0, 10, 20, 30]);
    expect(aggregator.boundary).toBe(40);
    expect(aggregator.openWindows).toBe(0);
    expect(aggregator.closeAll()).toEqual([]);
  });

  test('a closed window does not change when its series get more samples', () => {
    const { aggregator, add } = setUp();
    for (const type of ['counter', 'gauge', 'timer']) add({ type, value: 3 }, 5);
    const [first] = aggregator.close(20);
    const before = pointsOf(first!);
    for (const type of ['counter', 'gauge', 'timer']) add({ type, value: 8 }, 25);
    const [second] = aggregator.close(40);
    expect(pointsOf(first!)).toEqual(before);
    expect(pointsOf(second!).map(({ sum }) => sum)).toEqual([8, 8, 8]);
    expect(second!.point(0).series).toBe(first!.point(0).series);
    expect(() => first!.point(3)).toThrow(RangeError);
  });

  test('points carry the instance', () => {
    const { aggregator, add } = setUp({ instance: 'boot-1' });
    add({}, 5);
    expect(aggregator.closeAll()[0]!.point(0).instance).toBe('boot-1');
  });
});

describe('samples of other windows', () => {
  test('samples before `from` are ignored and counted', () => {
    const { aggregator, add } = setUp({ from: 20 });
    add({}, 19);
    add({}, 20);
    expect(aggregator.stats.ignored).toBe(1);
    expect(aggregator.closeAll().map(({ start }) => start)).toEqual([20]);
    expect(aggregator.takeReopened()).toEqual([]);
  });

  test('samples of closed windows are counted, not added, and each window is remembered once', () => {
    const { aggregator, add } = setUp({ from: 0 });
    add({}, 5);
    aggregator.close(40);
    for (const time of [15, 5, 16]) add({}, time);
    expect(aggregator.stats.reopened).toBe(3);
    expect(aggregator.takeReopened()).toEqual([0, 10]);
    expect(aggregator.takeReopened()).toEqual([]);
    expect(aggregator.closeAll()).toEqual([]);
  });

  test('the set of windows to recompute is bounded, and those that do not fit are counted', () => {
    const { aggregator, add } = setUp({ from: 0 });
    aggregator.close(10 * MAX_REOPENED + 100);
    for (let i = 0; i < MAX_REOPENED + 3; i++) add({}, 10 * i);
    expect(aggregator.takeReopened()).toHaveLength(MAX_REOPENED);
    expect(aggregator.stats.reopenedLost).toBe(3);
  });
});

describe('overflow', () => {
  const named = (windows: readonly { series: { name: string; dimensionsJson: string }; count: number }[]) =>
    windows.map(({ series, count }) => `${series.name}${series.dimensionsJson} ${count}`);

  test('series past the limit are folded by name and type; the limit applies to each window separately', () => {
    const { aggregator, add } = setUp({ maxSeries: 2 });
    for (const x of ['1', '2', '3', '4', '1', '3']) add({ dimensions: { x } }, 5);
    for (const x of ['4', '3', '2', '1']) add({ dimensions: { x } }, 15);
    const [first, second] = aggregator.closeAll().map(pointsOf);
    expect(named(first!)).toEqual(['a{"x":"1"} 2', 'a{"x":"2"} 1', 'a{"fanout.overflow":"true"} 3']);
    expect(named(second!)).toEqual(['a{"x":"4"} 1', 'a{"x":"3"} 1', 'a{"fanout.overflow":"true"} 2']);
    expect(aggregator.stats.overflowed).toBe(5);
    expect(first![2]!.series).toEqual(makeSeries('a', 'counter', [[OVERFLOW_DIMENSION, 'true']]));
  });

  test('past the same number of overflow series, one series per type takes the rest', () => {
    const { aggregator, add } = setUp({ maxSeries: 2 });
    for (let i = 0; i < 9; i++) add({ name: `n${i}` }, 5);
    add({ name: 'n9', type: 'gauge' }, 5);
    expect(named(aggregator.closeAll().flatMap(pointsOf))).toEqual([
      'n0{} 1',
      'n1{} 1',
      'n2{"fanout.overflow":"true"} 1',
      'n3{"fanout.overflow":"true"} 1',
      'fanout.overflow{"fanout.overflow":"true"} 5',
      'fanout.overflow{"fanout.overflow":"true"} 1',
    ]);
  });

  /** The cost of a counter named `a` with one dimension `x` of one character. */
  const COST = 200 + 2 * 'a{"x":"1"}'.length;

  test('series past the budget are folded too, except a smaller one that still fits', () => {
    const { aggregator, add } = setUp({ maxSeriesBytes: 3 * COST });
    for (const x of ['1', '2', 'x'.repeat(100), '3', '4', 'x'.repeat(100), '1'])
      add({ dimensions: { x } }, 5);
    for (const x of ['4', '1']) add({ dimensions: { x } }, 15);
    const [first, second] = aggregator.closeAll().map(pointsOf);
    expect(named(first!)).toEqual([
      'a{"x":"1"} 2',
      'a{"x":"2"} 1',
      // An eighth of the budget is not enough for an overflow series per name.
      'fanout.overflow{"fanout.overflow":"true"} 3',
      'a{"x":"3"} 1',
    ]);
    expect(named(second!)).toEqual(['a{"x":"4"} 1', 'a{"x":"1"} 1']);
    expect(aggregator.stats.overflowed).toBe(3);
  });

  test('the cost of a series depends on its text in UTF-8 and on its type', () => {
    const { aggregator, add } = setUp({ maxSeriesBytes: 10_000 });
    const charged = (fields: object) => {
      const before = aggregator.seriesBytes;
      add(fields, 5);
      return aggregator.seriesBytes - before;
    };
    expect(charged({ dimensions: { x: '1' } })).toBe(COST);
    expect(charged({ dimensions: { x: '1' } })).toBe(0);
    expect(charged({ dimensions: { x: 'é' } })).toBe(COST + 2);
    expect(charged({ dimensions: { x: '1' }, type: 'gauge' })).toBe(COST + 32);
    expect(charged({ dimensions: { x: '1' }, type: 'timer' })).toBe(COST + 600);
    expect(charged({ dimensions: { x: '1' }, type: 'timer', value: 1000 })).toBe(8 * 320);
  });

  test('overflow series may cost an eighth of the budget more; then one series per type takes the rest', () => {
    const { aggregator, add } = setUp({ maxSeriesBytes: 16 * COST });
    for (let i = 0; i < 16; i++) add({ dimensions: { x: i.toString(16) } }, 5);
    for (const name of ['n', 'm'.repeat(99), 'o', 'n']) add({ name, dimensions: { x: '1' } }, 5);
    expect(named(aggregator.closeAll().flatMap(pointsOf)).slice(16)).toEqual([
      'n{"fanout.overflow":"true"} 2',
      'fanout.overflow{"fanout.overflow":"true"} 2',
    ]);
  });

  test('a timer that may not grow still tells its highest values apart', () => {
    const { aggregator, add } = setUp({ maxSeriesBytes: 820 });
    for (const value of [1000, 1, 1000, 2, 5000, 1e6]) add({ name: 't', type: 'timer', value }, 5);
    const [{ min, max, p50, p99, count }] = pointsOf(aggregator.closeAll()[0]!) as [Point];
    expect([min, max, count]).toEqual([1, 1e6, 6]);
    expect(p99! / 5000).toBeGreaterThan(100);
    expect(p50).toBeGreaterThan(5e5);
    expect(aggregator.stats).toMatchObject({ coarse: 4, overflowed: 0 });
  });

  test('the table stays small even if every message has a new series', () => {
    const table = new SeriesTable(100);
    const decoder = new JsonDecoder(table);
    const aggregator = new Aggregator(table, optionsOf({ maxSeries: 20 }));
    let points = 0;
    let largest = 0;
    for (let i = 0; i < 20_000; i++) {
      const text = `{"name":"n${i % 7}","type":"counter","value":1,"dims":{"x":${i}}}`;
      decodeMessage(decoder, new TextEncoder().encode(text), {
        sample: (sample) => aggregator.add(sample, i),
        rejected: () => {},
      });
      for (const window of aggregator.close(i))
        points += pointsOf(window).reduce((sum, p) => sum + p.count, 0);
      largest = Math.max(largest, table.size);
    }
    for (const window of aggregator.closeAll())
      points += pointsOf(window).reduce((sum, p) => sum + p.count, 0);
    expect(points).toBe(20_000);
    expect(largest).toBeLessThanOrEqual(300);
    aggregator.release();
  });
});

test('earlier windows that another aggregator closed are reopened by later messages only', () => {
  const table = new SeriesTable(1000);
  const aggregator = new Aggregator(table, optionsOf({ from: 100 }));
  const add = (eventTime: number, sequence: number) => {
    const message = { name: 'a', type: 'counter', value: 1, ...at(eventTime) };
    decodeMessage(new JsonDecoder(table), new TextEncoder().encode(JSON.stringify(message)), {
      sample: (sample) => aggregator.add(sample, eventTime, sequence),
      rejected: () => {},
    });
  };
  add(95, 7);
  add(85, 9);
  add(55, 9);
  expect(aggregator.takeReopened()).toEqual([]);
  // The windows from 60 on were closed when everything up to sequence 8 had been read.
  aggregator.adoptWindows(60, 8);
  expect(aggregator.takeReopened()).toEqual([80]);
  add(75, 8);
  add(75, 10);
  add(55, 10);
  expect(aggregator.takeReopened()).toEqual([70]);
  expect(aggregator.stats).toMatchObject({ ignored: 5, reopened: 1 });
});

describe('values', () => {
  test('sums are added in stream order, in float64', () => {
    const { aggregator, add } = setUp();
    for (const value of [0.1, 0.2, 0.3, 1e16, -1e16]) add({ value }, 5);
    expect(aggregator.closeAll()[0]!.point(0).sum).toBe(0.1 + 0.2 + 0.3 + 1e16 - 1e16);
  });

  test('`last` of a gauge is the value with the latest event time; of equal times, the last in the stream', () => {
    const { aggregator, add } = setUp();
    const gauge = (value: number, time: number): OracleMessage['streamTime'] => {
      add({ type: 'gauge', value, ...at(time) }, 9);
      return time;
    };
    gauge(1, 7);
    gauge(2, 8);
    gauge(3, 8);
    gauge(4, 6);
    const point = aggregator.closeAll()[0]!.point(0);
    expect(point).toMatchObject({ last: 3, count: 4, sum: 10, min: 1, max: 4, p50: null });
  });

  test('a counter has only count and sum', () => {
    const { aggregator, add } = setUp();
    add({ value: -2.5 }, 5);
    expect(aggregator.closeAll()[0]!.point(0)).toEqual({
      series: makeSeries('a', 'counter', []),
      windowStart: 0,
      windowMs: 10,
      instance: '',
      count: 1,
      sum: -2.5,
      min: null,
      max: null,
      last: null,
      p50: null,
      p90: null,
      p95: null,
      p99: null,
    });
  });
});

describe('names that are folded', () => {
  test('are noted with the dimension that has the most values', () => {
    const { aggregator, add } = setUp({ maxSeriesByName: ['http.*=2'], notesFolds: true });
    for (let i = 0; i < 10; i++)
      add({ name: 'http.x', dimensions: { app: 'api', user: `u${i}`, up: i % 2 } }, 1);
    for (let i = 0; i < 10; i++) add({ name: 'db', dimensions: { user: `u${i}` } }, 1);
    add({ name: 'http.x', dimensions: { app: 'api', user: 'u9', up: 1 } }, 1);
    const [window] = aggregator.closeAll();
    expect(window!.size).toBe(13);
    expect(aggregator.takeFolded()).toEqual([
      { name: 'http.x', type: 'counter', samples: 9, key: 'user', values: 8, looked: 8 },
    ]);
    expect(aggregator.takeFolded()).toEqual([]);
  });

  test('are noted whatever the limit is, and also if they have no dimensions', () => {
    const { aggregator, add } = setUp({ maxSeries: 1, notesFolds: true });
    add({ name: 'a' }, 1);
    add({ name: 'b' }, 1);
    add({ name: 'c', dimensions: { x: '1' } }, 1);
    aggregator.closeAll();
    const folded = aggregator.takeFolded();
    expect(folded.map(({ name, key, samples }) => [name, key, samples])).toEqual([
      ['b', undefined, 1],
      ['c', 'x', 1],
    ]);
  });

  test('a limit by name counts series of one type, and leaves others alone', () => {
    const { aggregator, add } = setUp({ maxSeriesByName: ['a=1'] });
    for (const type of ['counter', 'gauge'])
      for (const x of [1, 2]) add({ name: 'a', type, dimensions: { x } }, 1);
    for (const x of [1, 2, 3]) add({ name: 'b', dimensions: { x } }, 1);
    const points = aggregator.closeAll().flatMap(pointsOf);
    const text = points.map(({ series }) => `${series.type} ${series.name}${series.dimensionsJson}`).sort();
    const overflow = `{"${OVERFLOW_DIMENSION}":"true"}`;
    expect(text).toEqual([
      `counter a${overflow}`,
      'counter a{"x":"1"}',
      'counter b{"x":"1"}',
      'counter b{"x":"2"}',
      'counter b{"x":"3"}',
      `gauge a${overflow}`,
      'gauge a{"x":"1"}',
    ]);
  });
});
