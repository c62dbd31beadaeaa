/** Which nats-server the tests run on. */
import type { TestContext } from 'vitest';
import { natsVersion } from '../../src/servers/nats.ts';

const numbersOf = (version: string) => version.split('.').map(Number);

/** Skips the test, with words, if the nats-server at hand is older. */
export function needsNats(context: TestContext, version: string): void {
  const have = natsVersion();
  const [major = 0, minor = 0] = numbersOf(version);
  const [haveMajor = 0, haveMinor = 0] = numbersOf(have);
  const isOlder = haveMajor < major || (haveMajor === major && haveMinor < minor);
  context.skip(isOlder, `needs nats-server ${version}; this is ${have}`);
}
