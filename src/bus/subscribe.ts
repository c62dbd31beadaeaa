/** Subscriptions that only listen: plain NATS, nothing acknowledged, nothing stored at the server. */

import type { Bus } from './connect.ts';
import type { Incoming } from './message.ts';

/** Listens until `signal` aborts, then resolves. Rejects with a `BusError` if the bus refuses a subscription. */
export async function listen(
  bus: Bus,
  subjects: readonly string[],
  onMessage: (message: Incoming) => void,
  signal: AbortSignal,
): Promise<void> {
  const ends: (() => Promise<void>)[] = [];
  try {
    await new Promise<void>((resolve, reject) => {
      signal.addEventListener('abort', () => resolve(), { once: true });
      if (signal.aborted) resolve();
      for (const subject of subjects) ends.push(bus.subscribe(subject, onMessage, { onRefused: reject }));
    });
  } finally {
    await Promise.all(ends.map((end) => end()));
  }
}
