import { Match, type Msg } from 'nats';
import type { Incoming } from './message.ts';

/** A message as the client gives it, with its encoding where a header says one. */
export function incoming(message: Msg): Incoming {
  const encoding = contentEncoding(message);
  if (encoding === undefined) return message;
  const { data, subject, reply = '' } = message;
  return { data, subject, reply, encoding };
}

/** Headers that cannot be read are none. */
function contentEncoding(message: Msg): string | undefined {
  try {
    const values = message.headers?.values('Content-Encoding', Match.IgnoreCase) ?? [];
    return values.length === 0 ? undefined : values.join(',');
  } catch {
    return undefined;
  }
}
