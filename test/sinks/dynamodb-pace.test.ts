/** The pace of DynamoDB's writes, against a model of a table in virtual time. */
import { describe, expect, it } from 'vitest';
import { Pace } from '../../sinks/dynamodb/pace.ts';

const ITEMS = 25;

/** A table that takes `units(now)` a second, with a second's worth of units saved up at most. */
function table(units: (now: number) => number) {
  let saved = 0;
  let last = 0;
  return {
    takes(now: number): boolean {
      const rate = units(now);
      saved = Math.min(rate, saved + ((now - last) / 1000) * rate);
      last = now;
      if (saved < ITEMS) return false;
      saved -= ITEMS;
      return true;
    },
  };
}

/** Writes without a break for so many seconds. Returns what went through a second, and the share that was refused. */
function run(pace: Pace, units: (now: number) => number, fromSecond: number, toSecond: number) {
  const store = table(units);
  let now = fromSecond * 1000;
  let written = 0;
  let throttled = 0;
  while (now < toSecond * 1000) {
    const waitMs = pace.take(ITEMS, now);
    now += Math.max(waitMs, 0.1);
    if (store.takes(now)) {
      written++;
      if (waitMs > 0) pace.raise(ITEMS);
    } else {
      throttled++;
      pace.lower(now);
    }
  }
  return {
    unitsPerSecond: (written * ITEMS) / (toSecond - fromSecond),
    share: throttled / (written + throttled),
  };
}

describe('the pace of writes to DynamoDB', () => {
  it.each([
    [200, 500],
    [500, 500],
    [4_000, 1_000],
    [1_000, 4_000],
    [undefined, 4_000],
    [undefined, 12_000],
  ])('a table that says %s and takes %i: most of that is used, and little is refused', (says, takes) => {
    const pace = new Pace(says);
    run(pace, () => takes, 0, 60);
    const { unitsPerSecond, share } = run(pace, () => takes, 60, 360);
    expect(unitsPerSecond).toBeGreaterThan(0.75 * takes);
    expect(share).toBeLessThan(0.15);
  });

  it('a table that takes a quarter for a while, and then all again', () => {
    const pace = new Pace(4_000);
    const takes = (now: number) => (now > 60_000 && now < 120_000 ? 1_000 : 4_000);
    run(pace, takes, 0, 60);
    const few = run(pace, takes, 60, 120);
    const again = run(pace, takes, 120, 180);
    expect(few.unitsPerSecond).toBeGreaterThan(700);
    expect(again.unitsPerSecond).toBeGreaterThan(3_000);
  });

  it('a burst after a pause goes at once, up to a tenth of a second', () => {
    const pace = new Pace(1_000);
    const waits = Array.from({ length: 8 }, () => pace.take(ITEMS, 10_000));
    expect(waits).toEqual([0, 0, 0, 0, 0, 25, 50, 75]);
  });

  it('the place of a write that gives up is free again', () => {
    const pace = new Pace(1_000);
    for (let tries = 0; tries < 1_000; tries += 1) {
      pace.take(ITEMS, 10_000);
      pace.giveBack(ITEMS);
    }
    expect(pace.take(ITEMS, 10_000)).toBe(0);
  });

  it('however often the table refuses, the rate stays where a write ends in time', () => {
    const pace = new Pace(5);
    for (let now = 0; now < 100_000; now += 100) pace.lower(now);
    expect(pace.unitsPerSecond).toBe(100);
  });
});
