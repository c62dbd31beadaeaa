import type { CoreConfig } from './core-settings.ts';

/** Returns the URL of the service with these settings, for programs on this machine. */
export function localUrl({ httpHost, httpPort }: Pick<CoreConfig, 'httpHost' | 'httpPort'>): string {
  const everywhere: Readonly<Record<string, string>> = { '0.0.0.0': '127.0.0.1', '::': '::1' };
  const host = everywhere[httpHost] ?? httpHost;
  return `http://${host.includes(':') ? `[${host}]` : host}:${httpPort}`;
}
