/**
 * Takes messages from a source to the stores: the live path, one lane per sink, and the catch-ups. It knows no bus, no
 * HTTP, and no clock except the one it is given, so the simulation runs the same code as the service.
 */
import type { Aggregator, AggregatorOptions } from '../aggregate/aggregator.ts';
import type { FoldedName } from '../aggregate/folded-names.ts';
import type { Series } from '../aggregate/point.ts';
import { SeriesTable } from '../aggregate/series-table.ts';
import type { Tiling } from '../aggregate/tiling.ts';
import type { ClosedWindow } from '../aggregate/window.ts';
import { WindowMerger } from '../aggregate/window-merger.ts';
import { backoffMs, type Clock } from '../base/clock.ts';
import { SharedMemoryCount } from '../base/shared-memory.ts';
import { BusError, OtherWindows } from '../bus/bus-error.ts';
import type { Gap, Source } from '../bus/read/source.ts';
import type { Trail } from '../bus/read/trail.ts';
import type { BusWatch, WatchStatus } from '../bus/read/watch.ts';
import type { InputRejection as DecodeRejection } from '../decode/rejection.ts';
import type { SinkLimits, Unidentified, WindowRange } from '../sink/contract.ts';
import type { EpochWatch } from './epochs.ts';
import { FanOut } from './fanout.ts';
import type { CheckpointKeeper } from './lane/checkpoint-saver.ts';
import { Lane } from './lane/lane.ts';
import type { KnownReceipts, OlderContent } from './lane/receipts.ts';
import type { LaneSink, StoreFailure } from './lane/writer.ts';
import type { NameChoices } from './name-choices.ts';
import { openPipeline, type Pipeline, type PipelineSettings, type WindowHandler } from './pipeline.ts';
import type { OpenReplay } from './replay/catch-up.ts';
import type { CatchUpProgress } from './replay/catch-up-progress.ts';
import { type CatchUpEvents, CatchUps } from './replay/catch-ups.ts';
import { recomputeWindow, rewriteWindow } from './replay/recompute-window.ts';
import type { RejectedPoint } from './reports.ts';
import { type Rollback, spanOf } from './rollback.ts';
import { lookForRounded } from './rounded-sums.ts';
import { SHARED_TABLE_ADVICE, sharedTableInWords } from './shared-table.ts';
import { hasBegun, type LaneStart, liveFrom, readFrom, windowsTouched } from './start-points.ts';
import { type StrayWindows, Sweep } from './strays.ts';
import { Verifier, type VerifierOptions, type VerifySettings } from './verifier.ts';

/** Where sinks begin or resume. */
export interface Beginnings {
  /** By sink: start of the first window that it still needs; -Infinity in core mode. */
  readonly from: ReadonlyMap<string, number>;
  /** By sink: the sequence read through when the windows before `from` were closed; no entry if unknown. */
  readonly closedThrough?: ReadonlyMap<string, number>;
  /** By sink: see `firstGiven`. Absent in core mode. */
  readonly first?: ReadonlyMap<string, number>;
  /** By sink: which names it gets; no entry: all. Absent: all sinks get all. */
  readonly names?: ReadonlyMap<string, NameChoices>;
  /** By sink: the identity of the store that its checkpoint is about; no entry if unknown. */
  readonly stores?: ReadonlyMap<string, string>;
  /** By sink: see `LaneOptions`. Absent in core mode. */
  readonly receipts?: ReadonlyMap<string, KnownReceipts>;
  /**
   * Resolves to where a sink begins whose store has lost everything, or all but the windows before `heldTo`: at the
   * first window that it lacks, or the first one that the stream still holds whole. `lost`: the windows between these.
   * Absent in core mode.
   */
  beginAgain?(
    sink: string,
    heldTo: number | undefined,
  ): Promise<{ readonly from: number; readonly lost: WindowRange | undefined }>;
  /** By sink: why its lane must not begin. It does when the keeper can save its checkpoint. */
  readonly unreadable?: ReadonlyMap<string, BusError>;
  /** Sinks that do not begin now: their stores may hold more than their checkpoints say. Absent in core mode. */
  readonly resumed?: ReadonlySet<string>;
  keeperOf(sink: string): CheckpointKeeper | undefined;
}

/** What the engine reads, and where each sink resumes. */
export interface Attachment extends Beginnings {
  readonly tiling: Tiling;
  /** By sink: its windows; no entry, or absent: those of `tiling`. Its positions are starts of its own. */
  readonly windows?: ReadonlyMap<string, Tiling> | undefined;
  /** Reports new epochs; absent if there are never any (core mode). */
  readonly epochs?: EpochWatch;
  /** Resolves to where the sink begins by what its checkpoint says now. Absent in core mode. */
  reattach?(sink: string): Promise<Beginnings>;
  /** Whether messages that were read can be read again. */
  readonly replayable: boolean;
  /** How long the bus keeps a message; undefined if it keeps none, or has no time limit. */
  readonly keepsMs?: number | undefined;
  /** See `Point.instance`. */
  readonly instance: string;
  /** What was read of the stream; absent in core mode. */
  readonly trail?: Trail;
  /** By sink: a rollback that this process met before, and after which the sink has not been swept to the end. */
  readonly unswept?: ReadonlyMap<string, WindowRange>;
  /** What the stream had taken back when we attached. The sinks begin early enough to compute it again. */
  readonly rollback?: Rollback | undefined;
  /** Windows that should be computed again but that the stream no longer holds whole. */
  readonly lost?: readonly WindowRange[];
  /**
   * Returns a source with all messages that windows from `from` on can depend on (I6). If `closedThrough` is known,
   * also with all messages after it: they may be news for earlier windows. `isLive`: it is the live path's.
   */
  open(from: number, closedThrough: number | undefined, isLive: boolean): Source;
  /**
   * Returns a source with all messages that the window starting at `from` can depend on, for a second look at that
   * window: gaps in it mean no loss to any sink. Absent in core mode.
   */
  openAside?(from: number): Source;
  /** Counts messages that the stream did not store. Absent in core mode, and if nobody wants it. */
  readonly watch?: Pick<BusWatch, 'watched' | 'run' | 'status'> | undefined;
}

export interface EngineSettings extends PipelineSettings {
  /** How long a stop waits for the sinks. */
  readonly stopTimeoutMs: number;
  /** Which windows are verified; if absent, none. */
  readonly verify?: VerifySettings;
  /** Whether windows that are `closed` or `recomputed` come with their sketches, which whoever is told must take. */
  readonly keepsSketches?: boolean;
}

export interface EngineSink {
  readonly id: string;
  readonly kind: string;
  readonly sink: LaneSink;
  readonly limits: SinkLimits;
  readonly timeoutMs: number;
  readonly backlogBytes: number;
  /** How long rows are kept, in ms; absent: for ever. */
  readonly keepsMs?: number | undefined;
  /** See `SinkModule`. */
  readonly sharesIdentity?: boolean | undefined;
}

/** What the engine reports. All calls are synchronous and must not throw. */
export interface EngineEvents extends CatchUpEvents {
  /**
   * The live path will close windows from `from` on (-Infinity: those that are filled from now on), some of them
   * perhaps not for the first time. `again`: if the stream was rolled back, from where on windows that were closed
   * before are void.
   */
  began?(from: number, tiling: Tiling, again: number | undefined): void;
  /** The live path closed these windows and handed them to the lanes. There are no others before the boundary. */
  closed(windows: readonly ClosedWindow[], boundary: number): void;
  /** The stream no longer held messages that windows in the range may depend on. */
  gapped?(range: WindowRange): void;
  /** A window that was `reopened` is this one, with all up to sequence `read`; undefined if it has no points. */
  recomputed?(start: number, window: ClosedWindow | undefined, read: number): void;
  /** See `WriterEvents.wrote`. */
  wrote(sink: string, seconds: number, taken: boolean): void;
  /** The store has a window, this much later than it was closed. */
  confirmed?(sink: string, lateMs: number): void;
  pointsRejected(sink: string, rejected: readonly RejectedPoint[]): void;
  /** The store refused points for good, and nobody knows which. */
  pointsLost(sink: string, lost: Unidentified): void;
  sinkChanged(sink: string, up: boolean, failure: StoreFailure | undefined): void;
  /** Series of these names were folded in windows that the live path closed. */
  folded?(names: readonly FoldedName[]): void;
  /** So many points were folded in a window of the sink's own. */
  pointsFolded?(sink: string, points: number): void;
  /** So many windows in a row have points, and none of a name that the sink gets. */
  nothingChosen?(sink: string, windows: number): void;
  /** There are running totals among the samples. */
  cumulative(): void;
  /** The sum of a counter is too large to be exact. */
  rounded(series: Series, sum: number): void;
  /** `count`: how many times for this reason, if it is for elements of the message. */
  messageRejected(reason: DecodeRejection, message: Uint8Array, count: number): void;
  /** Core mode: there was no time for these messages when the engine stopped. They are lost. */
  leftUnread(messages: number): void;
  /** Rows were found in the store that the stream no longer gives. `why`: why some were left. */
  swept(sink: string, windows: StrayWindows, why: string | undefined): void;
  /**
   * The store is another one than that of the checkpoint, or was emptied, or holds `older` content than it did. It gets
   * all windows from `from` on again; `lost` is no longer in the stream.
   */
  storeReplaced(
    sink: string,
    from: number,
    lost: WindowRange | undefined,
    older: OlderContent | undefined,
  ): void;
  /** The sink cannot say which store it has. */
  storeUnnamed(sink: string, reason: string): void;
  /** The sink is stopped: another one writes windows of another length to its table. */
  tableShared?(sink: string, failure: string): void;
  /** The store can no longer be given receipts, because of `failure`; undefined: it can again. */
  receiptsChanged(sink: string, failure: string | undefined): void;
  /** A window in the store is not what it should be. */
  differs(sink: string, difference: string, start: number): void;
  /** Windows got a sample, up to this sequence, after they were handed out. They are computed and written again. */
  reopened(starts: readonly number[], through: number): void;
  /** Another lane is about to take the place of this one. */
  laneReplaced?(parts: LaneParts): void;
  /** It is not known yet where a sink begins whose lane was taken down. That is tried again. */
  notBegun?(sink: string, error: unknown): void;
  /** A `reopened` window stays as it is: nobody knows any longer which names the sink got in it. */
  namesUnknown?(sink: string, start: number): void;
}

/** One sink's lane and everything that belongs to it. */
export interface LaneParts {
  readonly lane: Lane;
  readonly kind: string;
  readonly keeper: CheckpointKeeper | undefined;
  readonly verifier: Verifier;
  /** Absent if the sink begins, or if nothing can be read again. */
  readonly sweep: Sweep | undefined;
  /** Which names the sink gets; undefined: all, always. */
  readonly names: NameChoices | undefined;
  readonly beginnings: Beginnings;
  /** Aborts when another lane takes its place. */
  readonly ends: AbortController;
  /** Aborts then, and at the end of the engine. */
  readonly over: AbortSignal;
}

/** A window to compute again, with all messages up to `through`. */
interface OwedWindow {
  readonly through: number;
  /** The windows of the pipeline that were reopened: it is one of them, or made of them. */
  readonly parts: ReadonlySet<number>;
}

/** Windows of a sink that are to be computed again, by start. */
interface Owed {
  readonly waiting: Map<number, OwedWindow>;
  current: readonly [start: number, window: OwedWindow] | undefined;
}

/** The live path. */
export interface LiveParts {
  readonly source: Source;
  readonly pipeline: Pipeline;
  readonly aggregator: Aggregator;
}

const VERIFY_NOTHING: VerifySettings = { share: 0, replayShare: 0, delayMs: 0 };
/** How many of the latest gaps are kept. */
export const MAX_GAPS = 20;

export interface Gaps {
  times: number;
  messages: number;
  /** The latest, each with the windows that it touches: from..to in ms since 1970, half-open. */
  readonly latest: { readonly messages: number; readonly from: number; readonly to: number }[];
}

/** Why the engine has ended: it was stopped, or has to attach again. */
export type EngineEnd = 'stopped' | 'reshaped' | 'rolled_back';

type OnReopened = (starts: readonly number[], through: number) => void;

export class Engine {
  #lanes: readonly LaneParts[];
  readonly live: LiveParts;
  readonly table: SeriesTable;
  /** Messages that were no longer in the stream, on the live path and in every catch-up. */
  readonly gaps: Gaps = { times: 0, messages: 0, latest: [] };
  /** Points of counters, in windows of sinks of their own, whose sum is too large to be exact. */
  roundedSums = 0;
  readonly #catchUps: CatchUps;
  readonly #attachment: Attachment;
  readonly #sinks: readonly EngineSink[];
  readonly #settings: EngineSettings;
  readonly #clock: Clock;
  readonly #retired = new SharedMemoryCount();
  readonly #events: EngineEvents;
  readonly #fanout: FanOut;
  /** Catch-ups and rewrites under way. */
  readonly #replays = new Set<Promise<void>>();
  readonly #owed = new Map<Lane, Owed>();
  /** Of the stores that said which ones they are. */
  readonly #identities = new WeakMap<Lane, string>();
  /** Lanes that `#heedTwins` has stopped. */
  readonly #sharing = new WeakSet<Lane>();
  readonly #running = new Map<Lane, Promise<void>>();
  readonly #paused = new Set<string>();
  /** Aborts when a lane fails, with its error. */
  readonly #broken = new AbortController();
  /** Aborts when a source notices that the stream was rolled back. */
  readonly #rolledBack = new AbortController();
  /** Aborts when the live path ends; every catch-up ends with it. */
  readonly #over = new AbortController();

  constructor(
    attachment: Attachment,
    sinks: readonly EngineSink[],
    settings: EngineSettings,
    clock: Clock,
    events: EngineEvents,
  ) {
    this.#attachment = attachment;
    this.#sinks = sinks;
    this.#settings = settings;
    this.#clock = clock;
    this.#events = events;
    this.table = SeriesTable.of(attachment.tiling);
    const liveStart = liveFrom(laneStarts(attachment), attachment.tiling, clock.now());
    this.#lanes = sinks.map((sink) =>
      this.#laneOf(sink, attachment, {
        liveStart,
        rolledBack: spanOf([attachment.rollback, attachment.unswept?.get(sink.id)]),
      }),
    );
    this.#fanout = new FanOut(
      this.#lanes.map(({ lane }) => lane),
      liveStart.from,
    );
    this.#catchUps = new CatchUps({
      open: (lane) => this.#replayFor(lane),
      live: this.#fanout,
      tiling: attachment.tiling,
      clock,
      events,
      // The live path knows no windows before its own start. From now on it is responsible for these too.
      joined: (from, sequence) => {
        if (from < liveStart.from) this.live.aggregator.adoptWindows(from, sequence);
      },
      signal: this.#over.signal,
    });
    const onWindows: WindowHandler = (windows, boundary, sequence) => {
      this.#fanout.hand(windows, boundary, sequence);
      events.closed(windows, boundary);
      const folded = this.live.aggregator.takeFolded();
      if (folded.length > 0) events.folded?.(folded);
    };
    events.began?.(liveStart.from, attachment.tiling, attachment.rollback?.from);
    const reopened: OnReopened = (starts, through) => {
      this.#fanout.reopenedThrough = through;
      this.#reopen(this.#fanout.lanes, starts, through);
    };
    const { keepsSketches = false } = settings;
    const keeps = { keepsSketches, notesFolds: true };
    const live = this.#pipeline(liveStart.from, liveStart.closedThrough, onWindows, reopened, keeps);
    const source = attachment.open(liveStart.from, liveStart.closedThrough, true);
    this.live = { source: this.#watched(attachment.watch?.watched(source) ?? source), ...live };
    for (const range of attachment.lost ?? []) this.#countGap(0, range);
  }

  /**
   * Runs until `stop` aborts, the attachment's epochs change, or the stream turns out to be rolled back. Then stops
   * pulling, gives the lanes time to finish, and saves the checkpoints. If an operator has to fix something, rejects
   * after all that with the reason.
   */
  async run(stop: AbortSignal): Promise<EngineEnd> {
    for (const parts of this.#lanes) this.#start(parts);
    const { source, pipeline, aggregator } = this.live;
    const { epochs, watch } = this.#attachment;
    if (epochs !== undefined) this.#track(epochs.run(this.#over.signal));
    if (watch !== undefined) this.#track(watch.run(this.#over.signal));
    const ends = [
      stop,
      this.#broken.signal,
      this.#rolledBack.signal,
      ...(epochs === undefined ? [] : [epochs.changed]),
    ];
    let stopped: number | undefined;
    try {
      await source.run(pipeline, AbortSignal.any(ends));
      stopped = this.#clock.steady();
      // In core mode nothing can be read again: incomplete windows are handed out as they are, and parts add up.
      if (!this.#attachment.replayable) {
        await this.#finish(pipeline);
        this.#fanout.hand(aggregator.closeAll(), aggregator.boundary, 0);
      }
    } finally {
      this.#over.abort();
      pipeline.release();
      const deadline = new AbortController();
      const drained = new AbortController();
      const now = this.#clock.steady();
      const left = this.#settings.stopTimeoutMs - (now - (stopped ?? now));
      // If the service starts again at once, replay does the rest: there is no need to wait for the slowest sink.
      const startsAgain = epochs?.changed.aborted === true || this.#rolledBack.signal.aborted;
      const patienceMs = startsAgain ? 0 : Math.max(0, left);
      const late = this.#clock.sleep(patienceMs, drained.signal).then(() => deadline.abort());
      // One that was taken down must not save its checkpoint over the one that was changed.
      const going = this.#lanes.filter(({ ends }) => !ends.signal.aborted);
      await Promise.all(going.map(({ lane }) => lane.stop(deadline.signal)));
      drained.abort();
      await Promise.all([...this.#running.values(), ...this.#replays, late]);
    }
    if (this.#rolledBack.signal.aborted) return 'rolled_back';
    return epochs?.changed.aborted ? 'reshaped' : 'stopped';
  }

  get lanes(): readonly LaneParts[] {
    return this.#lanes;
  }

  /** Runs the lane, and what belongs to it, until it ends. */
  #start({ lane, verifier, sweep, over }: LaneParts): void {
    const running = lane.run();
    // A lane never ends on its own. If one does, what it owes would never be written, so everything stops, loudly.
    running.catch((error: unknown) => this.#broken.abort(error));
    this.#running.set(lane, running);
    if (!lane.resting) this.#catchUp(lane);
    this.#track(verifier.run(over));
    if (sweep !== undefined) this.#track(sweep.run(over));
  }

  /** What is still to be done in windows that the sink's store has, and that a later start might forget. */
  owes(sink: string): 'rewrites' | 'sweep' | undefined {
    const parts = this.#lanes.find(({ lane }) => lane.id === sink);
    if (parts?.sweep?.isOver === false && parts.sweep.rolledBack !== undefined) return 'sweep';
    return parts !== undefined && this.#owed.has(parts.lane) ? 'rewrites' : undefined;
  }

  /**
   * Takes the lane of a sink down, and lets another one begin where the sink's checkpoint says after `change`. The
   * other lanes and the live path go on. The old lane saves nothing during `change` or later. Whatever becomes of
   * `change`, the sink begins again, unless the engine has ended. Resolves, or rejects, as `change` does, after that.
   * Rejects with a `BusError` if there is no lane to take down.
   */
  async replaceLane<T>(sink: string, change: () => Promise<T>): Promise<T> {
    const old = this.#lanes.find(({ lane }) => lane.id === sink);
    const running = old && this.#running.get(old.lane);
    const canReattach = this.#attachment.reattach !== undefined;
    if (!canReattach || old === undefined || running === undefined || old.over.aborted)
      throw new BusError(`the sink ${sink} is not running now`, 'Try again when it has begun.');
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#track(promise);
    try {
      old.ends.abort();
      this.#catchUps.end(old.lane);
      await old.lane.end(this.#over.signal);
      await running;
      return await change().finally(() => this.#beginAnew(old));
    } finally {
      resolve();
    }
  }

  async #beginAnew(old: LaneParts): Promise<void> {
    const { signal } = this.#over;
    const { id } = old.lane;
    for (let attempt = 1; !signal.aborted; attempt++) {
      try {
        const beginnings = await this.#attachment.reattach!(id);
        if (!signal.aborted) this.#putInPlace(old, beginnings);
        return;
      } catch (error) {
        this.#events.notBegun?.(id, error);
        await this.#clock.sleep(backoffMs(attempt, this.#clock.random()), signal);
      }
    }
  }

  /** All in one turn, so that the live path hands each window to one of the two. */
  #putInPlace(old: LaneParts, beginnings: Beginnings): void {
    const { id } = old.lane;
    const rolledBack = old.sweep?.isOver === false ? old.sweep.rolledBack : undefined;
    const sink = this.#sinks.find((one) => one.id === id)!;
    const parts = this.#laneOf(sink, beginnings, { rolledBack });
    this.#events.laneReplaced?.(old);
    this.#running.delete(old.lane);
    this.#lanes = this.#lanes.map((one) => (one === old ? parts : one));
    this.#fanout.replace(old.lane, parts.lane);
    if (this.#paused.has(id)) parts.lane.pause();
    this.#start(parts);
    const { waiting, current } = this.#owed.get(old.lane) ?? { waiting: [], current: undefined };
    this.#owed.delete(old.lane);
    // Later windows are computed again anyway. Nobody tells of these a second time.
    for (const [start, window] of [...(current ? [current] : []), ...waiting])
      if (start < parts.lane.next) this.#owe(parts, start, window);
  }

  /**
   * Returns the source, such that whoever runs it waits for the end of the engine once the stream was rolled back:
   * what was read is worth nothing then.
   */
  #watched(source: Source): Source {
    return {
      stats: source.stats,
      run: async (reader, signal) => {
        await source.run(reader, signal);
        if (!source.stats.rolledBack) return;
        this.#rolledBack.abort();
        if (!signal.aborted)
          await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
      },
    };
  }

  /** Takes what has arrived, as far as there is time. The rest is lost. */
  async #finish(pipeline: Pipeline): Promise<void> {
    const finished = new AbortController();
    const late = this.#clock.sleep(this.#settings.stopTimeoutMs, finished.signal);
    await Promise.race([pipeline.finish(), late]);
    finished.abort();
    const { waiting } = pipeline;
    if (waiting === 0) return;
    const { lastStreamTime } = this.live.source.stats;
    this.#gap({ fromTime: lastStreamTime, toTime: lastStreamTime, messages: waiting });
    this.#events.leftUnread(waiting);
  }

  #pipeline(
    from: number,
    closedThrough: number | undefined,
    onWindows: WindowHandler,
    onReopened: OnReopened,
    keeps: Pick<AggregatorOptions, 'keepsSketches' | 'notesFolds'> = {},
  ): { pipeline: Pipeline; aggregator: Aggregator } {
    const { instance, tiling, epochs, trail } = this.#attachment;
    return openPipeline(
      this.table,
      this.#settings,
      { from, closedThrough, instance, tiling },
      {
        ...keeps,
        nextTurn: () => this.#clock.nextTurn(),
        // The lanes of core mode hold nobody back either.
        holdsBack: this.#attachment.replayable,
        onWindows: (windows, boundary, sequence) => {
          this.#retired.free(this.table.records.retiredBytes);
          return onWindows(windows, boundary, sequence);
        },
        // The source notes how far it is only after a batch. Whoever resumes at a checkpoint needs a mark to go by.
        onLook: trail && ((sequence, time) => trail.note({ sequence, time })),
        untilShaped: epochs && ((streamTime) => epochs.untilShaped(streamTime)),
        onReopened,
        onRejected: (...rejected) => this.#events.messageRejected(...rejected),
        onCumulative: () => this.#events.cumulative(),
        onRounded: (series, sum) => this.#events.rounded(series, sum),
        onGap: (gap: Gap) => this.#gap(gap),
      },
    );
  }

  /** `liveStart`: where the live path begins, if both begin together. */
  #laneOf(
    engineSink: EngineSink,
    beginnings: Beginnings,
    {
      liveStart,
      rolledBack,
    }: { readonly liveStart?: LaneStart; readonly rolledBack: WindowRange | undefined },
  ): LaneParts {
    const { id, kind, sink, limits, timeoutMs, backlogBytes, keepsMs } = engineSink;
    const events = this.#events;
    const keeper = beginnings.keeperOf(id);
    const names = beginnings.names?.get(id);
    const ends = new AbortController();
    const over = AbortSignal.any([this.#over.signal, ends.signal]);
    const tiling = this.windowsOf(id);
    const { from, closedThrough } = this.#laneStart(id, beginnings, liveStart);
    const lane: Lane = new Lane({
      id,
      sink,
      limits,
      timeoutMs,
      backlogBytes,
      from,
      closedThrough,
      // The live path may begin earlier. But nobody would repair windows that no checkpoint speaks of.
      first: beginnings.first?.get(id),
      names,
      merger: this.#mergerOf(id),
      identity: beginnings.stores?.get(id),
      receipts: beginnings.receipts?.get(id),
      begins: beginnings.resumed?.has(id) === false,
      replayable: this.#attachment.replayable,
      keeper,
      clock: this.#clock,
      events: {
        wrote: (seconds, taken) => events.wrote(id, seconds, taken),
        rejected: (points) => events.pointsRejected(id, points),
        unidentified: (points) => events.pointsLost(id, points),
        changed: (up, failure) => events.sinkChanged(id, up, failure),
        // Also when somebody resumes one that is about to be replaced.
        fellBehind: () => {
          if (!over.aborted) this.#catchUp(lane);
        },
        storeReplaced: (older) => this.#track(this.#refill(lane, older, beginnings, over)),
        identified: (identity) => this.#heedTwins(lane, identity, engineSink),
        unnamed: (reason) => events.storeUnnamed(id, reason),
        folded: (points) => events.pointsFolded?.(id, points),
        nothingChosen: (windows) => events.nothingChosen?.(id, windows),
        receiptsChanged: (failure) => events.receiptsChanged(id, failure),
        confirmed: (window, refused, isAgain) => {
          verifier.confirmed(window, refused);
          if (!isAgain) this.#confirmed(id, window, names);
        },
      },
    });
    const verifier = new Verifier({
      ...(this.#settings.verify ?? VERIFY_NOTHING),
      digests: sink.digests,
      keepsMs,
      names,
      isUsable: () => lane.state === 'live' && lane.up,
      // Until the store is swept, it may hold rows that are about to be removed.
      // One that was emptied gets the window again.
      isWhole: (start) =>
        start < lane.next &&
        sweep?.isOver !== false &&
        !this.gaps.latest.some(({ from, to }) => tiling.endOf(start) > from && start < to),
      recompute: this.#recomputeFor(id),
      closedThrough: () => lane.closedThrough ?? this.live.source.stats.lastSequence,
      position: () => this.#position(),
      clock: this.#clock,
      differs: (difference, start) => events.differs(id, difference, start),
    });
    const sweep = this.#sweepOf(lane, sink, { from, rolledBack, beginnings });
    const parts = { lane, kind, keeper, verifier, sweep, names, beginnings, ends, over };
    this.#heedUnreadable(parts);
    return parts;
  }

  /** See `Verifier`. */
  #position() {
    const { lastSequence, pending } = this.live.source.stats;
    return { read: this.live.pipeline.reportedThrough, end: lastSequence + pending };
  }

  /** Undefined if the sink gets the windows of the pipeline. */
  #mergerOf(id: string): WindowMerger | undefined {
    if (!this.#hasOwnWindows(id)) return undefined;
    return new WindowMerger(this.windowsOf(id), this.#attachment.tiling, this.#settings.pace?.pointsPerTurn);
  }

  /** Without its checkpoint, what the sink confirms would be forgotten, and nobody else may decide where it begins. */
  #heedUnreadable({ lane, keeper, beginnings, over }: LaneParts): void {
    const unreadable = beginnings.unreadable?.get(lane.id);
    if (unreadable !== undefined) {
      // Where START would have it begin says nothing about what is in its store.
      const confirmedTo = unreadable instanceof OtherWindows ? unreadable.next : undefined;
      lane.block(this.#failureOf(unreadable), { confirmedTo });
    }
    if (keeper === undefined) return;
    keeper.onUnreadable = (error) => {
      if (over.aborted) return;
      if (error === undefined) {
        if (!this.#sharing.has(lane)) lane.unblock();
        return;
      }
      if (lane.blocked) return;
      this.#catchUps.end(lane);
      lane.block(this.#failureOf(error));
    };
  }

  /**
   * Rows of two lengths in one table overwrite each other, and count the rest twice: the sink with the longer windows
   * has to stop. Two URLs may lead to one table, which only the store knows. A copy of a table with its rows is as bad.
   */
  #heedTwins(lane: Lane, identity: string, { sharesIdentity }: EngineSink): void {
    if (sharesIdentity) return;
    this.#identities.set(lane, identity);
    const length = ({ id }: Lane) => this.windowsOf(id).epochAt(this.#clock.now()).windowMs;
    for (const { lane: other } of this.lanes) {
      if (other === lane || this.#identities.get(other) !== identity || length(other) === length(lane))
        continue;
      const [stops, goesOn] = length(lane) > length(other) ? [lane, other] : [other, lane];
      // Each store is asked which one it is from time to time.
      if (this.#sharing.has(stops)) continue;
      this.#sharing.add(stops);
      this.#catchUps.end(stops);
      const message = `${sharedTableInWords(goesOn.id)}. ${SHARED_TABLE_ADVICE}, and restart`;
      stops.block({ at: this.#clock.now(), reason: 'shared_table', message });
      this.#events.tableShared?.(stops.id, message);
    }
  }

  /** A lane close to the live path follows it from the live path's start; some windows are written again. */
  #laneStart(sink: string, beginnings: Beginnings, liveStart: LaneStart | undefined): LaneStart {
    const own = laneStartOf(sink, beginnings);
    // The live path may start inside a window of a sink with windows of its own.
    if (liveStart === undefined || this.#hasOwnWindows(sink)) return own;
    return own.from >= liveStart.from && hasBegun(own, this.#clock.now()) ? liveStart : own;
  }

  /** The windows of a sink: those of the pipeline, or its own. */
  windowsOf(sink: string): Tiling {
    const { windows, tiling } = this.#attachment;
    return windows?.get(sink) ?? tiling;
  }

  #hasOwnWindows(sink: string): boolean {
    return this.#attachment.windows?.has(sink) === true;
  }

  #confirmed(sink: string, window: ClosedWindow, names: NameChoices | undefined): void {
    this.#events.confirmed?.(sink, this.#lateness(window));
    // The pipeline has looked at the sums of its own windows.
    if (window.windowMs === this.#attachment.tiling.epochAt(window.start).windowMs) return;
    const isGiven = (index: number) => names?.gives(window.nameOf(index), window) ?? true;
    lookForRounded(window, this, (series, sum) => this.#events.rounded(series, sum), isGiven);
  }

  /** How long ago the window was due to be closed, in ms. */
  #lateness({ start, windowMs }: ClosedWindow): number {
    const { latenessMs } = this.#attachment.tiling.epochAt(start);
    return this.#clock.now() - start - windowMs - latenessMs;
  }

  #sweepOf(
    lane: Lane,
    { strays }: LaneSink,
    {
      from,
      rolledBack,
      beginnings: { resumed, names },
    }: Pick<LaneParts, 'beginnings'> & {
      readonly from: number;
      readonly rolledBack: WindowRange | undefined;
    },
  ): Sweep | undefined {
    const { instance } = this.#attachment;
    const tiling = this.windowsOf(lane.id);
    const recompute = this.#recomputeFor(lane.id);
    if (resumed?.has(lane.id) !== true || recompute === undefined) return undefined;
    return new Sweep({
      lane,
      from,
      instance,
      strays,
      names: names?.get(lane.id),
      rolledBack,
      tiling,
      slice: this.#settings.slice,
      recompute,
      rewrite: (start, through) => this.#reopen([lane], [start], through),
      clock: this.#clock,
      swept: (windows, why) => this.#events.swept(lane.id, windows, why),
    });
  }

  #failureOf({ message, advice }: BusError): StoreFailure {
    return { at: this.#clock.now(), reason: 'checkpoint', message: `${message}. ${advice}` };
  }

  /** See `Attachment.unswept`: for the next engine of this process. */
  get unswept(): ReadonlyMap<string, WindowRange> {
    return new Map(
      this.lanes.flatMap(({ lane, sweep }) => {
        const { isOver = true, rolledBack } = sweep ?? {};
        return isOver || rolledBack === undefined ? [] : [[lane.id, rolledBack] as const];
      }),
    );
  }

  /**
   * Until when the bus holds all that the sink still needs, in ms since 1970. If its store takes nothing until then,
   * windows are lost. Undefined if nobody can tell, and in core mode.
   */
  safeUntil(sink: string): number | undefined {
    const { replayable, keepsMs, tiling } = this.#attachment;
    const lane = this.lanes.find((parts) => parts.lane.id === sink)?.lane;
    const holdsMs = this.live.source.stats.holdsMs ?? keepsMs;
    const from = lane?.confirmedTo;
    if (!replayable || holdsMs === undefined || from === undefined || !Number.isFinite(from))
      return undefined;
    return readFrom(from, tiling) + holdsMs;
  }

  /** See `Attachment.keepsMs`. */
  get keepsMs(): number | undefined {
    return this.#attachment.keepsMs;
  }

  /** Undefined if nobody watches. */
  /** Messages that sources other than the live one left out: see `SourceStats`. */
  get leftOutAside(): number {
    return this.#attachment.trail?.leftOutAside ?? 0;
  }

  get watch(): WatchStatus | undefined {
    return this.#attachment.watch?.status;
  }

  get tiling(): Tiling {
    return this.#attachment.tiling;
  }

  /** Returns undefined if the lane is not catching up. */
  progressOf(lane: Lane): CatchUpProgress | undefined {
    return this.#catchUps.progressOf(lane);
  }

  #gap({ fromTime, toTime, messages }: Gap): void {
    this.#countGap(messages, windowsTouched(fromTime, toTime, this.#attachment.tiling));
  }

  #countGap(messages: number, touched: WindowRange): void {
    this.gaps.times += 1;
    this.gaps.messages += messages;
    this.gaps.latest.push({ messages, ...touched });
    if (this.gaps.latest.length > MAX_GAPS) this.gaps.latest.shift();
    this.#events.gapped?.(touched);
  }

  /** Pauses the sink's lane until `resume`. May be called before `run`, and for a lane that is already paused. */
  pause(sink: string): void {
    this.#paused.add(sink);
    for (const { lane } of this.lanes.filter(({ lane }) => lane.id === sink)) {
      this.#catchUps.end(lane);
      lane.pause();
    }
  }

  resume(sink: string): void {
    this.#paused.delete(sink);
    if (this.#over.signal.aborted) return;
    for (const { lane } of this.lanes) if (lane.id === sink) lane.resume();
  }

  #catchUp(lane: Lane): void {
    // A lane that begins at or after the live path's boundary has missed nothing. But one that resumes after it has to
    // look for news: the live path will not know what was in its windows.
    const resumesAfter = lane.next > this.#fanout.boundary && lane.closedThrough !== undefined;
    const hasToLook = this.#hasOwnWindows(lane.id) && resumesAfter;
    if (lane.next >= this.#fanout.boundary && !hasToLook) lane.join();
    else this.#track(this.#catchUps.start(lane));
  }

  /** The lane's store is another one than that of the checkpoint, or was emptied, or holds `older` content. */
  async #refill(
    lane: Lane,
    older: OlderContent | undefined,
    { beginAgain }: Beginnings,
    signal: AbortSignal,
  ): Promise<void> {
    this.#catchUps.end(lane);
    if (beginAgain === undefined) return;
    for (let attempt = 1; !signal.aborted; attempt++) {
      try {
        // Never forward: the checkpoint may be before that, because somebody has set it back.
        const heldTo = older?.to === undefined ? undefined : Math.min(older.to, lane.next);
        const { from, lost } = await beginAgain(lane.id, heldTo);
        if (signal.aborted) return;
        // Somebody may have resumed the lane meanwhile.
        this.#catchUps.end(lane);
        if (lost !== undefined) this.#countGap(0, lost);
        this.#events.storeReplaced(lane.id, from, lost, older);
        lane.beginAgain(from);
        return;
      } catch (error) {
        this.#events.replayFailed(lane.id, error);
        await this.#clock.sleep(backoffMs(attempt, this.#clock.random()), signal);
      }
    }
  }

  /** Holds the checkpoints at once, before the live path goes on, so that the message is found again after a crash. */
  #reopen(lanes: readonly Lane[], starts: readonly number[], through: number): void {
    if (!this.#attachment.replayable) return;
    this.#events.reopened(starts, through);
    for (const parts of this.lanes) {
      if (!lanes.includes(parts.lane)) continue;
      for (const part of starts) {
        const start = this.windowsOf(parts.lane.id).startOf(part);
        this.#owe(parts, start, { through, parts: new Set([part]) });
      }
    }
  }

  #owe(of: LaneParts, start: number, { through, parts }: OwedWindow): void {
    const { lane, verifier, sweep, over } = of;
    verifier.reopened(start, through);
    sweep?.reopened(start, through);
    const owed: Owed = this.#owed.get(lane) ?? { waiting: new Map(), current: undefined };
    const before = owed.waiting.get(start);
    owed.waiting.set(start, {
      through: Math.max(through, before?.through ?? 0),
      parts: new Set([...(before?.parts ?? []), ...parts]),
    });
    if (this.#owed.has(lane)) return;
    this.#owed.set(lane, owed);
    lane.hold();
    // What becomes known while its lane is taken down is for the next one.
    if (!over.aborted) this.#track(this.#rewrite(of, owed));
  }

  /** Rewrites one window at a time. A window reopened twice in the meantime is rewritten only once. */
  async #rewrite(parts: LaneParts, owed: Owed): Promise<void> {
    const { lane, over: signal } = parts;
    const { waiting } = owed;
    const options = {
      open: this.#replayFor(lane, this.#settings.keepsSketches),
      tiling: this.#attachment.tiling,
      own: this.windowsOf(lane.id),
      clock: this.#clock,
      failed: (error: unknown) => this.#events.replayFailed(lane.id, error),
      found: (start: number, window: ClosedWindow | undefined, read: number) =>
        this.#events.recomputed?.(start, window, read),
    };
    for (let [first] = waiting; first !== undefined; [first] = waiting) {
      const [start, { through, parts: reopened }] = first;
      waiting.delete(start);
      owed.current = first;
      if (this.#isGuess(parts, start)) continue;
      await rewriteWindow(lane, start, through, { ...options, parts: reopened }, signal);
      if (signal.aborted) return;
    }
    this.#owed.delete(lane);
    lane.release();
  }

  /** Whether it is a guess which names the sink is to get in a window. Then the store lacks the news, for good. */
  #isGuess({ lane, beginnings: { names, first } }: LaneParts, start: number): boolean {
    const window = { from: start, to: this.windowsOf(lane.id).endOf(start) };
    const isGiven = start >= (first?.get(lane.id) ?? Number.NEGATIVE_INFINITY);
    const isKnown = names?.get(lane.id)?.knows({ start, windowMs: window.to - start }) ?? true;
    if (!isGiven || isKnown) return false;
    this.#countGap(0, window);
    this.#events.namesUnknown?.(lane.id, start);
    return true;
  }

  /** Opens a replay for one lane. Windows reopened by it concern that lane only. */
  #replayFor(lane: Lane, keepsSketches = false): OpenReplay {
    return (from, closedThrough, onWindows) => {
      const reopened: OnReopened = (starts, through) => this.#reopen([lane], starts, through);
      const { pipeline } = this.#pipeline(from, closedThrough, onWindows, reopened, { keepsSketches });
      return {
        source: this.#watched(this.#attachment.open(from, closedThrough, false)),
        reader: pipeline,
        waiting: () => pipeline.waiting,
        release: () => pipeline.release(),
      };
    };
  }

  /** Returns the function that computes one of the sink's windows again from the stream. */
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
        const options = { nextTurn: () => this.#clock.nextTurn(), onWindows, onGap };
        const { pipeline } = openPipeline(this.table, this.#settings, start, options);
        return {
          source: this.#watched(openAside(from)),
          reader: pipeline,
          waiting: () => pipeline.waiting,
          release: () => pipeline.release(),
        };
      };
      const failed = (error: unknown) => this.#events.replayFailed(sink, error);
      const recomputed = await recomputeWindow(
        start,
        through,
        { open, tiling, own: this.windowsOf(sink), clock: this.#clock, failed },
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

function laneStartOf(sink: string, { from, closedThrough }: Beginnings): LaneStart {
  return { from: from.get(sink)!, closedThrough: closedThrough?.get(sink) };
}

/** Lanes that must not begin do not count, unless there are no others: where they begin is a guess. */
function laneStarts(attachment: Attachment): LaneStart[] {
  const all = [...attachment.from.keys()];
  const able = all.filter((sink) => attachment.unreadable?.has(sink) !== true);
  return (able.length > 0 ? able : all).map((sink) => laneStartOf(sink, attachment));
}
