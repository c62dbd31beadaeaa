import type { Command } from 'commander';
import { BUS, describe, SINK_VARIABLES, STREAM, WRONG_SETTINGS } from './terminal/help-page.ts';
import { loaded } from './terminal/loaded.ts';
import { duration } from './terminal/option-values.ts';

const PAGE = {
  summary: 'connect to the bus and to every enabled sink; write, read and remove a probe point in each sink',
  text: `
It says whether the memory here suffices for MAX_SERIES_BYTES, and which limits of the bus can lose messages. It changes
nothing on the bus: the service creates a missing stream or missing checkpoints, and the consumers with which it tries
to read are removed. In a store, it creates missing tables and the like, as the service would, and says so. Each line is printed as
soon as it is known: a store that does not answer within its timeout holds up no other, but those of sinks with longer
windows, which must not share its table. Each failure comes with advice.`,
  examples: [
    ['metrics-fanout check', 'before the first start, and before you add a store'],
    ['metrics-fanout check --json', 'the same, for a program to read'],
    [
      'metrics-fanout check --watch 30s',
      'also listen for 30 s: does the stream store all that is published?',
    ],
  ],
  exit: [
    ['0', 'everything works; what is marked warn works too, and yet there is something to do'],
    ['1', 'something failed; the output says what, and what to do'],
    WRONG_SETTINGS,
  ],
  environment: [...BUS, ...STREAM, ...SINK_VARIABLES],
} as const;

export function checkCommand(): Command {
  return describe('check', PAGE)
    .option('--json', 'print JSON')
    .option(
      '--watch <duration>',
      'also listen to the bus for this long: does the stream store all of it?',
      duration,
    )
    .action(loaded(() => import('./work/check.ts')));
}
