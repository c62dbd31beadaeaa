/** Which bus is meant: the servers of NATS_URL, without secrets, and whether two such lists mean the same one. Pure. */
import { MASK, maskUrl } from '../settings/url-secrets.ts';

const DEFAULT_PORT = '4222';
/** What one machine calls itself. */
const ITSELF: readonly string[] = ['localhost', '[::1]'];

/** Returns the URLs as set, without user, password and token. */
export function shownBusUrls(natsUrl: readonly string[]): string[] {
  return natsUrl.map((server) => maskUrl(withScheme(server.trim())) ?? MASK);
}

/** Whether they have a server in common: the servers of a cluster need not all be listed. */
export function meanSameBus(some: readonly string[], others: readonly string[]): boolean {
  const known = new Set(some.map(addressOf));
  return others.some((url) => known.has(addressOf(url)));
}

export function withScheme(server: string): string {
  return server.includes('://') ? server : `nats://${server}`;
}

function addressOf(server: string): string {
  const url = withScheme(server);
  if (!URL.canParse(url)) return url;
  const { hostname, port } = new URL(url);
  const host = hostname.toLowerCase();
  return `${ITSELF.includes(host) ? '127.0.0.1' : host}:${port || DEFAULT_PORT}`;
}
