/** Finds a time in a stream, without reading it. */
import type { Bus } from '../connect.ts';
import type { StreamFacts } from '../stream.ts';
import { addConsumer, deleteConsumer } from './consumer.ts';
import { startAt } from './consumer-start.ts';

/**
 * Resolves to the sequence before the first message with a stream time of `ms` (since 1970) or later: the last one if
 * all are earlier. Asks for a consumer that begins there, as the service's do, and removes it again.
 */
export async function sequenceBefore(bus: Bus, facts: StreamFacts, ms: number): Promise<number> {
  const { deliver } = startAt({ kind: 'time', ms }, facts, ms);
  const { name, delivered } = await addConsumer(bus, facts, deliver);
  deleteConsumer(bus, facts.name, name);
  await bus.flush();
  return delivered.stream_seq;
}
