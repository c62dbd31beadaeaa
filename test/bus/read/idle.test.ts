/** How often the bus is asked while nothing arrives. The bus and the clock are stand-ins. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { Bus } from '../../../src/bus/connect.ts';
import { Pull, type PullHandlers } from '../../../src/bus/read/pull.ts';

const LIMITS = { messages: 100, bytes: 1_000_000, expiresMs: 30_000 };

interface Asked {
  readonly at: number;
  readonly body: { readonly no_wait?: true };
  readonly reply: string;
}

/** A consumer that has no messages, and whose requests last. */
class QuietBus {
  readonly asked: Asked[] = [];
  readonly callbacks = new Map<string, (error: null, message: object) => void>();
  answers = true;

  get bus(): Bus {
    const connection = {
      subscribe: (inbox: string, { callback }: { callback: (error: null, message: object) => void }) => {
        this.callbacks.set(inbox, callback);
        return { getID: () => this.callbacks.size, unsubscribe() {} };
      },
      publish: (_: string, body: string, { reply }: { reply: string }) => {
        this.asked.push({ at: Date.now(), body: JSON.parse(body), reply });
        if (JSON.parse(body).no_wait && this.answers) this.say(reply, 404, 'No Messages');
      },
      isClosed: () => false,
    };
    return {
      connection,
      connected: true,
      apiPrefix: '$JS.API',
      inboxPrefix: '_INBOX',
      onReconnect: () => () => {},
    } as unknown as Bus;
  }

  get probes(): readonly number[] {
    return this.asked.filter(({ body }) => body.no_wait).map(({ at }) => at);
  }

  say(inbox: string, code: number, description: string): void {
    const message = { data: new Uint8Array(0), headers: { code, description } };
    setTimeout(() => this.callbacks.get(inbox)?.(null, message), 1);
  }

  deliver(): void {
    const [first] = this.asked;
    const reply = `$JS.ACK.METRICS.C.1.1.1.${Date.now()}000000.0`;
    this.callbacks.get(first!.reply)?.(null, { data: Buffer.from('x'), reply, subject: 'metrics' });
  }
}

const quiet = () => new QuietBus();
let pulls: Pull[] = [];
const progress = vi.fn();

function pull(from: QuietBus, more: Partial<PullHandlers> = {}): Pull {
  const handlers = { message() {}, progress, idle() {}, answered() {}, ...more };
  const made = new Pull(from.bus, { stream: 'METRICS', name: 'C', limits: LIMITS }, handlers, Date.now);
  pulls.push(made);
  return made;
}

beforeEach(() => {
  vi.useFakeTimers({ now: 0 });
});
afterEach(() => {
  for (const each of pulls) each.stop();
  pulls = [];
  progress.mockReset();
  vi.useRealTimers();
});

test('who waits for nothing before long is asked for every 2.5 seconds, anybody else four times a second', () => {
  const [usual, idle] = [quiet(), quiet()];
  pull(usual);
  pull(idle, { idleDueAt: () => Number.POSITIVE_INFINITY });
  vi.advanceTimersByTime(30_000);
  expect(usual.probes.length).toBeGreaterThan(115);
  expect(idle.probes.length).toBeLessThan(22);
  expect(idle.probes.length).toBeGreaterThan(15);
});

test('the bus is asked when the answer is of use, and as usual if it was not', () => {
  const bus = quiet();
  let dueAt = 10_333;
  pull(bus, { idleDueAt: () => dueAt });
  vi.advanceTimersByTime(10_333 + 600);
  const late = bus.probes.filter((at) => at >= 10_333);
  expect(late[0]).toBeLessThan(10_333 + 25);
  expect(late.length).toBeGreaterThan(2);
  dueAt = 20_000;
  vi.advanceTimersByTime(9_000);
  expect(bus.probes.filter((at) => at > 11_200 && at < 19_500).length).toBeLessThan(10);
});

test('a message ends the idleness: it is reported within a tick', () => {
  const bus = quiet();
  pull(bus, { idleDueAt: () => Number.POSITIVE_INFINITY });
  vi.advanceTimersByTime(10_100);
  expect(progress).not.toHaveBeenCalled();
  bus.deliver();
  vi.advanceTimersByTime(250);
  expect(progress).toHaveBeenCalledTimes(1);
});

test('a request that ended is made again within a tick', () => {
  const bus = quiet();
  pull(bus, { idleDueAt: () => Number.POSITIVE_INFINITY });
  vi.advanceTimersByTime(10_100);
  const before = bus.asked.length - bus.probes.length;
  bus.say(bus.asked[0]!.reply, 408, 'Request Timeout');
  vi.advanceTimersByTime(250);
  expect(bus.asked.length - bus.probes.length).toBe(before + 1);
});

test('a server that no longer answers is noticed as soon as ever', async () => {
  const bus = quiet();
  const reading = pull(bus, { idleDueAt: () => Number.POSITIVE_INFINITY });
  vi.advanceTimersByTime(10_100);
  bus.answers = false;
  vi.advanceTimersByTime(12_000);
  expect(await reading.ended).toEqual({ kind: 'lost', reason: 'the server does not answer' });
});
