import { setTimeout as sleep } from 'node:timers/promises';
import { isTransient } from '../bus/errors.ts';

const ELECTION_TIMEOUT_MS = 60_000;
const ELECTION_POLL_MS = 500;

/** Retries while the bus elects a leader: it answers again soon, and what was sent must still be looked for. */
export async function onceAnswered<T>(ask: () => Promise<T>): Promise<T> {
  for (const deadline = Date.now() + ELECTION_TIMEOUT_MS; ; await sleep(ELECTION_POLL_MS)) {
    try {
      return await ask();
    } catch (error) {
      if (!isTransient(error) || Date.now() > deadline) throw error;
    }
  }
}
