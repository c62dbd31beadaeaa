/** What a command says, and how it ends, if it cannot go on. */
import { ConfigError, EXIT_CONFIG } from '../../config/config-error.ts';

/** The message, and what belongs to it, for a log of JSON lines. */
export interface Failure {
  readonly message: string;
  readonly fields: {
    readonly advice?: string;
    readonly errors?: readonly string[];
    readonly warnings?: readonly string[];
    readonly stack?: string;
  };
  readonly code: number;
}

/** Errors of the bus and the sinks come with advice. Anything else is our bug, and its stack trace helps. */
export function failureOf(error: unknown): Failure {
  if (!(error instanceof Error)) return { message: String(error), fields: {}, code: 1 };
  const { message } = error;
  if (error instanceof ConfigError) {
    const [headline = '', ...errors] = message.split('\n').map((line) => line.trim());
    const advice = error.advice === undefined ? {} : { advice: error.advice };
    const warnings = error.warnings.length === 0 ? {} : { warnings: error.warnings };
    const fields = { errors, ...warnings, ...advice };
    return { message: headline.replace(/:$/, ''), fields, code: EXIT_CONFIG };
  }
  if ('advice' in error) return { message, fields: { advice: String(error.advice) }, code: 1 };
  // Such as a file that cannot be opened: the message names it.
  if ('syscall' in error) return { message, fields: {}, code: 1 };
  return { message, fields: { stack: error.stack ?? message }, code: 1 };
}

/** For people: the message, and what belongs to it in lines of their own. */
export function failureText({ message, fields }: Failure): string {
  const { advice, errors = [], warnings = [], stack } = fields;
  if (stack !== undefined) return stack;
  const headline = errors.length > 0 ? `${message}:` : message;
  const text = [headline, ...errors, ...(advice === undefined ? [] : [advice])].join('\n  ');
  return warnings.length === 0 ? text : [`${text}\nNo error, but odd:`, ...warnings].join('\n  ');
}
