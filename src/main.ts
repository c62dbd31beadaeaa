/** argv -> command. */
import { constants } from 'node:os';
import { createProgram } from './commands/program.ts';
import { ConfigError, EXIT_CONFIG } from './config/config.ts';
import { hideEnvironment } from './settings/secrets.ts';

const RUN = 'run';

hideEnvironment();

// Whoever reads us may have enough (`| head`): that is no error, and hides none that was found. A command that has
// something to end on the bus first listens to it itself.
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
  process.exit(error instanceof ConfigError ? EXIT_CONFIG : 1);
}

/**
 * To the first process of a container the kernel passes no signal that it has no handler for: without these, one that
 * comes before a command has its own, or to a command that has none, would be lost.
 */
function endBySignal(): void {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      if (process.listenerCount(signal) === 1) process.exit(128 + constants.signals[signal]);
    });
  }
}

/** Errors of bus and sinks come with advice; anything else is ours, and its trace helps. */
function failureText(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error instanceof ConfigError) return error.message;
  if ('advice' in error) return `${error.message}\n  ${error.advice}`;
  // A file that cannot be opened and the like: the message names it.
  if ('syscall' in error) return error.message;
  return error.stack ?? error.message;
}
