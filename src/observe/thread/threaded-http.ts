/** The HTTP thread, as the main thread sees it. One that ends is replaced, so that the port never goes unanswered. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Worker } from 'node:worker_threads';
import { errorText } from '../../base/error-text.ts';
import { startThread } from '../../base/limited-thread.ts';
import { ownModule } from '../../base/own-program.ts';
import type { HttpReply, ServiceCall } from '../http-routes.ts';
import { ListenError } from '../listen-error.ts';
import type { FromHttpThread, HttpThreadData, ToHttpThread } from './messages.ts';

/** The part of the thread's heap for short-lived objects: what requests leave behind. */
const YOUNG_HEAP_MB = 4;
/** All other objects. A thousand connections take some 20 MB; what is sent over them lies outside of the heap. */
const OLD_HEAP_MB = 96;
/** Before a thread that ended is replaced, in milliseconds: one that ends at once must not take all of a processor. */
const RESTART_PAUSE_MS = 1_000;
/** Events that the thread has not taken yet. Further ones are left out: each tells everything that pages show. */
const MAX_UNTAKEN_EVENTS = 8;

/** What the thread needs of the service. No call may throw or reject. */
export interface HttpThreadService {
  readonly answer: (call: ServiceCall, left: AbortSignal) => Promise<HttpReply>;
  /** See `EventFeed`. */
  readonly subscribe: (send: (event: string) => void) => () => void;
  /** The thread ended, and another one is started. */
  readonly replaced: (reason: string) => void;
}

/** One thread, from its start to its end. */
class HttpThread {
  /** Resolves to the port. Rejects with a `ListenError`, or if the thread ends before that. */
  readonly listening: Promise<number>;
  /** Resolves to the reason. */
  readonly ended: Promise<string>;
  readonly #worker: Worker;
  readonly #service: HttpThreadService;
  readonly #taken: Int32Array;
  /** The bytes of the last reply that had any: the thread keeps them, so they are not copied again. */
  readonly #posted = new Map<ServiceCall['kind'], Uint8Array>();
  /** By number of a call that is being answered: aborts when nobody waits for the reply any longer. */
  readonly #left = new Map<number, AbortController>();
  #events = 0;
  #unsubscribe: (() => void) | undefined;

  constructor(data: Omit<HttpThreadData, 'taken'>, service: HttpThreadService) {
    this.#service = service;
    const taken = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
    this.#taken = taken;
    const threadData: HttpThreadData = { ...data, taken };
    const limits = { young: YOUNG_HEAP_MB, old: OLD_HEAP_MB };
    this.#worker = startThread(ownModule('observe/thread/http-thread'), 'http', threadData, limits);
    const listening = Promise.withResolvers<number>();
    const ended = Promise.withResolvers<string>();
    this.listening = listening.promise;
    this.ended = ended.promise;
    this.listening.catch(() => {});
    const where = `${data.host.includes(':') ? `[${data.host}]` : data.host}:${data.port}`;
    let reason = 'it ended by itself';
    this.#worker.on('message', (message: FromHttpThread) => {
      if (message.kind === 'listening') listening.resolve(message.port);
      else if (message.kind === 'cannot_listen') listening.reject(new ListenError(where, message.reason));
      else this.#take(message);
    });
    this.#worker.on('error', (error: unknown) => {
      reason = errorText(error);
    });
    this.#worker.on('exit', () => {
      this.#setEvents(false);
      for (const left of this.#left.values()) left.abort();
      listening.reject(new Error(`the HTTP thread ended before it listened: ${reason}`));
      ended.resolve(reason);
    });
  }

  async terminate(): Promise<void> {
    this.#setEvents(false);
    await this.#worker.terminate();
  }

  #take(message: Exclude<FromHttpThread, { kind: 'listening' | 'cannot_listen' }>): void {
    switch (message.kind) {
      case 'call':
        void this.#answer(message.number, message.call);
        break;
      case 'left':
        this.#left.get(message.number)?.abort();
        break;
      case 'subscribe':
        this.#setEvents(true);
        break;
      case 'unsubscribe':
        this.#setEvents(false);
        break;
      default:
        message satisfies never;
    }
  }

  async #answer(number: number, call: ServiceCall): Promise<void> {
    const left = new AbortController();
    this.#left.set(number, left);
    const reply = await this.#service.answer(call, left.signal);
    this.#left.delete(number);
    const isRepeated = typeof reply.body !== 'string' && this.#posted.get(call.kind) === reply.body;
    if (typeof reply.body !== 'string') this.#posted.set(call.kind, reply.body);
    this.#post({ kind: 'reply', number, reply: isRepeated ? undefined : reply });
  }

  #setEvents(on: boolean): void {
    this.#unsubscribe?.();
    this.#unsubscribe = on ? this.#service.subscribe((event) => this.#tell(event)) : undefined;
  }

  #tell(event: string): void {
    if (this.#events - Atomics.load(this.#taken, 0) >= MAX_UNTAKEN_EVENTS) return;
    this.#events += 1;
    this.#post({ kind: 'event', event });
  }

  #post(message: ToHttpThread): void {
    this.#worker.postMessage(message);
  }
}

export class ThreadedHttp {
  /** Rejects if a thread that ended cannot be replaced. */
  readonly failed: Promise<never>;
  readonly port: number;
  readonly #closing = new AbortController();
  readonly #start: () => HttpThread;
  readonly #service: HttpThreadService;
  #thread: HttpThread;

  private constructor(port: number, first: HttpThread, start: () => HttpThread, service: HttpThreadService) {
    this.port = port;
    this.#thread = first;
    this.#start = start;
    this.#service = service;
    const failed = Promise.withResolvers<never>();
    this.failed = failed.promise;
    this.failed.catch(() => {});
    this.#keep().catch((error: unknown) => {
      if (!this.#closing.signal.aborted) failed.reject(error);
    });
  }

  /** Resolves when it listens. Rejects with a `ListenError`. */
  static async start(data: Omit<HttpThreadData, 'taken'>, service: HttpThreadService): Promise<ThreadedHttp> {
    const first = new HttpThread(data, service);
    try {
      const port = await first.listening;
      return new ThreadedHttp(port, first, () => new HttpThread({ ...data, port }, service), service);
    } catch (error) {
      await first.terminate();
      throw error;
    }
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#thread.terminate();
  }

  async #keep(): Promise<void> {
    const { signal } = this.#closing;
    for (;;) {
      const reason = await this.#thread.ended;
      signal.throwIfAborted();
      this.#service.replaced(reason);
      await sleep(RESTART_PAUSE_MS, undefined, { signal });
      this.#thread = this.#start();
      await this.#thread.listening;
    }
  }
}
