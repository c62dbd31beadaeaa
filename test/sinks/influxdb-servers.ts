/** Servers for the tests of the influxdb sink: 1.x with sign-in, and the v2 API if that server does not have it. */

import { once } from 'node:events';
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { startInfluxDb } from '../../src/servers/influxdb.ts';
import type { Server } from '../../src/servers/server-process.ts';

export const ADMIN = { user: 'ad"min', password: "pass'word\\" };
/** A user and a password as a token, in the form of 1.8. */
export const TOKEN = `${ADMIN.user}:${ADMIN.password}`;
const SIGN_IN = { authorization: `Basic ${Buffer.from(TOKEN).toString('base64')}` };

/**
 * One write at a time: InfluxDB writes the fields of a point one by one. If two writers have different values for the
 * same key at the same moment, some of each can remain. Writers that compute from the same stream never do (I3).
 */
export const startSignedIn = (): Promise<Server> => startInfluxDb({ admin: ADMIN, maxConcurrentWrites: 1 });

export async function influxQl(url: string, q: string, db = ''): Promise<string> {
  const body = new URLSearchParams({ q, db, epoch: 'ms' });
  const response = await fetch(`${url}/query`, { method: 'POST', headers: SIGN_IN, body });
  const text = await response.text();
  if (!response.ok || text.includes('"error"')) throw new Error(text);
  return text;
}

/** 1.8 has the v2 API and accepts tokens. For older versions, see `startV2Front`. */
export async function speaksV2(url: string): Promise<boolean> {
  const version = (await fetch(`${url}/ping`)).headers.get('x-influxdb-version') ?? '';
  const [major = 0, minor = 0] = version.replace(/^v/, '').split('.').map(Number);
  return major > 1 || minor >= 8;
}

/**
 * The v2 API in front of a server of 1.7 or older, as 1.8 has it: a bucket is database/retention-policy, a token is
 * user:password. It stands in for the interface only: the real server stores, overwrites, refuses and reads the data.
 */
export async function startV2Front(target: Server): Promise<Server> {
  const front = createServer((incoming, outgoing) => forward(incoming, outgoing, target.port));
  front.listen(0, '127.0.0.1');
  await once(front, 'listening');
  const address = front.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  const stop = async () => {
    front.close();
    front.closeAllConnections();
  };
  return { url: `http://127.0.0.1:${address.port}`, port: address.port, stop };
}

/**
 * In front of InfluxDB 2, which has no such setting: passes on one write at a time. Why: see `startSignedIn`.
 */
export async function startOneWriteFront(target: Server): Promise<Server> {
  let last: Promise<unknown> = Promise.resolve();
  const front = createServer((incoming, outgoing) => {
    const pass = () => passOn(incoming, outgoing, target.port);
    if (incoming.url?.startsWith('/api/v2/write')) last = last.then(pass);
    else void pass();
  });
  front.listen(0, '127.0.0.1');
  await once(front, 'listening');
  const { port } = front.address() as AddressInfo;
  const stop = async () => {
    front.close();
    front.closeAllConnections();
  };
  return { url: `http://127.0.0.1:${port}`, port, stop };
}

/** Resolves when the answer is over, or either side has gone. */
export async function passOn(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  port: number,
): Promise<void> {
  const { method, url: path, headers } = incoming;
  const onward = request({ port, host: '127.0.0.1', path, method, headers }, (answer) => {
    outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
    answer.pipe(outgoing);
    answer.on('error', () => outgoing.destroy());
  });
  onward.on('error', () => outgoing.destroy());
  incoming.on('error', () => onward.destroy());
  outgoing.on('close', () => onward.destroy());
  incoming.pipe(onward);
  if (!outgoing.closed) await once(outgoing, 'close');
}

function forward(incoming: IncomingMessage, outgoing: ServerResponse, port: number): void {
  const url = new URL(incoming.url ?? '/', 'http://front');
  const [db = '', rp = ''] = (url.searchParams.get('bucket') ?? '').split('/');
  const precision = url.searchParams.get('precision') ?? 'ns';
  const path =
    url.pathname === '/api/v2/write'
      ? `/write?${new URLSearchParams({ db, rp, precision })}`
      : `${url.pathname}${url.search}`;
  const token = /^Token (.*)$/.exec(incoming.headers.authorization ?? '')?.[1] ?? '';
  const headers = {
    ...incoming.headers,
    authorization: `Basic ${Buffer.from(token, 'latin1').toString('base64')}`,
  };
  const onward = request({ port, host: '127.0.0.1', path, method: incoming.method, headers }, (response) => {
    outgoing.writeHead(response.statusCode ?? 500, response.headers);
    response.pipe(outgoing);
    response.on('error', () => outgoing.destroy());
  });
  onward.on('error', () => outgoing.destroy());
  incoming.on('error', () => onward.destroy());
  outgoing.on('close', () => onward.destroy());
  incoming.pipe(onward);
}
