/** Which parts of a URL are secret, and how to show a URL without them. Pure. */

/** Stands for a secret. */
export const MASK = '***';

/** The query parameters whose value is known not to be secret; any other may be a key. */
const SHOWN_PARAMETERS: readonly string[] = ['sslmode'];

const QUERY_VALUE = /([?&]([^=&#]*)=)([^&#]*)/g;

/**
 * Returns the URL with user, password and query values hidden; undefined if the text is not a URL. Such a text must be
 * hidden whole, because it may hold anything.
 */
export function maskUrl(text: string): string | undefined {
  if (!isUrl(text)) return undefined;
  return text
    .replace(/\/\/.*@/s, `//${MASK}@`)
    .replace(QUERY_VALUE, (whole, start, name) => (SHOWN_PARAMETERS.includes(name) ? whole : start + MASK));
}

/** Returns the secret parts of a URL as written there: the password (or else the user) and the values of the query. */
export function secretsOfUrl(text: string): string[] {
  const [user, ...password] = /^(?:[^/]*\/\/)?(.*)@/.exec(text)?.[1]?.split(':') ?? [];
  const signIn = password.length > 0 ? password.join(':') : user;
  const query = [...text.matchAll(QUERY_VALUE)].filter(([, , name]) => !SHOWN_PARAMETERS.includes(name!));
  return [signIn ?? '', ...query.map(([, , , value]) => value ?? '')].filter((part) => part !== '');
}

/** Whether the text is a URL with `//`. `http:user:secret@host` parses too, but the masking would miss its secret. */
export function isUrl(text: string): boolean {
  return /^\s*[^:/?#]+:\/\//.test(text) && URL.canParse(text);
}
