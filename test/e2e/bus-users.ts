/** A bus with the users of examples/nats/metrics-fanout.conf. */
import { readFileSync } from 'node:fs';
import { setImmediate as told } from 'node:timers/promises';
import type { NatsConnection } from 'nats';
import { type NatsOptions, type NatsServer, startNats } from '../../src/servers/nats.ts';
import { connect } from '../bus-client.ts';

const EXAMPLE = new URL('../../examples/nats/metrics-fanout.conf', import.meta.url);
const USERS = ['producer', 'apps', 'fanout', 'setup', 'operator', 'viewer'] as const;
export type User = (typeof USERS)[number];

type Bus = Pick<NatsServer, 'url'>;

/** Reply subjects that a user may choose, to have something done that it may not do itself. */
export const ELSEWHERE = [
  '$KV.fanout-checkpoints.scratch.a.0-1',
  'scratch',
  'fanout.rejected.scratch',
  'metrics.scratch',
  'fanout.control.all.detach',
  '$JS.API.STREAM.PURGE.METRICS',
  '$JS.API.STREAM.DELETE.SCRATCH',
] as const;
/** A stream that nobody uses, which captures some of these subjects. */
export const SCRATCH = { name: 'SCRATCH', subjects: ['scratch', 'fanout.rejected.scratch'] };

export const passwordOf = (user: User) => `password-of-${user}`;
const inboxPrefixOf = (user: User) => `_INBOX.${user}`;

/** `change` is applied to the example. */
export async function startExampleBus(
  change = (text: string) => text,
  options: NatsOptions = {},
): Promise<NatsServer> {
  for (const user of USERS) process.env[`${user.toUpperCase()}_PASSWORD`] = passwordOf(user);
  return await startNats({ ...options, extra: change(readFileSync(EXAMPLE, 'utf8')) });
}

/** Settings for the program to sign in as a user. */
export function as(user: User, { url }: Bus): Record<string, string> {
  return {
    NATS_URL: url,
    NATS_USER: user,
    NATS_PASSWORD: passwordOf(user),
    NATS_INBOX_PREFIX: inboxPrefixOf(user),
  };
}

/** A raw client, free to try what its user may not do. */
export class Client {
  readonly connection: NatsConnection;
  /** What the server refused, for example `publish orders`. */
  readonly refused: ReadonlySet<string>;
  readonly #refused = new Set<string>();

  private constructor(connection: NatsConnection) {
    this.connection = connection;
    this.refused = this.#refused;
    void this.#watch();
  }

  static async connect(user: User, { url }: Bus): Promise<Client> {
    const inboxPrefix = inboxPrefixOf(user);
    return new Client(await connect({ servers: url, user, pass: passwordOf(user), inboxPrefix }));
  }

  async #watch(): Promise<void> {
    for await (const { permissionContext } of this.connection.status()) {
      if (permissionContext) this.#refused.add(`${permissionContext.operation} ${permissionContext.subject}`);
    }
  }

  /** Returns the subjects to which the server lets us publish. */
  async publishes(subjects: readonly string[], payload = '{}'): Promise<string[]> {
    for (const subject of subjects) this.connection.publish(subject, payload);
    return await this.#notRefused('publish', subjects);
  }

  /** Returns the subjects to which the server lets us subscribe. */
  async subscribes(subjects: readonly string[]): Promise<string[]> {
    for (const subject of subjects) this.connection.subscribe(subject, { callback: () => {} });
    return await this.#notRefused('subscription', subjects);
  }

  async #notRefused(operation: string, subjects: readonly string[]): Promise<string[]> {
    await this.connection.flush();
    // The refusals have arrived, and are reported in the next turn.
    await told();
    return subjects.filter((subject) => !this.#refused.has(`${operation} ${subject}`));
  }
}
