/** A sink in its own thread, as its lane or a command sees it. Every call ends, whatever the sink does. */
import type { Point } from '../../aggregate/point.ts';
import {
  type Question,
  type ReadBack,
  type ReceiptBefore,
  SinkError,
  type SinkLog,
  type StoredPoint,
  type WindowRange,
  type WriteOutcome,
} from '../../sink/contract.ts';
import type { WindowBatch } from '../lane/batch.ts';
import type { LaneSink, SinkDigests, StraySink } from '../lane/writer.ts';
import type { Answered, ThreadData } from './messages.ts';
import type { SharedThread, Sharer } from './shared-thread.ts';
import { SinkWorker } from './sink-worker.ts';
import { GRACE_MS, Thread } from './thread.ts';

/**
 * Threads of one sink that were ended and still run, because nothing interrupts what they wait for. With this many, the
 * sink gets no other thread until one of them ends: each takes memory.
 */
const MAX_UNENDED = 3;

export interface ThreadedSinkOptions {
  /** See `SinkModule`. Default: `ranges`. */
  readonly readBack?: ReadBack;
  /** Whether the store can remove single rows. Default: true. */
  readonly removes?: boolean;
  /** How long a call may take to settle after its signal has aborted, in milliseconds. Default: `GRACE_MS`. */
  readonly graceMs?: number;
  /** Default: it has a thread of its own. */
  readonly shared?: SharedThread | undefined;
}

export class ThreadedSink implements LaneSink, Sharer {
  readonly #data: ThreadData;
  readonly #log: SinkLog;
  readonly #graceMs: number;
  readonly #shared: SharedThread | undefined;
  readonly digests: SinkDigests | undefined;
  readonly strays: StraySink | undefined;
  #thread: Thread | undefined;
  /** Until the calls under way in a thread that was shared have settled. */
  #movedOut: Promise<void> | undefined;
  #wasOpen = false;
  #stalls = 0;
  /** Threads that stood still, until they end. */
  readonly #unended = new Set<Thread>();

  constructor(
    data: ThreadData,
    log: SinkLog,
    { readBack = 'ranges', removes = true, graceMs = GRACE_MS, shared }: ThreadedSinkOptions = {},
  ) {
    this.#data = data;
    this.#log = log;
    this.#graceMs = graceMs;
    this.#shared = shared;
    if (readBack === 'ranges' && removes) {
      this.strays = {
        windows: async (range, signal) => (await this.#opened(signal)).heldWindows(range, signal),
        count: async (window, keys, remove, signal, names) =>
          (await this.#opened(signal)).strays(window, keys, remove, signal, names),
      };
    }
    if (readBack === 'none') return;
    this.digests = {
      ofWindow: async (window, names) => this.#running().digest(window, names),
      ofStore: async (window, keys, signal, names) =>
        (await this.#opened(signal)).readBack(window, keys, signal, names),
      needsKeys: readBack === 'keys',
    };
  }

  /** How often the sink stood still, so that its thread was ended. */
  get stalls(): number {
    return this.#stalls;
  }

  async open(signal: AbortSignal): Promise<void> {
    await this.#running().open(signal);
  }

  async identity(signal: AbortSignal): Promise<string | undefined> {
    return (await this.#opened(signal)).identity(signal);
  }

  async receipt(writer: string, signal: AbortSignal): Promise<number | undefined> {
    return (await this.#opened(signal)).receipt(writer, signal);
  }

  async giveReceipt(
    writer: string,
    time: number,
    known: number | undefined,
    signal: AbortSignal,
  ): Promise<ReceiptBefore | undefined> {
    return (await this.#opened(signal)).giveReceipt(writer, time, known, signal);
  }

  async write(batch: WindowBatch, signal: AbortSignal): Promise<WriteOutcome> {
    this.#shared?.writes(batch.window.size);
    return (await this.#opened(signal)).write(batch, signal);
  }

  async writePoints(points: readonly Point[], signal: AbortSignal): Promise<WriteOutcome> {
    return (await this.#opened(signal)).writePoints(points, signal);
  }

  async remove(points: readonly Point[], signal: AbortSignal): Promise<void> {
    await (await this.#opened(signal)).remove(points, signal);
  }

  async *read(range: WindowRange, signal: AbortSignal): AsyncGenerator<StoredPoint> {
    yield* (await this.#opened(signal)).rows({ range }, signal);
  }

  /** For a sink that has `lookUp`. */
  async *lookUp(points: readonly Point[], signal: AbortSignal): AsyncGenerator<StoredPoint> {
    yield* (await this.#opened(signal)).rows({ points }, signal);
  }

  /** A thread that replaced another one has not opened its sink yet. */
  async #opened(signal: AbortSignal): Promise<Thread> {
    for (;;) {
      const thread = this.#running();
      if (thread.isOpen) return thread;
      await thread.open(signal);
    }
  }

  /** The thread of a sink that is open, or was when it moved out. */
  async #asked(signal: AbortSignal): Promise<Thread | undefined> {
    if (this.#thread === undefined && this.#wasOpen) return await this.#opened(signal);
    return this.#thread?.isOpen ? this.#thread : undefined;
  }

  /** Resolves to undefined if the sink is not open, or cannot be asked. */
  async ask(question: Question, signal: AbortSignal): Promise<Answered | undefined> {
    return (await this.#asked(signal))?.ask(question, signal);
  }

  /** In bytes; resolves to undefined if the sink is not open, or does not report it. */
  async storage(signal: AbortSignal): Promise<number | undefined> {
    return (await this.#asked(signal))?.storage(signal);
  }

  /** Of the store; resolves to undefined if the sink is not open, or does not report it. */
  async version(signal: AbortSignal): Promise<string | undefined> {
    return (await this.#asked(signal))?.version(signal);
  }

  async close(): Promise<void> {
    const thread = this.#thread;
    this.#thread = undefined;
    this.#wasOpen = false;
    this.#shared?.leave(this);
    await Promise.all([thread?.end(), this.#movedOut]);
  }

  /** See `Sharer`. */
  moveOut(): void {
    const thread = this.#thread;
    this.#thread = undefined;
    this.#wasOpen = thread?.isOpen ?? false;
    // Whatever fails here: its successor opens the sink again.
    this.#movedOut = thread?.retire().catch(() => {});
  }

  #running(): Thread {
    this.#thread ??= this.#start();
    return this.#thread;
  }

  #start(): Thread {
    if (this.#unended.size >= MAX_UNENDED) {
      const message = `the sink stands still: ${MAX_UNENDED} of its threads wait in calls that nothing interrupts`;
      throw new SinkError('timeout', message, 'Check the path or the address of the store.');
    }
    this.#wasOpen = false;
    const worker = this.#shared?.enter(this) ?? new SinkWorker(`sink ${this.#data.id}`);
    const thread = new Thread(worker, this.#data, this.#log, this.#graceMs, {
      stoodStill: (call) => this.#stoodStill(thread, call),
      ended: () => {
        this.#unended.delete(thread);
        if (this.#thread !== thread) return;
        this.#thread = undefined;
        if (worker.endedByItself) this.#shared?.split('a sink ended the thread');
      },
    });
    return thread;
  }

  #stoodStill(thread: Thread, call: string): void {
    if (this.#thread === thread) this.#thread = undefined;
    this.#unended.add(thread);
    this.#shared?.split('a sink stood still');
    this.#stalls += 1;
    const about = { sink: this.#data.id, call, graceMs: this.#graceMs };
    this.#log.warn(about, 'the sink stood still; its thread is ended, and another one takes its place');
  }
}
