/** The running service, put together: bus -> pipeline -> fan-out -> lanes -> sinks, and what watches them. */
import { randomBytes } from 'node:crypto';
import { Aggregator } from './aggregate/aggregator.ts';
import { SeriesTable } from './aggregate/series-table.ts';
import type { ClosedWindow } from './aggregate/window.ts';
import { type Attachment, attach } from './attachment.ts';
import { type Bus, connect } from './bus/connect.ts';
import { isTransient } from './bus/errors.ts';
import type { Gap, Source } from './bus/source.ts';
import type { Config, SinkConfig } from './config.ts';
import { JsonDecoder } from './decode/json.ts';
import { liveFrom } from './deliver/begin.ts';
import { catchUp } from './deliver/catch-up.ts';
import { backoffMs, systemClock } from './deliver/clock.ts';
import { FanOut, ofSlice } from './deliver/fanout.ts';
import { Lane } from './deliver/lane.ts';
import { Pipeline } from './deliver/pipeline.ts';
import { Reports } from './deliver/reports.ts';
import { serveHttp } from './observe/http.ts';
import type { Log } from './observe/log.ts';
import { type LaneParts, type Parts, snapshot } from './observe/snapshot.ts';
import type { Status } from './observe/status.ts';
import { Telemetry } from './observe/telemetry.ts';

export interface Service {
  /** Of the HTTP server. */
  readonly port: number;
  readonly status: () => Status;
  /** Resolves when the service has stopped; rejects with what an operator must mend. */
  readonly done: Promise<void>;
}

/** Runs until `stop` aborts; then stops pulling, gives the lanes STOP_TIMEOUT, and saves the checkpoints. */
export async function startService(config: Config, log: Log, stop: AbortSignal): Promise<Service> {
  const clock = systemClock;
  const parts: Parts = {
    config,
    instance: randomBytes(8).toString('hex'),
    startedAt: clock.now(),
    lanes: [],
    gaps: { times: 0, messages: 0 },
  };
  const status = () => snapshot(parts, clock.now());
  const telemetry = new Telemetry(status);
  const http = await serveHttp({
    host: config.core.httpHost,
    port: config.core.httpPort,
    status,
    metrics: () => telemetry.text(),
    metricsType: telemetry.contentType,
  });
  log.info(
    { host: config.core.httpHost, port: http.port, sinks: config.sinks.map(({ id }) => id) },
    'listening',
  );
  const done = new Operation(parts, log, telemetry).run(stop).finally(() => http.close());
  return { port: http.port, status, done };
}

/** Undefined where it failed because the service is to stop: that is no error. */
async function unlessStopped<T>(work: Promise<T>, stop: AbortSignal): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (stop.aborted) return undefined;
    throw error;
  }
}

/** From the connection to the bus until it is given up. */
class Operation {
  readonly #parts: Parts;
  readonly #log: Log;
  readonly #telemetry: Telemetry;
  readonly #reports: Reports;
  readonly #table: SeriesTable;
  readonly #catchUps = new Set<Promise<void>>();

  constructor(parts: Parts, log: Log, telemetry: Telemetry) {
    this.#parts = parts;
    this.#log = log;
    this.#telemetry = telemetry;
    this.#reports = new Reports(log, systemClock);
    this.#table = new SeriesTable(parts.config.core.maxSeries);
  }

  async run(stop: AbortSignal): Promise<void> {
    const { config, instance } = this.#parts;
    const bus = await unlessStopped(connect(config.core, this.#log, { wait: true, signal: stop }), stop);
    if (bus === undefined) return;
    this.#parts.bus = bus;
    try {
      const attachment = await unlessStopped(this.#attach(bus, config, instance, stop), stop);
      if (attachment !== undefined) await this.#operate(attachment, bus, stop);
    } finally {
      await bus.close();
    }
  }

  /** A bus that has just started may have no leader yet: what may pass by itself is waited for. */
  async #attach(bus: Bus, config: Config, instance: string, stop: AbortSignal): Promise<Attachment> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await attach(bus, config, instance, this.#log);
      } catch (error) {
        if (!isTransient(error) || stop.aborted) throw error;
        this.#log.warn({ error: String(error), attempt }, 'not attached to the bus yet; trying again');
        await systemClock.sleep(backoffMs(attempt, systemClock.random()), stop);
      }
    }
  }

  async #operate(attachment: Attachment, bus: Bus, stop: AbortSignal): Promise<void> {
    const { core, sinks } = this.#parts.config;
    const from = liveFrom([...attachment.from.values()], core.window);
    const over = new AbortController();
    const end = AbortSignal.any([stop, over.signal]);
    const fellBehind = (lane: Lane) => this.#catchUp(lane, attachment, fanout, end);
    const lanes = sinks.map((sink) => this.#laneOf(sink, attachment, bus, fellBehind));
    this.#parts.lanes = lanes;
    const fanout = new FanOut(
      lanes.map(({ lane }) => lane),
      core.slice,
      from,
    );
    const running = fanout.lanes.map((lane) => lane.run());
    for (const lane of fanout.lanes) if (lane.next < from) fellBehind(lane);

    const source = attachment.open(from);
    const { pipeline, aggregator } = this.#pipeline(attachment, from, (windows, boundary) => {
      fanout.hand(windows, boundary);
    });
    this.#parts.live = { source, pipeline, aggregator, table: this.#table };
    try {
      await source.run(pipeline, stop);
      // Nothing can be read again in core mode: what is not complete is handed out as it is, and parts add up.
      if (!attachment.replayable) fanout.hand(aggregator.closeAll(), aggregator.boundary);
    } finally {
      over.abort();
      const deadline = AbortSignal.timeout(core.stopTimeout);
      await Promise.all(fanout.lanes.map((lane) => lane.stop(deadline)));
      await Promise.all([...running, ...this.#catchUps]);
    }
  }

  #pipeline(
    { instance }: Attachment,
    from: number,
    hand: (windows: readonly ClosedWindow[], boundary: number) => void | Promise<void>,
  ): { pipeline: Pipeline; aggregator: Aggregator } {
    const { core } = this.#parts.config;
    const aggregator = new Aggregator(this.#table, {
      windowMs: core.window,
      latenessMs: core.lateness,
      maxAheadMs: core.maxAhead,
      maxSeries: core.maxSeries,
      from,
      instance,
    });
    const decoder = new JsonDecoder(this.#table, { maxMessageBytes: core.maxMessageBytes });
    const onRejected = this.#reports.messageRejected.bind(this.#reports);
    const onGap = ({ messages }: Gap) => {
      this.#parts.gaps.times += 1;
      this.#parts.gaps.messages += messages;
    };
    return { pipeline: new Pipeline({ decoder, aggregator, hand, onRejected, onGap }), aggregator };
  }

  #laneOf(
    { id, module, timeoutMs, backlogBytes, values }: SinkConfig,
    attachment: Attachment,
    bus: Bus,
    fellBehind: (lane: Lane) => void,
  ): LaneParts {
    const { core } = this.#parts.config;
    const keeper = attachment.keeperOf(id, () => this.#parts.live?.source.stats.lastSequence ?? 0);
    const lane: Lane = new Lane({
      id,
      sink: module.create(values, { id, log: this.#log }),
      limits: module.limits,
      timeoutMs,
      backlogBytes,
      from: attachment.from.get(id)!,
      replayable: attachment.replayable,
      keeper,
      clock: systemClock,
      events: {
        wrote: (seconds) => this.#telemetry.observeWrite(id, seconds),
        rejected: (points) => this.#reports.pointsRejected(id, points, core.fanoutRejected ? bus : undefined),
        changed: (up, failure) => this.#reports.sinkChanged(id, up, failure),
        fellBehind: () => fellBehind(lane),
      },
    });
    return { lane, kind: module.kind, keeper };
  }

  #catchUp(lane: Lane, attachment: Attachment, fanout: FanOut, end: AbortSignal): void {
    const { core } = this.#parts.config;
    this.#log.info(
      { sink: lane.id, from: new Date(lane.next).toISOString() },
      'the sink catches up by replay',
    );
    const open = (
      from: number,
      hand: (windows: readonly ClosedWindow[], boundary: number) => Promise<void>,
    ): { source: Source; reader: Pipeline; release: () => void } => {
      const { pipeline, aggregator } = this.#pipeline(attachment, from, hand);
      return { source: attachment.open(from), reader: pipeline, release: () => aggregator.release() };
    };
    const failed = (error: unknown) =>
      this.#log.warn({ sink: lane.id, error: String(error) }, 'the replay failed; retrying');
    const options = {
      open,
      select: (windows: readonly ClosedWindow[]) => ofSlice(windows, core.slice),
      liveBoundary: () => fanout.boundary,
      clock: systemClock,
      failed,
    };
    const running = catchUp(lane, options, end).then(() => {
      this.#catchUps.delete(running);
      if (!end.aborted) this.#log.info({ sink: lane.id }, 'the sink has caught up');
    });
    this.#catchUps.add(running);
  }
}
