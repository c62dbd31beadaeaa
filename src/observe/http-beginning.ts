/**
 * The HTTP thread, before there is a service to ask: it takes as long to start as the service takes to load, so both
 * are done at the same time. Requests that come meanwhile wait.
 */
import type { Heartbeat } from '../base/heartbeat.ts';
import { loadPage, type WebPage } from './page.ts';
import { WAIT_LIMITS, type WaitLimits } from './thread/messages.ts';
import { type HttpThreadService, ThreadedHttp } from './thread/threaded-http.ts';

export interface HttpBeginning {
  readonly host: string;
  readonly port: number;
  /** HTTP_ALLOWED_HOSTS. */
  readonly allowedHosts: ReadonlySet<string> | undefined;
  /** Of a request to control; undefined if control is off. */
  readonly maxBodyBytes: number | undefined;
  /** That of the main thread, by which health is judged. */
  readonly heartbeat: Heartbeat;
  readonly waitLimits?: WaitLimits | undefined;
}

export interface BegunHttp {
  readonly page: WebPage;
  /** Resolves when it listens. Rejects with a `ListenError`. */
  readonly thread: Promise<ThreadedHttp>;
  /** From now on there is somebody to ask. */
  readonly serve: (service: HttpThreadService) => void;
}

export function beginHttp({ heartbeat, waitLimits = WAIT_LIMITS, ...data }: HttpBeginning): BegunHttp {
  const { host, port, allowedHosts, maxBodyBytes } = data;
  const page = loadPage();
  const service = Promise.withResolvers<HttpThreadService>();
  heartbeat.beat();
  const thread = ThreadedHttp.start(
    { host, port, allowedHosts, page, maxBodyBytes, waitLimits, heartbeat: heartbeat.memory },
    onceThere(service.promise),
  );
  // Whoever serves is told of it.
  thread.catch(() => {});
  return { page, thread, serve: service.resolve };
}

function onceThere(service: Promise<HttpThreadService>): HttpThreadService {
  return {
    answer: async (call, left) => (await service).answer(call, left),
    subscribe(send) {
      let isOver = false;
      let end = () => {};
      void service.then(({ subscribe }) => {
        if (!isOver) end = subscribe(send);
      });
      return () => {
        isOver = true;
        end();
      };
    },
    replaced: (reason) => void service.then(({ replaced }) => replaced(reason)),
  };
}
