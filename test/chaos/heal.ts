/** How long the service takes to recover after the last fault. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Instances } from './instances.ts';

const POLL_MS = 200;
export interface Healing {
  /** By sink: the time from the end of the faults until it was at the head of the stream; null: not in time. */
  readonly headAfterMs: Record<string, number | null>;
  /** The worst lag of a sink in the meantime, in seconds. */
  worstLagSeconds: number;
}

/**
 * Resolves when every sink is at the head of the stream, or after the timeout. At the head means: it has confirmed
 * everything that was sent before this call, and is not catching up.
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
      healing.worstLagSeconds = Math.max(healing.worstLagSeconds, lagSeconds ?? 0);
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

/** Waits until all windows before `end` are confirmed. Returns the sinks that have not done so in time. */
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
