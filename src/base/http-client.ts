/** HTTP to our own service on any port: `fetch` refuses some that HTTP_PORT may name, such as 6000 and 10080. */
import type { IncomingMessage, RequestOptions } from 'node:http';
import { text } from 'node:stream/consumers';
import { http, loadHttps } from './node-http.ts';

export interface Asking {
  readonly method?: 'GET' | 'POST';
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  /** Of a Unix socket, to which the request goes instead of the URL's host. */
  readonly socketPath?: string | undefined;
  readonly signal: AbortSignal;
}

export interface HttpText {
  readonly status: number;
  readonly text: string;
}

/** Resolves to the answer, its body unread; rejects if there is no answer. Redirects are answers like any other. */
export function openRequest(
  url: string | URL,
  options: RequestOptions,
  body?: string | Uint8Array,
): Promise<IncomingMessage> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const { request } = new URL(url).protocol === 'https:' ? loadHttps() : http;
  const outgoing = request(url, options);
  outgoing.on('response', resolve);
  // Once there is an answer, reading its body reports the error.
  outgoing.on('error', reject);
  outgoing.end(body);
  return promise;
}

const NOT_OURS = 'what answers there is not metrics-fanout';

/** Why there is no answer of ours, in words: `error` is that of `ask`, or of reading the answer as JSON. */
export function silenceReason(error: unknown, timeoutMs: number): string {
  if (error instanceof SyntaxError) return NOT_OURS;
  if (!(error instanceof Error)) return String(error);
  if (error.name === 'TimeoutError') return `no answer within ${timeoutMs / 1000} s`;
  const { code, message } = error as NodeJS.ErrnoException;
  if (typeof code !== 'string') return message;
  // Of the parser of HTTP: another protocol, such as that of NATS.
  return code.startsWith('HPE_') ? NOT_OURS : code;
}

/**
 * Resolves to the answer. Redirects are answers like any other. Rejects if there is no answer: with the signal's
 * reason if the signal aborts.
 */
export async function ask(
  url: string,
  { method = 'GET', headers = {}, body, socketPath, signal }: Asking,
): Promise<HttpText> {
  try {
    const answer = await openRequest(url, { method, headers, socketPath, signal, agent: false }, body);
    return { status: answer.statusCode ?? 0, text: await text(answer) };
  } catch (error) {
    throw signal.aborted ? signal.reason : error;
  }
}
