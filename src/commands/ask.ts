import { type Command, InvalidArgumentError, Option } from 'commander';
import { parseDuration } from '../base/time-text.ts';
import { MAX_BY, MAX_GROUPS, MAX_WHERE, RECENT_MS } from '../recent/question.ts';
import { withAskedInstances } from './terminal/asked-instances.ts';
import { BUS, describe, INTERRUPTED, settingRows, WRONG_SETTINGS } from './terminal/help-page.ts';
import { loaded } from './terminal/loaded.ts';
import { dimensionFilter, integer, millisecondsLike, TIME_FORMS, time } from './terminal/option-values.ts';

const SHOWN_GROUPS = 50;

const PAGE = {
  summary: 'sums, rates and percentiles of the last hour, without a store',
  text: `
Instances keep the closed windows of the last hour in memory, as far as RECENT_BYTES reaches. All instances of the
PIPELINE are asked on the bus, and what they have is put together: slices add up, and a window that several instances
have counts once. What is missing, or not sure, is said. count does the same from the stream, for any time, and takes
longer.`,
  examples: [
    [
      "metrics-fanout ask 'http.requests' --where app=api --by status --last 5m",
      'requests of one service, by status',
    ],
    ["metrics-fanout ask 'http.*' --from 18:30 --to 18:40 --json", 'ten minutes of some names, as JSON'],
  ],
  exit: [
    ['0', 'every window of the range is there, and whole'],
    ['1', 'one is missing or in doubt, or nobody answers'],
    WRONG_SETTINGS,
    INTERRUPTED,
  ],
  environment: [...BUS, ...settingRows('pipeline', 'httpHost', 'httpPort', 'controlToken', 'controlSocket')],
} as const;

export function askCommand(): Command {
  const command = describe('ask', PAGE)
    .argument('[name]', 'only series whose name matches the glob, such as http.*')
    .option(
      '--where <key=glob>',
      `only series with this dimension; may be repeated, up to ${MAX_WHERE} times: all must match`,
      dimensionFilter,
      [],
    )
    .option('--by <keys>', `dimensions to group by, comma separated, up to ${MAX_BY}`, keys, [])
    .option(
      '--last <time>',
      'how long, up to the newest closed window, such as 90s, at most 1h (default: 5m)',
      last,
    )
    .option('--from <time>', `${TIME_FORMS}; the window of this time is the first`, time)
    .option('--to <time>', 'the window of this time is excluded (default: all closed windows)', time)
    .addOption(
      new Option('--limit <n>', `groups to show, the largest first, 1 to ${MAX_GROUPS}`)
        .argParser(integer(1, MAX_GROUPS))
        .default(SHOWN_GROUPS),
    );
  return withAskedInstances(command)
    .option('--json', 'print JSON')
    .action(loaded(() => import('./work/ask.ts')));
}

const last = millisecondsLike({
  parse: (text) => {
    const ms = parseDuration(text);
    return ms !== undefined && ms <= RECENT_MS ? ms : undefined;
  },
  expected: 'a duration from 1ms to 1h, such as 5m',
});

function keys(text: string): string[] {
  const parsed = text.split(',').map((key) => key.trim());
  if (parsed.includes('') || parsed.length > MAX_BY)
    throw new InvalidArgumentError(`Expected up to ${MAX_BY} keys such as app,status.`);
  return [...new Set(parsed)];
}
