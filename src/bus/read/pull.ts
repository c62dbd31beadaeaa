/**
 * Reads one JetStream consumer by pull requests of our own, on plain subscriptions: less than half of what the
 * client's own consumers cost per message.
 *
 * Two requests are outstanding at a time, so that the server always has one to fill; that is also all that can be on
 * its way to a reader who holds us back. Each request has a subscription of its own, which tells whose messages come.
 *
 * A reader who is level with a busy stream would be woken for every few messages, which costs more than reading them.
 * So it asks at a pace instead: for all that there is, and again a little later.
 */

import { createInbox, type Msg, nanos, type Subscription } from 'nats';
import { newRawMessage, type RawMessage } from '../../decode/raw-message.ts';
import type { Bus } from '../connect.ts';
import type { FrameSink } from '../frames.ts';
import { incoming } from '../headers.ts';
import type { Envelope } from '../message.ts';
import { prefixLength, ReplySubject } from './reply-subject.ts';

/** Messages per request: a server gives up on a client that has 64 MB unread, so the bytes are bounded as well. */
const BATCH_MESSAGES = 10_000;
const BATCH_BYTES = 8 * 1024 * 1024;
/** JetStream's reply subjects are shorter by far; what is behind this is not read. */
const MAX_REPLY_BYTES = 4096;
/** A request that is not filled ends after this; it is then made again. */
const REQUEST_EXPIRES_MS = 30_000;
/**
 * How often progress is told while less than a batch arrives, and how often the server is asked whether all is read.
 */
export const TICK_MS = 250;
/** So many ticks without any word from the server, though it was asked: the consumer is gone. */
const SILENT_TICKS = 40;
/**
 * A request whose bytes are used up to the last one is over, and the server does not say so. One that gets nothing for
 * so many ticks, while messages are pending and others get some, is taken to be such a one. At a pace there are no
 * others: it is enough that the server answers a probe asked later. Where it answers nothing it hangs, and what comes
 * late would be counted to the next request.
 */
const STARVED_TICKS = 2;
/** Between two requests at a pace. Far less than any lateness that is of use. */
const PACE_MS = 20;
/** From so many messages a second on. Below, being woken for each costs less than what asking adds. */
const PACED_RATE = 10_000;
/** Who has no more than so many left to read is level with the stream. */
const PACED_PENDING = 2_000;
const STATUS = {
  heartbeat: 100,
  noMessages: 404,
  conflict: 409,
  noResponders: 503,
  badRequest: 400,
} as const;

/** Calls come one after the other. What they throw or reject with ends the reading. */
export interface PullHandlers {
  message(message: RawMessage, envelope: Envelope, reply: ReplySubject): void;
  /** See `Reader`. */
  readonly flush?: (() => void) | undefined;
  /** After each batch, and on every tick in which messages came. A promise holds further requests. */
  progress(): void | Promise<void>;
  /** All that the stream held when the server was asked, at `askedAt` by the local clock, has been handed over. */
  idle(askedAt: number): void | Promise<void>;
}

export type PullEnd =
  | { readonly kind: 'stopped' }
  /** A new consumer has to go on behind the last message. */
  | { readonly kind: 'lost'; readonly reason: string }
  /** A handler threw. */
  | { readonly kind: 'failed'; readonly error: unknown };

interface Request {
  readonly inbox: string;
  readonly subscription: Subscription;
  readonly endFrames: () => void;
  /** Messages that may still come; 0: it is over. */
  remaining: number;
  received: number;
  /** The server answers at once with what there is, and is done. */
  isPaced: boolean;
  /** By the local clock: when it was asked, and since when its messages have come together. */
  askedAt: number;
  since: number;
  /** How many it had received at the last tick, and for how many ticks nothing more has come though it should have. */
  seen: number;
  starvedTicks: number;
}

export class Pull {
  readonly ended: Promise<PullEnd>;
  readonly #bus: Bus;
  readonly #subject: string;
  readonly #handlers: PullHandlers;
  readonly #now: () => number;
  readonly #requests: Request[];
  readonly #probe: Request;
  readonly #timer: NodeJS.Timeout;
  readonly #stopListening: () => void;
  #resolveEnd: (end: PullEnd) => void = () => {};
  /** Of the message that came last; undefined before the first. */
  #reply: ReplySubject | undefined;
  readonly #replyBytes = Buffer.alloc(MAX_REPLY_BYTES);
  #received = 0;
  /** How many had been received at the last tick. */
  #seen = 0;
  /** How many of the received messages `progress` has been told of. */
  #reported = 0;
  #isOver = false;
  #isHeld = false;
  #held: Promise<void> = Promise.resolve();
  #silentTicks = 0;
  /** The next message is larger than a request's bytes: ask for it alone, without a bound. */
  #isOversized = false;
  readonly #message = newRawMessage();
  /** Whether what is asked for next is asked for at a pace. */
  #isPaced = false;
  #pause: NodeJS.Timeout | undefined;

  constructor(
    bus: Bus,
    consumer: { stream: string; name: string },
    handlers: PullHandlers,
    now: () => number,
  ) {
    this.#bus = bus;
    this.#subject = `$JS.API.CONSUMER.MSG.NEXT.${consumer.stream}.${consumer.name}`;
    this.#handlers = handlers;
    this.#now = now;
    this.ended = new Promise((resolve) => {
      this.#resolveEnd = resolve;
    });
    this.#requests = [this.#subscribe(), this.#subscribe()];
    this.#probe = this.#subscribe();
    this.#timer = setInterval(() => this.#guard(() => this.#tick()), TICK_MS);
    // The server may have sent to the lost connection what it will not send again.
    this.#stopListening = bus.onReconnect(() => this.#lost('the connection was lost'));
    // Half a batch at first: from then on the two end in turns.
    this.#guard(() => {
      this.#ask(this.#requests[0]!, BATCH_MESSAGES / 2);
      this.#ask(this.#requests[1]!, BATCH_MESSAGES);
    });
  }

  stop(): void {
    this.#end({ kind: 'stopped' });
  }

  /** Settles when the reader has done with what it was told, and as that does; at once where it asked for no time. */
  get held(): Promise<void> {
    return this.#held;
  }

  #subscribe(): Request {
    const inbox = createInbox(this.#bus.inboxPrefix);
    const subscription = this.#bus.connection.subscribe(inbox, {
      // Nothing may leave this callback: an exception would end the client's reader for good, in silence.
      callback: (error, message) => {
        if (this.#isOver) return;
        try {
          if (error) this.#lost('the bus refused the inbox');
          else this.#onMessage(request, message);
        } catch (thrown) {
          this.#end({ kind: 'failed', error: thrown });
        }
      },
    });
    const frames = this.#framesOf(() => request);
    const endFrames = this.#bus.frames?.listen(subscription.getID(), frames) ?? (() => {});
    const counts = { remaining: 0, received: 0, seen: 0, starvedTicks: 0 };
    const state = { isPaced: false, askedAt: 0, since: 0, ...counts };
    const request: Request = { inbox, subscription, endFrames, ...state };
    return request;
  }

  /** The same for messages without headers, where frames are received. The first reply subject comes the other way. */
  #framesOf(request: () => Request): FrameSink {
    const subjected = new FrameSubject();
    const { flush } = this.#handlers;
    return {
      flush: flush && (() => this.#guard(flush)),
      reply: (bytes, start, end) => this.#reply?.read(bytes, start, end) ?? -1,
      frame: (bytes, subjectStart, subjectEnd, start, end) => {
        if (this.#isOver) return;
        subjected.isAt(bytes, subjectStart, subjectEnd);
        try {
          this.#onDelivery(request(), subjected, bytes, start, end);
        } catch (thrown) {
          this.#end({ kind: 'failed', error: thrown });
        }
      },
    };
  }

  #onMessage(request: Request, message: Msg): void {
    this.#silentTicks = 0;
    const { data, reply = '' } = message;
    if (reply === '') {
      this.#onStatus(request, message);
      return;
    }
    const parsed = this.#reply ?? this.#firstReply(reply);
    if (parsed === undefined) return;
    parsed.read(this.#replyBytes, 0, this.#replyBytes.write(reply, 'latin1'));
    this.#onDelivery(request, incoming(message), data, 0, data.length);
  }

  /** Its reply subject is the one read last. */
  #onDelivery(request: Request, envelope: Envelope, bytes: Uint8Array, start: number, end: number): void {
    const reply = this.#reply!;
    this.#silentTicks = 0;
    // The consumer numbers what it delivers: any message that got lost on the way shows here, before the next is used.
    if (reply.consumerSequence !== this.#received + 1) {
      this.#lost(`delivery ${this.#received + 1} did not arrive`);
      return;
    }
    this.#received += 1;
    request.received += 1;
    request.remaining -= 1;
    const message = this.#message;
    message.bytes = bytes;
    message.start = start;
    message.end = end;
    message.streamTime = reply.timeMs;
    message.sequence = reply.streamSequence;
    this.#handlers.message(message, envelope, reply);
    if (request.remaining === 0 && request !== this.#probe) this.#over(request);
  }

  #firstReply(reply: string): ReplySubject | undefined {
    const prefix = prefixLength(reply);
    if (prefix === undefined) this.#lost(`a message without JetStream's reply subject came: ${reply}`);
    else this.#reply = new ReplySubject(prefix);
    return this.#reply;
  }

  #onStatus(request: Request, message: Msg): void {
    const code = message.headers?.code ?? 0;
    const text = message.headers?.description ?? '';
    // Of a complete batch (nats-server from 2.10 on) the count has told, and the inbox was used to ask again since.
    if (code === STATUS.heartbeat || /batch completed/i.test(text)) return;
    if (code === STATUS.noResponders || code === STATUS.badRequest || /deleted|push based/i.test(text)) {
      this.#lost(`the consumer is gone (${code} ${text})`);
      return;
    }
    request.remaining = 0;
    if (request === this.#probe) {
      if (code === STATUS.noMessages) this.#idle();
      return;
    }
    if (code === STATUS.conflict && /message size/i.test(text) && request.received === 0)
      this.#isOversized = true;
    this.#over(request);
  }

  #over(request: Request): void {
    const isLevel = (this.#reply?.pending ?? 0) <= PACED_PENDING;
    const wanted = ((this.#now() - request.since) * PACED_RATE) / 1_000;
    this.#isPaced = isLevel && request.received > 0 && request.received >= wanted;
    // One that brought nothing is made again by the next tick: whatever ended it, there is no racing with the server.
    if (request.received > 0) this.#batchDone();
  }

  #batchDone(): void {
    if (this.#received > this.#reported) this.#report();
    this.#refill();
  }

  #tick(): void {
    if (this.#isHeld || !this.#bus.connected) return;
    this.#endStarved();
    if (this.#received > this.#reported) this.#report();
    else if (this.#probe.remaining === 0) this.#ask(this.#probe, 1);
    else if (++this.#silentTicks > SILENT_TICKS) this.#lost('the server does not answer');
    this.#refill();
  }

  #endStarved(): void {
    const isServing = this.#received > this.#seen && (this.#reply?.pending ?? 0) > 0;
    const probe = this.#probe;
    this.#seen = this.#received;
    for (const request of this.#requests) {
      const isPassedOver = probe.remaining === 0 && probe.askedAt > request.askedAt;
      const isDue = request.isPaced ? isPassedOver : isServing && request.received > 0;
      if (request.received > request.seen) request.starvedTicks = 0;
      else if (isDue && request.remaining > 0) request.starvedTicks += 1;
      request.seen = request.received;
      if (request.starvedTicks < STARVED_TICKS) continue;
      request.remaining = 0;
      this.#isPaced = false;
    }
  }

  #refill(): void {
    if (this.#isOver || this.#isHeld || this.#pause !== undefined) return;
    if (this.#isPaced) {
      if (this.#requests.every(({ remaining }) => remaining === 0)) this.#askAfterPause(this.#now());
      return;
    }
    for (const request of this.#requests) {
      if (request.remaining === 0) this.#ask(request, this.#isOversized ? 1 : BATCH_MESSAGES);
    }
  }

  #askAfterPause(since: number): void {
    this.#pause = setTimeout(() => {
      this.#pause = undefined;
      this.#guard(() => {
        // Else it is asked when the reader has done, or the connection is back.
        if (!this.#isOver && !this.#isHeld && this.#bus.connected)
          this.#ask(this.#requests[0]!, BATCH_MESSAGES, since);
      });
    }, PACE_MS);
  }

  /** `pacedSince`: at a pace, when what was read before was over. */
  #ask(request: Request, batch: number, pacedSince?: number): void {
    const isProbe = request === this.#probe;
    const isUnbounded = isProbe || (this.#isOversized && batch === 1);
    if (isUnbounded && !isProbe) this.#isOversized = false;
    const isPaced = pacedSince !== undefined;
    const body = {
      batch,
      ...(isProbe || isPaced ? { no_wait: true } : { expires: nanos(REQUEST_EXPIRES_MS) }),
      ...(isUnbounded ? {} : { max_bytes: BATCH_BYTES }),
    };
    request.remaining = batch;
    request.received = 0;
    request.isPaced = isPaced;
    request.askedAt = this.#now();
    request.since = pacedSince ?? request.askedAt;
    request.seen = 0;
    request.starvedTicks = 0;
    this.#bus.connection.publish(this.#subject, JSON.stringify(body), { reply: request.inbox });
  }

  #report(): void {
    if (this.#isHeld) return;
    this.#reported = this.#received;
    this.#hold(this.#handlers.progress());
  }

  #idle(): void {
    if (this.#isHeld) return;
    // Messages that came before the answer are told of first.
    if (this.#received > this.#reported) this.#report();
    if (!this.#isHeld) this.#hold(this.#handlers.idle(this.#probe.askedAt));
  }

  /** The reader asks for time: nothing more is requested until it has caught up. */
  #hold(promise: void | Promise<void>): void {
    if (promise === undefined) return;
    this.#isHeld = true;
    this.#held = promise.then(
      () => {
        this.#isHeld = false;
        if (this.#isOver) return;
        this.#guard(() => this.#batchDone());
      },
      (error: unknown) => {
        this.#end({ kind: 'failed', error });
        throw error;
      },
    );
    this.#held.catch(() => {});
  }

  #guard(work: () => void): void {
    try {
      work();
    } catch (error) {
      if (this.#bus.connection.isClosed()) this.#lost('the connection was closed');
      else this.#end({ kind: 'failed', error });
    }
  }

  #lost(reason: string): void {
    this.#end({ kind: 'lost', reason });
  }

  #end(end: PullEnd): void {
    if (this.#isOver) return;
    this.#isOver = true;
    clearInterval(this.#timer);
    clearTimeout(this.#pause);
    this.#stopListening();
    for (const { subscription, endFrames } of [...this.#requests, this.#probe]) {
      endFrames();
      if (!this.#bus.connection.isClosed()) subscription.unsubscribe();
    }
    this.#resolveEnd(end);
  }
}

/** The subject of a frame: one object is used over and over. */
class FrameSubject implements Envelope {
  readonly encoding = undefined;
  #bytes: Uint8Array = new Uint8Array(0);
  #start = 0;
  #end = 0;

  isAt(bytes: Uint8Array, start: number, end: number): void {
    this.#bytes = bytes;
    this.#start = start;
    this.#end = end;
  }

  get subject(): string {
    return Buffer.from(this.#bytes.subarray(this.#start, this.#end)).toString();
  }
}
