/** What an error of the AWS SDK means to the lane. */
import {
  isUntrusted,
  type RefuseReason,
  type RejectReason,
  type RetryReason,
  SinkError,
  TRUST_ADVICE,
} from '../../src/sink.ts';

export type Verdict =
  | { readonly kind: 'retry'; readonly reason: RetryReason; readonly message: string }
  | { readonly kind: 'refused'; readonly reason: RefuseReason; readonly message: string }
  /** An item of the request can never be taken, and none was. */
  | { readonly kind: 'unfit'; readonly reason: RejectReason; readonly message: string };

const MAX_MESSAGE_CHARACTERS = 300;

const THROTTLED: ReadonlySet<string> = new Set([
  'LimitExceededException',
  'ProvisionedThroughputExceededException',
  'RequestLimitExceeded',
  'Throttling',
  'ThrottlingException',
  'TooManyRequestsException',
]);
const UNAUTHORIZED: ReadonlySet<string> = new Set([
  'AccessDeniedException',
  'CredentialsProviderError',
  'ExpiredTokenException',
  'IncompleteSignatureException',
  'InvalidClientTokenId',
  'InvalidSignatureException',
  'MissingAuthenticationTokenException',
  'NotAuthorized',
  'OptInRequired',
  'TokenProviderError',
  'UnrecognizedClientException',
]);
const CONFLICT: ReadonlySet<string> = new Set([
  'ReplicatedWriteConflictException',
  'TransactionConflictException',
]);

/** The members of the SDK's errors that are read here; none is sure to be there. */
interface Failure {
  readonly name?: string;
  readonly message?: string;
  readonly code?: unknown;
  readonly $fault?: string;
  readonly $metadata?: { readonly httpStatusCode?: number };
}

export function nameOf(error: unknown): string {
  return (error as Failure | undefined)?.name ?? '';
}

export function classify(error: unknown, signal: AbortSignal): Verdict {
  if (signal.aborted) return { kind: 'retry', reason: 'timeout', message: 'no answer in time' };
  const failure = (error ?? {}) as Failure;
  const message = oneLine(failure);
  const name = failure.name ?? '';
  if (isUntrusted(error)) return { kind: 'refused', reason: 'untrusted', message };
  if (THROTTLED.has(name)) return { kind: 'retry', reason: 'throttled', message };
  if (UNAUTHORIZED.has(name)) return { kind: 'refused', reason: 'unauthorized', message };
  if (CONFLICT.has(name)) return { kind: 'retry', reason: 'conflict', message };
  if (name === 'ResourceNotFoundException') return { kind: 'refused', reason: 'not_found', message };
  if (name === 'ValidationException') return classifyValidation(message);
  if (/region (is missing|not accepted)/i.test(message))
    return { kind: 'refused', reason: 'bad_request', message };
  return { kind: 'retry', reason: retryReason(failure), message };
}

function classifyValidation(message: string): Verdict {
  if (/does not match the schema|missing the key|type mismatch for key/i.test(message)) {
    return { kind: 'refused', reason: 'schema_mismatch', message };
  }
  if (/size/i.test(message)) return { kind: 'unfit', reason: 'too_large', message };
  return { kind: 'unfit', reason: /number|numeric/i.test(message) ? 'invalid_value' : 'refused', message };
}

function retryReason({ code, $metadata, $fault, name }: Failure): RetryReason {
  const status = $metadata?.httpStatusCode;
  // The SDK calls a connection that was reset a TimeoutError too; only its code tells.
  if (status === undefined && typeof code === 'string') return 'connection';
  if (status === 429) return 'throttled';
  if (status === 408 || name === 'TimeoutError') return 'timeout';
  if ((status !== undefined && status >= 500) || $fault === 'server') return 'server_error';
  return 'unknown';
}

function oneLine({ name, message }: Failure): string {
  return `${name ?? 'unknown'}: ${message ?? ''}`
    .replace(/\s+/g, ' ')
    .trim()
    .slice(0, MAX_MESSAGE_CHARACTERS);
}

export const ADVICE: Readonly<Record<RefuseReason, string>> = {
  unauthorized: 'Check the AWS credentials and region, and that their role may use this table.',
  untrusted: TRUST_ADVICE,
  not_found: 'Create the table or set CREATE to true; check the table name and the region.',
  schema_mismatch:
    'Use a table whose partition key is pk and whose sort key is sk, both of type S, or another name.',
  bad_request: 'Set SINK_<ID>_REGION or AWS_REGION, and check the table name.',
};

/** The same for what has no outcome but an exception: opening, reading, removing. */
export function sinkError(error: unknown, signal: AbortSignal): SinkError {
  if (error instanceof SinkError) return error;
  const verdict = classify(error, signal);
  const options = { cause: error };
  if (verdict.kind === 'retry') return new SinkError(verdict.reason, verdict.message, '', options);
  const reason = verdict.kind === 'refused' ? verdict.reason : 'bad_request';
  return new SinkError(reason, verdict.message, ADVICE[reason], options);
}
