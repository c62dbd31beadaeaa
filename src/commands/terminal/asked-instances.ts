import { type Command, Option } from 'commander';
import { serviceUrl, timeout } from './option-values.ts';

const TIMEOUT_MS = 5_000;

/** The options of a command that asks running instances: which of them, in which way, and how long it waits. */
export function withAskedInstances(command: Command): Command {
  return command
    .option('--instance <id>', 'ask this instance only (ctl status shows the ids)')
    .option('--url <url>', 'ask the instance at this HTTP address only, with CONTROL_TOKEN', serviceUrl)
    .addOption(
      new Option('--timeout <time>', 'how long to wait for answers, such as 10s')
        .argParser(timeout)
        .default(TIMEOUT_MS, '5s'),
    );
}
