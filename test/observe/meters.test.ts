import fc from 'fast-check';
import { describe, expect, test, vi } from 'vitest';
import { RELATIVE_ERROR } from '../../src/aggregate/sketch.ts';
import { Heartbeat } from '../../src/base/heartbeat.ts';
import { Quiet } from '../../src/base/log.ts';
import { History, type Moment } from '../../src/observe/history.ts';
import { Meters } from '../../src/observe/meters.ts';
import { RecentQuantiles } from '../../src/observe/quantiles.ts';
import { Rate } from '../../src/observe/rate.ts';
import { RecentHighest } from '../../src/observe/recent-highest.ts';
import { Watch } from '../../src/observe/watch.ts';
import { TopNames } from '../../src/probe/top-names.ts';
import { WindowScan } from '../../src/probe/window-scan.ts';
import { counterWindow } from '../deliver/fixtures.ts';
import { effort } from '../effort.ts';

const WINDOWS = { windowMs: 10_000, latenessMs: 0 };

describe('a rate', () => {
  test('is the mean over its period, without what was before', () => {
    const rate = new Rate(10_000);
    let value = 0;
    for (let second = 0; second <= 60; second++) {
      rate.tick(value, second * 1000);
      value += second < 30 ? 5 : 50;
    }
    expect(rate.perSecond).toBe(50);
  });

  test('is the mean so far in its first period, and 0 before the second tick', () => {
    const rate = new Rate(10_000);
    expect(rate.perSecond).toBe(0);
    rate.tick(100, 0);
    expect(rate.perSecond).toBe(0);
    rate.tick(103, 1500);
    expect(rate.perSecond).toBe(2);
  });

  test('starts again if the counter goes back', () => {
    const rate = new Rate(10_000);
    for (const [second, value] of [0, 1000, 2000, 7, 9].entries()) rate.tick(value, second * 1000);
    expect(rate.perSecond).toBe(2);
  });

  test('forgets what is older than its period, even if ticks are late', () => {
    const rate = new Rate(10_000);
    for (const second of [0, 100, 101, 102]) rate.tick(second < 100 ? 0 : 100_000 + second, second * 1000);
    expect(rate.perSecond).toBe(1);
  });
});

test('the share of late samples is a share of those that this slice puts into windows', () => {
  const meters = new Meters([], 1000, 0);
  for (let second = 0; second <= 5; second++) {
    // One of four slices: of 100 samples a second it puts 25 into its windows, 5 of them late.
    const samples = { byType: { counter: 80 * second, timer: 20 * second }, late: 5 * second };
    const elsewhere = { foreign: 70 * second, ignored: 4 * second, reopened: second };
    const reading = { received: 0, samples: { ...samples, ...elsewhere }, windows: WINDOWS, sinks: [] };
    meters.tick(reading, 1000 * second);
  }
  expect(meters.source().lateShare).toBeCloseTo(0.2);
  expect(meters.source().samplesPerSecond).toMatchObject({ counter: 80, timer: 20 });
});

test('rates continue if the clock of the machine is set back', () => {
  vi.useFakeTimers();
  const meters = new Meters([], 1000, 0);
  const now = () => Date.UTC(2026, 10, clock.seconds < 4 ? 23 : 22);
  const clock = { seconds: 0, steady: () => clock.seconds * 1000, now };
  const status = () => {
    throw new Error('nobody looks');
  };
  const samples = { byType: {}, late: 0, ignored: 0, foreign: 0, reopened: 0 };
  const reading = () => ({ received: 50 * clock.seconds, samples, windows: WINDOWS, sinks: [] });
  const failed: unknown[] = [];
  const watch = new Watch({
    status,
    reading,
    meters,
    clock,
    sinks: [],
    heartbeat: new Heartbeat(),
    failed: (error) => failed.push(error),
  });
  for (clock.seconds = 1; clock.seconds <= 6; clock.seconds++) vi.advanceTimersByTime(1000);
  watch.stop();
  vi.useRealTimers();
  expect(failed).toEqual([]);
  expect(meters.source().messagesPerSecond).toBe(50);
});

describe('recent quantiles', () => {
  test('cover the last half to whole period', () => {
    const recent = new RecentQuantiles(60_000, 0);
    expect(recent.read(0)).toBeUndefined();
    for (let ms = 0; ms < 100_000; ms += 100) recent.add(ms < 40_000 ? 9 : 1 + (ms % 1000) / 1000, ms);
    const { p50, p90, p99 } = recent.read(100_000)!;
    expect(Math.abs(p50 - 1.4)).toBeLessThan(2 * RELATIVE_ERROR + 0.1);
    expect(Math.abs(p90 - 1.8)).toBeLessThan(2 * RELATIVE_ERROR + 0.1);
    expect(p99).toBeLessThan(2);
  });

  test('show an outlier at once, and no longer than a period', () => {
    const recent = new RecentQuantiles(60_000, 0);
    recent.add(5, 10_000);
    expect(recent.read(10_000)?.p99).toBeCloseTo(5);
    expect(recent.read(75_000)).toBeUndefined();
  });

  test('start again if the clock is set back', () => {
    const recent = new RecentQuantiles(60_000, 3_600_000);
    recent.add(5, 3_600_000);
    recent.add(1, 0);
    expect(recent.read(1000)?.p99).toBeCloseTo(1);
  });
});

test('what is logged at most once per interval is logged again after the clock is set back', () => {
  const quiet = new Quiet(1000);
  const times = [3_600_000, 3_600_500, 0, 500, 1000];
  expect(times.map((now) => quiet.admit('a', now))).toEqual([0, undefined, 1, undefined, 1]);
});

test('how long refused connections take is not how long writes take', () => {
  const meters = new Meters(['a'], 1000, 0);
  expect(meters.sink('a', 0)).toMatchObject({ writeSeconds: undefined, failedWriteSeconds: undefined });
  for (let i = 0; i < 100; i++) {
    meters.wrote('a', 2, true, i);
    meters.wrote('a', 0.001, false, i);
  }
  const { writeSeconds, failedWriteSeconds } = meters.sink('a', 100);
  expect(writeSeconds!.p50).toBeCloseTo(2, 1);
  expect(failedWriteSeconds!.p99).toBeCloseTo(0.001);
});

describe('how late a sink is', () => {
  test('is what a window was late at most, whenever the status is looked at', () => {
    // A window of 10 s whose lag rises from 0 to 10.3 s: whoever looks every 10 s sees the same value each time.
    const meters = new Meters(['a'], 10_000, 0);
    const seen: number[] = [];
    for (let ms = 0; ms <= 120_000; ms += 1000) {
      const sinks = [{ id: 'a', written: 0, writtenBytes: 0, lagSeconds: (ms % 10_000) / 1000 }];
      const samples = { byType: {}, late: 0, ignored: 0, foreign: 0, reopened: 0 };
      meters.tick({ received: 0, samples, sinks, windows: WINDOWS }, ms);
      if (ms % 10_000 === 0) meters.confirmed('a', 0.3, ms + 300);
      if (ms % 10_000 === 5000) seen.push(meters.sink('a', ms + 500).lateSeconds);
    }
    expect(seen).toEqual(seen.map(() => 0.3));
  });

  test('grows while a window is owed, and is over soon after', () => {
    const late = new RecentHighest(20_000, 0);
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.integer({ min: 0, max: 1000 }), fc.integer({ min: -5, max: 9 })), {
          minLength: 60,
          maxLength: 100,
        }),
        (steps) => {
          const fresh = new RecentHighest(20_000, 0);
          const all: { at: number; value: number }[] = [];
          let now = 0;
          for (const [wait, value] of steps) {
            now += wait;
            fresh.add(value, now);
            all.push({ at: now, value });
            // Spans turn when they are used, which may be a second late.
            const within = (ms: number) =>
              Math.max(0, ...all.filter(({ at }) => at > now - ms).map((each) => each.value));
            expect(fresh.read(now)).toBeGreaterThanOrEqual(within(10_000));
            expect(fresh.read(now)).toBeLessThanOrEqual(within(22_001));
          }
        },
      ),
      { numRuns: effort(100) },
    );
    late.add(5, 0);
    expect([late.read(9_999), late.read(20_000)]).toEqual([5, 0]);
  });
});

describe('top names', () => {
  test('find every frequent name, among more names than are kept', () => {
    const names = fc.array(fc.record({ hot: fc.integer({ min: 0, max: 9 }), cold: fc.nat(5000) }), {
      minLength: 3000,
      maxLength: 4000,
    });
    fc.assert(
      fc.property(names, (all) => {
        const top = new TopNames();
        top.begin(1000);
        for (const { hot, cold } of all) {
          top.count(0, `hot ${hot}`, 3);
          top.count(0, `cold ${cold}`, 1);
        }
        const found = top.top(10);
        expect(found.map(({ name }) => name).every((name) => name.startsWith('hot'))).toBe(true);
        // Never too high, and too low by at most 1/256 of all.
        const error = (all.length * 4) / 256;
        for (const { name, samplesPerSecond } of found) {
          const truth = 3 * all.filter(({ hot }) => `hot ${hot}` === name).length;
          expect(samplesPerSecond).toBeLessThanOrEqual(truth);
          expect(samplesPerSecond).toBeGreaterThanOrEqual(truth - error);
        }
      }),
      { numRuns: effort(10) },
    );
  });

  test('follow the stream: what was frequent fades', () => {
    const top = new TopNames();
    for (let window = 0; window < 60; window++) {
      top.begin(10_000);
      top.count(0, window < 30 ? 'old' : 'new', 100);
      top.count(2, 'timer', 10);
    }
    const [first, second] = top.top(2);
    expect(first).toMatchObject({ name: 'new', type: 'counter' });
    expect(first!.samplesPerSecond).toBeGreaterThan(9.5);
    expect(second).toMatchObject({ name: 'timer', type: 'timer' });
    expect(second!.samplesPerSecond).toBeCloseTo(1);
    expect(second!.share).toBeCloseTo(1 / 11);
  });

  test('are counted from closed windows, a little later', async () => {
    const scan = new WindowScan();
    scan.take([counterWindow(0, 5)]);
    expect(scan.topNames(10)).toEqual([]);
    await expect.poll(() => scan.topNames(10).length).toBe(5);
    expect(scan.topNames(1)[0]).toMatchObject({ type: 'counter', samplesPerSecond: 1, share: 0.2 });
  });
});

describe('history', () => {
  const moment = (time: number): Moment => ({
    time,
    values: { messages: time, 'late:a': time % 3 === 0 ? null : -time },
  });

  test('keeps the latest values, oldest first', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 30 }), (count) => {
        const history = new History(['a'], 7);
        for (let time = 1; time <= count; time++) history.add(moment(time));
        const expected = Array.from({ length: count }, (_, i) => i + 1).slice(-7);
        const { times, columns } = history.charts;
        expect(times).toEqual(expected);
        expect(columns.messages).toEqual(expected);
        expect(columns['late:a']).toEqual(expected.map((time) => moment(time).values['late:a']));
        expect(columns['write:a']).toEqual(expected.map(() => null));
      }),
    );
  });
});
