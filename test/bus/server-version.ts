/** Which nats-server the tests run on. docs/nats-servers.md has every version that is asked for. */
import type { NatsConnection } from 'nats';
import type { TestContext } from 'vitest';
import { isNatsOlder } from '../../src/bus/nats-version.ts';
import { natsVersion } from '../../src/servers/nats.ts';

/** Skips the test, with words, if the nats-server at hand is older. */
export function needsNats(context: Pick<TestContext, 'skip'>, version: string): void {
  const have = natsVersion();
  context.skip(isNatsOlder(have, version), `needs nats-server ${version}; this is ${have}`);
}

const PROBE = 'probe.reply';

/** Those of the subjects to which the server lets an answer go: some refuse a message that names JetStream's API. */
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
