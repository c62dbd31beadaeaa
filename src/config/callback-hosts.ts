/** Where callbacks may go. Pure. */

/** Origins as URLs have them: scheme, host and port, the scheme's own port left out. */
export type CallbackHosts = ReadonlySet<string>;

/** `host`, `host:port`, or `http://host[:port]` for one that is spoken to without TLS; undefined where one is none. */
export function parseCallbackHosts(list: string): CallbackHosts | undefined {
  const origins = list.split(',').map((text) => originOf(text.trim()));
  return origins.includes(undefined) ? undefined : new Set(origins as string[]);
}

function originOf(text: string): string | undefined {
  const isPlain = text.startsWith('http://');
  const host = isPlain ? text.slice('http://'.length) : text;
  if (!/^(\[[0-9A-Fa-f:.]+\]|[^\s/?#@:[\]*\\]+)(:\d+)?$/.test(host)) return undefined;
  const url = `${isPlain ? 'http' : 'https'}://${host}`;
  return URL.canParse(url) ? new URL(url).origin : undefined;
}
