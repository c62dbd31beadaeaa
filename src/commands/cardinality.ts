import type { Command } from 'commander';
import { withAskedInstances } from './terminal/asked-instances.ts';
import { BUS, describe, INTERRUPTED, settingRows, WRONG_SETTINGS } from './terminal/help-page.ts';
import { loaded } from './terminal/loaded.ts';

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
  return withAskedInstances(describe('cardinality', PAGE))
    .option('--json', 'print JSON')
    .action(loaded(() => import('./work/cardinality.ts')));
}
