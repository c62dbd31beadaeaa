/**
 * Where JetStream's API is: on the server itself, in a domain that is reached through leaf nodes, or in another account
 * whose API ours imports under a prefix. Whatever asks the API gets its subjects and options here.
 */
import type { JetStreamOptions, NatsConnection } from 'nats';
import type { CoreConfig } from '../config/core-settings.ts';

/** How long a request to JetStream's API may take. */
export const API_TIMEOUT_MS = 5_000;
/** Of the server that we are connected to. */
const OWN_API = '$JS.API';

/** What a connection knows of it. */
interface ApiUser {
  readonly apiPrefix: string;
  readonly connection: Pick<NatsConnection, 'info'>;
}

/** Returns how the subjects of the API begin. */
export function apiPrefixOf({
  natsJetstreamDomain: domain,
  natsJetstreamApiPrefix: prefix,
}: Pick<CoreConfig, 'natsJetstreamDomain' | 'natsJetstreamApiPrefix'>): string {
  return prefix ?? (domain === undefined ? OWN_API : `$JS.${domain}.API`);
}

/** Returns the subject of a request, such as CONSUMER.DELETE for a stream and a consumer. */
export function apiSubject({ apiPrefix }: ApiUser, request: string, ...names: readonly string[]): string {
  return [apiPrefix, request, ...names].join('.');
}

/** Returns words for where it is; empty if it is on a server that is in no domain. */
export function placeOfApi({ apiPrefix, connection }: ApiUser): string {
  if (apiPrefix !== OWN_API) return `JetStream under ${apiPrefix}`;
  const { domain } = (connection.info ?? {}) as { readonly domain?: string };
  return domain === undefined ? '' : `JetStream domain ${domain}`;
}

/** For the client's own JetStream. It is not asked whether there is any: permissions may forbid that. */
export function jetStreamOptions({ apiPrefix }: ApiUser): JetStreamOptions & { readonly checkAPI: false } {
  return { apiPrefix, timeout: API_TIMEOUT_MS, checkAPI: false };
}
