/**
 * From the messages of a source to the stores: the live path, a lane per sink, and the catch-ups. It knows no bus, no
 * HTTP and no clock but the one passed in, so the simulation runs it as the service does.
 */
import type { Aggregator } from '../aggregate/aggregator.ts';
import { SeriesTable } from '../aggregate/series-table.ts';
import type { Tiling } from '../aggregate/tiling.ts';
import type { ClosedWindow } from '../aggregate/window.ts';
import type { Clock } from '../base/clock.ts';
import type { Gap, Source } from '../bus/read/source.ts';
import type { InputRejection as DecodeRejection } from '../decode/rejection.ts';
import type { SinkLimits } from '../sink/contract.ts';
import type { EpochWatch } from './epochs.ts';
import { FanOut } from './fanout.ts';
import type { CheckpointKeeper } from './lane/checkpoint-saver.ts';
import { Lane } from './lane/lane.ts';
import type { LaneSink, StoreFailure } from './lane/writer.ts';
import { openPipeline, type Pipeline, type PipelineSettings, type WindowHandler } from './pipeline.ts';
import type { OpenReplay } from './replay/catch-up.ts';
import type { CatchUpProgress } from './replay/catch-up-progress.ts';
import { type CatchUpEvents, CatchUps } from './replay/catch-ups.ts';
import { recomputeWindow, rewriteWindow } from './replay/recompute-window.ts';
import type { RejectedPoint } from './reports.ts';
import { hasBegun, type LaneStart, liveFrom, windowsTouched } from './start-points.ts';
import { Verifier, type VerifierOptions, type VerifySettings } from './verifier.ts';

/** What is read, and where each sink goes on. */
export interface Attachment {
  readonly tiling: Tiling;
  /** Tells of other epochs; absent where there are never any (core mode). */
  readonly epochs?: EpochWatch;
  /** By sink: start of the first window that it wants; -Infinity in core mode. */
  readonly from: ReadonlyMap<string, number>;
  /** By sink: the sequence up to which all had been read when the windows before that were closed, where known. */
  readonly closedThrough?: ReadonlyMap<string, number>;
  /** Whether what was read can be read again. */
  readonly replayable: boolean;
  /** How long the bus keeps a message; undefined where it is not asked to, or time is no limit of it. */
  readonly keepsMs?: number | undefined;
  /** See `Point.instance`. */
  readonly instance: string;
  /**
   * A source with all messages that windows from `from` on can depend on (I6), and with all behind `closedThrough`,
   * where that is known: what is news for the windows before.
   */
  open(from: number, closedThrough: number | undefined): Source;
  /**
   * A source with all messages that the window which begins with `from` can depend on, to look at it once more: what it
   * misses is lost to no sink. Absent in core mode.
   */
  openAside?(from: number): Source;
  keeperOf(sink: string): CheckpointKeeper | undefined;
}

export interface EngineSettings extends PipelineSettings {
  /** How long a stop waits for the sinks. */
  readonly stopTimeoutMs: number;
  /** Which windows are verified; none where it is absent. */
  readonly verify?: VerifySettings;
}

export interface EngineSink {
  readonly id: string;
  readonly kind: string;
  readonly sink: LaneSink;
  readonly limits: SinkLimits;
  readonly timeoutMs: number;
  readonly backlogBytes: number;
}

/** What the engine tells; all calls are synchronous and must not throw. */
export interface EngineEvents extends CatchUpEvents {
  /** The live path closed these windows, and handed them to the lanes. */
  closed(windows: readonly ClosedWindow[]): void;
  wrote(sink: string, seconds: number): void;
  pointsRejected(sink: string, rejected: readonly RejectedPoint[]): void;
  sinkChanged(sink: string, up: boolean, failure: StoreFailure | undefined): void;
  messageRejected(reason: DecodeRejection, message: Uint8Array): void;
  /** A window is not in the store as it should be. */
  differs(sink: string, difference: string, start: number): void;
  /** Windows got a sample after they were handed out: they are computed and written again. */
  reopened(starts: readonly number[]): void;
}

/** One sink's lane and what belongs to it. */
export interface LaneParts {
  readonly lane: Lane;
  readonly kind: string;
  readonly keeper: CheckpointKeeper | undefined;
  readonly verifier: Verifier;
}

/** The live path. */
export interface LiveParts {
  readonly source: Source;
  readonly pipeline: Pipeline;
  readonly aggregator: Aggregator;
}

const VERIFY_NOTHING: VerifySettings = { share: 0, replayShare: 0, delayMs: 0 };
/** Of the gaps, the latest are kept with the windows that they touch. */
const MAX_GAPS = 20;

export interface Gaps {
  times: number;
  messages: number;
  /** With the windows that the messages can have belonged to, from..to in ms since 1970, half-open. */
  readonly latest: { readonly messages: number; readonly from: number; readonly to: number }[];
}

type OnReopened = (starts: readonly number[], through: number) => void;

export class Engine {
  readonly lanes: readonly LaneParts[];
  readonly live: LiveParts;
  readonly table: SeriesTable;
  /** Messages that were no longer in the stream: on the live path and in every catch-up. */
  readonly gaps: Gaps = { times: 0, messages: 0, latest: [] };
  readonly #catchUps: CatchUps;
  readonly #attachment: Attachment;
  readonly #settings: EngineSettings;
  readonly #clock: Clock;
  readonly #events: EngineEvents;
  readonly #fanout: FanOut;
  /** Catch-ups and rewrites under way. */
  readonly #replays = new Set<Promise<void>>();
  /** By lane: the windows to be computed again, each with all messages up to a sequence. */
  readonly #owed = new Map<Lane, Map<number, number>>();
  /** The live path is over, and with it every catch-up. */
  readonly #over = new AbortController();

  constructor(
    attachment: Attachment,
    sinks: readonly EngineSink[],
    settings: EngineSettings,
    clock: Clock,
    events: EngineEvents,
  ) {
    this.#attachment = attachment;
    this.#settings = settings;
    this.#clock = clock;
    this.#events = events;
    this.table = new SeriesTable(attachment.tiling.maxSeries);
    const liveStart = liveFrom(laneStarts(attachment), attachment.tiling, clock.now());
    this.lanes = sinks.map((sink) => this.#laneOf(sink, liveStart));
    this.#fanout = new FanOut(
      this.lanes.map(({ lane }) => lane),
      liveStart.from,
    );
    this.#catchUps = new CatchUps({
      open: (lane) => this.#replayFor(lane),
      live: this.#fanout,
      tiling: attachment.tiling,
      clock,
      events,
      // The live path knows nothing of the windows before its own beginning: from now on it looks after them as well.
      joined: (from, sequence) => {
        if (from < liveStart.from) this.live.aggregator.adoptWindows(from, sequence);
      },
      signal: this.#over.signal,
    });
    const onWindows: WindowHandler = (windows, boundary, sequence) => {
      this.#fanout.hand(windows, boundary, sequence);
      events.closed(windows);
    };
    const reopened: OnReopened = (starts, through) => this.#reopen(this.#fanout.lanes, starts, through);
    const live = this.#pipeline(liveStart.from, liveStart.closedThrough, onWindows, reopened);
    this.live = { source: attachment.open(liveStart.from, liveStart.closedThrough), ...live };
  }

  /**
   * Runs until `stop` aborts, or the attachment's epochs have changed; then stops pulling, gives the lanes their time,
   * and saves the checkpoints. Rejects with what an operator must mend, when all that has been done.
   */
  async run(stop: AbortSignal): Promise<void> {
    const lanes = this.#fanout.lanes;
    const broken = new AbortController();
    const running = lanes.map((lane) => lane.run());
    // A lane never ends by itself: where it does, what it owes would never be written, so everything stops, loudly.
    for (const lane of running) lane.catch((error: unknown) => broken.abort(error));
    for (const lane of lanes) {
      if (lane.state !== 'paused') this.#catchUp(lane);
    }
    for (const { verifier } of this.lanes) this.#track(verifier.run(this.#over.signal));
    const { source, pipeline, aggregator } = this.live;
    const { epochs } = this.#attachment;
    if (epochs !== undefined) this.#track(epochs.run(this.#over.signal));
    const ends = [stop, broken.signal, ...(epochs === undefined ? [] : [epochs.changed])];
    try {
      await source.run(pipeline, AbortSignal.any(ends));
      // Nothing can be read again in core mode: what is not complete is handed out as it is, and parts add up.
      if (!this.#attachment.replayable) {
        pipeline.flush();
        this.#fanout.hand(aggregator.closeAll(), aggregator.boundary, 0);
      }
    } finally {
      this.#over.abort();
      const deadline = new AbortController();
      const drained = new AbortController();
      // Where it begins anew at once, replay does what is left: nobody waits for the slowest sink.
      const patienceMs = epochs?.changed.aborted ? 0 : this.#settings.stopTimeoutMs;
      const late = this.#clock.sleep(patienceMs, drained.signal).then(() => deadline.abort());
      await Promise.all(lanes.map((lane) => lane.stop(deadline.signal)));
      drained.abort();
      await Promise.all([...running, ...this.#replays, late]);
    }
  }

  #pipeline(
    from: number,
    closedThrough: number | undefined,
    onWindows: WindowHandler,
    onReopened: OnReopened,
  ): { pipeline: Pipeline; aggregator: Aggregator } {
    const { instance, tiling, epochs } = this.#attachment;
    return openPipeline(
      this.table,
      this.#settings,
      { from, closedThrough, instance, tiling },
      {
        onWindows,
        untilShaped: epochs && ((streamTime) => epochs.untilShaped(streamTime)),
        onReopened,
        onRejected: (reason, message) => this.#events.messageRejected(reason, message),
        onGap: (gap: Gap) => this.#gap(gap),
      },
    );
  }

  #laneOf({ id, kind, sink, limits, timeoutMs, backlogBytes }: EngineSink, liveStart: LaneStart): LaneParts {
    const events = this.#events;
    const keeper = this.#attachment.keeperOf(id);
    const own = laneStartOf(id, this.#attachment);
    // Near the live path, a lane goes along with it from its beginning: some windows are written again.
    const isNear = own.from >= liveStart.from && hasBegun(own, this.#clock.now());
    const { from, closedThrough } = isNear ? liveStart : own;
    const lane: Lane = new Lane({
      id,
      sink,
      limits,
      timeoutMs,
      backlogBytes,
      from,
      closedThrough,
      replayable: this.#attachment.replayable,
      keeper,
      clock: this.#clock,
      events: {
        wrote: (seconds) => events.wrote(id, seconds),
        rejected: (points) => events.pointsRejected(id, points),
        changed: (up, failure) => events.sinkChanged(id, up, failure),
        fellBehind: () => this.#catchUp(lane),
        confirmed: (window, refused) => verifier.confirmed(window, refused),
      },
    });
    const verifier = new Verifier({
      ...(this.#settings.verify ?? VERIFY_NOTHING),
      digests: sink.digests,
      isUsable: () => lane.state === 'live' && lane.up,
      isWhole: (start) => !this.gaps.latest.some(({ from, to }) => start >= from && start < to),
      recompute: this.#recomputeFor(id),
      closedThrough: () => lane.closedThrough ?? this.live.source.stats.lastSequence,
      position: () => {
        const { lastSequence, pending } = this.live.source.stats;
        return { read: this.live.pipeline.reportedThrough, end: lastSequence + pending };
      },
      clock: this.#clock,
      differs: (difference, start) => events.differs(id, difference, start),
    });
    return { lane, kind, keeper, verifier };
  }

  /** See `Attachment.keepsMs`. */
  get keepsMs(): number | undefined {
    return this.#attachment.keepsMs;
  }

  get tiling(): Tiling {
    return this.#attachment.tiling;
  }

  /** Undefined where the lane is not catching up. */
  progressOf(lane: Lane): CatchUpProgress | undefined {
    return this.#catchUps.progressOf(lane);
  }

  #gap({ fromTime, toTime, messages }: Gap): void {
    this.gaps.times += 1;
    this.gaps.messages += messages;
    this.gaps.latest.push({ messages, ...windowsTouched(fromTime, toTime, this.#attachment.tiling) });
    if (this.gaps.latest.length > MAX_GAPS) this.gaps.latest.shift();
  }

  /** The sink's lane holds until `resume`; it may be called before `run`, and for one that is paused already. */
  pause(sink: string): void {
    for (const { lane } of this.lanes.filter(({ lane }) => lane.id === sink)) {
      this.#catchUps.end(lane);
      lane.pause();
    }
  }

  resume(sink: string): void {
    if (this.#over.signal.aborted) return;
    for (const { lane } of this.lanes) if (lane.id === sink) lane.resume();
  }

  #catchUp(lane: Lane): void {
    // One that begins later than the live path is has missed nothing.
    if (lane.next >= this.#fanout.boundary) lane.join();
    else this.#track(this.#catchUps.start(lane));
  }

  /** The checkpoints are held at once, before the live path goes on: a crash finds the message again. */
  #reopen(lanes: readonly Lane[], starts: readonly number[], through: number): void {
    if (!this.#attachment.replayable) return;
    this.#events.reopened(starts);
    for (const { lane, verifier } of this.lanes) {
      if (!lanes.includes(lane)) continue;
      for (const start of starts) verifier.reopened(start, through);
      const owed = this.#owed.get(lane) ?? new Map<number, number>();
      for (const start of starts) owed.set(start, Math.max(through, owed.get(start) ?? 0));
      if (this.#owed.has(lane)) continue;
      this.#owed.set(lane, owed);
      lane.hold();
      this.#track(this.#rewrite(lane, owed));
    }
  }

  /** One after the other, and what was reopened twice meanwhile only once. */
  async #rewrite(lane: Lane, owed: Map<number, number>): Promise<void> {
    const { signal } = this.#over;
    const options = {
      open: this.#replayFor(lane),
      tiling: this.#attachment.tiling,
      clock: this.#clock,
      failed: (error: unknown) => this.#events.replayFailed(lane.id, error),
    };
    for (let [first] = owed; first !== undefined; [first] = owed) {
      const [start, through] = first;
      owed.delete(start);
      await rewriteWindow(lane, start, through, options, signal);
      if (signal.aborted) return;
    }
    this.#owed.delete(lane);
    lane.release();
  }

  /** What a lane reads for itself; what it reopens there concerns that lane alone. */
  #replayFor(lane: Lane): OpenReplay {
    return (from, closedThrough, onWindows) => {
      const reopened: OnReopened = (starts, through) => this.#reopen([lane], starts, through);
      const { pipeline } = this.#pipeline(from, closedThrough, onWindows, reopened);
      return {
        source: this.#attachment.open(from, closedThrough),
        reader: pipeline,
        release: () => pipeline.release(),
      };
    };
  }

  /** A window as the stream gives it. */
  #recomputeFor(sink: string): VerifierOptions['recompute'] {
    const { tiling, instance, openAside } = this.#attachment;
    if (openAside === undefined) return undefined;
    return async (start, through, signal) => {
      let gaps = 0;
      const open: OpenReplay = (from, closedThrough, onWindows) => {
        const start = { from, closedThrough, instance, tiling };
        const onGap = () => {
          gaps += 1;
        };
        const { pipeline } = openPipeline(this.table, this.#settings, start, { onWindows, onGap });
        return { source: openAside(from), reader: pipeline, release: () => pipeline.release() };
      };
      const failed = (error: unknown) => this.#events.replayFailed(sink, error);
      const recomputed = await recomputeWindow(
        start,
        through,
        { open, tiling, clock: this.#clock, failed },
        signal,
      );
      return gaps > 0 ? undefined : recomputed;
    };
  }

  #track(work: Promise<void>): void {
    const tracked = work.finally(() => this.#replays.delete(tracked));
    this.#replays.add(tracked);
  }
}

function laneStartOf(sink: string, { from, closedThrough }: Attachment): LaneStart {
  return { from: from.get(sink)!, closedThrough: closedThrough?.get(sink) };
}

function laneStarts(attachment: Attachment): LaneStart[] {
  return [...attachment.from.keys()].map((sink) => laneStartOf(sink, attachment));
}
