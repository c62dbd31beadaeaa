import type { Command } from 'commander';
import { coarseTiling } from '../../aggregate/coarse-tiling.ts';
import { matchesGlob } from '../../aggregate/glob.ts';
import { SeriesTable } from '../../aggregate/series-table.ts';
import type { Tiling } from '../../aggregate/tiling.ts';
import { systemClock } from '../../base/clock.ts';
import { createLog } from '../../base/log.ts';
import { counted } from '../../base/number-format.ts';
import { endProcess } from '../../base/process-end.ts';
import { type Bus, connect } from '../../bus/connect.ts';
import { bucketExists } from '../../bus/kv/bucket.ts';
import { createCheckpointStore, learnSubjects, type StoredCheckpoint } from '../../bus/kv/checkpoints.ts';
import { pipelineTiling } from '../../bus/kv/window-shapes.ts';
import { type Config, loadConfig } from '../../config/config.ts';
import type { SinkConfig } from '../../config/sink-config.ts';
import { NameChoices } from '../../deliver/name-choices.ts';
import { replays, type WholeWindows, wholeWindows } from '../../deliver/replay/recompute-range.ts';
import { recomputeWindow } from '../../deliver/replay/recompute-window.ts';
import { resumeFrom } from '../../deliver/start-points.ts';
import { ThreadedSink } from '../../deliver/thread/threaded-sink.ts';
import { KEPT_MARGIN_MS } from '../../deliver/verifier.ts';
import { readBackOf, type WindowRange } from '../../sink/contract.ts';
import { type JudgedRange, judgedRange } from '../../verify/judged-range.ts';
import { READ_TIMEOUT_MS } from '../../verify/rows.ts';
import type { JudgedSink } from '../../verify/verdict.ts';
import { onlyMatching, Verification } from '../../verify/verification.ts';
import { otherStoreInWords } from '../check-finding.ts';
import { print } from '../terminal/output.ts';
import { showProgress } from '../terminal/progress-bar.ts';
import { exitCodeOf, stopSignal } from '../terminal/stop-signal.ts';
import { type Report, reportJson, reportOf, reportText } from '../verify-report.ts';

interface VerifyOptions {
  readonly sink: readonly string[];
  readonly from?: number;
  readonly to?: number;
  readonly name?: string;
  readonly json?: true;
}

export default async function runVerify(options: VerifyOptions, command: Command): Promise<void> {
  const config = await loadConfig(process.env);
  if (config.core.metricsSource === 'core') {
    command.error(
      'error: plain NATS (METRICS_SOURCE=core) cannot be verified: the bus keeps no messages to recompute the truth from',
    );
  }
  const ids = config.sinks.map(({ id }) => id);
  const unknown = options.sink.find((id) => !ids.includes(id));
  if (unknown !== undefined)
    command.error(`error: no sink ${unknown} is enabled. Enabled sinks: ${ids.join(', ')}`);
  const report = await verify(options, config);
  await print(options.json ? reportJson(report) : reportText(report), exitCodeOf(report.equal ? 0 : 1));
  endProcess();
}

async function verify(options: VerifyOptions, config: Config): Promise<Report> {
  const stop = stopSignal();
  const bus = await connect(config.core, createLog('warn'), { name: 'metrics-fanout verify' });
  const tiling = await pipelineTiling(bus, config);
  await learnSubjects(bus, config.core);
  const whole = await wholeWindows(options, config, bus, tiling);
  const chosen = config.sinks.filter(({ id }) => options.sink.length === 0 || options.sink.includes(id));
  const stored = await checkpoints(bus, config, chosen);
  const sinks = chosen.map((sink) => new VerifiedSink(sink, options, { ...whole, tiling }, stored, stop));
  const judged = sinks.filter(({ range }) => range.from < range.to);
  const range = {
    from: Math.min(...judged.map(({ range }) => range.from)),
    to: Math.max(...judged.map(({ range }) => range.to)),
  };
  const matches = matcher(options);
  const verification = new Verification({ tiling, range, sinks: judged, matches, signal: stop });
  if (judged.length > 0) await readAll(verification, { config, bus, tiling, range, stop });
  for (const judge of verification.judges) {
    const other = await sinks.find(({ id }) => id === judge.sink.id)?.otherStore();
    if (other !== undefined) judge.doubt(other);
  }
  await Promise.all(sinks.map((sink) => sink.close()));
  await bus.close();
  for (const judge of verification.judges) if (stop.aborted) judge.doubt('stopped before the end');
  const isFound = verification.matched || sinks.some(({ hasMatch }) => hasMatch);
  // Of windows that nobody could read, nobody knows what they hold.
  const unmatched = isJudged(verification) && !isFound ? options.name : undefined;
  return reportOf(
    sinks.map(
      ({ id, found, range, windowMs, windows = tiling, began, keptFrom, names, unknownNames, owedFrom }) => ({
        ...found,
        id,
        windowMs,
        began,
        keptFrom,
        names: names?.list,
        namesKnownFrom: unknownNames?.to,
        notHeld: whole.isTruncated ? windowsBefore(range.from, owedFrom, windows) : 0,
        verdict: verification.judges.find(({ sink }) => sink.id === id)?.verdict(),
      }),
    ),
    unmatched,
  );
}

/** Undefined if the sink does not know where it began. */
function windowsBefore(from: number, began: number, tiling: Tiling): number | undefined {
  return Number.isFinite(began) ? Math.ceil(tiling.windowsBetween(Math.min(began, from), from)) : undefined;
}

function isJudged({ done, judges }: Verification): boolean {
  return done.aborted && judges.some((judge) => judge.verdict().windows.equal > 0);
}

interface Reading {
  readonly config: Config;
  readonly bus: Bus;
  readonly tiling: Tiling;
  readonly range: WindowRange;
  readonly stop: AbortSignal;
}

/** Computes the windows of the range and has them judged. */
async function readAll(
  verification: Verification,
  { config, bus, tiling, range, stop }: Reading,
): Promise<void> {
  const open = replays(config, bus, tiling, SeriesTable.of(tiling), {
    onGap: (gap) => verification.gap(gap),
    onReopened: (starts, sequence) => verification.reopened(starts, sequence),
  });
  const endDisplay = showProgress(
    () => (verification.boundary - range.from) / (range.to - range.from),
    () => counted(Math.max(...verification.judges.map(({ rows }) => rows)), 'row'),
  );
  const { source, reader, release } = open(range.from, undefined, verification.onWindows);
  await source.run(reader, AbortSignal.any([stop, verification.done])).finally(endDisplay);
  release();
  const failed = (error: unknown) => bus.log.warn({ error: String(error) }, 'reading failed; trying again');
  const options = { open, tiling, clock: systemClock, failed };
  await verification.judgeAgain(
    async (start, through, own) =>
      (await recomputeWindow(start, through, { ...options, own }, stop))?.windows,
  );
}

async function checkpoints(
  bus: Bus,
  { core }: Config,
  sinks: readonly SinkConfig[],
): Promise<StoredCheckpoint[]> {
  const ids = sinks.map(({ id }) => id);
  return (await bucketExists(bus)) ? await createCheckpointStore(bus, core, 1).list(ids) : [];
}

function matcher({ name }: VerifyOptions): ((text: string) => boolean) | undefined {
  if (name === undefined) return undefined;
  return (text) => matchesGlob(name, text);
}

/** A sink that is being verified, in a thread of its own. It is opened when it is first read. */
class VerifiedSink implements JudgedSink {
  readonly id: string;
  readonly found: JudgedRange;
  readonly range: WindowRange;
  readonly windowMs: number | undefined;
  readonly windows: Tiling | undefined;
  /** Where the sink began, if its checkpoint says so. */
  readonly began: number | undefined;
  /** Since when it keeps rows, if it deletes older ones. */
  readonly keptFrom: number | undefined;
  readonly owedFrom: number;
  readonly names: NameChoices | undefined;
  readonly unknownNames: WindowRange | undefined;
  /** Whether the store has a row whose name matches. */
  hasMatch = false;
  readonly #sink: ThreadedSink;
  /** The identity of the store that the checkpoint is about. */
  readonly #known: string | undefined;
  readonly #config: SinkConfig;
  readonly #matches: ((name: string) => boolean) | undefined;
  readonly #stop: AbortSignal;

  constructor(
    config: SinkConfig,
    options: VerifyOptions,
    whole: WholeWindows & { readonly tiling: Tiling },
    stored: readonly StoredCheckpoint[],
    stop: AbortSignal,
  ) {
    this.id = config.id;
    this.#config = config;
    this.#stop = stop;
    this.#matches = matcher(options);
    const { kind, values, timeoutMs } = config;
    const data = { id: config.id, kind, values, timeoutMs, readOnly: true } as const;
    this.#sink = new ThreadedSink(data, { info() {}, warn() {} });
    const known = resumeFrom(
      stored.filter(({ sink }) => sink === config.id),
      undefined,
    );
    this.began = known?.began;
    this.#known = known?.store;
    const keepsMs = config.module.keepsMs?.(config.values);
    this.keptFrom = keepsMs && systemClock.now() - keepsMs + KEPT_MARGIN_MS;
    this.owedFrom = Math.max(
      this.began ?? Number.NEGATIVE_INFINITY,
      this.keptFrom ?? Number.NEGATIVE_INFINITY,
    );
    this.names = known?.choices && new NameChoices(known.choices);
    const { knownFrom = Number.NEGATIVE_INFINITY } = this.names ?? {};
    // Before it began, it is owed nothing, whatever was chosen.
    const givenFrom = this.began ?? Number.NEGATIVE_INFINITY;
    const unknownTo = Math.min(knownFrom, known?.next ?? knownFrom);
    if (givenFrom < unknownTo) this.unknownNames = { from: givenFrom, to: unknownTo };
    // As the checkpoint says, whatever the setting says now.
    this.windowMs = known === undefined ? config.windowMs : known.window;
    if (this.windowMs !== undefined) this.windows = coarseTiling(whole.tiling, this.windowMs);
    const { windows = whole.tiling } = this;
    const asked = options.from === undefined ? undefined : whole.tiling.startOf(options.from);
    this.found = judgedRange({ asked, whole, windows, began: known?.began, next: known?.next });
    this.range = this.found.range;
  }

  async *read(range: WindowRange) {
    if (readBackOf(this.#config.module, this.#config.values) === 'none')
      throw new Error('it keeps nothing to read');
    const signal = AbortSignal.any([this.#stop, AbortSignal.timeout(READ_TIMEOUT_MS)]);
    const points = this.#sink.read(range, signal);
    for await (const point of this.#matches ? onlyMatching(points, this.#matches) : points) {
      this.hasMatch = true;
      yield point;
    }
  }

  /** Undefined unless the store is another one than that of the checkpoint. */
  async otherStore(): Promise<string | undefined> {
    const { module, values, timeoutMs } = this.#config;
    if (this.#known === undefined || readBackOf(module, values) === 'none') return undefined;
    const signal = AbortSignal.any([this.#stop, AbortSignal.timeout(timeoutMs)]);
    // That it cannot be read is said already.
    const found = await this.#sink.identity(signal).catch(() => undefined);
    if (found === undefined || found === this.#known) return undefined;
    return otherStoreInWords(module.placeOf?.(values), found, this.#known);
  }

  async close(): Promise<void> {
    await this.#sink.close().catch(() => {});
  }
}
