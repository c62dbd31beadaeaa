/** What a source of messages is, whatever it reads from: JetStream, plain NATS, or the simulation. */
import type { RawMessage } from '../../decode/raw-message.ts';
import type { Envelope } from '../message.ts';

/** Where reading begins. Times are stream time in milliseconds since 1970. */
export type ReadFrom =
  | { readonly kind: 'earliest' }
  /**
   * `after`: the last sequence known to have been consumed before; with it, a gap at the start can be told exactly.
   * `orSequence`: begins there where that comes first, for a server's clock may have been set back.
   */
  | {
      readonly kind: 'time';
      readonly ms: number;
      readonly after?: number;
      readonly orSequence?: number | undefined;
    }
  | { readonly kind: 'sequence'; readonly sequence: number };

/** Messages that should have come and never will: retention removed them before they were read. */
export interface Gap {
  /** Stream times (ms since 1970) of the last message before it and the first one behind it, as far as is known. */
  readonly fromTime: number;
  readonly toTime: number;
  /** How many messages, at most; 0 where that is not known. */
  readonly messages: number;
}

/** What a reader does with the messages. All calls come one after the other, in stream order. */
export interface Reader {
  /**
   * One message, whose bytes stay as they are (with `flush`: until then). Synchronous, and must not throw. Without an
   * envelope, nothing is known of the subject, and there is no encoding.
   */
  message(message: RawMessage, envelope?: Envelope): void;
  /**
   * Every message with a stream time below `streamTime` has been handed over (I2): after a batch, the time of its last
   * message; when nothing is pending, the server's clock less the slack. The source asks for no more messages until the
   * promise resolves: this is how a slow reader holds its source back. What was asked for before still comes: two
   * batches of 10,000 messages at most. Never called again before the promise has resolved; never goes backwards.
   */
  progress(streamTime: number): void | Promise<void>;
  /** The bytes of all messages so far are about to go: what is still wanted of them is taken now. */
  flush?(): void;
  /** Told before the message behind the gap. */
  gap?(gap: Gap): void;
}

/** Counters of one source; it only ever changes them itself. */
export interface SourceStats {
  /** Whether the bus delivers, or would: false before the first attachment and while it is sought again. */
  reading: boolean;
  /** Messages that the stream holds for us and that were not handed over yet; 0 in core mode. */
  pending: number;
  /** Stream sequence and time of the last message handed over; 0 before the first. */
  lastSequence: number;
  /** All up to this sequence that is wanted was handed over, or is no longer there. Not told of every message. */
  readThrough: number;
  lastStreamTime: number;
  /** How often messages that should have come were not there any more (retention), and how many they were. */
  gaps: number;
  gapMessages: number;
  /** How often the consumer had to be made again: server restarted, consumer deleted, delivery out of step. */
  resumptions: number;
}

/** Of a source that has not begun. */
export function newSourceStats(): SourceStats {
  return {
    reading: false,
    pending: 0,
    lastSequence: 0,
    readThrough: 0,
    lastStreamTime: 0,
    gaps: 0,
    gapMessages: 0,
    resumptions: 0,
  };
}

export interface Source {
  readonly stats: SourceStats;
  /**
   * Reads until `signal` aborts (then resolves). Rejects with a `BusError` only for what an operator must mend, and
   * with whatever the reader throws.
   */
  run(reader: Reader, signal: AbortSignal): Promise<void>;
}
