/** What the client's own transport does, with our way of reading. */
import { once } from 'node:events';
import { type AddressInfo, connect as connectTcp, createServer, type Socket } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { connect } from '../../src/bus/connect.ts';
import { startNats } from '../../src/servers/nats.ts';
import { memoryLog, settings, until } from './support.ts';

const stops: (() => unknown)[] = [];
afterEach(async () => {
  while (stops.length > 0) await stops.pop()!();
});

/** A front of nats-server that can add to what it says. */
async function startFront() {
  const nats = await startNats();
  stops.push(() => nats.stop());
  const clients: Socket[] = [];
  const front = createServer((client) => {
    const server = connectTcp(Number(new URL(nats.url).port), '127.0.0.1');
    for (const socket of [client, server]) socket.on('error', () => {});
    client.on('close', () => server.destroy());
    client.pipe(server).pipe(client);
    clients.push(client);
  }).listen(0, '127.0.0.1');
  await once(front, 'listening');
  stops.push(() => front.close());
  stops.push(() => clients.forEach((client) => void client.destroy()));
  return { url: `nats://127.0.0.1:${(front.address() as AddressInfo).port}`, clients };
}

test('a server that says what nobody understands is left, and connected to again', async () => {
  const { url, clients } = await startFront();
  const bus = await connect(settings({ NATS_URL: url }), memoryLog());
  stops.push(() => bus.close());
  const received: string[] = [];
  bus.subscribe('a', ({ data }) => received.push(Buffer.from(data).toString()));
  const say = async (text: string) => {
    bus.connection.publish('a', text);
    await until(`${text} arrives`, () => received.includes(text));
  };
  await say('before');
  clients[0]!.write('nonsense\r\n');
  await until('it connects again', () => clients.length === 2 && bus.connected);
  await say('after');
  expect(received).toEqual(['before', 'after']);
});

test('messages that are kept stay as they are, whatever comes after them', async () => {
  const { url } = await startFront();
  const bus = await connect(settings({ NATS_URL: url }), memoryLog());
  stops.push(() => bus.close());
  const kept: Uint8Array[] = [];
  bus.subscribe('a', ({ data }) => kept.push(data));
  // In the buffer of a socket, these come many at a time.
  const texts = Array.from({ length: 5_000 }, (_, i) => `${i} ${'x'.repeat(i % 300)}`);
  for (const text of texts) bus.connection.publish('a', text);
  await until('all arrive', () => kept.length === texts.length);
  expect(kept.map((data) => Buffer.from(data).toString())).toEqual(texts);
});
