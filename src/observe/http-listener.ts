/**
 * An HTTP server of this service, in whichever thread it runs. What others can make it do is bounded: a connection has
 * one request at a time, and health is answered however many connections there are.
 */
import { once } from 'node:events';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { ListenOptions } from 'node:net';
import { http } from '../base/node-http.ts';
import type { Audience } from './audience.ts';
import { HealthFirst } from './health-first.ts';
import { Connections } from './http-connections.ts';
import {
  failureReply,
  type HttpReply,
  type Route,
  type RoutingOptions,
  routeOf,
  type ServiceCall,
  type ServiceRequest,
} from './http-routes.ts';

/** For receiving one request, from the headers to the last byte. Scrapes take milliseconds. */
const REQUEST_TIMEOUT_MS = 10_000;
/** A peer that neither sends nor reads anything for this long is disconnected. Open pages get an event every second. */
const SILENCE_TIMEOUT_MS = 30_000;
const OWNER_ONLY_UMASK = 0o177;
/** Making an error for each request would cost more than answering it. */
const PEER_LEFT = 'the peer has left';

export interface ListenerOptions {
  readonly routing: RoutingOptions;
  /** Of a request to control. */
  readonly maxBodyBytes: number;
  readonly audience: Audience;
  /** Never rejects. When the signal aborts, nobody waits for the reply any longer. */
  readonly ask: (call: ServiceCall, left: AbortSignal) => Promise<HttpReply>;
}

export function makeServer(options: ListenerOptions): Server {
  const connections = new Connections();
  const healthFirst = new HealthFirst();
  const server = http.createServer({ requestTimeout: REQUEST_TIMEOUT_MS }, (request, response) => {
    if (!connections.begin(request.socket, response)) return;
    const { method = '', url = '/', headers } = request;
    const route = routeOf({ method, url, headers }, options.routing);
    if (route.isHealth) void respond(route, request, response, options);
    else
      response.once(
        'close',
        healthFirst.later(() => void respond(route, request, response, options)),
      );
  });
  server.on('connection', (socket) => {
    healthFirst.newcomer();
    connections.add(socket);
  });
  server.timeout = SILENCE_TIMEOUT_MS;
  return server;
}

export async function startListening(server: Server, where: ListenOptions): Promise<void> {
  const listening = once(server, 'listening');
  server.listen(where);
  await listening;
}

/** What the system says if it has no such address, or none of its family. */
const NO_SUCH_ADDRESS = ['EAFNOSUPPORT', 'EADDRNOTAVAIL', 'EINVAL'];

/** Listens on the first of the addresses that exists here. */
export async function listenOnFirst(server: Server, hosts: readonly string[], port: number): Promise<void> {
  const [host, ...others] = hosts;
  try {
    await startListening(server, { host, port });
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (others.length === 0 || !NO_SUCH_ADDRESS.includes(code)) throw error;
    await listenOnFirst(server, others, port);
  }
}

/**
 * Listens on a Unix socket. It is made during the call, so it never has another mode than 0600. Only the main thread
 * can do that: the umask is that of the whole process.
 */
export async function listenPrivately(server: Server, path: string): Promise<void> {
  const umask = process.umask(OWNER_ONLY_UMASK);
  let listening: Promise<void>;
  try {
    listening = startListening(server, { path });
  } finally {
    process.umask(umask);
  }
  await listening;
}

/** Also removes the file of a Unix socket. */
export async function closeServer(server: Server): Promise<void> {
  const closed = once(server, 'close');
  server.close();
  server.closeAllConnections();
  await closed;
}

async function respond(
  route: Route,
  request: IncomingMessage,
  response: ServerResponse,
  options: ListenerOptions,
): Promise<void> {
  if (route.kind === 'reply') {
    send(route.reply, request, response);
    return;
  }
  const left = new AbortController();
  response.once('close', () => left.abort(PEER_LEFT));
  const answered = await answer(route, request, response, options, left.signal).catch(failureReply);
  if (answered !== 'kept') send(answered, request, response);
}

function send(
  { code, type, body, headers: more }: HttpReply,
  { method }: IncomingMessage,
  response: ServerResponse,
): void {
  if (response.destroyed) return;
  response.writeHead(code, {
    'content-type': type,
    // Without it, the body would go out in chunks: twice the work for a small one.
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    ...more,
  });
  response.end(method === 'HEAD' ? undefined : body);
}

/** Returns `kept` if the connection now belongs to the audience. */
async function answer(
  route: Exclude<Route, { kind: 'reply' }>,
  request: IncomingMessage,
  response: ServerResponse,
  { routing, maxBodyBytes, audience, ask }: ListenerOptions,
  left: AbortSignal,
): Promise<HttpReply | 'kept'> {
  const { method = '', url = '/', headers } = request;
  switch (route.kind) {
    case 'call':
      return await ask(route.call, left);
    case 'control': {
      const body = await bodyOf(request, maxBodyBytes);
      const { entrance } = routing;
      return await ask({ kind: 'control', entrance, request: { method, url, headers, body } }, left);
    }
    case 'events':
      return await audience.join(response, left);
    default:
      return route satisfies never;
  }
}

async function bodyOf(request: IncomingMessage, maxBytes: number): Promise<ServiceRequest['body']> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  // The connection stays open, so that a sender of too much gets the refusal.
  for await (const chunk of request.iterator({ destroyOnReturn: false })) {
    bytes += (chunk as Buffer).length;
    if (bytes > maxBytes) return 'too_large';
    chunks.push(chunk as Buffer);
  }
  // In memory of its own: of a part of Node.js's pool, the whole pool would be posted.
  return new Uint8Array(Buffer.concat(chunks));
}
