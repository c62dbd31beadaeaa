/** Where callbacks may go. Pure. */
import { Refusal } from '../control/refusal.ts';

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

/** The URL that is called, and nothing but that one. Throws a `Refusal` where it is none of the hosts'. */
export function checkCallback(text: string, hosts: CallbackHosts): URL {
  const url = new URL(text);
  if (url.username !== '' || url.password !== '')
    throw new Refusal('callback_refused', 'a callback must not hold a user or a password', 'callback');
  if (hosts.has(url.origin)) return url;
  const what =
    url.protocol === 'https:' || url.protocol === 'http:' ? `${url.origin} is not among them` : 'not HTTP';
  throw new Refusal(
    'callback_refused',
    `callbacks go to the hosts of CONTROL_CALLBACK_HOSTS only: ${what}`,
    'callback',
  );
}
