/** One stay on the bus, from the connection until it is given up. */
import { backoffMs, systemClock } from '../base/clock.ts';
import { type Bus, connect } from '../bus/connect.ts';
import { isTransient } from '../bus/errors.ts';
import { KeptCharts } from '../bus/kv/kept-charts.ts';
import type { Trail } from '../bus/read/trail.ts';
import type { Attachment, Engine, EngineEnd } from '../deliver/engine.ts';
import type { WindowRange } from '../sink/contract.ts';
import { attach } from './attachment.ts';
import { keepCharts } from './charts.ts';
import { makeEngine, type SessionEngine, type Surroundings } from './session-engine.ts';

/** Two rollbacks within this time are one that has not settled. */
const SOON_MS = 30_000;

/** Whether to announce our settings if the windows have another shape. */
export interface Announcement {
  /** Only once: if an overruled instance announced again, the shape would change back and forth for ever. */
  due: boolean;
}

export class Session {
  /** How many sessions there were before. */
  readonly number: number;
  readonly #surroundings: Surroundings;
  readonly #announcement: Announcement;
  readonly #leave = new AbortController();
  readonly #connected = Promise.withResolvers<void>();
  readonly #attached = Promise.withResolvers<void>();
  readonly #ended = Promise.withResolvers<void>();
  #hasAttached = false;
  /** What this session has read of the stream. */
  #trail: Trail | undefined;
  /** See `Attachment`. */
  #unswept: ReadonlyMap<string, WindowRange> | undefined;

  constructor(number: number, surroundings: Surroundings, announcement: Announcement) {
    this.number = number;
    this.#surroundings = surroundings;
    this.#announcement = announcement;
    this.#attached.promise.catch(() => {});
  }

  /** Resolves when the session has a connection, or was left before that. Stays pending if the bus refuses it. */
  get connected(): Promise<void> {
    return this.#connected.promise;
  }

  /** Resolves when the session reads, or has ended before that. Rejects if it never will, with the reason. */
  get attached(): Promise<void> {
    return Promise.race([this.#attached.promise, this.#ended.promise]);
  }

  /** Resolves when nothing of the session is left on the bus. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  leave(): void {
    this.#leave.abort();
  }

  /** Marks the session as ended, also one that never ran. */
  end(): void {
    this.#ended.resolve();
  }

  /**
   * Runs until `stop` aborts or somebody calls `leave`. Rejects with an error that an operator must fix. If the
   * attachment was requested, that error goes to the caller of `attach` instead.
   */
  async run(stop: AbortSignal): Promise<void> {
    const { log } = this.#surroundings;
    try {
      await this.#stay(AbortSignal.any([stop, this.#leave.signal]));
    } catch (error) {
      if (this.number === 0 || this.#hasAttached) throw error;
      log.warn({ error: String(error) }, 'not attached to the bus');
      this.#attached.reject(error);
    }
    this.#connected.resolve();
    this.end();
  }

  async #stay(until: AbortSignal): Promise<void> {
    const { parts, log } = this.#surroundings;
    const options = { wait: true, signal: until, name: `metrics-fanout ${parts.instance}` };
    const bus = await unlessStopped(connect(parts.config.core, log, options), until);
    if (bus === undefined) return;
    const over = new AbortController();
    let charting: Promise<void> | undefined;
    try {
      parts.bus = bus;
      parts.totals.connected(bus);
      this.#connected.resolve();
      for (let rollbacks = 0; !until.aborted; ) {
        const attachment = await unlessStopped(this.#attach(bus, until), until);
        if (attachment === undefined) return;
        this.#announcement.due = false;
        this.#trail = attachment.trail;
        if (attachment.rollback !== undefined) parts.rollbacks.add(attachment.rollback);
        const made = makeEngine(attachment, bus, this.#surroundings);
        for (const sink of parts.paused) made.engine.pause(sink);
        parts.engine = made.engine;
        parts.totals.attached(made.engine);
        if (!until.aborted) parts.detached = false;
        this.#hasAttached = true;
        this.#attached.resolve();
        charting ??= this.#keepCharts(bus, AbortSignal.any([until, over.signal]));
        const attachedAt = systemClock.steady();
        const end = await this.#read(made, until);
        this.#unswept = made.engine.unswept;
        if (until.aborted) return;
        if (end === 'rolled_back')
          log.warn({}, 'what was read of the stream does not hold any more; attaching again');
        else log.info({}, 'windows of a new shape were announced; attaching again');
        // A bus that has not settled yet may say the same again.
        const isSoon = systemClock.steady() - attachedAt < SOON_MS;
        rollbacks = end === 'rolled_back' && isSoon ? rollbacks + 1 : 0;
        if (rollbacks > 0) await systemClock.sleep(backoffMs(rollbacks, systemClock.random()), until);
      }
    } finally {
      over.abort();
      await charting;
      await bus.close();
    }
  }

  /** Core mode has no bucket to keep them in. */
  async #keepCharts(bus: Bus, over: AbortSignal): Promise<void> {
    const { parts, charts } = this.#surroundings;
    const { core } = parts.config;
    if (core.metricsSource === 'core') return;
    await keepCharts(charts, new KeptCharts(bus, core), systemClock, over);
  }

  /** A bus that has just started may have no leader yet, so transient errors are retried. */
  async #attach(bus: Bus, stop: AbortSignal): Promise<Attachment> {
    const { parts, log } = this.#surroundings;
    // In core mode, the rest of a window must not overwrite the part that was written when the instance left.
    const instance = this.number === 0 ? parts.instance : `${parts.instance}-${this.number}`;
    for (let attempt = 1; ; attempt++) {
      try {
        const before = { announces: this.#announcement.due, trail: this.#trail, unswept: this.#unswept };
        return await attach(bus, parts.config, instance, log, before);
      } catch (error) {
        if (!isTransient(error) || stop.aborted) throw error;
        log.warn({ error: String(error), attempt }, 'not attached to the bus yet; trying again');
        await systemClock.sleep(backoffMs(attempt, systemClock.random()), stop);
      }
    }
  }

  /** Runs the engine, and the probes alongside. */
  async #read({ engine, sinks }: SessionEngine, stop: AbortSignal): Promise<EngineEnd> {
    const { parts } = this.#surroundings;
    const over = new AbortController();
    // Another lane may take the place of this one.
    const partsOf = (id: string) => engine.lanes.find(({ lane }) => lane.id === id)!;
    const probed = engine.lanes.map(({ lane }) => ({
      id: lane.id,
      sink: sinks.get(lane.id)!,
      holds: (name: string, range: WindowRange) => partsOf(lane.id).names?.givenIn(range)(name) ?? true,
      isWell: () => {
        const now = partsOf(lane.id).lane;
        return now.state === 'live' && now.up;
      },
      written: () => parts.totals.counts?.sinks[lane.id]?.written ?? 0,
    }));
    const probing = parts.probes.run(probed, AbortSignal.any([stop, over.signal]));
    try {
      return await engine.run(stop);
    } finally {
      over.abort();
      await probing;
      if (parts.config.core.metricsSource === 'core') this.#reportLost(engine);
    }
  }

  /** In core mode only: otherwise the stream still has what the stores did not take. */
  #reportLost({ lanes }: Engine): void {
    for (const { lane } of lanes) {
      const { id: sink, backlogPoints: points } = lane;
      if (points > 0) {
        const message = 'points are lost: the store did not take them in time';
        this.#surroundings.log.error({ sink, points }, message);
      }
    }
  }
}

/** Returns undefined if the work failed because the service is stopping: that is not an error. */
async function unlessStopped<T>(work: Promise<T>, stop: AbortSignal): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (stop.aborted) return undefined;
    throw error;
  }
}
