/** The hosts to which callbacks may go. Pure. */

/** Origins as in a URL: scheme, host and port, without the scheme's default port. */
export type CallbackHosts = ReadonlySet<string>;

/** Parses `host`, `host:port`, or `http://host[:port]` for a host without TLS; undefined if any of them is invalid. */
export function parseCallbackHosts(list: string): CallbackHosts | undefined {
  const origins = list.split(',').map((text) => originOf(text.trim()));
  return origins.includes(undefined) ? undefined : new Set(origins as string[]);
}

function originOf(text: string): string | undefined {
  const isPlain = URL.canParse(text) && new URL(text).protocol === 'http:';
  const host = isPlain ? text.slice(text.indexOf('//') + 2) : text;
  if (!/^(\[[0-9A-Fa-f:.]+\]|[^\s/?#@:[\]*\\]+)(:\d+)?$/.test(host)) return undefined;
  const url = `${isPlain ? 'http' : 'https'}://${host}`;
  return URL.canParse(url) ? new URL(url).origin : undefined;
}
