/** The connections of an HTTP server: how many there may be, and one request at a time on each. */
import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

/**
 * The system hands over at most 511 new connections at a time (the backlog of Node.js), and the first request of each
 * is read one turn of the event loop later. So there is room for two such crowds: a health check that arrives in one
 * of them is answered before its connection can be dropped.
 */
const MAX_CONNECTIONS = 1024;

export class Connections {
  readonly #limit: number;
  /** With the answer that is under way, if any. The connection whose last request is the oldest comes first. */
  readonly #open = new Map<Socket, ServerResponse | undefined>();

  constructor(limit = MAX_CONNECTIONS) {
    this.#limit = limit;
  }

  get size(): number {
    return this.#open.size;
  }

  /** Takes a new connection. If there are too many, drops another one: a newcomer may be a health check. */
  add(socket: Socket): void {
    if (this.#open.size >= this.#limit) this.#dropOne();
    this.#open.set(socket, undefined);
    socket.once('close', () => this.#open.delete(socket));
  }

  /**
   * Returns whether to answer the request. It is not answered if its peer has left, or has sent it before it got the
   * answer to the one before: such a connection gets that answer, and ends. (RFC 9112, 9.3.2: a client that pipelines
   * must expect that.) There may be thousands of other requests, from a peer that has left.
   */
  begin(socket: Socket, response: ServerResponse): boolean {
    const current = this.#open.get(socket);
    if (current !== undefined) {
      // Without a header yet, Node.js ends the connection after the answer. Otherwise all of the answer is written.
      if (!current.headersSent) current.setHeader('connection', 'close');
      else if (socket.writable) socket.destroySoon();
      return false;
    }
    if (!this.#open.has(socket) || !socket.writable) return false;
    this.#open.delete(socket);
    this.#open.set(socket, response);
    response.once('finish', () => {
      if (this.#open.has(socket)) this.#open.set(socket, undefined);
    });
    return true;
  }

  /** Drops the one that has been idle for the longest time, or if none is idle, the one that asked the longest ago. */
  #dropOne(): void {
    let dropped: Socket | undefined;
    for (const [socket, answer] of this.#open) {
      dropped ??= socket;
      if (answer !== undefined) continue;
      dropped = socket;
      break;
    }
    if (dropped === undefined) return;
    this.#open.delete(dropped);
    dropped.destroy();
  }
}
