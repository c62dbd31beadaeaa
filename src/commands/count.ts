import { type Command, InvalidArgumentError } from 'commander';
import { BUS, describe, INTERRUPTED, MESSAGE_FORMAT, STREAM, WRONG_SETTINGS } from './terminal/help-page.ts';
import { loaded } from './terminal/loaded.ts';
import { dimensionFilter, TIME_FORMS, time } from './terminal/option-values.ts';

const PAGE = {
  summary: 'count samples in the stream, exactly, and sum their values',
  text: `
As in every store, a sample counts in the window that it belongs to. So the sum of count over the windows from --from to
--to is the number to expect in a store. Both times are moved to the start of their window, and the range is limited to
windows that are complete and that the stream holds whole. The range is printed. Without --from, earlier windows that the
stream no longer holds are said, and do not change the exit code. Of timers, it merges percentiles over the windows and series of a group. It only reads, and the service need not be running.`,
  examples: [
    ['metrics-fanout count', 'everything that the stream holds, by name and type'],
    [
      "metrics-fanout count --name 'http.*' --by app,status --from 2026-11-23T01:00:00Z --to 2026-11-23T02:00:00Z",
      'one hour of some names, by app and status',
    ],
  ],
  exit: [
    ['0', 'nothing in the range is missing'],
    [
      '1',
      'something in the range is missing, nothing matches --name and --where, or the bus cannot be reached',
    ],
    WRONG_SETTINGS,
    INTERRUPTED,
  ],
  environment: [...BUS, ...STREAM, ...MESSAGE_FORMAT],
} as const;

export function countCommand(): Command {
  return describe('count', PAGE)
    .option(
      '--from <time>',
      `${TIME_FORMS}; the window of this time is the first (default: the first whole window)`,
      time,
    )
    .option('--to <time>', 'the window of this time is excluded (default: all complete windows)', time)
    .option('--name <glob>', 'only series whose name matches the glob, such as http.*')
    .option(
      '--where <key=glob>',
      'only series with this dimension; may be repeated: all must match',
      dimensionFilter,
      [],
    )
    .option('--by <keys>', 'dimensions to count by, comma separated', keys, [])
    .option('--json', 'print JSON')
    .action(loaded(() => import('./work/count.ts')));
}

function keys(text: string): string[] {
  const parsed = text.split(',').map((key) => key.trim());
  if (parsed.includes('')) throw new InvalidArgumentError('Expected keys such as app,status.');
  return [...new Set(parsed)];
}
