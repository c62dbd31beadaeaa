import { Argument, type Command, Option } from 'commander';
import { MAX_PROFILE_SECONDS, OPERATIONS, type OperationName } from '../control/request.ts';
import {
  BUS,
  describe,
  type HelpPage,
  INTERRUPTED,
  SINK_KINDS,
  settingRows,
  suggest,
  WRONG_SETTINGS,
} from './terminal/help-page.ts';
import { number, serviceUrl, TIME_FORMS, time, timeout } from './terminal/option-values.ts';
import type { CtlOptions } from './work/ctl.ts';

/** A command and the operation that it asks for. Its options have the names of the request's fields. */
interface Asking {
  readonly name: string;
  /** The command that it is a part of; absent: `ctl` itself. */
  readonly group?: 'checkpoint';
  readonly description: string;
  /** What follows `metrics-fanout ctl`, and what it does. */
  readonly example: readonly [line: string, meaning: string];
  readonly operation: OperationName;
  /** The field of the request that is the command's argument. */
  readonly argument?: 'sink' | 'id';
  readonly options?: readonly Option[];
  /**
   * Who is asked if no instance is given: all, any one, or nobody, because the operation changes something.
   * `confirmed`: all, or nobody with --yes.
   */
  readonly unaddressed: 'all' | 'any' | 'refused' | 'confirmed';
}

const TIMEOUT_MS = 5_000;
const TEXT = `
It finds instances on the bus, by PIPELINE; --instance and --all say which of them it asks. An instance that has left
the bus is found without being told if it runs on this machine, as this user, with the PIPELINE and the HTTP_PORT of
this environment: it answers on its control socket. From elsewhere, it answers over HTTP, at --url, if both have the
same CONTROL_TOKEN.`;

const COMMON = {
  exit: [
    ['0', 'every instance did what it was asked, and found nothing wrong'],
    ['1', 'an instance did not, or none answered'],
    WRONG_SETTINGS,
    INTERRUPTED,
  ],
  environment: [...BUS, ...settingRows('pipeline', 'httpHost', 'httpPort', 'controlToken', 'controlSocket')],
} as const;

const PAGE: HelpPage = {
  summary: 'control running instances: status, pause, checkpoint, replay, verify, detach, profiles',
  text: TEXT,
  examples: [
    ['metrics-fanout ctl status', 'every instance, every sink'],
    ['metrics-fanout ctl pause redshift --all', 'stops writing to a store during its maintenance'],
  ],
  ...COMMON,
};

const CHECKPOINT: HelpPage = {
  summary: 'list, reset or move the checkpoints of sinks that run',
  text: `
As metrics-fanout checkpoint, but the instance does it: it takes the sink down, changes the checkpoint of its slice, and
lets the sink begin again there. The other sinks go on. Without --yes it only says what would happen.

${TEXT.trim()}`,
  examples: [
    ['metrics-fanout ctl checkpoint list', 'how far each sink has got'],
    ['metrics-fanout ctl checkpoint set --sink redshift --to 2h --all --yes', 'writes two hours again'],
  ],
  ...COMMON,
};

const rfc3339 = (text: string) => new Date(time(text)).toISOString();
const timeOption = (flags: string, description: string) =>
  new Option(flags, `${TIME_FORMS}; the window of this time is ${description}`).argParser(rfc3339);

const SINK = suggest(new Option('--sink <id>', 'the sink'), SINK_KINDS).makeOptionMandatory();
const CONFIRMED = [
  new Option('--yes', 'do it; without it, nothing is changed'),
  new Option(
    '--force',
    'do it even if other instances run the same slice, or nobody can say: ask all of them',
  ),
];

const TIMEOUT = new Option('--timeout <time>', 'how long to wait for answers, such as 10s')
  .argParser(timeout)
  .default(TIMEOUT_MS, '5s');

const COMMANDS: readonly Asking[] = [
  {
    name: 'status',
    description: 'show what each instance is doing',
    example: ['status', 'every instance, every sink'],
    operation: 'status',
    unaddressed: 'all',
  },
  {
    name: 'config',
    description: 'show the settings of each instance, with secrets masked',
    example: ['config --instance 3f9c0a52b81d4e67 --json', 'the settings of one instance, as JSON'],
    operation: 'config',
    unaddressed: 'all',
  },
  {
    name: 'pause',
    description: 'stop writing to a sink until it is resumed',
    example: ['pause redshift --all', 'during maintenance of that store'],
    operation: 'sink.pause',
    argument: 'sink',
    unaddressed: 'refused',
  },
  {
    name: 'resume',
    description: 'resume a paused sink',
    example: ['resume redshift --all', 'the sink catches up by replay'],
    operation: 'sink.resume',
    argument: 'sink',
    unaddressed: 'refused',
  },
  {
    name: 'list',
    group: 'checkpoint',
    description: 'show how far each sink has got, by the checkpoints of the pipeline',
    example: ['checkpoint list --json', 'everything that is known of them, as JSON'],
    operation: 'checkpoint.list',
    options: [suggest(new Option('--sink <id>', 'only this sink (default: all)'), SINK_KINDS)],
    unaddressed: 'any',
  },
  {
    name: 'reset',
    group: 'checkpoint',
    description: 'have a sink begin again by its START',
    example: ['checkpoint reset --sink redshift --all --yes', 'of each instance, its own slice'],
    operation: 'checkpoint.reset',
    options: [SINK, ...CONFIRMED],
    unaddressed: 'confirmed',
  },
  {
    name: 'set',
    group: 'checkpoint',
    description: 'have a sink go on with another window',
    example: ['checkpoint set --sink redshift --to 2h', 'what would happen: two hours are written again'],
    operation: 'checkpoint.set',
    options: [SINK, timeOption('--to <time>', 'the next').makeOptionMandatory(), ...CONFIRMED],
    unaddressed: 'confirmed',
  },
  {
    name: 'replay',
    description: 'recompute a range of windows and overwrite them in a sink',
    example: [
      'replay --sink redshift --from 2026-11-23T01:00:00Z --to 2026-11-23T02:00:00Z',
      'one hour, by any one instance',
    ],
    operation: 'replay',
    options: [
      SINK,
      timeOption('--from <time>', 'the first').makeOptionMandatory(),
      timeOption('--to <time>', 'excluded (default: all complete windows)'),
    ],
    unaddressed: 'any',
  },
  {
    name: 'verify',
    description: 'compare sinks with the stream, row by row',
    example: ['verify --all --json', 'all that the stream still holds, by every instance, for a script'],
    operation: 'verify',
    options: [
      timeOption('--from <time>', 'the first (default: where the sink began, as far as the stream holds)'),
      timeOption('--to <time>', 'excluded (default: all confirmed windows)'),
      suggest(new Option('--sink <id>', 'only this sink (default: all enabled sinks)'), SINK_KINDS),
      new Option('--name <glob>', 'only series whose name matches the glob, such as http.*'),
    ],
    unaddressed: 'any',
  },
  {
    name: 'detach',
    description: 'leave the bus and keep running',
    example: ['detach --instance 3f9c0a52b81d4e67', 'to inspect it; another instance may do the work'],
    operation: 'detach',
    options: [new Option('--keep-control', 'keep answering over the bus')],
    unaddressed: 'refused',
  },
  {
    name: 'attach',
    description: 'return to the bus',
    example: ['attach --all', 'on its machine or in its pod, because it is not on the bus'],
    operation: 'attach',
    unaddressed: 'refused',
  },
  {
    name: 'profile',
    description: 'write a CPU profile into CONTROL_PROFILE_DIR of the instance',
    example: ['profile --all --seconds 20', 'twenty seconds of each instance'],
    operation: 'profile.cpu',
    options: [
      new Option('--seconds <n>', `length in seconds, 1 to ${MAX_PROFILE_SECONDS} (default: 10)`).argParser(
        number(1, MAX_PROFILE_SECONDS),
      ),
    ],
    unaddressed: 'refused',
  },
  {
    name: 'heap',
    description: 'write a heap snapshot into CONTROL_PROFILE_DIR of the instance (it blocks while writing)',
    example: ['heap --instance 3f9c0a52b81d4e67', 'a copy of all its memory: keep it secret'],
    operation: 'profile.heap',
    unaddressed: 'refused',
  },
  {
    name: 'task',
    description: 'show the progress of a task, and its result',
    example: ['task 5f1c2d --json', 'a task that was started with --no-wait'],
    operation: 'task.status',
    argument: 'id',
    unaddressed: 'all',
  },
  {
    name: 'cancel',
    description: 'cancel a task',
    example: ['cancel 5f1c2d', 'stops the task where it is'],
    operation: 'task.cancel',
    argument: 'id',
    unaddressed: 'all',
  },
];

export function ctlCommand(): Command {
  const ctl = describe('ctl', PAGE);
  const checkpoint = describe('checkpoint', CHECKPOINT);
  for (const asking of COMMANDS) {
    if (asking.group === undefined) ctl.addCommand(commandOf(asking));
    else checkpoint.addCommand(commandOf(asking));
  }
  return ctl.addCommand(checkpoint);
}

function commandOf(asking: Asking): Command {
  const { name, description, example, operation, argument, options = [] } = asking;
  const { fields } = OPERATIONS[operation];
  const [line, meaning] = example;
  const command = describe(name, {
    summary: description,
    text: TEXT,
    examples: [[`metrics-fanout ctl ${line}`, meaning]],
    ...COMMON,
  });
  if (argument === 'sink') command.addArgument(suggest(new Argument('<sink>', 'id of the sink'), SINK_KINDS));
  if (argument === 'id') command.argument('<id>', 'id of the task, as printed at its start');
  for (const option of options) command.addOption(option);
  if ('callback' in fields) {
    command
      .option('--no-wait', 'print the id of the task, and do not wait for it to end')
      .option(
        '--callback <url>',
        'where the instance reports the end; the host must be in its CONTROL_CALLBACK_HOSTS',
      );
  }
  return command
    .option('--instance <id>', 'ask this instance (status shows the ids)')
    .option('--all', 'ask every instance of the pipeline')
    .option('--url <url>', 'ask the instance at this HTTP address, such as http://127.0.0.1:9464', serviceUrl)
    .addOption(TIMEOUT)
    .option('--json', 'print JSON')
    .action(async () => {
      const given: CtlOptions & Readonly<Record<string, unknown>> = command.opts();
      const value = (key: string) => (key === argument ? command.args[0] : given[key]);
      const request = Object.fromEntries(Object.keys(fields).map((key) => [key, value(key)]));
      const { control } = await import('./work/ctl.ts');
      const unaddressed =
        asking.unaddressed === 'confirmed' ? (given.yes ? 'refused' : 'all') : asking.unaddressed;
      await control({ operation, unaddressed, request }, given, command);
    });
}
