/** The nats-server that the tests run on. docs/nats-servers.md has every version that tests ask for. */
import type { NatsConnection } from 'nats';
import type { TestContext } from 'vitest';
import { natsVersion } from '../../src/servers/nats.ts';

/** Skips the test, with a message, if the installed nats-server is older. */
export function needsNats(context: Pick<TestContext, 'skip'>, version: string): void {
  const have = natsVersion();
  context.skip(isOlder(have, version), `needs nats-server ${version}; this is ${have}`);
}

/** For example, 2.9.10 is older than 2.10. Only the parts that both versions have are compared. */
function isOlder(have: string, version: string): boolean {
  const [ours, other] = [have, version].map((text) => text.split('.').map(Number));
  const at = other!.findIndex((number, i) => number !== ours![i]);
  return at >= 0 && ours![at]! < other![at]!;
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
