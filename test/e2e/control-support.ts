/** Instances under control, and what asks them: by hand over the bus, or by `ctl`. */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Msg, type NatsConnection, RequestStrategy } from 'nats';
import type { AnswerBody } from '../../src/control/controller.ts';
import type { TaskReport } from '../../src/control/tasks.ts';
import { startProgram } from '../../src/servers/fanout-program.ts';

/** What a test looks at: whatever is there. */
// biome-ignore lint/suspicious/noExplicitAny: the tests say what they expect of it
export type Anything = any;

/** A heap snapshot stops everything for as long as it takes. */
const ANSWER_TIMEOUT_MS = 20_000;

/** One answer to a raw request. */
export async function ask(
  client: NatsConnection,
  target: string,
  operation: string,
  request: unknown = {},
): Promise<AnswerBody & { readonly result?: Anything; readonly error?: Anything }> {
  const body =
    typeof request === 'string' || request instanceof Uint8Array ? request : JSON.stringify(request);
  const options = { timeout: ANSWER_TIMEOUT_MS };
  return JSON.parse((await client.request(`fanout.control.${target}.${operation}`, body, options)).string());
}

/** Every answer to a raw request. */
export async function askEverybody(client: NatsConnection, subject: string, body = ''): Promise<Anything[]> {
  const answers: Msg[] = [];
  const options = { strategy: RequestStrategy.JitterTimer, jitter: 400, maxWait: 3000 };
  for await (const message of await client.requestMany(subject, body, options)) answers.push(message);
  return answers.map((message) => message.json());
}

/** The report of the task that an answer names. */
export async function ended(
  client: NatsConnection,
  target: string,
  { result }: { readonly result?: Anything },
): Promise<TaskReport & { readonly result: Anything; readonly callback: Anything }> {
  for (let i = 0; i < 300; i++) {
    const answer = await ask(client, target, 'task.status', { id: result.id });
    if (answer.result.state !== 'running') return answer.result;
    await sleep(100);
  }
  throw new Error(`the task ${result.id} does not end`);
}

export async function ctl(env: Readonly<Record<string, string>>, ...args: readonly string[]) {
  const program = startProgram(['ctl', ...args], env);
  const code = await program.ended;
  const { stdout, stderr } = program.output;
  const answers: Anything[] = stdout.startsWith('{') ? JSON.parse(stdout).answers : [];
  return { code, stdout, stderr, answers };
}

export async function eventually(what: string, isTrue: () => Promise<boolean>, ms = 15_000): Promise<void> {
  for (const deadline = Date.now() + ms; !(await isTrue()); await sleep(100)) {
    if (Date.now() > deadline) throw new Error(`not within ${ms} ms: ${what}`);
  }
}
