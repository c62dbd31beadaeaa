/** What Ctrl-C and SIGTERM do to a command, and to the service. */
import { constants } from 'node:os';
import { endProcess } from '../../base/process-end.ts';

const STOP_SIGNALS = ['SIGINT', 'SIGTERM'] as const;
type StopSignal = (typeof STOP_SIGNALS)[number];

export const AGAIN = 'press Ctrl-C again to end at once';
/** Of a process that Ctrl-C ended, as a shell has it. */
export const EXIT_INTERRUPTED = 128 + constants.signals.SIGINT;
let stoppedBy: StopSignal | undefined;

/** Returns the exit code of a command that reports this one, unless a signal ended it before its end. */
export function exitCodeOf(code: number): number {
  return stoppedBy === undefined ? code : 128 + constants.signals[stoppedBy];
}

/**
 * npm and the terminal both pass on one Ctrl-C: two of the same signal within this time, in milliseconds, are one.
 * Nobody decides on a second one sooner.
 */
const SAME_SIGNAL_MS = 500;

/** Whether a signal only repeats the one before it. */
export class Repeats {
  #last: { readonly signal: string; readonly at: number } | undefined;

  isRepeat(signal: string): boolean {
    return this.#last?.signal === signal && performance.now() - this.#last.at < SAME_SIGNAL_MS;
  }

  /** To be called after what the signal starts: that may take long, and a repetition waits meanwhile. */
  heed(signal: string): void {
    this.#last = { signal, at: performance.now() };
  }
}

/** A command that ends sooner than this, in milliseconds, does not say that it is stopping. */
const SILENT_MS = 200;

/**
 * Returns a signal that Ctrl-C or SIGTERM aborts, so that the command can report what it has. A second one ends the
 * process at once (see SAME_SIGNAL_MS), with the exit code of a process that the signal ended: 130 for Ctrl-C.
 */
export function stopSignal(stopping: (signal: StopSignal) => void = sayIfSlow): AbortSignal {
  const stop = new AbortController();
  const repeats = new Repeats();
  for (const signal of STOP_SIGNALS) {
    process.on(signal, () => {
      if (repeats.isRepeat(signal)) return;
      if (stop.signal.aborted) endProcess(128 + constants.signals[signal]);
      stoppedBy = signal;
      stopping(signal);
      stop.abort();
      repeats.heed(signal);
    });
  }
  return stop.signal;
}

function sayIfSlow(): void {
  const newLine = process.stderr.isTTY ? '\n' : '';
  const say = () => process.stderr.write(`${newLine}metrics-fanout: stopping; ${AGAIN}\n`);
  setTimeout(say, SILENT_MS).unref();
}
