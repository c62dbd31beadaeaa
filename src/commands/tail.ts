import type { Command } from 'commander';
import { BUS, describe, INTERRUPTED, MESSAGE_FORMAT, STREAM, WRONG_SETTINGS } from './terminal/help-page.ts';
import { loaded } from './terminal/loaded.ts';
import { dimensionFilter, integer, subjects, TIME_FORMS, time } from './terminal/option-values.ts';

const MAX_RATE = 1_000_000;

const PAGE = {
  summary: 'show samples as they are published',
  text: `
It only listens: everyone else still gets every message, and it stores nothing on the bus. Samples that the service
would reject are shown with the reason; --rejected shows only these. Lines held back by --rate, or by a slow reader of the output, are counted on
stderr. With --from, messages come from the stream, in its order, and then live.`,
  examples: [
    ["metrics-fanout tail --name 'http.*' --where app=api", 'the matching samples of one app'],
    ["metrics-fanout tail 'metrics.web.>' --rate 5", 'other subjects, at most five lines a second'],
    ['metrics-fanout tail --rejected', 'only what the service would reject, and why'],
    [
      'metrics-fanout tail --from 2026-11-23T01:00:00Z --limit 100 --json',
      'a hundred lines from the stream, as JSON',
    ],
  ],
  exit: [
    ['0', '--limit reached'],
    ['1', 'the bus cannot be reached, or the options are invalid'],
    WRONG_SETTINGS,
    INTERRUPTED,
  ],
  environment: [...BUS, ...STREAM, ...MESSAGE_FORMAT],
} as const;

export function tailCommand(): Command {
  return describe('tail', PAGE)
    .argument('[subjects...]', 'NATS subjects (default: METRICS_SUBJECTS)', subjects)
    .option('--name <glob>', 'only series whose name matches the glob, such as http.*')
    .option(
      '--where <key=glob>',
      'only series with this dimension; may be repeated: all must match',
      dimensionFilter,
      [],
    )
    .option('--rejected', 'only what the service would reject, with the reason in words')
    .option('--rate <n>', 'at most this many lines a second', integer(1, MAX_RATE))
    .option('--limit <n>', 'end after this many lines', integer(1, Number.MAX_SAFE_INTEGER))
    .option('--from <time>', `${TIME_FORMS}; start there in the stream`, time)
    .option('--json', 'print JSON, one line per sample')
    .action(loaded(() => import('./work/tail.ts')));
}
