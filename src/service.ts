/** The running service, put together: bus -> pipeline -> fan-out -> lanes -> a thread per sink, and what watches them. */
import { randomBytes } from 'node:crypto';
import { attach } from './attachment.ts';
import { type Bus, connect } from './bus/connect.ts';
import { isTransient } from './bus/errors.ts';
import { Probes } from './compare/probes.ts';
import type { Config } from './config.ts';
import { backoffMs, systemClock } from './deliver/clock.ts';
import { type Attachment, Engine, type EngineEvents, type EngineSettings } from './deliver/engine.ts';
import { Reports } from './deliver/reports.ts';
import { ThreadedSink } from './deliver/threaded-sink.ts';
import { serveHttp } from './observe/http.ts';
import { type Log, Quiet } from './observe/log.ts';
import { Meters } from './observe/meters.ts';
import { type Parts, snapshot } from './observe/snapshot.ts';
import type { Status } from './observe/status.ts';
import { Telemetry } from './observe/telemetry.ts';
import { Watch } from './observe/watch.ts';
import { WindowScan } from './observe/window-scan.ts';
import { readBackOf } from './sink.ts';

/** Between two lines about the same trouble. */
const QUIET_MS = 60_000;

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
  const scan = new WindowScan();
  const parts: Parts = {
    config,
    instance: randomBytes(8).toString('hex'),
    startedAt: clock.now(),
    meters: new Meters(
      config.sinks.map(({ id }) => id),
      config.core.window,
      clock.now(),
    ),
    scan,
    probes: new Probes({
      intervalMs: config.core.probeInterval,
      clock,
      questions: () => scan.subject.questions(parts.engine?.live.aggregator.boundary ?? Number.NaN),
    }),
  };
  const status = () => snapshot(parts, clock.now());
  const telemetry = new Telemetry(status);
  const quiet = new Quiet(QUIET_MS);
  const watch = new Watch(
    status,
    parts.meters,
    config.sinks.map(({ id }) => id),
    (error) => {
      if (quiet.admit('watch', clock.now()) !== undefined)
        log.error({ error: String(error) }, 'the status cannot be shown');
    },
  );
  const http = await serveHttp({
    host: config.core.httpHost,
    port: config.core.httpPort,
    status,
    metrics: () => telemetry.text(),
    metricsType: telemetry.contentType,
    listen: (response) => watch.listen(response),
  }).catch((error: unknown) => {
    watch.stop();
    throw error;
  });
  log.info(
    { host: config.core.httpHost, port: http.port, sinks: config.sinks.map(({ id }) => id) },
    'listening',
  );
  const done = new Operation(parts, log, telemetry).run(stop).finally(() => {
    watch.stop();
    return http.close();
  });
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
  /** By id, those of the engine that runs. */
  readonly #sinks = new Map<string, ThreadedSink>();

  constructor(parts: Parts, log: Log, telemetry: Telemetry) {
    this.#parts = parts;
    this.#log = log;
    this.#telemetry = telemetry;
  }

  async run(stop: AbortSignal): Promise<void> {
    const { config, instance } = this.#parts;
    const bus = await unlessStopped(connect(config.core, this.#log, { wait: true, signal: stop }), stop);
    if (bus === undefined) return;
    this.#parts.bus = bus;
    try {
      // Announcing again what was overruled since would go back and forth for ever.
      for (let announces = true; !stop.aborted; announces = false) {
        const attaching = this.#attach(bus, config, instance, stop, announces);
        const attachment = await unlessStopped(attaching, stop);
        if (attachment === undefined) return;
        const engine = this.#engine(attachment, bus);
        this.#parts.engine = engine;
        await this.#run(engine, stop);
        if (!stop.aborted) this.#log.info({}, 'windows of another shape were announced; attaching anew');
      }
    } finally {
      await bus.close();
    }
  }

  /** With the probes beside it. */
  async #run(engine: Engine, stop: AbortSignal): Promise<void> {
    const over = new AbortController();
    const probed = engine.lanes.map(({ lane }) => ({
      id: lane.id,
      sink: this.#sinks.get(lane.id)!,
      isWell: () => lane.state === 'live' && lane.up,
    }));
    const probing = this.#parts.probes.run(probed, AbortSignal.any([stop, over.signal]));
    try {
      await engine.run(stop);
    } finally {
      over.abort();
      await probing;
    }
  }

  /** A bus that has just started may have no leader yet: what may pass by itself is waited for. */
  async #attach(
    bus: Bus,
    config: Config,
    instance: string,
    stop: AbortSignal,
    announces: boolean,
  ): Promise<Attachment> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await attach(bus, config, instance, this.#log, announces);
      } catch (error) {
        if (!isTransient(error) || stop.aborted) throw error;
        this.#log.warn({ error: String(error), attempt }, 'not attached to the bus yet; trying again');
        await systemClock.sleep(backoffMs(attempt, systemClock.random()), stop);
      }
    }
  }

  #engine(attachment: Attachment, bus: Bus): Engine {
    const { core, sinks } = this.#parts.config;
    const log = this.#log;
    const reports = new Reports(log, systemClock);
    const settings: EngineSettings = {
      metricsFormat: core.metricsFormat,
      metricsCounters: core.metricsCounters,
      maxMessageBytes: core.maxMessageBytes,
      slice: core.slice,
      stopTimeoutMs: core.stopTimeout,
      verify: {
        share: core.verifyShare,
        replayShare: core.verifyReplayShare,
        delayMs: core.verifyDelay,
      },
    };
    const events: EngineEvents = {
      closed: (windows) => this.#parts.scan.take(windows),
      wrote: (sink, seconds) => {
        this.#telemetry.observeWrite(sink, seconds);
        this.#parts.meters.wrote(sink, seconds, systemClock.now());
      },
      pointsRejected: (sink, points) =>
        reports.pointsRejected(sink, points, core.fanoutRejected ? bus : undefined),
      sinkChanged: (sink, up, failure) => reports.sinkChanged(sink, up, failure),
      messageRejected: (reason, message) => reports.messageRejected(reason, message),
      catchUpStarted: (sink, from) =>
        log.info({ sink, from: new Date(from).toISOString() }, 'the sink catches up by replay'),
      replayFailed: (sink, error) =>
        log.warn({ sink, error: String(error) }, 'the replay failed; trying again'),
      differs: (sink, difference, start) => reports.differs(sink, difference, start),
      reopened: (starts) => reports.reopened(starts),
      catchingUp: (sink, progress) => log.info({ sink, ...progress }, 'catching up'),
      caughtUp: (sink) => log.info({ sink }, 'the sink has caught up'),
    };
    const engineSinks = sinks.map(({ id, kind, module, timeoutMs, backlogBytes, values }) => {
      const sink = new ThreadedSink({ id, kind, values }, log, readBackOf(module, values));
      this.#sinks.set(id, sink);
      return { id, kind: module.kind, sink, limits: module.limits, timeoutMs, backlogBytes };
    });
    return new Engine(attachment, engineSinks, settings, systemClock, events);
  }
}
