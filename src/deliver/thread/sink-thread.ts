/** A thread of sinks. Encoding and socket work are done here, so that they never delay the draining of the bus. */

import { parentPort } from 'node:worker_threads';
import type { Point } from '../../aggregate/point.ts';
import { SeriesObjects, SeriesRecords } from '../../aggregate/series-records.ts';
import { ClosedWindow } from '../../aggregate/window.ts';
import { errorText } from '../../base/error-text.ts';
import { keepHeapSmall } from '../../base/garbage.ts';
import { hideEnvironment } from '../../base/hidden-environment.ts';
import { SharedMemoryCount } from '../../base/shared-memory.ts';
import { importSinkModule } from '../../config/sink-module.ts';
import type { Masker } from '../../settings/masker.ts';
import {
  type Sink,
  SinkError,
  type StoredPoint,
  type WriteOutcome,
  writesSketches,
} from '../../sink/contract.ts';
import { cleaned, createSink, maskerOf } from '../../sink/masked-sink.ts';
import { WindowBatch } from '../lane/batch.ts';
import { type Digest, digestOfRows, digestOfWindow } from '../lane/digest.ts';
import { heldWindows, straysOf } from '../lane/stray-rows.ts';
import { type ChosenNames, nameMatcher } from '../name-choices.ts';
import {
  type Answered,
  type FromThread,
  ROWS_PER_ANSWER,
  type SeatData,
  type ThreadAnswer,
  type ThrownError,
  type ToThread,
} from './messages.ts';

const REMOVED_AT_ONCE = 1_000;

type Send = (message: FromThread) => void;
type Message<K extends ToThread['kind']> = Extract<ToThread, { readonly kind: K }>;

/** Rows that a command reads, part by part. */
interface Reading {
  readonly rows: AsyncIterator<StoredPoint>;
  readonly abort: AbortController;
}

class SinkThread {
  readonly #sink: Sink;
  readonly #objects = new SeriesObjects();
  #records = { number: 0, series: new SeriesRecords([], this.#objects) };
  readonly #windows = new Map<number, ClosedWindow>();
  /** How much shared memory was those windows' own that are forgotten. */
  #forgottenBytes = 0;
  readonly #retired = new SharedMemoryCount();
  readonly #calls = new Map<number, AbortController>();
  readonly #readings = new Map<number, Reading>();
  readonly #writesSketches: boolean;
  readonly #send: Send;
  #isClosed = false;

  constructor(sink: Sink, writesSketches: boolean, send: Send) {
    this.#sink = sink;
    this.#writesSketches = writesSketches;
    this.#send = send;
  }

  /** If the lane gave it up without closing it. */
  close(): void {
    if (this.#isClosed) return;
    for (const call of this.#calls.values()) call.abort();
    this.#close().catch(() => {});
  }

  async #close(): Promise<undefined> {
    this.#isClosed = true;
    await this.#sink.close();
  }

  take(message: ToThread): void {
    switch (message.kind) {
      case 'open':
        this.#answer(message.call, (signal) => this.#sink.open(signal).then(() => undefined));
        break;
      case 'write':
        this.#answer(message.call, (signal) => this.#write(message, signal));
        break;
      case 'write_points':
        this.#answer(message.call, (signal) => this.#sink.write({ points: message.points }, signal));
        break;
      case 'remove':
        this.#answer(message.call, (signal) =>
          this.#sink.remove({ points: message.points }, signal).then(() => undefined),
        );
        break;
      case 'start_reading':
        this.#startReading(message);
        break;
      case 'read_rows':
        this.#answer(message.call, (signal) => this.#readRows(message, signal));
        break;
      case 'end_reading':
        this.#endReading(message);
        break;
      case 'digest':
        this.#answer(message.call, () => digestOfWindow(this.#windows.get(message.window)!, message.names));
        break;
      case 'read_back':
        this.#answer(message.call, (signal) => this.#readBack(message, signal));
        break;
      case 'held_windows':
        this.#answer(message.call, (signal) => heldWindows(this.#sink.read(message.range, signal)));
        break;
      case 'strays':
        this.#answer(message.call, (signal) => this.#strays(message, signal));
        break;
      case 'ask':
        this.#answer(message.call, (signal) => this.#ask(message, signal));
        break;
      case 'storage':
      case 'version':
      case 'identity': {
        const { kind } = message;
        this.#answer(message.call, async (signal) => this.#sink[kind]?.(signal));
        break;
      }
      case 'receipt':
        this.#answer(message.call, async (signal) => this.#sink.receipt?.(message.writer, signal));
        break;
      case 'give_receipt':
        this.#answer(message.call, (signal) => this.#giveReceipt(message, signal));
        break;
      case 'close':
        this.#answer(message.call, () => this.#close());
        break;
      case 'abort':
        this.#calls.get(message.call)?.abort();
        break;
      case 'window':
        this.#keep(message);
        break;
      case 'forget':
        this.#forget(message.window);
        break;
      default:
        message satisfies never;
    }
  }

  #write({ window, indices }: Message<'write'>, signal: AbortSignal): Promise<WriteOutcome> {
    return this.#sink.write(new WindowBatch(this.#windows.get(window)!, indices), signal);
  }

  async #giveReceipt({ writer, time, known }: Message<'give_receipt'>, signal: AbortSignal) {
    return this.#sink.giveReceipt?.(writer, time, known, signal);
  }

  #readBack(
    { from, to, instance, window, names }: Message<'read_back'>,
    signal: AbortSignal,
  ): Promise<Digest> {
    const keys = window === undefined ? undefined : this.#windows.get(window)!;
    const stored =
      keys !== undefined && this.#sink.lookUp !== undefined
        ? this.#sink.lookUp(pointsOf(keys, names), signal)
        : this.#sink.read({ from, to }, signal);
    return digestOfRows(stored, instance, names);
  }

  async #strays(
    { start, windowMs, instance, window, remove, names }: Message<'strays'>,
    signal: AbortSignal,
  ): Promise<number> {
    const keys = window === undefined ? undefined : this.#windows.get(window)!;
    const stored = this.#sink.read({ from: start, to: start + windowMs }, signal);
    const strays = await straysOf(stored, keys, { windowMs, instance, names });
    for (let i = 0; remove && i < strays.length; i += REMOVED_AT_ONCE)
      await this.#sink.remove({ points: strays.slice(i, i + REMOVED_AT_ONCE) }, signal);
    return strays.length;
  }

  #startReading(message: Message<'start_reading'>): void {
    const abort = new AbortController();
    const rows =
      'points' in message
        ? this.#sink.lookUp!(message.points, abort.signal)
        : this.#sink.read(message.range, abort.signal);
    this.#readings.set(message.reading, { rows: rows[Symbol.asyncIterator](), abort });
  }

  async #readRows({ reading }: Message<'read_rows'>, signal: AbortSignal): Promise<readonly StoredPoint[]> {
    const { rows, abort } = this.#readings.get(reading)!;
    signal.addEventListener('abort', () => abort.abort(signal.reason), { once: true });
    const found: StoredPoint[] = [];
    while (found.length < ROWS_PER_ANSWER) {
      const { done, value } = await rows.next();
      if (done) break;
      found.push(value);
    }
    return found;
  }

  #endReading({ reading }: Message<'end_reading'>): void {
    const { rows, abort } = this.#readings.get(reading)!;
    this.#readings.delete(reading);
    abort.abort();
    rows.return?.().catch(() => {});
  }

  async #ask({ question }: Message<'ask'>, signal: AbortSignal): Promise<Answered | undefined> {
    const started = performance.now();
    const rows = await this.#sink.ask?.(question, signal);
    return rows && { rows: rows.length, seconds: (performance.now() - started) / 1000 };
  }

  #keep({ window, records, sketches, ...columns }: Message<'window'>): void {
    // If the records have only grown, objects made from them stay valid.
    const { number, memory, retiredBytes } = records;
    if (this.#records.number === number) this.#records.series.grow(memory);
    else this.#records = { number, series: new SeriesRecords(memory, this.#objects) };
    this.#retired.free(retiredBytes + this.#forgottenBytes);
    const own = { ...columns, records: this.#records.series };
    this.#windows.set(
      window,
      new ClosedWindow(this.#writesSketches && sketches ? { ...own, sketches } : own),
    );
  }

  #forget(window: number): void {
    this.#forgottenBytes += this.#windows.get(window)?.ownBytes ?? 0;
    this.#windows.delete(window);
  }

  #answer(call: number, work: (signal: AbortSignal) => Promise<ThreadAnswer>): void {
    const abort = new AbortController();
    this.#calls.set(call, abort);
    const answered = async () => work(abort.signal);
    answered()
      .then(
        (answer) => this.#send({ kind: 'done', call, answer }),
        (error: unknown) => this.#send({ kind: 'thrown', call, error: describe(error) }),
      )
      .finally(() => this.#calls.delete(call));
  }
}

function* pointsOf(window: ClosedWindow, names?: ChosenNames): Generator<Point> {
  const isChosen = names && nameMatcher(names);
  for (let i = 0; i < window.size; i++) {
    if (isChosen === undefined || isChosen(window.nameOf(i))) yield window.point(i);
  }
}

function describe(error: unknown): ThrownError {
  if (error instanceof SinkError) {
    return { reason: error.reason, message: error.message, advice: error.advice };
  }
  return { reason: undefined, message: errorText(error), advice: '' };
}

/** By id, of every sink that this thread has run: what one that left has begun may still fail, and end the thread. */
const maskers = new Map<string, Masker>();

/** Messages of the lane wait in the port until the sink is made. */
async function seat({ data, port }: SeatData): Promise<void> {
  const { kind, ...described } = data;
  const send: Send = (message) => port.postMessage(message);
  const log = {
    info: (fields: object, message: string) => send({ kind: 'log', level: 'info', fields, message }),
    warn: (fields: object, message: string) => send({ kind: 'log', level: 'warn', fields, message }),
  };
  try {
    // Whoever started the thread has checked it.
    const module = await importSinkModule(kind);
    const sinkOf = { ...described, module };
    maskers.set(data.id, maskerOf(sinkOf, process.env));
    const sink = createSink(sinkOf, log, process.env, connectBus);
    const thread = new SinkThread(sink, writesSketches(module, described.values), send);
    port.on('close', () => thread.close());
    port.on('message', (message: ToThread) => thread.take(message));
  } catch (error) {
    send({ kind: 'failed', error: describe(error) });
  }
}

// The NATS client takes memory, so only a thread with a sink that publishes on the bus loads it.
const connectBus = async () => (await import('../../bus/sink-bus.ts')).connectSinkBus(process.env);

hideEnvironment();
// The error still ends the thread, and the lane's side reports it.
process.on('uncaughtException', (error) => {
  throw [...maskers.values()].reduce(cleaned, error);
});
parentPort!.on('message', (data: SeatData) => void seat(data));
keepHeapSmall();
