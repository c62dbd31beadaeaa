/**
 * Control over the bus, as a NATS micro service (ADR-32), visible to `nats micro ls`, `info` and `stats`. Each instance
 * answers on its own subjects, and all instances answer on those of `all`: no queue group divides the requests.
 *
 *     fanout.control.<instance>.<operation>
 *     fanout.control.all.<operation>
 *     fanout.control.events.<task>            published when a task has ended
 */
import type { NatsConnection, Service, ServiceMsg, SubscriptionOptions } from 'nats';
import { VERSION } from '../base/version.ts';
import type { Bus } from './connect.ts';

export const CONTROL_SERVICE = 'metrics-fanout';
export const CONTROL_PREFIX = 'fanout.control';
/** Used in place of an instance: every instance answers. */
export const EVERY_INSTANCE = 'all';
/** The status of an answer that the bus does not take. */
const TOO_LARGE = 413;
export const EVENTS = `${CONTROL_PREFIX}.events`;
const DESCRIPTION = 'aggregates metrics in windows and writes every window to several stores';

/** What `nats micro info` shows in addition to the endpoints. */
export interface ControlIdentity {
  readonly instance: string;
  readonly pipeline: string;
  readonly slice: string;
}

export interface ControlReply {
  /** An HTTP status code. */
  readonly status: number;
  /** JSON. */
  readonly body: string;
}

/** What takes long comes later; everything else at once, in the order of the requests. */
export type MaybeLater<T> = T | Promise<T>;

export interface ControlOptions {
  readonly identity: ControlIdentity;
  /** The operations by name, with a summary of each. */
  readonly operations: Readonly<Record<string, { readonly summary: string }>>;
  /** Must neither throw nor reject. Undefined: no answer is sent. */
  readonly handle: (operation: string, request: Uint8Array) => MaybeLater<ControlReply | undefined>;
  /** What the subject of an answer may begin with; each ends with a dot. */
  readonly replyPrefixes: readonly string[];
  /** Called for each request that is ignored because of the subject of its answer. Synchronous; must not throw. */
  readonly unanswerable: (subject: string, reply: string) => void;
}

export interface ControlService {
  /**
   * Resolves when the service ends: to undefined if the connection was closed, to the error if the bus does not permit
   * a subscription.
   */
  readonly ended: Promise<Error | undefined>;
}

/** Resolves when the server has accepted or refused all subscriptions. */
export async function serveControl(bus: Bus, options: ControlOptions): Promise<ControlService> {
  const { identity, operations } = options;
  const refused = new Map<string, number>();
  const service = await answeringOnly(bus.connection, options).services.add({
    name: CONTROL_SERVICE,
    version: VERSION,
    description: DESCRIPTION,
    // A queue group of one member, because a request for all instances must reach all of them.
    queue: identity.instance,
    metadata: { ...identity },
    statsHandler: async ({ subject }) => ({ refused: refused.get(subject) ?? 0 }),
  });
  for (const target of [identity.instance, EVERY_INSTANCE]) {
    const group = service.addGroup(CONTROL_PREFIX).addGroup(target);
    for (const [operation, { summary }] of Object.entries(operations)) {
      group.addEndpoint(endpointName(operation, target), {
        subject: operation,
        metadata: { summary },
        handler: (error, message) => {
          if (error) return;
          const told = (reply: ControlReply | undefined) => {
            const status = respond(message, reply, identity);
            if (status >= 400) refused.set(message.subject, (refused.get(message.subject) ?? 0) + 1);
          };
          const reply = options.handle(operation, message.data);
          if (reply instanceof Promise) void reply.then(told);
          else told(reply);
        },
      });
    }
  }
  await bus.flush();
  return { ended: endOf(service) };
}

/**
 * Returns the connection that the micro-service framework uses. The server sends an answer to whatever subject the
 * request names: a key of the bucket, a stream's subject, a metric. So requests that name no inbox of the operator's
 * list are ignored before anything sees them, including PING, INFO and STATS, which the framework answers.
 */
function answeringOnly(
  connection: NatsConnection,
  { replyPrefixes, unanswerable }: Pick<ControlOptions, 'replyPrefixes' | 'unanswerable'>,
): NatsConnection {
  const subscribe = (subject: string, options: SubscriptionOptions = {}) =>
    connection.subscribe(subject, {
      ...options,
      callback: (error, message) => {
        if (error === null && !isInbox(message.reply ?? '', replyPrefixes))
          unanswerable(message.subject, message.reply ?? '');
        else options.callback?.(error, message);
      },
    });
  // `_services` is where the client keeps its framework, which must subscribe through this object and no other.
  return Object.create(connection, {
    subscribe: { value: subscribe },
    _services: { value: undefined, writable: true },
  });
}

/** Whether a prefix and at least one more token make up the subject, as in `_INBOX.>`. */
export function isInbox(subject: string, prefixes: readonly string[]): boolean {
  const isWhole = subject.split('.').every((token) => /^[^\s*>]+$/.test(token));
  return isWhole && prefixes.some((prefix) => subject.startsWith(prefix));
}

/** Endpoint names must not contain dots. */
function endpointName(operation: string, target: string): string {
  const name = operation.replaceAll('.', '-');
  return target === EVERY_INSTANCE ? `${name}-all` : name;
}

/** Returns the status of the answer; 0 if there is none. */
function respond(
  message: ServiceMsg,
  reply: ControlReply | undefined,
  { instance, pipeline }: ControlIdentity,
): number {
  if (reply === undefined) return 0;
  const { status, body } = reply;
  const bytes = Buffer.from(body);
  try {
    try {
      if (status < 400) message.respond(bytes);
      else message.respondError(status, codeOf(body), bytes);
      return status;
    } catch {
      // An answer like any other, so that whoever asked learns what to do.
      const error = {
        code: 'too_large',
        message: `the answer has ${bytes.length} bytes, which is more than the bus takes (max_payload of nats-server): ask for less, or over HTTP`,
      };
      const told = Buffer.from(JSON.stringify({ instance, pipeline, ok: false, error }));
      message.respondError(TOO_LARGE, error.code, told);
      return TOO_LARGE;
    }
  } catch {
    // The connection has just been closed: nobody can be told anything.
    return 0;
  }
}

function codeOf(body: string): string {
  const { error } = JSON.parse(body) as { error?: { code?: string } };
  return error?.code ?? 'failed';
}

async function endOf(service: Service): Promise<Error | undefined> {
  return (await service.stopped) ?? undefined;
}
