/** Writes windows to a table of a trial as fast as it takes them, and measures that. */
import type { ClosedWindow } from '../aggregate/window.ts';
import { backoffMs, type Clock } from '../base/clock.ts';
import { errorText } from '../base/error-text.ts';
import { WindowBatch } from '../deliver/lane/batch.ts';
import { sizeWindow } from '../deliver/lane/queue.ts';
import type { ThreadedSink } from '../deliver/thread/threaded-sink.ts';
import { isRefusal, SinkError, type SinkLimits, type WriteOutcome } from '../sink/contract.ts';
import type { Latency, Rung } from './result.ts';
import { ascendingOf, quantileOf } from './statistics.ts';

/** Attempts to write one batch. A store that is that busy fails its trial. */
const MAX_ATTEMPTS = 20;
/** Parts of a rung, whose rates `diff` compares. */
const ROUNDS = 10;

/** Yields the windows in batches within the limits, in order. */
export function* batchesOf(windows: Iterable<ClosedWindow>, limits: SinkLimits): Generator<WindowBatch> {
  for (const window of windows) {
    const { sizes } = sizeWindow(window);
    let from = 0;
    let bytes = 0;
    for (let index = 0; index <= window.size; index++) {
      const isFull = index - from === limits.maxPoints || bytes + (sizes[index] ?? 0) > limits.maxBytes;
      if (index === window.size || (isFull && index > from)) {
        if (index > from) yield new WindowBatch(window, indices(from, index), bytes);
        from = index;
        bytes = 0;
      }
      bytes += sizes[index] ?? 0;
    }
  }
}

function indices(from: number, to: number): Uint32Array {
  return Uint32Array.from({ length: to - from }, (_, index) => from + index);
}

export interface WritingOptions {
  readonly timeoutMs: number;
  readonly clock: Clock;
  /** No batch begins after this time, by the steady clock. */
  readonly until?: number;
  readonly signal: AbortSignal;
  /** Hears of every batch. */
  readonly wrote?: (points: number) => void;
}

/** What was measured so far. */
class Measured {
  readonly started: number;
  points = 0;
  refused = 0;
  readonly latencies: number[] = [];
  readonly errors: Record<string, number> = {};
  readonly #cpu = process.cpuUsage();
  readonly #done: { readonly at: number; readonly points: number }[] = [];
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.started = clock.steady();
  }

  failed(reason: string, count = 1): void {
    this.errors[reason] = (this.errors[reason] ?? 0) + count;
  }

  wrote(points: number): void {
    this.points += points;
    this.#done.push({ at: this.#clock.steady(), points });
  }

  rung(writers: number): Rung {
    const seconds = Math.max(this.#clock.steady() - this.started, 1) / 1000;
    const { user, system } = process.cpuUsage(this.#cpu);
    return {
      writers,
      points: this.points,
      seconds,
      pointsPerSecond: this.points / seconds,
      write: latencyOf(this.latencies),
      cpuPerPoint: this.points === 0 ? 0 : (user + system) / this.points,
      errors: this.errors,
      rounds: this.#rates(),
    };
  }

  /** The rates of parts with equally many writes. */
  #rates(): number[] {
    const parts = Math.min(ROUNDS, Math.floor(this.#done.length / 2));
    const rates: number[] = [];
    let from = this.started;
    for (let part = 0; part < parts; part++) {
      const some = this.#done.slice(
        Math.floor((part * this.#done.length) / parts),
        Math.floor(((part + 1) * this.#done.length) / parts),
      );
      const to = some.at(-1)!.at;
      const points = some.reduce((sum, one) => sum + one.points, 0);
      if (to > from) rates.push((1000 * points) / (to - from));
      from = to;
    }
    return rates;
  }
}

/** Resolves to the outcome; a throw means that nobody knows, as it does to the lane. */
async function attemptOf(
  writer: ThreadedSink,
  batch: WindowBatch,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<WriteOutcome> {
  const timeout = AbortSignal.timeout(timeoutMs);
  try {
    return await writer.write(batch, AbortSignal.any([signal, timeout]));
  } catch (error) {
    signal.throwIfAborted();
    const reason = error instanceof SinkError && !isRefusal(error.reason) ? error.reason : 'unknown';
    const message = errorText(error);
    return { kind: 'retry', reason: timeout.aborted ? 'timeout' : reason, message };
  }
}

export function latencyOf(samples: readonly number[]): Latency {
  const ascending = ascendingOf(samples);
  const at = (share: number) => (ascending.length === 0 ? 0 : quantileOf(ascending, share));
  return { p50: at(0.5), p95: at(0.95), p99: at(0.99) };
}

/** Writes the batches, one after another in each writer. Resolves to what it took; `refused` are points for good. */
export async function writeBatches(
  batches: Iterator<WindowBatch>,
  writers: readonly ThreadedSink[],
  options: WritingOptions,
): Promise<{ readonly rung: Rung; readonly refused: number }> {
  const { clock, until = Number.POSITIVE_INFINITY, signal } = options;
  const measured = new Measured(clock);
  await Promise.all(
    writers.map(async (writer) => {
      while (!signal.aborted && clock.steady() < until) {
        const next = batches.next();
        if (next.done) return;
        await writeOne(next.value, writer, measured, options);
      }
    }),
  );
  return { rung: measured.rung(writers.length), refused: measured.refused };
}

async function writeOne(
  batch: WindowBatch,
  writer: ThreadedSink,
  measured: Measured,
  { timeoutMs, clock, signal, wrote }: WritingOptions,
): Promise<void> {
  let left = batch;
  for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt++) {
    const before = clock.steady();
    const outcome = await attemptOf(writer, left, timeoutMs, signal);
    measured.latencies.push(clock.steady() - before);
    let afterMs: number | undefined;
    switch (outcome.kind) {
      case 'written':
        measured.wrote(left.size);
        wrote?.(left.size);
        return;
      case 'refused':
        throw new SinkError(outcome.reason, outcome.message);
      case 'retry':
        measured.failed(outcome.reason);
        afterMs = outcome.afterMs;
        break;
      case 'partial': {
        const lost = outcome.unidentified?.count ?? 0;
        for (const { reason } of outcome.rejected) measured.failed(reason);
        if (lost > 0) measured.failed('unidentified', lost);
        measured.refused += outcome.rejected.length + lost;
        const taken = left.size - outcome.retry.length - outcome.rejected.length - lost;
        if (taken > 0) measured.wrote(taken);
        wrote?.(left.size - outcome.retry.length);
        if (outcome.retry.length === 0) return;
        measured.failed(outcome.reason ?? 'throttled');
        left = left.subset(outcome.retry);
        break;
      }
      default:
        outcome satisfies never;
    }
    await clock.sleep(afterMs ?? backoffMs(attempt, clock.random()), signal);
    signal.throwIfAborted();
  }
  throw new SinkError('unknown', `a batch was not written in ${MAX_ATTEMPTS} attempts`);
}
