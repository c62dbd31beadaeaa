import type { Command } from 'commander';
import { coarseTiling } from '../../aggregate/coarse-tiling.ts';
import { SeriesTable } from '../../aggregate/series-table.ts';
import { WindowMerger } from '../../aggregate/window-merger.ts';
import { systemClock } from '../../base/clock.ts';
import { createLog, type Log } from '../../base/log.ts';
import { counted } from '../../base/number-format.ts';
import { endProcess } from '../../base/process-end.ts';
import { type Bus, connect } from '../../bus/connect.ts';
import { bucketExists } from '../../bus/kv/bucket.ts';
import { createCheckpointStore, learnSubjects } from '../../bus/kv/checkpoints.ts';
import { pipelineTiling } from '../../bus/kv/window-shapes.ts';
import { type Config, loadConfig } from '../../config/config.ts';
import type { SinkConfig } from '../../config/sink-config.ts';
import { Lane } from '../../deliver/lane/lane.ts';
import { NameChoices } from '../../deliver/name-choices.ts';
import { catchUp } from '../../deliver/replay/catch-up.ts';
import { lostInWords, replays, wholeWindows } from '../../deliver/replay/recompute-range.ts';
import { rewriteWindow } from '../../deliver/replay/recompute-window.ts';
import { Reports } from '../../deliver/reports.ts';
import { resumeFrom } from '../../deliver/start-points.ts';
import { ThreadedSink } from '../../deliver/thread/threaded-sink.ts';
import { limitsOf, type WindowRange } from '../../sink/contract.ts';
import { print } from '../terminal/output.ts';
import { showProgress } from '../terminal/progress-bar.ts';
import { exitCodeOf, stopSignal } from '../terminal/stop-signal.ts';

interface ReplayOptions {
  readonly sink: string;
  readonly from: number;
  readonly to?: number;
  readonly json?: true;
}

export default async function runReplay(options: ReplayOptions, command: Command): Promise<void> {
  const config = await loadConfig(process.env);
  const sink = config.sinks.find(({ id }) => id === options.sink);
  if (sink === undefined) {
    command.error(
      `error: no sink ${options.sink} is enabled. Enabled sinks: ${config.sinks.map(({ id }) => id).join(', ')}`,
    );
  }
  if (config.core.metricsSource === 'core')
    command.error('error: plain NATS (METRICS_SOURCE=core) keeps no messages to replay');
  await replay(options, sink, config);
  endProcess();
}

async function replay(options: ReplayOptions, sink: SinkConfig, config: Config): Promise<void> {
  const stop = stopSignal();
  const log = createLog('warn');
  const bus = await connect(config.core, log, { name: 'metrics-fanout replay' });
  const tiling = await pipelineTiling(bus, config);
  await learnSubjects(bus, config.core);
  // A partial window must not replace a good one.
  const given = await givenTo(bus, config, sink);
  const own = coarseTiling(tiling, given.windowMs);
  const range = await wholeWindows(options, config, bus, own);
  const state = { gaps: 0, messages: 0 };
  /**
   * Windows that got samples after they were written (the server's clock was set back), and for each the stream
   * sequence through which to read.
   */
  const reopened = new Map<number, number>();
  const merger = own === tiling ? undefined : new WindowMerger(own, tiling);
  const lane = laneOf(sink, range, { ...given, merger }, log);
  const running = lane.run();
  const endDisplay = showProgress(
    () => (lane.next - range.from) / (range.to - range.from),
    () => counted(lane.stats.written, 'point'),
  );
  const events = {
    onGap() {
      state.gaps += 1;
    },
    onReopened(starts: readonly number[], sequence: number) {
      for (const start of starts.map((one) => own.startOf(one)))
        if (start >= range.from && start < range.to) reopened.set(start, sequence);
    },
    onProgress(messages: number) {
      state.messages = messages;
    },
  };
  const replayOptions = {
    tiling,
    own,
    open: replays(config, bus, tiling, SeriesTable.of(tiling), events),
    live: () => ({ boundary: range.to, sequence: 0 }),
    joined: () => {},
    clock: systemClock,
    failed: (error: unknown) => log.warn({ error: String(error) }, 'reading failed; trying again'),
  };
  await catchUp(lane, replayOptions, stop);
  for (const [start, through] of reopened) await rewriteWindow(lane, start, through, replayOptions, stop);
  await lane.stop(stop);
  await running;
  endDisplay();
  await bus.close();
  const rejected = [...lane.stats.rejected.values()].reduce((sum, count) => sum + count, 0);
  const isCutShort = lane.next < range.to || (stop.aborted && reopened.size > 0);
  const isDone = !isCutShort && state.gaps === 0 && range.lost === 0;
  const result = {
    sink: sink.id,
    from: new Date(range.from).toISOString(),
    to: new Date(Math.min(lane.next, range.to)).toISOString(),
    windows: Math.round(own.windowsBetween(range.from, Math.min(lane.next, range.to))),
    messages: state.messages,
    points: lane.stats.written,
    rejected,
    gaps: state.gaps,
    lost: range.lost,
    done: isDone,
  };
  await print(options.json ? `${JSON.stringify(result)}\n` : resultText(result), isDone ? 0 : exitCodeOf(1));
}

interface Result {
  readonly sink: string;
  readonly from: string;
  readonly to: string;
  readonly windows: number;
  readonly messages: number;
  readonly points: number;
  readonly rejected: number;
  readonly gaps: number;
  readonly lost: number;
  readonly done: boolean;
}

function resultText({
  sink,
  from,
  to,
  windows,
  messages,
  points,
  rejected,
  gaps,
  lost,
  done,
}: Result): string {
  const what = `${sink}: ${counted(windows, 'window')}, ${from} to ${to}: ${counted(points, 'point')} written from ${counted(messages, 'message')}`;
  const also = rejected > 0 ? `, ${rejected} rejected by the store` : '';
  const reasons = [
    ...(lost > 0 ? [lostInWords({ from: Date.parse(from), lost })] : []),
    ...(gaps > 0 ? ['the stream lost messages during the replay (retention)'] : []),
  ];
  const why = reasons.length > 0 ? reasons.join('; ') : 'stopped before the end';
  return `${what}${also}${done ? '' : `; not complete: ${why}`}\n`;
}

/** What a sink gets. */
interface Given {
  readonly names: NameChoices | undefined;
  /** The length of its windows, if it has windows of its own. */
  readonly windowMs: number | undefined;
}

/** As the checkpoint says, by which `verify` goes as well; without one, as the settings do. */
async function givenTo(bus: Bus, { core }: Config, sink: SinkConfig): Promise<Given> {
  const ofSink = (await bucketExists(bus)) ? await createCheckpointStore(bus, core, 1).list([sink.id]) : [];
  const position = resumeFrom(ofSink, undefined);
  const choices = position === undefined ? [{ from: 0, names: sink.names }] : position.choices;
  const windowMs = position === undefined ? sink.windowMs : position.window;
  return { names: choices && new NameChoices(choices), windowMs };
}

function laneOf(
  config: SinkConfig,
  { from }: WindowRange,
  { names, merger }: Given & { readonly merger: WindowMerger | undefined },
  log: Log,
): Lane {
  const { id, kind, module, values, timeoutMs, backlogBytes } = config;
  const reports = new Reports(log, systemClock);
  return new Lane({
    id,
    sink: new ThreadedSink({ id, kind, values, timeoutMs }, log, { readBack: 'none' }),
    limits: limitsOf(module, values),
    timeoutMs,
    backlogBytes,
    from,
    names,
    merger,
    replayable: true,
    keeper: undefined,
    clock: systemClock,
    events: {
      wrote() {},
      rejected: (points) => reports.pointsRejected(id, points, undefined),
      unidentified: (points) => reports.pointsLost(id, points),
      changed: (up, failure) => reports.sinkChanged(id, up, failure),
      fellBehind() {},
    },
  });
}
