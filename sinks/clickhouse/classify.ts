/** What an answer of ClickHouse's HTTP interface means, by the number of the exception or by the status. Pure. */
import {
  errorOf,
  type HttpAnswer,
  oneLine,
  type RefuseReason,
  type RetryReason,
  SinkError,
  TRUST_ADVICE,
  type Verdict,
  verdictOfStatus,
} from '../../src/sink/index.ts';

const UNAUTHORIZED = new Set([164, 192, 193, 194, 291, 497, 516]);
const NOT_FOUND = new Set([60, 81]);
const SCHEMA_MISMATCH = new Set([8, 10, 16, 36, 44, 47, 50, 53]);
const THROTTLED = new Set([201, 202, 241, 252, 439]);
const TIMEOUT = new Set([159, 209]);
const CONNECTION = new Set([210, 279, 999]);
/** A row breaks a CONSTRAINT that somebody added. ClickHouse took no row of the insert. */
const VIOLATED_CONSTRAINT = 469;

function exceptionCode(body: Buffer): number | undefined {
  const [, code] = /^Code: (\d+)/.exec(body.subarray(0, 64).toString()) ?? [];
  return code === undefined ? undefined : Number(code);
}

export function classifyAnswer(answer: HttpAnswer): Verdict {
  const { status, body } = answer;
  const message = `${status}: ${oneLine(body.toString())}`;
  const code = exceptionCode(body);
  if (code !== undefined) return verdictOfException(code, message);
  if (status !== 200) return verdictOfStatus(answer, message);
  return body.length === 0 ? { kind: 'written' } : { kind: 'retry', reason: 'unknown', message };
}

function verdictOfException(code: number, message: string): Verdict {
  const retry = (reason: RetryReason): Verdict => ({ kind: 'retry', reason, message });
  const refused = (reason: RefuseReason): Verdict => ({ kind: 'refused', reason, message });
  if (code === VIOLATED_CONSTRAINT) return { kind: 'unfit', reason: 'refused', message };
  if (UNAUTHORIZED.has(code)) return refused('unauthorized');
  if (NOT_FOUND.has(code)) return refused('not_found');
  if (SCHEMA_MISMATCH.has(code)) return refused('schema_mismatch');
  if (THROTTLED.has(code)) return retry('throttled');
  if (TIMEOUT.has(code)) return retry('timeout');
  return retry(CONNECTION.has(code) ? 'connection' : 'server_error');
}

export const ADVICE: Readonly<Record<RefuseReason, string>> = {
  unauthorized: 'Check the user and the password, and that the user may create, alter, insert and select.',
  untrusted: TRUST_ADVICE,
  not_found: 'Create the database, or correct URL or DATABASE: the sink creates only its table.',
  schema_mismatch: 'Rename that table, or set TABLE to another name: the sink creates its own table.',
  bad_request: "Check that the URL is that of ClickHouse's HTTP interface, often on port 8123.",
};

export function mismatch(table: string, what: string): SinkError {
  const message = `the table ${table} is not this sink's: ${what}`;
  return new SinkError('schema_mismatch', message, ADVICE.schema_mismatch);
}

/** Returns the error for a call that reports failure only by an exception: opening, reading, removing. */
export function failureOf(answer: HttpAnswer): SinkError {
  const verdict = classifyAnswer(answer);
  return verdict.kind === 'written'
    ? new SinkError('unknown', 'the answer has no rows')
    : errorOf(verdict, ADVICE);
}
