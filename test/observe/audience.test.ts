import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Audience, encodeEvent } from '../../src/observe/audience.ts';

const MAX_LISTENERS = 32;
/** More than our buffers and those of the system hold for one connection. */
const ENOUGH_BYTES = 100_000_000;
const PART_BYTES = 500_000;

let audience: Audience;
let server: Server;
let port: number;
const sockets: Socket[] = [];

beforeEach(async () => {
  audience = new Audience();
  server = createServer((_, response) => {
    if (!audience.join(response, () => encodeEvent('opening', 'hello'))) response.writeHead(503).end();
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  port = (server.address() as AddressInfo).port;
});
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy();
  server.close();
  server.closeAllConnections();
});

/** Connects and sends a request. The answer is read only if somebody listens for it. */
async function ask(): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  sockets.push(socket);
  await once(socket, 'connect');
  socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n');
  return socket;
}

async function read(socket: Socket, until: string): Promise<string> {
  let text = '';
  socket.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  await expect.poll(() => text).toContain(until);
  return text;
}

test('sends everybody the opening, and then every event once', async () => {
  const [one, two] = [await ask(), await ask()];
  const received = [read(one, 'event: view\n'), read(two, 'event: view\n')];
  await expect.poll(() => audience.size).toBe(2);
  audience.tell('view', () => ({ text: 'a\nb' }));
  for (const text of await Promise.all(received)) {
    expect(text).toContain('content-type: text/event-stream');
    expect(text).toContain('event: opening\ndata: "hello"\n\n');
    expect(text).toContain('event: view\ndata: {"text":"a\\nb"}\n\n');
  }
  one.destroy();
  await expect.poll(() => audience.size).toBe(1);
});

test('renders nothing if nobody listens', () => {
  audience.tell('view', () => {
    throw new Error('made');
  });
});

test('refuses a listener when it is full, and accepts one when there is room again', async () => {
  for (let i = 0; i < MAX_LISTENERS; i++) await ask();
  await expect.poll(() => audience.size).toBe(MAX_LISTENERS);
  expect(await read(await ask(), '\r\n')).toMatch(/^HTTP\/1\.1 503/);
  sockets[0]!.destroy();
  await expect.poll(() => audience.size).toBe(MAX_LISTENERS - 1);
  expect(await read(await ask(), '\r\n')).toMatch(/^HTTP\/1\.1 200/);
});

test('drops a listener that does not read, and no other', async () => {
  const reader = await ask();
  reader.resume();
  const sleeper = await ask();
  sleeper.pause();
  await expect.poll(() => audience.size).toBe(2);
  const part = 'x'.repeat(PART_BYTES);
  for (let sent = 0; sent < ENOUGH_BYTES && audience.size === 2; sent += PART_BYTES) {
    audience.tell('view', () => part);
    // A listener that reads gets everything.
    await expect.poll(() => reader.bytesRead, { interval: 1 }).toBeGreaterThan(sent + PART_BYTES);
  }
  expect(audience.size).toBe(1);
  expect(reader.destroyed).toBe(false);
});
