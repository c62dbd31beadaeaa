/** What an answer of the server, or no answer, means to the lane. */
import type { HttpError as HttpFailure } from '@influxdata/influxdb-client';
import {
  oneLine,
  type RefuseReason,
  type Rejection,
  type RejectReason,
  SinkError,
  TRUST_ADVICE,
  transportFailure,
  type Unfit,
  type Verdict,
  verdictOfStatus,
} from '../../src/sink/index.ts';
import { AbortError, HttpError } from './client.ts';

/** The server can never take some of the rows sent. */
export interface DroppedRows extends Unfit {
  /** The measurement that the server names. */
  readonly measurement?: string;
  /** Rows before this time, in ms since 1970, are beyond the retention. */
  readonly keepsFrom?: number;
  /** The lines of the request that the server names as refused, from 1. */
  readonly lines?: readonly RefusedLine[];
  /** The server has as many series as it may have: it takes only points of those that it holds. */
  readonly isLimit?: boolean;
  /** A line of the request that may be at fault, from 1. */
  readonly suspect?: number;
}

export interface RefusedLine extends Pick<Rejection, 'reason' | 'message'> {
  readonly line: number;
}

/** The verdict on a failure. */
type Failure = Exclude<Verdict<DroppedRows>, { kind: 'written' }>;

/**
 * What a server says before it comes to the points: only letters, so that no name in what follows can be taken for it.
 */
const PREFIX = '^(?:[a-z ]+: )*';
/** The server has written the rest. 1.x and 2 say so with 400 or 422, 2.0 with 500. */
const PARTIAL = new RegExp(`${PREFIX}partial write\\b:? ?`, 'i');
const UNPARSED = new RegExp(`${PREFIX}unable to parse`, 'i');
/**
 * 1.x drops the points of new series beyond a limit, and counts them. With its index in memory it also loses points of
 * series that it holds, and does not count these (tried: 1.6.7).
 */
const LIMIT = /^max-(?:values-per-tag|series-per-database) limit exceeded/;
const LONG_KEY = /^(?:[a-z ]+: )*max key length exceeded|: max key length exceeded: \d+ > \d+$/i;

/** Classifies an error of the server, the transport or the signal. */
export function classify(error: unknown, signal: AbortSignal): Failure {
  if (signal.aborted || !(error instanceof HttpError)) {
    const failure = transportFailure(error, signal);
    return error instanceof AbortError ? { ...failure, kind: 'retry', reason: 'connection' } : failure;
  }
  const { statusCode: status } = error;
  const text = textOf(error);
  const message = oneLine(`${status}: ${text}`);
  const detail = text.replace(PARTIAL, '');
  // A cluster of 1.x answers 500 and only these two words if some of its nodes took all of it.
  const isPartial = detail !== text && (status < 500 || droppedCount(detail) !== undefined);
  if (isPartial) return partialWrite(detail, message, linesOf(error));
  const isAboutPoints = status === 422 || (status === 400 && UNPARSED.test(text)) || LONG_KEY.test(text);
  if (isAboutPoints) return { kind: 'unfit', reason: rejectReason(text), message };
  // Any other 400 may be about the request: organization, precision, a proxy.
  if (status === 400) return { kind: 'refused', reason: 'bad_request', message };
  // After 413, the rows are sent again in smaller parts, until a single point is too large.
  return verdictOfStatus({ status, headers: error.headers ?? {} }, message);
}

/** Returns what a refusal means if the points are at fault; undefined if they cannot be. */
export function blamesPoints(error: unknown, { kind, ...verdict }: Failure): DroppedRows | undefined {
  const isUnclear = kind === 'refused' && verdict.reason === 'bad_request';
  if (!isUnclear || !(error instanceof HttpError) || error.statusCode !== 400) return undefined;
  const { line } = (error.json ?? {}) as { line?: unknown };
  const suspect = typeof line === 'number' ? { suspect: line } : {};
  return { kind: 'unfit', reason: 'refused', message: verdict.message, ...suspect };
}

/** `detail`: what follows the words "partial write", in full. */
function partialWrite(detail: string, message: string, lines: readonly RefusedLine[]): DroppedRows {
  const isLimit = LIMIT.test(detail);
  const reason = rejectReason(detail);
  const verdict = { kind: 'unfit', reason, message, othersWritten: !isLimit, isLimit } as const;
  if (lines.length > 0) return { ...verdict, lines };
  // Of lines that it could not read, a server gives no number.
  if (verdict.reason === 'invalid_value') return verdict;
  const unfit = droppedCount(detail);
  const measurement = /\bmeasurement[ =]"(.*)" (?:is|tag=)/s.exec(detail)?.[1];
  const bound = detail.matchAll(/ Retention Policy Lower Bound at (\S+?Z)/g);
  const keepsFrom = Date.parse([...bound].at(-1)?.[1] ?? '');
  return {
    ...verdict,
    ...(unfit === undefined ? {} : { unfit }),
    ...(measurement === undefined ? {} : { measurement }),
    ...(verdict.reason !== 'out_of_retention' || Number.isNaN(keepsFrom) ? {} : { keepsFrom }),
  };
}

/**
 * Returns how many rows were dropped. The number comes first, or at the end. What is between may be a producer's text,
 * and an answer that is too long may lack the end.
 */
function droppedCount(detail: string): number | undefined {
  const first = /^dropped (\d+) points outside retention policy of duration/.exec(detail)?.[1];
  const last = [...detail.matchAll(/ dropped=(\d+)(?=$| for database: )/g)].at(-1)?.[1];
  const count = first ?? last;
  return count === undefined ? undefined : Number(count);
}

/** `text` begins with the server's own words. */
function rejectReason(text: string): RejectReason {
  if (/^[^"'=]*type conflict|^invalid column type/i.test(text)) return 'type_conflict';
  if (/^[^"'=]*\bretention/i.test(text)) return 'out_of_retention';
  if (LONG_KEY.test(text)) return 'too_large';
  if (UNPARSED.test(text)) return 'invalid_value';
  return 'refused';
}

/** The lines that InfluxDB 3 names, with the reason for each. */
function linesOf({ json }: HttpFailure): RefusedLine[] {
  const { data } = (json ?? {}) as { data?: unknown };
  if (!Array.isArray(data)) return [];
  return data.flatMap((entry: { line_number?: unknown; error_message?: unknown } | null) => {
    const { line_number: line, error_message: text = '' } = entry ?? {};
    if (typeof line !== 'number') return [];
    const message = oneLine(String(text));
    return [{ line, reason: rejectReason(message), message }];
  });
}

/** Returns what the server said. 1.x and 3 use another member for it than 2, and proxies send a page. */
function textOf({ json, body, statusMessage }: HttpFailure): string {
  const found: unknown = json?.error ?? json?.message ?? body;
  return (typeof found === 'string' && found !== '' ? found : (statusMessage ?? '')).trim();
}

const ADVICE: Readonly<Record<RefuseReason, string>> = {
  unauthorized:
    'Check the token (v2) or the user and password (v1), and that they are allowed to write and read here.',
  untrusted: TRUST_ADVICE,
  not_found:
    "Check the URL, the organization and the bucket (v2) or the database (v1), or create what is missing. InfluxDB 1.x has no v2 API: set the sink's API to v1 (SINK_INFLUXDB_API=v1).",
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
