#!/usr/bin/env node
/** argv -> command. */
import { Command } from 'commander';
import { checkCommand } from './commands/check.ts';
import { compareCommand } from './commands/compare.ts';
import { configCommand } from './commands/config.ts';
import { countCommand } from './commands/count.ts';
import { ctlCommand } from './commands/ctl.ts';
import { demoCommand } from './commands/demo.ts';
import { loadCommand } from './commands/load.ts';
import { replayCommand } from './commands/replay.ts';
import { runCommand } from './commands/run.ts';
import { tailCommand } from './commands/tail.ts';
import { topCommand } from './commands/top.ts';
import { verifyCommand } from './commands/verify.ts';
import { ConfigError, EXIT_CONFIG } from './config.ts';
import { hideEnvironment } from './secrets.ts';
import { VERSION } from './version.ts';

hideEnvironment();

const program = new Command('metrics-fanout')
  .description(
    'Aggregates metrics from a NATS bus in windows and writes every window to several stores at once, exactly.',
  )
  .version(VERSION)
  .addCommand(runCommand(), { isDefault: true })
  .addCommand(demoCommand())
  .addCommand(checkCommand())
  .addCommand(tailCommand())
  .addCommand(topCommand())
  .addCommand(countCommand())
  .addCommand(verifyCommand())
  .addCommand(replayCommand())
  .addCommand(compareCommand())
  .addCommand(loadCommand())
  .addCommand(ctlCommand())
  .addCommand(configCommand());

// Whoever reads us may have enough (`| head`): that is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));

try {
  await program.parseAsync();
} catch (error) {
  process.stderr.write(`metrics-fanout: ${inWords(error)}\n`);
  // A client of a store may hold on to its sockets: do not wait for it.
  process.exit(error instanceof ConfigError ? EXIT_CONFIG : 1);
}

/** Errors of bus and sinks come with advice; anything else is ours, and its trace helps. */
function inWords(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error instanceof ConfigError) return error.message;
  if ('advice' in error) return `${error.message}\n  ${error.advice}`;
  // A file that cannot be opened and the like: the message names it.
  if ('syscall' in error) return error.message;
  return error.stack ?? error.message;
}
