/** An error of the bus in words for the operator. Never contains a secret. */
export class BusError extends Error {
  override readonly name = 'BusError';
  /** What to do about it, as an imperative sentence. */
  readonly advice: string;

  constructor(message: string, advice: string, options?: ErrorOptions) {
    super(message, options);
    this.advice = advice;
  }
}

/** The bucket of the checkpoints was deleted, and the new one does not keep what is written to it yet. */
export class BucketGone extends BusError {}

/** Somebody else wrote the key since it was read. Nothing was changed. */
export class Overtaken extends BusError {}

/** The stream exists, and is not one that can be read, or not for METRICS_SUBJECTS. */
export class StreamUnfit extends BusError {}

/**
 * What is stored under a checkpoint's key is no checkpoint, or one of windows of another length. Nobody but an operator
 * may remove it.
 */
export class UnreadableCheckpoint extends BusError {}

/** It is a checkpoint, of windows of another length than the sink has now. */
export class OtherWindows extends UnreadableCheckpoint {
  /** All windows that the sink had before this time are confirmed. */
  readonly next: number;

  constructor(message: string, advice: string, next: number) {
    super(message, advice);
    this.next = next;
  }
}
