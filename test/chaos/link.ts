/** The link from the service to one server: a fault proxy, followed by a throttle. */
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { FaultProxy } from '../faults/proxy.ts';

const TICK_MS = 20;

export interface Link {
  /** The port to which the service connects. */
  readonly port: number;
  readonly proxy: FaultProxy;
  /** Sets the bytes per second in each direction of each connection; Infinity: no limit. */
  throttle(bytesPerSecond: number): void;
  stop(): Promise<void>;
}

export async function startLink(targetPort: number): Promise<Link> {
  const throttle = await Throttle.start(targetPort);
  const proxy = await FaultProxy.start(throttle.port);
  return {
    port: proxy.port,
    proxy,
    throttle(bytesPerSecond) {
      throttle.bytesPerSecond = bytesPerSecond;
    },
    async stop() {
      await proxy.stop();
      await throttle.stop();
    },
  };
}

class Throttle {
  readonly port: number;
  bytesPerSecond = Number.POSITIVE_INFINITY;
  readonly #listener: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(listener: Server, port: number, targetPort: number) {
    this.#listener = listener;
    this.port = port;
    listener.on('connection', (client: Socket) => {
      void this.#join(client, connect({ port: targetPort, host: '127.0.0.1', allowHalfOpen: true }));
    });
  }

  static async start(targetPort: number): Promise<Throttle> {
    const listener = createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1');
    await once(listener, 'listening');
    const address = listener.address();
    if (address === null || typeof address === 'string') throw new Error('no port');
    return new Throttle(listener, address.port, targetPort);
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    const closed = once(this.#listener, 'close');
    this.#listener.close();
    await closed;
  }

  async #join(client: Socket, server: Socket): Promise<void> {
    for (const socket of [client, server]) {
      this.#sockets.add(socket);
      socket.on('error', () => {});
      socket.once('close', () => this.#sockets.delete(socket));
    }
    const both = [
      pipeline(client, (chunks: AsyncIterable<Buffer>) => this.#pass(chunks), server),
      pipeline(server, (chunks: AsyncIterable<Buffer>) => this.#pass(chunks), client),
    ];
    await Promise.all(both).catch(() => {
      client.resetAndDestroy();
      server.resetAndDestroy();
    });
    await Promise.allSettled(both);
  }

  async *#pass(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const chunk of chunks) {
      for (let at = 0; at < chunk.length; ) {
        const budget = Math.max(1, Math.floor((this.bytesPerSecond * TICK_MS) / 1000));
        const end = Math.min(chunk.length, at + budget);
        if (Number.isFinite(budget)) await sleep(TICK_MS);
        yield chunk.subarray(at, end);
        at = end;
      }
    }
  }
}
