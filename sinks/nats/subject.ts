/**
 * Names as subjects. A dot separates tokens, as in the name itself, so that `http.requests` is heard by
 * `fanout.windows.http.>`. What a token cannot hold, or tools spoil, is escaped, reversibly: a character that is not
 * printable ASCII, a space, `*`, `>` and `%` become `%` and two hex digits for each of its bytes in UTF-8; half of a
 * surrogate pair, which has none, becomes `%u` and four digits; an empty token is `%` alone.
 */
const UNFIT = /[^!-~]|[*>%]/gu;
const HALF = /^\p{Surrogate}$/u;

export function subjectOf(prefix: string, name: string): string {
  const tokens = name.split('.').map((token) => (token === '' ? '%' : escapeText(token)));
  return `${prefix}.${tokens.join('.')}`;
}

/** Also for the values of headers, which must be ASCII. */
export function escapeText(text: string): string {
  return text.replace(UNFIT, (character) => {
    if (HALF.test(character)) return `%u${hex(character.charCodeAt(0))}`;
    return Array.from(Buffer.from(character), (byte) => `%${hex(byte).padStart(2, '0')}`).join('');
  });
}

function hex(code: number): string {
  return code.toString(16).toUpperCase();
}
