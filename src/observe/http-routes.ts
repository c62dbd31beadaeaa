/**
 * What becomes of a request, by its method, path and headers. Pure, so it is the same for both entrances and in both
 * threads: the HTTP thread, which owns the port, and the main thread, which owns the control socket.
 */
import type { IncomingHttpHeaders } from 'node:http';
import type { AllowedHosts } from './http-hosts.ts';
import type { WebPage } from './page.ts';

/** Over the network, or over a socket that only the user of the service can open. */
export type Entrance = 'tcp' | 'socket';

/** The part of a request that decides where it goes. */
export interface RequestHead {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
}

/** A request with its body. Can be posted to another thread. */
export interface ServiceRequest extends RequestHead {
  readonly body: Uint8Array | 'too_large';
}

/** Can be posted to another thread. */
export interface HttpReply {
  readonly code: number;
  readonly type: string;
  readonly body: string | Uint8Array;
  readonly headers?: Readonly<Record<string, string>>;
}

/** A question about the recent windows. `search`: what follows the question mark. */
export interface RecentCall {
  readonly kind: 'query' | 'cardinality';
  readonly search: string;
}

/** What only the service itself can answer. `opening`: the first event of a page. */
export type ServiceCall =
  | { readonly kind: 'metrics' | 'status' | 'ready' | 'opening' }
  | RecentCall
  | { readonly kind: 'control'; readonly entrance: Entrance; readonly request: ServiceRequest };

/** A reply that needs nobody, a call of the service, or what needs the rest of the request or the connection first. */
export type Route = (
  | { readonly kind: 'reply'; readonly reply: HttpReply }
  | { readonly kind: 'call'; readonly call: ServiceCall }
  | { readonly kind: 'control' }
  | { readonly kind: 'events' }
) & {
  /** It is answered before all others. */
  readonly isHealth?: true;
};

/** For how long the main thread may stand still before health says so, in milliseconds. */
export interface StillLimits {
  readonly healthzMs: number;
  /**
   * Whoever kills a process that fails this has it read the same messages again: being busy for a minute is no reason.
   */
  readonly livezMs: number;
}
export const STILL_LIMITS: StillLimits = { healthzMs: 30_000, livezMs: 120_000 };

export interface RoutingOptions {
  readonly entrance: Entrance;
  readonly hosts: AllowedHosts;
  readonly page: WebPage;
  readonly hasControl: boolean;
  /** For how long the main thread has stood still, in milliseconds. */
  readonly stillMs: () => number;
  readonly now: () => number;
}

export const TEXT = 'text/plain; charset=utf-8';
export const EVENT_STREAM = 'text/event-stream; charset=utf-8';
const HTML = 'text/html; charset=utf-8';
const INDEX = `metrics-fanout

/metrics      Prometheus
/livez        200 while the process runs
/healthz      200 if the process works
/readyz       200 if attached to the bus
/api/status   everything, as JSON
/api/query    sums, rates and percentiles of the last hour: ?name=http.*&where=app=api&by=status&last=5m
/api/cardinality  which names and dimensions have how many series
/api/events   what the dashboard shows, as server-sent events

A browser gets the dashboard here.
`;

export function textReply(code: number, text: string, headers: HttpReply['headers'] = {}): HttpReply {
  return { code, type: TEXT, body: `${text}\n`, headers };
}

export function failureReply(error: unknown): HttpReply {
  return textReply(500, error instanceof Error ? error.message : 'failed');
}

export function routeOf(head: RequestHead, options: RoutingOptions): Route {
  const { method, url, headers } = head;
  const { entrance, hosts, page, hasControl } = options;
  if (entrance === 'tcp' && !hosts.admits(headers.host)) return MISDIRECTED;
  if (hasControl && url.startsWith('/control/')) return { kind: 'control' };
  if (method !== 'GET' && method !== 'HEAD') return replied(textReply(405, 'GET only'));
  const [path, ...search] = url.split('?');
  switch (path) {
    case '/metrics':
      return METRICS;
    case '/livez':
      return { ...replied(health(STILL_LIMITS.livezMs, options)), isHealth: true };
    case '/healthz':
      return { ...replied(health(STILL_LIMITS.healthzMs, options)), isHealth: true };
    case '/readyz':
      return READY;
    case '/api/status':
      return STATUS;
    case '/api/query':
      return { kind: 'call', call: { kind: 'query', search: search.join('?') } };
    case '/api/cardinality':
      return { kind: 'call', call: { kind: 'cardinality', search: search.join('?') } };
    case '/api/events':
      return method === 'GET' ? { kind: 'events' } : replied(NO_ROOM);
    case '/':
      return replied(
        wantsHtml(headers)
          ? { code: 200, type: HTML, body: page.html, headers: { ...page.headers, vary: 'accept' } }
          : { code: 200, type: TEXT, body: INDEX, headers: { vary: 'accept' } },
      );
    default:
      return NOT_FOUND;
  }
}

const replied = (reply: HttpReply) => ({ kind: 'reply', reply }) as const;

const METRICS: Route = { kind: 'call', call: { kind: 'metrics' } };
const READY: Route = { kind: 'call', call: { kind: 'ready' }, isHealth: true };
const STATUS: Route = { kind: 'call', call: { kind: 'status' } };
const NOT_FOUND = replied(textReply(404, 'not found'));
const MISDIRECTED = replied(
  textReply(421, 'this Host is not answered. To have it answered, add its name to HTTP_ALLOWED_HOSTS.'),
);
/** Of pages. */
export const NO_ROOM = textReply(503, 'too many pages are open already', { 'retry-after': '10' });

function health(limitMs: number, { stillMs, now }: RoutingOptions): HttpReply {
  const still = stillMs();
  return still <= limitMs ? textReply(200, 'ok') : textReply(503, standstillText(still, now()));
}

/** `still`: milliseconds. */
export function standstillText(still: number, now: number): string {
  const since = new Date(now - still).toISOString();
  return `the main thread has stood still since ${since} (${Math.round(still / 1000)} s)`;
}

/** Browsers ask for HTML explicitly; `curl` and probes accept anything. */
function wantsHtml({ accept }: IncomingHttpHeaders): boolean {
  return /\btext\/html\b/.test(accept ?? '');
}
