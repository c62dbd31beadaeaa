/** Sends traffic at a given rate, in small ticks and bounded memory. The clock and the bus are passed in. */
import type { Clock } from '../base/clock.ts';
import { MAX_TRAFFIC_MESSAGE_BYTES, type Traffic } from './traffic.ts';

/** What a sender needs from the bus; see `Bus`. */
export interface Outlet {
  readonly connected: boolean;
  whenConnected(signal: AbortSignal): Promise<void>;
  /** The bytes must not change until a later `flush` has settled. Returns false if the message was not sent. */
  publish(subject: string, payload: Uint8Array): boolean;
  flush(): Promise<void>;
}

export interface Plan {
  readonly subject: string;
  /** Messages per second; 0: as fast as the server takes them. */
  readonly rate: number;
  /** Sending ends at `maxMessages` or after `maxMs`, whichever comes first. */
  readonly maxMessages: number;
  readonly maxMs: number;
}

/** Progress of the sending; changed only by `publishTraffic`. */
export interface Progress {
  messages: number;
  bytes: number;
  elapsedMs: number;
  /** Messages that the server did not confirm. It may or may not hold them. */
  unconfirmed: number;
  /** True when the connection did not come back in time. */
  gaveUp: boolean;
}

const TICK_MS = 5;
/** At most this many messages between two flushes. With two bursts under way, memory is bounded by 2 MiB. */
const BURST_MESSAGES = 2_048;
/** A producer that was held up makes up at most this much of its schedule, so as not to flood the bus. */
const MAX_DEBT_MS = 1_000;
const RECONNECT_TIMEOUT_MS = 60_000;

export function newProgress(): Progress {
  return { messages: 0, bytes: 0, elapsedMs: 0, unconfirmed: 0, gaveUp: false };
}

/** Sends until the plan is complete or `signal` aborts. Resolves when the server has confirmed everything it can. */
export async function publishTraffic(
  traffic: Traffic,
  plan: Plan,
  outlet: Outlet,
  clock: Clock,
  progress: Progress,
  signal: AbortSignal,
): Promise<void> {
  const start = clock.steady();
  // Two arenas take turns: one is filled while the server confirms the other.
  let arena = Buffer.allocUnsafe(BURST_MESSAGES * MAX_TRAFFIC_MESSAGE_BYTES);
  let other = Buffer.allocUnsafe(arena.length);
  let underWay = Promise.resolve();
  let paced = 0;
  while (!signal.aborted && progress.messages < plan.maxMessages) {
    progress.elapsedMs = clock.steady() - start;
    if (progress.elapsedMs >= plan.maxMs) break;
    if (!outlet.connected && !(await reconnected(outlet, clock, progress, signal))) break;
    const due = (progress.elapsedMs * plan.rate) / 1_000;
    paced = Math.max(paced, Math.floor(due - (plan.rate * MAX_DEBT_MS) / 1_000));
    const wanted = plan.rate === 0 ? BURST_MESSAGES : Math.min(BURST_MESSAGES, Math.floor(due - paced));
    if (wanted < 1) {
      await clock.sleep(TICK_MS, signal);
      continue;
    }
    const burst = Math.min(wanted, plan.maxMessages - progress.messages);
    const published = publishBurst(traffic, plan.subject, burst, outlet, clock, progress, arena);
    paced += burst;
    const confirmed = confirm(outlet, published, progress);
    [arena, other] = [other, arena];
    // The next burst overwrites the arena of the burst before this one.
    await underWay;
    underWay = confirmed;
  }
  await underWay;
  progress.elapsedMs = clock.steady() - start;
}

/** Returns how many messages of the burst the bus took. */
function publishBurst(
  traffic: Traffic,
  subject: string,
  burst: number,
  outlet: Outlet,
  clock: Clock,
  progress: Progress,
  arena: Buffer,
): number {
  const now = clock.now();
  let at = 0;
  let published = 0;
  for (let i = 0; i < burst; i++) {
    const end = traffic.write(arena, at, now);
    if (outlet.publish(subject, arena.subarray(at, end))) published++;
    at = end;
  }
  progress.messages += burst;
  progress.bytes += at;
  progress.unconfirmed += burst - published;
  return published;
}

/**
 * Waits until the server confirms the burst. If the connection breaks, everything published since the last confirmation
 * may be lost.
 */
async function confirm(outlet: Outlet, published: number, progress: Progress): Promise<void> {
  try {
    await outlet.flush();
  } catch {
    progress.unconfirmed += published;
  }
}

/** Waits for the connection to come back; resolves to false if it does not. */
async function reconnected(
  outlet: Outlet,
  clock: Clock,
  progress: Progress,
  signal: AbortSignal,
): Promise<boolean> {
  const settled = new AbortController();
  const timeout = clock.sleep(RECONNECT_TIMEOUT_MS, AbortSignal.any([signal, settled.signal]));
  await Promise.race([outlet.whenConnected(AbortSignal.any([signal, settled.signal])), timeout]);
  settled.abort();
  progress.gaveUp = !outlet.connected && !signal.aborted;
  return outlet.connected;
}
