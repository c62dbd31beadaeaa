/** Which callbacks are called. Pure. */
import type { CallbackHosts } from '../config/callback-hosts.ts';
import { Refusal } from './refusal.ts';

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
