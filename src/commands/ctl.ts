import { Argument, type Command, Option } from 'commander';
import { createLog } from '../base/log.ts';
import { BusError } from '../bus/bus-error.ts';
import { type Bus, connect } from '../bus/connect.ts';
import { EVERY_INSTANCE } from '../bus/control.ts';
import { type Config, loadConfig } from '../config/config.ts';
import { BusWay, HttpWay, type Reply, type Way } from '../control/client.ts';
import { MAX_PROFILE_SECONDS, OPERATIONS, type OperationName } from '../control/request.ts';
import type { TaskReport } from '../control/tasks.ts';
import { type Outcome, outcomesJson, outcomesText } from './ctl-report.ts';
import {
  BUS,
  describe,
  type HelpPage,
  SINK_KINDS,
  settingRows,
  suggest,
  WRONG_SETTINGS,
} from './terminal/help-page.ts';
import { localUrl, number, stopSignal, time, timeout } from './terminal/option-values.ts';
import { print } from './terminal/output.ts';

interface Options {
  readonly instance?: string;
  readonly all?: true;
  readonly url?: string;
  readonly timeout: number;
  readonly wait?: boolean;
  readonly json?: true;
}

/** A command and what it asks for; its options are called as the fields of the request are. */
interface Asking {
  readonly name: string;
  readonly description: string;
  /** Follows `metrics-fanout ctl`, and what comes of it. */
  readonly example: readonly [line: string, meaning: string];
  readonly operation: OperationName;
  /** The field that is its argument. */
  readonly argument?: 'sink' | 'id';
  readonly options?: readonly Option[];
  /** Who is asked where nothing is said: all, one that is there, or nobody, since it changes something. */
  readonly unaddressed: 'all' | 'any' | 'refused';
}

const TIMEOUT_MS = 5_000;
const TEXT = `
Instances are found on the bus, by PIPELINE; --instance and --all say which are asked. An instance that has left the bus
answers over HTTP: at --url, or by itself where its HTTP_PORT is that of this environment and machine.`;

const COMMON = {
  exit: [
    ['0', 'every instance that was asked has answered that it did what was asked, and found all well'],
    ['1', 'one has not, or nobody answered'],
    WRONG_SETTINGS,
  ],
  environment: [...BUS, ...settingRows('pipeline', 'httpHost', 'httpPort', 'controlToken')],
} as const;

const PAGE: HelpPage = {
  summary: 'ask instances that run: status, pause, resume, replay, verify, detach, attach, profiles',
  text: TEXT,
  examples: [
    ['metrics-fanout ctl status', 'every instance, every sink'],
    ['metrics-fanout ctl pause redshift --all', 'leaves a store alone while it is worked on'],
  ],
  ...COMMON,
};

const rfc3339 = (text: string) => new Date(time(text)).toISOString();
const timeOption = (flags: string, description: string) =>
  new Option(flags, `RFC 3339; its window is ${description}`).argParser(rfc3339);
const FROM = timeOption('--from <time>', 'the first').makeOptionMandatory();

const TIMEOUT = new Option('--timeout <time>', 'how long answers are waited for, such as 10s')
  .argParser(timeout)
  .default(TIMEOUT_MS, '5s');

const COMMANDS: readonly Asking[] = [
  {
    name: 'status',
    description: 'what each instance does',
    example: ['status', 'every instance, every sink'],
    operation: 'status',
    unaddressed: 'all',
  },
  {
    name: 'config',
    description: 'the settings of each instance, secrets masked',
    example: ['config --instance 3f9c0a52b81d4e67 --json', 'the settings of one, as JSON'],
    operation: 'config',
    unaddressed: 'all',
  },
  {
    name: 'pause',
    description: 'leave a sink alone until it is resumed',
    example: ['pause redshift --all', 'while that store is worked on'],
    operation: 'sink.pause',
    argument: 'sink',
    unaddressed: 'refused',
  },
  {
    name: 'resume',
    description: 'go on with a paused sink',
    example: ['resume redshift --all', 'it catches up by replay'],
    operation: 'sink.resume',
    argument: 'sink',
    unaddressed: 'refused',
  },
  {
    name: 'replay',
    description: 'compute a range of windows again and write it over what a sink has',
    example: [
      'replay --sink redshift --from 2026-11-23T01:00:00Z --to 2026-11-23T02:00:00Z',
      'an hour, by one of them',
    ],
    operation: 'replay',
    options: [
      suggest(new Option('--sink <id>', 'the sink'), SINK_KINDS).makeOptionMandatory(),
      FROM,
      timeOption('--to <time>', 'not written any more (default: all that are complete)'),
    ],
    unaddressed: 'any',
  },
  {
    name: 'verify',
    description: 'compare sinks with the stream, row by row',
    example: ['verify --from 2026-11-23T01:00:00Z', 'all sinks from a time on, by one of them'],
    operation: 'verify',
    options: [
      FROM,
      timeOption('--to <time>', 'no more judged (default: what is confirmed)'),
      suggest(new Option('--sink <id>', 'only this sink (default: all that are on)'), SINK_KINDS),
      new Option('--name <glob>', 'only series whose name matches, such as http.*'),
    ],
    unaddressed: 'any',
  },
  {
    name: 'detach',
    description: 'leave the bus and stay up',
    example: ['detach --instance 3f9c0a52b81d4e67', 'for a look at it; another instance may do the work'],
    operation: 'detach',
    options: [new Option('--keep-control', 'go on answering over the bus')],
    unaddressed: 'refused',
  },
  {
    name: 'attach',
    description: 'come back to the bus',
    example: ['attach --url http://10.0.0.7:9464', 'over HTTP, since it is not on the bus'],
    operation: 'attach',
    unaddressed: 'refused',
  },
  {
    name: 'profile',
    description: 'write a CPU profile into CONTROL_PROFILE_DIR of the instance',
    example: ['profile --all --seconds 20', 'twenty seconds of each instance'],
    operation: 'profile.cpu',
    options: [
      new Option(
        '--seconds <n>',
        `how long, in seconds, 1 to ${MAX_PROFILE_SECONDS} (default: 10)`,
      ).argParser(number(1, MAX_PROFILE_SECONDS)),
    ],
    unaddressed: 'refused',
  },
  {
    name: 'heap',
    description: 'write a heap snapshot there; the instance stands still meanwhile',
    example: ['heap --instance 3f9c0a52b81d4e67', 'all of its memory: a secret'],
    operation: 'profile.heap',
    unaddressed: 'refused',
  },
  {
    name: 'task',
    description: 'how far a task is, and what came of it',
    example: ['task 5f1c2d --json', 'a task that was begun with --no-wait'],
    operation: 'task.status',
    argument: 'id',
    unaddressed: 'all',
  },
  {
    name: 'cancel',
    description: 'end a task',
    example: ['cancel 5f1c2d', 'ends it where it stands'],
    operation: 'task.cancel',
    argument: 'id',
    unaddressed: 'all',
  },
];

export function ctlCommand(): Command {
  const ctl = describe('ctl', PAGE);
  for (const asking of COMMANDS) ctl.addCommand(commandOf(asking));
  return ctl;
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
  if (argument === 'sink') command.addArgument(suggest(new Argument('<sink>', 'its id'), SINK_KINDS));
  if (argument === 'id') command.argument('<id>', 'of the task, as it was told when that was begun');
  for (const option of options) command.addOption(option);
  if ('callback' in fields) {
    command
      .option('--no-wait', 'print the id of the task, and do not wait for its end')
      .option('--callback <url>', 'where the instance reports the end, a host of its CONTROL_CALLBACK_HOSTS');
  }
  return command
    .option('--instance <id>', 'ask this instance (status shows the ids)')
    .option('--all', 'ask every instance of the pipeline')
    .option('--url <url>', 'ask the instance whose HTTP address this is, such as http://127.0.0.1:9464')
    .addOption(TIMEOUT)
    .option('--json', 'print JSON')
    .action(async () => {
      const given: Options & Readonly<Record<string, unknown>> = command.opts();
      const value = (key: string) => (key === argument ? command.args[0] : given[key]);
      const request = Object.fromEntries(Object.keys(fields).map((key) => [key, value(key)]));
      await control({ ...asking, request }, given, command);
    });
}

type Asked = Asking & { readonly request: object };

async function control(asking: Asked, options: Options, command: Command): Promise<void> {
  if (options.instance !== undefined && options.all) command.error('error: --instance or --all, not both');
  const isAddressed = options.instance !== undefined || options.all || options.url !== undefined;
  if (!isAddressed && asking.unaddressed === 'refused')
    command.error('error: say which: --instance <id> (ctl status shows them), --all or --url <url>');
  const config = await loadConfig(process.env);
  const outcomes = await askAndWait(asking, options, config, stopSignal());
  const { columns } = process.stdout;
  const text = options.json ? outcomesJson(outcomes) : outcomesText(asking.operation, outcomes, columns);
  await print(text, outcomes.length > 0 && outcomes.every((one) => isWell(one, asking.operation)) ? 0 : 1);
  process.exit();
}

async function askAndWait(
  asking: Asked,
  options: Options,
  config: Config,
  stop: AbortSignal,
): Promise<Outcome[]> {
  const { way, replies } = await askSomebody(asking, options, config);
  return await Promise.all(
    replies.map(async (reply): Promise<Outcome> => {
      const id = taskIdOf(reply);
      if (id === undefined || asking.operation === 'task.status' || options.wait !== true) return { reply };
      const task = await way(reply).untilEnded(reply.instance, id, stop);
      return { reply, task: task ?? 'unknown' };
    }),
  );
}

interface Found {
  readonly way: (reply: Reply) => Way;
  readonly replies: readonly Reply[];
}

/** On the bus; where nobody answers there, or not everybody can, the instance of this environment over HTTP. */
async function askSomebody(asking: Asked, options: Options, config: Config): Promise<Found> {
  const { operation, request, unaddressed } = asking;
  const { timeout: timeoutMs, url, instance } = options;
  const { pipeline, controlToken: token } = config.core;
  if (url !== undefined) {
    const http = new HttpWay(url, undefined, { token, timeoutMs });
    const replies = await http.ask(instance ?? EVERY_INSTANCE, operation, request);
    return { way: () => http, replies };
  }
  const local = new HttpWay(localUrl(config.core), pipeline, { token, timeoutMs });
  const opened = await openBus(config, timeoutMs, 'callback' in OPERATIONS[operation].fields);
  const any = unaddressed === 'any' && instance === undefined && !options.all;
  let target = instance ?? EVERY_INSTANCE;
  if (any && opened instanceof BusWay) target = (await opened.first()) ?? EVERY_INSTANCE;
  const found = opened instanceof BusWay ? await opened.ask(target, operation, request) : [];
  // Who has left the bus is to be seen, too, and is who is to be attached.
  const isComplete = found.length > 0 && operation !== 'status' && operation !== 'attach';
  const beside = isComplete ? [] : await local.ask(target, operation, request).catch(() => []);
  const own = beside.filter(
    ({ instance, body }) =>
      isOf(body, instance, target) && !found.some((other) => other.instance === instance),
  );
  const replies = known(operation, [...found, ...own]);
  if (replies.length === 0) throw opened instanceof BusWay ? nobody(instance, pipeline) : opened;
  return { way: ({ via }) => (via === 'bus' && opened instanceof BusWay ? opened : local), replies };
}

/** What answers at the local address may be an instance that is not meant: its refusal is not worth showing. */
function isOf(body: Reply['body'], instance: string, target: string): boolean {
  const isMeant = target === EVERY_INSTANCE || target === instance;
  return isMeant && !(body?.ok === false && body.error.code === 'unknown_instance');
}

/** A task is known to one: that the others do not know it is no answer, where one does. */
function known(operation: OperationName, replies: readonly Reply[]): readonly Reply[] {
  if (operation !== 'task.status' && operation !== 'task.cancel') return replies;
  const knowing = replies.filter(({ body }) => body?.ok !== false || body.error.code !== 'unknown_task');
  return knowing.length > 0 ? knowing : replies;
}

async function openBus({ core }: Config, timeoutMs: number, hears: boolean): Promise<BusWay | BusError> {
  try {
    const bus: Bus = await connect(core, createLog('error'), { name: 'metrics-fanout ctl' });
    return await BusWay.open(bus, core.pipeline, timeoutMs, hears);
  } catch (error) {
    if (error instanceof BusError) return error;
    throw error;
  }
}

function nobody(instance: string | undefined, pipeline: string): BusError {
  return new BusError(
    instance === undefined
      ? `no instance of the pipeline ${pipeline} answers on the bus`
      : `no instance ${instance} of the pipeline ${pipeline} answers on the bus`,
    'Check PIPELINE, CONTROL_ENABLED and the permissions on the bus; an instance that was detached answers over HTTP: --url http://its-address:9464.',
  );
}

function taskIdOf({ body }: Reply): string | undefined {
  if (!body?.ok) return undefined;
  const { id, state } = body.result as Partial<TaskReport>;
  return state === undefined ? undefined : id;
}

/** Whether the instance did what was asked, and what it found is well. */
function isWell({ reply: { body }, task: awaited }: Outcome, operation: OperationName): boolean {
  if (!body?.ok) return false;
  const told = operation === 'task.status' ? (body.result as TaskReport) : undefined;
  const task = told?.state === 'running' ? undefined : (awaited ?? told);
  if (task === undefined) return true;
  if (task === 'unknown' || task.state !== 'done' || task.error !== null) return false;
  const { equal = true, done = true } = (task.result ?? {}) as { equal?: boolean; done?: boolean };
  return equal && done;
}
