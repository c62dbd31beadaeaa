/** Callbacks against a real HTTP server. */

import { createHmac, timingSafeEqual } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import type { Clock } from '../../src/base/clock.ts';
import { parseCallbackHosts } from '../../src/config/callback-hosts.ts';
import { checkCallback } from '../../src/control/allowed-callback.ts';
import { deliver, SIGNATURE_HEADER, sign } from '../../src/control/callback.ts';

const SECRET = 'a secret of the callback';
const BODY = JSON.stringify({ id: 'x', text: 'größer' });
const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.close();
    server.closeAllConnections();
  }
});

interface Seen {
  readonly request: IncomingMessage;
  readonly body: string;
}

/** A server that answers with `answer`, and the requests that it got. */
async function listen(answer: (response: ServerResponse, count: number) => void) {
  const seen: Seen[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      seen.push({ request, body: Buffer.concat(chunks).toString() });
      answer(response, seen.length);
    });
  });
  servers.push(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { seen, url: new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/done?key=1`) };
}

const sleeps: number[] = [];
/** Does not wait. */
const clock: Clock = {
  now: Date.now,
  steady: () => performance.now(),
  random: () => 1,
  nextTurn: async () => {},
  sleep: async (ms) => {
    sleeps.push(ms);
  },
};
const call = (url: URL, signal = new AbortController().signal, secret: string | undefined = SECRET) =>
  deliver({ url, id: 'x', body: BODY }, { secret, clock, signal });

/** Checks it as a receiver would. */
function isSigned(header: string, body: string, secret: string): boolean {
  const [, t, v1] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(header) ?? [];
  const expected = createHmac('sha256', secret).update(`${t}.${body}`).digest();
  return v1 !== undefined && timingSafeEqual(Buffer.from(v1, 'hex'), expected);
}

describe('a callback', () => {
  test('is posted once, signed, to the path and query that were given', async () => {
    const { seen, url } = await listen((response) => response.end('whatever it says'));
    expect(await call(url)).toEqual({ delivered: true, attempts: 1 });
    expect(seen).toHaveLength(1);
    const [{ request, body } = expect.unreachable()] = seen;
    expect([request.method, request.url, body]).toEqual(['POST', '/done?key=1', BODY]);
    expect(request.headers).toMatchObject({ 'content-type': 'application/json', 'fanout-task': 'x' });
    const signature = String(request.headers[SIGNATURE_HEADER]);
    expect(isSigned(signature, body, SECRET)).toBe(true);
    expect(isSigned(signature, body.replace('x', 'y'), SECRET)).toBe(false);
    expect(isSigned(signature, body, `${SECRET}!`)).toBe(false);
    expect(isSigned(signature.replace(/t=\d/, 't=9'), body, SECRET)).toBe(false);
    expect(sign(body, SECRET, 1000)).not.toBe(sign(body, SECRET, 2000));
  });

  test('has no signature without a secret', async () => {
    const { seen, url } = await listen((response) => response.end());
    const options = { secret: undefined, clock, signal: new AbortController().signal };
    expect(await deliver({ url, id: 'x', body: BODY }, options)).toMatchObject({ delivered: true });
    expect(seen[0]!.request.headers[SIGNATURE_HEADER]).toBeUndefined();
  });

  test('is tried again if that may help, with growing waits', async () => {
    sleeps.length = 0;
    const { seen, url } = await listen((response, count) => {
      response.statusCode = [503, 429, 408][count - 1] ?? 204;
      response.end();
    });
    expect(await call(url)).toEqual({ delivered: true, attempts: 4 });
    expect(seen.map(({ body }) => body)).toEqual(Array(4).fill(BODY));
    expect(sleeps).toEqual([...sleeps].sort((a, b) => a - b));
    expect(new Set(sleeps).size).toBe(3);
  });

  test('is given up after a while, and at once if it is refused', async () => {
    const down = await listen((response) => {
      response.statusCode = 500;
      response.end();
    });
    expect(await call(down.url)).toEqual({ delivered: false, attempts: 8, error: 'it answered 500' });
    expect(down.seen).toHaveLength(8);
    const gone = await listen((response) => {
      response.statusCode = 410;
      response.end();
    });
    expect(await call(gone.url)).toEqual({ delivered: false, attempts: 1, error: 'it answered 410' });
    const nobody = new URL('http://127.0.0.1:1/');
    expect(await call(nobody)).toMatchObject({ delivered: false, attempts: 8 });
  });

  test.each([301, 302, 303, 307, 308])('a redirect (%i) is not followed', async (code) => {
    const elsewhere = await listen((response) => response.end());
    const there = await listen((response) => {
      response.writeHead(code, { location: elsewhere.url.href });
      response.end();
    });
    const outcome = await call(there.url);
    expect(outcome).toMatchObject({ delivered: false, attempts: 1 });
    expect(outcome.error).toContain('redirect');
    expect([there.seen.length, elsewhere.seen.length]).toEqual([1, 0]);
  });

  test('an endless answer is not read, and a stop ends a call that hangs', async () => {
    const { url } = await listen((response) => {
      const timer = setInterval(() => response.write('x'.repeat(65_536)), 1);
      response.on('close', () => clearInterval(timer));
    });
    expect(await call(url)).toEqual({ delivered: true, attempts: 1 });
    const silent = await listen(() => {});
    const stop = new AbortController();
    setTimeout(() => stop.abort(), 100);
    expect(await call(silent.url, stop.signal)).toMatchObject({ delivered: false, attempts: 1 });
  });
});

describe('by the list of hosts', () => {
  const hosts = parseCallbackHosts(
    'ci.example.com, Hooks.Example.com:8443,http://10.0.0.7:8080,[2001:db8::1],HTTP://old.example.com,http.example.com',
  )!;
  test.each([
    'https://ci.example.com/a/b?c=d',
    'https://ci.example.com:443/',
    'https://CI.example.com/',
    'https://hooks.example.com:8443/',
    'http://10.0.0.7:8080/',
    'http://0x0a.0.0.7:8080/',
    'https://[2001:db8::1]/',
    'http://old.example.com/',
    'https://http.example.com/',
  ])('%s is called', (url) => {
    expect(checkCallback(url, hosts).href).toBe(new URL(url).href);
  });

  test.each([
    'http://ci.example.com/',
    'https://old.example.com/',
    'http://http.example.com/',
    'https://ci.example.com:8443/',
    'https://ci.example.com.evil.org/',
    'https://evil.org/?ci.example.com',
    'https://evil.org#ci.example.com',
    'https://ci.example.com@evil.org/',
    'https://user:password@ci.example.com/',
    'https://ci.example.com.:443/',
    'https://sub.ci.example.com/',
    'https://hooks.example.com/',
    'https://10.0.0.7:8080/',
    'http://10.0.0.7/',
    'https://[2001:db8::2]/',
    'file:///etc/passwd',
    'ftp://ci.example.com/',
    'javascript:alert(1)',
    'data:,ci.example.com',
    'blob:https://ci.example.com/5f1c2d',
  ])('%s is not called', (url) => {
    expect(() => checkCallback(url, hosts)).toThrow(expect.objectContaining({ code: 'callback_refused' }));
  });

  test('without a list, nothing is called', () => {
    expect(() => checkCallback('https://ci.example.com/', new Set())).toThrow('CONTROL_CALLBACK_HOSTS');
  });

  test.each([
    '',
    'a,',
    'a b',
    'https://a',
    'ftp://a',
    'a/path',
    'user@a',
    '*.a',
    'http://',
    'a:99999',
    'a?b',
    '[::1',
    'HTTPS://a',
    'http:a',
    'httpx://a',
  ])('%j is not a list of hosts', (text) => {
    expect(parseCallbackHosts(text)).toBeUndefined();
  });
});
