/** What an answer of the server, or the lack of one, means to the lane. */
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

/** Some of the rows sent can never be taken; the server says how many at most, not which. */
export interface DroppedRows extends Unfit {
  /** How many points the server says it dropped. */
  readonly dropped?: number;
  /** The measurement that it names. */
  readonly measurement?: string;
}

/** Of what did not go well. */
type Failure = Exclude<Verdict<DroppedRows>, { kind: 'written' }>;

/** An error of the transport, or of the signal, as a verdict. */
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
  // 400 is about the request otherwise: organization, precision, a proxy.
  if (status === 400) return { kind: 'refused', reason: 'bad_request', message };
  // 413: sent again in smaller parts, until a single point is too large by itself.
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

/** What the server said; 1.x and 2 differ in the member that holds it, proxies send a page. */
function messageOf(error: HttpError): string {
  const said: unknown = error.json?.error ?? error.json?.message ?? error.body;
  const text = typeof said === 'string' && said !== '' ? said : (error.statusMessage ?? '');
  return oneLine(`${error.statusCode}: ${text}`);
}

const ADVICE: Readonly<Record<RefuseReason, string>> = {
  unauthorized: 'Check the token (v2) or the user and password (v1), and that they may write and read here.',
  untrusted: TRUST_ADVICE,
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
