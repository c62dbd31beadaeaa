/**
 * Settings: what a variable of the environment is called, means, defaults to and accepts, in one place, from which
 * parsing, error messages, `config` and the README's tables all come.
 */
import { readFileSync } from 'node:fs';

export interface Setting<T> {
  /** Undefined where the text is not acceptable. */
  readonly parse: (text: string) => T | undefined;
  /** Follows "expected": `a duration such as 10s, 500ms or 5m`. */
  readonly expected: string;
  readonly meaning: string;
  /** As it would stand in the environment. A setting without one that is not `optional` must be given. */
  readonly default?: string;
  readonly optional: boolean;
  /** How a value is shown; absent where it can be shown as it is. A setting that masks can also come from a file. */
  readonly mask?: (text: string) => string;
}

export type Settings = Readonly<Record<string, Setting<unknown>>>;
export type Values<S extends Settings> = {
  readonly [K in keyof S]: S[K] extends Setting<infer T> ? T : never;
};

/** One thing wrong with the environment. */
export interface SettingError {
  readonly variable: string;
  readonly expected: string;
  /** Already masked; undefined where the variable is missing. */
  readonly got: string | undefined;
  /** No setting has this variable; `expected` says which ones there are. */
  readonly unknown?: true;
  /** What may have been meant by it. */
  readonly meant?: string;
}

/** One setting as it was resolved, for `config`. */
export interface ResolvedSetting {
  readonly variable: string;
  /** Masked; empty where not set. */
  readonly shown: string;
  readonly from: 'environment' | 'file' | 'default';
}

export type Environment = Readonly<Record<string, string | undefined>>;

/** Stands for a secret. */
export const MASK = '***';
/** A secret's file holds a token or a key, never more. */
const MAX_SECRET_FILE_CHARACTERS = 65_536;

/** `maxBytes` -> `MAX_BYTES`. */
export function variableName(key: string): string {
  return key.replace(/([a-z0-9])([A-Z])/g, '$1_$2').toUpperCase();
}

/**
 * Reads every setting, the variable of each being prefix + upper snake case of its key. Problems are appended to
 * `errors`, all of them; the values are only whole where none was.
 */
export function readSettings<S extends Settings>(
  settings: S,
  prefix: string,
  env: Environment,
  errors: SettingError[],
  resolved: ResolvedSetting[],
): Values<S> {
  const values: Record<string, unknown> = {};
  for (const [key, setting] of Object.entries(settings)) {
    values[key] = readOne(setting, prefix + variableName(key), env, errors, resolved);
  }
  return values as Values<S>;
}

function readOne(
  setting: Setting<unknown>,
  variable: string,
  env: Environment,
  errors: SettingError[],
  resolved: ResolvedSetting[],
): unknown {
  const found = lookUp(setting, variable, env, errors);
  if (found === undefined) return undefined;
  const { text, from } = found;
  if (text === '') {
    resolved.push({ variable, shown: '', from: 'default' });
    if (!setting.optional) errors.push({ variable, expected: setting.expected, got: undefined });
    return undefined;
  }
  const shown = setting.mask ? setting.mask(text) : text;
  resolved.push({ variable, shown, from });
  const value = setting.parse(text);
  if (value === undefined) errors.push({ variable, expected: setting.expected, got: shown });
  return value;
}

function lookUp(
  setting: Setting<unknown>,
  variable: string,
  env: Environment,
  errors: SettingError[],
): { text: string; from: ResolvedSetting['from'] } | undefined {
  // An empty variable counts as not set: that is what a chart or a compose file leaves behind.
  const direct = env[variable] ?? '';
  const file = setting.mask ? (env[`${variable}_FILE`] ?? '') : '';
  if (direct !== '' && file !== '') {
    errors.push({
      variable: `${variable}_FILE`,
      expected: `only one of ${variable} and ${variable}_FILE`,
      got: file,
    });
    return undefined;
  }
  if (direct !== '') return { text: direct, from: 'environment' };
  if (file === '') return { text: setting.default ?? '', from: 'default' };
  try {
    const text = readFileSync(file, 'utf8').trim();
    if (text === '' || text.length > MAX_SECRET_FILE_CHARACTERS) {
      errors.push({ variable: `${variable}_FILE`, expected: 'a file that holds the value', got: file });
      return undefined;
    }
    return { text, from: 'file' };
  } catch {
    errors.push({ variable: `${variable}_FILE`, expected: 'a file that can be read', got: file });
    return undefined;
  }
}

/** The variables that `settings` reads under `prefix`, those of `*_FILE` included. */
export function variablesOf(settings: Settings, prefix: string): string[] {
  return Object.entries(settings).flatMap(([key, setting]) => {
    const variable = prefix + variableName(key);
    return setting.mask ? [variable, `${variable}_FILE`] : [variable];
  });
}

type Parser<T> = (text: string) => T | undefined;

interface Options {
  readonly meaning: string;
  readonly default?: string;
  /** Without a default the value may be undefined, unless it is required. */
  readonly required?: true;
}

type Built<T, O extends Options> = O extends { default: string } | { required: true }
  ? Setting<T>
  : Setting<T | undefined>;

function maker<T>(parse: Parser<T>, expected: string, mask?: Parser<string>) {
  return <O extends Options>(options: O): Built<T, O> => {
    const { meaning, required, default: given } = options;
    const made: Setting<T | undefined> = {
      parse,
      expected,
      meaning,
      optional: given === undefined && required !== true,
      ...(given === undefined ? {} : { default: given }),
      ...(mask === undefined ? {} : { mask: (text: string) => mask(text) ?? MASK }),
    };
    return made as Built<T, O>;
  };
}

const DURATION_UNITS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};
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
  // In this order 2.01GB is a whole number: 2.01 is none that a double holds.
  const value = (Number(whole + fraction) * unit) / 10 ** fraction.length;
  return Number.isSafeInteger(value) ? value : undefined;
}

const BOOLEANS: ReadonlyMap<string, boolean> = new Map([
  ['true', true],
  ['false', false],
]);

const HEADER_NAME = /^[A-Za-z0-9!#$&'*+.^_`|~-]+$/;
/** What a header may hold, by RFC 9110. */
const HEADER_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;

/** `NAME=value,NAME2=value2`, values percent-encoded where they hold a comma, as OpenTelemetry's own variables are. */
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

/** Of a query, which value is known to be no secret; any other may be a key. */
const SHOWN_PARAMETERS: readonly string[] = ['sslmode'];
const QUERY_VALUE = /([?&]([^=&#]*)=)([^&#]*)/g;

/** Hides user, password and the values of the query; a text that is no URL is hidden whole, for nobody knows what it holds. */
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
function isUrl(text: string): boolean {
  return /^\s*[^:/?#]+:\/\//.test(text) && URL.canParse(text);
}

function parseUrl(protocols: readonly string[]): Parser<string> {
  return (text) => (isUrl(text) && protocols.includes(new URL(text).protocol) ? text : undefined);
}

/** What a timer can wait, in milliseconds. */
function parseWait(text: string, atLeastMs: number): number | undefined {
  const ms = withUnit(text, DURATION_UNITS);
  return ms !== undefined && ms >= atLeastMs && ms <= MAX_TIMEOUT_MS ? ms : undefined;
}

/** Builders of settings. Values are text, number (ms, bytes), boolean; see each one's `expected`. */
export const setting = {
  text: maker<string>((text) => text, 'a text'),
  /** Shown as ***; can come from `<NAME>_FILE`. */
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
  /** Milliseconds, from 1 ms to 24 h: what timers can wait. */
  timeout: maker<number>((text) => parseWait(text, 1), 'a duration from 1ms to 24h'),
  /** Milliseconds between two times of doing something; 0 is never. */
  interval: maker<number>(
    (text) => parseWait(text, 0),
    'a duration such as 10s or 5m, of at most 24h, or 0s',
  ),
  bytes: maker<number>((text) => withUnit(text, BYTE_UNITS), 'a size such as 64MB or 8GiB'),
  boolean: maker<boolean>((text) => BOOLEANS.get(text.toLowerCase()), 'true or false'),
  list: maker<readonly string[]>((text) => {
    const items = text.split(',').map((item) => item.trim());
    return items.includes('') ? undefined : items;
  }, 'a list, comma separated'),
  /** HTTP headers by name in lower case; a secret, for they hold keys. */
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
  /** A URL of the given protocols (`postgres:`); its user and password are masked, and it can come from a file. */
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
  /** Anything else: undefined from `parse` means that the text is not acceptable. */
  custom: <T, O extends Options>(parse: Parser<T>, expected: string, options: O, mask?: Parser<string>) =>
    maker<T>(parse, expected, mask)(options),
};
