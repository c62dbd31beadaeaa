import { type Command, Option } from 'commander';
import {
  BUS,
  describe,
  INTERRUPTED,
  MESSAGE_FORMAT,
  settingRows,
  suggest,
  WRONG_SETTINGS,
} from './terminal/help-page.ts';
import { loaded } from './terminal/loaded.ts';
import { integer, subjects, timeout } from './terminal/option-values.ts';

const MAX_TIMES = 1_000_000;

const PAGE = {
  summary: 'show the busiest metrics, live',
  text: `
It only listens. By subject, it counts messages. By name, type or dimension, it counts samples; those that the service
would reject count as (rejected). For a dimension called subject, name or type, write dimension:KEY.`,
  examples: [
    ['metrics-fanout top', 'messages and bytes a second, by subject'],
    ['metrics-fanout top --by app --interval 5s', 'samples a second, by the dimension app'],
    ['metrics-fanout top --by name --times 1 --json', 'one update, as JSON'],
  ],
  exit: [['0', '--times reached'], ['1', 'the bus cannot be reached'], WRONG_SETTINGS, INTERRUPTED],
  environment: [...BUS, ...settingRows('metricsSubjects'), ...MESSAGE_FORMAT],
} as const;

export function topCommand(): Command {
  const by = new Option('--by <what>', 'subject, name, type or the key of a dimension').default('subject');
  const interval = new Option('--interval <time>', 'time between updates, such as 5s');
  return describe('top', PAGE)
    .argument('[subjects...]', 'NATS subjects (default: METRICS_SUBJECTS)', subjects)
    .addOption(suggest(by, ['subject', 'name', 'type']))
    .addOption(interval.argParser(timeout).default(1000, '1s'))
    .option('--times <n>', 'end after this many updates', integer(1, MAX_TIMES))
    .option('--json', 'print JSON, one line per update')
    .action(loaded(() => import('./work/top.ts')));
}
