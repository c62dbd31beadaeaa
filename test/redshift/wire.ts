/** The messages of the PostgreSQL protocol, version 3, as they come over a socket. */
import type { Socket } from 'node:net';

export interface Message {
  /** One character; empty for startup messages, which have no type. */
  readonly type: string;
  readonly body: Buffer;
  /** The whole message, to be passed on. */
  readonly bytes: Buffer;
}

const LENGTH_BYTES = 4;

/** With `isLast`, as from a client: messages have no type up to the first one for which it returns true. */
export async function* messages(
  socket: Socket,
  isLast?: (start: Message) => boolean,
): AsyncGenerator<Message> {
  let held: Buffer = Buffer.alloc(0);
  let isBare = isLast !== undefined;
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    held = held.length === 0 ? chunk : Buffer.concat([held, chunk]);
    for (;;) {
      const head = isBare ? 0 : 1;
      if (held.length < head + LENGTH_BYTES) break;
      const end = head + held.readInt32BE(head);
      if (held.length < end) break;
      const bytes = held.subarray(0, end);
      held = held.subarray(end);
      const message = {
        type: bytes.toString('latin1', 0, head),
        body: bytes.subarray(head + LENGTH_BYTES),
        bytes,
      };
      if (isBare) isBare = !isLast?.(message);
      yield message;
    }
  }
}

export function message(type: string, ...parts: readonly (string | Buffer)[]): Buffer {
  const body = Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : part)));
  const head = Buffer.alloc(type.length + LENGTH_BYTES);
  head.write(type, 'latin1');
  head.writeInt32BE(LENGTH_BYTES + body.length, type.length);
  return Buffer.concat([head, body]);
}

/** The text up to the NUL that ends it, and what follows. */
export function textOf(body: Buffer): { text: string; rest: Buffer } {
  const end = body.indexOf(0);
  return { text: body.toString('utf8', 0, end), rest: body.subarray(end + 1) };
}

export function errorResponse(code: string, text: string): Buffer {
  return message('E', `SERROR\0VERROR\0C${code}\0M${text}\0\0`);
}

/** The cells of a DataRow. */
export function cellsOf(body: Buffer): (string | null)[] {
  const cells: (string | null)[] = [];
  let at = 2;
  for (let left = body.readInt16BE(0); left > 0; left -= 1) {
    const length = body.readInt32BE(at);
    at += LENGTH_BYTES;
    cells.push(length < 0 ? null : body.toString('utf8', at, at + length));
    at += Math.max(length, 0);
  }
  return cells;
}

/** The length of the longest parameter of a Bind. */
export function longestParameter(body: Buffer): number {
  const { rest } = textOf(textOf(body).rest);
  let at = 2 + 2 * rest.readInt16BE(0);
  let longest = 0;
  const count = rest.readUInt16BE(at);
  at += 2;
  for (let index = 0; index < count; index += 1) {
    const length = rest.readInt32BE(at);
    longest = Math.max(longest, length);
    at += LENGTH_BYTES + Math.max(length, 0);
  }
  return longest;
}
