/**
 * Stops and starts the reading of the connection's socket. What arrives meanwhile waits in the system's buffer, and
 * wakes nobody.
 *
 * `pause()` of the socket would not do: Node.js then goes on reading, into a buffer of its own. So this depends on
 * internals of Node.js and of the client. Where they are not as known, or there is no socket at the moment, nothing is
 * stopped.
 */
import type { NatsConnection } from 'nats';

/** The system's side of a socket, or of TLS on one. */
interface Handle {
  readStart(): unknown;
  readStop(): unknown;
}

interface ClientSocket {
  /** Null when the socket is closed. */
  readonly _handle?: Partial<Handle> | null;
}

export class SocketReading {
  readonly #connection: NatsConnection;
  #stopped: { readonly socket: ClientSocket; readonly handle: Handle } | undefined;

  constructor(connection: NatsConnection) {
    this.#connection = connection;
  }

  /** Returns whether the reading was stopped. It must not be for long: nobody else can start it. */
  pause(): boolean {
    const { protocol } = this.#connection as unknown as {
      readonly protocol?: { readonly transport?: { readonly socket?: ClientSocket } };
    };
    const socket = protocol?.transport?.socket;
    const handle = socket?._handle;
    if (typeof handle?.readStop !== 'function' || typeof handle.readStart !== 'function') return false;
    this.#stopped = { socket: socket!, handle: handle as Handle };
    handle.readStop();
    return true;
  }

  /** Goes on: what waited is read before the next `setImmediate`. */
  resume(): void {
    const stopped = this.#stopped;
    this.#stopped = undefined;
    // Otherwise it was closed meanwhile.
    if (stopped?.socket._handle === stopped?.handle) stopped?.handle.readStart();
  }
}
