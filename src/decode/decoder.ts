import type { Sample } from '../aggregate/sample.ts';
import type { MessageLabel, RawMessage } from './raw-message.ts';
import type { InputRejection } from './rejection.ts';
import type { Steps } from './steps.ts';

/** Takes what the messages hold, in their order. */
export interface SampleHandler {
  /** Announces the series of the next samples (-1 for an unknown one): a chance to load their memory early. */
  expect?(series: Int32Array, count: number): void;
  /** Takes a sample, which is valid only during the call. */
  sample(sample: Sample): void;
  /**
   * Takes the number of elements of a message (of an array, lines, fields) that are not samples for this reason. The
   * others are kept. Called once for each reason, when the message is finished.
   */
  rejected(reason: InputRejection, message: Uint8Array, count: number): void;
  /** Takes note of a sample that is a running total which only rises. It is a gauge, though it counts. */
  cumulative?(): void;
  /** Takes a message of which nothing is kept. */
  rejectedMessage(reason: InputRejection, message: Uint8Array): void;
}

/** A wire format. */
export interface Decoder {
  /** What it may still do before it pauses in the middle of a message. */
  readonly steps: Steps;
  /** Whether the last message is not finished because no steps were left. `resume` goes on with it. */
  readonly isPaused: boolean;
  /** Whether the label of every message matters, and not only what headers say: it costs to keep it. */
  readonly needsSubject?: boolean;
  /**
   * Takes the message. Hands its samples over during this call or a later one, at the latest
   * during `flush`; the bytes must not change until then. Never throws, whatever the bytes (unless the handler does).
   * If it paused, no other message may be taken before that one is finished.
   */
  take(message: RawMessage, handler: SampleHandler, label?: MessageLabel): void;
  /** Goes on with the message at which it paused. Its bytes may have moved to another place meanwhile. */
  resume(message: RawMessage, handler: SampleHandler): void;
  /** Hands over all that was taken. */
  flush(handler: SampleHandler): void;
}
