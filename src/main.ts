/** argv -> command. */
import { constants } from 'node:os';
import { hideEnvironment } from './base/hidden-environment.ts';
import { endProcess } from './base/process-end.ts';
import { createProgram } from './commands/program.ts';
import { ConfigError, EXIT_CONFIG } from './config/config-error.ts';

const RUN = 'run';

hideEnvironment();

// The reader of our output may stop early (`| head`). That is not an error, and it does not change the exit code. A
// command that must first end something on the bus adds its own listener.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') process.exit(1);
  if (process.stdout.listenerCount('error') === 1) process.exit();
});
if (process.pid === 1) endBySignal();

const args = process.argv.slice(2);
try {
  await createProgram().parseAsync(args.length > 0 ? args : [RUN], { from: 'user' });
} catch (error) {
  process.stderr.write(`metrics-fanout: ${failureText(error)}\n`);
  // A client of a store may hold on to its sockets: do not wait for it.
  endProcess(error instanceof ConfigError ? EXIT_CONFIG : 1);
}

/**
 * The kernel drops a signal to the first process of a container if that process has no handler for it. Without these
 * handlers, a signal would be lost if it came before a command installs its own, or if the command installs none.
 */
function endBySignal(): void {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      if (process.listenerCount(signal) === 1) endProcess(128 + constants.signals[signal]);
    });
  }
}

/** Errors of the bus and the sinks come with advice. Anything else is our bug, and its stack trace helps. */
function failureText(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error instanceof ConfigError) return error.message;
  if ('advice' in error) return `${error.message}\n  ${error.advice}`;
  // Such as a file that cannot be opened: the message names it.
  if ('syscall' in error) return error.message;
  return error.stack ?? error.message;
}
