/** Requests to instances: raw ones over the bus, or with `ctl`. */
import { setTimeout as sleep } from 'node:timers/promises';
import { createInbox, type Msg, type NatsConnection } from 'nats';
import type { AnswerBody } from '../../src/control/controller.ts';
import type { TaskReport } from '../../src/control/tasks.ts';
import { startProgram } from '../../src/servers/fanout-program.ts';
import { LIMIT_MS } from '../limits.ts';

/** An answer that a test looks into without types. */
// biome-ignore lint/suspicious/noExplicitAny: the tests say what they expect of it
export type Anything = any;

/** One answer to a raw request. */
export async function ask(
  client: NatsConnection,
  target: string,
  operation: string,
  request: unknown = {},
): Promise<AnswerBody & { readonly result?: Anything; readonly error?: Anything }> {
  const body =
    typeof request === 'string' || request instanceof Uint8Array ? request : JSON.stringify(request);
  const options = { timeout: LIMIT_MS };
  return JSON.parse((await client.request(`fanout.control.${target}.${operation}`, body, options)).string());
}

interface Everybody {
  readonly body?: string;
  /** How many answers are expected; default 1. */
  readonly answers?: number;
  /** How many instances there are; default: as many as answers. */
  readonly instances?: number;
}

/** All answers to a raw request: the expected ones, and any others that came before the answers to a later request. */
export async function askEverybody(
  client: NatsConnection,
  subject: string,
  { body = '', answers = 1, instances = answers }: Everybody = {},
): Promise<Anything[]> {
  const first = publishFor(client, subject, body);
  await eventually(`${answers} answers`, async () => first.length >= answers);
  const marker = publishFor(client, 'fanout.control.all.status', '{}');
  await eventually('every instance has answered after that', async () => marker.length >= instances);
  return first.map((message) => message.json());
}

/** Publishes a request. The result collects the answers as they arrive. */
function publishFor(client: NatsConnection, subject: string, body: string): readonly Msg[] {
  const answers: Msg[] = [];
  const reply = createInbox();
  client.subscribe(reply, { callback: (_, message) => answers.push(message) });
  client.publish(subject, body, { reply });
  return answers;
}

/** Waits for the end of the task that an answer names, and returns its report. */
export async function ended(
  client: NatsConnection,
  target: string,
  { result }: { readonly result?: Anything },
): Promise<TaskReport & { readonly result: Anything; readonly callback: Anything }> {
  let report: Anything;
  await eventually(`the task ${result.id} ends`, async () => {
    report = (await ask(client, target, 'task.status', { id: result.id })).result;
    return report.state !== 'running';
  });
  return report;
}

/** The default would lead to the control socket of a service that somebody else runs on this machine. */
const NOBODYS_PORT = '1';

/** Waits for the answers, however long they take. If none will come, `args` must contain a `--timeout`. */
export async function ctl(env: Readonly<Record<string, string>>, ...args: readonly string[]) {
  const patience = args.includes('--timeout') ? [] : ['--timeout', `${LIMIT_MS}ms`];
  const program = startProgram(['ctl', ...args, ...patience], { HTTP_PORT: NOBODYS_PORT, ...env });
  const code = await program.ended;
  const { stdout, stderr } = program.output;
  const answers: Anything[] = stdout.startsWith('{') ? JSON.parse(stdout).answers : [];
  return { code, stdout, stderr, answers };
}

/** Repeats the command until this many have answered: `ctl` only waits for instances that it discovers at once. */
export async function ctlOfAll(
  answers: number,
  env: Readonly<Record<string, string>>,
  ...args: readonly string[]
): Promise<Awaited<ReturnType<typeof ctl>>> {
  let asked = await ctl(env, ...args);
  const count = () => asked.answers.length || (asked.stdout.match(/^[0-9a-f]{16} /gm)?.length ?? 0);
  for (const deadline = Date.now() + LIMIT_MS; count() < answers && Date.now() < deadline; )
    asked = await ctl(env, ...args);
  return asked;
}

export async function eventually(what: string, isTrue: () => Promise<boolean>): Promise<void> {
  for (const deadline = Date.now() + LIMIT_MS; !(await isTrue()); await sleep(100)) {
    if (Date.now() > deadline) throw new Error(`not within ${LIMIT_MS} ms: ${what}`);
  }
}

/**
 * Resolves when the checkpoint has a receipt later than `after`. What it does not speak of yet is written again without
 * a refill. `key`: as in `default.sqlite.0-1`.
 */
export async function untilReceipt(client: NatsConnection, key: string, after: number): Promise<void> {
  const bucket = await client.jetstream().views.kv('fanout-checkpoints');
  await eventually('the checkpoint has the receipt', async () => {
    const checkpoint = (await bucket.get(key))!.json<{ receipts?: object }>();
    return Object.values(checkpoint.receipts ?? {}).some((time) => time > after);
  });
}
