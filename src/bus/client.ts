/**
 * The NATS client, with names resolved as the system resolves them: hosts file, DNS and whatever else it is set up to
 * ask. The client by itself asks DNS alone, and waits for its answer before it looks into the hosts file.
 *
 * Names are looked up again at every connection. The client tries all addresses of a name, one after the other.
 */
import { lookup } from 'node:dns/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ConnectionOptions, NatsConnection } from 'nats';
import { NatsConnectionImpl, setTransportFactory } from 'nats/lib/nats-base-client/internal_mod.js';
import { DirectTransport } from './transport.ts';

/** How long looking up a name may take. The system's own limits may be longer, if DNS does not answer. */
const LOOKUP_TIMEOUT_MS = 5_000;
/** The error code of a name for which no address was found in that time. */
export const NAME_TIMEOUT = 'NAME_TIMEOUT';

/** Resolves to the addresses of a name, best first. Rejects if there is none. */
export type Resolve = (name: string) => Promise<readonly string[]>;

/** Connects. `resolve` is for tests; it also serves all other connections from then on. */
export function connectClient(
  options: ConnectionOptions,
  resolve: Resolve = systemAddresses,
): Promise<NatsConnection> {
  setTransportFactory({
    factory: () => new DirectTransport(),
    dnsResolveFn: async (name) => [...(await Promise.race([resolve(name), tooLate(name)]))],
  });
  return NatsConnectionImpl.connect(options);
}

async function systemAddresses(name: string): Promise<readonly string[]> {
  return (await lookup(name, { all: true })).map(({ address }) => address);
}

async function tooLate(name: string): Promise<never> {
  await sleep(LOOKUP_TIMEOUT_MS, undefined, { ref: false });
  const message = `no address of ${name} within ${LOOKUP_TIMEOUT_MS} ms`;
  throw Object.assign(new Error(message), { code: NAME_TIMEOUT });
}
