import { METRIC_TYPES } from '../aggregate/point.ts';
import { Tiling } from '../aggregate/tiling.ts';
import { systemClock } from '../base/clock.ts';
import { VERSION } from '../base/version.ts';
import type { Bus } from '../bus/connect.ts';
import { ANSWERS } from '../bus/read/answers.ts';
import { NO_WATCH } from '../bus/read/watch.ts';
import { shownBusUrls } from '../config/bus-urls.ts';
import { type Config, windowShape } from '../config/config.ts';
import type { SinkConfig } from '../config/sink-config.ts';
import { storeAddress } from '../config/store-address.ts';
import { REJECTIONS } from '../decode/rejection.ts';
import type { Engine, LaneParts } from '../deliver/engine.ts';
import type { RollbackLog } from '../deliver/rollback.ts';
import type { Meters, Reading, SourceRates } from '../observe/meters.ts';
import type {
  ControlStatus,
  Counts,
  SampleStatus,
  SinkReceipts,
  SinkStatus,
  SourceStatus,
  Status,
  WindowStatus,
} from '../observe/status.ts';
import type { Probes } from '../probe/probes.ts';
import type { WindowScan } from '../probe/window-scan.ts';
import type { Folds } from '../recent/folds.ts';
import type { RecentWindows } from '../recent/recent-windows.ts';
import type { Price, Usage } from '../sink/price.ts';
import type { EngineTotals, SinkTotals, Totals } from './totals.ts';

const NO_PRICE: Price = { usdPerMonth: null, assumption: 'no price known' };
const TOP_NAMES = 10;

/** The parts that a status is made of. The optional ones are absent until the service is attached to the bus. */
export interface Parts {
  readonly config: Config;
  readonly instance: string;
  readonly startedAt: number;
  readonly meters: Meters;
  readonly scan: WindowScan;
  readonly probes: Probes;
  /** Undefined if none are kept (RECENT_BYTES). */
  readonly recent: RecentWindows | undefined;
  /** Sinks to which nothing is written until they are resumed. */
  readonly paused: Set<string>;
  /** Is leaving the bus, or has left it. */
  detached: boolean;
  readonly control: () => ControlStatus;
  /** Rollbacks of the stream since the start. */
  readonly rollbacks: RollbackLog;
  readonly totals: Totals;
  /** Names that were folded since the start. */
  readonly folds: Folds;
  bus?: Bus;
  engine?: Engine;
}

/**
 * Why the instance is not ready; undefined if it is: attached to a stream that stores what is published, with somewhere
 * to save its checkpoints.
 */
export function whyUnready({ detached, bus, engine }: Parts): string | undefined {
  const stats = engine?.live?.source.stats;
  if (stats?.unproven) return 'the stream was replaced and has delivered nothing';
  if (stats?.unfit !== undefined) return stats.unfit;
  if (detached || bus?.connected !== true || stats?.reading !== true) return 'not attached to the bus';
  const isBucketGone = engine?.lanes.some(({ keeper }) => keeper?.isBucketGone === true);
  return isBucketGone ? 'the bucket of the checkpoints was deleted' : undefined;
}

export function snapshot(parts: Parts, now: number): Status {
  const { config, bus, engine } = parts;
  const live = engine?.live;
  // I8 must hold for the reader of the status: every received message is decoded or rejected.
  live?.pipeline.flush();
  const { core } = config;
  const rates = parts.meters.source();
  const counts = parts.totals.counts;
  const unready = whyUnready(parts);
  return {
    version: VERSION,
    pipeline: core.pipeline,
    instance: parts.instance,
    slice: `${core.slice.index}/${core.slice.of}`,
    startedAt: new Date(parts.startedAt).toISOString(),
    now: new Date(now).toISOString(),
    ready: unready === undefined,
    notReadyBecause: unready ?? null,
    detached: parts.detached,
    control: parts.control(),
    bus: {
      connected: bus?.connected ?? false,
      reconnects: parts.totals.reconnects,
      server: bus?.server ?? '',
      urls: shownBusUrls(core.natsUrl),
    },
    source: sourceStatus(parts, counts, now),
    messages: {
      received: counts?.received ?? 0,
      rejected: counts?.rejectedMessages ?? zeros(REJECTIONS),
      perSecond: rates.messagesPerSecond,
    },
    samples: sampleStatus(counts, rates),
    topNames: parts.scan.topNames(TOP_NAMES),
    windows: windowStatus(parts),
    sinks: (engine?.lanes ?? []).map((lane) => sinkStatus(parts, lane, counts!.sinks[lane.lane.id]!, now)),
  };
}

/** What the rates are made of. */
export function readingOf(parts: Parts, now: number): Reading {
  const { engine, totals } = parts;
  return {
    ...totals.moving,
    windows: epochOf(parts),
    sinks: (engine?.lanes ?? []).map(({ lane }) => ({
      id: lane.id,
      ...totals.writtenTo(lane),
      lagSeconds: lagSecondsOf(lane, now),
      windowMs: windowsOf(parts, lane.id),
    })),
  };
}

function sourceStatus(
  { config, engine, rollbacks, totals }: Parts,
  counts: EngineTotals | undefined,
  now: number,
): SourceStatus {
  const stats = engine?.live.source.stats;
  const behind = stats !== undefined && stats.pending > 0 && stats.lastStreamTime > 0;
  return {
    kind: config.core.metricsSource,
    pendingMessages: stats?.pending ?? 0,
    lagSeconds: behind ? Math.max(0, now - stats.lastStreamTime) / 1000 : 0,
    lastSequence: stats?.lastSequence ?? 0,
    gaps: counts?.gaps ?? 0,
    gapMessages: counts?.gapMessages ?? 0,
    keepsSeconds: engine?.keepsMs === undefined ? null : engine.keepsMs / 1000,
    latestGaps: totals.latestGaps.map(({ messages, from, to }) => ({
      messages,
      from: new Date(from).toISOString(),
      to: new Date(to).toISOString(),
    })),
    rollbacks: rollbacks.times,
    latestRollbacks: rollbacks.latest.map(({ after, through, from, to }) => ({
      after,
      through,
      from: new Date(from).toISOString(),
      to: new Date(to).toISOString(),
    })),
    resumptions: counts?.resumptions ?? 0,
    answers: counts?.answers ?? zeros(ANSWERS),
    unproven: stats?.unproven ?? false,
    unfit: stats?.unfit ?? null,
    misfits: counts?.misfits ?? 0,
    leftOut: counts?.leftOut ?? 0,
    watch: { ...(engine?.watch ?? NO_WATCH), ...counts?.watch },
  };
}

function sampleStatus(counts: EngineTotals | undefined, rates: SourceRates): SampleStatus {
  const stats = counts?.samples;
  return {
    byType: counts?.byType ?? zeros(METRIC_TYPES),
    perSecond: rates.samplesPerSecond,
    lateShare: rates.lateShare,
    rejected: counts?.rejectedSamples ?? zeros(REJECTIONS),
    late: stats?.late ?? 0,
    ahead: stats?.ahead ?? 0,
    overflowed: stats?.overflowed ?? 0,
    coarse: stats?.coarse ?? 0,
    ignored: stats?.ignored ?? 0,
    foreign: stats?.foreign ?? 0,
    reopened: stats?.reopened ?? 0,
    cumulative: stats?.cumulative ?? 0,
    roundedSums: stats?.roundedSums ?? 0,
    filtered: stats?.filtered ?? 0,
  };
}

function tilingOf({ config, engine }: Parts): Tiling {
  return engine?.tiling ?? Tiling.of(windowShape(config));
}

/** The shape of the windows that are open. */
function epochOf(parts: Parts) {
  return tilingOf(parts).epochAt(parts.engine?.live.aggregator.boundary ?? 0);
}

function windowStatus(parts: Parts): WindowStatus {
  const { engine, folds } = parts;
  const boundary = engine?.live.aggregator.boundary;
  const {
    windowMs,
    latenessMs,
    maxAheadMs,
    maxSeries,
    maxSeriesBytes = null,
    sketchScale = null,
    maxSeriesByName = null,
  } = epochOf(parts);
  const next = tilingOf(parts).epochs.find(({ from }) => boundary !== undefined && from > boundary);
  return {
    windowMs,
    latenessMs,
    maxAheadMs,
    maxSeries,
    maxSeriesBytes,
    sketchScale,
    maxSeriesByName,
    folded: folds.list(),
    next: next === undefined ? null : { ...next, from: new Date(next.from).toISOString() },
    open: engine?.live.aggregator.openWindows ?? 0,
    series: engine?.table.size ?? 0,
    seriesBytes: engine?.live.aggregator.seriesBytes ?? 0,
    boundary: timeOf(boundary),
  };
}

function sinkStatus(parts: Parts, { lane, kind }: LaneParts, counts: SinkTotals, now: number): SinkStatus {
  const { config, meters, probes, engine, paused, totals } = parts;
  const rates = meters.sink(lane.id, systemClock.steady());
  const { sums, windows, notAsked, storedBytes, querySeconds, bytesPerRow, bytesPerDay, version } = probes.of(
    lane.id,
  );
  const sink = config.sinks.find(({ id }) => id === lane.id);
  return {
    id: lane.id,
    kind,
    state: lane.state,
    up: lane.up,
    names: sink === undefined || sink.names.length === 0 ? null : sink.names,
    unchosenWindows: lane.unchosenWindows,
    windowMs: windowsOf(parts, lane.id),
    paused: paused.has(lane.id),
    catchingUp: lane.state === 'catching_up',
    catchUp: engine?.progressOf(lane) ?? null,
    // Where a sink begins whose checkpoint cannot be read is up to an operator.
    next: lane.blocked ? null : timeOf(lane.next),
    lagSeconds: lagSecondsOf(lane, now),
    lateSeconds: rates.lateSeconds,
    backlogPoints: lane.backlogPoints,
    backlogBytes: lane.backlogBytes,
    backlogLimitBytes: sink?.backlogBytes ?? 0,
    written: counts.written,
    writtenBytes: Math.round(counts.writtenBytes),
    rateSeconds: rates.overSeconds,
    pointsPerSecond: rates.pointsPerSecond,
    bytesPerSecond: rates.bytesPerSecond,
    writeSeconds: (lane.up && rates.writeSeconds) || null,
    failedWriteSeconds: rates.failedWriteSeconds ?? null,
    queries: { sums, windows, notAsked },
    querySeconds: lane.up ? querySeconds : null,
    bytesPerRow,
    version,
    address: sink === undefined ? null : storeAddress(sink),
    storedBytes,
    storedBytesPerDay: bytesPerDay === null ? null : Math.round(bytesPerDay),
    cost: costOf(sink, { ...rates, storedBytes: storedBytes ?? undefined }),
    rejected: counts.rejected,
    lastRejected: totals.lastRejected(lane.id) ?? null,
    dropped: counts.dropped,
    folded: counts.folded,
    retries: counts.retries,
    checkpointFailures: counts.checkpointFailures,
    overflows: counts.overflows,
    stalls: counts.stalls,
    refills: counts.refills,
    receipts: receiptsOf(lane, counts.receiptFailures),
    lastFailure: lane.lastFailure ?? null,
    ...outageOf(parts, lane, now),
    verified: { ...counts.verified, ...totals.lastLook(lane.id) },
    strayWindows: counts.strayWindows,
  };
}

function receiptsOf({ receipts }: LaneParts['lane'], failures: number): SinkReceipts {
  const { state, until, lastFailure } = receipts;
  return { state, failures, until: timeOf(until ?? undefined), lastFailure };
}

function lagSecondsOf({ confirmedTo }: LaneParts['lane'], now: number): number | null {
  if (confirmedTo === undefined) return null;
  return Number.isFinite(confirmedTo) ? Math.max(0, now - confirmedTo) / 1000 : 0;
}

/** How long the windows of a sink are now. */
function windowsOf({ config, engine }: Parts, id: string): number {
  const boundary = engine?.live.aggregator.boundary ?? 0;
  return engine?.windowsOf(id).epochAt(boundary).windowMs ?? config.core.window;
}

/** Since when the store takes nothing, when it is tried again, and until when that does no harm. */
function outageOf({ engine }: Parts, lane: LaneParts['lane'], now: number) {
  const { downSince, nextAttemptMs } = lane;
  const isDown = downSince !== undefined && nextAttemptMs !== undefined;
  return {
    downSince: timeOf(downSince),
    nextAttempt: isDown ? timeOf(now + nextAttemptMs) : null,
    safeUntil: timeOf(engine?.safeUntil(lane.id)),
  };
}

function costOf(sink: SinkConfig | undefined, usage: Usage): Price {
  try {
    return sink?.module.price?.estimate(sink.prices, usage) ?? NO_PRICE;
  } catch {
    // A third-party module may throw. Its cost is not worth losing the status.
    return { usdPerMonth: null, assumption: 'the price model failed' };
  }
}

function zeros(keys: readonly string[]): Counts {
  return Object.fromEntries(keys.map((key) => [key, 0]));
}

function timeOf(ms: number | undefined): string | null {
  return ms !== undefined && Number.isFinite(ms) ? new Date(ms).toISOString() : null;
}
