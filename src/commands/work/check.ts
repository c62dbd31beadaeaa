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
import { ThreadedSink } from '../../deliver/thread/threaded-sink.ts';
import { readBackOf, removesOf } from '../../sink/contract.ts';
import { type Finding, failed } from '../check-finding.ts';
import { trySink } from '../check-sink.ts';
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

const COLUMNS = ['what', 'state', 'detail'] as const;

export default async function runCheck(options: { json?: true; watch?: number }): Promise<void> {
  const config = await loadConfig(process.env);
  warn(config.warnings);
  // A reader that stops early (`| head`) does not change the exit code: see main.ts.
  process.stdout.on('error', () => {});
  const lines = options.json ? undefined : new Lines(config);
  await lines?.begin();
  const findings: Finding[] = [];
  const closing: Promise<void>[] = [];
  const memory = checkMemory(config);
  findings.push(memory);
  await lines?.add(memory);
  for await (const finding of checkBus(config, options.watch)) {
    findings.push(finding);
    await lines?.add(finding);
  }
  const checked = config.sinks.map(async (each) => {
    const { id, kind, values, timeoutMs } = each;
    const sink = new ThreadedSink({ id, kind, values, timeoutMs }, { info() {}, warn() {} });
    const finding = await checkSink(sink, each, config);
    closing.push(sink.close());
    await lines?.add(finding);
    return finding;
  });
  findings.push(...(await Promise.all(checked)));
  const code = findings.some(({ state }) => state === 'failed') ? 1 : 0;
  await print(options.json ? `${printableJson(findings, 2)}\n` : whatToDo(findings), code);
  await Promise.allSettled(closing);
  endProcess();
}

/** Prints the findings as a table, each when it is known. */
class Lines {
  readonly #widths: readonly number[];

  constructor({ core, sinks }: Config) {
    const names = [
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
    const colour = state === 'ok' ? 'green' : 'red';
    await print(`${renderLine([what, { text: state, colour }, printable(detail)], this.#widths)}\n`);
  }
}

const MEMORY_NAME = 'memory';

const BUS_NAME = 'bus';

const CHECKPOINTS_NAME = 'checkpoints';

const sinkName = ({ id, module }: SinkConfig) => `sink ${id} (${module.kind})`;

function whatToDo(findings: readonly Finding[]): string {
  const advice = findings.filter((finding) => finding.advice !== '');
  const todo = advice.map((finding) => `  ${finding.what}: ${printable(finding.advice)}\n`).join('');
  return todo === '' ? '' : `\nWhat to do:\n${todo}`;
}

/** Of this machine or container: the service may run elsewhere. */
function checkMemory(config: Config): Finding {
  const [needed, limit] = [memoryNeeded(config), memoryLimit()];
  const detail = `at most ${bytes(needed)} with MAX_SERIES_BYTES, of ${bytes(limit)} here`;
  if (needed <= limit) return { what: MEMORY_NAME, state: 'ok', detail, advice: '' };
  const advice = 'Lower MAX_SERIES_BYTES, or give the process more memory.';
  return { what: MEMORY_NAME, state: 'failed', detail, advice };
}

async function* checkBus(config: Config, watchMs: number | undefined): AsyncGenerator<Finding> {
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
    if (found.state === 'ok') {
      yield await checkLimits(bus, config.core);
      yield await checkReading(bus, config.core);
    }
    yield await checkCheckpoints(bus, config);
    if (found.state === 'ok' && watchMs !== undefined) yield await checkWatch(bus, config.core, watchMs);
  }
  await bus.close();
}

async function checkCheckpoints(bus: Bus, config: Config): Promise<Finding> {
  const what = CHECKPOINTS_NAME;
  const store = createCheckpointStore(bus, config.core, 1);
  try {
    if (!(await bucketExists(bus))) return { what, state: 'ok', detail: 'none yet', advice: '' };
    const stored = await Promise.all(config.sinks.map(({ id }) => store.load(id)));
    const { shapes } = await createShapeStore(bus, config.core.pipeline, 1).load();
    const shaped = shapes?.epochs.at(-1);
    const changes = shaped !== undefined && !isSameShape(shaped, windowShape(config));
    const texts = config.sinks.map(({ id }, i) => {
      const next = stored[i]?.next;
      return `${id} ${next === undefined ? 'none yet' : `at ${new Date(next).toISOString()}`}`;
    });
    const change =
      'at its start, the service will announce a new shape of its windows (WINDOW, LATENESS, MAX_AHEAD, MAX_SERIES, MAX_SERIES_BYTES or how messages are read)';
    return { what, state: 'ok', detail: [...texts, ...(changes ? [change] : [])].join(', '), advice: '' };
  } catch (error) {
    return failed(what, error);
  }
}

async function checkSink(sink: ThreadedSink, config: SinkConfig, { core }: Config): Promise<Finding> {
  const { module, values, timeoutMs } = config;
  const what = sinkName(config);
  try {
    const { detail, advice } = await trySink(sink, {
      reads: readBackOf(module, values),
      removes: removesOf(module, values),
      windowMs: core.window,
      timeoutMs,
    });
    return { what, state: 'ok', detail, advice };
  } catch (error) {
    return failed(what, error);
  }
}
