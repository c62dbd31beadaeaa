import { type Command, InvalidArgumentError, Option } from 'commander';
import { setting } from '../settings/builders.ts';
import { STAGES, type Stage } from '../trial/result.ts';
import {
  BUS,
  describe,
  type HelpPage,
  INTERRUPTED,
  SINK_KINDS,
  SINK_VARIABLES,
  STREAM,
  suggest,
  WRONG_SETTINGS,
} from './terminal/help-page.ts';
import { loaded } from './terminal/loaded.ts';
import { duration, number, TIME_FORMS, time } from './terminal/option-values.ts';

const MIN_SECONDS = 0.1;
const MAX_SECONDS = 3_600;

const PAGE: HelpPage = {
  summary: 'try stores on your own traffic: speed, room, cost, proof',
  text: `
It reads windows from the stream once, writes them to tables of its own (trial_...) in each store, asks each store the
questions of dashboards, compares every answer with the truth before any time counts, and compares all rows at the end.
Then it deletes its tables. It never touches those of the service, and the service may keep running.

Stages: ${STAGES.join(', ')}. A kind of store that cannot keep a trial apart is left out.`,
  examples: [
    ['metrics-fanout trial --report trial.html', 'all enabled sinks, on all that the stream holds'],
    ['metrics-fanout trial --sinks postgres,clickhouse --from 30m --json > before.json', 'two of them'],
    ['metrics-fanout trial --seconds 1 --without ingest,money', 'a quick look'],
    ['metrics-fanout trial diff before.json after.json', 'what changed between two trials'],
    ['metrics-fanout trial clean', 'what a killed trial left behind'],
  ],
  exit: [
    ['0', 'every store went through all stages, and holds what the stream says'],
    ['1', 'one did not, or answered wrongly, or the bus cannot be reached'],
    WRONG_SETTINGS,
    INTERRUPTED,
  ],
  environment: [...BUS, ...STREAM, ...SINK_VARIABLES],
};

const DIFF: HelpPage = {
  summary: 'compare two trials: what changed by more than noise',
  text: `
It compares how each store changed with how the others did, and with how all of them change within each of the trials,
where nothing changed; and reports only what is neither chance nor small. What all stores have in common is the machine.`,
  examples: [['metrics-fanout trial diff before.json after.json', 'in words, and the figures that changed']],
  exit: [
    [
      '0',
      'nothing changed by more than noise: what all stores have in common is no change, and what it calls in doubt is none yet',
    ],
    ['1', 'something did, there is nothing to compare, or a file is not a trial'],
  ],
};

const CLEAN: HelpPage = {
  summary: 'delete the tables that a killed trial left behind',
  text: `
It looks in the stores of the enabled sinks for tables that trials made, by their names and their marks, and deletes
nothing else. Without --yes it only says what it would delete. A trial that still runs needs its tables: those of trials
that began less than --older ago are left alone.`,
  examples: [
    ['metrics-fanout trial clean', 'what there is'],
    ['metrics-fanout trial clean --older 10m --yes', 'deletes it, also that of a trial of this morning'],
  ],
  exit: [
    ['0', 'nothing is left, or (without --yes) this is what would be deleted'],
    [
      '1',
      'a store could not be asked, something could not be deleted, or a kind cannot list its tables: leave it out with --sinks',
    ],
    WRONG_SETTINGS,
    INTERRUPTED,
  ],
  environment: SINK_VARIABLES,
};

const DEFAULT_OLDER_MS = 86_400_000;

export function trialCommand(): Command {
  const without = new Option('--without <stages>', 'leave out these stages, such as ingest,money');
  const report = new Option('--report <file>', 'write an HTML file with the verdict, tables and charts');
  const memory = new Option('--memory <size>', 'how much the windows of the trial may take in memory');
  return describe('trial', PAGE)
    .addOption(suggest(onlySinks().argParser(ids), SINK_KINDS))
    .option('--from <time>', `${TIME_FORMS}; the window of this time is the first (default: all)`, time)
    .option('--to <time>', 'the window of this time is excluded (default: all complete windows)', time)
    .addOption(
      new Option(
        '--seconds <number>',
        'time for each number of writers, and each question and number of clients',
      )
        .argParser(number(MIN_SECONDS, MAX_SECONDS))
        .default(5),
    )
    .addOption(suggest(without.argParser(stages).default([]), STAGES))
    .addOption(memory.argParser(size).default(1_000_000_000, '1GB'))
    .option('--keep', 'do not delete the tables with the rows')
    .addOption(suggest(report, 'file'))
    .option('--json', 'print JSON, for trial diff')
    .action(loaded(() => import('./work/trial.ts')))
    .addCommand(
      describe('diff', DIFF)
        .argument('<before>', 'JSON of the first trial')
        .argument('<after>', 'JSON of the second one')
        .option('--json', 'print JSON')
        .action(loaded(() => import('./work/trial-diff.ts'))),
    )
    .addCommand(
      describe('clean', CLEAN)
        .addOption(suggest(onlySinks().argParser(ids), SINK_KINDS))
        .addOption(
          new Option('--older <time>', 'how long ago the trial began, at least')
            .argParser(duration)
            .default(DEFAULT_OLDER_MS, '1d'),
        )
        .option('--yes', 'do it; without it, nothing is deleted')
        .option('--json', 'print JSON')
        .action(loaded(() => import('./work/trial-clean.ts'))),
    );
}

function onlySinks(): Option {
  return new Option('--sinks <ids>', 'which of the enabled sinks, such as a,b (default: all)');
}

function ids(text: string): string[] {
  return text.split(',').map((id) => id.trim().toLowerCase());
}

function stages(text: string): Stage[] {
  return text.split(',').map((part) => {
    const found = STAGES.find((stage) => stage === part.trim());
    if (found === undefined) throw new InvalidArgumentError(`Expected stages of: ${STAGES.join(', ')}.`);
    return found;
  });
}

function size(text: string): number {
  const { parse, expected } = setting.bytes({ meaning: '' });
  const bytes = parse(text);
  if (bytes === undefined) throw new InvalidArgumentError(`Expected ${expected}.`);
  return bytes;
}
