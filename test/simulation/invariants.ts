/** The invariants that must hold at every step of a run in stream mode, by their names in the design. */
import type { Point } from '../../src/aggregate/point.ts';
import type { Checkpoint } from '../../src/bus/kv/checkpoints.ts';
import type { Engine } from '../../src/deliver/engine.ts';
import { isAsKnown, type SinkLimits } from '../../src/sink/contract.ts';
import { pointBytes } from '../../src/sink/rows.ts';
import { ownWindowAt, shapeAt } from '../aggregate/oracle.ts';
import { givenBy } from './chosen.ts';
import { sliceOf } from './end.ts';
import type { Instance } from './instance.ts';
import { checkAccounts, checkBeginnings, checkLags, checkLastCheckpoints } from './steady.ts';
import type { SimStore } from './store.ts';
import { difference, keyOf, nameOf, Truth } from './truth.ts';
import type { World } from './world.ts';

export class Invariants {
  readonly truth: Truth;
  /** Like `Truth.largestWindowBytes`, but for the stream before it was rolled back. */
  readonly largestTakenBack: number;
  readonly #world: World;
  /** By length: the truth for sinks with windows of their own. */
  readonly #ownTruths = new Map<number, Truth>();
  /** By sink and slice: start of the first window that is owed. */
  readonly #owedFrom = new Map<string, number>();
  /** Windows with a message that retention removed before some reader saw it: nothing is guaranteed for these. */
  readonly #holed = new Set<number>();
  /** Windows that may have closed too early because the server's clock was set back: they are right only at the end. */
  readonly #unsettled = new Set<number>();
  /** A known limitation: an instance that ends may have overwritten another's rewrite of a window with an older one. */
  readonly #staleBy = new Map<number, Instance>();
  /** By sink: windows that an operator had it skip. */
  readonly #skipped = new Map<string, Set<number>>();
  /** Sinks with rows that are not in the stream. These are reported and counted. */
  readonly #leftIn = new Set<string>();
  /** The boundary of the live path at the last check. */
  readonly #boundaries = new WeakMap<Engine, number>();

  constructor(world: World, truth: Truth) {
    this.#world = world;
    this.truth = truth;
    this.largestTakenBack = new Truth(world.stream.before, world.scenario).largestWindowBytes;
    const { taken, put } = world.stream.parted;
    for (const { windows } of [...taken, ...put]) for (const start of windows) this.#unsettled.add(start);
    const { setBack } = world.scenario;
    if (setBack === undefined) return;
    for (const { publishedAt, windows } of world.stream.messages) {
      if (publishedAt >= setBack.at) for (const start of windows) this.#unsettled.add(start);
    }
  }

  /** What the sink must hold. */
  truthOf(sink: string): Truth {
    const ownMs = this.#ownMsOf(sink);
    if (ownMs === undefined) return this.truth;
    const { stream, scenario } = this.#world;
    const truth = this.#ownTruths.get(ownMs) ?? new Truth(stream.messages, scenario, ownMs);
    this.#ownTruths.set(ownMs, truth);
    return truth;
  }

  #ownMsOf(sink: string): number | undefined {
    return this.#world.stores.get(sink)!.plan.windowMs;
  }

  /** Whether a window of the pipeline that the sink's window is made of is among these. */
  #isPartIn(starts: ReadonlySet<number>, sink: string, start: number): boolean {
    const ownMs = this.#ownMsOf(sink);
    if (ownMs === undefined || starts.has(start)) return starts.has(start);
    return [...starts].some(
      (part) =>
        part >= start && part < start + ownMs && ownWindowAt(part, this.#world.scenario, ownMs) === start,
    );
  }

  /** Whether the store may hold something else until the end. */
  isUnsettled(sink: string, start: number): boolean {
    return this.#isPartIn(this.#unsettled, sink, start);
  }

  owedFrom(sink: string, slice: string): number {
    return this.#owedFrom.get(`${sink} ${slice}`) ?? Number.POSITIVE_INFINITY;
  }

  /** Whether nothing is guaranteed for a window. */
  isHoled(sink: string, start: number): boolean {
    const writer = this.#staleBy.get(start);
    return this.#isPartIn(this.#holed, sink, start) || writer?.dead === true || writer?.isStopping === true;
  }

  get holes(): number {
    return this.#holed.size;
  }

  /** A sink without a checkpoint of its own is owed everything from here on. If two start at once: from the later. */
  begins(sink: string, slice: string, from: number, firstSequence: number): void {
    for (let sequence = 1; sequence < firstSequence; sequence++) {
      const start = this.#world.stream.at(sequence).windows.find((window) => window >= from);
      if (start !== undefined)
        this.#world.trace.fail(
          'I3',
          `${sink} begins with ${this.#world.windowName(start)}, which is incomplete`,
        );
    }
    this.#owesAgain(sink, slice, from);
    const before = this.#owedFrom.get(`${sink} ${slice}`);
    const both = this.#world.instances > this.#world.slices && before !== undefined;
    this.#owedFrom.set(`${sink} ${slice}`, both ? Math.max(before, from) : from);
  }

  /** Replaces old slices that each had a checkpoint: the new slice is owed what all of them were owed. */
  inherits(sink: string, slice: string, old: readonly string[]): void {
    const from = Math.max(...old.map((each) => this.owedFrom(sink, each)));
    this.#owedFrom.set(`${sink} ${slice}`, from);
  }

  /**
   * An operator changed the checkpoint of a slice. `loses`: what is to be written again is gone from the store.
   * `to` is undefined if it was removed: then its START decides.
   */
  moved(sink: string, slice: string, from: number, to: number | undefined, loses: boolean): void {
    const first = to ?? Number.NEGATIVE_INFINITY;
    const skipped = this.#skipped.get(sink) ?? new Set();
    this.#skipped.set(sink, skipped);
    // After a reset, those from where it begins again on are owed once more: see `begins`.
    const end = to ?? Number.POSITIVE_INFINITY;
    for (const [start] of this.truthOf(sink).between(from, end, slice)) skipped.add(start);
    if (to !== undefined) this.#owesAgain(sink, slice, to);
    // It may be set back to before its beginning.
    const owed = this.#owedFrom.get(`${sink} ${slice}`);
    if (to !== undefined && owed !== undefined) this.#owedFrom.set(`${sink} ${slice}`, Math.min(owed, to));
    if (!loses) return;
    const { rows } = this.#world.stores.get(sink)!;
    for (const [, points] of this.truthOf(sink).between(first, Number.POSITIVE_INFINITY, slice))
      for (const point of points) rows.delete(keyOf(point));
  }

  /** A skipped window may have been written before late messages came that nobody wrote. */
  mayBeStale(sink: string, start: number): boolean {
    return this.#skipped.get(sink)?.has(start) === true && this.isUnsettled(sink, start);
  }

  #owesAgain(sink: string, slice: string, from: number): void {
    for (const [start] of this.truthOf(sink).between(from, Number.POSITIVE_INFINITY, slice))
      this.#skipped.get(sink)?.delete(start);
  }

  engineStarted(instance: Instance): void {
    for (const { lane } of instance.engine!.lanes) {
      this.#world.trace.add('lane', `${instance.name} ${lane.id} from ${this.#world.windowName(lane.next)}`);
    }
  }

  ended(instance: Instance): void {
    instance.hasEnded = true;
    checkAccounts(this.#world, instance);
    checkLastCheckpoints(this.#world, instance);
  }

  /** Some reader will never get the messages [from, to). */
  lost(from: number, to: number): void {
    for (let sequence = from; sequence < to; sequence++) {
      for (const start of this.#world.stream.at(sequence).windows) this.#holed.add(start);
    }
  }

  /** I8: a gap is counted, and recorded with the windows that it touches. */
  gapTold({ engine, name }: Instance, from: number, to: number): void {
    const { messages, ...touched } = engine!.gaps.latest.at(-1) ?? { messages: 0, from: 0, to: 0 };
    for (let sequence = from; sequence < to; sequence++) {
      const start = this.#world.stream.at(sequence).windows.find((w) => w < touched.from || w >= touched.to);
      if (messages !== to - from || start !== undefined)
        this.#world.trace.fail('I8', `${name}: the gap ${from} to ${to} is reported with the wrong windows`);
    }
  }

  batchWritten(sink: string, points: readonly Point[], limits: SinkLimits, instance: Instance): void {
    const { scenario, trace } = this.#world;
    if (new Set(points.map(keyOf)).size < points.length) trace.fail('I4', `${sink}: a key twice in a batch`);
    const bytes = points.reduce((sum, point) => sum + pointBytes(point), 0);
    if (points.length > limits.maxPoints || (bytes > limits.maxBytes && points.length > 1))
      trace.fail('limits', `${sink}: a batch of ${points.length} points, ${bytes} bytes`);
    const other = points.find((point) => !instance.isGiven(sink, point));
    if (other !== undefined) trace.fail('names', `${sink} gets ${nameOf(other)}, which it is not to get`);
    if (points.some((point) => !Number.isFinite(point.sum))) trace.fail('limits', `${sink}: an infinite sum`);
    if (scenario.mode === 'core') {
      if (points.some((point) => point.instance !== instance.name))
        trace.fail('I4', `${instance.name} writes another one's part`);
      return;
    }
    const slice = sliceOf(this.#world, instance.index);
    // A lane close to the live path follows it from its start: some windows earlier than the lane's own. After a
    // change of slices, it begins at the oldest position of the old slices. One that was set back to before its
    // beginning gets news of windows that were another slice's to give, as far as it knows.
    const { slices, options } = this.#world;
    const isNew = slices !== scenario.slices || options.movesCheckpoints === true;
    const earliest = Math.min(
      ...(isNew ? this.#owedFrom.values() : scenario.sinks.map(({ id }) => this.owedFrom(id, slice))),
    );
    for (const { windowStart, windowMs } of points) {
      const end = windowStart + windowMs;
      const completeAt = end + shapeAt(end - 1, scenario).latenessMs;
      if (scenario.setBack === undefined && completeAt > this.#world.serverNow())
        trace.fail('I2', `${sink} gets ${this.#world.windowName(windowStart)} before it can be complete`);
      // If the clock was set back, an earlier window may get more samples. It is rewritten as it is in the truth.
      if (scenario.setBack === undefined && windowStart < earliest)
        trace.fail(
          'I6',
          `${sink} gets ${this.#world.windowName(windowStart)}, which is before its beginning`,
        );
    }
  }

  /** I3, I4: whoever computed a row, and whenever it arrives, it equals the truth. */
  rowStored(store: SimStore, point: Point, instance: Instance): void {
    const { id } = store.plan;
    if (this.#world.scenario.mode === 'core' || this.#isPartIn(this.#holed, id, point.windowStart)) return;
    const expected = this.truthOf(id).byKey.get(keyOf(point));
    const where = `${id} ${this.#world.windowName(point.windowStart)} ${nameOf(point)} by ${instance.name}`;
    const wrong = expected === undefined ? 'the oracle has no such point' : difference(point, expected);
    if (wrong === undefined) return;
    if (!this.isUnsettled(id, point.windowStart)) {
      this.#world.trace.fail('I3', `${where}: ${wrong}`);
      return;
    }
    const before = store.rows.get(keyOf(point));
    const wasRight =
      expected === undefined
        ? before === undefined
        : before !== undefined && difference(before, expected) === undefined;
    if (wasRight) this.#staleBy.set(point.windowStart, instance);
  }

  /** An instance reported that it left rows in the store that a rollback took back. */
  rowsLeft(sink: string): void {
    this.#leftIn.add(sink);
  }

  mayBeLeft(sink: string, start: number): boolean {
    return this.isUnsettled(sink, start) && (this.#leftIn.has(sink) || this.#isFolded(sink, start));
  }

  /**
   * A known limitation: if a window of a sink's own is reopened, a part of it may have more series than before, and
   * take the room of series that came later. Their rows stay.
   */
  #isFolded(sink: string, start: number): boolean {
    const points = this.truthOf(sink).windows.find(([at]) => at === start)?.[1] ?? [];
    const isOwn = points.some(({ windowMs }) => windowMs === this.#ownMsOf(sink));
    return isOwn && points.some(({ series }) => series.dimensionsJson.includes('fanout.overflow'));
  }

  /** No row is removed that must be there. */
  rowRemoved(store: SimStore, point: Point, instance: Instance): void {
    const { id } = store.plan;
    if (!instance.isGiven(id, point))
      this.#world.trace.fail('names', `${id} loses ${nameOf(point)}, which is not its own`);
    const isHoled = this.#isPartIn(this.#holed, id, point.windowStart);
    if (isHoled || !this.truthOf(id).byKey.has(keyOf(point))) return;
    if (this.isUnsettled(id, point.windowStart)) this.#staleBy.set(point.windowStart, instance);
    else
      this.#world.trace.fail(
        'I3',
        `${id} ${this.#world.windowName(point.windowStart)} ${nameOf(point)}: removed by ${instance.name}`,
      );
  }

  /** I5: a point that is refused for good is refused for a reason, and recorded. */
  pointsRejected(sink: string, points: readonly Point[]): void {
    const store = this.#world.stores.get(sink)!;
    for (const point of points) {
      if (Number.isFinite(point.sum) && !store.isPoison(point))
        this.#world.trace.fail('I5', `${sink}: ${nameOf(point)} was never refused`);
      store.rejected.add(keyOf(point));
    }
  }

  checkpointStored(
    sink: string,
    slice: string,
    before: Checkpoint | undefined,
    after: Checkpoint,
    saver: Instance,
  ): void {
    const { next, store, receipts: claimed = {} } = after;
    if (before !== undefined && next < before.next)
      this.#world.trace.fail('I5', `${sink}: its checkpoint goes back to ${this.#world.windowName(next)}`);
    // Of a store that was emptied, and that nobody has looked at since: it says which one it is about.
    const { identity, receipts, wasRestored } = this.#world.stores.get(sink)!;
    if (store !== undefined && store !== identity) return;
    // Of one that was restored, likewise.
    if (Object.entries(claimed).some(([writer, receipt]) => !isAsKnown(receipts.get(writer), receipt)))
      return;
    this.#checkNames(sink, slice, after, saver);
    // What it says of other windows than before has to be true as well.
    const isSameChoice = JSON.stringify(before?.choices) === JSON.stringify(after.choices);
    const isOfBefore = before !== undefined && before.store === store && !wasRestored && isSameChoice;
    const known = isOfBefore ? before.next : Number.NEGATIVE_INFINITY;
    const from = Math.max(known, this.owedFrom(sink, slice));
    const missing = this.missing(sink, slice, from, next, {
      isExcepted: true,
      choices: after.choices,
    });
    if (missing !== undefined)
      this.#world.trace.fail(
        'I5',
        `${sink}: its checkpoint ${this.#world.windowName(next)} is past ${missing}`,
      );
  }

  /** A checkpoint says of every window before it what its instance was to give, no more and no less. */
  #checkNames(sink: string, slice: string, { next, choices }: Checkpoint, saver: Instance): void {
    const says = givenBy(choices);
    for (const [start, points] of this.truthOf(sink).between(this.owedFrom(sink, slice), next, slice)) {
      const wrong = points.find(
        (point) => says(point.series.name, start, point.windowMs) !== saver.isGiven(sink, point),
      );
      if (wrong === undefined) continue;
      this.#world.trace.fail(
        'names',
        `${sink}: its checkpoint is wrong about ${nameOf(wrong)} in ${this.#world.windowName(start)}`,
      );
    }
  }

  /**
   * Describes the first point in [from, to) that the sink is given, and that is neither in the store nor recorded as
   * refused. `choices`: what it is given, as a checkpoint says. `isExcepted`: unsettled windows do not count.
   */
  missing(
    sink: string,
    slice: string,
    from: number,
    to: number,
    { isExcepted, choices }: { readonly isExcepted?: true; readonly choices: Checkpoint['choices'] },
  ): string | undefined {
    const { rows, rejected } = this.#world.stores.get(sink)!;
    const gives = givenBy(choices);
    for (const [start, points] of this.truthOf(sink).between(from, to, slice)) {
      if (this.#isPartIn(this.#holed, sink, start) || (isExcepted && this.isUnsettled(sink, start))) continue;
      if (this.#skipped.get(sink)?.has(start)) continue;
      for (const point of points) {
        if (!gives(point.series.name, start, point.windowMs)) continue;
        const key = keyOf(point);
        if (!rows.has(key) && !rejected.has(key)) return `${this.#world.windowName(start)} ${nameOf(point)}`;
      }
    }
    return undefined;
  }

  /** Called after every event. */
  step(instance: Instance): void {
    const { engine } = instance;
    if (engine === undefined || this.#world.scenario.mode === 'core') return;
    const { boundary } = engine.live.aggregator;
    const before = this.#boundaries.get(engine);
    if (boundary === before) return;
    this.#boundaries.set(engine, boundary);
    if (before === undefined) return;
    if (boundary < before) this.#world.trace.fail('I2', `${instance.name}: the live path goes back`);
    this.#checkBoundary(instance, boundary);
  }

  /** I2: every message before this stream time has been consumed, or is no longer in the stream. */
  #checkBoundary({ name, sources: [source] }: Instance, boundary: number): void {
    const { scenario, stream, timeline, trace } = this.#world;
    const { setBack, rollback, latencyMs } = scenario;
    if (source === undefined || !('next' in source)) return;
    // Before an instance notices a rollback, it uses sequences that now have another meaning.
    if (rollback !== undefined && timeline.now >= rollback.at) return;
    const through = boundary + shapeAt(boundary - 1, scenario).latenessMs;
    const isRead = Math.max(source.next, stream.firstSequence(timeline.now)) >= stream.firstAt(through);
    if (setBack === undefined && !isRead)
      trace.fail(
        'I2',
        `${name}: the live path is at ${this.#world.windowName(boundary)} without having read ${source.next}`,
      );
    // Times from before the clock was set back are ahead of it, until it has been read again and has caught up.
    const isKnown = setBack === undefined || source.clockReadAt >= Math.max(setBack.at, source.readAheadAt);
    const settledAt = setBack === undefined ? 0 : source.clockReadAt + setBack.ms + latencyMs;
    if (isKnown && timeline.now >= settledAt && through > this.#world.serverNow())
      trace.fail('I2', `${name}: the live path is ahead of the server's clock`);
  }

  /** Called from time to time. */
  look(instance: Instance): void {
    if (instance.engine === undefined || instance.dead) return;
    checkAccounts(this.#world, instance);
    if (instance.isStopping) return;
    checkBeginnings(this.#world, instance);
    checkLags(this.#world, instance);
  }
}
