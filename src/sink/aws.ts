/** What clients of the AWS SDK, and their errors, have in common for any AWS service. The sink itself loads the SDK. */

import type { RefuseReason, RetryReason } from './contract.ts';
import { isUntrusted, onLiveConnection } from './http.ts';

export type AwsVerdict =
  | { readonly kind: 'retry'; readonly reason: RetryReason; readonly message: string }
  | { readonly kind: 'refused'; readonly reason: RefuseReason; readonly message: string };

/** What of a client is used here. */
interface AwsClient {
  readonly middlewareStack: {
    add(
      middleware: <I, O>(next: (args: I) => Promise<O>) => (args: I) => Promise<O>,
      where: { readonly step: 'initialize'; readonly priority: 'high' },
    ): void;
  };
}

/** Has the client send each request on another connection if that of the first breaks. Returns the client. */
export function resending<C extends AwsClient>(client: C): C {
  // The outermost step: a request is signed and its answer read anew each time.
  const where = { step: 'initialize', priority: 'high' } as const;
  client.middlewareStack.add((next) => (args) => onLiveConnection(() => next(args)), where);
  return client;
}

const MAX_MESSAGE_CHARACTERS = 300;

/** Names of errors that go away with time. */
const RETRIES: Readonly<Partial<Record<RetryReason, readonly string[]>>> = {
  throttled: [
    'LimitExceededException',
    'ProvisionedThroughputExceededException',
    'RequestLimitExceeded',
    'SlowDown',
    'Throttling',
    'ThrottlingException',
    'TooManyRequestsException',
  ],
  conflict: ['ReplicatedWriteConflictException', 'TransactionConflictException'],
};
/** Names of errors that only an operator can fix. */
const REFUSALS: Readonly<Partial<Record<RefuseReason, readonly string[]>>> = {
  unauthorized: [
    'AccessDenied',
    'AccessDeniedException',
    'CredentialsProviderError',
    'ExpiredToken',
    'ExpiredTokenException',
    'IncompleteSignatureException',
    'InvalidAccessKeyId',
    'InvalidClientTokenId',
    'InvalidSignatureException',
    'InvalidToken',
    'MissingAuthenticationTokenException',
    'NotAuthorized',
    'OptInRequired',
    'RequestTimeTooSkewed',
    'SignatureDoesNotMatch',
    'TokenProviderError',
    'UnrecognizedClientException',
  ],
  not_found: ['ClusterNotFound', 'ClusterNotFoundFault', 'NoSuchBucket', 'ResourceNotFoundException'],
  // S3 answers with the first or the last if the bucket is in another region.
  bad_request: [
    'AuthorizationHeaderMalformed',
    'InvalidBucketName',
    'InvalidParameterValue',
    'ValidationException',
    'PermanentRedirect',
  ],
};

/** The members of the SDK's errors that are read here. Any of them may be absent. */
interface Failure {
  readonly name?: string;
  readonly message?: string;
  readonly code?: unknown;
  readonly $fault?: string;
  readonly $metadata?: { readonly httpStatusCode?: number };
  /** Why DynamoDB throttles. Errors of it have one or the other. */
  readonly ThrottlingReasons?: readonly ThrottlingReason[];
  readonly throttlingReasons?: readonly ThrottlingReason[];
}

interface ThrottlingReason {
  readonly reason?: string;
}

export function awsErrorName(error: unknown): string {
  return (error as Failure | undefined)?.name ?? '';
}

/** Classifies an error of the SDK. `signal` is that of the failed call. An unknown error is retried. */
export function awsVerdict(error: unknown, signal: AbortSignal): AwsVerdict {
  if (signal.aborted) return { kind: 'retry', reason: 'timeout', message: 'no answer in time' };
  const failure = (error ?? {}) as Failure;
  const message = oneLine(failure);
  const name = awsErrorName(error);
  if (isUntrusted(error)) return { kind: 'refused', reason: 'untrusted', message };
  const refusal = reasonOf(REFUSALS, name);
  if (refusal !== undefined) return { kind: 'refused', reason: refusal, message };
  if (/region (is missing|not accepted)/i.test(message))
    return { kind: 'refused', reason: 'bad_request', message };
  return { kind: 'retry', reason: reasonOf(RETRIES, name) ?? retryReason(failure), message };
}

function reasonOf<R extends string>(
  names: Readonly<Partial<Record<R, readonly string[]>>>,
  name: string,
): R | undefined {
  return (Object.keys(names) as R[]).find((reason) => names[reason]?.includes(name));
}

function retryReason({ code, $metadata, $fault, name }: Failure): RetryReason {
  const status = $metadata?.httpStatusCode;
  // The SDK also calls a reset connection a TimeoutError; only the code tells them apart.
  if (status === undefined && typeof code === 'string') return 'connection';
  if (status === 429) return 'throttled';
  if (status === 408 || name === 'TimeoutError') return 'timeout';
  if ((status !== undefined && status >= 500) || $fault === 'server') return 'server_error';
  return 'unknown';
}

function oneLine({ name, message, ThrottlingReasons, throttlingReasons }: Failure): string {
  const given = [...(ThrottlingReasons ?? throttlingReasons ?? [])].flatMap(({ reason }) => reason ?? []);
  const reasons = given.length === 0 ? '' : ` (${[...new Set(given)].join(', ')})`;
  return `${name ?? 'unknown'}: ${message ?? ''}${reasons}`
    .replace(/\s+/g, ' ')
    .trim()
    .slice(0, MAX_MESSAGE_CHARACTERS);
}
