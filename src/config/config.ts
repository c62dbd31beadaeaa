/** Turns the environment into one frozen, typed Config. Reports all errors at once. */

import { isDeepStrictEqual } from 'node:util';
import { SKETCH_SCALE } from '../aggregate/buckets.ts';
import type { WindowShape } from '../aggregate/tiling.ts';
import { proxyProblems } from '../base/http-agent.ts';
import { inputOf } from '../decode/formats.ts';
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
import { writesSketches } from '../sink/contract.ts';
import { ConfigError } from './config-error.ts';
import { CORE_SETTINGS, type CoreConfig, readBySelf } from './core-settings.ts';
import { unknownVariables } from './misspelled.ts';
import { loadSinks, type SinkConfig, sinksForgotten } from './sink-config.ts';

export interface Config {
  readonly core: CoreConfig;
  readonly sinks: readonly SinkConfig[];
  /** Every variable as resolved and masked, for `config` to print. */
  readonly resolved: readonly ResolvedSetting[];
  /** What is odd but not an error, a sentence each: such as variables that look like ours but that nothing reads. */
  readonly warnings: readonly string[];
  /** A command merges sketches itself, whatever sinks do. */
  readonly mergesSketches?: boolean;
}

/** Of a command that writes to no store, and reads none: what is wrong with a sink is no reason to refuse it. */
export const WITHOUT_SINKS = { sinks: false } as const;

/** Reads, checks and freezes everything. Throws a `ConfigError` that lists every error, and every warning. */
export async function loadConfig(
  env: Environment,
  { sinks: isWithSinks }: { readonly sinks: boolean } = { sinks: true },
): Promise<Config> {
  const errors: SettingError[] = [];
  const resolved: ResolvedSetting[] = [];
  const core = readSettings(CORE_SETTINGS, '', env, errors, resolved);
  checkCore(core, errors);
  const start = core.metricsStart ?? { kind: 'now' };
  const sinks = isWithSinks ? await loadSinks(env, start, errors, resolved) : [];
  // Before that, the settings that it takes may be missing.
  if (errors.length === 0) checkLoops(core, sinks, errors);
  if (errors.length === 0) checkWindows(core, sinks, errors);
  const warnings = [
    ...unknownVariables(env, variablesOf(CORE_SETTINGS, '')),
    ...proxyProblems(env),
    ...(isWithSinks ? sinksForgotten(env, sinks) : []),
  ];
  if (errors.length > 0) throw new ConfigError(errors, warnings);
  return Object.freeze({ core: Object.freeze(core), sinks: Object.freeze(sinks), resolved, warnings });
}

/** A sink that publishes what the service reads would feed it with its own windows. */
function checkLoops(core: CoreConfig, sinks: readonly SinkConfig[], errors: SettingError[]): void {
  for (const { id, module, values } of sinks) {
    for (const { key, subject } of module.publishesOn?.(values) ?? []) {
      const read = readBySelf(core, subject);
      if (read === undefined) continue;
      const expected = `subjects that the service does not read itself, as it does ${read}`;
      errors.push({ variable: `SINK_${id.toUpperCase()}_${variableName(key)}`, expected, got: subject });
    }
  }
}

/** Windows of a sink are made of whole windows of one instance. */
function checkWindows(core: CoreConfig, sinks: readonly SinkConfig[], errors: SettingError[]): void {
  for (const { id, windowMs, module: own, values: ownValues } of sinks) {
    if (windowMs === undefined) continue;
    const variable = `SINK_${id.toUpperCase()}_WINDOW`;
    if (windowMs % core.window !== 0) {
      const expected = `a multiple of WINDOW, which is ${core.window / 1000} s`;
      errors.push({ variable, expected, got: `${windowMs / 1000} s` });
    }
    if (core.slice.of > 1) {
      const expected = 'no SLICE: with several, no instance has all windows of WINDOW that one is made of';
      errors.push({ variable, expected, got: `SLICE=${core.slice.index}/${core.slice.of}` });
    }
    const isSame = ({ module, values, windowMs: other = core.window }: SinkConfig) =>
      other !== windowMs && module === own && isDeepStrictEqual(whereOf(values), whereOf(ownValues));
    const same = sinks.find(isSame);
    if (same !== undefined) {
      const expected = `another table than that of SINK_${same.id.toUpperCase()}: rows of two lengths in one count everything twice`;
      errors.push({ variable, expected, got: 'the same settings of the store' });
    }
  }
}

/** Settings of sinks that never say in which table the rows are, but what is in them, or how long they stay. */
const NEVER_WHERE: readonly string[] = ['sketch', 'histograms', 'keep', 'ttl', 'create'];

const whereOf = (values: Values<Settings>) =>
  Object.entries(values).filter(([key]) => !NEVER_WHERE.includes(key));

/** Checks what spans several variables. */
function checkCore(core: CoreConfig, errors: SettingError[]): void {
  const ways = {
    NATS_USER: core.natsUser,
    NATS_TOKEN: core.natsToken,
    NATS_CREDS_FILE: core.natsCredsFile,
    NATS_NKEY_SEED_FILE: core.natsNkeySeedFile,
  };
  const given = Object.entries(ways).filter(([, value]) => value !== undefined);
  if (given.length > 1) {
    const names = given.map(([name]) => name);
    errors.push({
      variable: names.join(', '),
      expected: 'only one way to sign in',
      got: `${names.length} of them`,
    });
  }
  if (core.natsPassword !== undefined && core.natsUser === undefined) {
    errors.push({ variable: 'NATS_USER', expected: 'the user to go with NATS_PASSWORD', got: undefined });
  }
  if ((core.natsTlsCertFile === undefined) !== (core.natsTlsKeyFile === undefined)) {
    const missing = core.natsTlsCertFile === undefined ? 'NATS_TLS_CERT_FILE' : 'NATS_TLS_KEY_FILE';
    errors.push({ variable: missing, expected: 'a certificate and its key together', got: undefined });
  }
  if (core.natsJetstreamDomain !== undefined && core.natsJetstreamApiPrefix !== undefined) {
    const [variable, expected] = ['NATS_JETSTREAM_DOMAIN, NATS_JETSTREAM_API_PREFIX', 'only one of them'];
    errors.push({ variable, expected, got: 'both' });
  }
  if (core.metricsQueueGroup !== undefined && core.metricsSource === 'jetstream') {
    const expected = 'METRICS_SOURCE=core as well (in jetstream mode, SLICE shares the load)';
    errors.push({ variable: 'METRICS_QUEUE_GROUP', expected, got: core.metricsQueueGroup });
  }
  if (core.slice !== undefined && core.slice.of > 1 && core.metricsSource === 'core') {
    const expected = 'METRICS_SOURCE=jetstream as well (in core mode, METRICS_QUEUE_GROUP shares the load)';
    errors.push({ variable: 'SLICE', expected, got: `${core.slice.index}/${core.slice.of}` });
  }
}

/** Returns what `config --json` prints: every variable as resolved, with secrets masked, and the enabled sinks. */
export function describeConfig({ resolved, sinks }: Config): {
  readonly settings: Readonly<Record<string, string>>;
  readonly sinks: readonly string[];
} {
  const settings = Object.fromEntries(resolved.map(({ variable, shown }) => [variable, shown]));
  return { settings, sinks: sinks.map(({ id }) => id) };
}

/** Whether sketches of timers are needed: a sink writes them or has windows of its own, or a command merges them. */
export function hasSketches({ sinks, mergesSketches = false }: Config): boolean {
  return (
    mergesSketches ||
    sinks.some(({ module, values, windowMs }) => windowMs !== undefined || writesSketches(module, values))
  );
}

/** Returns the settings that shape the windows. */
export function windowShape({ core }: Config): WindowShape {
  return {
    windowMs: core.window,
    latenessMs: core.lateness,
    maxAheadMs: core.maxAhead,
    maxSeries: core.maxSeries,
    maxSeriesBytes: core.maxSeriesBytes,
    sketchScale: SKETCH_SCALE,
    ...(core.maxSeriesByName === undefined ? {} : { maxSeriesByName: core.maxSeriesByName }),
    input: inputOf(core),
  };
}
