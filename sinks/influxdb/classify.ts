/** What an answer of the server, or the lack of one, means to the lane. */
import { AbortError, HttpError } from '@influxdata/influxdb-client';
import { type RefuseReason, type RejectReason, type RetryReason, SinkError } from '../../src/sink.ts';

export type Verdict =
  | {
      readonly kind: 'retry';
      readonly reason: RetryReason;
      readonly message: string;
      readonly afterMs?: number;
    }
  | { readonly kind: 'refused'; readonly reason: RefuseReason; readonly message: string }
  /** Some of the points sent can never be taken; the others may or may not have been written. */
  | {
      readonly kind: 'unfit';
      readonly reason: RejectReason;
      readonly message: string;
      /** How many points the server says it dropped. */
      readonly dropped?: number;
      /** The measurement that it names. */
      readonly measurement?: string;
    };

const MAX_MESSAGE_CHARACTERS = 300;

/** An error of the transport, or of the signal, as a verdict. */
export function classify(error: unknown, signal: AbortSignal): Verdict {
  if (signal.aborted) return { kind: 'retry', reason: 'timeout', message: 'no answer in time' };
  if (error instanceof HttpError)
    return classifyAnswer(error.statusCode, messageOf(error), retryAfter(error));
  const message = error instanceof Error ? oneLine(error.message) : 'unknown error';
  const lost = error instanceof AbortError || (error instanceof Error && 'code' in error);
  return { kind: 'retry', reason: lost ? 'connection' : 'unknown', message };
}

export function classifyAnswer(status: number, message: string, afterMs?: number): Verdict {
  const retry = (reason: RetryReason): Verdict => ({
    kind: 'retry',
    reason,
    message,
    ...(afterMs === undefined ? {} : { afterMs }),
  });
  if (status === 400 || status === 422) return classifyBadRequest(status, message);
  if (status === 401 || status === 403) return { kind: 'refused', reason: 'unauthorized', message };
  if (status === 404) return { kind: 'refused', reason: 'not_found', message };
  if (status === 408) return retry('timeout');
  // Sent again in smaller parts, until a single point is too large by itself.
  if (status === 413) return { kind: 'unfit', reason: 'too_large', message };
  if (status === 429 || status === 503) return retry('throttled');
  if (status >= 500) return retry('server_error');
  return { kind: 'refused', reason: 'bad_request', message };
}

/** 400 is about the points where it says so, and about the request (organization, precision, a proxy) otherwise. */
function classifyBadRequest(status: number, message: string): Verdict {
  if (status === 400 && !/partial write|unable to parse/i.test(message)) {
    return { kind: 'refused', reason: 'bad_request', message };
  }
  const dropped = /dropped=(\d+)/.exec(message)?.[1];
  const measurement = /on measurement "(.*)" is /.exec(message)?.[1];
  return {
    kind: 'unfit',
    reason: rejectReason(message),
    message,
    ...(dropped === undefined ? {} : { dropped: Number(dropped) }),
    ...(measurement === undefined ? {} : { measurement }),
  };
}

function rejectReason(message: string): RejectReason {
  if (/type conflict/i.test(message)) return 'type_conflict';
  if (/retention/i.test(message)) return 'out_of_retention';
  if (/max key length/i.test(message)) return 'too_large';
  if (/unable to parse/i.test(message)) return 'invalid_value';
  return 'refused';
}

/** What the server said; 1.x and 2 differ in the member that holds it, proxies send a page. */
function messageOf(error: HttpError): string {
  const said: unknown = error.json?.error ?? error.json?.message ?? error.body;
  const text = typeof said === 'string' && said !== '' ? said : (error.statusMessage ?? '');
  return oneLine(`${error.statusCode}: ${text}`);
}

export function oneLine(text: string): string {
  return text.replace(/\s+/g, ' ').trim().slice(0, MAX_MESSAGE_CHARACTERS);
}

/** Seconds or a date, as HTTP has it; the package takes it for milliseconds. */
function retryAfter(error: HttpError): number | undefined {
  const header = String(error.headers?.['retry-after'] ?? '');
  if (/^\d+$/.test(header)) return Number(header) * 1000;
  const until = Date.parse(header);
  return Number.isNaN(until) ? undefined : Math.max(0, until - Date.now());
}

const ADVICE: Readonly<Record<RefuseReason, string>> = {
  unauthorized: 'Check the token (v2) or the user and password (v1), and that they may write and read here.',
  not_found:
    'Check the URL, the organization and the bucket (v2) or the database (v1), or create what is missing.',
  bad_request: 'Check the URL and the API: v2 for InfluxDB 2, 3 and Cloud, v1 for 1.x.',
  schema_mismatch: '',
};

/** The same for what has no outcome but an exception: opening, reading, removing. */
export function sinkError(error: unknown, signal: AbortSignal): SinkError {
  if (error instanceof SinkError) return error;
  const verdict = classify(error, signal);
  if (verdict.kind === 'retry') return new SinkError(verdict.reason, verdict.message, '', { cause: error });
  const reason = verdict.kind === 'refused' ? verdict.reason : 'bad_request';
  return refusal(reason, verdict.message);
}

export function refusal(reason: RefuseReason, message: string): SinkError {
  return new SinkError(reason, message, ADVICE[reason]);
}
