/** A sink that runs in its own thread, as its lane sees it. */
import { extname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import type { SeriesRecords } from '../../aggregate/series-records.ts';
import type { ClosedWindow } from '../../aggregate/window.ts';
import {
  type Question,
  type ReadBack,
  SinkError,
  type SinkLog,
  type WriteOutcome,
} from '../../sink/contract.ts';
import type { WindowBatch } from '../lane/batch.ts';
import type { Digest } from '../lane/digest.ts';
import type { LaneSink, SinkDigests } from '../lane/writer.ts';
import type { Answered, FromThread, ThreadAnswer, ThreadData, ThrownError, ToThread } from './messages.ts';

/**
 * The part of a thread's heap for short-lived objects. By default V8 takes up to 96 MB for each thread, and gives it
 * back late.
 */
const YOUNG_HEAP_MB = 24;
/** A thread that does not report in time that its sink is closed is ended anyway. */
const CLOSE_TIMEOUT_MS = 2000;
/** How many windows the thread keeps; those in use are kept regardless. */
const KEPT_WINDOWS = 4;

type Call = {
  readonly resolve: (answer: ThreadAnswer) => void;
  readonly reject: (error: Error) => void;
};

interface KeptWindow {
  readonly number: number;
  /** Calls under way that need it. */
  uses: number;
}

export class ThreadedSink implements LaneSink {
  readonly #data: ThreadData;
  readonly #log: SinkLog;
  readonly digests: SinkDigests | undefined;
  #thread: Thread | undefined;

  /** `readBack`: see `SinkModule`. */
  constructor(data: ThreadData, log: SinkLog, readBack: ReadBack = 'ranges') {
    this.#data = data;
    this.#log = log;
    if (readBack === 'none') return;
    this.digests = {
      ofWindow: async (window) => this.#running().digest(window),
      ofStore: async (window, keys, signal) => (await this.#opened(signal)).readBack(window, keys, signal),
      needsKeys: readBack === 'keys',
    };
  }

  async open(signal: AbortSignal): Promise<void> {
    await this.#running().open(signal);
  }

  async write(batch: WindowBatch, signal: AbortSignal): Promise<WriteOutcome> {
    return (await this.#opened(signal)).write(batch, signal);
  }

  /** A thread that replaced one that ended has not opened its sink yet. */
  async #opened(signal: AbortSignal): Promise<Thread> {
    const thread = this.#running();
    if (!thread.isOpen) await thread.open(signal);
    return thread;
  }

  /** Resolves to undefined if the sink is not open, or cannot be asked. */
  async ask(question: Question, signal: AbortSignal): Promise<Answered | undefined> {
    return this.#thread?.isOpen ? await this.#thread.ask(question, signal) : undefined;
  }

  /** In bytes; resolves to undefined if the sink is not open, or does not report it. */
  async storage(signal: AbortSignal): Promise<number | undefined> {
    return this.#thread?.isOpen ? await this.#thread.storage(signal) : undefined;
  }

  async close(): Promise<void> {
    const thread = this.#thread;
    this.#thread = undefined;
    await thread?.end();
  }

  #running(): Thread {
    this.#thread ??= new Thread(this.#data, this.#log, (ended) => {
      if (this.#thread === ended) this.#thread = undefined;
    });
    return this.#thread;
  }
}

/** One thread, from its start to its end. */
class Thread {
  isOpen = false;
  readonly #worker: Worker;
  readonly #calls = new Map<number, Call>();
  #lastCall = 0;
  #ended: Error | undefined;
  /** The records of the window sent last. */
  #records: SeriesRecords | undefined;
  #recordsNumber = 0;
  /** The windows that the thread keeps, in order of use. */
  readonly #windows = new Map<ClosedWindow, KeptWindow>();
  #lastWindow = 0;

  constructor(data: ThreadData, log: SinkLog, ended: (thread: Thread) => void) {
    // Next to this file, with the same extension, because the sources run as they are or compiled.
    const url = new URL(`./sink-thread${extname(import.meta.url)}`, import.meta.url);
    this.#worker = new Worker(url, {
      workerData: data,
      name: `sink ${data.id}`,
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_HEAP_MB },
    });
    this.#worker.on('message', (message: FromThread) => this.#take(message, log));
    this.#worker.on('error', (thrown: unknown) => {
      this.#ended = new Error(
        `the sink's thread failed: ${thrown instanceof Error ? thrown.message : String(thrown)}`,
      );
    });
    this.#worker.on('exit', () => {
      this.#fail();
      ended(this);
    });
    this.#worker.unref();
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

  async digest(window: ClosedWindow): Promise<Digest> {
    return (await this.#with(window, (number) =>
      this.#call(undefined, (call) => ({ kind: 'digest', call, window: number })),
    )) as Digest;
  }

  async readBack(
    { start, windowMs, instance }: Pick<ClosedWindow, 'start' | 'windowMs' | 'instance'>,
    keys: ClosedWindow | undefined,
    signal: AbortSignal,
  ): Promise<Digest> {
    const range = { from: start, to: start + windowMs };
    const ask = (window: number | undefined) =>
      this.#call(signal, (call) => ({ kind: 'read_back', call, ...range, instance, window }));
    return (await (keys === undefined ? ask(undefined) : this.#with(keys, ask))) as Digest;
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

  async storage(signal: AbortSignal): Promise<number | undefined> {
    return (await this.#call(signal, (call) => ({ kind: 'storage', call }))) as number | undefined;
  }

  /** Ends the thread. Calls still under way fail, so that no caller waits for a thread that has stopped. */
  async end(): Promise<void> {
    const closed = new AbortController();
    try {
      const late = sleep(CLOSE_TIMEOUT_MS, undefined, { signal: closed.signal }).catch(() => {});
      await Promise.race([this.#call(undefined, (call) => ({ kind: 'close', call })), late]);
    } finally {
      closed.abort();
      this.#fail();
      await this.#worker.terminate();
    }
  }

  #fail(): void {
    this.#ended ??= new Error("the sink's thread ended");
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
    const abort = () => this.#post({ kind: 'abort', call });
    signal?.addEventListener('abort', abort, { once: true });
    return new Promise<ThreadAnswer>((resolve, reject) => {
      if (this.#ended) throw this.#ended;
      this.#calls.set(call, { resolve, reject });
      this.#post(say(call));
      if (signal?.aborted) abort();
    }).finally(() => {
      signal?.removeEventListener('abort', abort);
      this.#calls.delete(call);
    });
  }

  #post(message: ToThread): void {
    this.#worker.postMessage(message);
  }

  #tell(window: ClosedWindow): KeptWindow {
    const kept = this.#windows.get(window) ?? this.#send(window);
    kept.uses += 1;
    this.#windows.delete(window);
    this.#windows.set(window, kept);
    return kept;
  }

  #send(window: ClosedWindow): KeptWindow {
    const { start, windowMs, instance, refs, rows, values, records } = window;
    if (this.#records !== records) {
      this.#records = records;
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
      records: { number: this.#recordsNumber, memory: records.memory },
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
