/** The command tree: main parses it, and help, the manual page and the completions are built from it. */
import type { Command } from 'commander';
import { VERSION } from '../base/version.ts';
import { askCommand } from './ask.ts';
import { cardinalityCommand } from './cardinality.ts';
import { checkCommand } from './check.ts';
import { checkpointCommand } from './checkpoint.ts';
import { compareCommand } from './compare.ts';
import { completionCommand } from './completion.ts';
import { configCommand } from './config.ts';
import { countCommand } from './count.ts';
import { ctlCommand } from './ctl.ts';
import { demoCommand } from './demo.ts';
import { healthCommand } from './health.ts';
import { loadCommand } from './load.ts';
import { manualCommand } from './manual.ts';
import { replayCommand } from './replay.ts';
import { runCommand } from './run.ts';
import { tailCommand } from './tail.ts';
import { describe } from './terminal/help-page.ts';
import { topCommand } from './top.ts';
import { trialCommand } from './trial.ts';
import { verifyCommand } from './verify.ts';

const PAGE = {
  summary:
    'Aggregates metrics from a NATS bus in windows and writes every window to several stores at once, exactly.',
  text: `
Without a command, it runs the service. Every setting is an environment variable; metrics-fanout config shows them. Each
command has its own --help. metrics-fanout manual prints all of it as a manual page.`,
  examples: [
    ['NATS_URL=nats://my-bus:4222 metrics-fanout check', 'tests whether it can reach the bus and the stores'],
    ['NATS_URL=nats://my-bus:4222 metrics-fanout', 'runs the service'],
  ],
  exit: [
    ['0', 'success'],
    ['1', 'something failed, or the options are invalid'],
    ['69', 'this Node.js is too old'],
    ['78', 'settings are wrong or missing; all of them are listed'],
  ],
} as const;

export function createProgram(): Command {
  return describe('metrics-fanout', PAGE)
    .version(VERSION)
    .addCommand(runCommand())
    .addCommand(demoCommand())
    .addCommand(checkCommand())
    .addCommand(tailCommand())
    .addCommand(topCommand())
    .addCommand(countCommand())
    .addCommand(askCommand())
    .addCommand(cardinalityCommand())
    .addCommand(verifyCommand())
    .addCommand(replayCommand())
    .addCommand(compareCommand())
    .addCommand(trialCommand())
    .addCommand(loadCommand())
    .addCommand(checkpointCommand())
    .addCommand(ctlCommand())
    .addCommand(configCommand())
    .addCommand(healthCommand())
    .addCommand(completionCommand())
    .addCommand(manualCommand());
}
