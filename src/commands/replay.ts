import { type Command, Option } from 'commander';
import {
  BUS,
  describe,
  INTERRUPTED,
  SINK_KINDS,
  SINK_VARIABLES,
  STREAM,
  suggest,
  WRONG_SETTINGS,
} from './terminal/help-page.ts';
import { loaded } from './terminal/loaded.ts';
import { TIME_FORMS, time } from './terminal/option-values.ts';

const PAGE = {
  summary: 'recompute a range of windows from the stream and overwrite them in a sink',
  text: 'It is safe while the service runs, because both write the same rows. It does not touch checkpoints.',
  examples: [
    [
      'metrics-fanout replay --sink redshift --from 2026-11-23T01:00:00Z --to 2026-11-23T02:00:00Z',
      'one hour, after the store lost some of its rows',
    ],
  ],
  exit: [
    ['0', 'every window of the range is in the store'],
    ['1', 'some are not, or the bus cannot be reached'],
    WRONG_SETTINGS,
    INTERRUPTED,
  ],
  environment: [...BUS, ...STREAM, ...SINK_VARIABLES],
} as const;

export function replayCommand(): Command {
  const sink = new Option('--sink <id>', 'an enabled sink');
  return describe('replay', PAGE)
    .addOption(suggest(sink, SINK_KINDS).makeOptionMandatory())
    .requiredOption('--from <time>', `${TIME_FORMS}; the window of this time is the first`, time)
    .option('--to <time>', 'the window of this time is excluded (default: all complete windows)', time)
    .option('--json', 'print JSON')
    .action(loaded(() => import('./work/replay.ts')));
}
