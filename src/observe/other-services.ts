/** Asks running services for their status over HTTP. */
import { ask, silenceReason } from '../base/http-client.ts';
import type { Status } from './status.ts';

const TIMEOUT_MS = 5_000;
/** A status with many sinks has about 10 KB. */
const MAX_STATUS_BYTES = 4_000_000;

/** The answer of one service: its status, or why there is none. */
export type ServiceAnswer =
  | { readonly kind: 'status'; readonly url: string; readonly status: Status }
  | { readonly kind: 'silent'; readonly url: string; readonly reason: string };

/** Never rejects. */
export async function hear(url: string, signal: AbortSignal): Promise<ServiceAnswer> {
  const silent = (reason: string): ServiceAnswer => ({ kind: 'silent', url, reason });
  try {
    const { status: code, text } = await ask(`${url}/api/status`, {
      signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]),
    });
    if (code !== 200) return silent(`it answers with status ${code}`);
    if (text.length > MAX_STATUS_BYTES) return silent('its answer is too long to be a status');
    const status = JSON.parse(text) as Partial<Status>;
    return isStatus(status)
      ? { kind: 'status', url, status }
      : silent('what answers there is not metrics-fanout');
  } catch (error) {
    return silent(silenceReason(error, TIMEOUT_MS));
  }
}

/** Checks only the fields that this version needs, because the service may have another version. */
function isStatus(status: Partial<Status>): status is Status {
  const sink = status.sinks?.[0];
  const isCurrent = sink === undefined || (sink.cost !== undefined && sink.queries !== undefined);
  return Array.isArray(status.sinks) && status.messages?.perSecond !== undefined && isCurrent;
}
