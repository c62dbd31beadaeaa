/** A store: a table with keys that overwrites rows, outlives the service, and behaves as its phases say. */
import type { Point } from '../../src/aggregate/point.ts';
import { BACKOFF_CAP_MS } from '../../src/base/clock.ts';
import { digestOfRows, digestOfWindow } from '../../src/deliver/lane/digest.ts';
import { heldWindows, straysOf } from '../../src/deliver/lane/stray-rows.ts';
import type { SinkDigests, StraySink } from '../../src/deliver/lane/writer.ts';
import type {
  Batch,
  ReceiptBefore,
  Rejection,
  RetryReason,
  Sink,
  StoredPoint,
  WindowRange,
  WriteOutcome,
} from '../../src/sink/contract.ts';
import { isAsKnown, SinkError } from '../../src/sink/contract.ts';
import { sliceOf } from './end.ts';
import type { Instance } from './instance.ts';
import { FATES, type Fate, type Profile } from './profiles.ts';
import type { SinkPlan } from './scenario.ts';
import { keyOf } from './truth.ts';
import type { World } from './world.ts';

const FAST_MS = 20;
const READ_MS = 10;
const CRAWL_MS = 2000;
const RETRY_MS = 500;
/** How long a write that nobody waits for any more may still be applied. */
const LATEST_MS = 20_000;
const ERRORS: readonly RetryReason[] = ['connection', 'server_error', 'conflict', 'unknown'];

export class SimStore {
  readonly plan: SinkPlan;
  readonly rows = new Map<string, Point>();
  /** Keys of points that the lane recorded as refused. */
  readonly rejected = new Set<string>();
  profile: Profile = 'healthy';
  /** How often it was emptied. It has no schema until somebody opens it again. */
  generation = 0;
  /** By writer: see `Sink.receipt`. */
  readonly receipts = new Map<string, number>();
  /** Whether it has got older content. */
  wasRestored = false;
  /** By instance: the last receipt that it gave. */
  readonly #givenBy = new Map<Instance, number>();
  /** Virtual time since which it has been healthy. */
  healthySince = 0;
  readonly #world: World;

  constructor(world: World, plan: SinkPlan) {
    this.#world = world;
    this.plan = plan;
    for (const { at, profile } of plan.phases) {
      world.timeline.at(at, () => this.#enter(profile));
    }
    if (plan.emptiedAt !== undefined) world.timeline.at(plan.emptiedAt, () => this.#empty());
    if (plan.restored !== undefined) this.#restoreLater(plan.restored);
  }

  get identity(): string {
    return `${this.plan.id} ${this.generation}`;
  }

  #empty(): void {
    this.#world.trace.add('emptied', this.plan.id);
    this.generation += 1;
    this.rows.clear();
    this.receipts.clear();
    this.rejected.clear();
  }

  #restoreLater({ from, at }: { readonly from: number; readonly at: number }): void {
    const { timeline } = this.#world;
    timeline.at(from, () => {
      const [rows, receipts] = [new Map(this.rows), new Map(this.receipts)];
      const attempt = () => {
        if (this.#isOlder(receipts)) this.#restore(rows, receipts);
        else if (timeline.now < this.#world.scenario.healedAt) timeline.after(RETRY_MS, attempt);
      };
      timeline.at(Math.max(at, from + 1), attempt);
    });
  }

  /**
   * Whether everybody who has confirmed windows since then has given a receipt for them. A backup that is younger than
   * the last receipt is not told.
   */
  #isOlder(receipts: ReadonlyMap<string, number>): boolean {
    const { checkpoints, running, slices, options } = this.#world;
    if (options.forgetsReceipts) return true;
    const { id } = this.plan;
    const backed = Math.max(Number.NEGATIVE_INFINITY, ...receipts.values());
    const claimed = Array.from({ length: slices }, (_, index) => {
      const { receipts = {} } = checkpoints.get(id, sliceOf({ slices }, index)) ?? {};
      return Math.max(Number.NEGATIVE_INFINITY, ...Object.values(receipts));
    });
    const given = running.map((instance) => this.#givenBy.get(instance) ?? Number.NEGATIVE_INFINITY);
    return [...claimed, ...given].every((receipt) => receipt > backed);
  }

  #restore(rows: ReadonlyMap<string, Point>, receipts: ReadonlyMap<string, number>): void {
    this.#world.trace.add('restored', `${this.plan.id} ${this.rows.size - rows.size} rows fewer`);
    this.wasRestored = true;
    this.rows.clear();
    for (const [key, row] of rows) this.rows.set(key, row);
    this.receipts.clear();
    for (const [writer, time] of receipts) this.receipts.set(writer, time);
  }

  giveReceipt(writer: string, time: number, known: number | undefined): ReceiptBefore {
    const before = this.receipts.get(writer);
    if (isAsKnown(before, known)) this.receipts.set(writer, Math.max(time, before ?? time));
    return { before };
  }

  /** The instance knows that it has given a receipt. */
  hasGiven(by: Instance, time: number): void {
    this.#givenBy.set(by, time);
  }

  draw(): Fate {
    return this.#world.chance.weighted(FATES[this.profile]);
  }

  /** Refused for good. These are always the same points, or the sinks could not be compared. */
  isPoison({ series }: Point): boolean {
    return Number.parseInt(series.id.slice(0, 4), 16) % 100 < this.plan.poison;
  }

  /** Applies the points after `ms`. If the instance dies before that, they may never have left it. */
  land(points: readonly Point[], ms: number, instance: Instance): void {
    this.#world.timeline.after(ms, () => {
      // A late write may be the old version of a recomputed window, which no store can know: not in such runs.
      const isLost = this.#world.isRewritten || this.#world.chance.bool(0.5);
      if (instance.dead && isLost) return;
      if (instance.dead) this.#world.trace.add('landed-late', `${this.plan.id} ${points.length}`);
      for (const point of points) {
        this.#world.invariants.rowStored(this, point, instance);
        this.rows.set(keyOf(point), point);
      }
    });
  }

  #enter(profile: Profile): void {
    this.#world.trace.add('phase', `${this.plan.id} ${profile}`);
    if (profile === 'healthy' && this.profile !== 'healthy') this.healthySince = this.#world.timeline.now;
    this.profile = profile;
  }
}

/** One instance's client of a store. */
export class SimSink implements Sink {
  readonly #world: World;
  readonly #store: SimStore;
  readonly #instance: Instance;
  /** The generation that was opened. */
  #opened = -1;

  constructor(world: World, store: SimStore, instance: Instance) {
    this.#world = world;
    this.#store = store;
    this.#instance = instance;
  }

  async open(signal: AbortSignal): Promise<void> {
    if (!this.#instance.enters()) return await never();
    this.#mustNotBePaused('opened');
    const { chance } = this.#world;
    switch (this.#store.profile) {
      case 'down':
        await this.#instance.pause(chance.int(1, FAST_MS));
        throw new SinkError('connection', 'no connection');
      case 'refusing':
        await this.#instance.pause(chance.int(1, FAST_MS));
        throw new SinkError('unauthorized', 'who are you', 'Set the token.');
      case 'hanging':
      case 'deaf':
        if (this.#store.profile === 'deaf') return await never();
        await this.#aborted(signal);
        throw new Error('aborted');
      default:
        await this.#instance.pause(chance.int(1, this.#store.profile === 'slow' ? CRAWL_MS : FAST_MS));
        this.#opened = this.#store.generation;
    }
  }

  async identity(): Promise<string | undefined> {
    if (this.#world.options.forgetsStore) return undefined;
    if (!this.#instance.enters()) return await never();
    await this.#instance.pause(this.#world.chance.int(1, FAST_MS));
    if (this.#store.profile === 'down') throw new SinkError('connection', 'no connection');
    if (!this.#isOpen) throw new SinkError('not_found', 'no schema');
    return this.#store.identity;
  }

  async receipt(writer: string): Promise<number | undefined> {
    await this.#mustAnswer();
    return this.#store.receipts.get(writer);
  }

  async giveReceipt(
    writer: string,
    time: number,
    known: number | undefined,
  ): Promise<ReceiptBefore | undefined> {
    if (this.#world.options.forgetsReceipts) return undefined;
    this.#mustNotBePaused('given a receipt');
    await this.#mustAnswer();
    const given = this.#store.giveReceipt(writer, time, known);
    this.#world.trace.add('receipt', `${this.#instance.name} ${writer} ${this.#world.windowName(time)}`);
    await this.#mustAnswer();
    if (isAsKnown(given.before, known)) this.#store.hasGiven(this.#instance, time);
    return given;
  }

  /** Now and then, the answer is lost. */
  async #mustAnswer(): Promise<void> {
    if (!this.#instance.enters()) return await never();
    if (this.#store.profile === 'deaf' || this.#store.profile === 'hanging') return await never();
    await this.#instance.pause(this.#world.chance.int(1, FAST_MS));
    const fails =
      this.#store.profile === 'down' || (this.#store.profile !== 'healthy' && this.#world.chance.bool(0.2));
    if (fails) throw new SinkError('connection', 'no connection');
    if (!this.#isOpen) throw new SinkError('not_found', 'no schema');
  }

  get #isOpen(): boolean {
    return this.#opened === this.#store.generation;
  }

  async write({ points }: Batch, signal: AbortSignal): Promise<WriteOutcome> {
    if (!this.#instance.enters()) return await never();
    this.#mustNotBePaused('written to');
    const fate = this.#isOpen ? this.#store.draw() : 'refuse';
    const { id, limits } = this.#store.plan;
    this.#world.trace.add(
      fate,
      `${this.#instance.name} ${id} ${this.#world.windowName(points[0]!.windowStart)} ${points.length}`,
    );
    this.#world.invariants.batchWritten(id, points, limits, this.#instance);
    return await this.#meet(fate, points, signal);
  }

  /** In core mode, a stop writes what would be lost otherwise. */
  #mustNotBePaused(what: string): void {
    const { name, paused, isStopping } = this.#instance;
    const { id } = this.#store.plan;
    if (paused.has(id) && !isStopping)
      this.#world.trace.fail('pause', `${name} ${id} is paused, but ${what}`);
  }

  async *read({ from, to }: WindowRange): AsyncGenerator<StoredPoint> {
    const { rows } = this.#store;
    yield* [...rows.values()].filter(({ windowStart }) => windowStart >= from && windowStart < to);
  }

  /** Reading takes some time, and fails unless the store is healthy. */
  readonly digests: SinkDigests = {
    needsKeys: false,
    ofWindow: (window, names) => digestOfWindow(window, names),
    ofStore: async ({ start, windowMs, instance }, _keys, _signal, names) => {
      if (!this.#instance.enters()) return await never();
      await this.#instance.pause(READ_MS);
      if (this.#store.profile !== 'healthy' || !this.#isOpen) throw new Error('no answer');
      return await digestOfRows(this.read({ from: start, to: start + windowMs }), instance, names);
    },
  };

  /** Fails when reading fails. */
  readonly strays: StraySink = {
    windows: async (range) => {
      await this.#asked();
      return await heldWindows(this.read(range));
    },
    count: async ({ start, windowMs, instance }, keys, remove, _signal, names) => {
      await this.#asked();
      const strays = await straysOf(this.read({ from: start, to: start + windowMs }), keys, {
        windowMs,
        instance,
        names,
      });
      if (remove && strays.length > 0) await this.remove({ points: strays });
      return strays.length;
    },
  };

  async remove({ points }: Batch): Promise<void> {
    await this.#asked();
    const { id } = this.#store.plan;
    this.#world.trace.add(
      'remove',
      `${this.#instance.name} ${id} ${this.#world.windowName(points[0]!.windowStart)} ${points.length}`,
    );
    for (const point of points) {
      this.#world.invariants.rowRemoved(this.#store, point, this.#instance);
      this.#store.rows.delete(keyOf(point));
    }
  }

  async #asked(): Promise<void> {
    if (!this.#instance.enters()) return await never();
    await this.#instance.pause(READ_MS);
    if (this.#store.profile !== 'healthy' || !this.#isOpen) throw new Error('no answer');
  }

  async close(): Promise<void> {
    if (!this.#instance.enters()) return await never();
    if (this.#store.profile === 'hanging' || this.#store.profile === 'deaf') return await never();
    await this.#instance.pause(this.#world.chance.int(1, FAST_MS));
  }

  async #meet(fate: Fate, points: readonly Point[], signal: AbortSignal): Promise<WriteOutcome> {
    const { chance } = this.#world;
    const { timeoutMs } = this.#store.plan;
    switch (fate) {
      case 'take':
        return await this.#take(points, chance.int(1, FAST_MS));
      case 'crawl':
        return await this.#take(points, chance.int(100, CRAWL_MS));
      case 'late':
        return await this.#take(points, timeoutMs + chance.int(0, 2 * timeoutMs));
      case 'partial':
        return await this.#takePart(points);
      case 'fail-before':
        return await this.#fail();
      case 'fail-after':
        this.#land(points, 0);
        return await this.#fail();
      case 'fail-part':
        this.#landLater(chance.some(points, 0.5), chance.int(0, LATEST_MS / 4));
        return await this.#fail();
      case 'hang':
        if (chance.bool(0.3)) this.#landLater(points, chance.int(0, LATEST_MS));
        await this.#aborted(signal);
        throw new Error('aborted');
      case 'deaf':
        if (chance.bool(0.5)) this.#landLater(chance.some(points, 0.8), chance.int(0, LATEST_MS));
        return await never();
      case 'throttle':
        await this.#instance.pause(chance.int(1, FAST_MS));
        return { kind: 'retry', reason: 'throttled', message: 'slow down', afterMs: chance.int(0, 3000) };
      case 'refuse':
        this.#opened = -1;
        await this.#instance.pause(chance.int(1, FAST_MS));
        return { kind: 'refused', reason: 'unauthorized', message: 'who are you' };
      default:
        return fate satisfies never;
    }
  }

  /** Applies the points that are not refused for good within `ms`, and answers after `ms`. */
  async #take(points: readonly Point[], ms: number): Promise<WriteOutcome> {
    const latest = this.#world.isRewritten ? Math.min(ms, this.#store.plan.timeoutMs - 1) : ms;
    this.#land(points, this.#world.chance.int(0, latest));
    await this.#instance.pause(ms);
    const rejected = this.#rejections(points);
    return rejected.length === 0 ? { kind: 'written' } : { kind: 'partial', retry: [], rejected };
  }

  async #takePart(points: readonly Point[]): Promise<WriteOutcome> {
    const { chance } = this.#world;
    const refused = new Set(this.#rejections(points).map(({ index }) => index));
    const retry = chance.some([...points.keys()], chance.pick([0.2, 0.6, 0.9]));
    const later = retry.filter((index) => !refused.has(index));
    this.#land(
      points.filter((_, index) => !later.includes(index)),
      0,
    );
    await this.#instance.pause(chance.int(1, FAST_MS));
    return { kind: 'partial', retry: later, rejected: this.#rejections(points) };
  }

  async #fail(): Promise<WriteOutcome> {
    const { chance } = this.#world;
    await this.#instance.pause(chance.int(1, 200));
    const reason = chance.pick(ERRORS);
    if (chance.bool(0.3)) throw new Error('broken pipe');
    if (chance.bool(0.3)) throw new SinkError(reason, 'no');
    return { kind: 'retry', reason, message: 'no' };
  }

  /** Applies points that may arrive after the answer. Not in runs that rewrite windows. */
  #landLater(points: readonly Point[], ms: number): void {
    if (!this.#world.isRewritten) this.#land(points, ms);
  }

  #land(points: readonly Point[], ms: number): void {
    const stored = points.filter((point) => !this.#store.isPoison(point));
    if (stored.length > 0) this.#store.land(stored, Math.min(ms, BACKOFF_CAP_MS), this.#instance);
  }

  async #aborted(signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    await new Promise<void>((resolve) => this.#instance.onAbort(signal, resolve));
  }

  #rejections(points: readonly Point[]): Rejection[] {
    const indices = [...points.keys()].filter((index) => this.#store.isPoison(points[index]!));
    return indices.map((index) => ({ index, reason: 'refused', message: 'not this one' }));
  }
}

function never(): Promise<never> {
  return new Promise(() => {});
}
