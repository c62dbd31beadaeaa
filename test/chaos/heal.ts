/** How long the service takes to be well again when nothing is wrong any more. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Instances } from './instances.ts';

const POLL_MS = 200;
export interface Healing {
  /** By sink: from the end of the faults until it was at the head of the stream; null: not in time. */
  readonly headAfterMs: Record<string, number | null>;
  /** The worst lag of a sink that was seen meanwhile, in seconds. */
  worstLagSeconds: number;
}

/**
 * Resolves when every sink is at the head of the stream, or the time is over: it has confirmed what was sent until now,
 * when nothing is wrong any more, and goes on with what is sent meanwhile.
 */
export async function atHead(instances: Instances, timeoutMs: number, signal: AbortSignal): Promise<Healing> {
  const healing: Healing = { headAfterMs: {}, worstLagSeconds: 0 };
  const began = performance.now();
  const now = Date.now();
  while (performance.now() - began < timeoutMs) {
    const sinks = (await instances.status())?.sinks ?? [];
    for (const { id, next, lagSeconds, catchingUp } of sinks) {
      healing.headAfterMs[id] ??= null;
      if (next === null) continue;
      healing.worstLagSeconds = Math.max(healing.worstLagSeconds, lagSeconds);
      if (Date.parse(next) >= now && !catchingUp) {
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
