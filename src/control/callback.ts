/** Reports the end of a task to a URL: at least once, signed, to that URL only, with a limited number of attempts. */
import { createHmac } from 'node:crypto';
import { backoffMs, type Clock } from '../base/clock.ts';
import { makeAgent } from '../base/http-agent.ts';
import { openRequest } from '../base/http-client.ts';
import { VERSION } from '../base/version.ts';

const ATTEMPTS = 8;
const ATTEMPT_TIMEOUT_MS = 10_000;
/** The limit of a callback's body. `Tasks` enforces it. */
export const MAX_CALLBACK_BYTES = 256 * 1024;
/** Statuses below 500 that may pass without help. */
const RETRIED: readonly number[] = [408, 425, 429];

export const SIGNATURE_HEADER = 'fanout-signature';

export interface Callback {
  readonly url: URL;
  readonly id: string;
  readonly body: string;
}

export interface CallbackOptions {
  /** Signs the callback, if present. */
  readonly secret: string | undefined;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/** `error` says why the callback was not delivered. */
export interface CallbackOutcome {
  readonly delivered: boolean;
  readonly attempts: number;
  readonly error?: string;
}

/**
 * Returns `t=<seconds since 1970>,v1=<hex of HMAC-SHA256 over "<t>.<body>">`. The signed time lets the receiver refuse
 * a callback that somebody sends again much later.
 */
export function sign(body: string, secret: string, nowMs: number): string {
  const t = Math.floor(nowMs / 1000);
  return `t=${t},v1=${createHmac('sha256', secret).update(`${t}.${body}`).digest('hex')}`;
}

/** Delivers the callback. Never rejects. */
export async function deliver(callback: Callback, options: CallbackOptions): Promise<CallbackOutcome> {
  const { clock, signal } = options;
  let error = '';
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    const tried = await attemptOnce(callback, options);
    if (tried === undefined) return { delivered: true, attempts: attempt };
    error = tried.error;
    if (!tried.mayPass || signal.aborted) return { delivered: false, attempts: attempt, error };
    if (attempt < ATTEMPTS) await clock.sleep(backoffMs(attempt + 2, clock.random()), signal);
  }
  return { delivered: false, attempts: ATTEMPTS, error };
}

/** Returns undefined if the other side accepted the callback. */
async function attemptOnce(
  { url, id, body }: Callback,
  { secret, clock, signal }: CallbackOptions,
): Promise<{ readonly error: string; readonly mayPass: boolean } | undefined> {
  const agent = makeAgent(url.protocol, 1);
  try {
    const requested = {
      method: 'POST',
      agent,
      headers: {
        'content-length': Buffer.byteLength(body),
        'content-type': 'application/json',
        'user-agent': `metrics-fanout/${VERSION}`,
        'fanout-task': id,
        ...(secret === undefined ? {} : { [SIGNATURE_HEADER]: sign(body, secret, clock.now()) }),
      },
      signal: AbortSignal.any([signal, AbortSignal.timeout(ATTEMPT_TIMEOUT_MS)]),
    };
    const { statusCode: status = 0 } = await openRequest(url, requested, body);
    if (status >= 200 && status < 300) return undefined;
    // The target of a redirect is on no list of allowed hosts, so a redirect counts as a failure.
    const isRedirect = status >= 300 && status < 400;
    return {
      error: isRedirect
        ? `it answered with a redirect (${status}), which is not followed`
        : `it answered ${status}`,
      mayPass: status >= 500 || RETRIED.includes(status),
    };
  } catch (error) {
    const { message } =
      error instanceof Error && error.cause instanceof Error ? error.cause : (error as Error);
    return { error: message, mayPass: true };
  } finally {
    // Only the status of the answer is read.
    agent.destroy();
  }
}
