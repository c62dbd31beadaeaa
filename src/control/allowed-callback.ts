/** Decides which callbacks are allowed. Pure. */
import type { CallbackHosts } from '../config/callback-hosts.ts';
import { Refusal } from './refusal.ts';

/** Returns the only URL that is called. Throws a `Refusal` if it belongs to none of the hosts. */
export function checkCallback(text: string, hosts: CallbackHosts): URL {
  const url = new URL(text);
  if (url.username !== '' || url.password !== '')
    throw new Refusal('callback_refused', 'a callback must not contain a user or a password', 'callback');
  // The origin alone does not say it: that of blob:https://host/ is https://host.
  const isHttp = url.protocol === 'https:' || url.protocol === 'http:';
  if (isHttp && hosts.has(url.origin)) return url;
  const what = isHttp ? `${url.origin} is not among them` : 'not HTTP';
  throw new Refusal(
    'callback_refused',
    `callbacks go only to the hosts of CONTROL_CALLBACK_HOSTS: ${what}`,
    'callback',
  );
}
