import { randomBytes } from 'node:crypto';
import type { Command } from 'commander';
import type { Point } from '../aggregate/point.ts';
import { makeSeries } from '../aggregate/series.ts';
import { createLog } from '../base/log.ts';
import { printable, printableJson } from '../base/printable.ts';
import { BusError } from '../bus/bus-error.ts';
import { type Bus, connect } from '../bus/connect.ts';
import { bucketExists } from '../bus/kv/bucket.ts';
import { createCheckpointStore } from '../bus/kv/checkpoints.ts';
import { createShapeStore } from '../bus/kv/window-shapes.ts';
import { describeStream, streamExists } from '../bus/stream.ts';
import { type Config, loadConfig, windowShape } from '../config/config.ts';
import type { SinkConfig } from '../config/sink-config.ts';
import { isSameShape } from '../deliver/epochs.ts';
import { type Batch, type ReadBack, readBackOf, type Sink, SinkError } from '../sink/contract.ts';
import { createSink } from '../sink/masked-sink.ts';
import { BUS, describe, SINK_VARIABLES, STREAM, WRONG_SETTINGS } from './terminal/help-page.ts';
import { print, warn } from './terminal/output.ts';
import { type Cell, renderTable } from './terminal/table.ts';

/** One thing that was checked, and what to do about it if it failed. */
interface Finding {
  readonly what: string;
  readonly state: 'ok' | 'failed' | 'skipped';
  readonly detail: string;
  readonly advice: string;
}

const PROBE_NAME = 'fanout.check';

const PAGE = {
  summary: 'connect to the bus and to every enabled sink; write, read and remove a probe point in each sink',
  text: `
It changes nothing on the bus: the service creates a missing stream or missing checkpoints. In a store, it creates
missing tables and the like, as the service would. Every failure is shown with what to do about it.`,
  examples: [
    ['metrics-fanout check', 'before the first start, and before you add a store'],
    ['metrics-fanout check --json', 'the same, for a program to read'],
  ],
  exit: [
    ['0', 'everything works'],
    ['1', 'something failed; the output says what, and what to do'],
    WRONG_SETTINGS,
  ],
  environment: [...BUS, ...STREAM, ...SINK_VARIABLES],
} as const;

export function checkCommand(): Command {
  return describe('check', PAGE)
    .option('--json', 'print JSON')
    .action(async (options: { json?: true }) => {
      const config = await loadConfig(process.env);
      warn(config.warnings);
      const findings = [
        ...(await checkBus(config)),
        ...(await Promise.all(config.sinks.map((sink) => checkSink(sink, config)))),
      ];
      const text = options.json ? `${printableJson(findings, 2)}\n` : report(findings);
      await print(text, findings.some(({ state }) => state === 'failed') ? 1 : 0);
      process.exit();
    });
}

function report(findings: readonly Finding[]): string {
  const colours = { ok: 'green', failed: 'red', skipped: 'yellow' } as const;
  const rows = findings.map(({ what, state, detail }): Cell[] => [
    what,
    { text: state, colour: colours[state] },
    printable(detail),
  ]);
  const advice = findings.filter((finding) => finding.advice !== '');
  const todo = advice.map((finding) => `  ${finding.what}: ${finding.advice}\n`).join('');
  return `${renderTable(['what', 'state', 'detail'], rows)}\n${todo === '' ? '' : `\nWhat to do:\n${todo}`}`;
}

async function checkBus(config: Config): Promise<Finding[]> {
  const { core } = config;
  const what = 'bus';
  let bus: Bus;
  try {
    bus = await connect(core, createLog('error'));
  } catch (error) {
    return [failed(what, error)];
  }
  const connected: Finding = { what, state: 'ok', detail: `connected to ${bus.server}`, advice: '' };
  if (core.metricsSource === 'core') return [connected];
  const found = [connected, await checkStream(bus, config), await checkCheckpoints(bus, config)];
  await bus.close();
  return found;
}

/** Only looks: `check` creates no stream. */
async function checkStream(bus: Bus, { core }: Config): Promise<Finding> {
  const what = `stream ${core.metricsStream}`;
  try {
    if (!(await streamExists(bus, core.metricsStream))) {
      return {
        what,
        state: 'ok',
        detail: 'does not exist yet; the service creates it, if its user is permitted to',
        advice: '',
      };
    }
    const { messages, bytes, firstSequence, lastSequence, subjects } = await describeStream(bus, core);
    const detail = `${messages} messages, ${bytes} bytes, sequence ${firstSequence} to ${lastSequence}, ${subjects.join(', ')}`;
    return { what, state: 'ok', detail, advice: '' };
  } catch (error) {
    return failed(what, error);
  }
}

async function checkCheckpoints(bus: Bus, config: Config): Promise<Finding> {
  const what = 'checkpoints';
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
      'at its start, the service will announce a new shape of its windows (WINDOW, LATENESS, MAX_AHEAD or MAX_SERIES)';
    return { what, state: 'ok', detail: [...texts, ...(changes ? [change] : [])].join(', '), advice: '' };
  } catch (error) {
    return failed(what, error);
  }
}

async function checkSink(config: SinkConfig, { core }: Config): Promise<Finding> {
  const { id, module, values, timeoutMs } = config;
  const what = `sink ${id} (${module.kind})`;
  const quiet = { info() {}, warn() {} };
  const sink = createSink(config, quiet, process.env);
  try {
    const answers = { reads: readBackOf(module, values), removes: module.removes !== false };
    const detail = await probe(sink, answers, core.window, AbortSignal.timeout(timeoutMs));
    return { what, state: 'ok', detail, advice: '' };
  } catch (error) {
    return failed(what, error);
  } finally {
    await sink.close().catch(() => {});
  }
}

/** Writes a point that no producer makes, then reads it back by the store's own query and removes it, if possible. */
async function probe(
  sink: Sink,
  { reads, removes }: { readonly reads: ReadBack; readonly removes: boolean },
  windowMs: number,
  signal: AbortSignal,
): Promise<string> {
  const started = performance.now();
  await sink.open(signal);
  const windowStart = Math.floor(Date.now() / windowMs) * windowMs;
  const batch: Batch = { points: [probePoint(windowStart, windowMs)] };
  const outcome = await sink.write(batch, signal);
  if (outcome.kind === 'retry' || outcome.kind === 'refused')
    throw new SinkError(outcome.reason, outcome.message);
  if (outcome.kind === 'partial') {
    const [rejection] = outcome.rejected;
    throw new SinkError('unknown', rejection ? rejection.message : 'the store did not take the probe point');
  }
  let readBack = 'read back';
  try {
    if (reads === 'none' || !(await holds(sink, batch.points[0]!, reads, signal)))
      readBack = 'cannot be read back';
  } finally {
    await sink.remove(batch, signal);
  }
  return `written, ${readBack}, ${removes ? 'removed' : 'not removed'}, in ${Math.round(performance.now() - started)} ms`;
}

async function holds(sink: Sink, wanted: Point, reads: ReadBack, signal: AbortSignal): Promise<boolean> {
  const range = { from: wanted.windowStart, to: wanted.windowStart + wanted.windowMs };
  // If `read` scans everything that the store holds, a large store would not answer in time.
  const found = reads === 'keys' ? sink.lookUp?.([wanted], signal) : undefined;
  for await (const { series, sum } of found ?? sink.read(range, signal)) {
    if (series.id !== wanted.series.id) continue;
    if (sum !== wanted.sum) throw new SinkError('unknown', `the probe point has the sum ${sum} in the store`);
    return true;
  }
  return false;
}

function probePoint(windowStart: number, windowMs: number): Point {
  const series = makeSeries(PROBE_NAME, 'counter', [['probe', randomBytes(8).toString('hex')]]);
  const none = { min: null, max: null, last: null, p50: null, p90: null, p95: null, p99: null };
  return { series, windowStart, windowMs, instance: '', count: 1, sum: 1, ...none };
}

function failed(what: string, error: unknown): Finding {
  const known = error instanceof BusError || error instanceof SinkError ? error.advice : '';
  const unreachable =
    error instanceof SinkError && (error.reason === 'connection' || error.reason === 'timeout');
  const advice =
    known === '' && unreachable ? 'Check the address of the store, and that the store listens there.' : known;
  const detail = error instanceof Error ? error.message : String(error);
  return { what, state: 'failed', detail, advice };
}
