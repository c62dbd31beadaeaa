/** The engine of one session on the bus, with a thread for each sink, and its events for log and metrics. */
import { systemClock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { Bus } from '../bus/connect.ts';
import { hasSketches } from '../config/config.ts';
import { type Attachment, Engine, type EngineEvents, type EngineSettings } from '../deliver/engine.ts';
import { exampleOf, Reports, unidentifiedExample } from '../deliver/reports.ts';
import type { SharedThread } from '../deliver/thread/shared-thread.ts';
import { ThreadedSink } from '../deliver/thread/threaded-sink.ts';
import type { Telemetry } from '../observe/telemetry.ts';
import { limitsOf, readBackOf, removesOf } from '../sink/contract.ts';
import type { Charted } from './charts.ts';
import type { Parts } from './snapshot.ts';

/** What outlives every session. */
export interface Surroundings {
  readonly parts: Parts;
  readonly log: Log;
  readonly telemetry: Telemetry;
  readonly charts: Charted;
  readonly sharedThread: SharedThread;
}

export interface SessionEngine {
  readonly engine: Engine;
  /** By id. */
  readonly sinks: ReadonlyMap<string, ThreadedSink>;
}

export function makeEngine(attachment: Attachment, bus: Bus, surroundings: Surroundings): SessionEngine {
  const { parts, log } = surroundings;
  const threads = new Map<string, ThreadedSink>();
  const engineSinks = parts.config.sinks.map(({ id, kind, module, timeoutMs, backlogBytes, values }) => {
    const sink = new ThreadedSink({ id, kind, values, timeoutMs }, log, {
      readBack: readBackOf(module, values),
      removes: removesOf(module, values),
      shared: module.sharesThread && surroundings.sharedThread,
    });
    threads.set(id, sink);
    const limits = limitsOf(module, values);
    const keepsMs = module.keepsMs?.(values);
    const { sharesIdentity } = module;
    return { id, kind: module.kind, sink, limits, timeoutMs, backlogBytes, keepsMs, sharesIdentity };
  });
  const events = engineEvents(bus, surroundings);
  const engine = new Engine(attachment, engineSinks, engineSettings(parts), systemClock, events);
  return { engine, sinks: threads };
}

function engineSettings({ config, recent }: Parts): EngineSettings {
  const { core } = config;
  return {
    ...core,
    hasSketches: hasSketches(config),
    keepsSketches: recent !== undefined,
    stopTimeoutMs: core.stopTimeout,
    verify: {
      share: core.verifyShare,
      replayShare: core.verifyReplayShare,
      delayMs: core.verifyDelay,
    },
  };
}

function engineEvents(bus: Bus, { parts, log, telemetry }: Surroundings): EngineEvents {
  const reports = new Reports(log, systemClock);
  const publishTo = parts.config.core.fanoutRejected ? bus : undefined;
  return {
    began: (from, tiling, again) => parts.recent?.began(from, tiling, again),
    closed: (windows, boundary) => {
      parts.scan.take(windows);
      parts.recent?.closed(windows, boundary);
    },
    gapped: (range) => parts.recent?.gapped(range),
    recomputed: (start, window, read) => parts.recent?.recomputed(start, window, read),
    wrote: (sink, seconds, taken) => {
      telemetry.observeWrite(sink, seconds, taken);
      parts.meters.wrote(sink, seconds, taken, systemClock.steady());
    },
    confirmed: (sink, lateMs) => parts.meters.confirmed(sink, lateMs / 1000, systemClock.steady()),
    pointsRejected: (sink, points) => {
      reports.pointsRejected(sink, points, publishTo);
      const last = points.at(-1);
      if (last !== undefined) parts.totals.rejected(sink, exampleOf(last, systemClock.now()));
    },
    pointsLost: (sink, lost) => {
      reports.pointsLost(sink, lost);
      parts.totals.rejected(sink, unidentifiedExample(lost, systemClock.now()));
    },
    sinkChanged: (sink, up, failure) => reports.sinkChanged(sink, up, failure, parts.engine?.safeUntil(sink)),
    messageRejected: (reason, message, count) => reports.messageRejected(reason, message, count),
    folded: (names) => {
      reports.folded(names);
      parts.folds.add(names, systemClock.now());
    },
    nothingChosen: (sink, windows) => {
      const { names = [] } = parts.config.sinks.find(({ id }) => id === sink) ?? {};
      reports.nothingChosen(sink, names, windows);
    },
    pointsFolded: (sink, points) => reports.pointsFolded(sink, points),
    cumulative: () => reports.cumulative(),
    rounded: (series, sum) => reports.rounded(series, sum),
    leftUnread: (messages) => reports.leftUnread(messages),
    catchUpStarted: (sink, from) =>
      log.info({ sink, from: new Date(from).toISOString() }, 'sink is catching up by replay'),
    replayFailed: (sink, error) => log.warn({ sink, error: String(error) }, 'replay failed; trying again'),
    swept: (sink, windows, why) => reports.swept(sink, windows, why),
    laneReplaced: (replaced) => parts.totals.laneReplaced(replaced),
    notBegun: (sink, error) =>
      log.warn(
        { sink, error: String(error) },
        'it is not known yet where the sink begins again; trying again',
      ),
    storeReplaced: (...replaced) => reports.storeReplaced(...replaced),
    storeUnnamed: (sink, reason) => reports.storeUnnamed(sink, reason),
    tableShared: (sink, failure) => reports.tableShared(sink, failure),
    receiptsChanged: (sink, failure) => reports.receiptsChanged(sink, failure),
    differs: (sink, difference, start) => reports.differs(sink, difference, start),
    reopened: (starts, through) => {
      reports.reopened(starts);
      parts.recent?.reopened(starts, through);
    },
    namesUnknown: (sink, start) => reports.namesUnknown(sink, start),
    catchingUp: (sink, progress) => log.info({ sink, ...progress }, 'catching up'),
    caughtUp: (sink) => log.info({ sink }, 'sink has caught up'),
  };
}
