/** Everything that a run consists of, and the faults that happen in it. */
import { Chance } from './chance.ts';
import { SimCheckpoints } from './checkpoints.ts';
import type { SimCoreSource } from './core-source.ts';
import { Instance } from './instance.ts';
import { Invariants } from './invariants.ts';
import { drawScenario, type Fault, type Scenario, START } from './scenario.ts';
import { SimStore } from './store.ts';
import { SimStream, serverTime } from './stream.ts';
import { Timeline } from './timeline.ts';
import { Trace } from './trace.ts';
import { Truth } from './truth.ts';

const RESTART_MS = 1000;
/** How long a stop may take beyond its own timeout: to close the sinks, and for the last two checkpoint calls. */
const STOP_MARGIN_MS = 26_000;

export interface Options {
  /** A deliberate bug, to see that it is detected: instances that do not know MAX_SERIES_BYTES. */
  readonly forgetsBytes?: boolean;
  /** Instances that do not know the rules on names and dimensions: in all epochs, or in those after the first. */
  readonly forgetsRules?: 'all' | 'later';
  /** Another bug: a service that keeps no trail, and goes on by sequence after a rollback. */
  readonly forgetsTrail?: boolean;
  /** A third: a service that does not know which store its checkpoints are about. */
  readonly forgetsStore?: boolean;
  /** A fourth: a service that keeps no receipts in its stores. */
  readonly forgetsReceipts?: boolean;
  /**
   * A fifth: a service that takes what it is to choose now for what it has always chosen, or that does not tell in its
   * checkpoints what it chooses.
   */
  readonly forgetsNames?: 'before' | 'stored';
  /** A sixth: a service that no longer knows, after a restart, that sinks have windows of their own. */
  readonly forgetsOwnWindows?: boolean;
  /** See `Forced`. Windows are reopened or recomputed, where much may go wrong. */
  readonly setsBack?: boolean;
  readonly rollsBack?: boolean;
  readonly emptiesStore?: boolean;
  readonly restoresStore?: boolean;
  readonly choosesNames?: boolean;
  readonly movesCheckpoints?: boolean;
  /** A sixth: a service that changes a checkpoint before it has taken the sink down. */
  readonly movesTooEarly?: boolean;
  readonly ownWindows?: boolean;
  readonly print?: (line: string) => void;
}

export class World {
  readonly options: Options;
  readonly chance: Chance;
  readonly scenario: Scenario;
  readonly timeline = new Timeline(START - 1000);
  readonly trace: Trace;
  readonly stream: SimStream;
  readonly stores: ReadonlyMap<string, SimStore>;
  readonly checkpoints: SimCheckpoints;
  readonly invariants: Invariants;
  slices: number;
  /** The sources that listen in core mode. */
  readonly coreReaders = new Set<SimCoreSource>();
  /** All instances that ever ran, in the order of their start. */
  readonly everyInstance: Instance[] = [];
  /** By index: the running instance, and the number of starts. */
  readonly #running: (Instance | undefined)[];
  readonly #starts: number[];

  constructor(seed: number, options: Options = {}) {
    this.options = options;
    this.chance = new Chance(seed);
    this.scenario = drawScenario(this.chance, options);
    this.trace = new Trace(() => this.timeline.now - START, options.print);
    this.stream = new SimStream(this.chance, this.scenario);
    this.checkpoints = new SimCheckpoints(this);
    this.stores = new Map(this.scenario.sinks.map((plan) => [plan.id, new SimStore(this, plan)]));
    this.invariants = new Invariants(this, new Truth(this.stream.messages, this.scenario));
    const { instances, slices, faults, calmAt, setBack, rollback, reslice } = this.scenario;
    this.slices = slices;
    this.#running = Array.from({ length: instances }, () => undefined);
    this.#starts = Array.from({ length: instances }, () => 0);
    for (let index = 0; index < instances; index++) {
      const later = index === 0 ? 0 : this.chance.int(0, 8000);
      this.timeline.at(START + later, () => this.#start(index));
    }
    for (const fault of faults) this.timeline.at(fault.at, () => this.#meet(fault));
    // Sinks that are configured from the second start on need one.
    this.timeline.at(calmAt - 1, () => this.#restartOnce());
    this.timeline.at(calmAt, () => {
      this.checkpoints.mode = 'healthy';
    });
    if (reslice !== undefined) this.timeline.at(reslice.at, () => this.#reslice(reslice.slices));
    if (setBack !== undefined)
      this.timeline.at(setBack.at, () => this.trace.add('set-back', `${setBack.ms} ms`));
    if (rollback !== undefined) this.timeline.at(rollback.at, () => this.#rollBack(rollback.consumersLive));
    this.timeline.onError = (error) => this.trace.fail('engine', String((error as Error).stack));
    if (this.scenario.mode === 'core') this.#sendNext(0);
  }

  /** Whether windows that stores already have are recomputed: a late write may be older than what is there. */
  get isRewritten(): boolean {
    return this.scenario.setBack !== undefined || this.scenario.rollback !== undefined;
  }

  /** Whether a store loses what it had. */
  get emptiesStore(): boolean {
    return this.scenario.sinks.some(({ emptiedAt, restored }) => (emptiedAt ?? restored) !== undefined);
  }

  get running(): readonly Instance[] {
    return this.#running.filter((instance) => instance !== undefined);
  }

  /** How many instances should run. */
  get instances(): number {
    return this.#running.length;
  }

  serverNow(): number {
    return serverTime(this.timeline.now, this.scenario);
  }

  /** Whether the stream holds another message in this place, or none yet. */
  isOther({ sequence, time }: { readonly sequence: number; readonly time: number }): boolean {
    if (sequence > this.stream.lastSequence(this.timeline.now)) return true;
    return this.stream.at(sequence).streamTime !== time;
  }

  /** A short name for people: the number of the window, counted from the first start. */
  windowName(start: number): string {
    return `w${Math.floor((start - START) / this.scenario.windowMs)}`;
  }

  /** Ends an instance as kill -9 does. */
  died(instance: Instance, downMs = this.chance.int(0, 3000)): void {
    if (instance.dead) return;
    this.trace.add('kill', instance.name);
    instance.kill();
    this.#restart(instance, downMs);
  }

  /** Ends an instance for good, as SIGTERM does. */
  stopForGood(instance: Instance): void {
    this.#starts[instance.index] = Number.POSITIVE_INFINITY;
    this.#stop(instance, 0);
  }

  #start(index: number): void {
    // An instance of an old slicing.
    if (index >= this.instances) return;
    const start = this.#starts[index]!++;
    if (!Number.isFinite(start)) return;
    const instance = new Instance(this, index, start);
    this.#running[index] = instance;
    this.everyInstance.push(instance);
    this.trace.add('start', instance.name);
    instance.run().then(
      () => this.#ended(instance),
      (error: unknown) => this.trace.fail('engine', `${instance.name}: ${(error as Error).stack}`),
    );
  }

  #ended(instance: Instance): void {
    this.trace.add('ended', instance.name);
    this.invariants.ended(instance);
    instance.kill();
    this.#restart(instance, RESTART_MS);
  }

  /** Instances with the new slicing start at once: what the old ones have sent may still arrive. */
  #reslice(slices: number): void {
    this.trace.add('reslice', `${this.slices} to ${slices}`);
    for (const instance of this.running) this.died(instance);
    this.slices = slices;
    const before = this.instances;
    this.#running.length = slices;
    for (let index = before; index < slices; index++) {
      this.#running[index] = undefined;
      // This is not the first start of the service: all its sinks are configured.
      this.#starts[index] = Math.max(1, this.#starts[index] ?? 0);
      this.#start(index);
    }
  }

  #rollBack(consumersLive: boolean): void {
    const { after, through } = this.stream.rollBack(this.timeline.now);
    this.trace.add('roll-back', `after ${after}, through ${through}`);
    for (const { connection } of this.running) {
      if (!consumersLive || this.chance.bool(0.3)) connection.loseConsumers(this.timeline.now);
    }
  }

  #restart(instance: Instance, ms: number): void {
    if (this.#running[instance.index] !== instance) return;
    this.#running[instance.index] = undefined;
    this.timeline.after(ms, () => this.#start(instance.index));
  }

  #stop(instance: Instance, downMs: number): void {
    if (instance.engine === undefined) {
      this.died(instance, downMs);
      return;
    }
    this.trace.add('stop', instance.name);
    instance.stop(this.timeline.now);
    this.timeline.after(this.scenario.stopTimeoutMs + STOP_MARGIN_MS, () => {
      if (!instance.dead) this.trace.fail('stop', `${instance.name} does not end`);
    });
  }

  #restartOnce(): void {
    for (const [index, instance] of this.#running.entries()) {
      instance?.dieAfter(Number.POSITIVE_INFINITY);
      if (instance !== undefined && this.#starts[index] === 1) this.died(instance, 0);
    }
  }

  #meet(fault: Fault): void {
    if (fault.kind === 'checkpoints') {
      this.trace.add('checkpoints', fault.mode);
      this.checkpoints.mode = fault.mode;
      return;
    }
    const instance = this.#running[fault.instance];
    if (instance === undefined) return;
    const { now } = this.timeline;
    switch (fault.kind) {
      case 'kill':
        this.died(instance, fault.downMs);
        break;
      case 'kill-at-step':
        instance.dieAfter(fault.steps);
        break;
      case 'stop':
        if (!instance.isStopping) this.#stop(instance, fault.downMs);
        break;
      case 'pause':
        this.trace.add('pause', `${instance.name} ${fault.sink}`);
        instance.pauseSink(fault.sink);
        this.timeline.after(fault.ms, () => instance.resumeSink(fault.sink));
        break;
      case 'move':
        void instance.moveSink(fault.sink, fault);
        break;
      case 'disconnect':
        this.trace.add('disconnect', instance.name);
        instance.connection.disconnect(now);
        this.timeline.after(fault.ms, () => instance.connection.reconnect(this.timeline.now));
        break;
      case 'lose-consumers':
        this.trace.add('lose-consumers', instance.name);
        instance.connection.loseConsumers(now);
        break;
      default:
        fault satisfies never;
    }
  }

  /** Core mode: the server sends each message once, to one of the listening sources. */
  #sendNext(index: number): void {
    const message = this.stream.messages[index];
    if (message === undefined) return;
    this.timeline.at(message.publishedAt, () => {
      const readers = [...this.coreReaders].filter(({ listens }) => listens);
      if (readers.length > 0) this.chance.pick(readers).send(message);
      this.#sendNext(index + 1);
    });
  }
}
