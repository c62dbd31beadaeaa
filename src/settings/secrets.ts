/** The secrets among the values of settings, which must not appear in anything that people see. */

import { PROXY_VARIABLES } from '../base/http-agent.ts';
import type { Environment, Settings } from './setting.ts';
import { MASK, secretsOfUrl } from './url-secrets.ts';

/** Credentials that are not settings of ours: those that AWS's own chain reads. */
const FOREIGN = ['AWS_SECRET_ACCESS_KEY', 'AWS_SESSION_TOKEN'];

export function secretsIn(settings: Settings, values: Readonly<Record<string, unknown>>): string[] {
  return Object.entries(settings).flatMap(([key, { mask }]) => {
    if (mask === undefined) return [];
    return textsOf(values[key]).flatMap((text) => {
      const shown = mask(text);
      if (shown === text) return [];
      // A text that looks like a URL may not be one: a token may contain a colon or an @.
      if (shown === MASK) return [text];
      return secretsOfUrl(text).flatMap((part) => [part, decoded(part)]);
    });
  });
}

export function foreignSecrets(env: Environment): string[] {
  const proxies = PROXY_VARIABLES.flatMap((name) => [env[name] || [], env[name.toLowerCase()] || []].flat());
  return [
    ...FOREIGN.flatMap((name) => env[name] || []),
    ...proxies.flatMap(secretsOfUrl).flatMap((part) => [part, decoded(part)]),
  ];
}

/** Returns every text in the value. A header's value counts twice: whole, and without a first word such as Bearer. */
function textsOf(value: unknown): string[] {
  if (typeof value === 'string') return [value];
  if (Array.isArray(value)) return value.flatMap(textsOf);
  if (typeof value !== 'object' || value === null) return [];
  return Object.values(value)
    .flatMap(textsOf)
    .flatMap((text) => [text, text.slice(text.indexOf(' ') + 1)]);
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
