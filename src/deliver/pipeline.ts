import { Aggregator } from '../aggregate/aggregator.ts';
import type { Sample } from '../aggregate/sample.ts';
import type { SeriesTable } from '../aggregate/series-table.ts';
import type { Tiling } from '../aggregate/tiling.ts';
import type { ClosedWindow } from '../aggregate/window.ts';
import type { Envelope } from '../bus/message.ts';
import type { Gap, Reader } from '../bus/read/source.ts';
import type { Slice } from '../config/core-settings.ts';
import type { Decoder, SampleHandler } from '../decode/decoder.ts';
import { decompress } from '../decode/encoding.ts';
import { type DecoderSettings, makeDecoder } from '../decode/formats.ts';
import { MAX_MESSAGE_BYTES } from '../decode/limits.ts';
import { type RawMessage, wholeMessage } from '../decode/raw-message.ts';
import type { InputRejection } from '../decode/rejection.ts';
import type { LaneStart } from './start-points.ts';

/**
 * Receives the windows that became complete, oldest first. All windows before `boundary` have been handed over, and all
 * messages up to `sequence` had been read. If it returns a promise, the source is held back until that resolves.
 */
export type WindowHandler = (
  windows: readonly ClosedWindow[],
  boundary: number,
  sequence: number,
) => void | Promise<void>;

export interface PipelineOptions {
  readonly decoder: Decoder;
  /** Limit for a compressed message, and for its decompressed content. */
  readonly maxMessageBytes?: number;
  readonly aggregator: Aggregator;
  /** All messages up to this sequence were read before. */
  readonly sequence: number;
  readonly onWindows: WindowHandler;
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
}

/** I8: received = rejected + decoded. Every decoded sample is counted by the aggregator. */
export interface PipelineStats {
  received: number;
  readonly rejectedMessages: Map<InputRejection, number>;
  /** Counts elements of arrays, lines, and fields of lines. */
  readonly rejectedSamples: Map<InputRejection, number>;
}

/** Messages in, complete windows out. The live path is one pipeline; so is every catch-up. */
export class Pipeline implements Reader, SampleHandler {
  readonly stats: PipelineStats = { received: 0, rejectedMessages: new Map(), rejectedSamples: new Map() };
  readonly #options: PipelineOptions;
  #sequence: number;
  #isReleased = false;
  #reportedThrough: number;

  constructor(options: PipelineOptions) {
    this.#options = options;
    this.#sequence = options.sequence;
    this.#reportedThrough = options.sequence;
  }

  /**
   * Everything that messages up to this sequence reopened has been reported. May lag while a window shape is awaited.
   */
  get reportedThrough(): number {
    return this.#reportedThrough;
  }

  message(message: RawMessage, envelope?: Envelope): void {
    this.stats.received++;
    this.#sequence = message.sequence;
    const encoding = envelope?.encoding;
    if (encoding === undefined) this.#options.decoder.take(message, this);
    else this.#encoded(message, encoding);
  }

  #encoded({ bytes, start, end, streamTime, sequence }: RawMessage, encoding: string): void {
    const { decoder, maxMessageBytes = MAX_MESSAGE_BYTES } = this.#options;
    const packed = bytes.subarray(start, end);
    const unpacked = decompress(packed, encoding, maxMessageBytes);
    if (typeof unpacked === 'string') this.rejectedMessage(unpacked, packed);
    else decoder.take(wholeMessage(unpacked, streamTime, sequence), this);
  }

  /** Finishes all messages so far: each is rejected, or its samples have reached the aggregator. */
  flush(): void {
    this.#options.decoder.flush(this);
  }

  expect(series: Int32Array, count: number): void {
    this.#options.aggregator.prefetch(series, count);
  }

  sample(sample: Sample): void {
    this.#options.aggregator.add(sample, sample.streamTime, sample.sequence);
  }

  rejected(reason: InputRejection, message: Uint8Array, count: number): void {
    this.#reject(this.stats.rejectedSamples, reason, message, count);
  }

  rejectedMessage(reason: InputRejection, message: Uint8Array): void {
    this.#reject(this.stats.rejectedMessages, reason, message, 1);
  }

  progress(streamTime: number): void | Promise<void> {
    this.flush();
    const shaped = this.#options.untilShaped?.(streamTime);
    return shaped === undefined ? this.#close(streamTime) : shaped.then(() => this.#close(streamTime));
  }

  /**
   * Ends the pipeline. Progress that still waits for a window shape closes no windows, and the table may forget the
   * series.
   */
  release(): void {
    this.#isReleased = true;
    this.#options.aggregator.release();
  }

  #close(streamTime: number): void | Promise<void> {
    if (this.#isReleased) return undefined;
    // More messages may have arrived while the shape was unknown.
    this.flush();
    const { aggregator, onWindows, onReopened } = this.#options;
    const reopened = aggregator.takeReopened();
    if (reopened.length > 0) onReopened?.(reopened, this.#sequence);
    this.#reportedThrough = this.#sequence;
    const before = aggregator.boundary;
    const windows = aggregator.close(streamTime);
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

export interface PipelineSettings extends DecoderSettings {
  readonly slice: Slice;
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
  options: Pick<PipelineOptions, 'onWindows' | 'untilShaped' | 'onReopened' | 'onGap' | 'onRejected'>,
): { readonly pipeline: Pipeline; readonly aggregator: Aggregator } {
  const { maxMessageBytes, slice } = settings;
  const aggregator = new Aggregator(table, { ...start, slice });
  const decoder = makeDecoder(table, settings);
  const sequence = start.closedThrough ?? 0;
  return {
    pipeline: new Pipeline({ ...options, decoder, maxMessageBytes, aggregator, sequence }),
    aggregator,
  };
}
