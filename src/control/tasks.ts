/** What takes longer than a request: each has an id, is told of when it ends, and is remembered for a while. */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import { type CallbackOutcome, deliver, MAX_CALLBACK_BYTES } from './callback.ts';
import { Refusal, type RefusalCode } from './refusal.ts';

const MAX_RUNNING = 4;
/** Of those that ended. */
const MAX_REMEMBERED = 100;
const MAX_TASK_MS = 6 * 3_600_000;
const MAX_CALLBACKS = 100;
/** The answer goes out before: a heap snapshot holds up everything. */
const START_DELAY_MS = 20;

export type TaskState = 'running' | 'done' | 'failed' | 'cancelled';

/** What is told of a task: by `task.status`, on the bus and to its callback. Times are RFC 3339. */
export interface TaskReport {
  readonly id: string;
  readonly operation: string;
  readonly instance: string;
  readonly pipeline: string;
  readonly state: TaskState;
  readonly startedAt: string;
  readonly endedAt: string | null;
  /** What came of it; null until then, and where nothing did. */
  readonly result: unknown;
  readonly error: { readonly code: RefusalCode; readonly message: string } | null;
}

export interface Work {
  readonly operation: string;
  /** What it must not run beside: another task with the same key. */
  readonly key: string;
  /** Whether it reads the bus: such a task ends before the instance leaves. */
  readonly needsBus: boolean;
  readonly sink?: string | undefined;
  readonly callback: URL | undefined;
  run(signal: AbortSignal): Promise<unknown>;
  /** After it was told of on the bus. */
  afterwards?(): Promise<void>;
}

export interface TasksOptions {
  readonly instance: string;
  readonly pipeline: string;
  readonly callbackSecret: string | undefined;
  readonly clock: Clock;
  readonly log: Log;
  /** Tells the bus; never rejects. */
  readonly tell: (report: TaskReport) => Promise<void>;
}

interface Task {
  readonly work: Work;
  readonly end: AbortController;
  report: TaskReport;
  callback: CallbackOutcome | 'pending' | undefined;
  over: Promise<void>;
}

export class Tasks {
  readonly #options: TasksOptions;
  readonly #tasks = new Map<string, Task>();
  readonly #calls = new Set<Promise<void>>();
  readonly #over = new AbortController();

  constructor(options: TasksOptions) {
    this.#options = options;
  }

  get running(): number {
    return this.#find(() => true).length;
  }

  /** Returns its report so far. Throws a `Refusal` where there are too many. */
  start(work: Work): TaskReport {
    const running = this.#find(() => true);
    const beside = running.find((task) => task.work.key === work.key);
    if (beside !== undefined)
      throw new Refusal('busy', `the task ${beside.report.id} (${beside.report.operation}) runs`);
    if (running.length >= MAX_RUNNING || this.#over.signal.aborted)
      throw new Refusal('busy', `${running.length} tasks run already, at most ${MAX_RUNNING} may`);
    if (work.callback !== undefined && this.#calls.size >= MAX_CALLBACKS)
      throw new Refusal('busy', `${MAX_CALLBACKS} callbacks wait to be delivered`);
    const { instance, pipeline, clock } = this.#options;
    const report: TaskReport = {
      id: randomBytes(8).toString('hex'),
      operation: work.operation,
      instance,
      pipeline,
      state: 'running',
      startedAt: new Date(clock.now()).toISOString(),
      endedAt: null,
      result: null,
      error: null,
    };
    const task: Task = {
      work,
      end: new AbortController(),
      report,
      callback: undefined,
      over: Promise.resolve(),
    };
    this.#tasks.set(report.id, task);
    task.over = this.#run(task);
    return report;
  }

  /** With what became of its callback. Throws a `Refusal` where there is none, or it was forgotten. */
  status(id: string): TaskReport & { readonly callback: CallbackOutcome | 'pending' | null } {
    const { report, callback } = this.#taskOf(id);
    return { ...report, callback: callback ?? null };
  }

  cancel(id: string): void {
    const { report, end } = this.#taskOf(id);
    if (report.state !== 'running') throw new Refusal('over', `the task ${id} is ${report.state} already`);
    end.abort(new Refusal('cancelled', 'it was cancelled'));
  }

  /** Ends those for which it is true, and waits until they have. */
  async endAll(isMeant: (work: Work) => boolean, why: Refusal): Promise<void> {
    const meant = this.#find(({ work }) => isMeant(work));
    for (const { end } of meant) end.abort(why);
    await Promise.all(meant.map(({ over }) => over));
  }

  /** Ends all tasks and callbacks. */
  async stop(): Promise<void> {
    this.#over.abort();
    await this.endAll(() => true, new Refusal('cancelled', 'the service stopped'));
    await Promise.all(this.#calls);
  }

  #find(isMeant: (task: Task) => boolean): Task[] {
    return [...this.#tasks.values()].filter((task) => task.report.state === 'running' && isMeant(task));
  }

  #taskOf(id: string): Task {
    const task = this.#tasks.get(id);
    if (task === undefined)
      throw new Refusal('unknown_task', `there is no task ${id}; the last ${MAX_REMEMBERED} are remembered`);
    return task;
  }

  async #run(task: Task): Promise<void> {
    const { work, end } = task;
    const late = new AbortController();
    void sleep(MAX_TASK_MS, undefined, { signal: late.signal, ref: false }).then(
      () => end.abort(new Refusal('cancelled', `it took more than ${MAX_TASK_MS / 3_600_000} hours`)),
      () => {},
    );
    await sleep(START_DELAY_MS);
    const begun = async () => {
      // What was cancelled meanwhile would never hear of it.
      end.signal.throwIfAborted();
      return await work.run(end.signal);
    };
    const ending = await begun().then(
      (result) => ({ state: 'done', result, error: null }) as const,
      (error: unknown) => ({ state: 'failed', result: null, error: described(error) }) as const,
    );
    late.abort();
    const why: unknown = end.signal.reason;
    const cancelled = { state: 'cancelled', result: null, error: described(why) } as const;
    const endedAt = new Date(this.#options.clock.now()).toISOString();
    const told = end.signal.aborted && ending.state !== 'done' ? cancelled : ending;
    task.report = bounded({ ...task.report, endedAt, ...told });
    const { id, operation, state, error } = task.report;
    this.#options.log.info({ task: id, operation, state, error }, 'a task ended');
    if (work.callback !== undefined) this.#call(task, work.callback);
    await this.#options.tell(task.report);
    await work.afterwards?.();
    this.#forget();
  }

  #call(task: Task, url: URL): void {
    const { callbackSecret: secret, clock, log } = this.#options;
    const { report } = task;
    task.callback = 'pending';
    const options = { secret, clock, signal: this.#over.signal };
    const called = deliver({ url, id: report.id, body: JSON.stringify(report) }, options).then((outcome) => {
      task.callback = outcome;
      this.#calls.delete(called);
      // Its path and query may be a secret.
      const fields = { task: report.id, host: url.host, ...outcome };
      if (outcome.delivered) log.info(fields, 'the callback was delivered');
      else log.warn(fields, 'the callback was given up');
    });
    this.#calls.add(called);
  }

  #forget(): void {
    const over = [...this.#tasks].filter(([, { report }]) => report.state !== 'running');
    for (const [id] of over.slice(0, Math.max(0, over.length - MAX_REMEMBERED))) this.#tasks.delete(id);
  }
}

function described(error: unknown): NonNullable<TaskReport['error']> {
  if (error instanceof Refusal) return { code: error.code, message: error.message };
  const { message, advice } = (error ?? {}) as { message?: unknown; advice?: unknown };
  const words = [message ?? String(error), advice].filter((text) => typeof text === 'string');
  return { code: 'failed', message: words.join(' ') };
}

/** What came of it is left out where it is more than the bus and callbacks take. */
function bounded(report: TaskReport): TaskReport {
  const bytes = Buffer.byteLength(JSON.stringify(report));
  if (bytes <= MAX_CALLBACK_BYTES) return report;
  const message = `what came of it has ${bytes} bytes, and at most ${MAX_CALLBACK_BYTES} are told; call the command itself`;
  return { ...report, result: null, error: { code: 'too_large', message } };
}
