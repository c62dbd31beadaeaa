/**
 * A lane runs one sink: queue, batches, writes in flight, timeouts, retries, circuit breaker, checkpoint. Nothing in it
 * waits for another lane (I7), and the path that feeds it never waits for it.
 */
import type { Point, Rejection, RejectReason, Sink, SinkLimits, WriteOutcome } from '../sink.ts';
import { SinkError } from '../sink.ts';
import { Breaker } from './breaker.ts';
import { BACKOFF_CAP_MS, Bell, backoffMs, type Clock } from './clock.ts';
import type { CheckpointKeeper } from './keeper.ts';
import { type Handout, type Job, WindowQueue } from './queue.ts';

/** A sink that does not close in time is left to the end of the process. */
const CLOSE_TIMEOUT_MS = 2000;

/** `catching_up`: the live path is ignored, windows come from a replay of its own. */
export type LaneState = 'opening' | 'live' | 'catching_up' | 'stopped';

export interface LaneFailure {
  readonly at: number;
  readonly reason: string;
  readonly message: string;
}

/** Counters; only the lane changes them. Points offered = written + rejected + dropped + backlog + owed by replay. */
export interface LaneStats {
  written: number;
  rejected: Map<RejectReason, number>;
  dropped: number;
  retries: Map<string, number>;
  /** Times that the lane went over its backlog and left its windows to replay. */
  overflows: number;
}

/** What the lane tells the rest of the service; all calls are synchronous and must not throw. */
export interface LaneEvents {
  /** A write came to an end, well or not, after so many seconds. */
  wrote(seconds: number): void;
  rejected(points: readonly { readonly point: Point; readonly rejection: Rejection }[]): void;
  /** The store was up and is down, or the other way round. */
  changed(up: boolean, failure: LaneFailure | undefined): void;
  /** The lane went over its backlog: it wants a replay from `next`. */
  fellBehind(): void;
}

export interface LaneOptions {
  readonly id: string;
  readonly sink: Sink;
  readonly limits: SinkLimits;
  readonly timeoutMs: number;
  readonly backlogBytes: number;
  /** Start of the first window that the sink wants; -Infinity in core mode. */
  readonly from: number;
  /** Whether the stream can be read again: else the oldest windows are dropped and counted. */
  readonly replayable: boolean;
  /** Absent in core mode, where nothing can be read again. */
  readonly keeper: CheckpointKeeper | undefined;
  readonly clock: Clock;
  readonly events: LaneEvents;
}

export class Lane {
  readonly id: string;
  readonly stats: LaneStats = {
    written: 0,
    rejected: new Map(),
    dropped: 0,
    retries: new Map(),
    overflows: 0,
  };
  readonly #options: LaneOptions;
  readonly #queue: WindowQueue;
  readonly #breaker: Breaker;
  readonly #work = new Bell();
  readonly #settled = new Bell();
  readonly #halt = new AbortController();
  #catchingUp = false;
  #opened = false;
  #opening: Promise<void> | undefined;
  /** Undefined until the store was first heard of. */
  #up: boolean | undefined;
  #lastFailure: LaneFailure | undefined;

  constructor(options: LaneOptions) {
    this.id = options.id;
    this.#options = options;
    this.#queue = new WindowQueue(options.limits, options.from);
    this.#breaker = new Breaker(options.clock);
  }

  get state(): LaneState {
    if (this.#halt.signal.aborted) return 'stopped';
    if (this.#catchingUp) return 'catching_up';
    return this.#opened ? 'live' : 'opening';
  }

  /** Whether the store took the last write, or opened and none was tried yet. */
  get up(): boolean {
    return this.#up === true;
  }

  get lastFailure(): LaneFailure | undefined {
    return this.#lastFailure;
  }

  /** Start of the first window that is not confirmed. */
  get next(): number {
    return this.#queue.next;
  }

  get offeredTo(): number {
    return this.#queue.offeredTo;
  }

  get backlogPoints(): number {
    return this.#queue.points;
  }

  get backlogBytes(): number {
    return this.#queue.bytes;
  }

  /** Runs until `stop`: opens the sink, writes what is offered, keeps the checkpoint. */
  async run(): Promise<void> {
    const writers = Array.from({ length: this.#options.limits.inFlight }, () => this.#writer());
    await Promise.all([this.#open(), this.#options.keeper?.run(this.#halt.signal), ...writers]);
    const abort = new AbortController();
    const closed = this.#options.sink.close().catch(() => {});
    await Promise.race([closed, this.#options.clock.sleep(CLOSE_TIMEOUT_MS, abort.signal)]);
    abort.abort();
  }

  /** From the live path. Never waits: over its backlog, the lane leaves its windows to replay (or drops the oldest). */
  offer(handout: Handout): void {
    if (this.#catchingUp) return;
    if (!this.#queue.empty && this.#queue.bytes + handout.bytes > this.#options.backlogBytes) {
      if (this.#options.replayable) {
        this.#fallBehind();
        return;
      }
      this.#dropUntilFits(handout.bytes);
    }
    this.#queue.offer(handout);
    this.#work.ring();
  }

  /** From the live path: every window before `boundary` has been offered. */
  advance(boundary: number): void {
    if (this.#catchingUp) return;
    this.#queue.advance(boundary);
    this.#options.keeper?.confirmed(this.next);
  }

  /** Stops listening to the live path, until `join`. */
  startCatchUp(): void {
    this.#catchingUp = true;
  }

  /** From the replay: as `offer` and `advance`, but waits until there is room; the replay is held back meanwhile. */
  async replay(handouts: readonly Handout[], boundary: number, signal: AbortSignal): Promise<void> {
    for (const handout of handouts) {
      while (!this.#queue.empty && this.#queue.bytes + handout.bytes > this.#options.backlogBytes) {
        await this.#settled.wait(signal);
        if (signal.aborted) return;
      }
      this.#queue.offer(handout);
      this.#work.ring();
    }
    this.#queue.advance(boundary);
    this.#options.keeper?.confirmed(this.next);
  }

  /** Back to the live path, whose next window must not be after `offeredTo`. */
  join(): void {
    this.#catchingUp = false;
  }

  /** Gives what is queued until `deadline` to be written, then ends all and writes the last checkpoint. */
  async stop(deadline: AbortSignal): Promise<void> {
    while (!this.#queue.empty && !deadline.aborted) await this.#settled.wait(deadline);
    this.#halt.abort();
    await this.#options.keeper?.flush();
  }

  #fallBehind(): void {
    this.stats.overflows += 1;
    this.#queue.clear();
    this.#catchingUp = true;
    this.#options.events.fellBehind();
  }

  #dropUntilFits(bytes: number): void {
    while (!this.#queue.empty && this.#queue.bytes + bytes > this.#options.backlogBytes) {
      const dropped = this.#queue.dropOldest();
      if (dropped === 0) return;
      this.stats.dropped += dropped;
    }
  }

  async #writer(): Promise<void> {
    const { signal } = this.#halt;
    while (!signal.aborted) {
      const job = this.#queue.take();
      if (job === undefined) {
        await this.#work.wait(signal);
        continue;
      }
      await this.#deliver(job, signal);
      if (!signal.aborted && this.#queue.settle(job)) this.#options.keeper?.confirmed(this.next);
      this.#settled.ring();
    }
  }

  /** Until every point of the job is written or refused for good, or the job does not matter any more. */
  async #deliver(job: Job, signal: AbortSignal): Promise<void> {
    let left = this.#rejectUnstorable(job.points);
    for (let attempt = 1; left.length > 0 && this.#queue.holds(job); attempt++) {
      await this.#breaker.enter(signal);
      if (signal.aborted) return;
      const tried = await this.#attempt(left);
      if (tried.left.length < left.length) attempt = 0;
      left = tried.left;
      if (left.length > 0) {
        await this.#options.clock.sleep(
          Math.max(tried.waitMs, backoffMs(attempt, this.#options.clock.random())),
          signal,
        );
      }
    }
  }

  /** One write: what is left of the points, and how long to wait at least before these are tried. */
  async #attempt(points: readonly Point[]): Promise<{ left: readonly Point[]; waitMs: number }> {
    const outcome = await this.#write(points);
    switch (outcome.kind) {
      case 'written':
        this.#succeed(points.length);
        return { left: [], waitMs: 0 };
      case 'partial':
        return { left: this.#takePartial(points, outcome), waitMs: 0 };
      case 'retry':
        this.#fail(outcome.reason, outcome.message, outcome.afterMs ?? 0);
        return { left: points, waitMs: outcome.afterMs ?? 0 };
      case 'refused':
        // Only an operator helps: held, tried at the slowest pace, and opened anew before each try.
        this.#opened = false;
        this.#fail(outcome.reason, outcome.message, BACKOFF_CAP_MS / 2);
        return { left: points, waitMs: 0 };
      default:
        return outcome satisfies never;
    }
  }

  #takePartial(points: readonly Point[], outcome: WriteOutcome & { kind: 'partial' }): readonly Point[] {
    const { retry, rejected, reason = 'throttled' } = outcome;
    this.#reject(points, rejected);
    const written = points.length - retry.length - rejected.length;
    // A store that takes a part is alive: only an answer without any progress counts against it.
    if (written + rejected.length > 0) {
      this.#succeed(written);
      if (retry.length > 0) this.#countRetry(reason);
    } else {
      this.#fail(reason, 'no point of the batch was taken', 0);
    }
    return retry.map((index) => points[index]!);
  }

  /** The sink's write under the lane's timeout; whatever it throws is an unknown outcome. */
  async #write(points: readonly Point[]): Promise<WriteOutcome> {
    const started = this.#options.clock.now();
    const outcome = await this.#bounded(async (signal): Promise<WriteOutcome> => {
      if (!this.#opened) await this.#openOnce(signal);
      return await this.#options.sink.write({ points }, signal);
    });
    this.#options.events.wrote((this.#options.clock.now() - started) / 1000);
    return outcome;
  }

  /** Runs `work` for at most the timeout. A sink that ignores its signal is left behind: writes are idempotent. */
  async #bounded(work: (signal: AbortSignal) => Promise<WriteOutcome>): Promise<WriteOutcome> {
    const abort = new AbortController();
    const stopped = AbortSignal.any([abort.signal, this.#halt.signal]);
    const { timeoutMs, clock } = this.#options;
    const timedOut = clock.sleep(timeoutMs, stopped).then((): WriteOutcome => {
      const message = `no answer within ${timeoutMs} ms`;
      return { kind: 'retry', reason: 'timeout', message };
    });
    const done = work(stopped).catch(outcomeOfError);
    const outcome = await Promise.race([done, timedOut]);
    abort.abort();
    return outcome;
  }

  /** Opens with backoff until it resolves, so that a store is known to be there before the first window comes. */
  async #open(): Promise<void> {
    const { signal } = this.#halt;
    for (let attempt = 1; !this.#opened && !signal.aborted; attempt++) {
      const outcome = await this.#bounded(async (bound): Promise<WriteOutcome> => {
        await this.#openOnce(bound);
        return { kind: 'written' };
      });
      if (outcome.kind === 'written') {
        // A write that failed meanwhile knows more of the store than its being open does.
        if (this.#up === undefined || attempt > 1) this.#setUp(true);
      } else if (outcome.kind !== 'partial') {
        this.#fail(outcome.reason, outcome.message, 0);
        await this.#options.clock.sleep(backoffMs(attempt, this.#options.clock.random()), signal);
      }
    }
  }

  async #openOnce(signal: AbortSignal): Promise<void> {
    this.#opening ??= this.#options.sink
      .open(signal)
      .then(() => {
        this.#opened = true;
      })
      .finally(() => {
        this.#opening = undefined;
      });
    await this.#opening;
  }

  /** A sum that overflowed float64 is no number to any store: refused here, so that all stores stay the same. */
  #rejectUnstorable(points: readonly Point[]): readonly Point[] {
    const bad: Rejection[] = [];
    for (let index = 0; index < points.length; index++) {
      if (Number.isFinite(points[index]!.sum)) continue;
      bad.push({ index, reason: 'invalid_value', message: 'the sum is not finite' });
    }
    if (bad.length === 0) return points;
    this.#reject(points, bad);
    return points.filter((point) => Number.isFinite(point.sum));
  }

  #reject(points: readonly Point[], rejections: readonly Rejection[]): void {
    if (rejections.length === 0) return;
    const { rejected } = this.stats;
    for (const { reason } of rejections) rejected.set(reason, (rejected.get(reason) ?? 0) + 1);
    this.#options.events.rejected(
      rejections.map((rejection) => ({ point: points[rejection.index]!, rejection })),
    );
  }

  #countRetry(reason: string): void {
    this.stats.retries.set(reason, (this.stats.retries.get(reason) ?? 0) + 1);
  }

  #succeed(written: number): void {
    this.stats.written += written;
    this.#breaker.success();
    this.#setUp(true);
  }

  #fail(reason: string, message: string, afterMs: number): void {
    // A write that the stop cut short says nothing about the store.
    if (this.#halt.signal.aborted) {
      this.#breaker.release();
      return;
    }
    this.#countRetry(reason);
    this.#breaker.failure(afterMs);
    this.#lastFailure = { at: this.#options.clock.now(), reason, message };
    this.#setUp(false);
  }

  #setUp(up: boolean): void {
    const changed = this.#up !== up;
    this.#up = up;
    if (changed) this.#options.events.changed(up, this.#lastFailure);
  }
}

function outcomeOfError(error: unknown): WriteOutcome {
  if (!(error instanceof SinkError)) {
    return {
      kind: 'retry',
      reason: 'unknown',
      message: error instanceof Error ? error.message : String(error),
    };
  }
  const message = error.advice === '' ? error.message : `${error.message} ${error.advice}`;
  switch (error.reason) {
    case 'unauthorized':
    case 'not_found':
    case 'schema_mismatch':
    case 'bad_request':
      return { kind: 'refused', reason: error.reason, message };
    default:
      return { kind: 'retry', reason: error.reason, message };
  }
}
