/** Tries what the service and its commands do with a stream, for `check`: two consumers at once, and reading. */
import { type ConsumerInfo, createInbox, DeliverPolicy } from 'nats';
import { BusError, StreamUnfit } from '../bus-error.ts';
import type { Bus } from '../connect.ts';
import { jetstreamError } from '../errors.ts';
import { API_TIMEOUT_MS, apiSubject } from '../jetstream-api.ts';
import type { StreamFacts } from '../stream.ts';
import { addConsumer, deleteConsumer } from './consumer.ts';
import { requestLimits } from './pull.ts';

/** The service reads with one; each command, verification or sink that catches up reads with another, meanwhile. */
const CONSUMERS = 2;
/** How many messages are read at most: the last ones. */
const MESSAGES = 10;

export interface Trial {
  readonly consumers: number;
  readonly messages: number;
}

/**
 * Rejects with a `BusError` that says what is missing; a `StreamUnfit` if only one answer to each request comes
 * through. Leaves nothing behind.
 */
export async function tryReading(bus: Bus, facts: StreamFacts, consumers = CONSUMERS): Promise<Trial> {
  const made: ConsumerInfo[] = [];
  const first = Math.max(facts.firstSequence, facts.lastSequence + 1 - MESSAGES);
  const deliver =
    facts.messages === 0
      ? { deliver_policy: DeliverPolicy.All }
      : { deliver_policy: DeliverPolicy.StartSequence, opt_start_seq: first };
  try {
    for (let i = 1; i <= consumers; i++) made.push(await tryConsumer(bus, facts, deliver, i));
    const messages = await tryRequest(bus, facts.name, made[0]!);
    return { consumers: made.length, messages };
  } finally {
    for (const { name } of made) deleteConsumer(bus, facts.name, name);
  }
}

async function tryConsumer(
  bus: Bus,
  facts: StreamFacts,
  deliver: Parameters<typeof addConsumer>[2],
  number: number,
): Promise<ConsumerInfo> {
  try {
    return await addConsumer(bus, facts, deliver);
  } catch (error) {
    const { message, advice } = jetstreamError(error, `making consumer ${number} of ${CONSUMERS}`);
    throw new BusError(message, advice, { cause: error });
  }
}

/**
 * Asks once for more than there is: then every message comes, and an answer that there are no more. Where only one
 * answer to each question gets through, as with a service import that was not made for streams of them, only that one
 * comes.
 */
async function tryRequest(bus: Bus, stream: string, info: ConsumerInfo): Promise<number> {
  const batch = Math.min(requestLimits(info).messages, MESSAGES + 1);
  const inbox = createInbox(bus.inboxPrefix);
  const { promise: done, resolve } = Promise.withResolvers<void>();
  let messages = 0;
  let answers = 0;
  const subscription = bus.connection.subscribe(inbox, {
    callback: (_, { reply }) => {
      answers += 1;
      if (reply) messages += 1;
      if (messages >= batch || answers > messages) resolve();
    },
  });
  const timer = setTimeout(resolve, API_TIMEOUT_MS);
  const body = JSON.stringify({ batch, no_wait: true });
  const next = (consumer: string) => apiSubject(bus, 'CONSUMER.MSG.NEXT', stream, consumer);
  bus.connection.publish(next(info.name), body, { reply: inbox });
  await done;
  clearTimeout(timer);
  subscription.unsubscribe();
  if (answers === 0) {
    throw new BusError(
      `asking for messages of the stream ${stream}: no answer within ${API_TIMEOUT_MS} ms`,
      `Let the user publish to ${next('*')}, and subscribe to ${bus.inboxPrefix}.>.`,
    );
  }
  // One message, and nothing after it. Fewer than were pending is no proof: some may have been removed meanwhile.
  if (answers === 1 && messages === 1 && batch > 1) {
    throw new StreamUnfit(
      `asking for ${batch} messages of the stream ${stream}: only the first answer comes through`,
      "Give the export of JetStream's API response_type: stream in the account that has the stream.",
    );
  }
  return messages;
}
