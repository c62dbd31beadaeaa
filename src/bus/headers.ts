import { Match, type Msg } from 'nats';
import { DELETE_MARKER, SCHEDULE } from '../decode/encoding.ts';
import type { Incoming } from './message.ts';

/** Returns a message as the client delivers it, with its encoding and type if headers give them. */
export function incoming(message: Msg): Incoming {
  const encoding = encodingOf(message);
  const contentType = headerOf(message, 'Content-Type');
  if (encoding === undefined && contentType === undefined) return message;
  const { data, subject, reply = '' } = message;
  return { data, subject, reply, encoding, contentType };
}

/**
 * Beginnings of the headers by which a producer tells JetStream to store a message only if something holds. A batch is
 * stored if it is complete, and its end perhaps not even then.
 */
const CONDITIONS = ['nats-msg-id', 'nats-expected-', 'nats-batch-'];

/** Headers that cannot be read count as absent. */
export function isConditional(message: Msg): boolean {
  try {
    const keys = message.headers?.keys() ?? [];
    return keys.some((key) => CONDITIONS.some((begin) => key.toLowerCase().startsWith(begin)));
  } catch {
    return false;
  }
}

/** Headers that cannot be read count as absent. */
function encodingOf(message: Msg): string | undefined {
  try {
    const { headers } = message;
    if (headers === undefined) return undefined;
    // Only the server makes such messages. They have no content.
    if (message.data.length === 0 && headers.has('Nats-Marker-Reason')) return DELETE_MARKER;
    // The message that the server makes of it has the same content, and comes by itself.
    if (headers.has('Nats-Schedule')) return SCHEDULE;
    return headerOf(message, 'Content-Encoding');
  } catch {
    return undefined;
  }
}

/** Headers that cannot be read count as absent. */
function headerOf(message: Msg, name: string): string | undefined {
  try {
    // Reading them may throw.
    const values = message.headers?.values(name, Match.IgnoreCase) ?? [];
    return values.length === 0 ? undefined : values.join(',');
  } catch {
    return undefined;
  }
}
