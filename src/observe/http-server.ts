/** Health, Prometheus metrics and status over HTTP, which are read-only, and control if it is enabled. */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { loadPage, type WebPage } from './page.ts';
import type { Status } from './status.ts';

/** For receiving one request, from the headers to the last byte. Scrapes take milliseconds. */
const REQUEST_TIMEOUT_MS = 10_000;
const MAX_CONNECTIONS = 256;

export interface HttpOptions {
  readonly host: string;
  readonly port: number;
  readonly status: () => Status;
  readonly metrics: () => Promise<string>;
  readonly metricsType: string;
  /** Keeps the connection and sends events over it. Returns false if too many pages are open already. */
  readonly listen: (response: ServerResponse) => boolean;
  /** Answers paths that begin with /control/. Absent if control is off. */
  readonly control?: ((request: IncomingMessage) => Promise<HttpReply>) | undefined;
}

export interface ServiceHttp {
  /** The actual port, also if port 0 was requested. */
  readonly port: number;
  close(): Promise<void>;
}

/** The address is in use, or not one of this machine. */
export class ListenError extends Error {
  override readonly name = 'ListenError';
  readonly advice = 'Set HTTP_HOST and HTTP_PORT to a free address of this machine.';

  constructor(host: string, port: number, cause: unknown) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    super(`cannot listen on ${host}:${port}: ${reason}`, { cause });
  }
}

export interface HttpReply {
  readonly code: number;
  readonly type: string;
  readonly body: string;
  readonly headers?: Readonly<Record<string, string>>;
}

const TEXT = 'text/plain; charset=utf-8';
const HTML = 'text/html; charset=utf-8';
const INDEX =
  'metrics-fanout\n\n/metrics      Prometheus\n/healthz      200 if the process works\n/readyz       200 if attached to the bus\n/api/status   everything, as JSON\n/api/events   what the dashboard shows, as server-sent events\n\nA browser gets the dashboard here.\n';

/** Listens; rejects with a `ListenError`. */
export async function serveHttp(options: HttpOptions): Promise<ServiceHttp> {
  const page = loadPage();
  const server = createServer({ requestTimeout: REQUEST_TIMEOUT_MS }, (request, response) => {
    void respond(request, response, options, page);
  });
  server.maxConnections = MAX_CONNECTIONS;
  server.listen(options.port, options.host);
  try {
    await once(server, 'listening');
  } catch (cause) {
    throw new ListenError(options.host, options.port, cause);
  }
  return { port: (server.address() as AddressInfo).port, close: () => closeServer(server) };
}

async function closeServer(server: Server): Promise<void> {
  const closed = once(server, 'close');
  server.close();
  server.closeAllConnections();
  await closed;
}

async function respond(
  request: IncomingMessage,
  response: ServerResponse,
  options: HttpOptions,
  page: WebPage,
): Promise<void> {
  const answered = await answer(request, response, options, page).catch((error: unknown): HttpReply => {
    return { code: 500, type: TEXT, body: `${error instanceof Error ? error.message : 'failed'}\n` };
  });
  if (answered === 'kept') return;
  const { code, type, body, headers: more } = answered;
  const headers = { 'content-type': type, 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' };
  response.writeHead(code, { ...headers, ...more });
  response.end(request.method === 'HEAD' ? undefined : body);
}

/** Returns `kept` if `listen` has taken over the connection. */
async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  options: HttpOptions,
  page: WebPage,
): Promise<HttpReply | 'kept'> {
  if (options.control !== undefined && request.url?.startsWith('/control/'))
    return await options.control(request);
  if (request.method !== 'GET' && request.method !== 'HEAD')
    return { code: 405, type: TEXT, body: 'GET only\n' };
  switch ((request.url ?? '/').split('?', 1)[0]) {
    case '/metrics':
      return { code: 200, type: options.metricsType, body: await options.metrics() };
    case '/healthz':
      return { code: 200, type: TEXT, body: 'ok\n' };
    case '/readyz': {
      const { ready, source } = options.status();
      if (ready) return { code: 200, type: TEXT, body: 'ready\n' };
      const why = source.unproven
        ? 'the stream was replaced and has delivered nothing'
        : 'not attached to the bus';
      return { code: 503, type: TEXT, body: `${why}\n` };
    }
    case '/api/status':
      return { code: 200, type: 'application/json', body: `${JSON.stringify(options.status())}\n` };
    case '/api/events':
      if (request.method === 'GET' && options.listen(response)) return 'kept';
      return {
        code: 503,
        type: TEXT,
        body: 'too many pages are open already\n',
        headers: { 'retry-after': '10' },
      };
    case '/':
      return wantsHtml(request)
        ? { code: 200, type: HTML, body: page.html, headers: { ...page.headers, vary: 'accept' } }
        : { code: 200, type: TEXT, body: INDEX, headers: { vary: 'accept' } };
    default:
      return { code: 404, type: TEXT, body: 'not found\n' };
  }
}

/** Browsers ask for HTML explicitly; `curl` and probes accept anything. */
function wantsHtml(request: IncomingMessage): boolean {
  return /\btext\/html\b/.test(request.headers.accept ?? '');
}
