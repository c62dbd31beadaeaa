/** The main thread, as the HTTP thread sees it: every request gets a reply, also if the main thread gives none. */
import { type HttpReply, type ServiceCall, standstillText, textReply } from '../http-routes.ts';
import type { FromHttpThread, WaitLimits } from './messages.ts';

/**
 * Calls that the main thread has not answered. Each to control has a body of up to 16 KiB, and stays in the queue of
 * the main thread even if its peer has left.
 */
const MAX_UNANSWERED_CALLS = 256;
/** From this on, the main thread does not just have much to do. */
const STILL_MS = 5_000;

type Waiter = (reply: HttpReply) => void;

interface Call {
  readonly number: number;
  readonly kind: ServiceCall['kind'];
  readonly waiters: Set<Waiter>;
}

export interface MainThreadOptions {
  readonly post: (message: FromHttpThread) => void;
  readonly stillMs: () => number;
  readonly now: () => number;
  readonly limits: WaitLimits;
}

export class MainThread {
  readonly #options: MainThreadOptions;
  /** Those under way, by number. */
  readonly #calls = new Map<number, Call>();
  /** What is under way that others may share. */
  readonly #shared = new Map<Call['kind'], Call>();
  /** The last reply with bytes. Peers that read slowly so keep hold of one copy of a rendering, not of one each. */
  readonly #kept = new Map<Call['kind'], HttpReply>();
  #lastNumber = 0;

  constructor(options: MainThreadOptions) {
    this.#options = options;
  }

  /** Never rejects. When the signal aborts, nobody waits for the reply any longer. */
  ask(call: ServiceCall, left: AbortSignal): Promise<HttpReply> {
    const made = this.#make(call);
    if (made === undefined) return Promise.resolve(BUSY);
    const { number, waiters } = made;
    const { promise, resolve } = Promise.withResolvers<HttpReply>();
    const { readyMs, otherMs } = this.#options.limits;
    const limitMs = call.kind === 'ready' ? readyMs : otherMs;
    const settle: Waiter = (reply) => {
      clearTimeout(timer);
      left.removeEventListener('abort', giveUp);
      waiters.delete(settle);
      resolve(reply);
    };
    const giveUp = () => {
      settle(this.#late(call, limitMs));
      if (isQuestion(call.kind)) this.#options.post({ kind: 'left', number });
    };
    const timer = setTimeout(giveUp, limitMs);
    left.addEventListener('abort', giveUp);
    waiters.add(settle);
    if (left.aborted) giveUp();
    return promise;
  }

  /** See `ToHttpThread` for a reply that is missing. */
  take(number: number, given: HttpReply | undefined): void {
    const call = this.#calls.get(number);
    if (call === undefined) return;
    const { kind, waiters } = call;
    const reply = given ?? this.#kept.get(kind)!;
    if (typeof reply.body !== 'string') this.#kept.set(kind, reply);
    this.#calls.delete(number);
    if (this.#shared.get(kind) === call) this.#shared.delete(kind);
    for (const settle of [...waiters]) settle(reply);
  }

  /** Returns the call, or one like it that is under way and can be shared; undefined if there are too many. */
  #make(call: ServiceCall): Call | undefined {
    const { kind } = call;
    const underWay = this.#shared.get(kind);
    if (underWay !== undefined) return underWay;
    if (!isShared(kind) && this.#calls.size >= MAX_UNANSWERED_CALLS) return undefined;
    this.#lastNumber += 1;
    const made: Call = { number: this.#lastNumber, kind, waiters: new Set() };
    this.#calls.set(this.#lastNumber, made);
    if (isShared(kind)) this.#shared.set(kind, made);
    this.#options.post({ kind: 'call', number: this.#lastNumber, call });
    return made;
  }

  #late({ kind }: ServiceCall, limitMs: number): HttpReply {
    const { stillMs, now } = this.#options;
    const still = stillMs();
    const why =
      still < STILL_MS
        ? `the main thread has not answered within ${limitMs / 1000} s`
        : standstillText(still, now());
    // What was asked of control is done when the main thread comes to it.
    const outlook = kind === 'control' ? '. What was asked may still be done' : '';
    return textReply(kind === 'ready' ? 503 : 504, why + outlook);
  }
}

/** Whether all that ask for it at the same time get the same. */
function isShared(kind: ServiceCall['kind']): boolean {
  return kind !== 'control' && !isQuestion(kind);
}

function isQuestion(kind: ServiceCall['kind']): boolean {
  return kind === 'query' || kind === 'cardinality';
}

const BUSY = textReply(503, 'too many requests wait for the main thread', { 'retry-after': '10' });
