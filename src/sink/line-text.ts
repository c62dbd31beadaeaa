/**
 * Texts for line protocol, which cannot carry all of them, and whose readers reserve some tag keys. So texts are
 * escaped, reversibly, before line protocol adds its own backslashes:
 *
 *   - `%`, `\`, control characters and halves of surrogate pairs become `%` and the code point in upper-case hex, with
 *     two digits (`%0A`) or, for the halves, `u` and four digits (`%uD83D`);
 *   - the first character of a name or key that begins with `_` or `#` (system names, comments), or of a key in
 *     `RESERVED_KEYS`, is escaped the same way;
 *   - an empty name is `%` alone.
 *
 * Any other text is left unchanged.
 */
import { ALL_FIELDS } from '../aggregate/point.ts';

export const TYPE_TAG = 'metric_type';
export const INSTANCE_TAG = 'instance';

/**
 * Tag keys with a meaning of their own: our tags, the columns of the servers, and fields, because a tag and a field
 * cannot share a name.
 */
const RESERVED_KEYS: ReadonlySet<string> = new Set([
  TYPE_TAG,
  INSTANCE_TAG,
  'time',
  'iox::measurement',
  ...ALL_FIELDS,
]);
const UNFIT_IN_LINES = /[\p{Cc}\p{Surrogate}\\%]/gu;
const ESCAPED = /%(?:u([0-9A-F]{4})|([0-9A-F]{2}))/g;

function escapeCharacter(character: string): string {
  const code = character.charCodeAt(0);
  const hex = code.toString(16).toUpperCase();
  return code > 0xff ? `%u${hex}` : `%${hex.padStart(2, '0')}`;
}

export function escapeValue(text: string): string {
  return text.replace(UNFIT_IN_LINES, escapeCharacter);
}

function escapeFirst(text: string): string {
  return escapeCharacter(text) + escapeValue(text.slice(1));
}

export function escapeName(text: string): string {
  if (text === '') return '%';
  return text[0] === '_' || text[0] === '#' ? escapeFirst(text) : escapeValue(text);
}

export function escapeKey(text: string): string {
  return RESERVED_KEYS.has(text) ? escapeFirst(text) : escapeName(text);
}

export function unescapeText(text: string): string {
  if (text === '%') return '';
  return text.replace(ESCAPED, (_, half?: string, code?: string) =>
    String.fromCharCode(Number.parseInt(half ?? code!, 16)),
  );
}

/** JavaScript's shortest form reads back exactly, except that it loses the sign of zero. */
export function floatText(value: number): string {
  return Object.is(value, -0) ? '-0' : String(value);
}
