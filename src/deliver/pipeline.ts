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
 * Takes the windows that became complete, oldest first; before `boundary` there are no others. All messages up to
 * `sequence` had been read then. The source is held back until a promise resolves.
 */
export type WindowHandler = (
  windows: readonly ClosedWindow[],
  boundary: number,
  sequence: number,
) => void | Promise<void>;

export interface PipelineOptions {
  readonly decoder: Decoder;
  /** Of a compressed message, and of what becomes of it. */
  readonly maxMessageBytes?: number;
  readonly aggregator: Aggregator;
  /** Everything up to here had been read before. */
  readonly sequence: number;
  readonly onWindows: WindowHandler;
  /**
   * Resolves when the windows that are complete at this stream time are known to be those of the tiling; undefined
   * where they are already.
   */
  readonly untilShaped?: ((streamTime: number) => Promise<void> | undefined) | undefined;
  /**
   * Windows that got a sample after they were handed out, up to that sequence; told before anything is handed out
   * behind them.
   */
  readonly onReopened?: (starts: readonly number[], sequence: number) => void;
  readonly onGap?: (gap: Gap) => void;
  /** A message, or an element of it, that is no sample: for the log. */
  readonly onRejected?: (reason: InputRejection, message: Uint8Array) => void;
}

/** I8: received = rejected + decoded; every sample decoded is counted by the aggregator. */
export interface PipelineStats {
  received: number;
  readonly rejectedMessages: Map<InputRejection, number>;
  /** Elements of arrays, lines, and fields of lines. */
  readonly rejectedSamples: Map<InputRejection, number>;
}

/** Messages in, complete windows out. The live path is one of these, and every catch-up. */
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

  /** Of all messages up to this sequence, it was told what they reopened: not so where a shape is waited for. */
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

  /** All messages so far are rejected, or their samples are with the aggregator. */
  flush(): void {
    this.#options.decoder.flush(this);
  }

  expect(series: Int32Array, count: number): void {
    this.#options.aggregator.prefetch(series, count);
  }

  sample(sample: Sample): void {
    this.#options.aggregator.add(sample, sample.streamTime, sample.sequence);
  }

  rejected(reason: InputRejection, message: Uint8Array): void {
    this.#reject(this.stats.rejectedSamples, reason, message);
  }

  rejectedMessage(reason: InputRejection, message: Uint8Array): void {
    this.#reject(this.stats.rejectedMessages, reason, message);
  }

  progress(streamTime: number): void | Promise<void> {
    this.flush();
    const shaped = this.#options.untilShaped?.(streamTime);
    return shaped === undefined ? this.#close(streamTime) : shaped.then(() => this.#close(streamTime));
  }

  /**
   * Nothing is read any more: what still waits for its windows' shape closes none, and the table may forget the series.
   */
  release(): void {
    this.#isReleased = true;
    this.#options.aggregator.release();
  }

  #close(streamTime: number): void | Promise<void> {
    if (this.#isReleased) return undefined;
    // Some may have come while the shape was not known.
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

  #reject(counts: Map<InputRejection, number>, reason: InputRejection, message: Uint8Array): void {
    counts.set(reason, (counts.get(reason) ?? 0) + 1);
    this.#options.onRejected?.(reason, message);
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

/** A pipeline with an aggregator of its own. Release it where it ends before the table does. */
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
