/** Finds the instances that a command asks, wherever they are, and asks them. */
import { silenceReason } from '../../base/http-client.ts';
import { createLog } from '../../base/log.ts';
import { BusError } from '../../bus/bus-error.ts';
import { type Bus, connect } from '../../bus/connect.ts';
import { EVERY_INSTANCE } from '../../bus/control.ts';
import { meanSameBus, shownBusUrls } from '../../config/bus-urls.ts';
import type { Config } from '../../config/config.ts';
import { localUrl } from '../../config/local-url.ts';
import { BusWay, HttpWay, type Reply, type Way } from '../../control/client.ts';
import { findControlSocket } from '../../control/control-socket.ts';
import { isRead, OPERATIONS, type OperationName } from '../../control/request.ts';
import type { Status } from '../../observe/status.ts';

/** Which instances are meant. */
export interface Addressed {
  readonly instance?: string;
  readonly all?: true;
  readonly url?: string;
  readonly timeout: number;
}

/** What an instance is asked for. */
export interface InstanceAsking {
  readonly operation: OperationName;
  /** Who is asked if no instance is given: all, any one, or nobody, because the operation changes something. */
  readonly unaddressed: 'all' | 'any' | 'refused';
  readonly request: object;
}

const UNREACHED: readonly (string | undefined)[] = ['ECONNREFUSED', 'ENOENT', 'EACCES'];

/** The answers, and how each instance that gave one is asked for more. */
interface Found {
  readonly way: (reply: Reply) => Way;
  readonly replies: readonly Reply[];
}

/**
 * Asks on the bus. If no instance answers there, or an instance that matters may not be there, it also asks the
 * instance of this environment on this machine.
 */
export async function askInstances(
  asking: InstanceAsking,
  options: Addressed,
  config: Config,
): Promise<Found> {
  const { operation, request, unaddressed } = asking;
  const { timeout: timeoutMs, url, instance } = options;
  const { pipeline, controlToken: token } = config.core;
  if (url !== undefined) {
    const http = new HttpWay(url, undefined, { token, timeoutMs });
    const replies = await http.ask(instance ?? EVERY_INSTANCE, operation, request).catch((error) => {
      throw noAnswer(url, silenceReason(error, timeoutMs));
    });
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
    : await askLocally(config, timeoutMs, (way) => askUnlessElsewhere(way, target, asking, config));
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

/**
 * An instance that is found by its socket or its port need not be on the bus that this environment names. Then it is
 * only asked for what changes nothing. One of an older version does not tell its bus.
 */
async function askUnlessElsewhere(
  way: HttpWay,
  target: string,
  { operation, request }: InstanceAsking,
  { core }: Config,
): Promise<Reply[]> {
  const [reply] = await way.ask(target, 'status', {});
  if (reply?.body?.ok !== true) return await way.ask(target, operation, request);
  const { urls } = (reply.body.result as Status).bus as Partial<Status['bus']>;
  const otherBus = urls === undefined || meanSameBus(urls, core.natsUrl) ? undefined : urls;
  if (otherBus === undefined || isRead(operation)) {
    const replies = operation === 'status' ? [reply] : await way.ask(target, operation, request);
    return replies.map((one) => ({ ...one, otherBus }));
  }
  const { instance, pipeline } = reply.body;
  const message = `nothing was done: this instance is on another bus, ${otherBus.join(',')}, and NATS_URL here is ${shownBusUrls(core.natsUrl).join(',')}. If it is meant, set NATS_URL to its bus, or give --url.`;
  return [
    { ...reply, otherBus, body: { instance, pipeline, ok: false, error: { code: 'other_bus', message } } },
  ];
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

function noAnswer(url: string, reason: string): Error {
  const advice =
    'Is the service running there? The URL is that of its HTTP_PORT, such as http://127.0.0.1:9464, and has a path only if a proxy adds one.';
  return Object.assign(new Error(`${url}: ${reason}`), { advice });
}

function nobody(instance: string | undefined, pipeline: string): BusError {
  return new BusError(
    instance === undefined
      ? `no instance of the pipeline ${pipeline} answers on the bus`
      : `no instance ${instance} of the pipeline ${pipeline} answers on the bus`,
    'Is the service running? If so, check PIPELINE, CONTROL_ENABLED and the permissions on the bus. A detached instance answers only its own user on its machine, and with CONTROL_TOKEN over HTTP: use --url http://its-address:9464.',
  );
}
