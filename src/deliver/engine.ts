/**
 * From the messages of a source to the stores: the live path, a lane per sink, and the catch-ups. It knows no bus, no
 * HTTP and no clock but the one passed in, so the simulation runs it as the service does.
 */
import { Aggregator } from '../aggregate/aggregator.ts';
import { SeriesTable } from '../aggregate/series-table.ts';
import type { ClosedWindow } from '../aggregate/window.ts';
import type { Gap, Source } from '../bus/source.ts';
import type { Slice } from '../config.ts';
import { JsonDecoder } from '../decode/json.ts';
import type { Rejection as DecodeRejection } from '../decode/rejection.ts';
import type { Sink, SinkLimits } from '../sink.ts';
import { liveFrom, type WindowShape } from './begin.ts';
import { catchUp } from './catch-up.ts';
import type { Clock } from './clock.ts';
import { FanOut } from './fanout.ts';
import type { CheckpointKeeper } from './keeper.ts';
import { Lane, type LaneFailure } from './lane.ts';
import { Pipeline } from './pipeline.ts';
import type { RejectedPoint } from './reports.ts';

/** What is read, and where each sink goes on. */
export interface Attachment {
  /** By sink: start of the first window that it wants; -Infinity in core mode. */
  readonly from: ReadonlyMap<string, number>;
  /** Whether what was read can be read again. */
  readonly replayable: boolean;
  /** See `Point.instance`. */
  readonly instance: string;
  /** A source with all messages that windows from `from` on can depend on (I6). */
  open(from: number): Source;
  keeperOf(sink: string, sequence: () => number): CheckpointKeeper | undefined;
}

export interface EngineSettings extends WindowShape {
  /** Per window. */
  readonly maxSeries: number;
  readonly maxMessageBytes: number;
  readonly slice: Slice;
  /** How long a stop waits for the sinks. */
  readonly stopTimeoutMs: number;
}

export interface EngineSink {
  readonly id: string;
  readonly kind: string;
  readonly sink: Sink;
  readonly limits: SinkLimits;
  readonly timeoutMs: number;
  readonly backlogBytes: number;
}

/** What the engine tells; all calls are synchronous and must not throw. */
export interface EngineEvents {
  wrote(sink: string, seconds: number): void;
  pointsRejected(sink: string, rejected: readonly RejectedPoint[]): void;
  sinkChanged(sink: string, up: boolean, failure: LaneFailure | undefined): void;
  messageRejected(reason: DecodeRejection, message: Uint8Array): void;
  catchUpStarted(sink: string, from: number): void;
  catchUpFailed(sink: string, error: unknown): void;
  caughtUp(sink: string): void;
}

/** One sink's lane and what belongs to it. */
export interface LaneParts {
  readonly lane: Lane;
  readonly kind: string;
  readonly keeper: CheckpointKeeper | undefined;
}

/** The live path. */
export interface LiveParts {
  readonly source: Source;
  readonly pipeline: Pipeline;
  readonly aggregator: Aggregator;
}

type Hand = (windows: readonly ClosedWindow[], boundary: number) => void | Promise<void>;

export class Engine {
  readonly lanes: readonly LaneParts[];
  readonly live: LiveParts;
  readonly table: SeriesTable;
  /** Messages that were no longer in the stream: on the live path and in every catch-up. */
  readonly gaps = { times: 0, messages: 0 };
  readonly #attachment: Attachment;
  readonly #settings: EngineSettings;
  readonly #clock: Clock;
  readonly #events: EngineEvents;
  readonly #fanout: FanOut;
  readonly #catchUps = new Set<Promise<void>>();
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
    this.table = new SeriesTable(settings.maxSeries);
    const from = liveFrom([...attachment.from.values()], settings.windowMs);
    this.lanes = sinks.map((sink) => this.#laneOf(sink));
    this.#fanout = new FanOut(
      this.lanes.map(({ lane }) => lane),
      from,
    );
    const hand: Hand = (windows, boundary) => this.#fanout.hand(windows, boundary);
    this.live = { source: attachment.open(from), ...this.#pipeline(from, hand) };
  }

  /**
   * Runs until `stop` aborts; then stops pulling, gives the lanes their time, and saves the checkpoints. Rejects with
   * what an operator must mend, when all that has been done.
   */
  async run(stop: AbortSignal): Promise<void> {
    const lanes = this.#fanout.lanes;
    const running = lanes.map((lane) => lane.run());
    for (const lane of lanes) if (lane.next < this.#fanout.boundary) this.#catchUp(lane);
    const { source, pipeline, aggregator } = this.live;
    try {
      await source.run(pipeline, stop);
      // Nothing can be read again in core mode: what is not complete is handed out as it is, and parts add up.
      if (!this.#attachment.replayable) this.#fanout.hand(aggregator.closeAll(), aggregator.boundary);
    } finally {
      this.#over.abort();
      const deadline = new AbortController();
      const drained = new AbortController();
      const late = this.#clock
        .sleep(this.#settings.stopTimeoutMs, drained.signal)
        .then(() => deadline.abort());
      await Promise.all(lanes.map((lane) => lane.stop(deadline.signal)));
      drained.abort();
      await Promise.all([...running, ...this.#catchUps, late]);
    }
  }

  #pipeline(from: number, hand: Hand): { pipeline: Pipeline; aggregator: Aggregator } {
    const { maxMessageBytes, ...shape } = this.#settings;
    const { instance } = this.#attachment;
    const aggregator = new Aggregator(this.table, { ...shape, from, instance });
    const pipeline = new Pipeline({
      decoder: new JsonDecoder(this.table, { maxMessageBytes }),
      aggregator,
      hand,
      onRejected: (reason, message) => this.#events.messageRejected(reason, message),
      onGap: ({ messages }: Gap) => {
        this.gaps.times += 1;
        this.gaps.messages += messages;
      },
    });
    return { pipeline, aggregator };
  }

  #laneOf({ id, kind, sink, limits, timeoutMs, backlogBytes }: EngineSink): LaneParts {
    const events = this.#events;
    const keeper = this.#attachment.keeperOf(id, () => this.live.source.stats.lastSequence);
    const lane: Lane = new Lane({
      id,
      sink,
      limits,
      timeoutMs,
      backlogBytes,
      from: this.#attachment.from.get(id)!,
      replayable: this.#attachment.replayable,
      keeper,
      clock: this.#clock,
      events: {
        wrote: (seconds) => events.wrote(id, seconds),
        rejected: (points) => events.pointsRejected(id, points),
        changed: (up, failure) => events.sinkChanged(id, up, failure),
        fellBehind: () => this.#catchUp(lane),
      },
    });
    return { lane, kind, keeper };
  }

  #catchUp(lane: Lane): void {
    this.#events.catchUpStarted(lane.id, lane.next);
    const open = (from: number, hand: Hand) => {
      const { pipeline, aggregator } = this.#pipeline(from, hand);
      const source = this.#attachment.open(from);
      return { source, reader: pipeline, release: () => aggregator.release() };
    };
    const options = {
      open,
      liveBoundary: () => this.#fanout.boundary,
      clock: this.#clock,
      failed: (error: unknown) => this.#events.catchUpFailed(lane.id, error),
    };
    const running = catchUp(lane, options, this.#over.signal).then(() => {
      this.#catchUps.delete(running);
      if (!this.#over.signal.aborted) this.#events.caughtUp(lane.id);
    });
    this.#catchUps.add(running);
  }
}
