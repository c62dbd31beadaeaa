/** What an answer to a remote write or a query means. Pure. */
import {
  type HttpAnswer,
  oneLine,
  type RefuseReason,
  TRUST_ADVICE,
  type Verdict,
  verdictOfStatus,
} from '../../src/sink/index.ts';

/** The wording of Prometheus, Mimir, Thanos and VictoriaMetrics. */
const TOO_OLD = /out[- ]of[- ]order|out of bounds|too old|too far behind/i;
const NO_HISTOGRAMS = /native histograms are disabled/i;
const OTHER_VALUE = /duplicate sample|new-value-for-timestamp/i;

/** `unfit`: some samples are refused for good. Prometheus then took none; other receivers may have taken the rest. */
export function classifyAnswer(answer: HttpAnswer): Verdict {
  const { status, headers, body } = answer;
  const message = messageOf(answer);
  if (status >= 200 && status < 300) {
    const isPage = body.length > 0 && (headers['content-type'] ?? '').startsWith('text/html');
    return isPage ? { kind: 'retry', reason: 'unknown', message } : { kind: 'written' };
  }
  // Prometheus answers 500 to samples that are older than its out-of-order window.
  if (isAboutAge(status, message)) return { kind: 'unfit', reason: 'out_of_retention', message };
  // Prometheus answers 500, as if it were ill.
  if (NO_HISTOGRAMS.test(message)) return { kind: 'refused', reason: 'bad_request', message };
  return verdictOfStatus(answer, message);
}

function isAboutAge(status: number, message: string): boolean {
  return TOO_OLD.test(message) && (status === 400 || status === 409 || status === 422 || status === 500);
}

/** Whether the store holds another value under the key. */
export function isOtherValue(message: string): boolean {
  return OTHER_VALUE.test(message);
}

/** Whether the message is clearly about samples, so that the request itself must be fine. */
export function namesSamples(message: string): boolean {
  return TOO_OLD.test(message) || isOtherValue(message);
}

export function messageOf({ status, body }: Pick<HttpAnswer, 'status' | 'body'>): string {
  return `${status}: ${oneLine(body.toString())}`;
}

export const ADVICE: Readonly<Record<RefuseReason, string>> = {
  unauthorized: 'Check the credentials in HEADERS, and that they are allowed to write and query.',
  untrusted: TRUST_ADVICE,
  not_found:
    'Check the URL, and that the server accepts remote writes: Prometheus does with --web.enable-remote-write-receiver.',
  bad_request:
    'Check that the URL is that of a remote write 1.0 receiver, and with HISTOGRAMS=true that it takes native histograms: Prometheus may need --enable-feature=native-histograms.',
  schema_mismatch: '',
};
