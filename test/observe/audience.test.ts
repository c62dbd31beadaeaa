import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Audience, encodeEvent } from '../../src/observe/audience.ts';
import { type HttpReply, textReply } from '../../src/observe/http-routes.ts';

const MAX_LISTENERS = 32;
/** More than our buffers and those of the system hold for one connection. */
const ENOUGH_BYTES = 100_000_000;
const PART_BYTES = 500_000;
const OPENING: HttpReply = { code: 200, type: 'text/plain', body: encodeEvent('opening', 'hello') };

let audience: Audience;
let server: Server;
let port: number;
/** Undefined while nobody is subscribed. */
let send: ((event: string) => void) | undefined;
let opening: () => Promise<HttpReply>;
const sockets: Socket[] = [];

beforeEach(async () => {
  send = undefined;
  opening = async () => OPENING;
  audience = new Audience({
    opening: () => opening(),
    subscribe(given) {
      expect(send).toBeUndefined();
      send = given;
      return () => {
        send = undefined;
      };
    },
  });
  server = createServer(async (_, response) => {
    const left = new AbortController();
    response.once('close', () => left.abort());
    const answer = await audience.join(response, left.signal);
    if (answer !== 'kept') response.writeHead(answer.code).end();
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  port = (server.address() as AddressInfo).port;
});
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy();
  server.close();
  server.closeAllConnections();
});

const tell = (event: string, data: unknown) => send!(encodeEvent(event, data));

/** Connects and sends a request. The answer is read only if somebody listens for it. */
async function ask(): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  sockets.push(socket);
  await once(socket, 'connect');
  socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n');
  return socket;
}

/** Collects what comes. */
function reading(socket: Socket): { text: string } {
  const read = { text: '' };
  socket.on('data', (chunk: Buffer) => {
    read.text += chunk.toString();
  });
  return read;
}

async function until(read: { text: string }, part: string): Promise<string> {
  await expect.poll(() => read.text).toContain(part);
  return read.text;
}

test('sends everybody the opening, and then every event once', async () => {
  const [one, two] = [await ask(), await ask()];
  const read = [reading(one), reading(two)];
  for (const each of read) await until(each, 'event: opening\ndata: "hello"\n\n');
  expect(audience.size).toBe(2);
  tell('view', { text: 'a\nb' });
  for (const each of read) {
    const text = await until(each, 'event: view\n');
    expect(text).toContain('content-type: text/event-stream');
    expect(text.match(/event: opening\n/g)).toHaveLength(1);
    expect(text).toContain('event: view\ndata: {"text":"a\\nb"}\n\n');
  }
  one.destroy();
  await expect.poll(() => audience.size).toBe(1);
});

test('is subscribed while somebody listens, and at no other time', async () => {
  expect(send).toBeUndefined();
  const [one, two] = [await ask(), await ask()];
  await expect.poll(() => audience.size).toBe(2);
  expect(send).toBeDefined();
  one.destroy();
  await expect.poll(() => audience.size).toBe(1);
  expect(send).toBeDefined();
  two.destroy();
  await expect.poll(() => audience.size).toBe(0);
  expect(send).toBeUndefined();
  await until(reading(await ask()), 'event: opening');
  expect(send).toBeDefined();
});

test('sends no event before the opening, which tells all of it', async () => {
  const { promise, resolve } = Promise.withResolvers<HttpReply>();
  opening = () => promise;
  const read = reading(await ask());
  await expect.poll(() => audience.size).toBe(1);
  tell('view', 'too early');
  resolve(OPENING);
  await until(read, 'event: opening');
  tell('view', 'in time');
  expect(await until(read, 'in time')).not.toContain('too early');
});

test('answers with what came instead of an opening, and has room for somebody else', async () => {
  opening = async () => textReply(504, 'no answer');
  expect(await until(reading(await ask()), '\r\n')).toMatch(/^HTTP\/1\.1 504/);
  expect([audience.size, send]).toEqual([0, undefined]);
});

test('forgets a listener that leaves before the opening is there', async () => {
  opening = () => new Promise(() => {});
  const socket = await ask();
  await expect.poll(() => audience.size).toBe(1);
  socket.destroy();
  await expect.poll(() => audience.size).toBe(0);
});

test('refuses a listener when it is full, and accepts one when there is room again', async () => {
  for (let i = 0; i < MAX_LISTENERS; i++) await ask();
  await expect.poll(() => audience.size).toBe(MAX_LISTENERS);
  expect(await until(reading(await ask()), '\r\n')).toMatch(/^HTTP\/1\.1 503/);
  sockets[0]!.destroy();
  await expect.poll(() => audience.size).toBe(MAX_LISTENERS - 1);
  expect(await until(reading(await ask()), '\r\n')).toMatch(/^HTTP\/1\.1 200/);
});

test('drops a listener that does not read, and no other', async () => {
  const reader = await ask();
  reader.resume();
  const sleeper = await ask();
  sleeper.pause();
  await expect.poll(() => audience.size).toBe(2);
  // Whoever has not had the opening yet gets no events.
  await expect.poll(() => [reader, sleeper].every(({ bytesRead }) => bytesRead > 0)).toBe(true);
  const part = 'x'.repeat(PART_BYTES);
  for (let sent = 0; sent < ENOUGH_BYTES && audience.size === 2; sent += PART_BYTES) {
    tell('view', part);
    // A listener that reads gets everything.
    await expect.poll(() => reader.bytesRead, { interval: 1 }).toBeGreaterThan(sent + PART_BYTES);
  }
  expect(audience.size).toBe(1);
  expect(reader.destroyed).toBe(false);
});
