import type { Aggregator } from '../aggregate/aggregator.ts';
import type { Sample } from '../aggregate/sample.ts';
import type { ClosedWindow } from '../aggregate/window.ts';
import type { Gap, Reader } from '../bus/source.ts';
import type { Decoder, SampleHandler } from '../decode/decoder.ts';
import type { Rejection } from '../decode/rejection.ts';

export interface PipelineOptions {
  readonly decoder: Decoder;
  readonly aggregator: Aggregator;
  /** Takes the windows that became complete, oldest first; before `boundary` there are no others. */
  readonly hand: (windows: readonly ClosedWindow[], boundary: number) => void | Promise<void>;
  readonly onGap?: (gap: Gap) => void;
  /** A message, or an element of an array, that is no sample: for the log. */
  readonly onRejected?: (reason: Rejection, message: Uint8Array) => void;
}

/** I8: received = rejected + decoded; every sample decoded is counted by the aggregator. */
export interface PipelineStats {
  received: number;
  readonly rejectedMessages: Map<Rejection, number>;
  /** Elements of arrays. */
  readonly rejectedSamples: Map<Rejection, number>;
}

/** Messages in, complete windows out. The live path is one of these, and every catch-up. */
export class Pipeline implements Reader, SampleHandler {
  readonly stats: PipelineStats = { received: 0, rejectedMessages: new Map(), rejectedSamples: new Map() };
  readonly #options: PipelineOptions;
  /** Of the message being decoded. */
  #payload: Uint8Array = new Uint8Array();
  #streamTime = 0;

  constructor(options: PipelineOptions) {
    this.#options = options;
  }

  message(payload: Uint8Array, streamTime: number): void {
    this.stats.received++;
    this.#payload = payload;
    this.#streamTime = streamTime;
    const reason = this.#options.decoder.decode(payload, this);
    if (reason !== undefined) this.#reject(this.stats.rejectedMessages, reason);
  }

  sample(sample: Sample): void {
    this.#options.aggregator.add(sample, this.#streamTime);
  }

  rejected(reason: Rejection): void {
    this.#reject(this.stats.rejectedSamples, reason);
  }

  progress(streamTime: number): void | Promise<void> {
    const { aggregator, hand } = this.#options;
    const before = aggregator.boundary;
    const windows = aggregator.close(streamTime);
    if (aggregator.boundary !== before) return hand(windows, aggregator.boundary);
  }

  gap(gap: Gap): void {
    this.#options.onGap?.(gap);
  }

  #reject(counts: Map<Rejection, number>, reason: Rejection): void {
    counts.set(reason, (counts.get(reason) ?? 0) + 1);
    this.#options.onRejected?.(reason, this.#payload);
  }
}
