/** What of the service can start before its code is loaded. */
import { Heartbeat } from '../base/heartbeat.ts';
import type { Config } from '../config/config.ts';
import { MAX_REQUEST_BYTES } from '../control/request.ts';
import { type BegunHttp, beginHttp } from '../observe/http-beginning.ts';

export interface BegunService {
  /** Of the main thread. */
  readonly heartbeat: Heartbeat;
  readonly http: BegunHttp;
}

export function beginService({ core }: Config): BegunService {
  const heartbeat = new Heartbeat();
  const http = beginHttp({
    host: core.httpHost,
    port: core.httpPort,
    allowedHosts: core.httpAllowedHosts,
    maxBodyBytes: core.controlEnabled ? MAX_REQUEST_BYTES : undefined,
    heartbeat,
  });
  return { heartbeat, http };
}
