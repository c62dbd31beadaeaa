import { type Command, InvalidArgumentError, Option } from 'commander';
import { CORE_SETTINGS } from '../config/core-settings.ts';
import {
  BUS,
  describe,
  type HelpPage,
  type HelpRow,
  INTERRUPTED,
  SINK_KINDS,
  SINK_VARIABLES,
  STREAM,
  settingRows,
  suggest,
  WRONG_SETTINGS,
} from './terminal/help-page.ts';
import { TIME_FORMS, time } from './terminal/option-values.ts';
import type { ChangeOptions, ListOptions } from './work/checkpoint.ts';

const environment = [...BUS, ...STREAM, ...settingRows('slice', 'controlEnabled'), ...SINK_VARIABLES];
const TEXT = `
A sink goes on at its checkpoint, which says which windows its store has. The checkpoints are in a key-value bucket on
the bus, a key for each sink and slice. Nothing else is needed to look at them, to remove them and to move them.`;
/** For the commands that change something. */
const CHANGING = `
Without --yes it only says what would happen. Stop all instances with the sink before: one that runs writes its own
checkpoint over yours. It asks on the bus which ones run, and refuses while there are any, or if it may not ask. An
instance with CONTROL_ENABLED=false does not answer. What somebody else writes meanwhile is never overwritten.`;
const CHANGE_EXIT: readonly HelpRow[] = [
  ['0', 'it is done, or (without --yes) this is what would be done'],
  ['1', 'it was refused, or the bus cannot be reached'],
  WRONG_SETTINGS,
  INTERRUPTED,
];

const PAGE: HelpPage = {
  summary: 'list, reset or move the checkpoints of sinks',
  text: TEXT,
  examples: [
    ['metrics-fanout checkpoint list', 'how far each sink has got'],
    ['metrics-fanout checkpoint reset --sink sqlite', 'what removing a checkpoint would do'],
  ],
  exit: [
    ['0', 'all is well'],
    ['1', 'a checkpoint cannot be read, a change was refused, or the bus cannot be reached'],
    WRONG_SETTINGS,
    INTERRUPTED,
  ],
  environment,
};

const LIST: HelpPage = {
  summary: 'show how far each sink has got, by its checkpoint',
  text: `
It shows the checkpoints of all sinks of the pipeline, enabled here or not, and of all slices. It only reads, and the
service may keep running. A running sink is a little further than its checkpoint, which it saves once a second.`,
  examples: [['metrics-fanout checkpoint list --json', 'everything that is known of them, as JSON']],
  exit: [
    ['0', 'all of them can be read'],
    ['1', 'one cannot, or the bus cannot be reached'],
    WRONG_SETTINGS,
    INTERRUPTED,
  ],
  environment,
};

const RESET: HelpPage = {
  summary: 'remove the checkpoints of a sink, so that its START decides where it begins',
  text: `
It removes the checkpoints of all slices of the sink, or of the one that --slice names. What the store holds stays as it
is, and what is written again has the same keys, so nothing counts twice.

${CHANGING.trim()} A checkpoint that cannot be read may be removed while instances run: they never overwrite it.`,
  examples: [
    ['metrics-fanout checkpoint reset --sink sqlite', 'what would happen'],
    ['SINK_SQLITE_START=earliest metrics-fanout checkpoint reset --sink sqlite --yes', 'and does it'],
  ],
  exit: CHANGE_EXIT,
  environment,
};

const SET: HelpPage = {
  summary: 'move the checkpoints of a sink to another window',
  text: `
Back, and the windows from there on are written again. Ahead, and those in between are skipped: the store never gets
them, unless a replay writes them. The window must be one that the stream holds whole.

${CHANGING.trim()}`,
  examples: [
    ['metrics-fanout checkpoint set --sink sqlite --to 2h', 'what would happen: two hours are written again'],
    ['metrics-fanout checkpoint set --sink sqlite --to 2026-11-23T01:00:00Z --yes', 'and does it'],
  ],
  exit: CHANGE_EXIT,
  environment,
};

const sinkOption = (description: string) => suggest(new Option('--sink <id>', description), SINK_KINDS);

export function checkpointCommand(): Command {
  const list = describe('list', LIST)
    .addOption(sinkOption('only this sink (default: all)'))
    .option('--json', 'print JSON')
    .action(async (options: ListOptions, command: Command) => {
      const { listCheckpoints } = await import('./work/checkpoint.ts');
      await listCheckpoints(options, command);
    });
  const set = describe('set', SET)
    .addOption(sinkOption('the sink, enabled or not').makeOptionMandatory())
    .requiredOption('--to <time>', `${TIME_FORMS}; the window of this time is the next`, time);
  const reset = describe('reset', RESET).addOption(
    sinkOption('the sink, enabled or not').makeOptionMandatory(),
  );
  const page = describe('checkpoint', PAGE).addCommand(list);
  return page.addCommand(changing(reset)).addCommand(changing(set));
}

function changing(command: Command): Command {
  return command
    .option('--slice <i/n>', 'only the checkpoint of this slice (default: of all slices)', slice)
    .option('--yes', 'do it; without it, nothing is changed')
    .option('--force', 'do it even if instances run, or nobody can say whether any do')
    .option('--json', 'print JSON')
    .action(async (options: ChangeOptions) => {
      const { changeCheckpoints } = await import('./work/checkpoint.ts');
      await changeCheckpoints(command.name() === 'set' ? 'set' : 'reset', options, command);
    });
}

function slice(text: string): string {
  const { parse, expected } = CORE_SETTINGS.slice;
  const parsed = parse(text);
  if (parsed === undefined) throw new InvalidArgumentError(`Expected ${expected}.`);
  return `${parsed.index}/${parsed.of}`;
}
