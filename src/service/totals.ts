/**
 * What the process has counted since its start. An engine and a connection count for themselves, and a process has more
 * than one after another: when windows of a new shape begin, after a rollback, when somebody attaches it again. If its
 * counters began again, what the next engine counts first could not be seen: from 1 to 1 is no step.
 */
import type { AggregatorStats } from '../aggregate/aggregator.ts';
import { METRIC_TYPES } from '../aggregate/point.ts';
import type { Bus } from '../bus/connect.ts';
import { ANSWERS } from '../bus/read/answers.ts';
import { REJECTIONS } from '../decode/rejection.ts';
import { type Engine, type Gaps, type LaneParts, MAX_GAPS } from '../deliver/engine.ts';
import type { RejectedExample } from '../deliver/reports.ts';
import type { VerifiedWindows } from '../deliver/verifier.ts';
import type { Reading } from '../observe/meters.ts';

type Tally = { readonly [name: string]: number | Tally };

export type EngineTotals = ReturnType<typeof totalsOf>;
export type SinkTotals = ReturnType<typeof sinkTotalsOf>;

/** The engine and the connection that count now, and what those before them have counted. */
export class Totals {
  #bus: Bus | undefined;
  #engine: Engine | undefined;
  #reconnects = 0;
  #earlier: EngineTotals | undefined;
  #latestGaps: Gaps['latest'] = [];
  /** By sink. */
  readonly #earlierLooks = new Map<string, LastLook>();

  readonly #lastRejected = new Map<string, RejectedExample>();

  rejected(sink: string, example: RejectedExample): void {
    this.#lastRejected.set(sink, example);
  }

  /** The last point of the sink that was rejected for good. */
  lastRejected(sink: string): RejectedExample | undefined {
    return this.#lastRejected.get(sink);
  }

  connected(bus: Bus): void {
    this.#reconnects = this.reconnects;
    this.#bus = bus;
  }

  attached(engine: Engine): void {
    this.#earlier = this.counts;
    this.#latestGaps = [...this.latestGaps];
    for (const { lane } of this.#engine?.lanes ?? []) this.#earlierLooks.set(lane.id, this.lastLook(lane.id));
    this.#engine = engine;
  }

  /** Another lane of the engine takes the place of this one. The thread of its sink goes on counting its stalls. */
  laneReplaced(parts: Engine['lanes'][number]): void {
    const { id } = parts.lane;
    const counted = { sinks: { [id]: { ...sinkTotalsOf(parts), stalls: 0 } } };
    this.#earlier = addUp<Tally>(this.#earlier ?? {}, counted) as EngineTotals;
    this.#earlierLooks.set(id, this.lastLook(id));
  }

  get reconnects(): number {
    return this.#reconnects + (this.#bus?.stats.reconnects ?? 0);
  }

  /** Undefined before the first engine. */
  get counts(): EngineTotals | undefined {
    if (this.#engine === undefined) return undefined;
    const counts = totalsOf(this.#engine);
    return this.#earlier === undefined ? counts : addUp(this.#earlier, counts);
  }

  /** The few of them that rates are made of. */
  get moving(): Pick<Reading, 'received' | 'samples'> {
    const { received = 0, byType = {}, samples } = this.#earlier ?? {};
    const live = this.#engine?.live;
    const stats = live?.aggregator.stats;
    const sum = (name: keyof Reading['samples'] & keyof AggregatorStats) =>
      (samples?.[name] ?? 0) + (stats?.[name] ?? 0);
    return {
      received: received + (live?.pipeline.stats.received ?? 0),
      samples: {
        byType: Object.fromEntries(
          METRIC_TYPES.map((type) => [type, (byType[type] ?? 0) + (stats?.[type] ?? 0)]),
        ),
        late: sum('late'),
        ignored: sum('ignored'),
        foreign: sum('foreign'),
        reopened: sum('reopened'),
      },
    };
  }

  /** What a sink was given: of those totals, what rates are made of. */
  writtenTo({ id, stats }: LaneParts['lane']): Pick<SinkTotals, 'written' | 'writtenBytes'> {
    const { written = 0, writtenBytes = 0 } = this.#earlier?.sinks[id] ?? {};
    return { written: written + stats.written, writtenBytes: writtenBytes + stats.writtenBytes };
  }

  get latestGaps(): Gaps['latest'] {
    return [...this.#latestGaps, ...(this.#engine?.gaps.latest ?? [])].slice(-MAX_GAPS);
  }

  /** Of a sink. */
  lastLook(sink: string): LastLook {
    const current = this.#engine?.lanes.find(({ lane }) => lane.id === sink)?.verifier.stats;
    const earlier = this.#earlierLooks.get(sink);
    return {
      lastDifference: current?.lastDifference ?? earlier?.lastDifference ?? null,
      lastAt: current?.lastAt ?? earlier?.lastAt ?? null,
    };
  }
}

type LastLook = Pick<VerifiedWindows, 'lastDifference' | 'lastAt'>;

function totalsOf({ live, gaps, watch, lanes, leftOutAside, roundedSums: ofSinks }: Engine) {
  const { stats } = live.source;
  const { received, rejectedMessages, rejectedSamples, cumulative, roundedSums, filtered } =
    live.pipeline.stats;
  const { late, ahead, overflowed, coarse, ignored, foreign, reopened, ...samples } = live.aggregator.stats;
  return {
    gaps: gaps.times,
    gapMessages: gaps.messages,
    resumptions: stats.resumptions,
    misfits: stats.misfits,
    leftOut: stats.leftOut + leftOutAside,
    answers: every(ANSWERS, stats.answers),
    watch: {
      spans: watch?.spans ?? 0,
      unknownSpans: watch?.unknownSpans ?? 0,
      heard: watch?.heard ?? 0,
      unstored: watch?.unstored ?? 0,
    },
    received,
    rejectedMessages: every(REJECTIONS, rejectedMessages),
    byType: Object.fromEntries(METRIC_TYPES.map((type) => [type, samples[type]])),
    rejectedSamples: every(REJECTIONS, rejectedSamples),
    samples: {
      late,
      ahead,
      overflowed,
      coarse,
      ignored,
      foreign,
      reopened,
      cumulative,
      roundedSums: roundedSums + ofSinks,
      filtered,
    },
    sinks: Object.fromEntries(lanes.map((parts) => [parts.lane.id, sinkTotalsOf(parts)])),
  };
}

function sinkTotalsOf({ lane: { stats }, keeper, verifier, sweep }: Engine['lanes'][number]) {
  const { equal, different, unknown, confirmed } = verifier.stats;
  const { removed, left } = sweep?.stats ?? { removed: 0, left: 0 };
  return {
    written: stats.written,
    writtenBytes: stats.writtenBytes,
    rejected: Object.fromEntries<number>(stats.rejected),
    dropped: stats.dropped,
    folded: stats.folded,
    retries: Object.fromEntries<number>(stats.retries),
    checkpointFailures: keeper?.failures ?? 0,
    overflows: stats.overflows,
    stalls: stats.stalls,
    refills: stats.refills,
    receiptFailures: stats.receiptFailures,
    verified: { equal, different, unknown, confirmed },
    strayWindows: { removed, left },
  };
}

function every<K extends string>(keys: readonly K[], counts: ReadonlyMap<K, number>) {
  return Object.fromEntries(keys.map((key) => [key, counts.get(key) ?? 0]));
}

/** Adds up what has the same name. A name may be in only one of them. */
function addUp<T extends Tally>(one: T, other: T): T {
  const sums: Record<string, number | Tally> = { ...one };
  for (const [name, value] of Object.entries(other)) {
    const before = sums[name];
    if (before === undefined) sums[name] = value;
    else sums[name] = typeof value === 'number' ? (before as number) + value : addUp(before as Tally, value);
  }
  return sums as T;
}
