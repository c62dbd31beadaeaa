import { Aggregator, type AggregatorOptions } from '../aggregate/aggregator.ts';
import type { Series } from '../aggregate/point.ts';
import { FILTERED, type Sample } from '../aggregate/sample.ts';
import type { SeriesTable } from '../aggregate/series-table.ts';
import type { Tiling } from '../aggregate/tiling.ts';
import type { ClosedWindow } from '../aggregate/window.ts';
import type { Envelope } from '../bus/message.ts';
import type { Gap, Reader } from '../bus/read/source.ts';
import type { Slice } from '../config/core-settings.ts';
import type { Decoder, SampleHandler } from '../decode/decoder.ts';
import { decompress } from '../decode/encoding.ts';
import { type DecoderSettings, makeDecoderFor } from '../decode/formats.ts';
import { MAX_MESSAGE_BYTES } from '../decode/limits.ts';
import { type MessageLabel, type RawMessage, wholeMessage } from '../decode/raw-message.ts';
import type { InputRejection } from '../decode/rejection.ts';
import { BYTES_PER_STEP, NEW_SPELLING_STEPS, REJECTED_STEPS, type Steps } from '../decode/steps.ts';
import { lookForRounded } from './rounded-sums.ts';
import type { LaneStart } from './start-points.ts';
import { sizeOf, WaitingMessages } from './waiting-messages.ts';

/**
 * Receives the windows that became complete, oldest first. All windows before `boundary` have been handed over, and all
 * messages up to `sequence` had been read. If it returns a promise, the source is held back until that resolves.
 */
export type WindowHandler = (
  windows: readonly ClosedWindow[],
  boundary: number,
  sequence: number,
) => void | Promise<void>;

/** How much is done before other work of the thread gets its turn, and how much may wait meanwhile. */
export interface PipelinePace {
  /** See `Steps`. */
  readonly stepsPerTurn: number;
  readonly maxWaitingBytes: number;
  /** Of windows that are merged into those of a sink; absent: see `WindowMerger`. */
  readonly pointsPerTurn?: number;
}

/**
 * 40,000 steps are about 10 ms. What cannot be interrupted comes on top: unpacking a message of a megabyte takes 5 ms,
 * looking for the fields of a line that long 15 ms. And a machine may be half as fast. What waits: the two batches that
 * may be under way to a reader who holds back the bus, 8 MiB each, and what their copies take beside their bytes.
 */
const PACE: PipelinePace = { stepsPerTurn: 40_000, maxWaitingBytes: 20 * 1024 * 1024 };

export interface PipelineOptions {
  readonly decoder: Decoder;
  /** Resolves when other work of the thread has had its turn. */
  readonly nextTurn: () => Promise<void>;
  readonly pace?: PipelinePace;
  /** Whether the source can wait. If not, `progress` returns no promise for messages that wait their turn. */
  readonly holdsBack?: boolean;
  /** Limit for a compressed message, and for its decompressed content. */
  readonly maxMessageBytes?: number;
  readonly aggregator: Aggregator;
  /** All messages up to this sequence were read before. */
  readonly sequence: number;
  readonly onWindows: WindowHandler;
  /** Called before windows are handed out in the middle of a batch: this was the last message. Must not throw. */
  readonly onLook?: ((sequence: number, streamTime: number) => void) | undefined;
  /**
   * Resolves when it is certain that the windows complete at this stream time have the shape in the tiling; undefined
   * if that is already certain.
   */
  readonly untilShaped?: ((streamTime: number) => Promise<void> | undefined) | undefined;
  /**
   * Reports windows that got a sample after they were handed out, by messages up to `sequence`. Called before any later
   * window is handed out.
   */
  readonly onReopened?: (starts: readonly number[], sequence: number) => void;
  readonly onGap?: (gap: Gap) => void;
  /** A message, or an element of one, that is not a sample: for the log. */
  readonly onRejected?: (reason: InputRejection, message: Uint8Array, count: number) => void;
  /** Told of the first sample that is a running total. */
  readonly onCumulative?: () => void;
  /** Told of the first counter whose sum is too large to be exact. */
  readonly onRounded?: (series: Series, sum: number) => void;
}

/** I8: received = rejected + decoded + waiting. Every decoded sample is filtered, or counted by the aggregator. */
export interface PipelineStats {
  received: number;
  readonly rejectedMessages: Map<InputRejection, number>;
  /** Counts elements of arrays, lines, and fields of lines. */
  readonly rejectedSamples: Map<InputRejection, number>;
  /** Samples that are gauges because they are running totals. */
  cumulative: number;
  /** Points of counters whose sum is beyond 2^53, from where on a double has no room for each whole number. */
  roundedSums: number;
  /** Samples whose names are not taken. */
  filtered: number;
}

/** Work for when so many of the messages that came first are finished. */
interface Mark {
  messages: number;
  readonly work: () => void;
  readonly fail: (error: unknown) => void;
}

/**
 * Messages in, complete windows out. The live path is one pipeline; so is every catch-up.
 *
 * Messages are decoded as they come, until they have cost as many steps as are meant for one turn of the event loop.
 * What comes then waits, and is decoded in its order (I3) in later turns, each with as many steps: so no message, and
 * no number of messages, holds the thread for long, whatever is in them.
 *
 * However many windows a batch of messages spans, only those are open that stream time says: windows are handed out as
 * soon as they are complete. Until they are taken, messages wait as they are, which takes far less memory than what
 * becomes of them.
 */
export class Pipeline implements Reader, SampleHandler {
  readonly stats: PipelineStats = {
    received: 0,
    rejectedMessages: new Map(),
    rejectedSamples: new Map(),
    cumulative: 0,
    roundedSums: 0,
    filtered: 0,
  };
  readonly #options: PipelineOptions;
  readonly #decoder: Decoder;
  readonly #steps: Steps;
  readonly #pace: PipelinePace;
  /** Of the last finished message. */
  #sequence: number;
  /** See `Reader`. */
  #completeAfter = 0;
  /** The stream time from which on it is worth looking for complete windows again. */
  #lookAt = Number.NEGATIVE_INFINITY;
  /** Whether a look in the middle of a batch waits for a shape. */
  #isShaping = false;
  /** Settles when the windows that were handed out are taken; undefined if they are. */
  #held: Promise<void> | undefined;
  #isReleased = false;
  /** What waited when it was released. */
  #unread = 0;
  #reportedThrough: number;
  /** Messages wait for a later turn, or would if there were any. */
  #isBusy = false;
  readonly #waiting = new WaitingMessages();
  /** The message at which the decoder paused. */
  #begun: RawMessage | undefined;
  #mark: Mark | undefined;
  /** Settles when nothing waits any longer. */
  #turns: Promise<void> = Promise.resolve();
  /** What the handlers threw in a turn of ours, for the next caller. */
  #failure: { readonly error: unknown } | undefined;

  constructor(options: PipelineOptions) {
    this.#options = options;
    this.#decoder = options.decoder;
    this.#pace = options.pace ?? PACE;
    this.#steps = this.#decoder.steps;
    this.#steps.left = this.#pace.stepsPerTurn;
    this.#sequence = options.sequence;
    this.#reportedThrough = options.sequence;
  }

  /**
   * Everything that messages up to this sequence reopened has been reported. May lag while a window shape is awaited.
   */
  get reportedThrough(): number {
    return this.#reportedThrough;
  }

  /** How many messages were received and are not finished. */
  get waiting(): number {
    return this.#unread + this.#waiting.count + (this.#begun === undefined ? 0 : 1);
  }

  /** Memory that the messages take that wait their turn. */
  get waitingBytes(): number {
    return this.#waiting.bytes;
  }

  get awaited(): number {
    return this.#options.aggregator.boundaryMovesAt;
  }

  message(message: RawMessage, envelope?: Envelope): void {
    this.stats.received++;
    // Kept short: the compiler then puts the decoder into the caller.
    if (this.#isBusy || envelope?.encoding !== undefined) this.#receive(message, envelope);
    else {
      this.#decoder.take(message, this, envelope);
      if (this.#steps.left > 0) {
        this.#sequence = message.sequence;
        // Seldom: of a busy stream, many messages share a millisecond.
        if (message.streamTime >= this.#lookAt) this.#look(message.streamTime);
      } else this.#taken(message, message, false);
    }
  }

  completeAfter(sequence: number): void {
    this.#completeAfter = sequence;
  }

  /** Hands out what is complete after the message that was finished last, in the middle of a batch. */
  #look(streamTime: number): void {
    this.#lookAt = streamTime + 1;
    if (streamTime < this.#options.aggregator.completeAt || this.#sequence < this.#completeAfter) return;
    if (this.#isShaping || this.#held !== undefined) return;
    this.#options.onLook?.(this.#sequence, streamTime);
    this.flush();
    const shaped = this.#options.untilShaped?.(streamTime);
    if (shaped === undefined) {
      this.#hold(this.#handOut(streamTime));
      return;
    }
    this.#isShaping = true;
    void shaped.then(() => {
      this.#isShaping = false;
    });
  }

  /** Has messages wait until the windows are taken. */
  #hold(taken: void | Promise<void>): void {
    if (taken === undefined) return;
    this.#held = taken;
    // A turn awaits it, and whoever asks for progress: either may come later.
    taken.catch(() => {});
    this.#startTurns();
  }

  #receive(message: RawMessage, envelope: Envelope | undefined): void {
    if (this.#isBusy) this.#wait(message, envelope);
    else this.#take(message, envelope?.encoding, envelope, false);
  }

  /** `isOurs`: the bytes stay as they are after the call. */
  #take(
    message: RawMessage,
    encoding: string | undefined,
    label: MessageLabel | undefined,
    isOurs: boolean,
  ): void {
    const plain = encoding === undefined ? message : this.#unpacked(message, encoding);
    if (plain !== undefined) this.#decoder.take(plain, this, label);
    this.#taken(message, plain, isOurs);
  }

  /** Returns undefined if the message is rejected. */
  #unpacked(message: RawMessage, encoding: string): RawMessage | undefined {
    const { bytes, start, end, streamTime, sequence } = message;
    const packed = bytes.subarray(start, end);
    const unpacked = decompress(packed, encoding, this.#options.maxMessageBytes ?? MAX_MESSAGE_BYTES);
    if (typeof unpacked === 'string') {
      this.rejectedMessage(unpacked, packed);
      return undefined;
    }
    if (unpacked === packed) return message;
    this.#steps.left -= unpacked.length / BYTES_PER_STEP;
    return wholeMessage(unpacked, streamTime, sequence);
  }

  /** The decoder has taken a message, and has finished it or paused at it. `plain`: as the decoder knows it. */
  #taken(message: RawMessage, plain: RawMessage | undefined, isOurs: boolean): void {
    if (plain !== undefined && this.#decoder.isPaused)
      this.#begun = plain === message && !isOurs ? copyOf(plain) : plain;
    else this.#finished(message);
    if (this.#steps.left <= 0) this.#startTurns();
  }

  #finished({ sequence, streamTime }: RawMessage): void {
    this.#begun = undefined;
    this.#sequence = sequence;
    if (streamTime >= this.#lookAt) this.#look(streamTime);
    const mark = this.#mark;
    if (mark === undefined || --mark.messages > 0) return;
    this.#mark = undefined;
    if (this.#held === undefined) mark.work();
    else this.#whenTaken(mark.work).catch(mark.fail);
  }

  /** Keeps a message for later. */
  #wait(message: RawMessage, envelope: Envelope | undefined): void {
    if (this.#isReleased) {
      this.#unread += 1;
      return;
    }
    if (this.#failure !== undefined) throw this.#failure.error;
    const { maxWaitingBytes, stepsPerTurn } = this.#pace;
    // A bus that cannot be held back is slowed down instead: nothing is dropped, and memory stays bounded.
    while (this.#waiting.bytes + sizeOf(message) > maxWaitingBytes && this.#workOn()) {
      if (this.#steps.left <= 0) this.#steps.left = stepsPerTurn;
    }
    this.#waiting.add(message, envelope?.encoding, this.#kept(envelope));
  }

  /** Returns what to keep of an envelope, which is good only until the call returns. */
  #kept(envelope: Envelope | undefined): MessageLabel | undefined {
    if (envelope === undefined) return undefined;
    const { contentType, increment } = envelope;
    if (this.#decoder.needsSubject !== true && contentType === undefined) return undefined;
    return { subject: envelope.subject, contentType, increment };
  }

  #startTurns(): void {
    if (this.#isBusy) return;
    this.#isBusy = true;
    this.#turns = this.#workInTurns().catch((error: unknown) => this.#fail(error));
  }

  /** The next caller is told. A source that waits for us is told now. */
  #fail(error: unknown): void {
    this.#failure = { error };
    this.#mark?.fail(error);
    this.#mark = undefined;
  }

  async #workInTurns(): Promise<void> {
    while (this.#isBusy) {
      await this.#options.nextTurn();
      await this.#untilTaken();
      if (this.#isReleased) return;
      const steps = this.#steps;
      steps.left = this.#pace.stepsPerTurn;
      while (steps.left > 0 && this.#held === undefined && this.#workOn());
      this.#decoder.flush(this);
      this.#isBusy = this.waiting > 0 || steps.left <= 0 || this.#held !== undefined;
    }
  }

  async #untilTaken(): Promise<void> {
    const held = this.#held;
    await held;
    // Progress that waited for the same may have handed out more.
    if (this.#held === held) this.#held = undefined;
  }

  /** Does the work when the windows are taken. */
  #whenTaken(work: () => void | Promise<void>): Promise<void> {
    return this.#untilTaken().then(() => this.#afterBegun(work));
  }

  /** Not in the middle of a message, which may have been begun meanwhile: what it reopens is reported as a whole. */
  #afterBegun(work: () => void | Promise<void>): void | Promise<void> {
    return this.#after(this.#begun === undefined ? 0 : 1, work);
  }

  /** Goes on with the first message that is not finished. Returns false if there is none. */
  #workOn(): boolean {
    const begun = this.#begun;
    if (begun !== undefined) {
      this.#decoder.resume(begun, this);
      if (!this.#decoder.isPaused) this.#finished(begun);
      return true;
    }
    const next = this.#waiting.take();
    if (next === undefined) return false;
    const { message, encoding, label } = next;
    this.#steps.left -= 1 + (message.end - message.start) / BYTES_PER_STEP;
    this.#take(message, encoding, label, true);
    return true;
  }

  /** Does the work between two messages, when this many of those that came first are finished. */
  #after(messages: number, work: () => void | Promise<void>): void | Promise<void> {
    if (messages === 0) return this.#held === undefined ? work() : this.#whenTaken(work);
    // Only a source that cannot wait asks again before it is done, and its later questions are for more.
    if (this.#mark !== undefined) return undefined;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const done = () => {
      try {
        resolve(this.#isReleased ? undefined : work());
      } catch (error) {
        reject(error);
      }
    };
    this.#mark = { messages, work: done, fail: reject };
    if (this.#options.holdsBack ?? true) return promise;
    promise.catch((error: unknown) => this.#fail(error));
  }

  /**
   * Hands over all samples that the decoder has, but for the messages that wait: those have copies of their bytes.
   */
  flush(): void {
    if (this.#isReleased) return;
    this.#decoder.flush(this);
    if (this.#steps.left <= 0) this.#startTurns();
  }

  /** Resolves when all messages are finished: each is rejected, or its samples have reached the aggregator. */
  async finish(): Promise<void> {
    while (this.#isBusy && !this.#isReleased && this.#failure === undefined) await this.#turns;
    if (this.#failure !== undefined) throw this.#failure.error;
    this.flush();
  }

  expect(series: Int32Array, count: number): void {
    this.#options.aggregator.prefetch(series, count);
  }

  sample(sample: Sample): void {
    if (sample.series === FILTERED) this.stats.filtered++;
    else this.#options.aggregator.add(sample, sample.streamTime, sample.sequence);
  }

  rejected(reason: InputRejection, message: Uint8Array, count: number): void {
    this.#reject(this.stats.rejectedSamples, reason, message, count);
  }

  cumulative(): void {
    this.stats.cumulative += 1;
    if (this.stats.cumulative === 1) this.#options.onCumulative?.();
  }

  rejectedMessage(reason: InputRejection, message: Uint8Array): void {
    this.#steps.left -= REJECTED_STEPS;
    this.#reject(this.stats.rejectedMessages, reason, message, 1);
  }

  progress(streamTime: number): void | Promise<void> {
    if (this.#failure !== undefined) throw this.#failure.error;
    return this.#after(this.waiting, () => this.#progress(streamTime));
  }

  #progress(streamTime: number): void | Promise<void> {
    this.flush();
    const close = () => this.#close(streamTime);
    const shaped = this.#options.untilShaped?.(streamTime);
    return shaped === undefined ? close() : shaped.then(() => this.#afterBegun(close));
  }

  /**
   * Ends the pipeline: messages that wait, or still come, are not decoded, progress that still waits closes no windows,
   * and the table may forget the series.
   */
  release(): void {
    if (this.#isReleased) return;
    // Not later: their series could be others by then.
    this.#decoder.flush(this);
    this.#isReleased = true;
    this.#isBusy = true;
    this.#unread = this.waiting;
    this.#waiting.clear();
    this.#begun = undefined;
    this.#mark?.work();
    this.#mark = undefined;
    this.#options.aggregator.release();
  }

  #close(streamTime: number): void | Promise<void> {
    const taken = this.#handOut(streamTime);
    this.#hold(taken);
    return taken;
  }

  /** Hands out what is complete at this stream time. */
  #handOut(streamTime: number): void | Promise<void> {
    if (this.#isReleased) return undefined;
    // More messages may have arrived while the shape was unknown.
    this.flush();
    const { aggregator, onWindows, onReopened } = this.#options;
    const reopened = aggregator.takeReopened();
    if (reopened.length > 0) onReopened?.(reopened, this.#sequence);
    this.#reportedThrough = this.#sequence;
    const before = aggregator.boundary;
    const windows = aggregator.close(streamTime);
    for (const window of windows)
      lookForRounded(window, this.stats, (series, sum) => this.#options.onRounded?.(series, sum));
    if (aggregator.boundary !== before) return onWindows(windows, aggregator.boundary, this.#sequence);
  }

  gap(gap: Gap): void {
    this.#options.onGap?.(gap);
  }

  #reject(
    counts: Map<InputRejection, number>,
    reason: InputRejection,
    message: Uint8Array,
    count: number,
  ): void {
    counts.set(reason, (counts.get(reason) ?? 0) + count);
    this.#options.onRejected?.(reason, message, count);
  }
}

function copyOf({ bytes, start, end, streamTime, sequence }: RawMessage): RawMessage {
  return wholeMessage(new Uint8Array(bytes.subarray(start, end)), streamTime, sequence);
}

export interface PipelineSettings extends DecoderSettings {
  readonly slice: Slice;
  /** Whether points have their sketches, because a sink writes them. */
  readonly hasSketches?: boolean;
  /** For tests: that what is paused everywhere comes to the same. */
  readonly pace?: PipelinePace;
}

export interface PipelineStart extends LaneStart {
  readonly tiling: Tiling;
  /** See `Point.instance`. */
  readonly instance: string;
}

/** Returns a pipeline with its own aggregator. Release it if it ends before the table does. */
export function openPipeline(
  table: SeriesTable,
  settings: PipelineSettings,
  start: PipelineStart,
  options: Pick<
    PipelineOptions,
    | 'nextTurn'
    | 'holdsBack'
    | 'onWindows'
    | 'onLook'
    | 'untilShaped'
    | 'onReopened'
    | 'onGap'
    | 'onRejected'
    | 'onCumulative'
    | 'onRounded'
  > &
    Pick<AggregatorOptions, 'keepsSketches' | 'notesFolds'>,
): { readonly pipeline: Pipeline; readonly aggregator: Aggregator } {
  const { maxMessageBytes, slice, pace, hasSketches = false } = settings;
  const decoder = makeDecoderFor(table, settings, start.tiling.epochs);
  const onFolded = () => {
    decoder.steps.left -= NEW_SPELLING_STEPS;
  };
  const { keepsSketches = false, notesFolds = false } = options;
  const aggregator = new Aggregator(table, {
    ...start,
    slice,
    keepsSketches,
    hasSketches,
    notesFolds,
    onFolded,
  });
  const sequence = start.closedThrough ?? 0;
  return {
    pipeline: new Pipeline({
      ...options,
      decoder,
      maxMessageBytes,
      aggregator,
      sequence,
      ...(pace && { pace }),
    }),
    aggregator,
  };
}
