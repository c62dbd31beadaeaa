import type { Sample } from '../aggregate/sample.ts';
import type { RawMessage } from './raw-message.ts';
import type { InputRejection } from './rejection.ts';

/** Takes what the messages hold, in their order. */
export interface SampleHandler {
  /** Announces the series of the next samples (-1 for an unknown one): a chance to load their memory early. */
  expect?(series: Int32Array, count: number): void;
  /** Takes a sample, which is valid only during the call. */
  sample(sample: Sample): void;
  /** Takes an element of a message (of an array, a line, a field) that is not a sample. The others are kept. */
  rejected(reason: InputRejection, message: Uint8Array): void;
  /** Takes a message of which nothing is kept. */
  rejectedMessage(reason: InputRejection, message: Uint8Array): void;
}

/** A wire format. */
export interface Decoder {
  /**
   * Takes the message. Hands its samples over during this call or a later one, at the latest
   * during `flush`; the bytes must not change until then. Never throws, whatever the bytes (unless the handler does).
   */
  take(message: RawMessage, handler: SampleHandler): void;
  /** Hands over all that was taken. */
  flush(handler: SampleHandler): void;
}
