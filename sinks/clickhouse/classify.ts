/** What an answer of ClickHouse's HTTP interface means: by the number of the exception, or by the status. Pure. */
import {
  type HttpAnswer,
  oneLine,
  type RefuseReason,
  type RetryReason,
  retryAfter,
  SinkError,
  type Verdict,
} from '../../src/sink.ts';

const UNAUTHORIZED = new Set([164, 192, 193, 194, 291, 497, 516]);
const NOT_FOUND = new Set([60, 81]);
const SCHEMA_MISMATCH = new Set([8, 10, 16, 36, 44, 47, 50, 53]);
const THROTTLED = new Set([201, 202, 241, 252, 439]);
const TIMEOUT = new Set([159, 209]);
const CONNECTION = new Set([210, 279, 999]);
/** A row breaks a CONSTRAINT that somebody added; none of the insert was taken. */
const VIOLATED_CONSTRAINT = 469;

export function exceptionCode(body: Buffer): number | undefined {
  const [, code] = /^Code: (\d+)/.exec(body.subarray(0, 64).toString()) ?? [];
  return code === undefined ? undefined : Number(code);
}

export function classifyAnswer(answer: HttpAnswer): Verdict {
  const { status, headers, body } = answer;
  const code = exceptionCode(body);
  const message = `${status}: ${oneLine(body.toString())}`;
  const afterMs = retryAfter(headers);
  const retry = (reason: RetryReason): Verdict => ({
    kind: 'retry',
    reason,
    message,
    ...(afterMs === undefined ? {} : { afterMs }),
  });
  const refused = (reason: RefuseReason): Verdict => ({ kind: 'refused', reason, message });
  if (code !== undefined) {
    if (code === VIOLATED_CONSTRAINT) return { kind: 'unfit', reason: 'refused', message };
    if (UNAUTHORIZED.has(code)) return refused('unauthorized');
    if (NOT_FOUND.has(code)) return refused('not_found');
    if (SCHEMA_MISMATCH.has(code)) return refused('schema_mismatch');
    if (THROTTLED.has(code)) return retry('throttled');
    if (TIMEOUT.has(code)) return retry('timeout');
    return retry(CONNECTION.has(code) ? 'connection' : 'server_error');
  }
  if (status === 200) return body.length === 0 ? { kind: 'written' } : retry('unknown');
  if (status === 401 || status === 403) return refused('unauthorized');
  if (status === 404) return refused('not_found');
  if (status === 408) return retry('timeout');
  if (status === 429 || status === 503) return retry('throttled');
  return status >= 500 ? retry('server_error') : refused('bad_request');
}

const ADVICE: Readonly<Record<RefuseReason, string>> = {
  unauthorized: 'Check the user and the password, and that the user may create, alter, insert and select.',
  not_found: 'Create the database, or correct the URL; the sink makes only its table.',
  schema_mismatch: 'Rename that table or set another one; the sink makes its own.',
  bad_request: 'Check that the URL is that of the HTTP interface of ClickHouse, often on port 8123.',
};

export function refusalOf(reason: RefuseReason, message: string): SinkError {
  return new SinkError(reason, message, ADVICE[reason]);
}

/** For what has no outcome but an exception: opening, reading, removing. */
export function failureOf(answer: HttpAnswer): SinkError {
  const verdict = classifyAnswer(answer);
  switch (verdict.kind) {
    case 'refused':
      return refusalOf(verdict.reason, verdict.message);
    case 'retry':
      return new SinkError(verdict.reason, verdict.message);
    default:
      return new SinkError('unknown', oneLine(answer.body.toString()));
  }
}
