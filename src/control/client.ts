/** Asks instances from outside, over the bus or one of them over HTTP or its socket, and waits for their tasks. */
import { setTimeout as sleep } from 'node:timers/promises';
import { ask } from '../base/http-client.ts';
import { printable } from '../base/printable.ts';
import type { Bus } from '../bus/connect.ts';
import { EVERY_INSTANCE } from '../bus/control.ts';
import { askAll, askInstance, hearTasks, instancesOnBus } from '../bus/control-client.ts';
import type { AnswerBody, Via } from './controller.ts';
import type { OperationName } from './request.ts';
import type { TaskReport } from './tasks.ts';

const POLL_MS = 250;
/** The report may get lost on the bus, so the instance is also asked. After MAX_SILENT_POLLS it counts as gone. */
const BUS_POLL_MS = 2_000;
const MAX_SILENT_POLLS = 3;
/** What the service says in words: its main thread is too busy, or stands still, or the host is not its own. */
const UNANSWERED = [421, 503, 504];
/** A proxy may answer in its place, with a page. */
const MAX_REASON_CHARACTERS = 300;

/** The answer of one instance. Without a body, the instance is present but did not answer. */
export interface Reply {
  readonly instance: string;
  readonly via: Via;
  readonly body: AnswerBody | undefined;
  /** The servers of the instance's bus, if nobody asked for it and it is on another one than NATS_URL says here. */
  readonly otherBus?: readonly string[] | undefined;
}

export interface Way {
  /** `target`: an instance, or all. */
  ask(target: string, operation: OperationName, request: object): Promise<Reply[]>;
  /** Resolves when the task has ended. Resolves to undefined if its instance falls silent or the signal aborts. */
  untilEnded(instance: string, id: string, signal: AbortSignal): Promise<TaskReport | undefined>;
}

export class BusWay implements Way {
  readonly #bus: Bus;
  readonly #pipeline: string;
  readonly #timeoutMs: number;
  readonly #reports = new Map<string, TaskReport>();

  private constructor(bus: Bus, pipeline: string, timeoutMs: number) {
    this.#bus = bus;
    this.#pipeline = pipeline;
    this.#timeoutMs = timeoutMs;
  }

  /** `hears`: whether the caller waits for tasks. Rejects with a `BusError`. */
  static async open(bus: Bus, pipeline: string, timeoutMs: number, hears: boolean): Promise<BusWay> {
    const way = new BusWay(bus, pipeline, timeoutMs);
    if (!hears) return way;
    await hearTasks(bus, (report) => {
      const { id } = (report ?? {}) as Partial<TaskReport>;
      if (id !== undefined) way.#reports.set(id, report as TaskReport);
    });
    return way;
  }

  /** Returns any one instance that is present. */
  async first(): Promise<string | undefined> {
    return (await instancesOnBus(this.#bus, this.#pipeline))[0]?.instance;
  }

  async ask(target: string, operation: OperationName, request: object): Promise<Reply[]> {
    const json = JSON.stringify({ ...request, pipeline: this.#pipeline });
    if (target !== EVERY_INSTANCE) {
      const answer = await askInstance(this.#bus, target, operation, json, this.#timeoutMs);
      return answer === undefined ? [] : [replyOf(answer, 'bus')];
    }
    const known = (await instancesOnBus(this.#bus, this.#pipeline)).map(({ instance }) => instance);
    const answers = await askAll(this.#bus, operation, json, known, this.#timeoutMs);
    const replies = answers.map((answer) => replyOf(answer, 'bus'));
    const silent = known.filter((id) => !replies.some(({ instance }) => instance === id));
    return [...replies, ...silent.map((instance): Reply => ({ instance, via: 'bus', body: undefined }))];
  }

  async untilEnded(instance: string, id: string, signal: AbortSignal): Promise<TaskReport | undefined> {
    let polledAt = performance.now();
    for (let silent = 0; silent < MAX_SILENT_POLLS && !signal.aborted; ) {
      const report = this.#reports.get(id);
      if (report !== undefined) return report;
      await sleep(POLL_MS, undefined, { signal }).catch(() => {});
      if (performance.now() - polledAt < BUS_POLL_MS) continue;
      const known = await taskOf(this, instance, id);
      if (known !== undefined && known.state !== 'running') return known;
      silent = known === undefined ? silent + 1 : 0;
      polledAt = performance.now();
    }
    return this.#reports.get(id);
  }
}

export interface HttpWayOptions {
  readonly token: string | undefined;
  /** The control socket, which takes the place of the URL's host. It is not told the token, which it does not need. */
  readonly socketPath?: string;
  readonly timeoutMs: number;
}

export class HttpWay implements Way {
  readonly #url: string;
  readonly #pipeline: string | undefined;
  readonly #options: HttpWayOptions;

  /** `pipeline`: instances of another pipeline do not answer. */
  constructor(url: string, pipeline: string | undefined, options: HttpWayOptions) {
    this.#url = url.replace(/\/+$/, '');
    this.#pipeline = pipeline;
    this.#options = options;
  }

  /** Rejects if nobody answers there, or something that is not an instance. */
  async ask(target: string, operation: OperationName, request: object): Promise<Reply[]> {
    const { token, socketPath, timeoutMs } = this.#options;
    const showsToken = token !== undefined && socketPath === undefined;
    const { status, text } = await ask(`${this.#url}/control/${target}/${operation}`, {
      method: 'POST',
      body: JSON.stringify({ ...request, pipeline: this.#pipeline }),
      headers: {
        'content-type': 'application/json',
        ...(showsToken ? { authorization: `Bearer ${token}` } : {}),
      },
      socketPath,
      signal: AbortSignal.timeout(timeoutMs),
    });
    if (UNANSWERED.includes(status)) throw new Error(printable(text.trim().slice(0, MAX_REASON_CHARACTERS)));
    return [replyOf(JSON.parse(text), socketPath === undefined ? 'http' : 'socket')];
  }

  async untilEnded(instance: string, id: string, signal: AbortSignal): Promise<TaskReport | undefined> {
    for (let silent = 0; silent < MAX_SILENT_POLLS && !signal.aborted; ) {
      const known = await taskOf(this, instance, id).catch(() => undefined);
      if (known !== undefined && known.state !== 'running') return known;
      silent = known === undefined ? silent + 1 : 0;
      await sleep(POLL_MS, undefined, { signal }).catch(() => {});
    }
    return undefined;
  }
}

async function taskOf(way: Way, instance: string, id: string): Promise<TaskReport | undefined> {
  const [reply] = await way.ask(instance, 'task.status', { id });
  return reply?.body?.ok ? (reply.body.result as TaskReport) : undefined;
}

/** Throws if the answer is not from an instance. */
function replyOf(answer: unknown, via: Reply['via']): Reply {
  const body = answer as AnswerBody | null;
  const isOurs =
    typeof body?.instance === 'string' && (body.ok === true || typeof body.error?.message === 'string');
  if (!isOurs) throw new Error('what answers there is not an instance of metrics-fanout');
  return { instance: body.instance, via, body };
}
