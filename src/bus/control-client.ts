/** Asks instances over the bus, and hears what comes of their tasks. */

import { Empty, ErrorCode, type Msg, NatsError, RequestStrategy } from 'nats';
import { BusError } from './bus-error.ts';
import type { Bus } from './connect.ts';
import { CONTROL_PREFIX, CONTROL_SERVICE, EVENTS, EVERY_INSTANCE } from './control.ts';

/** After the last instance that told it is there, so long nothing more. */
const PING_JITTER_MS = 300;
const PING_TIMEOUT_MS = 2_000;

/** What an instance says of itself. */
export interface KnownInstance {
  readonly instance: string;
  readonly pipeline: string;
  readonly slice: string;
}

/** Instances of the pipeline that are on the bus, in the order of their names. Rejects with a `BusError`. */
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

/** The answer of one; undefined where it is not there, or does not answer in time. Rejects with a `BusError`. */
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
 * The answers of all, until those that are `expected` have answered, or the time is over. Rejects with a `BusError`.
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
 * Calls back for every task that ends, wherever, from now on. Returns what ends that. Rejects where it is not
 * permitted.
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

/** Until `take` has enough, or the time is over. */
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
      throw new BusError(`the bus does not let us publish on ${subject}`, 'Allow it to the user of NATS_*.');
    throw error;
  }
}

/** Undefined where it is not JSON. */
function parsed(data: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(data).toString());
  } catch {
    return undefined;
  }
}
