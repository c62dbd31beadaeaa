/** Work that takes longer than a request. Each task has an id, is reported when it ends, and is remembered a while. */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import { type CallbackOutcome, deliver, MAX_CALLBACK_BYTES } from './callback.ts';
import { Refusal, type RefusalCode } from './refusal.ts';

const MAX_RUNNING = 4;
/** How many ended tasks are remembered. */
const MAX_REMEMBERED = 100;
const MAX_TASK_MS = 6 * 3_600_000;
const MAX_CALLBACKS = 100;
/** The answer goes out first, because a heap snapshot holds up everything. */
const START_DELAY_MS = 20;

export type TaskState = 'running' | 'done' | 'failed' | 'cancelled';

/** The report of a task: for `task.status`, on the bus and to its callback. Times are RFC 3339. */
export interface TaskReport {
  readonly id: string;
  readonly operation: string;
  readonly instance: string;
  readonly pipeline: string;
  readonly state: TaskState;
  readonly startedAt: string;
  readonly endedAt: string | null;
  /** Null until the task ends, and if it ends without a result. */
  readonly result: unknown;
  readonly error: { readonly code: RefusalCode; readonly message: string } | null;
}

export interface Work {
  readonly operation: string;
  /** Two tasks with the same key must not run at the same time. */
  readonly key: string;
  /** Whether it reads the bus. Such a task ends before the instance leaves the bus. */
  readonly needsBus: boolean;
  readonly sink?: string | undefined;
  readonly callback: URL | undefined;
  run(signal: AbortSignal): Promise<unknown>;
  /** Runs after the report has been published on the bus. */
  afterwards?(): Promise<void>;
}

export interface TasksOptions {
  readonly instance: string;
  readonly pipeline: string;
  readonly callbackSecret: string | undefined;
  readonly clock: Clock;
  readonly log: Log;
  /** Publishes the report on the bus. Never rejects. */
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

  /** Starts a task and returns its report so far. Throws a `Refusal` if too many run. */
  start(work: Work): TaskReport {
    const running = this.#find(() => true);
    const other = running.find((task) => task.work.key === work.key);
    if (other !== undefined)
      throw new Refusal('busy', `the task ${other.report.id} (${other.report.operation}) is still running`);
    if (running.length >= MAX_RUNNING || this.#over.signal.aborted)
      throw new Refusal('busy', `${running.length} tasks are running already; the limit is ${MAX_RUNNING}`);
    if (work.callback !== undefined && this.#calls.size >= MAX_CALLBACKS)
      throw new Refusal('busy', `${MAX_CALLBACKS} callbacks are waiting to be delivered`);
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

  /** Returns the report and the outcome of its callback. Throws a `Refusal` if the task is unknown or forgotten. */
  status(id: string): TaskReport & { readonly callback: CallbackOutcome | 'pending' | null } {
    const { report, callback } = this.#taskOf(id);
    return { ...report, callback: callback ?? null };
  }

  cancel(id: string): void {
    const { report, end } = this.#taskOf(id);
    if (report.state !== 'running')
      throw new Refusal('over', `the task ${id} has already ended: ${report.state}`);
    end.abort(new Refusal('cancelled', 'the task was cancelled'));
  }

  /** Ends the running tasks that are meant, and waits until they have ended. */
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
      throw new Refusal(
        'unknown_task',
        `there is no task ${id}; only the last ${MAX_REMEMBERED} are remembered`,
      );
    return task;
  }

  async #run(task: Task): Promise<void> {
    const { work, end } = task;
    const late = new AbortController();
    void sleep(MAX_TASK_MS, undefined, { signal: late.signal, ref: false }).then(
      () => end.abort(new Refusal('cancelled', `the task took more than ${MAX_TASK_MS / 3_600_000} hours`)),
      () => {},
    );
    await sleep(START_DELAY_MS);
    const begun = async () => {
      // A task that was cancelled during the delay would not notice otherwise.
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
    const outcome = end.signal.aborted && ending.state !== 'done' ? cancelled : ending;
    task.report = bounded({ ...task.report, endedAt, ...outcome });
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
      // Not the whole URL: its path and query may be a secret.
      const fields = { task: report.id, host: url.host, ...outcome };
      if (outcome.delivered) log.info(fields, 'the callback was delivered');
      else log.warn(fields, 'gave up on the callback');
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

/** Leaves out a result that is too large for the bus and for callbacks. */
function bounded(report: TaskReport): TaskReport {
  const bytes = Buffer.byteLength(JSON.stringify(report));
  if (bytes <= MAX_CALLBACK_BYTES) return report;
  const message = `the report has ${bytes} bytes; the limit is ${MAX_CALLBACK_BYTES}. Run the command itself.`;
  return { ...report, result: null, error: { code: 'too_large', message } };
}
