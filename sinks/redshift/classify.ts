/** What an error means to the lane: that of any server of the protocol, or one of COPY or AWS. Pure. */
import {
  awsVerdict,
  classifyPg,
  pgMessage,
  type RefuseReason,
  SinkError,
  sqlState,
  TRUST_ADVICE,
  type WordedVerdict,
} from '../../src/sink/index.ts';

const ROLE =
  'Allow Redshift to assume the role, associate the role with the cluster, and allow it to list and read the bucket.';
const BUCKET = 'Create the bucket, or correct its name in S3.';
const REGION = 'Use a bucket in the region of the cluster, and set REGION to it.';

/** By message of COPY about S3 and the role, because these errors have no code of their own. The first match counts. */
const COPY_VERDICTS: readonly WordedVerdict[] = [
  [/not authorized to (assume|get credentials of) (IAM )?role/i, ['unauthorized', ROLE]],
  [/S3ServiceException.*(PermanentRedirect|AuthorizationHeaderMalformed)/, ['bad_request', REGION]],
  [/S3ServiceException.*NoSuchBucket/, ['not_found', BUCKET]],
  [/S3ServiceException.*Status 403/, ['unauthorized', ROLE]],
  [/S3ServiceException.*(SlowDown|Status 503)/, ['throttled']],
];

/** Advice for errors that this process itself gets from S3, or from the API that issues credentials. */
const AWS_ADVICE: Readonly<Record<'s3' | 'signIn', Readonly<Record<RefuseReason, string>>>> = {
  s3: {
    unauthorized:
      'Check the AWS credentials of the service, and that they may put and delete objects under the prefix.',
    untrusted: TRUST_ADVICE,
    not_found: BUCKET,
    schema_mismatch: '',
    bad_request: REGION,
  },
  signIn: {
    unauthorized:
      'Check the AWS credentials of the service, and that they may request credentials for the database.',
    untrusted: TRUST_ADVICE,
    not_found: 'Correct CLUSTER or WORKGROUP, or REGION.',
    schema_mismatch: '',
    bad_request: 'Set REGION or AWS_REGION; check CLUSTER or WORKGROUP, and the database in the URL.',
  },
};

/** Whether COPY could not load a row. It does not say which row in a way that a program could read. */
export function isLoadFailure(error: unknown): boolean {
  return sqlState(error) !== undefined && /stl_load_errors|sys_load_error_detail/i.test(pgMessage(error));
}

export function classify(error: unknown): SinkError {
  return classifyPg(error, COPY_VERDICTS);
}

/** Classifies an error of the AWS SDK. `signal` is that of the failed call. */
export function awsError(error: unknown, what: keyof typeof AWS_ADVICE, signal: AbortSignal): SinkError {
  if (error instanceof SinkError) return error;
  const verdict = awsVerdict(error, signal);
  const advice = verdict.kind === 'refused' ? AWS_ADVICE[what][verdict.reason] : '';
  return new SinkError(verdict.reason, verdict.message, advice, { cause: error });
}
