/** The secrets among the values of settings: what must not be in anything that people are to look at. */

import type { Environment, Settings } from './setting.ts';
import { MASK, secretsOfUrl } from './url-secrets.ts';

/** Credentials that are no settings of ours: those of AWS's own chain. */
const FOREIGN = ['AWS_SECRET_ACCESS_KEY', 'AWS_SESSION_TOKEN'];

export function secretsIn(settings: Settings, values: Readonly<Record<string, unknown>>): string[] {
  return Object.entries(settings).flatMap(([key, { mask }]) => {
    if (mask === undefined) return [];
    return textsOf(values[key]).flatMap((text) => {
      const shown = mask(text);
      if (shown === text) return [];
      // Not all that could be a URL is meant as one: a token may have a colon or an @ in it.
      if (shown === MASK) return [text];
      return secretsOfUrl(text).flatMap((part) => [part, decoded(part)]);
    });
  });
}

/** Keeps the environment, secrets and all, out of Node.js's diagnostic reports. Every thread has to ask for it. */
export function hideEnvironment(): void {
  if (process.report) process.report.excludeEnv = true;
}

export function foreignSecrets(env: Environment): string[] {
  return FOREIGN.flatMap((name) => env[name] || []);
}

/** A list has several, headers have one each, which may have a word such as Bearer before it. */
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
