/** Everything there is to know about a running instance, as plain data: the source of `/api/status` and `/metrics`. */
import type { WindowShape } from '../aggregate/tiling.ts';
import type { WatchStatus } from '../bus/read/watch.ts';
import type { LaneState } from '../deliver/lane/lane.ts';
import type { ReceiptState } from '../deliver/lane/receipts.ts';
import type { StoreFailure } from '../deliver/lane/writer.ts';
import type { CatchUpProgress } from '../deliver/replay/catch-up-progress.ts';
import type { RejectedExample } from '../deliver/reports.ts';
import type { StrayWindows } from '../deliver/strays.ts';
import type { VerifiedWindows } from '../deliver/verifier.ts';
import type { ProbeResult, RecentAnswers } from '../probe/probes.ts';
import type { TopName } from '../probe/top-names.ts';
import type { FoldedStatus } from '../recent/folds.ts';
import type { Price } from '../sink/price.ts';
import type { Quantiles } from './quantiles.ts';

export interface Status {
  readonly version: string;
  readonly pipeline: string;
  /** Boot id: unique for every start of the process. */
  readonly instance: string;
  readonly slice: string;
  readonly startedAt: string;
  readonly now: string;
  /** Attached to the bus and reading. */
  readonly ready: boolean;
  /** Why it is not ready; null if it is. */
  readonly notReadyBecause: string | null;
  /** Has left the bus, or is leaving it, on request. */
  readonly detached: boolean;
  readonly control: ControlStatus;
  readonly bus: BusStatus;
  readonly source: SourceStatus;
  readonly messages: MessageStatus;
  readonly samples: SampleStatus;
  /** The names with the most samples in the latest windows, in descending order. */
  readonly topNames: readonly TopName[];
  readonly windows: WindowStatus;
  readonly sinks: readonly SinkStatus[];
}

export interface BusStatus {
  readonly connected: boolean;
  readonly reconnects: number;
  /** The one that it is connected to; empty if it is not. */
  readonly server: string;
  /** NATS_URL, without secrets. */
  readonly urls: readonly string[];
}

export interface ControlStatus {
  readonly enabled: boolean;
  /** Whether the instance answers requests over the bus. */
  readonly onBus: boolean;
  readonly tasksRunning: number;
  /** Requests over the bus that were ignored because their answer would have gone to no permitted inbox. */
  readonly unanswered: number;
}

export type Counts = Readonly<Record<string, number>>;

export interface SourceStatus {
  readonly kind: 'jetstream' | 'core';
  readonly pendingMessages: number;
  readonly lagSeconds: number;
  readonly lastSequence: number;
  readonly gaps: number;
  readonly gapMessages: number;
  /**
   * How long the stream keeps a message, as of the attachment. Null if the stream has no time limit, and in core mode.
   */
  readonly keepsSeconds: number | null;
  /** The latest gaps, each with the range of windows that it touches. Those windows may be partial. */
  readonly latestGaps: readonly { readonly messages: number; readonly from: string; readonly to: string }[];
  /** Times that the stream no longer held what had been read of it, since the start of the process. */
  readonly rollbacks: number;
  /**
   * The latest: messages after the sequence `after`, up to `through`, were taken back. The windows from..to are
   * computed again.
   */
  readonly latestRollbacks: readonly {
    readonly after: number;
    readonly through: number;
    readonly from: string;
    readonly to: string;
  }[];
  readonly resumptions: number;
  /** How the server ended requests for messages, other than by messages: by its words. */
  readonly answers: Counts;
  /** The stream was replaced, and the new one has not delivered a message yet: the instance is not ready. */
  readonly unproven: boolean;
  /** Why the stream cannot be read as it is now, or not all of it: the instance is not ready. Null if it can. */
  readonly unfit: string | null;
  /** How often the stream was found changed so that it could not be read, or not all of it. */
  readonly misfits: number;
  /** Messages left out, with subjects that nobody saw the stream store: perhaps they were wanted. */
  readonly leftOut: number;
  /** Messages heard on the bus that the stream did not store; the share since the service attached. */
  readonly watch: WatchStatus;
}

export interface MessageStatus {
  readonly received: number;
  readonly rejected: Counts;
  /** Over the last 10 seconds, like all rates of the source. */
  readonly perSecond: number;
}

export interface SampleStatus {
  readonly byType: Counts;
  /** By type. */
  readonly perSecond: Counts;
  /** Share of late samples among those that this slice puts into windows, 0 to 1. */
  readonly lateShare: number;
  /** Elements of arrays. A message whose only sample is bad counts as a rejected message. */
  readonly rejected: Counts;
  readonly late: number;
  readonly ahead: number;
  readonly overflowed: number;
  /** Of timers whose sketch must not grow: percentiles are less exact. */
  readonly coarse: number;
  /** For windows before the first that any sink needs (I6). */
  readonly ignored: number;
  /** For windows of other slices. */
  readonly foreign: number;
  /** For windows already handed out: left to replay. */
  readonly reopened: number;
  /** Running totals, which are gauges. */
  readonly cumulative: number;
  /** Points of counters whose sum is too large to be exact: of WINDOW, and of longer windows once for each sink. */
  readonly roundedSums: number;
  /** Of names that METRICS_NAMES does not take. */
  readonly filtered: number;
}

export interface WindowStatus {
  readonly windowMs: number;
  readonly latenessMs: number;
  readonly maxAheadMs: number;
  /** Per window. */
  readonly maxSeries: number;
  /** Per window; null: no limit. */
  readonly maxSeriesBytes: number | null;
  /** Of the sketches of timers; null: as earlier versions computed them. */
  readonly sketchScale: number | null;
  /** Limits by name, as in the setting; null: there are none. */
  readonly maxSeriesByName: readonly string[] | null;
  /** Names of which series were folded since the start, the latest first. */
  readonly folded: readonly FoldedStatus[];
  /** The shape of later windows, from a time on. Null if no other shape was announced. */
  readonly next: (WindowShape & { readonly from: string }) | null;
  readonly open: number;
  readonly series: number;
  /** What the series of a window cost, of `maxSeriesBytes`: the most of the open windows and the last closed one. */
  readonly seriesBytes: number;
  /** Start of the first window that is not complete; null before the first message. */
  readonly boundary: string | null;
}

/** Receipts tell a store that was restored from a backup. */
export interface SinkReceipts {
  readonly state: ReceiptState;
  /** How often one could not be given since the start of the process. */
  readonly failures: number;
  /** Until when the store has confirmed all windows, as it keeps itself; null if that is unknown. */
  readonly until: string | null;
  /** `at`: in ms since 1970. */
  readonly lastFailure: { readonly at: number; readonly message: string } | null;
}

export interface SinkStatus {
  readonly id: string;
  readonly kind: string;
  readonly state: LaneState;
  readonly up: boolean;
  /** Globs of the names that it gets (SINK_<ID>_NAMES); null: all. */
  readonly names: readonly string[] | null;
  /** How many of the latest windows have points, and none of a name that it gets; 0 if fewer than three. */
  readonly unchosenWindows: number;
  /** The length of its windows: WINDOW, or SINK_<ID>_WINDOW. */
  readonly windowMs: number;
  /** Nothing is written to it until somebody resumes it. */
  readonly paused: boolean;
  readonly catchingUp: boolean;
  /** Progress of its replay; null if it is not catching up. */
  readonly catchUp: CatchUpProgress | null;
  /** Start of the first window that is not confirmed; null before there is any. */
  readonly next: string | null;
  /** Null if nobody knows: the checkpoint of a sink that is stopped cannot be read, as `lastFailure` says. */
  readonly lagSeconds: number | null;
  /**
   * The most by which a window was confirmed later than it was closed (WINDOW + LATENESS after its start), or is still
   * owed: over the last 10 s to 20 s, or the last one or two windows if these are longer.
   */
  readonly lateSeconds: number;
  readonly backlogPoints: number;
  readonly backlogBytes: number;
  /** Upper limit of `backlogBytes`. */
  readonly backlogLimitBytes: number;
  readonly written: number;
  /** An estimate, the same for every sink: text and numbers, without a store's encoding. */
  readonly writtenBytes: number;
  /** The period that the rates cover. */
  readonly rateSeconds: number;
  readonly pointsPerSecond: number;
  readonly bytesPerSecond: number;
  /**
   * Durations of the writes that the store took in the last half to whole minute; null if there were none, and while
   * the store is down: what it was like before says nothing about now.
   */
  readonly writeSeconds: Quantiles | null;
  /** Durations of the writes that failed in the last half to whole minute; null if there were none. */
  readonly failedWriteSeconds: Quantiles | null;
  /**
   * How long the store took, last time, to answer two questions. Every store that holds what they are about is asked
   * the same two.
   */
  readonly queries: Pick<ProbeResult, 'sums' | 'windows' | 'notAsked'>;
  /** Durations of its answers to both questions, lately; null if there were none, and while the store is down. */
  readonly querySeconds: RecentAnswers | null;
  /** By what the stored bytes grew since the start, for each row written; null if nobody can tell. */
  readonly bytesPerRow: number | null;
  /** In its own words; null if it does not say. */
  readonly version: string | null;
  /** Where the store is, without secrets; null if the settings do not say. */
  readonly address: string | null;
  /** Null if the store does not report it. */
  readonly storedBytes: number | null;
  /** What that grew by since the start, a day; null for the first ten minutes. */
  readonly storedBytesPerDay: number | null;
  /** An estimate, assuming the current rate. */
  readonly cost: Price;
  readonly rejected: Counts;
  /** The last point that was rejected for good; null if there was none. */
  readonly lastRejected: RejectedExample | null;
  readonly dropped: number;
  /** Points that were folded because a window of the sink's own had too many series. */
  readonly folded: number;
  readonly retries: Counts;
  readonly checkpointFailures: number;
  readonly overflows: number;
  /** How often the sink stood still, so that its thread was ended and started again. */
  readonly stalls: number;
  /** How often the store was found replaced, emptied or with older content, so that it got windows again. */
  readonly refills: number;
  readonly receipts: SinkReceipts;
  readonly lastFailure: StoreFailure | null;
  /** Since when the store takes nothing; null while it does, and before it was first tried. */
  readonly downSince: string | null;
  /** When a store that is down is tried again; null if that is under way, or does not depend on time. */
  readonly nextAttempt: string | null;
  /**
   * Until when the stream holds all that the sink still needs: if the store takes nothing until then, windows are lost.
   * Null if nobody can tell, and in core mode.
   */
  readonly safeUntil: string | null;
  readonly verified: VerifiedWindows;
  /** Windows with rows that the stream no longer gives: where they were removed, and where they were left. */
  readonly strayWindows: StrayWindows;
}
