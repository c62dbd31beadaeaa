/** Publishes messages so that the newest of each key, in the stream, is the one that was given. */
import {
  type BusHeaders,
  type BusMessage,
  type BusStream,
  type PublishOutcome,
  type SinkBus,
  SinkError,
} from '../../src/sink/index.ts';
import { type Encoded, keyOf, MESSAGE_ID } from './encode.ts';

/** Messages that wait for their acknowledgement. A server drops what comes faster than it stores. */
const MAX_UNACKNOWLEDGED = 512;
const MAX_UNACKNOWLEDGED_BYTES = 8 * 1024 * 1024;
/** How often a message that the stream took for an older one is published under another id. */
const MAX_ROUNDS = 4;

/** A message that the stream will never take. */
export interface TooLarge {
  readonly message: Encoded;
  readonly reason: string;
}

interface Sent {
  readonly message: Encoded;
  /** What it was published as. */
  readonly id: string;
  readonly outcome: PublishOutcome;
}

/**
 * Resolves to those that are too large; all others are acknowledged. A stream takes each `Nats-Msg-Id` once within its
 * duplicate window. So if a key got values, then others (or was removed), and now the first ones again, the stream
 * would drop these. That is what the look at what came after a duplicate is for.
 */
export async function publishAll(
  bus: SinkBus,
  stream: BusStream,
  messages: readonly Encoded[],
  signal: AbortSignal,
): Promise<TooLarge[]> {
  const tooLarge: TooLarge[] = [];
  let left: readonly { readonly message: Encoded; readonly id: string }[] = messages.map((message) => ({
    message,
    id: message.id,
  }));
  for (let round = 0; round < MAX_ROUNDS; round += 1) {
    const sent = await sendAll(bus, stream, left);
    const duplicates: { message: Encoded; sequence: number }[] = [];
    for (const { message, outcome } of sent) {
      if (outcome.kind === 'too_large') tooLarge.push({ message, reason: outcome.message });
      else if (outcome.duplicate) duplicates.push({ message, sequence: outcome.sequence });
    }
    if (duplicates.length === 0) return tooLarge;
    left = await overtaken(bus, stream, duplicates, signal);
    if (left.length === 0) return tooLarge;
  }
  throw new SinkError('conflict', 'others publish the same windows with other values');
}

/** Returns the duplicates of which another message is the newest, or none is left, each with an id of its own. */
async function overtaken(
  bus: SinkBus,
  stream: BusStream,
  duplicates: readonly { readonly message: Encoded; readonly sequence: number }[],
  signal: AbortSignal,
): Promise<{ message: Encoded; id: string }[]> {
  const { name } = stream;
  const now = await bus.streamOf(duplicates[0]!.message.subject);
  if (now.name !== name) throw new SinkError('conflict', `the stream ${name} no longer captures the windows`);
  const newest = new Map(duplicates.map(({ message }) => [message.key, { id: '', sequence: 0 }]));
  const sequence = duplicates.reduce((least, one) => Math.min(least, one.sequence), Number.MAX_SAFE_INTEGER);
  // All names: the stream was asked for by one of them.
  const reading = { stream, from: { sequence }, to: now.lastSequence, headersOnly: true };
  for await (const message of bus.messages(reading, signal)) {
    const key = keyOf(message)?.text;
    if (key === undefined || !newest.has(key)) continue;
    newest.set(key, { id: message.header(MESSAGE_ID), sequence: message.sequence });
  }
  return duplicates.flatMap(({ message, sequence: own }) => {
    const last = newest.get(message.key)!;
    if (last.id === message.id || last.id.startsWith(`${message.id}-`)) return [];
    return [{ message, id: `${message.id}-${Math.max(own, last.sequence)}` }];
  });
}

/** Rejects as soon as one fails. */
async function sendAll(
  bus: SinkBus,
  { name }: BusStream,
  messages: readonly { readonly message: Encoded; readonly id: string }[],
): Promise<Sent[]> {
  const sent: Sent[] = [];
  let [inFlight, bytes] = [0, 0];
  let failure: unknown;
  let settled = Promise.withResolvers<void>();
  const send = async (message: Encoded, id: string) => {
    try {
      sent.push({ message, id, outcome: await bus.publish(withId(message, id), name) });
    } catch (error) {
      failure ??= error;
    }
    inFlight -= 1;
    bytes -= message.body.length;
    settled.resolve();
    settled = Promise.withResolvers();
  };
  for (const { message, id } of messages) {
    while (failure === undefined && (inFlight >= MAX_UNACKNOWLEDGED || bytes > MAX_UNACKNOWLEDGED_BYTES))
      await settled.promise;
    if (failure !== undefined) break;
    inFlight += 1;
    bytes += message.body.length;
    void send(message, id);
  }
  while (failure === undefined && inFlight > 0) await settled.promise;
  if (failure !== undefined) throw failure;
  return sent;
}

/** As they are sent: a first line, a line for each, and an empty one. All of it is ASCII. */
export function headerBytes({ headers }: BusMessage): number {
  return Object.entries(headers).reduce(
    (bytes, [name, value]) => bytes + name.length + value.length + ': \r\n'.length,
    'NATS/1.0\r\n\r\n'.length,
  );
}

export function withId({ subject, headers, body }: Encoded, id: string): BusMessage {
  const identified: BusHeaders = { [MESSAGE_ID]: id, ...headers };
  return { subject, headers: identified, body };
}
