/**
 * Reads one JetStream consumer with our own pull requests on plain subscriptions: less than half the cost per message
 * of the client's own consumers.
 *
 * Two requests are outstanding at a time, so that the server always has one to fill; that is also all that can be under
 * way to a reader that holds us back. Each request has its own subscription, which shows whose messages arrive.
 *
 * A reader that is level with a stream would be woken for every few messages, which costs more than reading them. So
 * where many come in a second, it asks at a pace instead: for everything available, and again a little later.
 */

import { type ConsumerInfo, createInbox, type Msg, nanos, type Subscription } from 'nats';
import { newRawMessage, type RawMessage } from '../../decode/raw-message.ts';
import type { Bus } from '../connect.ts';
import { FrameSubject } from '../frame-subject.ts';
import type { FrameSink } from '../frames.ts';
import { incoming } from '../headers.ts';
import { apiSubject } from '../jetstream-api.ts';
import type { Envelope } from '../message.ts';
import { type Answer, answerOf, consequenceOf } from './answers.ts';
import { prefixLength, ReplySubject } from './reply-subject.ts';

/** Messages per request. A server drops a client that has 64 MB unread, so the bytes are bounded too. */
const BATCH_MESSAGES = 10_000;
const BATCH_BYTES = 8 * 1024 * 1024;
/** JetStream's reply subjects are far shorter; anything beyond this is not read. */
const MAX_REPLY_BYTES = 4096;
/** A request that is not filled ends after this time and is then made again. */
const REQUEST_EXPIRES_MS = 30_000;
/** How often partial batches are reported, and how often the server is asked whether everything has been read. */
export const TICK_MS = 250;
/**
 * After this many ticks without a message, the server is asked when the answer is of use, and otherwise this often. An
 * answer costs as much as all else that an idle service does in a tick.
 */
const IDLE_TICKS = 8;
const IDLE_TICK_MS = 2_500;
/** The least pause before that. The estimate of the server's clock may be a little behind. */
const MIN_IDLE_TICK_MS = 25;
/** After this many ticks without any response from the server, although it was asked, the consumer counts as gone. */
const SILENT_TICKS = 34;
/**
 * After this many answers to probes that messages are pending, none of which comes although requests wait for them, the
 * consumer counts as gone: nats-server 2.9 goes on saying so when the messages were purged.
 */
const UNSERVED_PROBES = 20;
/**
 * A request whose byte limit is used up exactly is over, but the server does not say so. A request counts as such if it
 * gets nothing for this many ticks while messages are pending and others get some. At a pace there are no others: it is
 * enough that the server answers a later probe. If it answers nothing, it hangs, and late messages would count for the
 * next request.
 */
const STARVED_TICKS = 2;
/** After this many ticks without a message, the reader is told of a pause. */
const PAUSE_TICKS = 4;
/**
 * Pause between two requests at a pace: by so much, and a way to the server and back, a message may come later than it
 * could. Far less than any useful lateness.
 */
export const PACE_MS = 50;
/**
 * From this many messages per second on, asking at a pace costs less than being woken for each message. A request and
 * its answer cost about as much as being woken two or three times.
 */
const PACED_RATE = 100;
/** A reader with no more than this many messages left is level with the stream. */
const PACED_PENDING = 2_000;
/** What it then asks for, unless at a pace. How long that takes says how busy the stream is, so it is not much. */
const LEVEL_MESSAGES = 500;
/** The longest pause after answers that promise nothing better for the next request. */
const MAX_REFUSED_PAUSE_MS = 30_000;
const NANOS_PER_MS = 1_000_000;

/** Calls come one at a time. Whatever they throw or reject with ends the reading. */
export interface PullHandlers {
  message(message: RawMessage, envelope: Envelope, reply: ReplySubject): void;
  /** See `Reader`. */
  readonly flush?: (() => void) | undefined;
  /** Called after each batch, and on every tick in which messages arrived. A promise holds back further requests. */
  progress(): void | Promise<void>;
  /** Called when nothing has arrived for a second, once, also while the reader holds back further requests. */
  readonly paused?: () => void;
  /** Called when all that the stream held when asked, at `askedAt` by the local clock, has been handed over. */
  idle(askedAt: number): void | Promise<void>;
  /** By the local clock, when `idle` is of use next. Without it, always. */
  readonly idleDueAt?: () => number;
  /** Called for each answer that ends a request other than by messages, with the server's own code and words. */
  answered(answer: Answer, words: string): void;
}

/** What one request may ask for. */
export interface RequestLimits {
  readonly messages: number;
  readonly bytes: number;
  readonly expiresMs: number;
}

/** Returns what is asked for: what we would like, or less if the server or the consumer allows less. */
export function requestLimits({ config }: Pick<ConsumerInfo, 'config'>): RequestLimits {
  const least = (wanted: number, allowed = 0) => (allowed > 0 ? Math.min(wanted, allowed) : wanted);
  return {
    messages: least(BATCH_MESSAGES, config.max_batch),
    bytes: least(BATCH_BYTES, config.max_bytes),
    expiresMs: least(REQUEST_EXPIRES_MS, Math.floor((config.max_expires ?? 0) / NANOS_PER_MS)),
  };
}

export type PullEnd =
  | { readonly kind: 'stopped' }
  /** A new consumer has to continue after the last message. */
  | { readonly kind: 'lost'; readonly reason: string }
  /** A handler threw. */
  | { readonly kind: 'failed'; readonly error: unknown };

interface Request {
  readonly inbox: string;
  readonly subscription: Subscription;
  readonly endFrames: () => void;
  /** Messages that may still arrive; 0 if the request is over. */
  remaining: number;
  received: number;
  /** The server answers at once with what is available, and then the request is over. */
  isPaced: boolean;
  /** By the local clock: when the request was sent, and since when its messages have accumulated. */
  askedAt: number;
  since: number;
  /** Messages received at the last tick, and for how many ticks no more have arrived although they should have. */
  seen: number;
  starvedTicks: number;
}

export class Pull {
  readonly ended: Promise<PullEnd>;
  readonly #bus: Bus;
  readonly #subject: string;
  readonly #limits: RequestLimits;
  readonly #handlers: PullHandlers;
  readonly #now: () => number;
  readonly #requests: Request[];
  readonly #probe: Request;
  #timer: NodeJS.Timeout | undefined;
  /** Whether the next tick comes later than usual. */
  #isIdle = false;
  readonly #stopListening: () => void;
  #resolveEnd: (end: PullEnd) => void = () => {};
  /** The reply subject of the last message; undefined before the first. */
  #reply: ReplySubject | undefined;
  readonly #replyBytes = Buffer.alloc(MAX_REPLY_BYTES);
  #received = 0;
  /** How many requests were made. */
  #asked = 0;
  /** How many messages had been received at the last tick. */
  #seen = 0;
  /** How many of the received messages were reported through `progress`. */
  #reported = 0;
  /** For how many ticks nothing has arrived, and how many messages had been received at the last one. */
  #quietTicks = 0;
  #receivedBefore = 0;
  #isOver = false;
  #isHeld = false;
  #held: Promise<void> = Promise.resolve();
  #silentTicks = 0;
  #unservedProbes = 0;
  /** The next message exceeds a request's byte limit: request it alone, without the limit. */
  #isOversized = false;
  readonly #message = newRawMessage();
  /** Whether the next request is made at a pace. */
  #isPaced = false;
  #pause: NodeJS.Timeout | undefined;
  /** Answers since the last message after which the next request waits, and until when by the local clock. */
  #refused = 0;
  #refusedUntil = Number.NEGATIVE_INFINITY;

  constructor(
    bus: Bus,
    consumer: { stream: string; name: string; limits: RequestLimits },
    handlers: PullHandlers,
    now: () => number,
  ) {
    this.#bus = bus;
    this.#subject = apiSubject(bus, 'CONSUMER.MSG.NEXT', consumer.stream, consumer.name);
    this.#limits = consumer.limits;
    this.#handlers = handlers;
    this.#now = now;
    this.ended = new Promise((resolve) => {
      this.#resolveEnd = resolve;
    });
    this.#requests = [this.#subscribe(), this.#subscribe()];
    this.#probe = this.#subscribe();
    this.#tickIn(TICK_MS);
    // The server may have sent messages over the lost connection that it will not send again.
    this.#stopListening = bus.onReconnect(() => this.#lost('the connection was lost'));
    // Half a batch at first, so that from then on the two requests end alternately.
    this.#guard(() => {
      this.#ask(this.#requests[0]!, Math.ceil(this.#limits.messages / 2));
      this.#ask(this.#requests[1]!, this.#limits.messages);
    });
  }

  stop(): void {
    this.#end({ kind: 'stopped' });
  }

  /** Settles when, and as, the reader's last promise does; resolved if it did not ask for time. */
  get held(): Promise<void> {
    return this.#held;
  }

  /** Whether some request got more than one message: then all that the server sends comes through. */
  get hasGotSeveral(): boolean {
    return this.#received > this.#asked;
  }

  #tickIn(ms: number): void {
    clearTimeout(this.#timer);
    this.#isIdle = ms > TICK_MS;
    this.#timer = setTimeout(() => {
      this.#tickIn(TICK_MS);
      this.#guard(() => this.#tick());
    }, ms);
  }

  /** There is something to do: half a tick is how long it waits on average while ticks come as usual. */
  #endIdleness(): void {
    if (this.#isIdle && !this.#isOver) this.#tickIn(TICK_MS / 2);
  }

  #subscribe(): Request {
    const inbox = createInbox(this.#bus.inboxPrefix);
    const subscription = this.#bus.connection.subscribe(inbox, {
      // Nothing may leave this callback: an exception would silently end the client's reader for good.
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

  /** Handles messages without headers, if frames are received. The first reply subject comes through the callback. */
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

  /** Handles a message whose reply subject is the one read last. */
  #onDelivery(request: Request, envelope: Envelope, bytes: Uint8Array, start: number, end: number): void {
    const reply = this.#reply!;
    this.#silentTicks = 0;
    // The consumer numbers its deliveries. A message lost on the way shows here, before the next one is used.
    if (reply.consumerSequence !== this.#received + 1) {
      this.#lost(`delivery ${this.#received + 1} did not arrive`);
      return;
    }
    const message = this.#message;
    if (reply.streamSequence <= message.sequence) {
      this.#lost(`the stream's sequence fell from ${message.sequence} to ${reply.streamSequence}`);
      return;
    }
    if (this.#isIdle) this.#endIdleness();
    this.#received += 1;
    this.#refused = 0;
    this.#unservedProbes = 0;
    request.received += 1;
    request.remaining -= 1;
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
    if (prefix === undefined) this.#lost(`a message came without JetStream's reply subject: ${reply}`);
    else this.#reply = new ReplySubject(prefix);
    return this.#reply;
  }

  #onStatus(request: Request, message: Msg): void {
    const code = message.headers?.code ?? 0;
    const text = message.headers?.description ?? '';
    const answer = answerOf(code, text);
    if (answer === undefined) return;
    this.#handlers.answered(answer, `${code} ${text}`);
    const consequence = consequenceOf(answer);
    if (consequence === 'counted') return;
    if (consequence === 'lost') {
      this.#lost(`the consumer cannot go on (${code} ${text})`);
      return;
    }
    if (consequence === 'pause') this.#refuse();
    request.remaining = 0;
    if (request === this.#probe) {
      this.#onProbed(answer);
      return;
    }
    this.#endIdleness();
    if (consequence === 'oversized' && request.received === 0) this.#isOversized = true;
    this.#over(request, answer);
  }

  #onProbed(answer: Answer): void {
    this.#unservedProbes = answer === 'requests_pending' ? this.#unservedProbes + 1 : 0;
    if (answer === 'no_messages') {
      this.#idle();
      this.#beIdle();
    } else if (this.#unservedProbes >= UNSERVED_PROBES)
      this.#lost('the server says that messages are pending, and sends none');
  }

  /** All is read, and it has been quiet for a while: the next tick comes when it is of use. */
  #beIdle(): void {
    if (this.#isOver || this.#isHeld || this.#quietTicks < IDLE_TICKS) return;
    const leftMs = (this.#handlers.idleDueAt?.() ?? 0) - this.#now();
    if (leftMs > 0) this.#tickIn(Math.min(IDLE_TICK_MS, Math.max(MIN_IDLE_TICK_MS, leftMs)));
  }

  #refuse(): void {
    this.#refusedUntil = this.#now() + Math.min(MAX_REFUSED_PAUSE_MS, TICK_MS * 2 ** this.#refused);
    this.#refused += 1;
  }

  #over(request: Request, answer?: Answer): void {
    const wanted = ((this.#now() - request.since) * PACED_RATE) / 1_000;
    this.#isPaced = this.#isLevel && request.received > 0 && request.received >= wanted;
    // The next request waits at the server, so that the next message comes at once.
    const isPause = request.isPaced && answer === 'no_messages';
    // Another that brought nothing is made again by the next tick: whatever ended it, we do not race with the server.
    if (request.received > 0 || isPause) this.#batchDone();
  }

  get #isLevel(): boolean {
    return (this.#reply?.pending ?? 0) <= PACED_PENDING;
  }

  #batchDone(): void {
    if (this.#received > this.#reported) this.#report();
    this.#refill();
  }

  #tick(): void {
    this.#quietTicks = this.#received > this.#receivedBefore ? 0 : this.#quietTicks + 1;
    this.#receivedBefore = this.#received;
    if (this.#quietTicks === PAUSE_TICKS) this.#handlers.paused?.();
    if (this.#isHeld || !this.#bus.connected) return;
    this.#endStarved();
    if (this.#received > this.#reported) this.#report();
    else if (this.#now() < this.#refusedUntil) return;
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
    if (this.#now() < this.#refusedUntil) return;
    if (this.#isPaced) {
      if (this.#requests.every(({ remaining }) => remaining === 0)) this.#askAfterPause(this.#now());
      return;
    }
    const messages = this.#isLevel ? Math.min(LEVEL_MESSAGES, this.#limits.messages) : this.#limits.messages;
    for (const request of this.#requests) {
      if (request.remaining === 0) this.#ask(request, this.#isOversized ? 1 : messages);
    }
  }

  #askAfterPause(since: number): void {
    this.#pause = setTimeout(() => {
      this.#pause = undefined;
      this.#guard(() => {
        // Otherwise the request is made when the reader is done, or the connection is back.
        if (!this.#isOver && !this.#isHeld && this.#bus.connected)
          this.#ask(this.#requests[0]!, this.#limits.messages, since);
      });
    }, PACE_MS);
  }

  /** Sends a request. `pacedSince`: at a pace, the time at which the previous request was over. */
  #ask(request: Request, batch: number, pacedSince?: number): void {
    const isProbe = request === this.#probe;
    const isUnbounded = isProbe || (this.#isOversized && batch === 1);
    if (isUnbounded && !isProbe) this.#isOversized = false;
    const isPaced = pacedSince !== undefined;
    const body = {
      batch,
      ...(isProbe || isPaced ? { no_wait: true } : { expires: nanos(this.#limits.expiresMs) }),
      ...(isUnbounded ? {} : { max_bytes: this.#limits.bytes }),
    };
    this.#asked += 1;
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
    // Messages that arrived before the answer are reported first.
    if (this.#received > this.#reported) this.#report();
    if (!this.#isHeld) this.#hold(this.#handlers.idle(this.#probe.askedAt));
  }

  /** Nothing more is requested until the reader has caught up: it asked for time. */
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
    clearTimeout(this.#timer);
    clearTimeout(this.#pause);
    this.#stopListening();
    for (const { subscription, endFrames } of [...this.#requests, this.#probe]) {
      endFrames();
      if (!this.#bus.connection.isClosed()) subscription.unsubscribe();
    }
    this.#resolveEnd(end);
  }
}
