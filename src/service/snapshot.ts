import { METRIC_TYPES } from '../aggregate/point.ts';
import { Tiling } from '../aggregate/tiling.ts';
import { systemClock } from '../base/clock.ts';
import { VERSION } from '../base/version.ts';
import type { Bus } from '../bus/connect.ts';
import { ANSWERS } from '../bus/read/answers.ts';
import { NO_WATCH } from '../bus/read/watch.ts';
import { type Config, windowShape } from '../config/config.ts';
import type { SinkConfig } from '../config/sink-config.ts';
import { REJECTIONS } from '../decode/rejection.ts';
import type { Engine, LaneParts, LiveParts } from '../deliver/engine.ts';
import type { RollbackLog } from '../deliver/rollback.ts';
import type { Meters, SourceRates } from '../observe/meters.ts';
import type {
  ControlStatus,
  Counts,
  SampleStatus,
  SinkStatus,
  SourceStatus,
  Status,
  WindowStatus,
} from '../observe/status.ts';
import type { Probes } from '../probe/probes.ts';
import type { WindowScan } from '../probe/window-scan.ts';
import type { Price, Usage } from '../sink/price.ts';

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
  /** Sinks to which nothing is written until they are resumed. */
  readonly paused: Set<string>;
  /** Is leaving the bus, or has left it. */
  detached: boolean;
  readonly control: () => ControlStatus;
  /** Rollbacks of the stream since the start. */
  readonly rollbacks: RollbackLog;
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
  return {
    version: VERSION,
    pipeline: core.pipeline,
    instance: parts.instance,
    slice: `${core.slice.index}/${core.slice.of}`,
    startedAt: new Date(parts.startedAt).toISOString(),
    now: new Date(now).toISOString(),
    ready: whyUnready(parts) === undefined,
    detached: parts.detached,
    control: parts.control(),
    bus: {
      connected: bus?.connected ?? false,
      reconnects: bus?.stats.reconnects ?? 0,
      server: bus?.server ?? '',
    },
    source: sourceStatus(parts, now),
    messages: {
      received: live?.pipeline.stats.received ?? 0,
      rejected: every(REJECTIONS, live?.pipeline.stats.rejectedMessages),
      perSecond: rates.messagesPerSecond,
    },
    samples: sampleStatus(live, rates),
    topNames: parts.scan.topNames(TOP_NAMES),
    windows: windowStatus(parts),
    sinks: (engine?.lanes ?? []).map((lane) => sinkStatus(parts, lane, now)),
  };
}

function sourceStatus({ config, engine, rollbacks }: Parts, now: number): SourceStatus {
  const stats = engine?.live.source.stats;
  const behind = stats !== undefined && stats.pending > 0 && stats.lastStreamTime > 0;
  return {
    kind: config.core.metricsSource,
    pendingMessages: stats?.pending ?? 0,
    lagSeconds: behind ? Math.max(0, now - stats.lastStreamTime) / 1000 : 0,
    lastSequence: stats?.lastSequence ?? 0,
    gaps: engine?.gaps.times ?? 0,
    gapMessages: engine?.gaps.messages ?? 0,
    keepsSeconds: engine?.keepsMs === undefined ? null : engine.keepsMs / 1000,
    latestGaps: (engine?.gaps.latest ?? []).map(({ messages, from, to }) => ({
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
    resumptions: stats?.resumptions ?? 0,
    answers: every(ANSWERS, stats?.answers),
    unproven: stats?.unproven ?? false,
    unfit: stats?.unfit ?? null,
    misfits: stats?.misfits ?? 0,
    watch: engine?.watch ?? NO_WATCH,
  };
}

function sampleStatus(live: LiveParts | undefined, rates: SourceRates): SampleStatus {
  const stats = live?.aggregator.stats;
  return {
    byType: Object.fromEntries(METRIC_TYPES.map((type) => [type, stats?.[type] ?? 0])),
    perSecond: rates.samplesPerSecond,
    lateShare: rates.lateShare,
    rejected: every(REJECTIONS, live?.pipeline.stats.rejectedSamples),
    late: stats?.late ?? 0,
    ahead: stats?.ahead ?? 0,
    overflowed: stats?.overflowed ?? 0,
    coarse: stats?.coarse ?? 0,
    ignored: stats?.ignored ?? 0,
    foreign: stats?.foreign ?? 0,
    reopened: stats?.reopened ?? 0,
  };
}

function windowStatus({ config, engine }: Parts): WindowStatus {
  const boundary = engine?.live.aggregator.boundary;
  const tiling = engine?.tiling ?? Tiling.of(windowShape(config));
  const {
    windowMs,
    latenessMs,
    maxAheadMs,
    maxSeries,
    maxSeriesBytes = null,
  } = tiling.epochAt(boundary ?? 0);
  const next = tiling.epochs.find(({ from }) => boundary !== undefined && from > boundary);
  return {
    windowMs,
    latenessMs,
    maxAheadMs,
    maxSeries,
    maxSeriesBytes,
    next: next === undefined ? null : { ...next, from: new Date(next.from).toISOString() },
    open: engine?.live.aggregator.openWindows ?? 0,
    series: engine?.table.size ?? 0,
    seriesBytes: engine?.live.aggregator.seriesBytes ?? 0,
    boundary: timeOf(boundary),
  };
}

function sinkStatus(
  { config, meters, probes, engine, paused }: Parts,
  { lane, kind, keeper, verifier, sweep }: LaneParts,
  now: number,
): SinkStatus {
  const { stats } = lane;
  const rates = meters.sink(lane.id, systemClock.steady());
  const { storedBytes, ...queries } = probes.of(lane.id);
  const sink = config.sinks.find(({ id }) => id === lane.id);
  return {
    id: lane.id,
    kind,
    state: lane.state,
    up: lane.up,
    paused: paused.has(lane.id),
    catchingUp: lane.state === 'catching_up',
    catchUp: engine?.progressOf(lane) ?? null,
    // Where a sink begins whose checkpoint cannot be read is up to an operator.
    next: lane.blocked ? null : timeOf(lane.next),
    lagSeconds: Number.isFinite(lane.next) ? Math.max(0, now - lane.next) / 1000 : 0,
    backlogPoints: lane.backlogPoints,
    backlogBytes: lane.backlogBytes,
    backlogLimitBytes: sink?.backlogBytes ?? 0,
    written: stats.written,
    writtenBytes: Math.round(stats.writtenBytes),
    rateSeconds: rates.overSeconds,
    pointsPerSecond: rates.pointsPerSecond,
    bytesPerSecond: rates.bytesPerSecond,
    writeSeconds: rates.writeSeconds ?? null,
    queries,
    storedBytes,
    cost: costOf(sink, { ...rates, storedBytes: storedBytes ?? undefined }),
    rejected: Object.fromEntries(stats.rejected),
    dropped: stats.dropped,
    retries: Object.fromEntries(stats.retries),
    checkpointFailures: keeper?.failures ?? 0,
    overflows: stats.overflows,
    stalls: stats.stalls,
    lastFailure: lane.lastFailure ?? null,
    verified: verifier.stats,
    strayWindows: sweep?.stats ?? { removed: 0, left: 0 },
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

function every(keys: readonly string[], counts: ReadonlyMap<string, number> | undefined): Counts {
  return Object.fromEntries(keys.map((key) => [key, counts?.get(key) ?? 0]));
}

function timeOf(ms: number | undefined): string | null {
  return ms !== undefined && Number.isFinite(ms) ? new Date(ms).toISOString() : null;
}
