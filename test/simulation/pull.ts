/**
 * One consumer of the stream with two requests, as in src/bus/read/pull.ts, over a network that keeps messages in
 * order.
 */
import type { Instance } from './instance.ts';
import type { SimMessage } from './stream.ts';
import type { World } from './world.ts';

const TICK_MS = 250;
const PAUSE_TICKS = 4;

export interface PullHandlers {
  message(message: SimMessage): void;
  progress(): Promise<void> | undefined;
  /** Nothing has arrived for a second. */
  paused(): void;
  /** Nothing was pending at `askedAt` by the local clock. `last`: the last sequence of the stream. */
  idle(askedAt: number, last: number): Promise<void> | undefined;
}

interface Request {
  remaining: number;
}

export class SimPull {
  readonly #world: World;
  readonly #instance: Instance;
  readonly #handlers: PullHandlers;
  readonly #requests: readonly Request[] = [{ remaining: 0 }, { remaining: 0 }];
  /** What the server may still send for requests that reached it, oldest first. */
  readonly #waiting: { readonly request: Request; left: number }[] = [];
  /** The sequence that the server sends next. */
  #position: number;
  #held: Promise<void> | undefined;
  #isOver = false;
  #isProbing = false;
  #isPumping = false;
  #received = 0;
  #reported = 0;
  #quietTicks = 0;
  #receivedBefore = 0;
  /** The last time of arrival: nothing that is sent later arrives earlier. */
  #arrivesLast = 0;
  #end: (end: 'stopped' | 'lost') => void = () => {};

  constructor(
    world: World,
    instance: Instance,
    position: number,
    held: Promise<void> | undefined,
    handlers: PullHandlers,
  ) {
    this.#world = world;
    this.#instance = instance;
    this.#position = position;
    this.#handlers = handlers;
    this.#hold(held);
  }

  async run(signal: AbortSignal): Promise<'stopped' | 'lost'> {
    const { connection } = this.#instance;
    const ended = new Promise<'stopped' | 'lost'>((resolve) => {
      this.#end = resolve;
    });
    const stop = () => this.#finish('stopped');
    const lose = () => this.#finish('lost');
    const forget = this.#instance.onAbort(signal, stop);
    connection.onLoss(lose);
    if (!connection.connected) lose();
    if (this.#held === undefined) {
      const { batchMessages } = this.#world.scenario;
      this.#ask(this.#requests[0]!, Math.ceil(batchMessages / 2));
      this.#ask(this.#requests[1]!, batchMessages);
    }
    this.#tickLater();
    const end = await ended;
    forget();
    connection.offLoss(lose);
    return end;
  }

  /** Stops as if the consumer were told to. */
  stop(): void {
    this.#finish('stopped');
  }

  #finish(end: 'stopped' | 'lost'): void {
    this.#isOver = true;
    this.#end(end);
  }

  #latency(): number {
    return this.#world.chance.int(1, this.#world.scenario.latencyMs);
  }

  /** Runs on the side of the client, if it is still there. */
  #locally(ms: number, work: () => void): void {
    this.#world.timeline.after(ms, () => {
      if (!this.#isOver && this.#instance.enters()) work();
    });
  }

  /** Messages from the server arrive in the order in which they were sent. */
  #arrive(work: () => void): void {
    const { now } = this.#world.timeline;
    this.#arrivesLast = Math.max(this.#arrivesLast, now + this.#latency());
    this.#locally(this.#arrivesLast - now, work);
  }

  #ask(request: Request, batch: number): void {
    request.remaining = batch;
    this.#world.timeline.after(this.#latency(), () => {
      this.#waiting.push({ request, left: batch });
      this.#pump();
    });
  }

  /** The side of the server: sends the available messages for the waiting requests, in pieces. */
  #pump(): void {
    if (this.#isOver || this.#isPumping) return;
    const { stream, chance, timeline } = this.#world;
    const last = stream.lastSequence(timeline.now);
    this.#position = Math.max(this.#position, Math.min(stream.firstSequence(timeline.now), last + 1));
    const first = this.#waiting[0];
    if (first === undefined) return;
    if (this.#position > last) {
      // A consumer that survives a rollback waits for the stream to reach its position.
      const at = stream.nextAt(this.#position - 1);
      if (at !== undefined) this.#pumpLater(at - timeline.now);
      return;
    }
    const from = this.#position;
    const count = Math.min(first.left, last + 1 - from, chance.int(1, 12));
    this.#position += count;
    first.left -= count;
    if (first.left === 0) this.#waiting.shift();
    // As they are now: the stream may be rolled back while they are in flight.
    const messages = Array.from({ length: count }, (_, i) => stream.at(from + i));
    this.#arrive(() => this.#receive(first.request, messages));
    if (this.#waiting.length > 0) this.#pumpLater(timeline.now % 2);
  }

  #pumpLater(ms: number): void {
    this.#isPumping = true;
    this.#world.timeline.after(ms, () => {
      this.#isPumping = false;
      this.#pump();
    });
  }

  #receive(request: Request, messages: readonly SimMessage[]): void {
    for (const message of messages) {
      this.#received += 1;
      request.remaining -= 1;
      this.#handlers.message(message);
      if (request.remaining === 0) this.#batchDone();
    }
  }

  #batchDone(): void {
    this.#report();
    this.#refill();
  }

  #tickLater(): void {
    this.#locally(TICK_MS, () => {
      this.#tickLater();
      this.#quietTicks = this.#received > this.#receivedBefore ? 0 : this.#quietTicks + 1;
      this.#receivedBefore = this.#received;
      if (this.#quietTicks === PAUSE_TICKS) this.#handlers.paused();
      if (this.#held !== undefined) return;
      if (this.#received > this.#reported) this.#report();
      else if (!this.#isProbing) this.#probe();
      this.#refill();
    });
  }

  #refill(): void {
    if (this.#isOver || this.#held !== undefined) return;
    for (const request of this.#requests) {
      if (request.remaining === 0) this.#ask(request, this.#world.scenario.batchMessages);
    }
  }

  /** Asks for one message without waiting. The answer that there is none comes after everything that was sent. */
  #probe(): void {
    const askedAt = this.#instance.clock.now();
    this.#isProbing = true;
    this.#world.timeline.after(this.#latency(), () => {
      const { stream, timeline } = this.#world;
      const last = stream.lastSequence(timeline.now);
      this.#position = Math.max(this.#position, stream.firstSequence(timeline.now));
      if (this.#position > last) {
        this.#arrive(() => this.#idle(askedAt, last));
        return;
      }
      const message = stream.at(this.#position);
      this.#position += 1;
      this.#arrive(() => {
        this.#isProbing = false;
        this.#received += 1;
        this.#handlers.message(message);
      });
    });
  }

  #idle(askedAt: number, last: number): void {
    this.#isProbing = false;
    if (this.#held !== undefined) return;
    if (this.#received > this.#reported) this.#report();
    if (this.#held === undefined) this.#hold(this.#handlers.idle(askedAt, last));
  }

  #report(): void {
    if (this.#held !== undefined || this.#received === this.#reported) return;
    this.#reported = this.#received;
    this.#hold(this.#handlers.progress());
  }

  #hold(promise: Promise<void> | undefined): void {
    if (promise === undefined) return;
    this.#held = promise;
    void promise.then(() => {
      this.#held = undefined;
      if (!this.#isOver && !this.#instance.dead) this.#batchDone();
    });
  }
}
