/** What is secret in a URL, and how a URL is shown without it. Pure. */

/** Stands for a secret. */
export const MASK = '***';

/** Of a query, which value is known to be no secret; any other may be a key. */
const SHOWN_PARAMETERS: readonly string[] = ['sslmode'];

const QUERY_VALUE = /([?&]([^=&#]*)=)([^&#]*)/g;

/**
 * Hides user, password and the values of the query; a text that is no URL is hidden whole, for nobody knows what it
 * holds.
 */
export function maskUrl(text: string): string | undefined {
  if (!isUrl(text)) return undefined;
  return text
    .replace(/\/\/.*@/s, `//${MASK}@`)
    .replace(QUERY_VALUE, (whole, start, name) => (SHOWN_PARAMETERS.includes(name) ? whole : start + MASK));
}

/** What is secret in a URL, as it stands there: the password, or else the user, and the values of the query. */
export function secretsOfUrl(text: string): string[] {
  const [user, ...password] = /^(?:[^/]*\/\/)?(.*)@/.exec(text)?.[1]?.split(':') ?? [];
  const signIn = password.length > 0 ? password.join(':') : user;
  const query = [...text.matchAll(QUERY_VALUE)].filter(([, , name]) => !SHOWN_PARAMETERS.includes(name!));
  return [signIn ?? '', ...query.map(([, , , value]) => value ?? '')].filter((part) => part !== '');
}

/** With an authority: `http:user:secret@host` can be parsed as well, and nobody looks for a secret there. */
export function isUrl(text: string): boolean {
  return /^\s*[^:/?#]+:\/\//.test(text) && URL.canParse(text);
}
