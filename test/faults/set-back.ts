import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';

const ACK = /(\$JS\.ACK\.(?:[^.\s]+\.){3}(\d+)\.\d+\.)(\d{19})(?=\.\d+\s)/g;

/**
 * A proxy in front of a NATS server that makes it look as if the server's clock had been set back, once: after the
 * stream sequence `after`, the times of messages are `ms` earlier than on the server.
 */
export async function setBack(
  target: URL,
  after: number,
  ms: number,
): Promise<{ url: string; stop(): void }> {
  const listener = createServer((client) => {
    const server = connect(Number(target.port), target.hostname);
    for (const socket of [client, server]) socket.on('error', () => {});
    client.on('close', () => server.destroy());
    server.on('close', () => client.destroy());
    client.pipe(server);
    // Every frame ends with a line feed. What follows the last one is part of a frame that is still coming.
    let rest = '';
    server.setEncoding('latin1').on('data', (chunk: string) => {
      const text = rest + chunk;
      const end = text.lastIndexOf('\n') + 1;
      rest = text.slice(end);
      client.write(text.slice(0, end).replace(ACK, earlier), 'latin1');
    });
  }).listen(0, '127.0.0.1');
  await once(listener, 'listening');
  return {
    url: `nats://127.0.0.1:${(listener.address() as AddressInfo).port}`,
    stop: () => void listener.close(),
  };

  function earlier(whole: string, start: string, sequence: string, nanos: string): string {
    return Number(sequence) > after ? `${start}${BigInt(nanos) - BigInt(ms) * 1_000_000n}` : whole;
  }
}
