/**
 * The core source: plain NATS, at most once. Stream time is the time of arrival: when a message is read, which on a
 * busy bus is at a pace (`socket-pace.ts`). There are no sequences. Messages that do not arrive (no connection, or the
 * server dropped us as a slow consumer) are lost without a trace on the server.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import type { CoreConfig } from '../../config/core-settings.ts';
import { newRawMessage } from '../../decode/raw-message.ts';
import type { BusError } from '../bus-error.ts';
import type { Bus } from '../connect.ts';
import { closedForGood } from '../errors.ts';
import type { Envelope, Incoming } from '../message.ts';
import { steadyNow } from './server-clock.ts';
import { SocketPace } from './socket-pace.ts';
import { gapFields, newSourceStats, type Reader, type Source, type SourceStats } from './source.ts';

/**
 * How many messages a reader that asked for time is still given. The bus cannot be held back, so the rest is dropped.
 */
const MAX_HELD_MESSAGES = 100_000;
/** How soon to ask again whether the server has our subscriptions, if the connection was lost while we asked. */
const SUBSCRIBED_POLL_MS = 200;

export interface CoreOptions {
  /** Returns milliseconds since 1970 by a clock that is never set back: the stream time. */
  readonly now?: () => number;
}

type Configured = Pick<CoreConfig, 'metricsSubjects' | 'metricsQueueGroup'>;

export function createCoreSource(bus: Bus, core: Configured, options: CoreOptions = {}): Source {
  return new CoreSource(bus, core, options.now ?? steadyNow);
}

type Receive = (bytes: Uint8Array, start: number, end: number, envelope: Envelope) => void;

const NEVER = { buffer: undefined, at: 0 };

class CoreSource implements Source {
  readonly stats: SourceStats = newSourceStats();
  readonly #message = newRawMessage();
  readonly #bus: Bus;
  readonly #core: Configured;
  readonly #now: () => number;
  #pace: SocketPace | undefined;
  /** When the bytes last looked at arrived. Forgotten at every tick, because bytes may share a buffer. */
  #arrived: { readonly buffer: ArrayBufferLike | undefined; readonly at: number } = NEVER;
  /** The bytes last looked at; comparing them avoids asking for their buffer. */
  #bytes: Uint8Array | undefined;
  #isHeld = false;
  /** Messages handed over, and messages dropped, since the reader asked for time. */
  #heldMessages = 0;
  #dropped = 0;
  #droppedFrom = 0;

  constructor(bus: Bus, core: Configured, now: () => number) {
    this.#bus = bus;
    this.#core = core;
    this.#now = now;
  }

  async run(reader: Reader, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    const over = new AbortController();
    const stops: (() => void)[] = [];
    const subscriptions: (() => Promise<void>)[] = [];
    try {
      await new Promise<void>((resolve, reject) => {
        const guard = (work: () => void) => {
          try {
            work();
          } catch (error) {
            reject(error);
          }
        };
        // Messages that the server has already sent us go to nobody else, so they are still taken.
        const onAbort = () => void Promise.all(subscriptions.map((end) => end())).then(() => resolve());
        signal.addEventListener('abort', onAbort);
        const pace = new SocketPace({
          socket: this.#bus.socket,
          mayPause: () => this.#bus.connected && !signal.aborted,
          tick: () => guard(() => this.#tick(reader, reject)),
        });
        this.#pace = pace;
        stops.push(
          () => pace.stop(),
          () => signal.removeEventListener('abort', onAbort),
          this.#bus.onReconnect(() => guard(() => this.#reconnected(reader))),
        );
        const onFlush = reader.flush && (() => guard(() => this.#flush(reader)));
        for (const subject of this.#core.metricsSubjects) {
          subscriptions.push(this.#subscribe(subject, this.#receiver(reader, reject), onFlush, reject));
        }
        void this.#untilSubscribed(over.signal);
      });
    } finally {
      over.abort();
      this.stats.reading = false;
      for (const stop of stops) stop();
      await Promise.all(subscriptions.map((end) => end()));
    }
  }

  #subscribe(
    subject: string,
    receive: Receive,
    onFlush: (() => void) | undefined,
    reject: (error: BusError) => void,
  ) {
    const queue = this.#core.metricsQueueGroup;
    const onMessage = (message: Incoming) => receive(message.data, 0, message.data.length, message);
    return this.#bus.subscribe(subject, onMessage, {
      ...(queue === undefined ? {} : { queue }),
      onFrame: receive,
      onFlush,
      onRefused: reject,
    });
  }

  /** What is published before the server has our subscriptions never comes: until then, we must not seem ready. */
  async #untilSubscribed(over: AbortSignal): Promise<void> {
    while (!over.aborted) {
      try {
        await this.#bus.flush(over);
        // `run` may have ended in the same turn.
        this.stats.reading = !over.aborted;
        return;
      } catch {
        // The connection was lost. The client subscribes again with the next one.
        await sleep(SUBSCRIBED_POLL_MS, undefined, { signal: over }).catch(() => {});
      }
    }
  }

  #receiver(reader: Reader, reject: (error: unknown) => void): Receive {
    return (bytes, start, end, envelope) => {
      try {
        this.#onMessage(bytes, start, end, envelope, reader);
      } catch (error) {
        reject(error);
      }
    };
  }

  #onMessage(bytes: Uint8Array, start: number, end: number, envelope: Envelope, reader: Reader): void {
    if (bytes !== this.#bytes) this.#arrive(bytes);
    this.#pace?.readMessage(end - start);
    const arrival = Math.floor(this.#arrived.at);
    if (this.#isHeld && ++this.#heldMessages > MAX_HELD_MESSAGES) {
      if (this.#dropped === 0) this.#droppedFrom = arrival;
      this.#dropped += 1;
      return;
    }
    this.stats.lastStreamTime = arrival;
    const message = this.#message;
    message.bytes = bytes;
    message.start = start;
    message.end = end;
    message.streamTime = arrival;
    reader.message(message, envelope);
  }

  /** The next bytes arrive later, and may be in the same buffer. */
  #flush(reader: Reader): void {
    this.#arrived = NEVER;
    this.#bytes = undefined;
    reader.flush!();
  }

  /** Bytes that the connection delivered together arrived at the same time. */
  #arrive(bytes: Uint8Array): void {
    this.#bytes = bytes;
    const { buffer } = bytes;
    if (buffer === this.#arrived.buffer) return;
    this.#arrived = { buffer, at: this.#now() };
    this.#pace?.readChunk();
  }

  /** Everything that arrived before now was handed over as it arrived. */
  #tick(reader: Reader, reject: (error: unknown) => void): void {
    if (this.#bus.connection.isClosed()) throw closedForGood();
    this.#arrived = NEVER;
    this.#bytes = undefined;
    if (this.#isHeld) return;
    const held = reader.progress(Math.floor(this.#now()));
    if (held === undefined) return;
    this.#isHeld = true;
    held.then(() => this.#resume(reader)).catch(reject);
  }

  #resume(reader: Reader): void {
    this.#isHeld = false;
    this.#heldMessages = 0;
    if (this.#dropped === 0) return;
    const messages = this.#dropped;
    this.#dropped = 0;
    this.#gap(reader, messages, this.#droppedFrom, 'dropped messages; the reader was held up for too long');
  }

  #reconnected(reader: Reader): void {
    this.stats.resumptions += 1;
    this.#gap(reader, 0, this.stats.lastStreamTime, 'did not receive what was published while disconnected');
  }

  #gap(reader: Reader, messages: number, fromTime: number, what: string): void {
    this.stats.gaps += 1;
    this.stats.gapMessages += messages;
    const gap = { fromTime, toTime: Math.floor(this.#now()), messages };
    this.#bus.log.warn(gapFields(gap), what);
    reader.gap?.(gap);
  }
}
