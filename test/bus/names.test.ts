/** A name in NATS_URL is resolved by the system's own means, not by asking DNS directly. */
import { createSocket } from 'node:dgram';
import { getServers, setServers } from 'node:dns';
import { lookup } from 'node:dns/promises';
import { once } from 'node:events';
import { type AddressInfo, connect as connectTcp, createServer, type Server } from 'node:net';
import { hostname } from 'node:os';
import { afterEach, expect, test } from 'vitest';
import { connect } from '../../src/bus/connect.ts';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { freePort } from '../../src/servers/server-process.ts';
import { memoryLog, settings, until } from './support.ts';

const stops: (() => unknown)[] = [];
afterEach(async () => {
  while (stops.length > 0) await stops.pop()!();
});

async function server(): Promise<NatsServer> {
  const started = await startNats();
  stops.push(() => started.stop());
  return started;
}

/** The address that the system gives for this machine's own name, which is usually in its hosts file. */
const own = await lookup(hostname()).then(
  ({ address }) => address,
  () => '',
);
/** Unless others have that address. */
const isOwn = await startFront(own, 0).then(
  (front) => front.close() !== undefined,
  () => false,
);
/** Forwards from any free port of an address to a port of 127.0.0.1. */
async function startFront(address: string, to: number): Promise<Server> {
  const front = createServer((client) => {
    const server = connectTcp(to, '127.0.0.1');
    for (const [from, into] of [
      [client, server],
      [server, client],
    ] as const) {
      from.on('error', () => into.destroy());
      from.pipe(into);
    }
  }).listen(0, address);
  await once(front, 'listening');
  return front;
}

/** The address of the name in DNS: one of this machine on which nobody listens. */
const ELSEWHERE = [127, 9, 9, 9];
const ADDRESS_RECORD = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, ...ELSEWHERE];

/** Starts a DNS server that answers `ELSEWHERE` for every name, or nothing. Node.js asks it from then on. */
async function startDns(answers: boolean): Promise<{ readonly asked: number }> {
  const dns = { asked: 0 };
  const socket = createSocket('udp4').bind(0, '127.0.0.1');
  await once(socket, 'listening');
  socket.on('message', (query, { port, address }) => {
    dns.asked += 1;
    if (!answers) return;
    const answer = Buffer.concat([query, Buffer.from(ADDRESS_RECORD)]);
    answer.writeUInt16BE(0x8180, 2);
    answer.writeUInt16BE(1, 6);
    socket.send(answer, port, address);
  });
  const before = getServers();
  setServers([`127.0.0.1:${socket.address().port}`]);
  stops.push(() => {
    setServers(before);
    socket.close();
  });
  return dns;
}

test.skipIf(!isOwn).each([
  ['a DNS server with another address', true],
  ['a DNS server that does not answer', false],
])('a name in the hosts file, and %s: the client connects, and nobody asks DNS', async (_, answers) => {
  const front = await startFront(own, (await server()).port);
  stops.push(() => front.close());
  const { port } = front.address() as AddressInfo;
  const dns = await startDns(answers);
  const bus = await connect(settings({ NATS_URL: `nats://${hostname()}:${port}` }), memoryLog());
  stops.push(() => bus.close());
  expect(bus.connected).toBe(true);
  expect(dns.asked).toBe(0);
});

test('all addresses of a name are tried, and they are looked up again when the connection is lost', async () => {
  const nats = await server();
  const asked: string[] = [];
  const resolve = async (name: string) => {
    asked.push(name);
    return ['127.9.9.9', '127.0.0.1'];
  };
  const core = settings({ NATS_URL: `nats://bus.test:${nats.port}` });
  const bus = await connect(core, memoryLog(), { resolve });
  stops.push(() => bus.close());
  expect(bus.server).toBe(`bus.test:${nats.port}`);
  const before = asked.length;
  await nats.halt();
  await nats.resume();
  await until('connected again', () => bus.stats.reconnects === 1);
  expect(asked.length).toBeGreaterThan(before);
  expect(new Set(asked)).toEqual(new Set(['bus.test']));
});

test.each([
  ['no address', () => Promise.reject(Object.assign(new Error(), { code: 'ENOTFOUND' })), 'ENOTFOUND'],
  ['no answer', () => new Promise<never>(() => {}), 'NAME_TIMEOUT'],
])('if there is %s for a name, the error says so in bounded time', async (_, resolve, code) => {
  const core = settings({ NATS_URL: `nats://bus.test:${await freePort()}` });
  await expect(connect(core, memoryLog(), { resolve })).rejects.toMatchObject({
    message: expect.stringContaining(`the system finds no address (${code})`),
    advice: expect.stringMatching(/DNS/),
  });
});
