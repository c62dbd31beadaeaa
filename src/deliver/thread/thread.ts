/** A sink in its thread, seen from outside, and what ends it if it stands still. */
import { setImmediate, setTimeout as sleep } from 'node:timers/promises';
import type { MessagePort } from 'node:worker_threads';
import type { Point } from '../../aggregate/point.ts';
import type { ClosedWindow } from '../../aggregate/window.ts';
import {
  type Question,
  type ReceiptBefore,
  SinkError,
  type SinkLog,
  type StoredPoint,
  type WindowRange,
  type WriteOutcome,
} from '../../sink/contract.ts';
import type { WindowBatch } from '../lane/batch.ts';
import type { Digest } from '../lane/digest.ts';
import type { ChosenNames } from '../name-choices.ts';
import {
  type Answered,
  type FromThread,
  ROWS_PER_ANSWER,
  type ThreadAnswer,
  type ThreadData,
  type ThrownError,
  type ToThread,
} from './messages.ts';
import type { SinkWorker } from './sink-worker.ts';

/** A thread that does not report in time that its sink is closed is ended anyway. */
const CLOSE_TIMEOUT_MS = 2000;
/**
 * How long a call may take to settle after its signal has aborted: some sinks clean up in the store first. After that,
 * the sink has blocked its thread, or ignores the signal, and the thread is ended.
 */
export const GRACE_MS = 10_000;
/** How long calls under way may take to settle if another sink of the same thread stands still. */
const MOVE_TIMEOUT_MS = 2000;
/** The time limit of a digest, which is work for the processor only. */
const DIGEST_TIMEOUT_MS = 120_000;
/** How many windows the thread keeps; those in use are kept regardless. Each may hold as much as a window may take. */
const KEPT_WINDOWS = 1;

type Call = {
  readonly resolve: (answer: ThreadAnswer) => void;
  readonly reject: (error: Error) => void;
};

interface KeptWindow {
  readonly number: number;
  /** Calls under way that need it. */
  uses: number;
}

/** All calls are synchronous and must not throw. */
export interface ThreadEvents {
  /** A call of this kind did not settle in time. The thread takes no more calls, and is being ended. */
  stoodStill(call: string): void;
  ended(): void;
}

/** One sink in one thread, from its start to its end. */
export class Thread {
  isOpen = false;
  readonly #worker: SinkWorker;
  readonly #port: MessagePort;
  readonly #calls = new Map<number, Call>();
  #lastCall = 0;
  #ended: Error | undefined;
  /** See `SeriesRecords.origin`: that of the window sent last. */
  #origin: object | undefined;
  #recordsNumber = 0;
  /** The windows that the thread keeps, in order of use. */
  readonly #windows = new Map<ClosedWindow, KeptWindow>();
  #lastWindow = 0;

  readonly #graceMs: number;
  readonly #events: ThreadEvents;
  #lastReading = 0;
  #whenIdle: (() => void) | undefined;

  constructor(worker: SinkWorker, data: ThreadData, log: SinkLog, graceMs: number, events: ThreadEvents) {
    this.#worker = worker;
    this.#graceMs = graceMs;
    this.#events = events;
    this.#port = worker.seat(data, (error) => this.#gone(error));
    this.#port.on('message', (message: FromThread) => this.#take(message, log));
    this.#port.unref();
  }

  async open(signal: AbortSignal): Promise<void> {
    this.isOpen = false;
    await this.#call(signal, (call) => ({ kind: 'open', call }));
    this.isOpen = true;
  }

  async write({ window, indices }: WindowBatch, signal: AbortSignal): Promise<WriteOutcome> {
    return (await this.#with(window, (number) =>
      this.#call(signal, (call) => ({ kind: 'write', call, window: number, indices })),
    )) as WriteOutcome;
  }

  async writePoints(points: readonly Point[], signal: AbortSignal): Promise<WriteOutcome> {
    return (await this.#call(signal, (call) => ({ kind: 'write_points', call, points }))) as WriteOutcome;
  }

  async remove(points: readonly Point[], signal: AbortSignal): Promise<void> {
    await this.#call(signal, (call) => ({ kind: 'remove', call, points }));
  }

  /** The rows of a range, or under the keys of points. The thread reads ahead of the caller by one answer at most. */
  async *rows(
    asked: { readonly range: WindowRange } | { readonly points: readonly Point[] },
    signal: AbortSignal,
  ): AsyncGenerator<StoredPoint> {
    signal.throwIfAborted();
    this.#lastReading += 1;
    const reading = this.#lastReading;
    this.#post({ kind: 'start_reading', reading, ...asked });
    try {
      for (let isLast = false; !isLast; ) {
        const rows = (await this.#call(signal, (call) => ({
          kind: 'read_rows',
          call,
          reading,
        }))) as readonly StoredPoint[];
        yield* rows;
        isLast = rows.length < ROWS_PER_ANSWER;
      }
    } finally {
      this.#post({ kind: 'end_reading', reading });
    }
  }

  async digest(window: ClosedWindow, names?: ChosenNames): Promise<Digest> {
    return (await this.#with(window, (number) =>
      this.#call(AbortSignal.timeout(DIGEST_TIMEOUT_MS), (call) => ({
        kind: 'digest',
        call,
        window: number,
        names,
      })),
    )) as Digest;
  }

  async readBack(
    { start, windowMs, instance }: Pick<ClosedWindow, 'start' | 'windowMs' | 'instance'>,
    keys: ClosedWindow | undefined,
    signal: AbortSignal,
    names?: ChosenNames,
  ): Promise<Digest> {
    const range = { from: start, to: start + windowMs };
    const ask = (window: number | undefined) =>
      this.#call(signal, (call) => ({ kind: 'read_back', call, ...range, instance, window, names }));
    return (await (keys === undefined ? ask(undefined) : this.#with(keys, ask))) as Digest;
  }

  async heldWindows(range: WindowRange, signal: AbortSignal): Promise<readonly number[]> {
    return (await this.#call(signal, (call) => ({ kind: 'held_windows', call, range }))) as readonly number[];
  }

  /** See `StraySink`. */
  async strays(
    { start, windowMs, instance }: Pick<ClosedWindow, 'start' | 'windowMs' | 'instance'>,
    keys: ClosedWindow | undefined,
    remove: boolean,
    signal: AbortSignal,
    names?: ChosenNames,
  ): Promise<number> {
    const ask = (window: number | undefined) =>
      this.#call(signal, (call) => ({
        kind: 'strays',
        call,
        ...{ start, windowMs, instance },
        ...{ window, remove, names },
      }));
    return (await (keys === undefined ? ask(undefined) : this.#with(keys, ask))) as number;
  }

  /** Makes sure that the thread has the window while `work` runs. */
  async #with(window: ClosedWindow, work: (number: number) => Promise<ThreadAnswer>): Promise<ThreadAnswer> {
    const kept = this.#tell(window);
    try {
      return await work(kept.number);
    } finally {
      kept.uses -= 1;
      this.#forgetOldest();
    }
  }

  async ask(question: Question, signal: AbortSignal): Promise<Answered | undefined> {
    return (await this.#call(signal, (call) => ({ kind: 'ask', call, question }))) as Answered | undefined;
  }

  async version(signal: AbortSignal): Promise<string | undefined> {
    return (await this.#call(signal, (call) => ({ kind: 'version', call }))) as string | undefined;
  }

  async storage(signal: AbortSignal): Promise<number | undefined> {
    return (await this.#call(signal, (call) => ({ kind: 'storage', call }))) as number | undefined;
  }

  async identity(signal: AbortSignal): Promise<string | undefined> {
    return (await this.#call(signal, (call) => ({ kind: 'identity', call }))) as string | undefined;
  }

  async receipt(writer: string, signal: AbortSignal): Promise<number | undefined> {
    return (await this.#call(signal, (call) => ({ kind: 'receipt', call, writer }))) as number | undefined;
  }

  /** See `Sink.giveReceipt`. */
  async giveReceipt(
    writer: string,
    time: number,
    known: number | undefined,
    signal: AbortSignal,
  ): Promise<ReceiptBefore | undefined> {
    return (await this.#call(signal, (call) => ({ kind: 'give_receipt', call, writer, time, known }))) as
      | ReceiptBefore
      | undefined;
  }

  /** Calls under way then fail, so that no caller waits for a thread that stands still. */
  async end(): Promise<void> {
    if (this.#ended) return this.#terminate();
    const closed = new AbortController();
    try {
      const late = sleep(CLOSE_TIMEOUT_MS, undefined, { signal: closed.signal }).catch(() => {});
      await Promise.race([this.#call(undefined, (call) => ({ kind: 'close', call })), late]);
    } finally {
      closed.abort();
      await this.#terminate();
    }
  }

  /**
   * Ends it when the calls under way have settled, as they all do in time, and soon if another sink of the thread
   * stands still. There must be no new calls after this turn.
   */
  async retire(): Promise<void> {
    await setImmediate();
    const { promise: idle, resolve } = Promise.withResolvers<void>();
    this.#whenIdle = resolve;
    if (this.#calls.size === 0) resolve();
    const moved = new AbortController();
    const { signal } = moved;
    const late = this.#worker.stillness
      .then(() => sleep(MOVE_TIMEOUT_MS, undefined, { signal }))
      .catch(() => {});
    await Promise.race([idle, late]);
    moved.abort();
    if (this.#calls.size > 0)
      this.#ended ??= new SinkError('timeout', 'another sink of its thread stood still');
    await this.end();
  }

  async #terminate(): Promise<void> {
    this.#fail();
    await this.#worker.leave(this.#port);
  }

  /** The thread has ended, or runs the sink no more. */
  #gone(error: Error): void {
    this.#ended ??= error;
    this.#fail();
    this.#events.ended();
  }

  #standStill(call: string): void {
    if (this.#ended) return;
    this.#ended = new SinkError('timeout', `the sink stood still (${call}), and its thread was ended`);
    this.#worker.standsStill();
    this.#events.stoodStill(call);
    void this.#terminate();
  }

  #fail(): void {
    this.#ended ??= new Error('the thread of the sink ended');
    for (const { reject } of this.#calls.values()) reject(this.#ended);
    this.#calls.clear();
  }

  #take(message: FromThread, log: SinkLog): void {
    switch (message.kind) {
      case 'done':
        this.#calls.get(message.call)?.resolve(message.answer);
        break;
      case 'thrown':
        this.#calls.get(message.call)?.reject(errorOf(message.error));
        break;
      case 'failed':
        this.#ended ??= new Error(`the thread of the sink failed: ${message.error.message}`);
        void this.#terminate();
        break;
      case 'log':
        log[message.level](message.fields, message.message);
        break;
      default:
        message satisfies never;
    }
  }

  #call(signal: AbortSignal | undefined, say: (call: number) => ToThread): Promise<ThreadAnswer> {
    this.#lastCall += 1;
    const call = this.#lastCall;
    const message = say(call);
    let grace: NodeJS.Timeout | undefined;
    const abort = () => {
      this.#post({ kind: 'abort', call });
      grace = setTimeout(() => this.#standStill(message.kind), this.#graceMs);
    };
    signal?.addEventListener('abort', abort, { once: true });
    return new Promise<ThreadAnswer>((resolve, reject) => {
      if (this.#ended) throw this.#ended;
      this.#calls.set(call, { resolve, reject });
      this.#post(message);
      if (signal?.aborted) abort();
    }).finally(() => {
      clearTimeout(grace);
      signal?.removeEventListener('abort', abort);
      this.#calls.delete(call);
      if (this.#calls.size === 0) this.#whenIdle?.();
    });
  }

  #post(message: ToThread): void {
    this.#port.postMessage(message);
  }

  #tell(window: ClosedWindow): KeptWindow {
    const kept = this.#windows.get(window) ?? this.#send(window);
    kept.uses += 1;
    this.#windows.delete(window);
    this.#windows.set(window, kept);
    return kept;
  }

  #send(window: ClosedWindow): KeptWindow {
    const { start, windowMs, instance, refs, rows, values, records, sketches } = window;
    if (this.#origin !== records.origin) {
      this.#origin = records.origin;
      this.#recordsNumber += 1;
    }
    this.#lastWindow += 1;
    const number = this.#lastWindow;
    this.#post({
      kind: 'window',
      window: number,
      start,
      windowMs,
      instance,
      refs,
      rows,
      values,
      ...(sketches && { sketches }),
      records: { number: this.#recordsNumber, memory: records.memory, retiredBytes: records.retiredBytes },
    });
    return { number, uses: 0 };
  }

  #forgetOldest(): void {
    for (const [window, { number, uses }] of this.#windows) {
      if (this.#windows.size <= KEPT_WINDOWS) return;
      if (uses > 0) continue;
      this.#windows.delete(window);
      this.#post({ kind: 'forget', window: number });
    }
  }
}

function errorOf({ reason, message, advice }: ThrownError): Error {
  return reason === undefined ? new Error(message) : new SinkError(reason, message, advice);
}
