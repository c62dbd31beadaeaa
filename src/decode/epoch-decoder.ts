import type { Decoder, SampleHandler } from './decoder.ts';
import type { MessageLabel, RawMessage } from './raw-message.ts';
import type { Steps } from './steps.ts';

/** The decoder of all messages from a stream time on, until the next one's. */
export interface DecoderSpan {
  readonly from: number;
  readonly decoder: Decoder;
}

/**
 * Reads each message as the settings at its stream time want it. Stream times go back now and then, so it looks at each
 * anew: what a message means is up to that message alone.
 */
export class EpochDecoder implements Decoder {
  /** In ascending order; the first one reaches back to the beginning of time. */
  readonly #spans: readonly DecoderSpan[];
  #current: Decoder;
  /** The current decoder's stream times. */
  #from = Number.NaN;
  #until = Number.NaN;

  /** All decoders must count the same steps. */
  constructor(spans: readonly DecoderSpan[]) {
    this.#spans = spans;
    this.#current = spans[0]!.decoder;
  }

  get steps(): Steps {
    return this.#current.steps;
  }

  get needsSubject(): boolean {
    return this.#spans.some(({ decoder }) => decoder.needsSubject === true);
  }

  get isPaused(): boolean {
    return this.#current.isPaused;
  }

  take(message: RawMessage, handler: SampleHandler, label?: MessageLabel): void {
    const { streamTime } = message;
    if (!(streamTime >= this.#from && streamTime < this.#until)) this.#turnTo(streamTime, handler);
    this.#current.take(message, handler, label);
  }

  resume(message: RawMessage, handler: SampleHandler): void {
    this.#current.resume(message, handler);
  }

  flush(handler: SampleHandler): void {
    this.#current.flush(handler);
  }

  #turnTo(streamTime: number, handler: SampleHandler): void {
    // No sample may overtake an earlier one.
    this.#current.flush(handler);
    const next = this.#spans.findIndex(({ from }, i) => i > 0 && from > streamTime);
    const at = (next < 0 ? this.#spans.length : next) - 1;
    this.#current = this.#spans[at]!.decoder;
    this.#from = at === 0 ? Number.NEGATIVE_INFINITY : this.#spans[at]!.from;
    this.#until = next < 0 ? Number.POSITIVE_INFINITY : this.#spans[next]!.from;
  }
}
