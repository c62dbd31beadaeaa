/** What an answer to an export means, by the OTLP specification, "OTLP/HTTP Response". Pure. */
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire';
import {
  type HttpAnswer,
  oneLine,
  type RefuseReason,
  TRUST_ADVICE,
  type Verdict,
  verdictOfStatus,
} from '../../src/sink/index.ts';

/** Field numbers of ExportMetricsServiceResponse, its partial success, and google.rpc.Status. */
const RESPONSE = { partialSuccess: 1 } as const;
const PARTIAL_SUCCESS = { rejectedDataPoints: 1, errorMessage: 2 } as const;
const STATUS = { message: 2 } as const;

/** The wording of Prometheus, with status 500, and of stores that share its code. */
const NO_DELTAS = /invalid temporality/i;
const DELTA_ADVICE =
  'The receiver takes no deltas: set SUMS=gauge, or let it take them (Prometheus: --enable-feature=otlp-deltatocumulative from 3.2 on, or otlp-native-delta-ingestion from 3.4 on).';
/** The wording of Prometheus and Mimir. */
const TOO_OLD = /out[- ]of[- ]order|out of bounds|too old/i;

/** A partial success: the receiver says how many data points it refused, but not which. */
export interface PartialSuccess {
  readonly kind: 'partial';
  readonly rejectedDataPoints: number;
  readonly message: string;
}

export function classifyAnswer(answer: HttpAnswer): Verdict | PartialSuccess {
  const { status } = answer;
  if (status >= 200 && status < 300) return classifySuccess(answer);
  const message = `${status}: ${oneLine(messageOf(answer))}`;
  // No part of the batch will ever be taken, however small, until somebody changes a setting.
  if (NO_DELTAS.test(message)) {
    return { kind: 'refused', reason: 'bad_request', message: `${message}. ${DELTA_ADVICE}` };
  }
  const verdict = verdictOfStatus(answer, message);
  return verdict.kind === 'unfit' && TOO_OLD.test(message)
    ? { ...verdict, reason: 'out_of_retention' }
    : verdict;
}

function classifySuccess({ status, headers, body }: HttpAnswer): Verdict | PartialSuccess {
  try {
    const { rejected, message } = isJson(headers['content-type']) ? parseJson(body) : decodeResponse(body);
    if (rejected > 0) return { kind: 'partial', rejectedDataPoints: rejected, message: oneLine(message) };
    return { kind: 'written' };
  } catch {
    // It may be a web page: whatever answered did not take the points.
    const message = `the server answered with status ${status} and a body that does not acknowledge an export`;
    return { kind: 'retry', reason: 'unknown', message };
  }
}

const isJson = (contentType = '') => contentType.startsWith('application/json');

interface Response {
  readonly rejected: number;
  readonly message: string;
}

/** Some receivers answer protobuf with JSON. In both, an empty body is a full success. */
function parseJson(body: Buffer): Response {
  const { partialSuccess } = JSON.parse(body.length === 0 ? '{}' : body.toString()) as {
    partialSuccess?: { rejectedDataPoints?: string | number; errorMessage?: string };
  };
  return {
    rejected: Number(partialSuccess?.rejectedDataPoints ?? 0),
    message: String(partialSuccess?.errorMessage ?? ''),
  };
}

function decodeResponse(body: Uint8Array): Response {
  let response: Response = { rejected: 0, message: '' };
  readFields(body, (reader, number) => {
    if (number !== RESPONSE.partialSuccess) return false;
    response = decodePartialSuccess(reader.bytes());
    return true;
  });
  return response;
}

function decodePartialSuccess(bytes: Uint8Array): Response {
  let rejected = 0;
  let message = '';
  readFields(bytes, (reader, number) => {
    if (number === PARTIAL_SUCCESS.rejectedDataPoints) rejected = Number(reader.int64());
    else if (number === PARTIAL_SUCCESS.errorMessage) message = reader.string();
    else return false;
    return true;
  });
  return { rejected, message };
}

/** Returns the receiver's own error message: from a Status in protobuf or JSON, or from the text of a proxy. */
function messageOf({ headers, body }: HttpAnswer): string {
  const contentType = headers['content-type'] ?? '';
  try {
    if (contentType.startsWith('application/x-protobuf')) return decodeStatus(body);
    if (isJson(contentType)) return String((JSON.parse(body.toString()) as { message?: string }).message);
  } catch {
    // Not in that format: use the body as it is.
  }
  return body.toString();
}

function decodeStatus(body: Uint8Array): string {
  let message = '';
  readFields(body, (reader, number, wireType) => {
    if (number !== STATUS.message || wireType !== WireType.LengthDelimited) return false;
    message = reader.string();
    return true;
  });
  return message;
}

/** Calls `take` for each field: it reads the field and returns true, or false to skip it. Throws on bad bytes. */
function readFields(
  bytes: Uint8Array,
  take: (reader: BinaryReader, number: number, wireType: WireType) => boolean,
): void {
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [number, wireType] = reader.tag();
    if (!take(reader, number, wireType)) reader.skip(wireType, number);
  }
}

export const ADVICE: Readonly<Record<RefuseReason, string>> = {
  unauthorized: 'Check the key in HEADERS, and that it is allowed to send metrics.',
  untrusted: TRUST_ADVICE,
  not_found: 'Check the URL: it must be that of the OTLP receiver over HTTP, often on port 4318.',
  bad_request:
    'Check that the URL is that of an OTLP receiver over HTTP (not gRPC) that accepts metrics in protobuf.',
  schema_mismatch: '',
};
