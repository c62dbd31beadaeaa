/** Tells a URL what came of a task: at least once, signed, to that URL only, and not for ever. */
import { createHmac } from 'node:crypto';
import { backoffMs, type Clock } from '../base/clock.ts';
import { VERSION } from '../base/version.ts';

const ATTEMPTS = 8;
const ATTEMPT_TIMEOUT_MS = 10_000;
/** What is sent holds no more; see `Tasks`. */
export const MAX_CALLBACK_BYTES = 256 * 1024;
/** Statuses that may pass by themselves. */
const RETRIED: readonly number[] = [408, 425, 429];

export const SIGNATURE_HEADER = 'fanout-signature';

export interface Callback {
  readonly url: URL;
  readonly id: string;
  readonly body: string;
}

export interface CallbackOptions {
  /** Signs what is sent, where there is one. */
  readonly secret: string | undefined;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/** What became of it; `error` says why it did not get there. */
export interface CallbackOutcome {
  readonly delivered: boolean;
  readonly attempts: number;
  readonly error?: string;
}

/**
 * `t=<seconds since 1970>,v1=<hex of HMAC-SHA256 over "<t>.<body>">`: with the time in it, what was sent once cannot be
 * sent again much later.
 */
export function sign(body: string, secret: string, nowMs: number): string {
  const t = Math.floor(nowMs / 1000);
  return `t=${t},v1=${createHmac('sha256', secret).update(`${t}.${body}`).digest('hex')}`;
}

/** Never rejects. */
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

/** Undefined where the other side took it. */
async function attemptOnce(
  { url, id, body }: Callback,
  { secret, clock, signal }: CallbackOptions,
): Promise<{ readonly error: string; readonly mayPass: boolean } | undefined> {
  try {
    const response = await fetch(url, {
      method: 'POST',
      body,
      // Where it leads is nobody's list: a redirect is an answer like any other that is not 2xx.
      redirect: 'manual',
      headers: {
        'content-type': 'application/json',
        'user-agent': `metrics-fanout/${VERSION}`,
        'fanout-task': id,
        ...(secret === undefined ? {} : { [SIGNATURE_HEADER]: sign(body, secret, clock.now()) }),
      },
      signal: AbortSignal.any([signal, AbortSignal.timeout(ATTEMPT_TIMEOUT_MS)]),
    });
    // What it says beside the status is not read.
    await response.body?.cancel();
    if (response.ok) return undefined;
    const isRedirect = response.status >= 300 && response.status < 400;
    return {
      error: isRedirect
        ? `it answered with a redirect (${response.status}), which is not followed`
        : `it answered ${response.status}`,
      mayPass: response.status >= 500 || RETRIED.includes(response.status),
    };
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
    return { error: cause instanceof Error ? cause.message : String(cause), mayPass: true };
  }
}
