import type { Command } from 'commander';
import { BUS, describe, SINK_VARIABLES, WRONG_SETTINGS } from './terminal/help-page.ts';
import { loaded } from './terminal/loaded.ts';

const PAGE = {
  summary: 'print the settings resolved from the environment, with secrets masked',
  text: `
Every setting is an environment variable. A secret can also come from the file that <NAME>_FILE names.`,
  examples: [
    [
      'metrics-fanout config',
      'what a service in this environment would use, and where each value comes from',
    ],
    ['metrics-fanout config --markdown', 'every setting, with its meaning and default'],
  ],
  exit: [['0', 'the settings are valid'], WRONG_SETTINGS],
  environment: [...BUS, ['...', 'and all other variables that --markdown lists'], ...SINK_VARIABLES],
} as const;

export function configCommand(): Command {
  return describe('config', PAGE)
    .option('--json', 'print JSON')
    .option('--markdown', 'print the table of all settings, as in docs/settings.md')
    .action(loaded(() => import('./work/config.ts')));
}
