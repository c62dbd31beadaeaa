/** Services on ports that `fetch` refuses but HTTP_PORT allows. */

import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { HttpWay } from '../../src/control/client.ts';
import { hear } from '../../src/observe/other-services.ts';
import { startProgram } from '../../src/servers/fanout-program.ts';
import { LIMIT_MS } from '../limits.ts';

const REFUSED_BY_FETCH = [10_080, 6_566, 6_000, 6_665, 6_666, 6_669, 4_045];
const STATUS = { now: '2026-11-23T01:30:00Z', messages: { perSecond: 1 }, sinks: [] };
const ANSWERS: Readonly<Record<string, object>> = {
  '/healthz': {},
  '/api/status': STATUS,
  '/control/all/status': { instance: 'one', pipeline: 'default', ok: true, result: STATUS },
};

let server: Server;
let port: number;
let url: string;
beforeAll(async () => {
  server = createServer((request, response) => {
    const answer = ANSWERS[request.url ?? ''];
    response
      .writeHead(answer ? 200 : 503)
      .end(answer ? JSON.stringify(answer) : 'not attached\u009b2J\nmore');
  });
  for (const wanted of REFUSED_BY_FETCH) {
    server.listen(wanted, '127.0.0.1');
    const isOurs = await once(server, 'listening').then(
      () => true,
      () => false,
    );
    if (isOurs) break;
  }
  port = (server.address() as AddressInfo).port;
  url = `http://127.0.0.1:${port}`;
});
afterAll(() => server.close());

test('health, compare and ctl reach a service on such a port', async () => {
  await expect(fetch(`${url}/healthz`)).rejects.toThrow('fetch failed');
  const health = startProgram(['health'], { HTTP_PORT: String(port) });
  expect(await health.ended, health.output.stderr).toBe(0);
  const ready = startProgram(['health', '--ready'], { HTTP_PORT: String(port) });
  expect(await ready.ended).toBe(1);
  expect(ready.output.stderr).toBe(`metrics-fanout: ${url}/readyz: status 503: not attached\\u009b2J\n`);
  expect(await hear(url, AbortSignal.timeout(LIMIT_MS))).toEqual({ kind: 'status', url, status: STATUS });
  const way = new HttpWay(url, undefined, { token: undefined, timeoutMs: LIMIT_MS });
  expect(await way.ask('all', 'status', {})).toMatchObject([{ instance: 'one', via: 'http' }]);
});

test('a service that does not answer in time is reported, and so is one that is not there', async () => {
  const silent = createServer(() => {}).listen(0, '127.0.0.1');
  await once(silent, 'listening');
  const address = `http://127.0.0.1:${(silent.address() as AddressInfo).port}`;
  const way = new HttpWay(address, undefined, { token: undefined, timeoutMs: 100 });
  await expect(way.ask('all', 'status', {})).rejects.toThrow('timeout');
  silent.closeAllConnections();
  silent.close();
  await once(silent, 'close');
  expect(await hear(address, AbortSignal.timeout(LIMIT_MS))).toMatchObject({ reason: 'ECONNREFUSED' });
  const health = startProgram(['health'], { HTTP_HOST: 'localhost', HTTP_PORT: new URL(address).port });
  expect(await health.ended).toBe(1);
  expect(health.output.stderr).toMatch(/ECONNREFUSED/);
});
