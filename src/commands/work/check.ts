import { createLog } from '../../base/log.ts';
import { memoryLimit } from '../../base/memory-limit.ts';
import { bytes } from '../../base/number-format.ts';
import { printable, printableJson } from '../../base/printable.ts';
import { endProcess } from '../../base/process-end.ts';
import { type Bus, connect } from '../../bus/connect.ts';
import { placeOfApi } from '../../bus/jetstream-api.ts';
import { bucketExists } from '../../bus/kv/bucket.ts';
import { createCheckpointStore } from '../../bus/kv/checkpoints.ts';
import { createShapeStore } from '../../bus/kv/window-shapes.ts';
import { type Config, loadConfig, windowShape } from '../../config/config.ts';
import { memoryNeeded } from '../../config/memory.ts';
import type { SinkConfig } from '../../config/sink-config.ts';
import { isSameShape } from '../../deliver/epochs.ts';
import { SHARED_TABLE_ADVICE, sharedTableInWords } from '../../deliver/shared-table.ts';
import { ThreadedSink } from '../../deliver/thread/threaded-sink.ts';
import { readBackOf, removesOf } from '../../sink/contract.ts';
import { makingLog } from '../../sink/making.ts';
import { type Finding, failed, otherStoreInWords } from '../check-finding.ts';
import { type SinkTrial, trySink } from '../check-sink.ts';
import {
  checkLimits,
  checkReading,
  checkStream,
  LIMITS_NAME,
  READING_NAME,
  streamName,
} from '../check-stream.ts';
import { checkWatch } from '../check-watch.ts';
import { print, warn } from '../terminal/output.ts';
import { renderLine } from '../terminal/table.ts';

const COLOURS = { ok: 'green', warn: 'yellow', failed: 'red' } as const;
const COLUMNS = ['what', 'state', 'detail'] as const;

export default async function runCheck(options: { json?: true; watch?: number }): Promise<void> {
  const config = await loadConfig(process.env);
  if (options.json) warn(config.warnings);
  // A reader that stops early (`| head`) does not change the exit code: see main.ts.
  process.stdout.on('error', () => {});
  const lines = options.json ? undefined : new Lines(config);
  await lines?.begin();
  const findings: Finding[] = [];
  const closing: Promise<void>[] = [];
  for (const finding of [...checkSettings(config), checkMemory(config)]) {
    findings.push(finding);
    await lines?.add(finding);
  }
  const stores = new Map<string, string>();
  for await (const finding of checkBus(config, stores, options.watch)) {
    findings.push(finding);
    await lines?.add(finding);
  }
  const tried = config.sinks.map((each): Tried => {
    const { id, kind, values, timeoutMs } = each;
    const made: string[] = [];
    const sink = new ThreadedSink({ id, kind, values, timeoutMs }, makingLog(made));
    const trial = tryOne(sink, each, config.core.window).finally(() => closing.push(sink.close()));
    return { sink: each, windowMs: each.windowMs ?? config.core.window, made, trial };
  });
  const checked = tried.map(async (each) => {
    const finding = await sinkFinding(each, tried, stores.get(each.sink.id));
    await lines?.add(finding);
    return finding;
  });
  findings.push(...(await Promise.all(checked)));
  const code = findings.some(({ state }) => state === 'failed') ? 1 : 0;
  await print(options.json ? `${printableJson(findings, 2)}\n` : ending(findings), code);
  await Promise.allSettled(closing);
  endProcess();
}

/** Prints the findings as a table, each when it is known. */
class Lines {
  readonly #widths: readonly number[];

  constructor({ core, sinks }: Config) {
    const names = [
      SETTINGS_NAME,
      MEMORY_NAME,
      BUS_NAME,
      ...(core.metricsSource === 'core'
        ? []
        : [streamName(core), LIMITS_NAME, READING_NAME, CHECKPOINTS_NAME]),
      ...sinks.map(sinkName),
    ];
    this.#widths = [Math.max(...names.map((name) => name.length)), 'failed'.length];
  }

  async begin(): Promise<void> {
    const cells = COLUMNS.map((text) => ({ text, colour: 'bold' as const }));
    await print(`${renderLine(cells, this.#widths)}\n`);
  }

  async add({ what, state, detail }: Finding): Promise<void> {
    const colour = COLOURS[state];
    await print(`${renderLine([what, { text: state, colour }, printable(detail)], this.#widths)}\n`);
  }
}

const SETTINGS_NAME = 'settings';

const MEMORY_NAME = 'memory';

const BUS_NAME = 'bus';

const CHECKPOINTS_NAME = 'checkpoints';

const sinkName = ({ id, module }: SinkConfig) => `sink ${id} (${module.kind})`;

function ending(findings: readonly Finding[]): string {
  const listed = (title: string, those: readonly Finding[]) => {
    const lines = those.map(({ what, advice }) => (advice === '' ? '' : `  ${what}: ${printable(advice)}\n`));
    return lines.join('') === '' ? '' : `\n${title}:\n${lines.join('')}`;
  };
  const of = (wanted: Finding['state']) => findings.filter(({ state }) => state === wanted);
  const [ok, warned, bad] = [of('ok'), of('warn'), of('failed')];
  const counts = `\n${ok.length} ok, ${warned.length} warn, ${bad.length} failed\n`;
  return listed('Good to know', ok) + listed('What to do', [...bad, ...warned]) + counts;
}

/** Wrong settings have ended it before. But other variables may be meant as settings. */
function checkSettings({ warnings }: Config): Finding[] {
  if (warnings.length === 0) return [];
  const advice = 'Correct or remove what has no effect.';
  return [{ what: SETTINGS_NAME, state: 'warn', detail: warnings.join('; '), advice }];
}

/** Of this machine or container: the service may run elsewhere. */
function checkMemory(config: Config): Finding {
  const [needed, limit] = [memoryNeeded(config), memoryLimit()];
  const detail = `at most ${bytes(needed)} with MAX_SERIES_BYTES, of ${bytes(limit)} here`;
  if (needed <= limit) return { what: MEMORY_NAME, state: 'ok', detail, advice: '' };
  const advice = 'Lower MAX_SERIES_BYTES, or give the process more memory.';
  return { what: MEMORY_NAME, state: 'failed', detail, advice };
}

/** `stores`: gets the identities that the checkpoints remember, by sink. */
async function* checkBus(
  config: Config,
  stores: Map<string, string>,
  watchMs: number | undefined,
): AsyncGenerator<Finding> {
  const { core } = config;
  const what = BUS_NAME;
  let bus: Bus;
  try {
    bus = await connect(core, createLog('error'));
  } catch (error) {
    yield failed(what, error);
    return;
  }
  const place = core.metricsSource === 'core' ? '' : placeOfApi(bus);
  const detail = [`connected to ${bus.server}`, place].filter((text) => text !== '').join(', ');
  yield { what, state: 'ok', detail, advice: '' };
  if (core.metricsSource !== 'core') {
    const found = await checkStream(bus, config.core);
    yield found;
    if (found.state !== 'failed') {
      yield await checkLimits(bus, config);
      yield await checkReading(bus, config.core);
    }
    yield await checkCheckpoints(bus, config, stores);
    if (found.state !== 'failed' && watchMs !== undefined) yield await checkWatch(bus, config.core, watchMs);
  }
  await bus.close();
}

async function checkCheckpoints(bus: Bus, config: Config, stores: Map<string, string>): Promise<Finding> {
  const what = CHECKPOINTS_NAME;
  const windows = new Map(config.sinks.map(({ id, windowMs }) => [id, windowMs]));
  const store = createCheckpointStore(bus, config.core, 1, windows);
  try {
    if (!(await bucketExists(bus))) return { what, state: 'ok', detail: 'none yet', advice: '' };
    const stored = await Promise.all(config.sinks.map(({ id }) => store.load(id)));
    const { shapes } = await createShapeStore(bus, config.core.pipeline, 1).load();
    const shaped = shapes?.epochs.at(-1);
    const changes = shaped !== undefined && !isSameShape(shaped, windowShape(config));
    const texts = config.sinks.map(({ id }, i) => {
      const { next, store: known } = stored[i] ?? {};
      if (known !== undefined) stores.set(id, known);
      return `${id} ${next === undefined ? 'none yet' : `at ${new Date(next).toISOString()}`}`;
    });
    const change =
      'at its start, the service will announce a new shape of its windows (WINDOW, LATENESS, MAX_AHEAD, MAX_SERIES, MAX_SERIES_BYTES or how messages are read)';
    return { what, state: 'ok', detail: [...texts, ...(changes ? [change] : [])].join(', '), advice: '' };
  } catch (error) {
    return failed(what, error);
  }
}

/** Says where the store is, and what it did not have. */
function placed(detail: string, made: readonly string[], { module, values }: SinkConfig): string {
  const place = module.placeOf?.(values);
  const said = [...made.map((what) => `made the ${what}`), detail].join(', ');
  return place === undefined || said.includes(place) ? said : `${place}: ${said}`;
}

const OTHER_STORE_ADVICE =
  'Check its path or address, and the folder in which the service runs. With these settings, the service writes all windows there that the stream still holds.';

/** A sink that is being tried. */
interface Tried {
  readonly sink: SinkConfig;
  readonly windowMs: number;
  /** What the store did not have; complete when the trial has ended. */
  readonly made: readonly string[];
  /** Resolves to what failed, if something does. */
  readonly trial: Promise<SinkTrial | { readonly error: unknown }>;
}

async function tryOne(
  sink: ThreadedSink,
  { module, values, timeoutMs }: SinkConfig,
  windowMs: number,
): Promise<SinkTrial | { readonly error: unknown }> {
  try {
    const [reads, removes] = [readBackOf(module, values), removesOf(module, values)];
    return await trySink(sink, { reads, removes, windowMs, timeoutMs });
  } catch (error) {
    return { error };
  }
}

/** `store`: the identity that its checkpoint remembers. */
async function sinkFinding(own: Tried, all: readonly Tried[], store: string | undefined): Promise<Finding> {
  const { sink, made } = own;
  const what = sinkName(sink);
  const trial = await own.trial;
  if ('error' in trial) {
    const finding = failed(what, trial.error);
    return { ...finding, detail: placed(finding.detail, made, sink) };
  }
  const { detail, advice, identity } = trial;
  const shorter = await shorterTwin(own, identity, all);
  const finding = (state: Finding['state'], said: string, todo: string): Finding => ({
    what,
    state,
    detail: placed(said === '' ? detail : `${detail}; ${said}`, made, sink),
    advice: [advice, todo].filter((text) => text !== '').join(' '),
  });
  // Its checkpoint may well be about another store: the one that it should have.
  if (shorter !== undefined) return finding('failed', sharedTableInWords(shorter), `${SHARED_TABLE_ADVICE}.`);
  if (store !== undefined && identity !== undefined && identity !== store)
    return finding('warn', otherStoreInWords(undefined, identity, store), OTHER_STORE_ADVICE);
  return finding(advice === '' ? 'ok' : 'warn', '', '');
}

/** Resolves to the sink with shorter windows in the same table, because of which the service would stop this one. */
async function shorterTwin(
  { sink, windowMs }: Tried,
  identity: string | undefined,
  all: readonly Tried[],
): Promise<string | undefined> {
  if (identity === undefined || sink.module.sharesIdentity) return undefined;
  for (const other of all) {
    if (other.windowMs >= windowMs || other.sink.module.sharesIdentity) continue;
    const trial = await other.trial;
    if (!('error' in trial) && trial.identity === identity) return other.sink.id;
  }
  return undefined;
}
