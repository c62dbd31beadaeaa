/** The thread of one sink: encoding and socket work are done here, so that they never delay the draining of the bus. */
import { parentPort, workerData } from 'node:worker_threads';
import type { Series } from '../aggregate/point.ts';
import { makeSeries } from '../aggregate/series.ts';
import { ClosedWindow } from '../aggregate/window.ts';
import { type Sink, SinkError, type WriteOutcome } from '../sink.ts';
import { loadModule } from '../sink-config.ts';
import { WindowBatch } from './batch.ts';
import type { FromThread, ThreadData, ThrownError, ToThread } from './thread-messages.ts';

type Message<K extends ToThread['kind']> = Extract<ToThread, { readonly kind: K }>;

class SinkThread {
  readonly #sink: Sink;
  /** By number: a series may have another one's number after that was forgotten. */
  readonly #series: Series[] = [];
  readonly #windows = new Map<number, ClosedWindow>();
  readonly #calls = new Map<number, AbortController>();

  constructor(sink: Sink) {
    this.#sink = sink;
  }

  take(message: ToThread): void {
    switch (message.kind) {
      case 'open':
        this.#answer(message.call, (signal) => this.#sink.open(signal).then(() => undefined));
        break;
      case 'write':
        this.#answer(message.call, (signal) => this.#write(message, signal));
        break;
      case 'close':
        this.#answer(message.call, () => this.#sink.close().then(() => undefined));
        break;
      case 'abort':
        this.#calls.get(message.call)?.abort();
        break;
      case 'series':
        this.#learn(message);
        break;
      case 'window':
        this.#keep(message);
        break;
      case 'forget':
        this.#windows.delete(message.window);
        break;
      default:
        message satisfies never;
    }
  }

  #write({ window, indices }: Message<'write'>, signal: AbortSignal): Promise<WriteOutcome> {
    return this.#sink.write(new WindowBatch(this.#windows.get(window)!, indices), signal);
  }

  #learn({ numbers, names, types, dimensions }: Message<'series'>): void {
    for (let i = 0; i < numbers.length; i++) {
      const pairs = Object.entries(JSON.parse(dimensions[i]!) as Record<string, string>);
      this.#series[numbers[i]!] = makeSeries(names[i]!, types[i]!, pairs);
    }
  }

  /** The series are looked up now: a number may be another one's later. */
  #keep({ window, start, windowMs, instance, numbers, rows, values }: Message<'window'>): void {
    const series = Array.from(numbers, (number) => this.#series[number]!);
    const columns = { start, windowMs, instance, series, numbers, rows, values };
    this.#windows.set(window, new ClosedWindow(columns));
  }

  #answer(call: number, work: (signal: AbortSignal) => Promise<WriteOutcome | undefined>): void {
    const abort = new AbortController();
    this.#calls.set(call, abort);
    const answered = async () => work(abort.signal);
    answered()
      .then(
        (outcome) => send({ kind: 'done', call, outcome }),
        (error: unknown) => send({ kind: 'thrown', call, error: describe(error) }),
      )
      .finally(() => this.#calls.delete(call));
  }
}

function send(message: FromThread): void {
  parentPort!.postMessage(message);
}

function describe(error: unknown): ThrownError {
  if (error instanceof SinkError) {
    return { reason: error.reason, message: error.message, advice: error.advice };
  }
  return { reason: undefined, message: error instanceof Error ? error.message : String(error), advice: '' };
}

const { id, kind, values } = workerData as ThreadData;
const module = await loadModule(kind);
if (typeof module === 'string') throw new Error(module);
const log = {
  info: (fields: object, message: string) => send({ kind: 'log', level: 'info', fields, message }),
  warn: (fields: object, message: string) => send({ kind: 'log', level: 'warn', fields, message }),
};
const thread = new SinkThread(module.create(values, { id, log }));
parentPort!.on('message', (message: ToThread) => thread.take(message));
