import { Argument, type Command, Option } from 'commander';
import { createLog } from '../base/log.ts';
import { BusError } from '../bus/bus-error.ts';
import { type Bus, connect } from '../bus/connect.ts';
import { EVERY_INSTANCE } from '../bus/control.ts';
import { type Config, loadConfig } from '../config/config.ts';
import { BusWay, HttpWay, type Reply, type Way } from '../control/client.ts';
import { findControlSocket } from '../control/control-socket.ts';
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
import { localUrl, number, time, timeout } from './terminal/option-values.ts';
import { print } from './terminal/output.ts';
import { stopSignal } from './terminal/stop-signal.ts';

interface Options {
  readonly instance?: string;
  readonly all?: true;
  readonly url?: string;
  readonly timeout: number;
  readonly wait?: boolean;
  readonly json?: true;
}

/** A command and the operation that it asks for. Its options have the names of the request's fields. */
interface Asking {
  readonly name: string;
  readonly description: string;
  /** What follows `metrics-fanout ctl`, and what it does. */
  readonly example: readonly [line: string, meaning: string];
  readonly operation: OperationName;
  /** The field of the request that is the command's argument. */
  readonly argument?: 'sink' | 'id';
  readonly options?: readonly Option[];
  /** Who is asked if no instance is given: all, any one, or nobody, because the operation changes something. */
  readonly unaddressed: 'all' | 'any' | 'refused';
}

const TIMEOUT_MS = 5_000;
const UNREACHED: readonly (string | undefined)[] = ['ECONNREFUSED', 'ENOENT', 'EACCES'];
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
  ],
  environment: [...BUS, ...settingRows('pipeline', 'httpHost', 'httpPort', 'controlToken', 'controlSocket')],
} as const;

const PAGE: HelpPage = {
  summary: 'control running instances: status, pause, resume, replay, verify, detach, attach, profiles',
  text: TEXT,
  examples: [
    ['metrics-fanout ctl status', 'every instance, every sink'],
    ['metrics-fanout ctl pause redshift --all', 'stops writing to a store during its maintenance'],
  ],
  ...COMMON,
};

const rfc3339 = (text: string) => new Date(time(text)).toISOString();
const timeOption = (flags: string, description: string) =>
  new Option(flags, `RFC 3339; the window of this time is ${description}`).argParser(rfc3339);
const FROM = timeOption('--from <time>', 'the first').makeOptionMandatory();

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
    name: 'replay',
    description: 'recompute a range of windows and overwrite them in a sink',
    example: [
      'replay --sink redshift --from 2026-11-23T01:00:00Z --to 2026-11-23T02:00:00Z',
      'one hour, by any one instance',
    ],
    operation: 'replay',
    options: [
      suggest(new Option('--sink <id>', 'the sink'), SINK_KINDS).makeOptionMandatory(),
      FROM,
      timeOption('--to <time>', 'excluded (default: all complete windows)'),
    ],
    unaddressed: 'any',
  },
  {
    name: 'verify',
    description: 'compare sinks with the stream, row by row',
    example: ['verify --from 2026-11-23T01:00:00Z', 'all sinks from a time on, by any one instance'],
    operation: 'verify',
    options: [
      FROM,
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
    .option('--url <url>', 'ask the instance at this HTTP address, such as http://127.0.0.1:9464')
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
  if (options.instance !== undefined && options.all)
    command.error('error: give --instance or --all, not both');
  const isAddressed = options.instance !== undefined || options.all || options.url !== undefined;
  if (!isAddressed && asking.unaddressed === 'refused')
    command.error(
      'error: say which instance: --instance <id> (ctl status shows the ids), --all or --url <url>',
    );
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
  const { way, replies } = await askInstances(asking, options, config);
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

/**
 * Asks on the bus. If no instance answers there, or an instance that matters may not be there, it also asks the
 * instance of this environment on this machine.
 */
async function askInstances(asking: Asked, options: Options, config: Config): Promise<Found> {
  const { operation, request, unaddressed } = asking;
  const { timeout: timeoutMs, url, instance } = options;
  const { pipeline, controlToken: token } = config.core;
  if (url !== undefined) {
    const http = new HttpWay(url, undefined, { token, timeoutMs });
    const replies = await http.ask(instance ?? EVERY_INSTANCE, operation, request);
    return { way: () => http, replies };
  }
  const opened = await openBus(config, timeoutMs, 'callback' in OPERATIONS[operation].fields);
  const any = unaddressed === 'any' && instance === undefined && !options.all;
  let target = instance ?? EVERY_INSTANCE;
  if (any && opened instanceof BusWay) target = (await opened.first()) ?? EVERY_INSTANCE;
  const found = opened instanceof BusWay ? await opened.ask(target, operation, request) : [];
  // `status` also shows an instance that has left the bus, and `attach` is for such an instance.
  const isComplete = found.length > 0 && operation !== 'status' && operation !== 'attach';
  const { way: local, replies: answers } = isComplete
    ? { way: undefined, replies: [] }
    : await askLocally(config, timeoutMs, (way) => way.ask(target, operation, request));
  const own = answers.filter(
    ({ instance, body }) =>
      isOf(body, instance, target) && !found.some((other) => other.instance === instance),
  );
  const replies = known(operation, [...found, ...own]);
  if (replies.length === 0) throw opened instanceof BusWay ? nobody(instance, pipeline) : opened;
  // A reply has come by one of the two.
  return { way: ({ via }) => (via === 'bus' ? opened : local) as Way, replies };
}

/** Asks the instance of this environment over its socket, or over HTTP if there is a token to show. */
async function askLocally(
  { core }: Config,
  timeoutMs: number,
  ask: (way: HttpWay) => Promise<Reply[]>,
): Promise<{ readonly way: HttpWay | undefined; readonly replies: readonly Reply[] }> {
  const { pipeline, controlToken: token } = core;
  const [url, socketPath] = [localUrl(core), findControlSocket(core)];
  const ways: HttpWay[] = [];
  if (socketPath !== undefined) ways.push(new HttpWay(url, pipeline, { token, socketPath, timeoutMs }));
  if (token !== undefined) ways.push(new HttpWay(url, pipeline, { token, timeoutMs }));
  for (const way of ways) {
    try {
      return { way, replies: await ask(way) };
    } catch (error) {
      // An instance that was reached may have done it without answering in time, so it must not be asked twice.
      if (!UNREACHED.includes((error as NodeJS.ErrnoException).code)) break;
    }
  }
  return { way: undefined, replies: [] };
}

/** The instance at the local address may not be one that was asked for. Then its refusal is not worth showing. */
function isOf(body: Reply['body'], instance: string, target: string): boolean {
  const isMeant = target === EVERY_INSTANCE || target === instance;
  return isMeant && !(body?.ok === false && body.error.code === 'unknown_instance');
}

/** Only one instance knows a task. If it answers, the others' refusals are dropped. */
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
    'Check PIPELINE, CONTROL_ENABLED and the permissions on the bus. A detached instance answers only its own user on its machine, and with CONTROL_TOKEN over HTTP: use --url http://its-address:9464.',
  );
}

function taskIdOf({ body }: Reply): string | undefined {
  if (!body?.ok) return undefined;
  const { id, state } = body.result as Partial<TaskReport>;
  return state === undefined ? undefined : id;
}

/** Whether the instance did what was asked, and found nothing wrong. */
function isWell({ reply: { body }, task: awaited }: Outcome, operation: OperationName): boolean {
  if (!body?.ok) return false;
  const reported = operation === 'task.status' ? (body.result as TaskReport) : undefined;
  const task = reported?.state === 'running' ? undefined : (awaited ?? reported);
  if (task === undefined) return true;
  if (task === 'unknown' || task.state !== 'done' || task.error !== null) return false;
  const { equal = true, done = true } = (task.result ?? {}) as { equal?: boolean; done?: boolean };
  return equal && done;
}
