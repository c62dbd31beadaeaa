/** Sends requests to instances over the bus, and listens for the results of their tasks. */

import { Empty, ErrorCode, type Msg, NatsError, RequestStrategy } from 'nats';
import { BusError } from './bus-error.ts';
import type { Bus } from './connect.ts';
import { CONTROL_PREFIX, CONTROL_SERVICE, EVENTS, EVERY_INSTANCE } from './control.ts';

/** The ping ends when no further instance has answered for this long. */
const PING_JITTER_MS = 300;
const PING_TIMEOUT_MS = 2_000;

/** What an instance says about itself. */
export interface KnownInstance {
  readonly instance: string;
  readonly pipeline: string;
  readonly slice: string;
}

/** Resolves to the pipeline's instances that are on the bus, sorted by name. Rejects with a `BusError`. */
export async function instancesOnBus(bus: Bus, pipeline: string): Promise<KnownInstance[]> {
  const found: KnownInstance[] = [];
  const options = { strategy: RequestStrategy.JitterTimer, jitter: PING_JITTER_MS, maxWait: PING_TIMEOUT_MS };
  await gather(bus, `$SRV.PING.${CONTROL_SERVICE}`, Empty, options, ({ data }) => {
    const { metadata } = (parsed(data) ?? {}) as { metadata?: Partial<KnownInstance> };
    const { instance, slice = '' } = metadata ?? {};
    if (instance !== undefined && metadata?.pipeline === pipeline) found.push({ instance, pipeline, slice });
    return false;
  });
  return found.sort((a, b) => (a.instance < b.instance ? -1 : 1));
}

/**
 * Resolves to the answer of one instance; undefined if it is not there or does not answer in time. Rejects with a
 * `BusError`.
 */
export async function askInstance(
  bus: Bus,
  instance: string,
  operation: string,
  request: string,
  timeoutMs: number,
): Promise<unknown> {
  let answer: unknown;
  const options = { strategy: RequestStrategy.Timer, maxWait: timeoutMs };
  await gather(bus, `${CONTROL_PREFIX}.${instance}.${operation}`, request, options, ({ data }) => {
    answer = parsed(data);
    return true;
  });
  return answer;
}

/**
 * Resolves to the answers of all instances, once all `expected` instances have answered or the time is up. Rejects with
 * a `BusError`.
 */
export async function askAll(
  bus: Bus,
  operation: string,
  request: string,
  expected: readonly string[],
  timeoutMs: number,
): Promise<unknown[]> {
  const missing = new Set(expected);
  const answers: unknown[] = [];
  const options = { strategy: RequestStrategy.Timer, maxWait: timeoutMs };
  const subject = `${CONTROL_PREFIX}.${EVERY_INSTANCE}.${operation}`;
  await gather(bus, subject, request, options, ({ data }) => {
    const answer = parsed(data);
    answers.push(answer);
    missing.delete(String((answer as { instance?: unknown } | undefined)?.instance));
    return missing.size === 0;
  });
  return answers;
}

/**
 * Calls `onEnd` for every task that ends from now on, in any instance. Resolves to a function that stops this. Rejects
 * if the bus does not permit it.
 */
export async function hearTasks(bus: Bus, onEnd: (report: unknown) => void): Promise<() => Promise<void>> {
  let refusal: BusError | undefined;
  const end = bus.subscribe(`${EVENTS}.*`, ({ data }) => onEnd(parsed(data)), {
    onRefused: (error) => {
      refusal = error;
    },
  });
  await bus.flush();
  if (refusal !== undefined) throw refusal;
  return end;
}

/** Passes the answers to `take` until it has enough or the time is up. */
async function gather(
  bus: Bus,
  subject: string,
  request: string | Uint8Array,
  options: { readonly strategy: RequestStrategy; readonly maxWait: number; readonly jitter?: number },
  take: (message: Msg) => boolean,
): Promise<void> {
  try {
    for await (const message of await bus.connection.requestMany(subject, request, options)) {
      if (take(message)) return;
    }
  } catch (error) {
    const code = error instanceof NatsError ? error.code : '';
    if (code === ErrorCode.NoResponders || code === ErrorCode.Timeout) return;
    if (code === ErrorCode.PermissionsViolation)
      throw new BusError(
        `the bus does not permit us to publish on ${subject}`,
        'Allow it for the user set by NATS_*.',
      );
    throw error;
  }
}

/** Returns undefined if it is not JSON. */
function parsed(data: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(data).toString());
  } catch {
    return undefined;
  }
}
