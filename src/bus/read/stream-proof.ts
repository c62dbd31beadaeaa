/**
 * Looks whether a stream that replaced another stores what is published. nats-server can make a stream out of what is
 * left of a deleted one, which then takes nothing and looks well: no error, no gap, nothing pending.
 *
 * The proof is a message that the new stream delivers. A message of our own would have to be on a subject of the
 * metrics, and would be counted; on another subject, it would prove nothing about these, and the stream's settings,
 * which are not ours to change, would have to name it. So until somebody publishes, nothing is proven, and the service
 * is not ready. What is published is also heard by plain NATS, once, to tell a quiet bus from a stream that is broken.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Quiet } from '../../base/log.ts';
import type { Bus } from '../connect.ts';
import { steadyNow } from './server-clock.ts';

/** How long a stream may take to deliver a message that was published. */
const DELIVERY_MS = 10_000;
const REPEAT_LOG_MS = 60_000;
const POLL_MS = 100;

export interface Proof {
  readonly stream: string;
  readonly subjects: readonly string[];
  readonly isProven: () => boolean;
  /** For tests. */
  readonly deliveryMs?: number;
}

/** Resolves when the stream is proven, or when the signal aborts. Until then, logs why the service is not ready. */
export async function untilProven(bus: Bus, proof: Proof, signal: AbortSignal): Promise<void> {
  const { stream, subjects, isProven, deliveryMs = DELIVERY_MS } = proof;
  let isHeard = false;
  const subscriptions = subjects.map((subject) =>
    bus.connection.subscribe(subject, {
      max: 1,
      callback: (error) => {
        // Without the permission to listen, a quiet bus and a broken stream look alike.
        if (error === null) isHeard = true;
      },
    }),
  );
  const quiet = new Quiet(REPEAT_LOG_MS);
  bus.log.warn({ stream }, 'the stream was replaced; not ready until it has delivered a message');
  for (;;) {
    const wasHeard = isHeard;
    await untilTrue(isProven, deliveryMs, signal);
    if (isProven() || signal.aborted) break;
    if (quiet.admit(wasHeard ? 'broken' : 'quiet', steadyNow()) === undefined) continue;
    // What was heard only now may still be on its way.
    if (wasHeard) {
      const advice = `Delete it (nats stream rm ${stream}). It is made again after a pause. If that does not help, restart nats-server.`;
      bus.log.error({ stream, advice }, 'not ready: the stream stores nothing of what is published');
    } else
      bus.log.warn({ stream }, 'not ready: the stream that replaced another has not delivered anything yet');
  }
  if (isProven()) bus.log.info({ stream }, 'the stream that replaced another delivers messages');
  if (bus.connection.isClosed()) return;
  for (const subscription of subscriptions) subscription.unsubscribe();
}

async function untilTrue(isTrue: () => boolean, ms: number, signal: AbortSignal): Promise<void> {
  for (let waited = 0; waited < ms && !isTrue() && !signal.aborted; waited += POLL_MS)
    await sleep(POLL_MS, undefined, { signal }).catch(() => {});
}
