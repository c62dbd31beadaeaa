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
