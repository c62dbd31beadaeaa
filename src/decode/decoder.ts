import type { Sample } from '../aggregate/sample.ts';
import type { RawMessage } from './raw-message.ts';
import type { InputRejection } from './rejection.ts';

/** Takes what is in the messages, in their order. */
export interface SampleHandler {
  /** Series whose samples are about to come, -1 among them: a chance to have their memory at hand. */
  expect?(series: Int32Array, count: number): void;
  /** The sample is good during the call only. */
  sample(sample: Sample): void;
  /** An element of a message (of an array, a line, a field) that is no sample; the others are kept. */
  rejected(reason: InputRejection, message: Uint8Array): void;
  /** A message of which nothing is kept. */
  rejectedMessage(reason: InputRejection, message: Uint8Array): void;
}

/** A wire format. */
export interface Decoder {
  /**
   * Takes the message. What is in it is handed over with this call or a later one, at the latest
   * with `flush`: the bytes must stay as they are until then. Never throws, whatever the bytes (unless the handler
   * does).
   */
  take(message: RawMessage, handler: SampleHandler): void;
  /** Hands over all that was taken. */
  flush(handler: SampleHandler): void;
}
