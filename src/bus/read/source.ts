/** The interface of a source of messages, whatever it reads from: JetStream, plain NATS, or the simulation. */
import type { RawMessage } from '../../decode/raw-message.ts';
import type { Envelope } from '../message.ts';
import type { Answer } from './answers.ts';

/** Where reading begins. Times are stream times in milliseconds since 1970. */
export type ReadFrom =
  | { readonly kind: 'earliest' }
  /**
   * `after`: the last sequence known to have been consumed; with it, a gap at the start can be measured exactly.
   * `orSequence`: reading begins there if that comes first, because a server's clock may have been set back.
   */
  | {
      readonly kind: 'time';
      readonly ms: number;
      readonly after?: number;
      readonly orSequence?: number | undefined;
    }
  | { readonly kind: 'sequence'; readonly sequence: number };

/** Messages that should have arrived and never will, because retention removed them before they were read. */
export interface Gap {
  /** Stream times (ms since 1970) of the last message before the gap and the first one after it, as far as known. */
  readonly fromTime: number;
  readonly toTime: number;
  /** How many messages at most; 0 if unknown. */
  readonly messages: number;
}

/** What a reader does with the messages. Calls come one at a time, in stream order. */
export interface Reader {
  /**
   * Takes one message, whose bytes do not change until the call returns (or, with `flush`, not before that).
   * Synchronous; must not throw. Without an envelope, the subject is unknown and there are no headers.
   */
  message(message: RawMessage, envelope?: Envelope): void;
  /** Shows a message whose subject nobody wants, or nobody knows. */
  leftOut?(message: RawMessage): void;
  /**
   * Reports that every message with a stream time below `streamTime` has been handed over (I2). After a batch, that is
   * the time of its last message; when nothing is pending, the server's clock minus the slack. The source asks for no
   * more messages until the promise resolves: that is how a slow reader holds back its source. What was already
   * requested still arrives: two batches of 10,000 messages at most. Never called again before the promise has
   * resolved; never goes backwards.
   */
  progress(streamTime: number): void | Promise<void>;
  /**
   * The stream time of which a report of progress is of use next, while nothing arrives. The source may report less
   * often until then. Without it, every report is of use.
   */
  readonly awaited?: number;
  /**
   * Called when the bytes of all messages so far are about to be released: the reader must take what it still needs.
   */
  flush?(): void;
  /** Until the message with this sequence, nothing is complete, whatever the stream times say. */
  completeAfter?(sequence: number): void;
  /** Called before the first message after the gap. */
  gap?(gap: Gap): void;
}

/** A gap as a log line shows it. Its start is unknown (null) if nothing was read before it. */
export function gapFields({ messages, fromTime, toTime }: Gap) {
  const time = (ms: number) => (ms > 0 && Number.isFinite(ms) ? new Date(ms).toISOString() : null);
  return { messages, fromTime: time(fromTime), toTime: time(toTime) };
}

/** Counters of one source; only the source changes them. */
export interface SourceStats {
  /**
   * Whether the bus delivers, or would if there were messages: false before the source first attaches, and while it
   * attaches again.
   */
  reading: boolean;
  /** The stream was replaced while we read, and the new one has not delivered a message yet. */
  unproven: boolean;
  /**
   * The stream holds other messages in the place of some that it handed out, or was changed so that some were counted
   * or left out wrongly. Reading has ended, or ends at once: what was computed from them has to be computed again.
   */
  rolledBack: boolean;
  /** Messages that the stream holds for us and that have not been handed over; 0 in core mode. */
  pending: number;
  /** Stream sequence and time of the last message handed over; 0 before the first. */
  lastSequence: number;
  /**
   * Every wanted message up to this sequence was handed over, or is no longer in the stream. Not updated for every
   * message.
   */
  readThrough: number;
  lastStreamTime: number;
  /** How often messages that should have arrived were gone (retention), and how many they were. */
  gaps: number;
  gapMessages: number;
  /** How often the consumer had to be created again: server restarted, consumer deleted, delivery out of step. */
  resumptions: number;
  /** Why the stream no longer is what we read; undefined if it is. And how often that has come up. */
  unfit: string | undefined;
  misfits: number;
  /**
   * Messages that were left out though nobody knows whether they are wanted: nobody saw a stream that stores their
   * subjects. Those since the last look at the stream are not among them yet.
   */
  leftOut: number;
  /** See `holdsMs`; undefined before the first look at the stream, and in core mode. */
  holdsMs: number | undefined;
  /** How often the server ended a request for messages in each of these ways; empty in core mode. */
  readonly answers: Map<Answer, number>;
}

/** Returns the stats of a source that has not started. */
export function newSourceStats(): SourceStats {
  return {
    reading: false,
    unproven: false,
    rolledBack: false,
    pending: 0,
    lastSequence: 0,
    readThrough: 0,
    lastStreamTime: 0,
    gaps: 0,
    gapMessages: 0,
    resumptions: 0,
    unfit: undefined,
    misfits: 0,
    leftOut: 0,
    holdsMs: undefined,
    answers: new Map(),
  };
}

export interface Source {
  readonly stats: SourceStats;
  /**
   * Reads until `signal` aborts or the stream turns out to be rolled back, then resolves. Rejects with a `BusError`
   * only if an operator has to fix something, and with anything that the reader throws.
   */
  run(reader: Reader, signal: AbortSignal): Promise<void>;
}
