/** Turns the SINK_* variables into the enabled sinks, each with its module. */

import { DEFAULT_SINK, SINKS } from '../../sinks/index.ts';
import { nearest } from '../base/edit-distance.ts';
import { parseStart, type StartSetting } from '../base/time-text.ts';
import { setting } from '../settings/builders.ts';
import {
  type Environment,
  type ResolvedSetting,
  readSettings,
  type SettingError,
  type Settings,
  type Values,
  variableName,
  variablesOf,
} from '../settings/setting.ts';
import { limitsOf, type SinkLimits, type SinkModule } from '../sink/contract.ts';
import { maskerOf } from '../sink/masked-sink.ts';
import { parseWindow } from './core-settings.ts';
import { meantToName, meantVariable } from './misspelled.ts';
import { rules } from './rule-setting.ts';
import { importSinkModule, isOurs } from './sink-module.ts';

/** The settings of every sink, whatever its kind. */
export const SINK_SETTINGS = {
  enabled: setting.boolean({ meaning: 'true: turns the sink on', default: 'false' }),
  kind: setting.text({
    meaning: 'kind of the sink, or the path or package of a sink module; default: the id in lower case',
  }),
  start: setting.custom(parseStart, 'now, earliest or an RFC 3339 time', {
    meaning: 'where this sink begins if it has no checkpoint; default: METRICS_START',
  }),
  timeout: setting.timeout({ meaning: 'time limit of one write', default: '30s' }),
  names: rules('names', 'comma-separated globs, such as http.*, !http.debug.*', {
    meaning:
      'which names this sink gets, as they are in the windows (* matches any text, ? one character); ! excludes. Without it, all',
  }),
  window: setting.custom(parseWindow, 'a multiple of WINDOW, up to 24h', {
    meaning:
      "length of this sink's windows: a multiple of WINDOW, of which they are made. Without it, WINDOW",
  }),
  backlog: setting.bytes({ meaning: "how much memory this sink's lane may use", default: '64MB' }),
};

export interface SinkConfig {
  /** Lower case; labels the metrics and names the checkpoint. */
  readonly id: string;
  /** A name of the registry, or the path or package of a module. */
  readonly kind: string;
  readonly module: SinkModule;
  readonly start: StartSetting;
  readonly timeoutMs: number;
  readonly backlogBytes: number;
  /** Globs of the names that it gets; empty: all. */
  readonly names: readonly string[];
  /** The length of its windows, if it has windows of its own. */
  readonly windowMs?: number | undefined;
  readonly values: Values<Settings>;
  /** The settings of the module's price model; empty if it has none. */
  readonly prices: Values<Settings>;
}

/** Loads the enabled sinks; if there are none, the embedded one. `start`: where a sink without a START begins. */
export async function loadSinks(
  env: Environment,
  start: StartSetting,
  errors: SettingError[],
  resolved: ResolvedSetting[],
): Promise<SinkConfig[]> {
  const ids = sinkIds(env);
  const on = ids.filter((id) => env[`SINK_${id}_ENABLED`]?.toLowerCase() === 'true');
  const sinks: SinkConfig[] = [];
  for (const id of on.length > 0 ? on : [DEFAULT_SINK.toUpperCase()]) {
    const enabled = on.length > 0 ? 'true' : undefined;
    const sink = await loadSink(id, { ...env, [`SINK_${id}_ENABLED`]: enabled }, start, errors, resolved);
    if (sink) sinks.push(sink);
  }
  await checkNames(ids, env, errors);
  return sinks;
}

/**
 * Returns the ids that the environment may use: those with an ENABLED or KIND variable, and the kinds of the registry.
 * With a KIND alone, a sink is off.
 */
function sinkIds(env: Environment): string[] {
  const named = Object.keys(env).flatMap(
    (variable) => /^SINK_([A-Z0-9_]+)_(?:ENABLED|KIND)$/.exec(variable)?.[1] ?? [],
  );
  return [...new Set([...named, ...Object.keys(SINKS).map((kind) => kind.toUpperCase())])].sort();
}

/** The settings of an enabled sink: the embedded one is enabled although the environment does not say so. */
const SETTINGS_WHEN_ON = { ...SINK_SETTINGS, enabled: { ...SINK_SETTINGS.enabled, default: 'true' } };

async function loadSink(
  id: string,
  env: Environment,
  start: StartSetting,
  errors: SettingError[],
  resolved: ResolvedSetting[],
): Promise<SinkConfig | undefined> {
  const prefix = `SINK_${id}_`;
  const common = readSettings(SETTINGS_WHEN_ON, prefix, env, errors, resolved);
  const module = await loadModule(common.kind ?? id.toLowerCase());
  if (typeof module === 'string') {
    errors.push(noSuchKind(id, common.kind, module));
    return undefined;
  }
  const before = errors.length;
  const values = readSettings(module.settings, prefix, env, errors, resolved);
  const prices = readSettings(module.price?.settings ?? {}, prefix, env, errors, resolved);
  if (errors.length === before) {
    for (const { key, expected } of module.validate?.(values) ?? []) {
      const variable = prefix + variableName(key);
      const shown = resolved.find((setting) => setting.variable === variable)?.shown;
      errors.push({ variable, expected, got: shown === '' ? undefined : shown });
    }
  }
  if (errors.length === before) {
    const wrong = wrongLimitsBy(module, values, env);
    if (wrong !== undefined) errors.push({ variable: `${prefix}ENABLED`, expected: wrong, got: 'true' });
  }
  return Object.freeze({
    id: id.toLowerCase(),
    kind: common.kind ?? id.toLowerCase(),
    module,
    start: common.start ?? start,
    timeoutMs: common.timeout,
    backlogBytes: common.backlog,
    names: common.names ?? [],
    windowMs: common.window,
    values: Object.freeze(values),
    prices: Object.freeze(prices),
  });
}

/** Without a KIND the id must be a kind. Most likely it is only misspelled, so the error does not mention modules. */
function noSuchKind(id: string, kind: string | undefined, failure: string): SettingError {
  const kinds = Object.keys(SINKS);
  const got = kind ?? id.toLowerCase();
  const near = nearest(got, kinds);
  if (kind === undefined) {
    const meant = near && `SINK_${near.toUpperCase()}_ENABLED`;
    const expected = `the id to be a kind (${kinds.join(', ')}), or SINK_${id}_KIND to say which one`;
    return { variable: `SINK_${id}_ENABLED`, expected, got, ...(meant && { meant }) };
  }
  const expected = `a kind (${kinds.join(', ')}), or the path or package of a sink module (${failure})`;
  return { variable: `SINK_${id}_KIND`, expected, got, ...(near && { meant: near }) };
}

/** Resolves to the module, or to a text that says what is wrong with it. */
export async function loadModule(kind: string): Promise<SinkModule | string> {
  if (isOurs(kind)) return await importSinkModule(kind);
  try {
    const module: unknown = await importSinkModule(kind);
    if (!isSinkModule(module)) return 'its default export has no create, settings and limits';
    const taken = settingsTaken(module);
    if (taken.length > 0)
      return `every sink has settings called ${taken.join(', ')}: call those of the module something else`;
    return areLimits(module.limits) ? module : `its limits ${LIMITS_EXPECTED}`;
  } catch (error) {
    return firstLine(error);
  }
}

/** Returns the module's settings of which the variable is that of a setting of every sink: both would read it. */
function settingsTaken(module: SinkModule): string[] {
  const ours = variablesOf(SINK_SETTINGS, '');
  return Object.entries(settingsOf(module)).flatMap(([key, own]) =>
    variablesOf({ [key]: own }, '').some((variable) => ours.includes(variable)) ? [key] : [],
  );
}

const LIMITS_EXPECTED = 'maxPoints, maxBytes and inFlight must all be 1 or more';

/** With a lower limit the lane could never write, or would make empty batches forever. */
function areLimits(limits: Partial<SinkLimits> | null | undefined): boolean {
  return [limits?.maxPoints, limits?.maxBytes, limits?.inFlight].every(
    (limit) => typeof limit === 'number' && limit >= 1,
  );
}

/** Returns what is wrong with what `limitsBy` makes of the settings; undefined if nothing is. */
function wrongLimitsBy(module: SinkModule, values: Values<Settings>, env: Environment): string | undefined {
  const fixing = 'a sink module whose limitsBy accepts these settings';
  try {
    return areLimits(limitsOf(module, values)) ? undefined : `${fixing}: ${LIMITS_EXPECTED}`;
  } catch (error) {
    return `${fixing} (it failed: ${maskerOf({ module, values }, env).mask(firstLine(error))})`;
  }
}

function firstLine(error: unknown): string {
  return error instanceof Error ? error.message.split('\n', 1)[0]! : String(error);
}

function isSinkModule(value: unknown): value is SinkModule {
  const module = value as Partial<SinkModule> | null | undefined;
  return (
    typeof module?.create === 'function' && typeof module.settings === 'object' && module.limits !== undefined
  );
}

/** Returns all settings that a module reads. */
export function settingsOf({ settings, price }: SinkModule): Settings {
  return { ...settings, ...price?.settings };
}

/** Checks that a sink reads every SINK_* variable, so that a typing error is not silently ignored. */
async function checkNames(ids: readonly string[], env: Environment, errors: SettingError[]): Promise<void> {
  const longestFirst = [...ids].sort((a, b) => b.length - a.length);
  for (const variable of Object.keys(env)
    .filter((name) => name.startsWith('SINK_'))
    .sort()) {
    const id = longestFirst.find((candidate) => variable.startsWith(`SINK_${candidate}_`));
    if (id === undefined) {
      const expected = `the id of a sink that SINK_<ID>_ENABLED names, or a kind (${Object.keys(SINKS).join(', ')})`;
      errors.push({
        variable,
        expected,
        got: undefined,
        unknown: true,
        ...(await meantBy(variable, ids, env)),
      });
      continue;
    }
    const known = await variablesOfSink(id, env);
    if (known.length > 0 && !known.includes(variable)) {
      const meant = meantVariable(variable, known);
      const expected = `one of ${known.join(', ')}`;
      errors.push({ variable, expected, got: undefined, unknown: true, ...(meant && { meant }) });
    }
  }
  for (const id of ids) {
    const text = env[`SINK_${id}_ENABLED`];
    if (text !== undefined && text !== '' && !/^(true|false)$/i.test(text)) {
      errors.push({ variable: `SINK_${id}_ENABLED`, expected: SINK_SETTINGS.enabled.expected, got: text });
    }
  }
}

/** Returns a sentence for each sink that has settings, and is off because nobody said whether it is on. */
export function sinksForgotten(env: Environment, on: readonly SinkConfig[]): string[] {
  return sinkIds(env).flatMap((id) => {
    const enabled = `SINK_${id}_ENABLED`;
    if (env[enabled] || on.some((sink) => sink.id === id.toLowerCase())) return [];
    const others = sinkIds(env).filter((other) => other.startsWith(`${id}_`));
    const given = Object.keys(env)
      .filter((name) => name.startsWith(`SINK_${id}_`) && name !== enabled && env[name])
      .filter((name) => !others.some((other) => name.startsWith(`SINK_${other}_`)))
      .sort();
    if (given.length === 0) return [];
    return `${given.join(', ')} ${given.length === 1 ? 'is' : 'are'} set, but ${enabled} is not: this sink is off`;
  });
}

/** Resolves to no variables if the sink's module cannot be loaded. */
async function variablesOfSink(id: string, env: Environment): Promise<string[]> {
  const module = await loadModule(env[`SINK_${id}_KIND`] || id.toLowerCase());
  if (typeof module === 'string') return [];
  const prefix = `SINK_${id}_`;
  return [...variablesOf(SINK_SETTINGS, prefix), ...variablesOf(settingsOf(module), prefix)];
}

async function meantBy(
  variable: string,
  ids: readonly string[],
  env: Environment,
): Promise<Pick<SettingError, 'meant'>> {
  const known = await Promise.all(ids.map((id) => variablesOfSink(id, env)));
  const meant = meantToName(variable) ?? meantVariable(variable, known.flat());
  return { ...(meant && { meant }) };
}
