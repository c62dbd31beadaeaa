/** The running service, put together: bus -> pipeline -> fan-out -> lanes -> a thread per sink, and what watches them. */
import { randomBytes } from 'node:crypto';
import { Bell, backoffMs, systemClock } from '../base/clock.ts';
import { type Log, Quiet } from '../base/log.ts';
import { type Bus, connect } from '../bus/connect.ts';
import { isTransient } from '../bus/errors.ts';
import type { Config } from '../config/config.ts';
import { ControlPlane } from '../control/control-plane.ts';
import type { Controlled } from '../control/controller.ts';
import { type Attachment, Engine, type EngineEvents, type EngineSettings } from '../deliver/engine.ts';
import { Reports } from '../deliver/reports.ts';
import { ThreadedSink } from '../deliver/thread/threaded-sink.ts';
import { serveHttp } from '../observe/http-server.ts';
import { Meters } from '../observe/meters.ts';
import type { Status } from '../observe/status.ts';
import { Telemetry } from '../observe/telemetry.ts';
import { Watch } from '../observe/watch.ts';
import { Probes } from '../probe/probes.ts';
import { WindowScan } from '../probe/window-scan.ts';
import { limitsOf, readBackOf } from '../sink/contract.ts';
import { attach } from './attachment.ts';
import { type Parts, snapshot } from './snapshot.ts';

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
  let control: ControlPlane | undefined;
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
    paused: new Set(),
    detached: false,
    control: () => control?.status ?? { enabled: false, onBus: false, tasksRunning: 0 },
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
  const operation = new Operation(parts, log, telemetry);
  if (config.core.controlEnabled) control = new ControlPlane(config, parts.instance, operation, clock, log);
  const http = await serveHttp({
    host: config.core.httpHost,
    port: config.core.httpPort,
    status,
    metrics: () => telemetry.text(),
    metricsType: telemetry.contentType,
    listen: (response) => watch.listen(response),
    control: control && ((request) => control.answerHttp(request)),
  }).catch((error: unknown) => {
    watch.stop();
    throw error;
  });
  log.info(
    { host: config.core.httpHost, port: http.port, sinks: config.sinks.map(({ id }) => id) },
    'listening',
  );
  control?.start();
  const done = operation.run(stop).finally(async () => {
    watch.stop();
    await control?.stop();
    await http.close();
  });
  return { port: http.port, status, done };
}

/** How often those who pause sinks are reminded of it. */
const PAUSED_REMINDER_MS = 600_000;

/** One time on the bus. */
class Stay {
  /** How often it had left before. */
  readonly returns: number;
  readonly leave = new AbortController();
  readonly attached = Promise.withResolvers<void>();
  readonly ended = Promise.withResolvers<void>();
  hasAttached = false;

  constructor(returns: number) {
    this.returns = returns;
    this.attached.promise.catch(() => {});
  }
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

/** From the connection to the bus until it is given up: once, and again whenever somebody attaches it again. */
class Operation implements Controlled {
  readonly #parts: Parts;
  readonly #log: Log;
  readonly #telemetry: Telemetry;
  /** By id, those of the engine that runs. */
  readonly #sinks = new Map<string, ThreadedSink>();
  readonly #comesBack = new Bell();
  #stay = new Stay(0);
  /** Announcing again what was overruled since would go back and forth for ever. */
  #announces = true;

  constructor(parts: Parts, log: Log, telemetry: Telemetry) {
    this.#parts = parts;
    this.#log = log;
    this.#telemetry = telemetry;
  }

  get detached(): boolean {
    return this.#parts.detached;
  }

  get paused(): ReadonlySet<string> {
    return this.#parts.paused;
  }

  status(): Status {
    return snapshot(this.#parts, systemClock.now());
  }

  pause(sink: string): void {
    this.#parts.paused.add(sink);
    this.#parts.engine?.pause(sink);
    this.#log.warn({ sink }, 'the sink is paused until somebody resumes it, or the process ends');
  }

  resume(sink: string): void {
    if (!this.#parts.paused.delete(sink)) return;
    this.#log.info({ sink }, 'the sink is resumed');
    this.#parts.engine?.resume(sink);
  }

  async detach(): Promise<void> {
    this.#parts.detached = true;
    this.#stay.leave.abort();
    await this.#stay.ended.promise;
  }

  async attach(signal: AbortSignal): Promise<void> {
    if (!this.#parts.detached) return;
    await this.#stay.ended.promise;
    const stay = new Stay(this.#stay.returns + 1);
    this.#stay = stay;
    signal.addEventListener('abort', () => stay.leave.abort(), { once: true });
    this.#comesBack.ring();
    await Promise.race([stay.attached.promise, stay.ended.promise]);
    signal.throwIfAborted();
  }

  async run(stop: AbortSignal): Promise<void> {
    const reminder = setInterval(() => this.#remind(), PAUSED_REMINDER_MS);
    try {
      while (!stop.aborted) {
        const stay = this.#stay;
        await this.#dwell(stay, AbortSignal.any([stop, stay.leave.signal]));
        stay.ended.resolve();
        if (stop.aborted) break;
        this.#log.warn({}, 'left the bus; the process stays up until somebody attaches it again');
        while (this.#stay === stay && !stop.aborted) await this.#comesBack.wait(stop);
      }
    } finally {
      clearInterval(reminder);
      this.#stay.ended.resolve();
      this.#remind();
    }
  }

  /** A pause that nobody remembers is a store that misses more and more. */
  #remind(): void {
    const { paused } = this.#parts;
    if (paused.size === 0) return;
    this.#log.warn({ sinks: [...paused] }, 'sinks are paused; they go on when resumed, or at the next start');
  }

  /** Rejects with what an operator must mend; one who asked for the attachment is told, and it stays detached. */
  async #dwell(stay: Stay, until: AbortSignal): Promise<void> {
    try {
      await this.#attached(stay, until);
    } catch (error) {
      if (stay.returns === 0 || stay.hasAttached) throw error;
      this.#log.warn({ error: String(error) }, 'not attached to the bus');
      stay.attached.reject(error);
    }
  }

  async #attached(stay: Stay, until: AbortSignal): Promise<void> {
    const { config, instance } = this.#parts;
    // In core mode, the rest of a window must not overwrite the part that was written when it left.
    const part = stay.returns === 0 ? instance : `${instance}-${stay.returns}`;
    const options = { wait: true, signal: until, name: `metrics-fanout ${instance}` };
    const bus = await unlessStopped(connect(config.core, this.#log, options), until);
    if (bus === undefined) return;
    try {
      this.#parts.bus = bus;
      while (!until.aborted) {
        const attaching = this.#attach(bus, config, part, until, this.#announces);
        const attachment = await unlessStopped(attaching, until);
        if (attachment === undefined) return;
        this.#announces = false;
        const engine = this.#engine(attachment, bus);
        for (const sink of this.#parts.paused) engine.pause(sink);
        this.#parts.engine = engine;
        if (!until.aborted) this.#parts.detached = false;
        stay.hasAttached = true;
        stay.attached.resolve();
        await this.#run(engine, until);
        if (!until.aborted) this.#log.info({}, 'windows of another shape were announced; attaching anew');
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
    if (this.#parts.config.core.metricsSource === 'core') this.#tellLost(engine);
  }

  /** Elsewhere, what the stores did not take is in the stream. */
  #tellLost({ lanes }: Engine): void {
    for (const { lane } of lanes) {
      const { id: sink, backlogPoints: points } = lane;
      if (points > 0)
        this.#log.error({ sink, points }, 'points are lost: the store did not take them in time');
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
      const sink = new ThreadedSink({ id, kind, values, timeoutMs }, log, readBackOf(module, values));
      this.#sinks.set(id, sink);
      return { id, kind: module.kind, sink, limits: limitsOf(module, values), timeoutMs, backlogBytes };
    });
    return new Engine(attachment, engineSinks, settings, systemClock, events);
  }
}
