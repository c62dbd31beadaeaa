/**
 * When plain NATS is read. A reader of a busy bus would be woken for every few messages, which costs more than reading
 * them. So where more than a few come in a second, the socket is read at a pace: all that waits in the system's buffer,
 * and again a little later. That buffer must never be full for long: the server drops a client that does not read.
 */
import type { SocketReading } from '../socket-reading.ts';
import { PACE_MS, TICK_MS } from './pull.ts';

/** The least pause that saves anything. */
const MIN_PAUSE_MS = 5;
/** What may wait, at the rate of the last tick. It fits into the buffer that a socket begins with. */
const MAX_WAITING_BYTES = 64 * 1024;
/** If a pause brings more than this, the rate has risen, and there are no more pauses in this tick. */
const MAX_PAUSE_BYTES = 4 * MAX_WAITING_BYTES;
/** Chunks in a tick; at a pace, messages. With fewer, being woken for each costs less than looking. */
const PACED_CHUNKS = 10;

export interface SocketPaceOptions {
  /** Absent if the socket cannot be stopped. */
  readonly socket: Pick<SocketReading, 'pause' | 'resume'> | undefined;
  /** Whether it may be stopped now. */
  readonly mayPause: () => boolean;
  /** Called every `TICK_MS`, when all that had arrived was handed over. */
  readonly tick: () => void;
}

export class SocketPace {
  readonly #socket: SocketPaceOptions['socket'];
  readonly #mayPause: () => boolean;
  readonly #tick: () => void;
  #timer: NodeJS.Timeout | undefined;
  #immediate: NodeJS.Immediate | undefined;
  #isOver = false;
  /** Of this tick: for how long it has waited, and what was read. */
  #waitedMs = 0;
  #bytes = 0;
  #chunks = 0;
  #messages = 0;
  /** Pauses that brought something, less those that brought nothing. */
  #useful = 0;
  /** How long the pauses of this tick are; 0: there are none, since little comes, or very much. */
  #pauseMs = 0;
  /** Read since the last pause. */
  #pauseBytes = 0;

  constructor({ socket, mayPause, tick }: SocketPaceOptions) {
    this.#socket = socket;
    this.#mayPause = mayPause;
    this.#tick = tick;
    this.#wait();
  }

  /** A chunk was read from the socket. */
  readChunk(): void {
    this.#chunks += 1;
  }

  readMessage(bytes: number): void {
    this.#messages += 1;
    this.#pauseBytes += bytes;
  }

  /** From now on, everything is read as it comes, and there are no ticks. */
  stop(): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
    clearImmediate(this.#immediate);
    this.#socket?.resume();
  }

  #wait(): void {
    const leftMs = TICK_MS - this.#waitedMs;
    const isPaused = this.#pauseMs > 0 && this.#mayPause() && this.#socket?.pause() === true;
    const ms = isPaused ? Math.min(this.#pauseMs, leftMs) : leftMs;
    this.#timer = setTimeout(() => {
      this.#waitedMs += ms;
      if (isPaused) this.#socket!.resume();
      this.#immediate = setImmediate(() => this.#look());
    }, ms);
  }

  /** All that had arrived was read. */
  #look(): void {
    const brought = this.#pauseBytes;
    this.#pauseBytes = 0;
    this.#bytes += brought;
    this.#useful += brought > 0 ? 1 : -1;
    if (this.#waitedMs >= TICK_MS) {
      this.#pauseMs = this.#suitablePauseMs();
      this.#waitedMs = 0;
      this.#bytes = 0;
      this.#chunks = 0;
      this.#messages = 0;
      this.#useful = 0;
      this.#tick();
    } else if (brought > MAX_PAUSE_BYTES) this.#pauseMs = 0;
    if (!this.#isOver) this.#wait();
  }

  #suitablePauseMs(): number {
    // At a pace, a chunk is what a pause brought, however many it would have been.
    const isBusy =
      this.#pauseMs > 0 ? this.#messages >= PACED_CHUNKS && this.#useful > 0 : this.#chunks >= PACED_CHUNKS;
    if (!isBusy) return 0;
    const pauseMs = Math.min(PACE_MS, Math.floor((TICK_MS * MAX_WAITING_BYTES) / Math.max(1, this.#bytes)));
    return pauseMs < MIN_PAUSE_MS ? 0 : pauseMs;
  }
}
