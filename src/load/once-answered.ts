import { setTimeout as sleep } from 'node:timers/promises';
import { isJetStreamAway, isTransient } from '../bus/errors.ts';

const ELECTION_TIMEOUT_MS = 60_000;
const ELECTION_POLL_MS = 500;

/**
 * Retries while the bus elects a leader: it answers again soon, and what was sent must still be looked for. `again`: it
 * has answered before, so that it does have JetStream.
 */
export async function onceAnswered<T>(ask: () => Promise<T>, again = false): Promise<T> {
  for (const deadline = Date.now() + ELECTION_TIMEOUT_MS; ; await sleep(ELECTION_POLL_MS)) {
    try {
      return await ask();
    } catch (error) {
      const mayPass = isTransient(error) || (again && isJetStreamAway(error));
      if (!mayPass || Date.now() > deadline) throw error;
    }
  }
}
