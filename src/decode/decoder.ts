import type { Sample } from '../aggregate/sample.ts';
import type { Rejection } from './rejection.ts';

/** Takes what is in a message, element by element. */
export interface SampleHandler {
  /** The sample is good during the call only. */
  sample(sample: Sample): void;
  /** An element of an array that is no sample; the others are kept. */
  rejected(reason: Rejection): void;
}

/** A wire format. */
export interface Decoder {
  /**
   * Hands over the samples of a message, or returns why it is rejected whole; then the handler was not called. Never
   * throws, whatever the bytes (unless the handler does). The bytes may be reused after the call.
   */
  decode(message: Uint8Array, handler: SampleHandler): Rejection | undefined;
}
