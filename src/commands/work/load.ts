import { type FileHandle, open } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setImmediate } from 'node:timers/promises';
import type { Command } from 'commander';
import { METRIC_TYPES, type MetricType } from '../../aggregate/point.ts';
import { identify } from '../../aggregate/series.ts';
import type { InputShape } from '../../aggregate/tiling.ts';
import { systemClock } from '../../base/clock.ts';
import { createLog } from '../../base/log.ts';
import { amount, bytes, counted } from '../../base/number-format.ts';
import { AckedPublisher, type Acknowledgements } from '../../bus/acked-publisher.ts';
import { BusError } from '../../bus/bus-error.ts';
import { type Bus, connect } from '../../bus/connect.ts';
import { pipelineTiling } from '../../bus/kv/window-shapes.ts';
import { createJetStreamSource } from '../../bus/read/jetstream.ts';
import { ensureStream } from '../../bus/stream.ts';
import { uncovered } from '../../bus/subjects.ts';
import { type Config, loadConfig, WITHOUT_SINKS } from '../../config/config.ts';
import { inputOf, rulesOf } from '../../decode/formats.ts';
import { brokenInWords, type NotStored, notStored, watchStored } from '../../load/not-stored.ts';
import { onceAnswered } from '../../load/once-answered.ts';
import { newProgress, type Outlet, type Progress, publishTraffic } from '../../load/sender.ts';
import { findDifferences, readBack, type SeriesDifference, samplesAstray } from '../../load/stream-check.ts';
import { Traffic, type TrafficTotals } from '../../load/traffic.ts';
import { formatTruthRow, Truth, type WindowSettings } from '../../verify/truth.ts';
import { print } from '../terminal/output.ts';
import { exitCodeOf, stopSignal } from '../terminal/stop-signal.ts';
import { renderTable } from '../terminal/table.ts';

interface LoadOptions {
  readonly rate: number;
  readonly count: number;
  /** Milliseconds. */
  readonly duration: number;
  readonly series: number;
  readonly skew: number;
  readonly types: Readonly<Record<MetricType, number>>;
  readonly late: number;
  readonly ahead: number;
  readonly seed: number;
  readonly subject: string;
  readonly truth?: string;
  readonly acks?: true;
  readonly json?: true;
}

const PROGRESS_INTERVAL_MS = 1_000;

/** How many differences are listed; the others are only counted. */
const SHOWN_DIFFERENCES = 10;

/** With --json. */
const LISTED_DIFFERENCES = 100;

export default async function runLoad(options: LoadOptions, command: Command): Promise<void> {
  if (options.late + options.ahead > 1) command.error('error: --late plus --ahead is more than 1');
  const types = METRIC_TYPES.filter((type) => options.types[type] > 0).length;
  if (options.series < types) command.error(`error: ${types} types need --series ${types} or more`);
  const config = await loadConfig(process.env, WITHOUT_SINKS);
  const { metricsFormat, metricsSource } = config.core;
  if (options.acks && metricsSource === 'core')
    command.error('error: --acks needs a stream, and METRICS_SOURCE=core has none');
  if (metricsFormat !== 'auto' && metricsFormat !== 'json')
    command.error(`error: load sends JSON, which METRICS_FORMAT=${metricsFormat} does not read`);
  await load(options, config);
}

async function load(options: LoadOptions, config: Config): Promise<void> {
  const stop = stopSignal();
  // Opened before anything is sent, so that a path that cannot be written fails now and not at the end.
  const file = options.truth === undefined ? undefined : await open(options.truth, 'w');
  try {
    const bus = await connect(config.core, createLog('warn'), { name: 'metrics-fanout load' });
    try {
      await sendAndReport(options, config, bus, file, stop);
    } finally {
      await bus.close();
    }
  } finally {
    await file?.close();
  }
}

async function sendAndReport(
  options: LoadOptions,
  config: Config,
  bus: Bus,
  file: FileHandle | undefined,
  signal: AbortSignal,
): Promise<void> {
  const traffic = new Traffic({ ...options, windows: windowSettings(config) });
  const { core } = config;
  const progress = newProgress();
  const recorder = file && (await startRecording(bus, options.subject, config));
  const isReadBack = recorder !== undefined && core.metricsSource === 'jetstream';
  const watch = isReadBack ? undefined : await watchStored(core, options.subject, systemClock);
  const acked = options.acks && new AckedPublisher(bus);
  const endDisplay = displayProgress(progress);
  await publishTraffic(
    traffic,
    plan(options),
    acked ?? recorder?.outlet ?? bus,
    systemClock,
    progress,
    signal,
  );
  endDisplay();
  const truth = await recorder?.finish(progress);
  if (file && truth) await writeTruth(file, truth);
  const acks = acked?.result;
  const counted = watch
    ? await watch.finish(progress.messages)
    : notStored(progress.messages, truth!.messages);
  const unstored = withAcks(counted, progress.messages, acks);
  await watch?.close();
  const differences = isReadBack ? findDifferences(traffic.sent(), truth!.totals()) : [];
  // The server reports a refusal before it confirms, but the client passes the report on a moment later.
  await setImmediate();
  const { disconnects, permissionErrors: refusals } = bus.stats;
  const totals = traffic.totals();
  const result = { options, progress, disconnects, refusals, totals, unstored, acks, truth, differences };
  // Without an end, Ctrl-C is the end.
  const hasEnd = Math.min(options.count, options.duration) < Number.POSITIVE_INFINITY;
  const code = isWell(result) && !progress.gaveUp ? 0 : 1;
  await print(textOf(result), hasEnd && code === 0 ? exitCodeOf(code) : code);
}

/** A server that crashes can lose even what it confirmed. Only the stream shows that, if it can be asked. */
function isWell({ progress, disconnects, refusals, unstored, differences }: Result): boolean {
  if (differences.length > 0) return false;
  if (unstored.messages !== undefined) return unstored.messages === 0;
  return disconnects === 0 && refusals === 0 && progress.unconfirmed === 0;
}

/** Who has every acknowledgement need not ask the stream. */
function withAcks(counted: NotStored, sent: number, acks: Acknowledgements | undefined): NotStored {
  const isSure = counted.messages !== undefined && counted.never === undefined;
  return !isSure && acks?.acknowledged === sent ? { messages: 0 } : counted;
}

function plan({ subject, rate, count, duration }: LoadOptions) {
  return { subject, rate, maxMessages: count, maxMs: duration };
}

function windowSettings({ core }: Config) {
  return { windowMs: core.window, latenessMs: core.lateness, maxAheadMs: core.maxAhead };
}

/** Has the truth heed what the rules on names and dimensions make of a series. */
function shaped<S extends WindowSettings & { readonly input?: InputShape }>(settings: S): S {
  const rules = rulesOf(settings.input ?? {});
  const shape: WindowSettings['shape'] = (name, dimensions, subject) =>
    rules.shape(identify(name, dimensions), rules.dimensionsOf(subject));
  return { ...settings, shape };
}

/** Produces the truth: has the outlet to send through, and is finished when everything is sent. */
interface Recorder {
  readonly outlet: Outlet;
  finish(progress: Progress): Promise<Truth>;
}

async function startRecording(bus: Bus, subject: string, config: Config): Promise<Recorder> {
  if (config.core.metricsSource === 'core') {
    return recordWhatIsSent(
      bus,
      new Truth(shaped({ ...windowSettings(config), input: inputOf(config.core) })),
    );
  }
  if (uncovered([subject], config.core.metricsSubjects).length > 0) {
    throw new BusError(
      `METRICS_SUBJECTS (${config.core.metricsSubjects.join(', ')}) does not cover ${subject}`,
      'Give load a --subject that the service reads.',
    );
  }
  const core = { ...config.core, metricsSubjects: [subject] };
  const { lastSequence } = await onceAnswered(() => ensureStream(bus, config.core));
  return {
    outlet: bus,
    async finish(progress) {
      const { epochs } = await onceAnswered(() => pipelineTiling(bus, config), true);
      const truth = new Truth(...epochs.map(shaped));
      const start = { kind: 'sequence', sequence: lastSequence + 1 } as const;
      const source = createJetStreamSource(bus, core, { start });
      if (progress.messages > 0) await readBack(source, truth, progress.messages, systemClock);
      return truth;
    },
  };
}

/** Without a stream there is nothing to read back, so the truth is what was published. */
function recordWhatIsSent(bus: Bus, truth: Truth): Recorder {
  const outlet: Outlet = {
    get connected() {
      return bus.connected;
    },
    whenConnected: (signal) => bus.whenConnected(signal),
    flush: () => bus.flush(),
    publish(subject, payload) {
      const isSent = bus.publish(subject, payload);
      if (isSent) truth.add(payload, null, subject);
      return isSent;
    },
  };
  return { outlet, finish: async () => truth };
}

async function writeTruth(file: FileHandle, truth: Truth): Promise<void> {
  const rows = [...truth.rows()];
  const lines = function* () {
    for (const row of rows.length > 0 ? rows : truth.totals()) yield `${formatTruthRow(row)}\n`;
  };
  await pipeline(Readable.from(lines()), file.createWriteStream());
}

/** Updates one line on the terminal, once a second, until the returned function is called. */
function displayProgress(progress: Progress): () => void {
  if (!process.stderr.isTTY) return () => {};
  let before = 0;
  const timer = setInterval(() => {
    const rate = ((progress.messages - before) * 1_000) / PROGRESS_INTERVAL_MS;
    before = progress.messages;
    process.stderr.write(`\r${counted(progress.messages, 'message')}, ${grouped(rate)}/s\x1b[K`);
  }, PROGRESS_INTERVAL_MS);
  return () => {
    clearInterval(timer);
    process.stderr.write('\r\x1b[K');
  };
}

interface Result {
  readonly options: LoadOptions;
  readonly progress: Progress;
  readonly disconnects: number;
  /** How often the server said that something is not permitted. */
  readonly refusals: number;
  readonly totals: TrafficTotals;
  readonly unstored: NotStored;
  /** With --acks. */
  readonly acks: Acknowledgements | undefined;
  readonly truth: Truth | undefined;
  readonly differences: readonly SeriesDifference[];
}

function textOf(result: Result): string {
  return `${result.options.json ? JSON.stringify(toJson(result), null, 2) : toText(result).join('\n')}\n`;
}

function toJson(result: Result): object {
  const { options, progress, disconnects, refusals, totals, unstored, acks, truth, differences } = result;
  const astray = samplesAstray(differences);
  return {
    subject: options.subject,
    seed: options.seed,
    messages: progress.messages,
    bytes: progress.bytes,
    elapsed_ms: progress.elapsedMs,
    messages_per_second: ratePerSecond(progress),
    unconfirmed: progress.unconfirmed,
    disconnects,
    refusals,
    not_stored: unstored.messages ?? null,
    not_stored_unknown: unstored.unknown ?? null,
    not_stored_because: (unstored.unknown === undefined && unstored.never) || null,
    ...(acks && { acks: { ...acks, refusal: acks.refusal ?? null } }),
    types: totals.types,
    late: totals.late,
    ahead: totals.ahead,
    ...(truth && {
      truth: {
        file: options.truth,
        messages: truth.messages,
        rejected: truth.rejected,
        late: truth.late,
        ahead: truth.ahead,
        differing_series: differences.length,
        missing_samples: astray.missing,
        extra_samples: astray.extra,
        differences: differences.slice(0, LISTED_DIFFERENCES),
      },
    }),
  };
}

function toText(result: Result): string[] {
  const { options, progress, disconnects, refusals, totals, unstored, acks, truth, differences } = result;
  const rate = grouped(ratePerSecond(progress));
  const seconds = (progress.elapsedMs / 1_000).toFixed(1);
  const types = METRIC_TYPES.map((type) => {
    const { series, samples, sum } = totals.types[type];
    return [type, String(series), String(samples), String(sum)];
  });
  return [
    `sent ${counted(progress.messages, 'message')} (${bytes(progress.bytes)}) to ${options.subject} in ${seconds} s: ${rate}/s`,
    renderTable(['type', 'series', 'samples', 'sum'], types),
    `of these, late: ${grouped(totals.late)}, ahead: ${grouped(totals.ahead)}`,
    ...(disconnects > 0 || progress.unconfirmed > 0 ? [brokenInWords(progress.unconfirmed, unstored)] : []),
    ...(refusals > 0
      ? [`the bus denied permission: ${counted(refusals, 'refusal')}; refused messages did not arrive`]
      : []),
    ...(progress.gaveUp ? ['the connection did not come back'] : []),
    ...(acks ? [ackText(acks)] : []),
    storedText(unstored),
    ...(truth ? truthText(options, truth, differences) : []),
  ];
}

function storedText(unstored: NotStored): string {
  const { messages, unknown } = unstored;
  if (messages === undefined) return `whether the stream stored them is unknown: ${unknown}`;
  if (unstored.never !== undefined)
    return `${unstored.never}: none of them was stored (if the server maps that subject, or hands it to another account, --acks tells)`;
  if (messages === 0) return 'the stream stored all of them';
  return `the stream did not store ${grouped(messages)} of them (docs/producers.md says what to do)`;
}

function ackText({ acknowledged, repeated, refused, refusal, unanswered }: Acknowledgements): string {
  const why = refusal === undefined ? '' : ` (${refusal})`;
  return `acknowledged: ${grouped(acknowledged)}, refused: ${grouped(refused)}${why}, without an answer: ${grouped(unanswered)}; published again: ${counted(repeated, 'time')}`;
}

function truthText(
  { truth: file }: LoadOptions,
  truth: Truth,
  differences: readonly SeriesDifference[],
): string[] {
  const [row] = truth.rows();
  const kind = row
    ? 'one row per window and series'
    : 'totals per series (in core mode the windows cannot be known)';
  const held = `the stream holds ${counted(truth.messages, 'message')}, late: ${grouped(truth.late)}, ahead: ${grouped(truth.ahead)}`;
  const listed = differences
    .slice(0, SHOWN_DIFFERENCES)
    .map(
      ({ name, dimensionsJson, sent, held }) =>
        `  ${name} ${dimensionsJson}: sent ${sent.count} (sum ${sent.sum}), held ${held.count} (sum ${held.sum})`,
    );
  const { missing, extra } = samplesAstray(differences);
  const counts = `${counted(missing, 'sample')} missing, ${amount(extra)} too many`;
  return [
    ...(row ? [held] : []),
    `wrote ${file}: ${kind}`,
    ...(differences.length > 0
      ? [
          `the stream does not hold what was sent; ${counted(differences.length, 'series differs', 'series differ')} (${counts}):`,
          ...listed,
        ]
      : []),
  ];
}

function ratePerSecond({ messages, elapsedMs }: Progress): number {
  return elapsedMs === 0 ? 0 : Math.round((messages * 1_000) / elapsedMs);
}

function grouped(value: number): string {
  return value.toLocaleString('en-US', { maximumFractionDigits: 0 });
}
