/**
 * Settings: the name, meaning, default and accepted values of each environment variable, in one place. Parsing, error
 * messages, `config` and the README's tables all come from it.
 */
import { readFileSync } from 'node:fs';

export interface Setting<T> {
  /** Returns undefined if the text is not acceptable. */
  readonly parse: (text: string) => T | undefined;
  /** Reads well after "expected": `a duration such as 10s, 500ms or 5m`. */
  readonly expected: string;
  readonly meaning: string;
  /** As the environment would hold it. A setting that has no default and is not `optional` is required. */
  readonly default?: string;
  readonly optional: boolean;
  /** What to do about a text that is not acceptable, if there is more to say than what is expected. */
  readonly advice?: (text: string) => string | undefined;
  /** Returns the value as it is shown; absent if that is the value itself. A masked setting may come from a file. */
  readonly mask?: (text: string) => string;
}

export type Settings = Readonly<Record<string, Setting<unknown>>>;
export type Values<S extends Settings> = {
  readonly [K in keyof S]: S[K] extends Setting<infer T> ? T : never;
};

/** One thing that is wrong with the environment. */
export interface SettingError {
  readonly variable: string;
  readonly expected: string;
  /** Already masked; undefined if the variable is not set. */
  readonly got: string | undefined;
  /** No setting has this variable; `expected` lists those that exist. */
  readonly unknown?: true;
  /** The variable that was probably meant. */
  readonly meant?: string;
  readonly advice?: string;
}

/** One resolved setting, for `config`. */
export interface ResolvedSetting {
  readonly variable: string;
  /** Masked; empty if not set. */
  readonly shown: string;
  readonly from: 'environment' | 'file' | 'default';
}

export type Environment = Readonly<Record<string, string | undefined>>;

/** Enough for any secret's file: it holds only a token or a key. */
const MAX_SECRET_FILE_CHARACTERS = 65_536;

/** `maxBytes` -> `MAX_BYTES`. */
export function variableName(key: string): string {
  return key.replace(/([a-z0-9])([A-Z])/g, '$1_$2').toUpperCase();
}

/**
 * Reads every setting; its variable is the prefix plus its key in upper snake case. Appends every problem to `errors`;
 * the values are complete only if there was none.
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
  if (value === undefined) {
    const advice = setting.advice?.(text);
    const { expected } = setting;
    errors.push({ variable, expected, got: shown, ...(advice === undefined ? {} : { advice }) });
  }
  return value;
}

function lookUp(
  setting: Setting<unknown>,
  variable: string,
  env: Environment,
  errors: SettingError[],
): { text: string; from: ResolvedSetting['from'] } | undefined {
  // An empty variable counts as not set, because charts and compose files leave those.
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

/** Returns the variables that `settings` reads under `prefix`, including those of `*_FILE`. */
export function variablesOf(settings: Settings, prefix: string): string[] {
  return Object.entries(settings).flatMap(([key, setting]) => {
    const variable = prefix + variableName(key);
    return setting.mask ? [variable, `${variable}_FILE`] : [variable];
  });
}
