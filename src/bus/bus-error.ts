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

/** What is stored under a checkpoint's key is no checkpoint. Nobody but an operator may remove it. */
export class UnreadableCheckpoint extends BusError {}
