/** HTTP for sinks: each has its own connections, answers are bounded, and only the caller's signal limits the time. */
import type { Agent, IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { setImmediate } from 'node:timers/promises';
import { makeAgent } from '../base/http-agent.ts';
import { openRequest } from '../base/http-client.ts';
import type { RetryReason } from './contract.ts';
import type { Verdict } from './partial-writes.ts';

export interface HttpAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

export interface HttpRequest {
  /** Default: `POST`. */
  readonly method?: 'GET' | 'POST';
  readonly body: string | Uint8Array;
  readonly headers?: Readonly<Record<string, string>>;
  /** An answer with a longer body is an error. */
  readonly maxAnswerBytes?: number;
}

const MAX_ANSWER_BYTES = 1_048_576;
const MAX_MESSAGE_CHARACTERS = 300;

/** One server, over keep-alive connections that last until `close`. Redirects are answers like any other. */
export class HttpServer {
  readonly #url: URL;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #sockets: number;
  #agent: Agent | undefined;

  /** `headers` go with every request; `sockets` is how many requests may be under way at once. */
  constructor(url: string, headers: Readonly<Record<string, string>>, sockets: number) {
    this.#url = new URL(url);
    this.#headers = headers;
    this.#sockets = sockets;
  }

  /** Resolves to the answer, whatever its status; rejects if there is no answer. `target`: path and query. */
  async post(target: string, request: HttpRequest, signal: AbortSignal): Promise<HttpAnswer> {
    const { status, headers, body } = await this.stream(target, request, signal);
    const chunks: Uint8Array[] = [];
    let bytes = 0;
    for await (const chunk of body) {
      bytes += chunk.length;
      if (bytes > (request.maxAnswerBytes ?? MAX_ANSWER_BYTES)) {
        throw new Error(`the answer is longer than ${request.maxAnswerBytes ?? MAX_ANSWER_BYTES} bytes`);
      }
      chunks.push(chunk);
    }
    return { status, headers, body: Buffer.concat(chunks) };
  }

  /** Like `post`, but yields the body as it arrives. Leaving the loop early ends the connection. */
  async stream(
    target: string,
    request: HttpRequest,
    signal: AbortSignal,
  ): Promise<Pick<HttpAnswer, 'status' | 'headers'> & { readonly body: AsyncIterable<Uint8Array> }> {
    signal.throwIfAborted();
    const answer = await this.#send(target, request, signal);
    return { status: answer.statusCode ?? 0, headers: answer.headers, body: answer };
  }

  #send(
    target: string,
    { method = 'POST', body, headers }: HttpRequest,
    signal: AbortSignal,
  ): Promise<IncomingMessage> {
    this.#agent ??= makeAgent(this.#url.protocol, this.#sockets);
    const requested = {
      method,
      // Not resolved against the URL: a target that begins with two slashes would name another host.
      path: target,
      agent: this.#agent,
      signal,
      headers: { ...this.#headers, ...headers, 'content-length': Buffer.byteLength(body) },
    };
    return onLiveConnection(() => openRequest(this.#url, requested, body), signal);
  }

  close(): void {
    this.#agent?.destroy();
    this.#agent = undefined;
  }
}

/** How often a request is sent before a connection that breaks counts as a failure. */
const MAX_CONNECTIONS_TRIED = 3;
const BROKEN_CONNECTION = new Set(['ECONNRESET', 'EPIPE']);

/**
 * Sends a request again if its connection breaks before `send` has its answer. A server ends connections that nobody
 * uses, and may do so at the moment when one is used again: then it has not seen the request (RFC 9112, 9.3.1).
 * Whatever sinks send may be sent twice.
 */
export async function onLiveConnection<T>(send: () => Promise<T>, signal?: AbortSignal): Promise<T> {
  for (let tried = 1; ; tried++) {
    try {
      return await send();
    } catch (error) {
      const isBroken = error instanceof Error && 'code' in error && BROKEN_CONNECTION.has(String(error.code));
      if (!isBroken || signal?.aborted || tried === MAX_CONNECTIONS_TRIED) throw error;
      // The others that the server has ended are noticed meanwhile.
      await setImmediate();
    }
  }
}

/** The codes by which OpenSSL and Node.js report a certificate that we cannot accept. */
const BAD_CERTIFICATE =
  /^(CERT_|DEPTH_ZERO_|ERR_TLS_CERT_|HOSTNAME_|INVALID_CA|SELF_SIGNED_|UNABLE_TO_|UNSPECIFIED$)/;

export const TRUST_ADVICE =
  "Set NODE_EXTRA_CA_CERTS to a PEM file of the authority that signed the server's certificate, and name the server as the certificate does.";

/** Whether the connection failed because of the server's certificate. */
export function isUntrusted(error: unknown): boolean {
  return error instanceof Error && 'code' in error && BAD_CERTIFICATE.test(String(error.code));
}

/** The words of OpenSSL for an answer that is none of TLS, with a line of its source. */
const NO_TLS = /wrong version number|packet length too long/;

/** Classifies the error of a request that got no answer. */
export function transportFailure(
  error: unknown,
  signal: AbortSignal,
):
  | { readonly kind: 'retry'; readonly reason: RetryReason; readonly message: string }
  | { readonly kind: 'refused'; readonly reason: 'untrusted'; readonly message: string } {
  if (signal.aborted) return { kind: 'retry', reason: 'timeout', message: 'no answer in time' };
  // An AggregateError, for a host with several addresses, has no message of its own.
  const first = error instanceof AggregateError && error.message === '' ? error.errors[0] : error;
  const said = first instanceof Error ? oneLine(first.message) : 'unknown error';
  const message = NO_TLS.test(said)
    ? 'the store does not speak TLS at this address: use http:// instead of https://, or its port for TLS'
    : said;
  if (isUntrusted(first)) return { kind: 'refused', reason: 'untrusted', message };
  const isLost = first instanceof Error && 'code' in first;
  return { kind: 'retry', reason: isLost ? 'connection' : 'unknown', message };
}

/** Classifies an answer other than a success by its status, for a store that says nothing more specific. */
export function verdictOfStatus(
  { status, headers }: Pick<HttpAnswer, 'status' | 'headers'>,
  message: string,
): Exclude<Verdict, { kind: 'written' }> {
  const afterMs = retryAfter(headers);
  const retry = (reason: RetryReason) => ({
    kind: 'retry' as const,
    reason,
    message,
    ...(afterMs === undefined ? {} : { afterMs }),
  });
  if (status === 400 || status === 422) return { kind: 'unfit', reason: 'refused', message };
  if (status === 401 || status === 403) return { kind: 'refused', reason: 'unauthorized', message };
  if (status === 404) return { kind: 'refused', reason: 'not_found', message };
  if (status === 408) return retry('timeout');
  if (status === 413) return { kind: 'unfit', reason: 'too_large', message };
  if (status === 429 || status === 503) return retry('throttled');
  if (status >= 500) return retry('server_error');
  return { kind: 'refused', reason: 'bad_request', message };
}

/** Returns how long the server asks us to wait, in milliseconds. Its header holds seconds or a date. */
export function retryAfter(headers: IncomingHttpHeaders): number | undefined {
  const text = headers['retry-after'] ?? '';
  if (/^\d+$/.test(text)) return Number(text) * 1000;
  const until = Date.parse(text);
  return Number.isNaN(until) ? undefined : Math.max(0, until - Date.now());
}

/** Returns what a server said on one line, short enough for a log. */
export function oneLine(text: string): string {
  return text.replace(/\s+/g, ' ').trim().slice(0, MAX_MESSAGE_CHARACTERS);
}
