/**
 * Health, Prometheus metrics and status over HTTP, which are read-only, and control if it is enabled: on the port, by a
 * thread of its own, and on the control socket. `/metrics` and `/api/status` are rendered once a second at most.
 */
import type { Clock } from '../base/clock.ts';
import type { Heartbeat } from '../base/heartbeat.ts';
import { Audience } from './audience.ts';
import { type BegunHttp, beginHttp } from './http-beginning.ts';
import { AllowedHosts } from './http-hosts.ts';
import { closeServer, listenPrivately, makeServer } from './http-listener.ts';
import {
  type Entrance,
  EVENT_STREAM,
  failureReply,
  type HttpReply,
  type RecentCall,
  type ServiceCall,
  type ServiceRequest,
  textReply,
} from './http-routes.ts';
import type { WebPage } from './page.ts';
import { SharedRendering } from './shared-rendering.ts';
import type { Status } from './status.ts';
import type { WaitLimits } from './thread/messages.ts';

export interface HttpOptions {
  readonly host: string;
  readonly port: number;
  /** HTTP_ALLOWED_HOSTS. */
  readonly allowedHosts: ReadonlySet<string> | undefined;
  readonly clock: Pick<Clock, 'now'>;
  /** That of the main thread, by which health is judged. */
  readonly heartbeat: Heartbeat;
  /** Why the instance is not ready; undefined if it is. Unlike `status`, it costs nothing. */
  readonly unready: () => string | undefined;
  readonly status: () => Status;
  readonly metrics: () => Promise<string>;
  readonly metricsType: string;
  readonly events: PageSource;
  /** Answers questions about the recent windows. Never rejects. Absent if there is nobody to ask. */
  readonly recent?: (call: RecentCall, left: AbortSignal) => Promise<HttpReply>;
  /** Answers paths that begin with /control/. Absent if control is off. */
  readonly control?: ControlRoute | undefined;
  /** The HTTP thread ended, and another one is started. */
  readonly replaced: (reason: string) => void;
  readonly waitLimits?: WaitLimits;
}

/** When the signal aborts, nobody waits for the reply any longer. */
type Answer = (call: ServiceCall, left: AbortSignal) => Promise<HttpReply>;
const NEVER = new AbortController().signal;

/** What pages are told. Events are encoded. */
export interface PageSource {
  opening(): Uint8Array;
  /** Events are made only while somebody is subscribed. */
  subscribe(send: (event: string) => void): () => void;
}

export interface ControlRoute {
  readonly maxBodyBytes: number;
  readonly answer: (request: ServiceRequest, entrance: Entrance) => Promise<HttpReply>;
}

export interface ServiceHttp {
  /** The actual port, also if port 0 was requested. */
  readonly port: number;
  /** Rejects if nothing answers on the port any longer, and nothing can be done about it. */
  readonly failed: Promise<never>;
  /** Serves the same on a Unix socket with mode 0600, until `close`. Rejects if it cannot listen there. */
  listenOn(path: string): Promise<void>;
  close(): Promise<void>;
}

/** Listens, unless `begun` does so already; rejects with a `ListenError`. */
export async function serveHttp(
  options: HttpOptions,
  begun: BegunHttp = beginHttp({ ...options, maxBodyBytes: options.control?.maxBodyBytes }),
): Promise<ServiceHttp> {
  const { events, replaced } = options;
  const answer = answersOf(options);
  const { page } = begun;
  begun.serve({ answer, subscribe: (send) => events.subscribe(send), replaced });
  const thread = await begun.thread;
  const sockets: ReturnType<typeof makeServer>[] = [];
  return {
    port: thread.port,
    failed: thread.failed,
    async listenOn(path) {
      const server = makeSocketServer(options, page, answer);
      await listenPrivately(server, path);
      sockets.push(server);
    },
    async close() {
      await Promise.all([thread.close(), ...sockets.map((server) => closeServer(server))]);
    },
  };
}

/** The server of the control socket, on the main thread. If it answers, the main thread does not stand still. */
function makeSocketServer(options: HttpOptions, page: WebPage, answer: Answer) {
  const { host, allowedHosts, clock, events, control } = options;
  return makeServer({
    routing: {
      entrance: 'socket',
      hosts: new AllowedHosts(host, allowedHosts),
      page,
      hasControl: control !== undefined,
      stillMs: () => 0,
      now: clock.now,
    },
    maxBodyBytes: control?.maxBodyBytes ?? 0,
    audience: new Audience({
      opening: () => answer({ kind: 'opening' }, NEVER),
      subscribe: (send) => events.subscribe(send),
    }),
    ask: answer,
  });
}

/** Returns what answers the calls of both entrances. It never rejects. */
function answersOf(options: HttpOptions): Answer {
  const { clock, metricsType, events, control } = options;
  const metrics = new SharedRendering(options.metrics, clock);
  const status = new SharedRendering(() => `${JSON.stringify(options.status())}\n`, clock);
  const answer: Answer = async (call, left) => {
    switch (call.kind) {
      case 'metrics':
        return { code: 200, type: metricsType, body: await metrics.get() };
      case 'status':
        return { code: 200, type: 'application/json', body: await status.get() };
      case 'ready': {
        const why = options.unready();
        return why === undefined ? textReply(200, 'ready') : textReply(503, why);
      }
      case 'opening':
        return { code: 200, type: EVENT_STREAM, body: events.opening() };
      case 'query':
      case 'cardinality':
        return (await options.recent?.(call, left)) ?? textReply(404, 'not found');
      case 'control':
        return control === undefined
          ? textReply(404, 'not found')
          : await control.answer(call.request, call.entrance);
      default:
        return call satisfies never;
    }
  };
  return (call, left) => answer(call, left).catch(failureReply);
}
