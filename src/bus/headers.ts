import { Match, type Msg } from 'nats';
import { DELETE_MARKER, SCHEDULE } from '../decode/encoding.ts';
import type { Incoming } from './message.ts';

const INCREMENT = 'Nats-Incr';

/** Returns a message as the client delivers it, with what its headers say of it, if they say something. */
export function incoming(message: Msg): Incoming {
  const encoding = encodingOf(message);
  const contentType = headerOf(message, 'Content-Type');
  // The server knows it only when it is spelled so.
  const increment = headerOf(message, INCREMENT, Match.Exact);
  if (encoding === undefined && contentType === undefined && increment === undefined) return message;
  const { data, subject, reply = '' } = message;
  return { data, subject, reply, encoding, contentType, increment };
}

/**
 * Beginnings of the headers by which a producer tells JetStream to store a message only if something holds. A batch is
 * stored if it is complete, and its end perhaps not even then. An increment is stored with another body.
 */
const CONDITIONS = ['nats-msg-id', 'nats-expected-', 'nats-batch-', INCREMENT.toLowerCase()];

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
function headerOf(message: Msg, name: string, match = Match.IgnoreCase): string | undefined {
  try {
    // Reading them may throw.
    const values = message.headers?.values(name, match) ?? [];
    return values.length === 0 ? undefined : values.join(',');
  } catch {
    return undefined;
  }
}
