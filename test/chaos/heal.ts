/** How long the service takes to be well again when nothing is wrong any more. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Instances } from './instances.ts';

const POLL_MS = 200;
/**
 * How old the first window that is not confirmed may be at the head: itself, the one before it, LATENESS, IDLE_SLACK
 * and what a busy machine needs.
 */
const HEAD_WINDOWS = 5;

export interface Healing {
  /** By sink: from the end of the faults until it was at the head of the stream; null: not in time. */
  readonly headAfterMs: Record<string, number | null>;
  /** The worst lag of a sink that was seen meanwhile, in seconds. */
  worstLagSeconds: number;
}

/** Resolves when every sink is at the head of the stream, or the time is over. */
export async function atHead(
  instances: Instances,
  windowMs: number,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<Healing> {
  const healing: Healing = { headAfterMs: {}, worstLagSeconds: 0 };
  const began = performance.now();
  while (performance.now() - began < timeoutMs) {
    const sinks = (await instances.status())?.sinks ?? [];
    for (const { id, next, lagSeconds } of sinks) {
      healing.headAfterMs[id] ??= null;
      if (next === null) continue;
      healing.worstLagSeconds = Math.max(healing.worstLagSeconds, lagSeconds);
      if (lagSeconds * 1000 <= HEAD_WINDOWS * windowMs) {
        healing.headAfterMs[id] ??= Math.round(performance.now() - began);
      }
    }
    const times = Object.values(healing.headAfterMs);
    if (times.length > 0 && times.every((ms) => ms !== null)) break;
    await sleep(POLL_MS, undefined, { signal });
  }
  return healing;
}

/** Returns the sinks that have not confirmed all windows before `end` in time. */
export async function untilConfirmed(
  instances: Instances,
  end: number,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<string[]> {
  for (const deadline = performance.now() + timeoutMs; ; await sleep(POLL_MS, undefined, { signal })) {
    const status = await instances.status();
    const behind = status?.sinks.filter(({ next }) => next === null || Date.parse(next) < end);
    if (behind?.length === 0) return [];
    if (performance.now() > deadline)
      return behind?.map(({ id }) => id) ?? ['all: the service does not answer'];
  }
}
