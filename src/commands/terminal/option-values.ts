/** Parsers for the values of options. For an invalid value they throw an error that says what was expected. */

import { InvalidArgumentError } from 'commander';
import { matchesGlob } from '../../aggregate/glob.ts';
import { parsePast, parseSpan } from '../../base/time-text.ts';
import { ConfigError } from '../../config/config-error.ts';
import { CORE_SETTINGS } from '../../config/core-settings.ts';
import { localUrl } from '../../config/local-url.ts';
import { setting } from '../../settings/builders.ts';
import { readSettings, type SettingError } from '../../settings/setting.ts';
import { type DimensionFilter, parseFilter } from '../../tap/filters.ts';

export function number(min: number, max: number) {
  return (text: string) => {
    const value = text.trim() === '' ? Number.NaN : Number(text);
    if (!(value >= min && value <= max))
      throw new InvalidArgumentError(`Expected a number from ${min} to ${max}.`);
    return value;
  };
}

export function integer(min: number, max: number) {
  return (text: string) => {
    const value = number(min, max)(text);
    if (!Number.isInteger(value)) throw new InvalidArgumentError('Expected a whole number.');
    return value;
  };
}

/** Returns a parser for milliseconds, at least 1, that accepts the same texts as the setting. */
export function millisecondsLike({
  parse,
  expected,
}: Pick<ReturnType<typeof setting.duration>, 'parse' | 'expected'>) {
  return (text: string) => {
    // What a setting takes, and what people type, within the same limits.
    const span = parseSpan(text);
    const ms = parse(text) ?? (span === undefined ? undefined : parse(`${span}ms`));
    const example = expected.includes('such as') ? '' : ', such as 5s';
    if (ms === undefined || ms === 0) throw new InvalidArgumentError(`Expected ${expected}${example}.`);
    return ms;
  };
}

export const duration = millisecondsLike(setting.duration({ meaning: '' }));
/** At most as long as a timer can wait. */
export const timeout = millisecondsLike(setting.timeout({ meaning: '' }));

/** The forms of a time, for the help of an option. */
export const TIME_FORMS = '10m (ago), 18:36 (the last one), 2026-11-23 or RFC 3339; UTC without a zone';

/** Milliseconds since 1970. */
export function time(text: string): number {
  const ms = parsePast(text, Date.now());
  if (ms === undefined)
    throw new InvalidArgumentError(
      'Expected an RFC 3339 time such as 2026-11-23T01:30:00Z, a day such as 2026-11-23, a time of day such as 18:36, or how long ago, such as 10m or 1h30m. What has no zone is UTC.',
    );
  return ms;
}

/** The URL of a service. */
export function serviceUrl(text: string): string {
  if (!/^https?:\/\//i.test(text) || !URL.canParse(text))
    throw new InvalidArgumentError('Expected a URL such as http://127.0.0.1:9464.');
  return text.replace(/\/+$/, '');
}

/** An option that may be given several times. */
export function collect(text: string, before: readonly string[]): string[] {
  return [...before, text];
}

/** `key=glob`; may be given several times. */
export function dimensionFilter(text: string, before: readonly DimensionFilter[]): DimensionFilter[] {
  const parsed = parseFilter(text);
  if (parsed === undefined)
    throw new InvalidArgumentError('Expected a dimension and its value, such as app=api or status=5*.');
  const other = before.find((filter) => excludes(filter, parsed));
  if (other !== undefined)
    throw new InvalidArgumentError(
      `All filters must match, and ${other.key} cannot be both ${other.glob} and ${parsed.glob}. A glob such as ${parsed.key}=* matches several values.`,
    );
  return [...before, parsed];
}

/** Whether no value can match both, as far as one of them is a value without wildcards. */
function excludes(a: DimensionFilter, b: DimensionFilter): boolean {
  if (a.key !== b.key) return false;
  const isValue = ({ glob }: DimensionFilter) => !/[*?]/.test(glob);
  if (isValue(a)) return !matchesGlob(b.glob, a.glob);
  return isValue(b) && !matchesGlob(a.glob, b.glob);
}

/** Collects subjects, which may have wildcards. No subject may be given twice, or its messages would come twice. */
export function subjects(text: string, before: readonly string[] = []): readonly string[] {
  const { parse, expected } = CORE_SETTINGS.metricsSubjects;
  const parsed = parse([...before, text].join(','));
  if (parsed === undefined) throw new InvalidArgumentError(`Expected ${expected}.`);
  return parsed;
}

/** Returns the URL of the service on this machine that has the same environment. Throws a `ConfigError`. */
export function localUrlOf(env: NodeJS.ProcessEnv): string {
  const { httpHost, httpPort } = CORE_SETTINGS;
  const errors: SettingError[] = [];
  const address = readSettings({ httpHost, httpPort }, '', env, errors, []);
  if (errors.length > 0) throw new ConfigError(errors);
  return localUrl(address);
}
