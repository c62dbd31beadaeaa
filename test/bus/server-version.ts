/** Which nats-server the tests run on. docs/nats-servers.md has every version that is asked for. */
import type { NatsConnection } from 'nats';
import type { TestContext } from 'vitest';
import { natsVersion } from '../../src/servers/nats.ts';

/** Skips the test, with words, if the nats-server at hand is older. */
export function needsNats(context: Pick<TestContext, 'skip'>, version: string): void {
  const have = natsVersion();
  context.skip(isOlder(have, version), `needs nats-server ${version}; this is ${have}`);
}

/** Such as 2.9.10 than 2.10: what one of them does not say does not count. */
function isOlder(have: string, version: string): boolean {
  const [ours, other] = [have, version].map((text) => text.split('.').map(Number));
  const at = other!.findIndex((number, i) => number !== ours![i]);
  return at >= 0 && ours![at]! < other![at]!;
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
