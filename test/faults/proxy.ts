/** A TCP proxy in front of a real server, with which a test simulates faults of the network. */
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';

/** `request` runs from client to server, `response` from server to client. */
export type Direction = 'request' | 'response';

type Mode = { readonly gate: Promise<void>; readonly open: () => void };

export class FaultProxy {
  readonly port: number;
  /** Bytes passed on since the start. */
  readonly passed: Record<Direction, number> = { request: 0, response: 0 };
  /** Chunks that came while it hung. */
  held = 0;
  readonly #listener: Server;
  readonly #sockets = new Set<Socket>();
  #hang: Mode | undefined;
  #delayMs = 0;
  #cut: { readonly direction: Direction; left: number } | undefined;

  private constructor(listener: Server, port: number, targetPort: number) {
    this.#listener = listener;
    this.port = port;
    listener.on('connection', (client: Socket) => {
      void this.#join(client, connect({ port: targetPort, host: '127.0.0.1', allowHalfOpen: true }));
    });
  }

  static async start(targetPort: number): Promise<FaultProxy> {
    const listener = createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1');
    await once(listener, 'listening');
    const address = listener.address();
    if (address === null || typeof address === 'string') throw new Error('no port');
    return new FaultProxy(listener, address.port, targetPort);
  }

  /** Clients that hold a connection. */
  get clients(): number {
    return this.#sockets.size / 2;
  }

  /** Ends every fault. Connections that hung continue where they stopped. */
  async pass(): Promise<void> {
    this.#hang?.open();
    this.#hang = undefined;
    this.#cut = undefined;
    this.#delayMs = 0;
    if (this.#listener.listening) return;
    this.#listener.listen(this.port, '127.0.0.1');
    await once(this.#listener, 'listening');
  }

  /** Resets all connections and refuses new ones. */
  async refuse(): Promise<void> {
    this.reset();
    if (!this.#listener.listening) return;
    const closed = once(this.#listener, 'close');
    this.#listener.close();
    this.reset();
    await closed;
  }

  /** Accepts connections but passes nothing on, not even on existing ones. */
  hang(): void {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#hang ??= { gate: promise, open: resolve };
  }

  /** Delays every chunk by this time. */
  delay(ms: number): void {
    this.#delayMs = ms;
  }

  /** Once: passes `bytes` more bytes in that direction, then resets the connection of the next one. */
  cut(direction: Direction, bytes: number): void {
    this.#cut = { direction, left: bytes };
  }

  /** Resets all connections. */
  reset(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  async stop(): Promise<void> {
    await this.refuse();
    this.#hang?.open();
  }

  async #join(client: Socket, server: Socket): Promise<void> {
    for (const socket of [client, server]) {
      this.#sockets.add(socket);
      // The pipelines below report a reset. One that comes later has nobody left to report it.
      socket.on('error', () => {});
      socket.once('close', () => this.#sockets.delete(socket));
    }
    const both = [
      pipeline(client, (chunks: AsyncIterable<Buffer>) => this.#pass(chunks, 'request'), server),
      pipeline(server, (chunks: AsyncIterable<Buffer>) => this.#pass(chunks, 'response'), client),
    ];
    await Promise.all(both).catch(() => {
      client.resetAndDestroy();
      server.resetAndDestroy();
    });
    await Promise.allSettled(both);
  }

  async *#pass(chunks: AsyncIterable<Buffer>, direction: Direction): AsyncGenerator<Buffer> {
    for await (const chunk of chunks) {
      if (this.#delayMs > 0) await sleep(this.#delayMs);
      if (this.#hang !== undefined) this.held += 1;
      await this.#hang?.gate;
      const cut = this.#cut;
      if (cut?.direction === direction) {
        if (chunk.length > cut.left) {
          this.#cut = undefined;
          yield chunk.subarray(0, cut.left);
          throw new Error('cut');
        }
        cut.left -= chunk.length;
      }
      this.passed[direction] += chunk.length;
      yield chunk;
    }
  }
}
