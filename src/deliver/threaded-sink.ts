/** A sink in a thread of its own, as its lane sees it. */
import { extname } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import type { Series } from '../aggregate/point.ts';
import type { ClosedWindow } from '../aggregate/window.ts';
import { SinkError, type SinkLog, type WriteOutcome } from '../sink.ts';
import type { WindowBatch } from './batch.ts';
import type { FromThread, ThreadData, ThrownError, ToThread } from './thread-messages.ts';
import type { LaneSink } from './writer.ts';

/** New series that are told in one go: the thread that drains the bus must not stand still for longer. */
const SERIES_PER_MESSAGE = 2000;
/** Windows that the thread keeps besides those that are being written. */
const KEPT_WINDOWS = 4;

type Call = {
  readonly resolve: (outcome: WriteOutcome | undefined) => void;
  readonly reject: (error: Error) => void;
};

export class ThreadedSink implements LaneSink {
  readonly #data: ThreadData;
  readonly #log: SinkLog;
  #thread: Thread | undefined;

  constructor(data: ThreadData, log: SinkLog) {
    this.#data = data;
    this.#log = log;
  }

  async open(signal: AbortSignal): Promise<void> {
    await this.#running().open(signal);
  }

  async write(batch: WindowBatch, signal: AbortSignal): Promise<WriteOutcome> {
    const thread = this.#running();
    // A thread that came up for one that ended knows nothing of it being open.
    if (!thread.isOpen) await thread.open(signal);
    return thread.write(batch, signal);
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
  /** By number: what the thread takes it for. */
  readonly #told: Series[] = [];
  /** What the thread keeps, in the order of use, and how many of its writes are under way. */
  readonly #windows = new Map<ClosedWindow, { readonly number: number; writes: number }>();
  #lastWindow = 0;
  /** Windows are told one after the other: a series' number has one meaning at a time. */
  #telling: Promise<unknown> = Promise.resolve();

  constructor(data: ThreadData, log: SinkLog, ended: (thread: Thread) => void) {
    // Beside this file, with its ending: the sources run as they are, or compiled.
    const url = new URL(`./sink-thread${extname(import.meta.url)}`, import.meta.url);
    this.#worker = new Worker(url, { workerData: data, name: `sink ${data.id}` });
    this.#worker.on('message', (message: FromThread) => this.#take(message, log));
    this.#worker.on('error', (thrown: unknown) => {
      this.#ended = new Error(
        `the thread of the sink failed: ${thrown instanceof Error ? thrown.message : String(thrown)}`,
      );
    });
    this.#worker.on('exit', () => {
      this.#ended ??= new Error('the thread of the sink ended');
      for (const { reject } of this.#calls.values()) reject(this.#ended);
      this.#calls.clear();
      ended(this);
    });
    this.#worker.unref();
  }

  async open(signal: AbortSignal): Promise<void> {
    this.isOpen = false;
    await this.#call(signal, (call) => ({ kind: 'open', call }));
    this.isOpen = true;
  }

  async write(batch: WindowBatch, signal: AbortSignal): Promise<WriteOutcome> {
    const kept = await this.#tell(batch.window);
    try {
      const { number: window } = kept;
      const outcome = await this.#call(signal, (call) => ({
        kind: 'write',
        call,
        window,
        indices: batch.indices,
      }));
      return outcome!;
    } finally {
      kept.writes -= 1;
      this.#forgetOldest();
    }
  }

  async end(): Promise<void> {
    try {
      await this.#call(undefined, (call) => ({ kind: 'close', call }));
    } finally {
      await this.#worker.terminate();
    }
  }

  #take(message: FromThread, log: SinkLog): void {
    switch (message.kind) {
      case 'done':
        this.#calls.get(message.call)?.resolve(message.outcome);
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

  #call(signal: AbortSignal | undefined, say: (call: number) => ToThread): Promise<WriteOutcome | undefined> {
    this.#lastCall += 1;
    const call = this.#lastCall;
    const abort = () => this.#post({ kind: 'abort', call });
    signal?.addEventListener('abort', abort, { once: true });
    return new Promise<WriteOutcome | undefined>((resolve, reject) => {
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

  /** Makes sure that the thread has the window, and will have it until the write is over. */
  #tell(window: ClosedWindow) {
    const told = this.#telling.then(async () => {
      const kept = this.#windows.get(window) ?? (await this.#send(window));
      kept.writes += 1;
      this.#windows.delete(window);
      this.#windows.set(window, kept);
      return kept;
    });
    this.#telling = told.catch(() => {});
    return told;
  }

  async #send(window: ClosedWindow) {
    const { start, windowMs, instance, numbers, rows, values } = window;
    await this.#sendSeries(window);
    this.#lastWindow += 1;
    const number = this.#lastWindow;
    this.#post({ kind: 'window', window: number, start, windowMs, instance, numbers, rows, values });
    return { number, writes: 0 };
  }

  async #sendSeries({ numbers, series }: ClosedWindow): Promise<void> {
    let fresh: number[] = [];
    for (let i = 0; i < series.length; i++) {
      if (this.#told[numbers[i]!] !== series[i]) fresh.push(i);
      if (fresh.length < SERIES_PER_MESSAGE && i < series.length - 1) continue;
      if (fresh.length === 0) return;
      const told = fresh.map((index) => series[index]!);
      this.#post({
        kind: 'series',
        numbers: fresh.map((index) => numbers[index]!),
        names: told.map(({ name }) => name),
        types: told.map(({ type }) => type),
        dimensions: told.map(({ dimensionsJson }) => dimensionsJson),
      });
      for (const index of fresh) this.#told[numbers[index]!] = series[index]!;
      fresh = [];
      await nextTurn();
    }
  }

  #forgetOldest(): void {
    for (const [window, { number, writes }] of this.#windows) {
      if (this.#windows.size <= KEPT_WINDOWS) return;
      if (writes > 0) continue;
      this.#windows.delete(window);
      this.#post({ kind: 'forget', window: number });
    }
  }
}

function errorOf({ reason, message, advice }: ThrownError): Error {
  return reason === undefined ? new Error(message) : new SinkError(reason, message, advice);
}
