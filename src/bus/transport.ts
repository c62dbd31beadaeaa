/**
 * The client's transport, which reads into one buffer for as long as it is connected. Otherwise each read makes a
 * buffer of 64 KB, an event of a stream, and an entry of a queue that is emptied by promises, which together cost more
 * than the kernel does.
 */
import { createConnection, type Socket } from 'node:net';
import { NodeTransport } from 'nats/lib/src/node_transport.js';

const READ_BYTES = 64 * 1024;

export class DirectTransport extends NodeTransport {
  /**
   * Takes what is read, the first bytes of the buffer, in place of the client's queue. They are good only until it
   * returns. Whoever sets it must have taken all that came before. With TLS it is never called.
   */
  receive: ((buffer: Uint8Array, length: number) => void) | undefined;

  /** As the client's own, but for the buffer. */
  override dial({ hostname, port }: { hostname: string; port: number }): Promise<Socket> {
    const callback = (length: number, buffer: Uint8Array) => {
      this.#read(socket, buffer, length);
      return true;
    };
    const onread = { buffer: new Uint8Array(READ_BYTES), callback };
    const socket = createConnection({ host: hostname, port, onread });
    socket.setNoDelay(true);
    return new Promise((resolve, reject) => {
      let dialError: Error | undefined;
      socket.on('connect', () => {
        socket.removeAllListeners();
        resolve(socket);
      });
      socket.on('error', (error) => {
        dialError = error;
      });
      socket.on('close', () => {
        socket.removeAllListeners();
        reject(dialError);
      });
    });
  }

  #read(socket: Socket, buffer: Uint8Array, length: number): void {
    if (this.receive === undefined || this.yields.length > 0) {
      socket.emit('data', Buffer.from(buffer.subarray(0, length)));
      return;
    }
    try {
      this.receive(buffer, length);
    } catch (error) {
      // The client then connects again.
      socket.destroy(error as Error);
    }
  }
}
