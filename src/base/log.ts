import { destination, pino } from 'pino';
import { type LogFormat, lineForPeople } from './log-line.ts';
import { printable } from './printable.ts';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

/** JSON lines, or text. They never hold a secret: the errors of the bus and of the sinks are built without any. */
export interface Log {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

const STDERR = 2;

/**
 * Creates a log on stderr. It is synchronous, so that the last line before an exit is not lost. Names and errors come
 * from outside: what would act on a terminal, or what nobody sees, is written as an escape of JSON.
 */
export function createLog(level: LogLevel, format: LogFormat = 'auto'): Log {
  const stderr = destination({ dest: STDERR, sync: true });
  const write = isForPeople(format)
    ? (line: string) => stderr.write(`${lineForPeople(JSON.parse(line), hasColours())}\n`)
    : (line: string) => stderr.write(`${printable(line.trimEnd())}\n`);
  return pino(
    {
      level,
      base: null,
      formatters: { level: (label) => ({ level: label }) },
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
    },
    { write },
  );
}

export function isForPeople(format: LogFormat): boolean {
  return format === 'text' || (format === 'auto' && process.stderr.isTTY);
}

function hasColours(): boolean {
  return process.stderr.isTTY && process.stderr.hasColors();
}

/** Lets one line through per key and interval, and says with the next line how many it held back. */
export class Quiet {
  readonly #intervalMs: number;
  readonly #keys = new Map<string, { until: number; held: number }>();

  constructor(intervalMs: number) {
    this.#intervalMs = intervalMs;
  }

  /** Returns undefined to hold the line back; otherwise how many lines of the key were held back since the last one. */
  admit(key: string, now: number): number | undefined {
    const known = this.#keys.get(key);
    // If `until` is further away than one interval, the clock was set back: silence must not last that long.
    if (known && now < known.until && known.until - now <= this.#intervalMs) {
      known.held += 1;
      return undefined;
    }
    this.#keys.set(key, { until: now + this.#intervalMs, held: 0 });
    return known?.held ?? 0;
  }
}
