import { isEveryAddress } from '../base/every-address.ts';
import type { CoreConfig } from './core-settings.ts';

/** Returns the URL of the service with these settings, for programs on this machine. */
export function localUrl({ httpHost, httpPort }: Pick<CoreConfig, 'httpHost' | 'httpPort'>): string {
  // A socket of every address has those of IPv4, whether or not there is IPv6.
  const host = isEveryAddress(httpHost) ? '127.0.0.1' : httpHost;
  return `http://${host.includes(':') ? `[${host}]` : host}:${httpPort}`;
}
