/** What errors of the file system and of S3 mean to the lane. Pure. */
import { awsVerdict, errorText, type RefuseReason, SinkError, TRUST_ADVICE } from '../../src/sink/index.ts';

type Verdict = readonly [reason: SinkError['reason'], advice?: string];

const WRITABLE = 'Make the folder writable for this process, or set SINK_<ID>_URL to another one.';
const SPACE = 'Free some space on the disk.';

/** By error code of Node.js. */
const VERDICTS: Readonly<Record<string, Verdict>> = {
  EACCES: ['unauthorized', WRITABLE],
  EPERM: ['unauthorized', WRITABLE],
  EROFS: ['unauthorized', WRITABLE],
  ENOENT: ['not_found', WRITABLE],
  ENOTDIR: ['not_found', WRITABLE],
  EEXIST: ['not_found', WRITABLE],
  ENAMETOOLONG: ['bad_request', 'Set SINK_<ID>_URL to a folder with a shorter path.'],
  ENOSPC: ['server_error', SPACE],
  EDQUOT: ['server_error', SPACE],
  EIO: ['server_error'],
  ESTALE: ['server_error'],
  EMFILE: ['server_error', 'Raise the limit of open files of this process.'],
  ENFILE: ['server_error', 'Raise the limit of open files of this machine.'],
};

/** By the low byte of SQLite's result code: SQLite holds the lock. */
const LOCK_VERDICTS: Readonly<Record<number, Verdict>> = {
  3: ['unauthorized', WRITABLE],
  8: ['unauthorized', WRITABLE],
  10: ['server_error'],
  13: ['server_error', SPACE],
  14: ['not_found', WRITABLE],
  26: ['schema_mismatch', 'Remove _metrics-fanout.lock, which should be empty.'],
};

const MAX_MESSAGE_CHARACTERS = 300;

export function explainFile(error: unknown, signal: AbortSignal): SinkError {
  if (error instanceof SinkError) return error;
  const message = oneLineOf(error);
  if (signal.aborted) return new SinkError('timeout', 'the disk was not done in time', '', { cause: error });
  const [reason, advice = ''] = verdictOf(error);
  return new SinkError(reason, message, advice, { cause: error });
}

function verdictOf(error: unknown): Verdict {
  if (!(error instanceof Error)) return ['unknown'];
  if ('errcode' in error) return LOCK_VERDICTS[Number(error.errcode) & 0xff] ?? ['unknown'];
  return ('code' in error ? VERDICTS[String(error.code)] : undefined) ?? ['unknown'];
}

const BUCKET_ADVICE: Readonly<Record<RefuseReason, string>> = {
  unauthorized:
    'Check the AWS credentials of the service, and that they may list the bucket, and get, put and delete objects under the prefix.',
  untrusted: TRUST_ADVICE,
  not_found: 'Create the bucket, or correct its name in SINK_<ID>_URL.',
  schema_mismatch: '',
  bad_request: 'Set SINK_<ID>_REGION to the region of the bucket.',
};

/** `signal` is that of the failed call. */
export function explainBucket(error: unknown, signal: AbortSignal): SinkError {
  if (error instanceof SinkError) return error;
  const verdict = awsVerdict(error, signal);
  const advice = verdict.kind === 'refused' ? BUCKET_ADVICE[verdict.reason] : '';
  return new SinkError(verdict.reason, verdict.message, advice, { cause: error });
}

function oneLineOf(error: unknown): string {
  const message = errorText(error);
  return message.replace(/\s+/g, ' ').trim().slice(0, MAX_MESSAGE_CHARACTERS);
}
