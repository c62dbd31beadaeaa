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
