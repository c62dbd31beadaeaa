import { destination, pino } from 'pino';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

/** JSON lines. What is logged never holds a secret: errors of bus and sinks are made so. */
export interface Log {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

const STDERR = 2;

/** Synchronous, so that the last line before an exit is there. */
export function createLog(level: LogLevel): Log {
  return pino(
    {
      level,
      base: null,
      formatters: { level: (label) => ({ level: label }) },
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
    },
    destination({ dest: STDERR, sync: true }),
  );
}

/** Lets one line through per key and interval, and tells with the next how many it held back. */
export class Quiet {
  readonly #intervalMs: number;
  readonly #keys = new Map<string, { until: number; held: number }>();

  constructor(intervalMs: number) {
    this.#intervalMs = intervalMs;
  }

  /** Undefined: say nothing. Otherwise how many lines of the key were held back since the last one. */
  admit(key: string, now: number): number | undefined {
    const known = this.#keys.get(key);
    // Until later than that: the clock was set back since, and silence is not to last as long.
    if (known && now < known.until && known.until - now <= this.#intervalMs) {
      known.held += 1;
      return undefined;
    }
    this.#keys.set(key, { until: now + this.#intervalMs, held: 0 });
    return known?.held ?? 0;
  }
}
