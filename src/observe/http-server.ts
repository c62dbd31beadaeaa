/**
 * Health, Prometheus metrics and status over HTTP, which are read-only, and control if it is enabled.
 *
 * What others can make it do is bounded: a connection has one request at a time, `/metrics` and `/api/status` are
 * rendered once a second at most, and health is answered however many connections there are.
 */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, ListenOptions } from 'node:net';
import type { Clock } from '../base/clock.ts';
import { Connections } from './http-connections.ts';
import { AllowedHosts } from './http-hosts.ts';
import { loadPage, type WebPage } from './page.ts';
import { SharedRendering } from './shared-rendering.ts';
import type { Status } from './status.ts';

/** For receiving one request, from the headers to the last byte. Scrapes take milliseconds. */
const REQUEST_TIMEOUT_MS = 10_000;
/** A peer that neither sends nor reads anything for this long is disconnected. Open pages get an event every second. */
const SILENCE_TIMEOUT_MS = 30_000;

export interface HttpOptions {
  readonly host: string;
  readonly port: number;
  /** HTTP_ALLOWED_HOSTS. */
  readonly allowedHosts: ReadonlySet<string> | undefined;
  readonly clock: Pick<Clock, 'now'>;
  /** Why the instance is not ready; undefined if it is. Unlike `status`, it costs nothing. */
  readonly unready: () => string | undefined;
  readonly status: () => Status;
  readonly metrics: () => Promise<string>;
  readonly metricsType: string;
  /** Keeps the connection and sends events over it. Returns false if too many pages are open already. */
  readonly listen: (response: ServerResponse) => boolean;
  /** Answers paths that begin with /control/. Absent if control is off. */
  readonly control?: ((request: IncomingMessage, entrance: Entrance) => Promise<HttpReply>) | undefined;
}

/** Over the network, or over a socket that only the user of the service can open. */
export type Entrance = 'tcp' | 'socket';

export interface ServiceHttp {
  /** The actual port, also if port 0 was requested. */
  readonly port: number;
  /** Serves the same on a Unix socket with mode 0600, until `close`. Rejects if it cannot listen there. */
  listenOn(path: string): Promise<void>;
  close(): Promise<void>;
}

/** The address is in use, or not one of this machine. */
export class ListenError extends Error {
  override readonly name = 'ListenError';
  readonly advice: string;

  constructor(
    where: string,
    cause: unknown,
    advice = 'Stop what listens there, perhaps another metrics-fanout, or set HTTP_HOST and HTTP_PORT to a free address of this machine.',
  ) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    super(`cannot listen on ${where}: ${reason}`, { cause });
    this.advice = advice;
  }
}

export interface HttpReply {
  readonly code: number;
  readonly type: string;
  readonly body: string | Buffer;
  readonly headers?: Readonly<Record<string, string>>;
}

const TEXT = 'text/plain; charset=utf-8';
const HTML = 'text/html; charset=utf-8';
const INDEX = `metrics-fanout

/metrics      Prometheus
/livez        200 while the process runs
/healthz      200 if the process works
/readyz       200 if attached to the bus
/api/status   everything, as JSON
/api/events   what the dashboard shows, as server-sent events

A browser gets the dashboard here.
`;
const OWNER_ONLY_UMASK = 0o177;

/** What all requests share. */
interface Shared {
  readonly options: HttpOptions;
  readonly hosts: AllowedHosts;
  readonly page: WebPage;
  readonly metrics: SharedRendering;
  readonly status: SharedRendering;
}

/** Listens; rejects with a `ListenError`. */
export async function serveHttp(options: HttpOptions): Promise<ServiceHttp> {
  const { host, port, clock } = options;
  const shared: Shared = {
    options,
    hosts: new AllowedHosts(host, options.allowedHosts),
    page: loadPage(),
    metrics: new SharedRendering(options.metrics, clock),
    status: new SharedRendering(() => `${JSON.stringify(options.status())}\n`, clock),
  };
  const servers = [makeServer(shared, 'tcp')];
  await listen(servers[0]!, { host, port }).catch((cause: unknown) => {
    throw new ListenError(`${host}:${port}`, cause);
  });
  return {
    port: (servers[0]!.address() as AddressInfo).port,
    async listenOn(path) {
      const server = makeServer(shared, 'socket');
      await listenPrivately(server, path);
      servers.push(server);
    },
    async close() {
      await Promise.all(servers.map((server) => closeServer(server)));
    },
  };
}

function makeServer(shared: Shared, entrance: Entrance): Server {
  const connections = new Connections();
  const server = createServer({ requestTimeout: REQUEST_TIMEOUT_MS }, (request, response) => {
    if (connections.begin(request.socket, response)) void respond(request, response, shared, entrance);
  });
  server.on('connection', (socket) => connections.add(socket));
  server.timeout = SILENCE_TIMEOUT_MS;
  return server;
}

async function listen(server: Server, where: ListenOptions): Promise<void> {
  const listening = once(server, 'listening');
  server.listen(where);
  await listening;
}

/** The socket is made during the call, so it never has another mode than 0600. */
async function listenPrivately(server: Server, path: string): Promise<void> {
  const umask = process.umask(OWNER_ONLY_UMASK);
  let listening: Promise<void>;
  try {
    listening = listen(server, { path });
  } finally {
    process.umask(umask);
  }
  await listening;
}

/** Also removes the file of a Unix socket. */
async function closeServer(server: Server): Promise<void> {
  const closed = once(server, 'close');
  server.close();
  server.closeAllConnections();
  await closed;
}

async function respond(
  request: IncomingMessage,
  response: ServerResponse,
  shared: Shared,
  entrance: Entrance,
): Promise<void> {
  const answered = await answer(request, response, shared, entrance).catch((error: unknown): HttpReply => {
    return { code: 500, type: TEXT, body: `${error instanceof Error ? error.message : 'failed'}\n` };
  });
  if (answered === 'kept' || response.destroyed) return;
  const { code, type, body, headers: more } = answered;
  const headers = { 'content-type': type, 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' };
  response.writeHead(code, { ...headers, ...more });
  response.end(request.method === 'HEAD' ? undefined : body);
}

/** Returns `kept` if `listen` has taken over the connection. */
async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  { options, hosts, page, metrics, status }: Shared,
  entrance: Entrance,
): Promise<HttpReply | 'kept'> {
  if (entrance === 'tcp' && !hosts.admits(request.headers.host)) return MISDIRECTED;
  if (options.control !== undefined && request.url?.startsWith('/control/'))
    return await options.control(request, entrance);
  if (request.method !== 'GET' && request.method !== 'HEAD')
    return { code: 405, type: TEXT, body: 'GET only\n' };
  switch ((request.url ?? '/').split('?', 1)[0]) {
    case '/metrics':
      return { code: 200, type: options.metricsType, body: await metrics.get() };
    case '/livez':
    case '/healthz':
      return { code: 200, type: TEXT, body: 'ok\n' };
    case '/readyz': {
      const why = options.unready();
      return why === undefined
        ? { code: 200, type: TEXT, body: 'ready\n' }
        : { code: 503, type: TEXT, body: `${why}\n` };
    }
    case '/api/status':
      return { code: 200, type: 'application/json', body: await status.get() };
    case '/api/events':
      return request.method === 'GET' && options.listen(response) ? 'kept' : NO_ROOM;
    case '/':
      return wantsHtml(request)
        ? { code: 200, type: HTML, body: page.html, headers: { ...page.headers, vary: 'accept' } }
        : { code: 200, type: TEXT, body: INDEX, headers: { vary: 'accept' } };
    default:
      return { code: 404, type: TEXT, body: 'not found\n' };
  }
}

const MISDIRECTED: HttpReply = {
  code: 421,
  type: TEXT,
  body: 'this Host is not answered. To have it answered, add its name to HTTP_ALLOWED_HOSTS.\n',
};
const NO_ROOM: HttpReply = {
  code: 503,
  type: TEXT,
  body: 'too many pages are open already\n',
  headers: { 'retry-after': '10' },
};

/** Browsers ask for HTML explicitly; `curl` and probes accept anything. */
function wantsHtml(request: IncomingMessage): boolean {
  return /\btext\/html\b/.test(request.headers.accept ?? '');
}
