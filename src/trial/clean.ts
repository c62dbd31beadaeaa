/** Finds what trials left in the stores because they were killed, and deletes it. */
import type { SinkConfig } from '../config/sink-config.ts';
import type { Environment } from '../settings/setting.ts';
import { failureInWords, TRIAL_PREFIX } from '../sink/contract.ts';
import { createSink } from '../sink/masked-sink.ts';
import { trialBegan } from './names.ts';
import { SILENT, TrialTable } from './tables.ts';

/** For one look at a store. */
const LIST_TIMEOUT_MS = 60_000;

export interface LeftTable {
  readonly sink: string;
  readonly name: string;
  /** RFC 3339: when its trial began. */
  readonly began: string;
  /** `young`: it began so shortly ago that it may still run. `kept`: it could not be deleted. */
  readonly fate: 'found' | 'young' | 'deleted' | 'kept';
  /** Of `kept`: why, and how to delete it by hand. */
  readonly why?: string;
}

export interface Cleaning {
  readonly tables: readonly LeftTable[];
  /** Stores that could not be asked, and why. */
  readonly unknown: readonly { readonly sink: string; readonly why: string }[];
}

export interface CleaningOptions {
  readonly env: Environment;
  /** Tables of trials that began after this time are left alone. */
  readonly before: number;
  /** Whether to delete, and not only to look. */
  readonly isMeant: boolean;
}

export async function cleanTrials(sinks: readonly SinkConfig[], options: CleaningOptions): Promise<Cleaning> {
  const tables: LeftTable[] = [];
  const unknown: { sink: string; why: string }[] = [];
  for (const config of sinks) {
    const sink = config.id;
    const names = await namesIn(config, options.env).catch((error: unknown) => failureInWords(error));
    if (typeof names === 'string') unknown.push({ sink, why: names });
    else for (const name of names) tables.push(...(await fateOf(config, name, options)));
  }
  return { tables, unknown };
}

/** Resolves to the names that are there; or to why nobody knows. */
async function namesIn(config: SinkConfig, env: Environment): Promise<readonly string[] | string> {
  const { id, module, values, timeoutMs } = config;
  const sink = createSink({ id, module, values, timeoutMs }, SILENT, env);
  try {
    if (sink.trials === undefined) return `it lists none; to delete what there is: ${byHand(config)}`;
    return [...(await sink.trials(AbortSignal.timeout(LIST_TIMEOUT_MS)))].sort();
  } finally {
    await sink.close().catch(() => {});
  }
}

function byHand({ module, values }: SinkConfig): string {
  const trial = module.trial!;
  return trial.byHand(trial.settings(values, `${TRIAL_PREFIX}...`));
}

async function fateOf(
  config: SinkConfig,
  name: string,
  { env, before, isMeant }: CleaningOptions,
): Promise<LeftTable[]> {
  const time = trialBegan(name);
  if (time === undefined) return [];
  const found = { sink: config.id, name, began: new Date(time).toISOString() };
  if (time >= before) return [{ ...found, fate: 'young' }];
  if (!isMeant) return [{ ...found, fate: 'found' }];
  const why = await TrialTable.named(config, name, env).drop();
  return [why === undefined ? { ...found, fate: 'deleted' } : { ...found, fate: 'kept', why }];
}
