/** Which nats-server the tests run on. docs/nats-servers.md has every version that is asked for. */
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
