import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type HttpServer, serveHttp } from '../../src/observe/http.ts';
import type { Status } from '../../src/observe/status.ts';

/** As the README has it, and what a busy machine takes. */
const LIMIT_MS = 10_000;
const GRACE_MS = 8_000;
/** More than the system's buffers of one connection take. */
const BODY_BYTES = 20_000_000;

let http: HttpServer;
beforeAll(async () => {
  http = await serveHttp({
    host: '127.0.0.1',
    port: 0,
    status: () => ({ ready: true }) as Status,
    metrics: async () => 'x'.repeat(BODY_BYTES),
    metricsType: 'text/plain',
    listen: () => false,
  });
});
afterAll(() => http.close());

async function send(text: string): Promise<Socket> {
  const socket = connect(http.port, '127.0.0.1');
  socket.on('error', () => {});
  await once(socket, 'connect');
  socket.write(text);
  return socket;
}

test('nobody keeps a connection by asking slowly, or by not reading the answer', async () => {
  const started = Date.now();
  const unread = await send('GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n');
  const slow = await send('GET /healthz HTTP/1.1\r\nhost: x\r\n');
  slow.resume();
  const drip = setInterval(() => slow.write('a: b\r\n'), 500);
  await once(slow, 'close');
  clearInterval(drip);
  expect(Date.now() - started).toBeLessThan(LIMIT_MS + GRACE_MS);
  // Both have the same time, so that of the other one is over now too.
  await sleep(1000);
  let bytes = 0;
  unread.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
  });
  await once(unread, 'close');
  expect(bytes).toBeLessThan(BODY_BYTES);
}, 60_000);

test('the events are for who listens: another method than GET is told so', async () => {
  const ask = async (method: string) =>
    (await fetch(`http://127.0.0.1:${http.port}/api/events`, { method })).status;
  expect([await ask('HEAD'), await ask('POST'), await ask('GET')]).toEqual([405, 405, 503]);
});
