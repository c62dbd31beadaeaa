import type { Command } from 'commander';
import { createLog } from '../../base/log.ts';
import { BusError } from '../../bus/bus-error.ts';
import { type Bus, connect } from '../../bus/connect.ts';
import { EVERY_INSTANCE } from '../../bus/control.ts';
import { type Config, loadConfig, WITHOUT_SINKS } from '../../config/config.ts';
import { localUrl } from '../../config/local-url.ts';
import { BusWay, HttpWay, type Reply, type Way } from '../../control/client.ts';
import { findControlSocket } from '../../control/control-socket.ts';
import { OPERATIONS, type OperationName } from '../../control/request.ts';
import type { TaskReport } from '../../control/tasks.ts';
import { type Outcome, outcomesJson, outcomesText } from '../ctl-report.ts';
import { print } from '../terminal/output.ts';
import { exitCodeOf, stopSignal } from '../terminal/stop-signal.ts';

export interface CtlOptions {
  readonly instance?: string;
  readonly all?: true;
  readonly url?: string;
  readonly timeout: number;
  readonly wait?: boolean;
  readonly json?: true;
}

/** What an instance is asked for. */
interface Asked {
  readonly operation: OperationName;
  /** Who is asked if no instance is given: all, any one, or nobody, because the operation changes something. */
  readonly unaddressed: 'all' | 'any' | 'refused';
  readonly request: object;
}

const UNREACHED: readonly (string | undefined)[] = ['ECONNREFUSED', 'ENOENT', 'EACCES'];

export async function control(asking: Asked, options: CtlOptions, command: Command): Promise<void> {
  if (options.instance !== undefined && options.all)
    command.error('error: give --instance or --all, not both');
  const isAddressed = options.instance !== undefined || options.all || options.url !== undefined;
  if (!isAddressed && asking.unaddressed === 'refused')
    command.error(
      'error: say which instance: --instance <id> (ctl status shows the ids), --all or --url <url>',
    );
  const config = await loadConfig(process.env, WITHOUT_SINKS);
  const outcomes = await askAndWait(asking, options, config, stopSignal());
  const { columns } = process.stdout;
  const text = options.json ? outcomesJson(outcomes) : outcomesText(asking.operation, outcomes, columns);
  const areWell = outcomes.length > 0 && outcomes.every((one) => isWell(one, asking.operation));
  await print(text, exitCodeOf(areWell ? 0 : 1));
  process.exit();
}

async function askAndWait(
  asking: Asked,
  options: CtlOptions,
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
async function askInstances(asking: Asked, options: CtlOptions, config: Config): Promise<Found> {
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
