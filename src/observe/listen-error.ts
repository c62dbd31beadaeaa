import { errorText } from '../base/error-text.ts';

/** The address is in use, or not one of this machine. */
export class ListenError extends Error {
  override readonly name = 'ListenError';
  readonly advice: string;

  constructor(
    where: string,
    cause: unknown,
    advice = 'Stop what listens there, perhaps another metrics-fanout, or set HTTP_HOST and HTTP_PORT to a free address of this machine.',
  ) {
    const reason = errorText(cause);
    super(`cannot listen on ${where}: ${reason}`, { cause });
    this.advice = advice;
  }
}
