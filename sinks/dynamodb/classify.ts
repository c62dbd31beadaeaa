/** What an error of the AWS SDK means to the lane. */
import {
  type AwsVerdict,
  awsErrorName,
  awsVerdict,
  type RefuseReason,
  type RejectReason,
  SinkError,
  TRUST_ADVICE,
} from '../../src/sink/index.ts';

export type ItemVerdict =
  | AwsVerdict
  /** The store can never take an item of the request, and took none. */
  | { readonly kind: 'unfit'; readonly reason: RejectReason; readonly message: string };

export function classify(error: unknown, signal: AbortSignal): ItemVerdict {
  const verdict = awsVerdict(error, signal);
  const isAboutItems = !signal.aborted && awsErrorName(error) === 'ValidationException';
  return isAboutItems ? classifyValidation(verdict.message) : verdict;
}

function classifyValidation(message: string): ItemVerdict {
  if (/does not match the schema|missing the key|type mismatch for key/i.test(message)) {
    return { kind: 'refused', reason: 'schema_mismatch', message };
  }
  if (/size/i.test(message)) return { kind: 'unfit', reason: 'too_large', message };
  return { kind: 'unfit', reason: /number|numeric/i.test(message) ? 'invalid_value' : 'refused', message };
}

export const ADVICE: Readonly<Record<RefuseReason, string>> = {
  unauthorized: 'Check the AWS credentials and the region, and that the role may use this table.',
  untrusted: TRUST_ADVICE,
  not_found: 'Create the table or set CREATE to true; check the table name and the region.',
  schema_mismatch:
    'Use a table whose partition key is pk and whose sort key is sk, both of type S, or set TABLE to another name.',
  bad_request: 'Set SINK_<ID>_REGION or AWS_REGION, and check the table name.',
};

/** Classifies an error of a call that reports failure only by an exception: opening, reading, removing. */
export function sinkError(error: unknown, signal: AbortSignal): SinkError {
  if (error instanceof SinkError) return error;
  const verdict = classify(error, signal);
  const options = { cause: error };
  if (verdict.kind === 'retry') return new SinkError(verdict.reason, verdict.message, '', options);
  const reason = verdict.kind === 'refused' ? verdict.reason : 'bad_request';
  return new SinkError(reason, verdict.message, ADVICE[reason], options);
}
