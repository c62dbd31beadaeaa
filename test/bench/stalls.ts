/**
 * A window of 100,000 points goes to four stores while messages keep coming: how long the draining thread stands
 * still, and how soon all four have confirmed the window. And how much memory a million live series take.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Status } from '../../src/observe/status.ts';
import { startNats } from '../../src/servers/nats.ts';
import { freePort } from '../../src/servers/server-process.ts';
import { startStack } from '../../src/servers/stack.ts';
import { type Child, startChild } from './children.ts';
import type { Look } from './draining.ts';
import { type Figure, figure } from './measure.ts';

const WINDOW_MS = 10_000;
const LATENESS_MS = 1_000;
const POINTS = 100_000;
/** Enough, at random, that nearly every series gets one. */
const MESSAGES = 500_000;
const RATE = 80_000;
/** The traffic while the window is written. */
const LIVE = { rate: 5_000, series: 1_000, messages: 150_000 };
const LIVE_SERIES = 1_000_000;
/** As the image sets them. Otherwise glibc and V8 keep memory that is free, as much as a series takes or more. */
const AS_DEPLOYED = {
  NODE_OPTIONS: '--max-semi-space-size=2 --max-old-space-size=512 --no-node-snapshot',
  MALLOC_MMAP_THRESHOLD_: '8192',
  MALLOC_ARENA_MAX: '2',
};
const CONFIRM_TIMEOUT_MS = 120_000;
const POLL_MS = 50;
const PROBE_TICKS_MS = 3_000;

async function startDraining(env: Readonly<Record<string, string>>): Promise<Child> {
  const settings = {
    ...env,
    WINDOW: `${WINDOW_MS}ms`,
    LATENESS: `${LATENESS_MS}ms`,
    HTTP_HOST: '127.0.0.1',
    HTTP_PORT: String(await freePort()),
  };
  const draining = await startChild('./draining.ts', [], settings);
  while (!((await draining.ask('status')) as Status).ready) await sleep(POLL_MS);
  return draining;
}

const statusOf = async (draining: Child) => (await draining.ask('status')) as Status;

/** Waits for the beginning of a window, fills it, and then keeps publishing a little. */
async function fillWindow(url: string): Promise<{ end: number; stop: () => Promise<unknown> }> {
  const many = await startChild('./producer.ts', [url, String(POINTS), 'counters']);
  const few = await startChild('./producer.ts', [url, String(LIVE.series), 'all types']);
  const start = Math.ceil(Date.now() / WINDOW_MS) * WINDOW_MS;
  await sleep(start - Date.now());
  const live = few.ask({ subject: 'metrics', messages: LIVE.messages, rate: LIVE.rate }).catch(() => {});
  await many.ask({ subject: 'metrics', messages: MESSAGES, rate: RATE });
  const stop = async () => {
    await Promise.all([many.stop(), few.stop()]);
    await live;
  };
  return { end: start + WINDOW_MS, stop };
}

/** When each sink had confirmed all windows before `end`, in seconds after the last of them was complete. */
async function untilConfirmed(draining: Child, end: number): Promise<Map<string, number>> {
  const confirmed = new Map<string, number>();
  const complete = end + LATENESS_MS;
  for (;;) {
    const { sinks } = await statusOf(draining);
    for (const { id, next } of sinks) {
      if (!confirmed.has(id) && next !== null && Date.parse(next) >= end)
        confirmed.set(id, (Date.now() - complete) / 1000);
    }
    if (confirmed.size === sinks.length) return confirmed;
    if (Date.now() > complete + CONFIRM_TIMEOUT_MS) return confirmed;
    await sleep(POLL_MS);
  }
}

interface Written {
  readonly look: Look;
  /** When the last sink had confirmed the window, in seconds after it was complete. */
  readonly slowest: number;
}

async function writeWindow(
  env: Readonly<Record<string, string>>,
  tell: (line: string) => void,
): Promise<Written> {
  const stack = await startStack();
  const draining = await startDraining({ ...stack.env, ...env });
  try {
    const { end, stop } = await fillWindow(stack.nats.url);
    await sleep(end - Date.now());
    await draining.ask('look');
    const confirmed = await untilConfirmed(draining, end);
    const look = (await draining.ask('look')) as Look;
    await stop();
    for (const [sink, seconds] of confirmed)
      tell(`${sink} confirmed ${seconds.toFixed(1)} s after the window was complete`);
    return { look, slowest: Math.max(...confirmed.values()) };
  } finally {
    await draining.stop();
    await stack.stop();
  }
}

export async function measureStalls(tell: (line: string) => void): Promise<Figure[]> {
  const all = await writeWindow({}, tell);
  // The emulator of DynamoDB keeps a processor busy for longer than all the others take.
  const others = await writeWindow({ SINK_DYNAMODB_ENABLED: 'false' }, tell);
  const stall = `longest stall of the draining thread, 99.9 % (longest: ${all.look.longest.toFixed(0)} ms)`;
  return [
    figure('stall', stall, 'ms', [all.look.p999], { bar: 50 }),
    figure('confirm', `${POINTS} points confirmed by all four stores`, 's', [all.slowest], { bar: 5 }),
    figure('confirm', 'by three, without the emulator of DynamoDB', 's', [others.slowest], { bar: 5 }),
  ];
}

/** Resident memory with a million live series minus that with none, per series. */
export async function measureMemory(): Promise<Figure[]> {
  const nats = await startNats();
  const env = { NATS_URL: nats.url, SINK_BLACKHOLE_ENABLED: 'true', METRICS_STREAM_MAX_BYTES: '2GiB' };
  // Without more room than by default, most of them would be folded.
  const room = { MAX_SERIES: String(LIVE_SERIES), MAX_SERIES_BYTES: '512MB' };
  const draining = await startDraining({ ...env, ...room, ...AS_DEPLOYED });
  try {
    const before = ((await draining.ask('look')) as Look).rss;
    const producer = await startChild('./producer.ts', [nats.url, String(LIVE_SERIES), 'counters']);
    const perSeries: number[] = [];
    for (let round = 0; round < 5; round++) {
      await producer.ask({ subject: 'metrics', messages: 2 * LIVE_SERIES, rate: RATE });
      await sleep(PROBE_TICKS_MS);
      const { series } = (await statusOf(draining)).windows;
      perSeries.push((((await draining.ask('look')) as Look).rss - before) / series);
    }
    await producer.stop();
    return [figure('memory', 'a live series, all in, at 1,000,000', 'bytes/series', perSeries, { bar: 200 })];
  } finally {
    await draining.stop();
    await nats.stop();
  }
}
