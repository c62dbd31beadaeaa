/** What an answer of the server, or no answer, means to the lane. */
import { AbortError, HttpError } from '@influxdata/influxdb-client';
import {
  oneLine,
  type RefuseReason,
  type RejectReason,
  SinkError,
  TRUST_ADVICE,
  transportFailure,
  type Unfit,
  type Verdict,
  verdictOfStatus,
} from '../../src/sink/index.ts';

/** The server can never take some of the rows sent. At most it says how many, not which. */
export interface DroppedRows extends Unfit {
  /** How many points the server says it dropped. */
  readonly dropped?: number;
  /** The measurement that the server names. */
  readonly measurement?: string;
}

/** The verdict on a failure. */
type Failure = Exclude<Verdict<DroppedRows>, { kind: 'written' }>;

/** Classifies an error of the server, the transport or the signal. */
export function classify(error: unknown, signal: AbortSignal): Failure {
  if (signal.aborted || !(error instanceof HttpError)) {
    const failure = transportFailure(error, signal);
    return error instanceof AbortError ? { ...failure, kind: 'retry', reason: 'connection' } : failure;
  }
  const { statusCode: status } = error;
  const message = messageOf(error);
  if (status === 422 || (status === 400 && /partial write|unable to parse/i.test(message))) {
    return droppedRows(message);
  }
  // Any other 400 is about the request: organization, precision, a proxy.
  if (status === 400) return { kind: 'refused', reason: 'bad_request', message };
  // After 413, the rows are sent again in smaller parts, until a single point is too large.
  return verdictOfStatus({ status, headers: error.headers ?? {} }, message);
}

function droppedRows(message: string): DroppedRows {
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

/** Returns what the server said. 1.x and 2 use different members for it, and proxies send a page. */
function messageOf(error: HttpError): string {
  const found: unknown = error.json?.error ?? error.json?.message ?? error.body;
  const text = typeof found === 'string' && found !== '' ? found : (error.statusMessage ?? '');
  return oneLine(`${error.statusCode}: ${text}`);
}

const ADVICE: Readonly<Record<RefuseReason, string>> = {
  unauthorized:
    'Check the token (v2) or the user and password (v1), and that they are allowed to write and read here.',
  untrusted: TRUST_ADVICE,
  not_found:
    'Check the URL, the organization and the bucket (v2) or the database (v1), or create what is missing.',
  bad_request: 'Check the URL and the API: v2 for InfluxDB 2, 3 and Cloud, v1 for 1.x.',
  schema_mismatch: '',
};

/** Classifies an error of a call that reports failure only by an exception: opening, reading, removing. */
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
