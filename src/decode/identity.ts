import type { Dimension, Identity } from '../aggregate/series.ts';
import {
  MAX_DIMENSION_KEY_BYTES,
  MAX_DIMENSION_VALUE_BYTES,
  MAX_DIMENSIONS,
  MAX_IDENTITY_BYTES,
  MAX_NAME_BYTES,
  MAX_SPELLED_KEYS,
} from './limits.ts';
import type { InputRejection } from './rejection.ts';
import {
  CLOSE_OBJECT,
  COMMA,
  FAILED,
  FALSE,
  NULL,
  OPEN_ARRAY,
  OPEN_OBJECT,
  QUOTE,
  type Scanner,
  TRUE,
} from './scanner.ts';

/** Checks the limits of a series, the same for every format. An empty dimension counts as absent. */
export function checkIdentity({ name, dimensions, dimensionsJson }: Identity): InputRejection | undefined {
  if (name === '' || name.includes('\0')) return 'bad_name';
  if (isLonger(name, MAX_NAME_BYTES)) return 'too_long';
  if (dimensions.length > MAX_DIMENSIONS) return 'too_many_dimensions';
  for (const [key, value] of dimensions) {
    if (isLonger(key, MAX_DIMENSION_KEY_BYTES) || isLonger(value, MAX_DIMENSION_VALUE_BYTES))
      return 'too_long';
  }
  return isLonger(name + dimensionsJson, MAX_IDENTITY_BYTES) ? 'too_long' : undefined;
}

/** Whether the text is longer in UTF-8, in which a code unit takes up to three bytes. */
function isLonger(text: string, maxBytes: number): boolean {
  return 3 * text.length > maxBytes && Buffer.byteLength(text) > maxBytes;
}

/** Reads the JSON object in [start, end), key by key. */
export function readDimensions(scanner: Scanner, start: number, end: number): Dimension[] | InputRejection {
  const dimensions = new Map<string, string>();
  let i = scanner.space(start + 1);
  if (scanner.peek(i) === CLOSE_OBJECT) return i + 1 === end ? [] : 'not_json';
  for (;;) {
    const keyStart = i + 1;
    i = scanner.key(i);
    if (i === FAILED) return 'not_json';
    const key = keyText(scanner, keyStart);
    if (key === '') return 'bad_dimensions';
    if (dimensions.has(key)) return 'duplicate_key';

    i = scanner.space(i);
    const first = scanner.peek(i);
    if (first === OPEN_OBJECT || first === OPEN_ARRAY) return 'bad_dimensions';
    const after = scanner.scalar(i);
    if (after === FAILED) return 'not_json';
    const value = valueText(scanner, i, after);
    if (value === undefined) return 'bad_dimensions';
    dimensions.set(key, value);
    if (dimensions.size > MAX_SPELLED_KEYS) return 'too_many_dimensions';

    i = scanner.space(after);
    const next = scanner.peek(i++);
    if (next === CLOSE_OBJECT) return i === end ? [...dimensions] : 'not_json';
    if (next !== COMMA) return 'not_json';
    i = scanner.space(i);
  }
}

/** Returns the text of a key that `Scanner.key` has just read. `start` is the position after its opening quote. */
export function keyText(scanner: Scanner, start: number): string {
  const end = scanner.string(start);
  return scanner.text(start, end, scanner.escaped);
}

/** Returns the scalar just read as a string, "" if it is absent; undefined for a number too large for a double. */
function valueText(scanner: Scanner, start: number, end: number): string | undefined {
  if (scanner.peek(start) === QUOTE) return scanner.text(start + 1, end - 1, scanner.escaped);
  if (scanner.spells(start, end, NULL)) return '';
  if (scanner.spells(start, end, TRUE)) return 'true';
  if (scanner.spells(start, end, FALSE)) return 'false';
  // An integer keeps all of its digits as written, except that "-0" is "0".
  if (scanner.integral && scanner.number !== 0) return scanner.text(start, end, false);
  return Number.isFinite(scanner.number) ? String(scanner.number) : undefined;
}
