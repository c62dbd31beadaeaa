/** One process of the service. Its parts die with it, but what it has sent may still arrive. */

import type { Point } from '../../src/aggregate/point.ts';
import { backoffMs, type Clock } from '../../src/base/clock.ts';
import { BusError } from '../../src/bus/bus-error.ts';
import type { Source } from '../../src/bus/read/source.ts';
import type { Trail } from '../../src/bus/read/trail.ts';
import type { Slice } from '../../src/config/core-settings.ts';
import { type Attachment, Engine, type EngineEvents, type EngineSink } from '../../src/deliver/engine.ts';
import type { ChosenNames } from '../../src/deliver/name-choices.ts';
import type { WindowRange } from '../../src/sink/contract.ts';
import { attachToCore, attachToStream } from './attach.ts';
import type { Gives } from './chosen.ts';
import { Connection } from './connection.ts';
import type { SimCoreSource } from './core-source.ts';
import { moveCheckpoint } from './move.ts';
import type { Move, SinkPlan } from './scenario.ts';
import type { SimSource } from './source.ts';
import { SimSink } from './store.ts';
import type { World } from './world.ts';

const FORMAT = { metricsFormat: 'auto', metricsCounters: undefined, maxMessageBytes: 1_000_000 } as const;

export class Instance {
  readonly index: number;
  readonly name: string;
  readonly connection: Connection;
  readonly clock: Clock;
  /** First the source of its live path, then those of catch-ups. */
  readonly sources: (SimSource | SimCoreSource)[] = [];
  /** Core mode: what it received, and when. */
  readonly received: { payload: Uint8Array; streamTime: number; subject: string }[] = [];
  engine: Engine | undefined;
  /** By sink: start of the first window that its lane had to write. */
  from: ReadonlyMap<string, number> = new Map();
  /** By sink: start of the first window that its lane accepted. */
  laneFrom: ReadonlyMap<string, number> = new Map();
  /** By sink: what it is to give it. No entry: everything. */
  readonly gives = new Map<string, Gives>();
  startedAt = Number.POSITIVE_INFINITY;
  stoppedAt: number | undefined;
  /** Some windows were written more than once. */
  hasRewritten = false;
  /** What it has read of the stream. */
  trail: Trail | undefined;
  unswept: ReadonlyMap<string, WindowRange> | undefined;
  /** Sinks that are paused, and those that ever were: their windows are written more than once. */
  readonly paused = new Set<string>();
  readonly everPaused = new Set<string>();
  /** Sinks whose checkpoints are being moved, or that have not begun again since, and those that ever were. */
  readonly moving = new Set<string>();
  readonly everMoved = new Set<string>();
  /** It has ended in an orderly way. */
  hasEnded = false;
  dead = false;
  readonly #world: World;
  readonly #start: number;
  readonly #stop = new AbortController();
  readonly #listening = new Set<() => void>();
  readonly #buried: Promise<void>;
  #bury: () => void = () => {};
  #stepsLeft = Number.POSITIVE_INFINITY;
  #gaveUp = false;

  /** `start`: how many times the service was started before. */
  constructor(world: World, index: number, start: number) {
    this.#world = world;
    this.#start = start;
    this.index = index;
    this.name = `${String.fromCharCode(97 + index)}${start}`;
    this.connection = new Connection(world.timeline.now);
    this.#buried = new Promise((resolve) => {
      this.#bury = resolve;
    });
    this.clock = this.#makeClock(world.scenario.clockOffsetsMs[index]!);
  }

  /** What the setting says. Whoever starts again has another one. */
  namesFor({ names = [] }: SinkPlan): ChosenNames {
    return names[this.#start % names.length] ?? [];
  }

  isGiven(sink: string, { series, windowStart, windowMs }: Point): boolean {
    return this.gives.get(sink)?.(series.name, windowStart, windowMs) ?? true;
  }

  /** Guards every call to the outside. False: the process is dead, so the call does not get there. */
  enters(): boolean {
    if (this.dead) return false;
    this.#stepsLeft -= 1;
    if (this.#stepsLeft > 0) return true;
    this.#world.died(this);
    return false;
  }

  /** Dies at the call to the outside with this number, counted from now on. */
  dieAfter(steps: number): void {
    this.#stepsLeft = steps;
  }

  kill(): void {
    this.dead = true;
    this.connection.forget();
    for (const forget of [...this.#listening]) forget();
  }

  /**
   * After the run: ends what still waits inside a dead instance, as Node.js keeps signals alive that have listeners.
   */
  bury(): void {
    this.kill();
    this.#bury();
  }

  /** Calls `call` when the signal aborts, if the instance is alive then. Returns a function that cancels this. */
  onAbort(signal: AbortSignal, call: () => void): () => void {
    const forget = () => {
      signal.removeEventListener('abort', call);
      this.#listening.delete(forget);
    };
    signal.addEventListener('abort', call);
    this.#listening.add(forget);
    return forget;
  }

  /** Resolves after `ms` of virtual time, or never if the instance is dead by then. */
  pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.#world.timeline.after(ms, () => {
        if (!this.dead) resolve();
      });
    });
  }

  stop(now: number): void {
    this.stoppedAt = now;
    this.#stop.abort();
  }

  /** As src/service/session-engine.ts does: a pause outlives the engine. */
  pauseSink(id: string): void {
    this.paused.add(id);
    this.everPaused.add(id);
    this.engine?.pause(id);
  }

  resumeSink(id: string): void {
    if (this.dead || !this.paused.delete(id)) return;
    this.#world.trace.add('resume', `${this.name} ${id}`);
    this.engine?.resume(id);
  }

  /** As src/service/running-checkpoints.ts does. */
  async moveSink(id: string, move: Move): Promise<void> {
    const { engine } = this;
    const hasIt = engine?.lanes.some(({ lane }) => lane.id === id);
    if (!hasIt || !Number.isFinite(this.startedAt) || this.isStopping || this.moving.has(id)) return;
    this.moving.add(id);
    this.everMoved.add(id);
    this.#world.trace.add('move', `${this.name} ${id} ${move.way}`);
    try {
      await moveCheckpoint(this.#world, this, engine!, id, move);
      this.moving.delete(id);
      this.#world.trace.add('moved', `${this.name} ${id}`);
    } catch (error) {
      if (!(error instanceof BusError)) throw error;
      if (!engine!.lanes.some(({ lane, over }) => lane.id === id && over.aborted)) this.moving.delete(id);
      this.#world.trace.add('not-moved', `${this.name} ${id}: ${error.message}`);
    }
  }

  /** As src/service/session.ts does. Resolves when the instance has stopped, but never if it dies. */
  async run(): Promise<void> {
    const { scenario, slices } = this.#world;
    const slice = slices > 1 ? { index: this.index, of: slices } : { index: 0, of: 1 };
    const sinks = scenario.sinks.filter(({ fromStart }) => fromStart <= this.#start);
    // Starts again when windows of another shape were announced.
    do {
      this.engine = undefined;
      const attachment =
        scenario.mode === 'core'
          ? attachToCore(this.#world, this, sinks, this.name)
          : await this.#attach(() => attachToStream(this.#world, this, sinks, slice));
      await this.#operate(attachment, sinks, slice);
    } while (!this.isStopping && !this.#gaveUp);
  }

  async #operate(attachment: Attachment, sinks: readonly SinkPlan[], slice: Slice): Promise<void> {
    this.sources.splice(0, this.sources.length);
    this.moving.clear();
    this.trail = attachment.trail;
    if (attachment.rollback !== undefined) {
      const { after, through } = attachment.rollback;
      this.#world.trace.add('rolled-back', `${this.name} after ${after}, through ${through}`);
    }
    this.from = attachment.from;
    const engineSinks = sinks.map(
      ({ id, limits, timeoutMs, backlogBytes }): EngineSink => ({
        id,
        kind: 'simulated',
        sink: new SimSink(this.#world, this.#world.stores.get(id)!, this),
        limits,
        timeoutMs,
        backlogBytes,
      }),
    );
    const { stopTimeoutMs, pace } = this.#world.scenario;
    const hasSketches = sinks.some(({ windowMs }) => windowMs !== undefined);
    const settings = { ...FORMAT, slice, stopTimeoutMs, pace, hasSketches, verify: VERIFY };
    this.engine = new Engine(attachment, engineSinks, settings, this.clock, this.#events());
    for (const id of this.paused) this.engine.pause(id);
    this.startedAt = this.#world.timeline.now;
    // One near the live path follows it from where that begins, but gets nothing from before its own first window.
    const { first } = attachment;
    this.laneFrom = new Map(
      this.engine.lanes.map(({ lane }) => [lane.id, Math.max(lane.next, first?.get(lane.id) ?? lane.next)]),
    );
    // Between two engines, no lane is at the head of the stream.
    attachment.epochs?.changed.addEventListener('abort', () => {
      this.startedAt = Number.POSITIVE_INFINITY;
      this.#world.trace.add('reshaped', this.name);
    });
    this.#world.invariants.engineStarted(this);
    try {
      const end = await this.engine.run(this.#stop.signal);
      this.unswept = this.engine.unswept;
      if (end === 'rolled_back') this.hasRewritten = true;
    } catch (error) {
      if (!(error instanceof BusError)) throw error;
      this.#gaveUp = true;
      this.#world.trace.add('gave-up', `${this.name} ${error.message}`);
    }
  }

  /** A source that the invariants check, and that ends with its instance. */
  tracked(source: SimSource | SimCoreSource): Source {
    this.sources.push(source);
    return this.mortal(source);
  }

  /** A source that ends with its instance. */
  mortal(source: SimSource | SimCoreSource): Source {
    const { stats } = source;
    const run = async (...[reader, signal]: Parameters<Source['run']>) => {
      await source.run(reader, signal);
      // Between two engines, no lane is at the head of the stream.
      if (stats.rolledBack) this.startedAt = Number.POSITIVE_INFINITY;
    };
    return { stats, run: (reader, signal) => Promise.race([run(reader, signal), this.#buried]) };
  }

  get isStopping(): boolean {
    return this.stoppedAt !== undefined;
  }

  async #attach<T>(attach: () => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await attach();
      } catch (error) {
        if (!(error instanceof BusError)) throw error;
        await this.pause(backoffMs(attempt, this.clock.random()));
      }
    }
  }

  #events(): EngineEvents {
    const { trace, invariants } = this.#world;
    const log = (kind: string, what: string) => {
      if (!this.dead) trace.add(kind, `${this.name} ${what}`);
    };
    return {
      closed: () => {},
      wrote: () => {},
      pointsRejected: (sink, rejected) => {
        if (!this.dead)
          invariants.pointsRejected(
            sink,
            rejected.map(({ point }) => point),
          );
      },
      // The simulated stores name every point that they refuse.
      pointsLost: (sink) => this.#world.trace.fail('I5', `${sink}: nobody knows which points were refused`),
      sinkChanged: (sink, up) => log(up ? 'up' : 'down', sink),
      cumulative: () => {},
      rounded: () => {},
      messageRejected: () => {},
      leftUnread: (messages) => log('left-unread', `${messages}`),
      differs: (sink, difference, start) => {
        // Before an instance notices a rollback, it finds differences that it is about to repair.
        if (!this.dead && !invariants.isUnsettled(sink, start))
          trace.fail('verify', `${this.name} ${sink}: ${difference}`);
      },
      swept: (sink, { removed, left }, why) => {
        log(left > 0 ? 'left' : 'swept', `${sink} ${removed} removed, ${left} left: ${why}`);
        if (!this.dead && left > 0) invariants.rowsLeft(sink);
      },
      storeReplaced: (sink, from) => log('refill', `${sink} from ${this.#world.windowName(from)}`),
      storeUnnamed: (sink) => log('unnamed', sink),
      receiptsChanged: (sink, failure) => log('receipts', `${sink} ${failure ?? 'taken again'}`),
      catchUpStarted: (sink, from) => log('catch-up', `${sink} from ${this.#world.windowName(from)}`),
      replayFailed: (sink, error) => log('replay-failed', `${sink} ${String(error)}`),
      reopened: (starts) => {
        this.hasRewritten = true;
        log('reopened', starts.map((start) => this.#world.windowName(start)).join(' '));
      },
      catchingUp: () => {},
      caughtUp: (sink) => log('caught-up', sink),
    };
  }

  #makeClock(offsetMs: number): Clock {
    const { timeline, chance } = this.#world;
    return {
      now: () => timeline.now + offsetMs,
      steady: () => timeline.now,
      random: () => chance.next(),
      nextTurn: () => this.pause(0),
      sleep: (ms, signal) =>
        new Promise((resolve) => {
          if (this.dead) return;
          if (signal.aborted) return resolve();
          const wake = () => {
            forget();
            if (!this.dead) resolve();
          };
          const forget = this.onAbort(signal, wake);
          timeline.after(Math.max(0, Math.ceil(ms)), wake);
        }),
    };
  }
}

/** A larger share than in production: what is not verified cannot be found. */
const VERIFY = { share: 0.5, replayShare: 0.2, delayMs: 3000 };
