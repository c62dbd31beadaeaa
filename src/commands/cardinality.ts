import { type Command, Option } from 'commander';
import { BUS, describe, INTERRUPTED, settingRows, WRONG_SETTINGS } from './terminal/help-page.ts';
import { loaded } from './terminal/loaded.ts';
import { timeout } from './terminal/option-values.ts';

const TIMEOUT_MS = 5_000;

const PAGE = {
  summary: 'which names and dimensions have how many series, and since when',
  text: `
It is about the closed windows of the last hour that an instance has in memory (RECENT_BYTES). What was first seen more
than a minute after the first of these windows counts as new. All instances are asked, and the one that knows the most
series is shown: a slice has only its own windows.`,
  examples: [
    ['metrics-fanout cardinality', 'the names and the dimensions with the most series'],
    ['metrics-fanout cardinality --json', 'the same as JSON'],
  ],
  exit: [['0', 'an instance answered'], ['1', 'none did'], WRONG_SETTINGS, INTERRUPTED],
  environment: [...BUS, ...settingRows('pipeline', 'httpHost', 'httpPort', 'controlToken', 'controlSocket')],
} as const;

export function cardinalityCommand(): Command {
  return describe('cardinality', PAGE)
    .option('--instance <id>', 'ask this instance only (ctl status shows the ids)')
    .option('--url <url>', 'ask the instance at this HTTP address only, with CONTROL_TOKEN')
    .addOption(
      new Option('--timeout <time>', 'how long to wait for answers, such as 10s')
        .argParser(timeout)
        .default(TIMEOUT_MS, '5s'),
    )
    .option('--json', 'print JSON')
    .action(loaded(() => import('./work/cardinality.ts')));
}
