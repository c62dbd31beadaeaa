/** The names by which the HTTP port may be addressed, besides its own. Pure. */
import { isIP } from 'node:net';

const NAME = /^[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*$/;

/** Parses names and addresses, without ports; returns them in lower case, or undefined if any of them is invalid. */
export function parseAllowedHosts(list: string): ReadonlySet<string> | undefined {
  const names = list.split(',').map((name) => name.trim().toLowerCase());
  return names.every((name) => NAME.test(name) || isIP(name) !== 0) ? new Set(names) : undefined;
}
