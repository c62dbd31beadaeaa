/** Setting builders: each parses, documents and masks the text of one kind of variable. */
import { DURATION_UNITS } from '../base/time-text.ts';
import type { Setting } from './setting.ts';
import { isUrl, MASK, maskUrl } from './url-secrets.ts';

type Parser<T> = (text: string) => T | undefined;

interface Options {
  readonly meaning: string;
  readonly default?: string;
  /** A setting with no default may be undefined, unless it is required. */
  readonly required?: true;
  readonly advice?: (text: string) => string | undefined;
}

type Built<T, O extends Options> = O extends { default: string } | { required: true }
  ? Setting<T>
  : Setting<T | undefined>;

function maker<T>(parse: Parser<T>, expected: string, mask?: Parser<string>) {
  return <O extends Options>(options: O): Built<T, O> => {
    const { meaning, required, advice, default: given } = options;
    const made: Setting<T | undefined> = {
      parse,
      expected,
      meaning,
      optional: given === undefined && required !== true,
      ...(given === undefined ? {} : { default: given }),
      ...(advice === undefined ? {} : { advice }),
      ...(mask === undefined ? {} : { mask: (text: string) => mask(text) ?? MASK }),
    };
    return made as Built<T, O>;
  };
}

const MAX_TIMEOUT_MS = 86_400_000;

const BYTE_UNITS: Readonly<Record<string, number>> = {
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KIB: 2 ** 10,
  MIB: 2 ** 20,
  GIB: 2 ** 30,
  TIB: 2 ** 40,
};

function withUnit(text: string, units: Readonly<Record<string, number>>): number | undefined {
  const match = /^(\d+)(?:\.(\d+))?\s*([A-Za-z]+)$/.exec(text.trim());
  const unit = match ? (units[match[3]!] ?? units[match[3]!.toUpperCase()]) : undefined;
  if (!match || unit === undefined) return undefined;
  const [, whole, fraction = ''] = match;
  // Multiply first: no double is exactly 2.01, and 2.01GB must still come to a whole number of bytes.
  const value = (Number(whole + fraction) * unit) / 10 ** fraction.length;
  return Number.isSafeInteger(value) ? value : undefined;
}

const BOOLEANS: ReadonlyMap<string, boolean> = new Map([
  ['true', true],
  ['false', false],
]);

const HEADER_NAME = /^[A-Za-z0-9!#$&'*+.^_`|~-]+$/;

/** The characters that RFC 9110 allows in a header's value. */
const HEADER_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;

/** Parses `NAME=value,NAME2=value2`. Values may be percent-encoded, as in OpenTelemetry's own variables. */
function parseHeaders(text: string): Readonly<Record<string, string>> | undefined {
  const headers = new Map<string, string>();
  for (const part of text.split(',')) {
    const [, name = '', encoded = ''] = /^\s*([^=\s]*)\s*=\s*(.*?)\s*$/s.exec(part) ?? [];
    const value = encoded.replace(/%([0-9A-Fa-f]{2})/g, (_, hex) =>
      String.fromCharCode(Number.parseInt(hex, 16)),
    );
    if (!HEADER_NAME.test(name) || !HEADER_VALUE.test(value) || headers.has(name.toLowerCase()))
      return undefined;
    headers.set(name.toLowerCase(), value);
  }
  return Object.fromEntries(headers);
}

function parseUrl(protocols: readonly string[]): Parser<string> {
  return (text) => (isUrl(text) && protocols.includes(new URL(text).protocol) ? text : undefined);
}

/** Returns milliseconds within what a timer can wait. */
function parseWait(text: string, atLeastMs: number): number | undefined {
  const ms = withUnit(text, DURATION_UNITS);
  return ms !== undefined && ms >= atLeastMs && ms <= MAX_TIMEOUT_MS ? ms : undefined;
}

/** The setting builders. Values are text, number (ms, bytes) or boolean; see the `expected` of each. */
export const setting = {
  text: maker<string>((text) => text, 'text'),
  /** Shown as ***; may come from the file that `<NAME>_FILE` names. */
  secret: maker<string>(
    (text) => text,
    'a secret',
    () => MASK,
  ),
  /** Milliseconds. */
  duration: maker<number>(
    (text) => withUnit(text, DURATION_UNITS),
    'a duration such as 500ms, 10s, 5m or 24h',
  ),
  /** Milliseconds, from 1 ms to 24 h, which a timer can wait. */
  timeout: maker<number>((text) => parseWait(text, 1), 'a duration from 1ms to 24h'),
  /** Milliseconds between two runs of something; 0 means never. */
  interval: maker<number>(
    (text) => parseWait(text, 0),
    'a duration of at most 24h such as 10s or 5m, or 0s for never',
  ),
  bytes: maker<number>((text) => withUnit(text, BYTE_UNITS), 'a size such as 64MB or 8GiB'),
  bytesFrom: <O extends Options>(least: string, options: O) =>
    maker<number>((text) => {
      const bytes = withUnit(text, BYTE_UNITS);
      return bytes !== undefined && bytes >= withUnit(least, BYTE_UNITS)! ? bytes : undefined;
    }, `a size of at least ${least} such as 64MB or 8GiB`)(options),
  bytesUpTo: <O extends Options>(most: string, options: O) =>
    maker<number>((text) => {
      const bytes = withUnit(text, BYTE_UNITS);
      return bytes !== undefined && bytes <= withUnit(most, BYTE_UNITS)! ? bytes : undefined;
    }, `a size of at most ${most} such as 64KB or 2MiB`)(options),
  boolean: maker<boolean>((text) => BOOLEANS.get(text.toLowerCase()), 'true or false'),
  list: maker<readonly string[]>((text) => {
    const items = text.split(',').map((item) => item.trim());
    return items.includes('') ? undefined : items;
  }, 'a comma-separated list'),
  /** HTTP headers by lower-case name. Masked as a secret, because headers hold keys. */
  headers: maker<Readonly<Record<string, string>>>(
    parseHeaders,
    'headers such as NAME=value,NAME2=value2, with %2C for a comma in a value',
    () => MASK,
  ),
  httpUrl: maker<string>(
    parseUrl(['http:', 'https:']),
    'a URL that starts with http:// or https://',
    maskUrl,
  ),
  /** A URL with one of the protocols (`postgres:`). Its user and password are masked; it may come from a file. */
  url: <O extends Options>(protocols: readonly string[], options: O) =>
    maker<string>(parseUrl(protocols), `a URL that starts with ${protocols[0]}//`, maskUrl)(options),
  integer: <O extends Options>(min: number, max: number, options: O) =>
    maker<number>(
      (text) =>
        /^-?\d+$/.test(text) && Number(text) >= min && Number(text) <= max ? Number(text) : undefined,
      `a whole number from ${min} to ${max}`,
    )(options),
  choice: <const C extends readonly string[], O extends Options>(choices: C, options: O) =>
    maker<C[number]>(
      (text) => (choices.includes(text) ? text : undefined),
      `one of ${choices.join(', ')}`,
    )(options),
  /** Anything else. `parse` returns undefined if the text is not acceptable. */
  custom: <T, O extends Options>(parse: Parser<T>, expected: string, options: O, mask?: Parser<string>) =>
    maker<T>(parse, expected, mask)(options),
};
