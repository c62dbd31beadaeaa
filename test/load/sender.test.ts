import { describe, expect, it } from 'vitest';
import type { Clock } from '../../src/base/clock.ts';
import { newProgress, type Outlet, type Plan, publishTraffic } from '../../src/load/sender.ts';
import { Traffic } from '../../src/load/traffic.ts';

const WINDOWS = { windowMs: 10_000, latenessMs: 2_000, maxAheadMs: 1_000 };

function traffic(): Traffic {
  const types = { counter: 8, gauge: 1, timer: 1 };
  return new Traffic({ seed: 1, series: 100, skew: 1, types, late: 0, ahead: 0, windows: WINDOWS });
}

function virtualClock(): Clock & { ms: number } {
  return {
    ms: Date.UTC(2026, 10, 23),
    now() {
      return this.ms;
    },
    steady() {
      return this.ms;
    },
    random: () => 0.5,
    async nextTurn() {},
    async sleep(ms) {
      this.ms += ms;
    },
  };
}

const UNTIL_STOPPED: Plan = { subject: 's', rate: 0, maxMessages: Infinity, maxMs: Infinity };

/** Reads the bytes when they are flushed, as a socket would: it shows if they were overwritten before. */
class Recorder implements Outlet {
  readonly texts: string[] = [];
  queued: Uint8Array[] = [];
  flushes = 0;
  unflushed = 0;
  mostUnflushed = 0;
  connected = true;
  comesBack = true;
  beforeFlush: () => void = () => {};

  async whenConnected(): Promise<void> {
    if (!this.comesBack) return new Promise(() => {});
    this.connected = true;
  }

  publish(_subject: string, payload: Uint8Array): boolean {
    if (!this.connected) return false;
    this.queued.push(payload);
    this.unflushed++;
    this.mostUnflushed = Math.max(this.mostUnflushed, this.unflushed);
    return true;
  }

  async flush(): Promise<void> {
    this.flushes++;
    const taken = this.queued.splice(0);
    this.beforeFlush();
    await new Promise(setImmediate);
    this.texts.push(...taken.map((payload) => Buffer.from(payload).toString()));
    this.unflushed -= taken.length;
  }
}

describe('send', () => {
  it('keeps to the rate, and stops after the time', async () => {
    const progress = newProgress();
    const plan = { ...UNTIL_STOPPED, rate: 1_234, maxMs: 10_000 };
    await publishTraffic(
      traffic(),
      plan,
      new Recorder(),
      virtualClock(),
      progress,
      new AbortController().signal,
    );
    expect(progress.messages).toBeGreaterThan(12_300);
    expect(progress.messages).toBeLessThanOrEqual(12_340);
    expect(progress.elapsedMs).toBe(10_000);
  });

  it.each([0, 50, 1_000_000])('sends exactly as many messages as planned (rate %i)', async (rate) => {
    const progress = newProgress();
    const outlet = new Recorder();
    const plan = { ...UNTIL_STOPPED, rate, maxMessages: 5_001 };
    await publishTraffic(traffic(), plan, outlet, virtualClock(), progress, new AbortController().signal);
    expect(progress).toMatchObject({ messages: 5_001, unconfirmed: 0, gaveUp: false });
    expect(outlet.texts).toHaveLength(5_001);
    expect(progress.bytes).toBe(outlet.texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0));
  });

  it('overwrites nothing that is not flushed, and queues at most two bursts', async () => {
    const outlet = new Recorder();
    const plan = { ...UNTIL_STOPPED, maxMessages: 20_000 };
    await publishTraffic(
      traffic(),
      plan,
      outlet,
      virtualClock(),
      newProgress(),
      new AbortController().signal,
    );
    const same = traffic();
    const target = Buffer.alloc(512);
    const expected = Array.from({ length: 20_000 }, () =>
      target.toString('utf8', 0, same.write(target, 0, Date.UTC(2026, 10, 23))),
    );
    expect(outlet.texts).toEqual(expected);
    expect(outlet.mostUnflushed).toBeLessThanOrEqual(2 * 2_048);
  });

  it('catches up on at most a second after a delay', async () => {
    const clock = virtualClock();
    const outlet = new Recorder();
    outlet.beforeFlush = () => {
      if (outlet.flushes === 10) clock.ms += 60_000;
    };
    const progress = newProgress();
    const plan = { ...UNTIL_STOPPED, rate: 1_000, maxMs: 62_000 };
    await publishTraffic(traffic(), plan, outlet, clock, progress, new AbortController().signal);
    expect(progress.messages).toBeLessThan(3_200);
    expect(progress.messages).toBeGreaterThan(2_000);
  });

  it('stops on abort, with everything confirmed', async () => {
    const controller = new AbortController();
    const outlet = new Recorder();
    outlet.beforeFlush = () => {
      if (outlet.flushes === 5) controller.abort();
    };
    const progress = newProgress();
    await publishTraffic(traffic(), UNTIL_STOPPED, outlet, virtualClock(), progress, controller.signal);
    expect(progress.messages).toBe(outlet.texts.length);
    expect(progress).toMatchObject({ unconfirmed: 0, gaveUp: false });
  });

  it('goes on when the connection comes back, and says how many messages may be lost', async () => {
    const outlet = new Recorder();
    outlet.beforeFlush = () => {
      if (outlet.flushes !== 3) return;
      outlet.connected = false;
      throw new Error('DISCONNECT');
    };
    const progress = newProgress();
    const plan = { ...UNTIL_STOPPED, maxMessages: 20_000 };
    await publishTraffic(traffic(), plan, outlet, virtualClock(), progress, new AbortController().signal);
    expect(progress).toMatchObject({ messages: 20_000, unconfirmed: 2_048, gaveUp: false });
    expect(outlet.texts).toHaveLength(20_000 - 2_048);
  });

  it('counts what the bus did not accept', async () => {
    const outlet = new Recorder();
    let calls = 0;
    const publish = outlet.publish.bind(outlet);
    outlet.publish = (subject, payload) => ++calls % 10 !== 0 && publish(subject, payload);
    const progress = newProgress();
    const plan = { ...UNTIL_STOPPED, maxMessages: 1_000 };
    await publishTraffic(traffic(), plan, outlet, virtualClock(), progress, new AbortController().signal);
    expect(progress).toMatchObject({ messages: 1_000, unconfirmed: 100 });
  });

  it('gives up when the connection does not come back', async () => {
    const outlet = new Recorder();
    outlet.comesBack = false;
    outlet.beforeFlush = () => {
      outlet.connected = false;
      throw new Error('CONNECTION_CLOSED');
    };
    const progress = newProgress();
    await publishTraffic(
      traffic(),
      UNTIL_STOPPED,
      outlet,
      virtualClock(),
      progress,
      new AbortController().signal,
    );
    expect(progress).toMatchObject({ messages: 2_048, unconfirmed: 2_048, gaveUp: true });
  });
});
