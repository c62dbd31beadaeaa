/** The nats-server that the tests run on. docs/nats-servers.md has every version that tests ask for. */
import type { NatsConnection } from 'nats';
import type { TestContext } from 'vitest';
import { isNatsOlder } from '../../src/bus/nats-version.ts';
import { type NatsOptions, natsVersion } from '../../src/servers/nats.ts';

/** Skips the test, with a message, if the installed nats-server is older. */
export function needsNats(context: Pick<TestContext, 'skip'>, version: string): void {
  const have = natsVersion();
  context.skip(isNatsOlder(have, version), `needs nats-server ${version}; this is ${have}`);
}

/** Options of a server that drops no plain publish while so many wait for the stream: 2.11 holds 10,000 by default. */
export function takingPlain(messages: number): NatsOptions {
  return isNatsOlder(natsVersion(), '2.11') ? {} : { jetstreamExtra: `max_buffered_msgs: ${messages}` };
}

const PROBE = 'probe.reply';

/** The reply subjects that the server accepts: some versions refuse a message whose reply is in JetStream's API. */
export async function repliesTaken(
  connection: NatsConnection,
  replies: readonly string[],
): Promise<string[]> {
  const taken: string[] = [];
  const { promise: last, resolve } = Promise.withResolvers<void>();
  const subscription = connection.subscribe(PROBE, {
    callback: (_, { reply = '' }) => (reply === '' ? resolve() : taken.push(reply)),
  });
  for (const reply of replies) connection.publish(PROBE, '', { reply });
  connection.publish(PROBE, '');
  await last;
  subscription.unsubscribe();
  return taken;
}
