/** Carries out requests to this instance, whether they come over the bus or over HTTP. */

import type { Clock } from '../base/clock.ts';
import { type Log, Quiet } from '../base/log.ts';
import type { MaybeLater } from '../bus/control.ts';
import { type Config, describeConfig } from '../config/config.ts';
import type { ChangeFacts, ListFacts } from '../deliver/checkpoint-facts.ts';
import type { Status } from '../observe/status.ts';
import type { RecentQuestions } from '../recent/recent-questions.ts';
import { checkCallback } from './allowed-callback.ts';
import { runCommandProcess } from './command-process.ts';
import { profileCpu, profilePath, snapshotHeap } from './profiles.ts';
import { asRefusal, Refusal } from './refusal.ts';
import {
  type ControlRequest,
  isOperation,
  isRead,
  OPERATIONS,
  type OperationName,
  parseRequest,
  questionOf,
  type RequestOf,
} from './request.ts';
import { type TaskReport, Tasks, type Work } from './tasks.ts';

const DEFAULT_PROFILE_SECONDS = 10;
/** The same operation is logged once per this interval. */
const REPEAT_LOG_MS = 1000;

/** A change of a sink's checkpoint. */
export interface WantedChange {
  readonly sink: string;
  /** Ms since 1970, in the window that it is to go on with; undefined: its START decides. */
  readonly to: number | undefined;
  /** Whether others that write the same checkpoint do not matter. */
  readonly force: boolean;
}

/** The checkpoints of the running sinks. All calls reject with a `Refusal` if that is not possible. */
export interface Checkpoints {
  /** Throws a `Refusal` if there are none now. */
  mustBeThere(): void;
  list(sink: string | undefined): Promise<ListFacts>;
  /** Resolves to what the change would do. */
  preview(wanted: WantedChange): Promise<ChangeFacts>;
  /** Resolves when the sink has begun again. The others go on meanwhile. */
  change(wanted: WantedChange, signal: AbortSignal): Promise<ChangeFacts>;
}

/** The parts of the service that can be controlled. */
export interface Controlled {
  readonly detached: boolean;
  readonly paused: ReadonlySet<string>;
  readonly checkpoints: Checkpoints;
  status(): Status;
  pause(sink: string): void;
  resume(sink: string): void;
  /** Resolves when this instance no longer reads metrics from the bus, nor writes checkpoints to it. */
  detach(): Promise<void>;
  /** Resolves when it reads again. Rejects, and stays detached, if it cannot, or when the signal aborts. */
  attach(signal: AbortSignal): Promise<void>;
}

/** The presence of control on the bus. */
export interface ControlOnBus {
  enter(): void;
  leave(): Promise<void>;
  /** Publishes the report. Never rejects. */
  tell(report: TaskReport): Promise<void>;
}

/** How a request came. */
export type Via = 'bus' | 'http' | 'socket';

/** One answer: JSON, and an HTTP status. */
export interface ControlAnswer {
  readonly status: number;
  readonly body: string;
}

/** The content of every answer. */
export type AnswerBody = { readonly instance: string; readonly pipeline: string } & (
  | { readonly ok: true; readonly result: unknown }
  | {
      readonly ok: false;
      readonly error: { readonly code: string; readonly message: string; readonly field?: string };
    }
);

export interface ControllerOptions {
  readonly config: Config;
  readonly instance: string;
  readonly controlled: Controlled;
  readonly onBus: ControlOnBus;
  /** About the recent windows. */
  readonly questions: Pick<RecentQuestions, 'answer' | 'cardinality'>;
  /** See `secretsOf`. */
  readonly secrets: () => readonly string[];
  readonly clock: Clock;
  readonly log: Log;
}

/** By operation: the function that performs it. Its result, or what it throws, is the answer. */
type Performers = {
  readonly [R in ControlRequest as R['operation']]: (request: R) => unknown;
};

export class Controller {
  readonly #options: ControllerOptions;
  readonly #tasks: Tasks;
  readonly #quiet = new Quiet(REPEAT_LOG_MS);

  constructor(options: ControllerOptions) {
    this.#options = options;
    const { config, instance, clock, log, onBus } = options;
    this.#tasks = new Tasks({
      instance,
      pipeline: config.core.pipeline,
      callbackSecret: config.core.controlCallbackSecret,
      clock,
      log,
      tell: (report) => onBus.tell(report),
    });
  }

  get tasksRunning(): number {
    return this.#tasks.running;
  }

  /**
   * Answers a request. Never throws, nor rejects. Undefined if the request is for another pipeline: it gets no answer.
   */
  handle(operation: string, bytes: Uint8Array, via: Via): MaybeLater<ControlAnswer | undefined> {
    try {
      if (!isOperation(operation)) {
        const known = Object.keys(OPERATIONS).join(', ');
        throw new Refusal(
          'unknown_operation',
          `there is no operation of that name. The operations are ${known}.`,
        );
      }
      const request = parseRequest(operation, bytes, this.#options.clock.now());
      const { pipeline } = this.#options.config.core;
      if (request.pipeline !== undefined && request.pipeline !== pipeline) return undefined;
      this.#log(request, via);
      const perform = this.#performers[operation] as (request: ControlRequest) => unknown;
      const result = perform(request);
      if (!(result instanceof Promise)) return this.answer(200, { ok: true, result });
      return result.then(
        (later: unknown) => this.answer(200, { ok: true, result: later }),
        (error: unknown) => this.refuse(error),
      );
    } catch (error) {
      return this.refuse(error);
    }
  }

  refuse(error: unknown): ControlAnswer {
    const refusal = asRefusal(error);
    const { status, code, message, field } = refusal;
    if (code === 'failed') this.#options.log.error({ error: message }, 'a control request failed');
    return this.answer(status, {
      ok: false,
      error: { code, message, ...(field === undefined ? {} : { field }) },
    });
  }

  answer(
    status: number,
    body: { readonly ok: true; result: unknown } | { readonly ok: false; error: object },
  ): ControlAnswer {
    const { instance, config } = this.#options;
    return { status, body: JSON.stringify({ instance, pipeline: config.core.pipeline, ...body }) };
  }

  /** Ends all tasks. */
  stop(): Promise<void> {
    return this.#tasks.stop();
  }

  readonly #performers: Performers = {
    status: () => this.#options.controlled.status(),
    config: () => describeConfig(this.#options.config),
    query: (request) => this.#options.questions.answer(questionOf(request)),
    cardinality: () => this.#options.questions.cardinality(),
    'sink.pause': ({ sink }) => this.#pause(sink),
    'sink.resume': ({ sink }) => {
      this.#options.controlled.resume(this.#known(sink));
      return { sink, paused: false };
    },
    'checkpoint.list': ({ sink }) => this.#options.controlled.checkpoints.list(sink),
    'checkpoint.reset': (request) => this.#changeCheckpoint('checkpoint.reset', request, undefined),
    'checkpoint.set': (request) => this.#changeCheckpoint('checkpoint.set', request, request.to),
    replay: (request) => this.#replay(request),
    verify: (request) => this.#verify(request),
    detach: (request) => this.#detach(request),
    attach: ({ callback }) => {
      const { controlled, onBus } = this.#options;
      const run = async (signal: AbortSignal) => {
        await controlled.attach(signal);
        onBus.enter();
        return { detached: false };
      };
      return this.#start({ operation: 'attach', key: 'place', needsBus: false, callback, run });
    },
    'profile.cpu': (request) => this.#profileCpu(request),
    'profile.heap': (request) => this.#profileHeap(request),
    'task.status': ({ id }) => this.#tasks.status(id),
    'task.cancel': ({ id }) => {
      this.#tasks.cancel(id);
      return { id };
    },
  };

  #pause(sink: string): object {
    this.#options.controlled.pause(this.#known(sink));
    // A pause also ends a replay into the sink.
    const why = new Refusal('paused', `the sink ${sink} was paused`);
    void this.#tasks.endAll((work) => work.operation === 'replay' && work.sink === sink, why);
    return { sink, paused: true };
  }

  #changeCheckpoint(
    operation: OperationName,
    { sink, yes, force = false, callback }: RequestOf<'checkpoint.reset'>,
    to: number | undefined,
  ): TaskReport | Promise<ChangeFacts> {
    const { checkpoints } = this.#options.controlled;
    const wanted = { sink: this.#known(sink), to, force };
    if (yes !== true) return checkpoints.preview(wanted);
    checkpoints.mustBeThere();
    const run = (signal: AbortSignal) => checkpoints.change(wanted, signal);
    return this.#start({ operation, key: `checkpoint ${sink}`, needsBus: true, sink, callback, run });
  }

  #replay({ sink, from, to, callback }: RequestOf<'replay'>): TaskReport {
    this.#known(sink);
    this.#needReplay();
    if (this.#options.controlled.paused.has(sink))
      throw new Refusal('paused', `the sink ${sink} is paused. Resume it first.`);
    const args = ['replay', '--sink', sink, ...rangeOf(from, to)];
    const run = (signal: AbortSignal) => runCommandProcess(args, signal);
    return this.#start({ operation: 'replay', key: `replay ${sink}`, needsBus: true, sink, callback, run });
  }

  #verify({ sink, from, to, name, callback }: RequestOf<'verify'>): TaskReport {
    if (sink !== undefined) this.#known(sink);
    this.#needReplay();
    const args = ['verify', ...rangeOf(from, to)];
    if (sink !== undefined) args.push('--sink', sink);
    // With the equals sign, a name that begins with a dash is not taken for an option.
    if (name !== undefined) args.push(`--name=${name}`);
    const run = (signal: AbortSignal) => runCommandProcess(args, signal);
    return this.#start({ operation: 'verify', key: 'verify', needsBus: true, sink, callback, run });
  }

  #detach({ keepControl = false, callback }: RequestOf<'detach'>): TaskReport {
    const { controlled, onBus } = this.#options;
    const run = async () => {
      await this.#tasks.endAll(
        ({ needsBus }) => needsBus,
        new Refusal('detached', 'the instance left the bus'),
      );
      await controlled.detach();
      return { detached: true, keepControl };
    };
    const afterwards = async () => {
      if (!keepControl) await onBus.leave();
    };
    return this.#start({ operation: 'detach', key: 'place', needsBus: false, callback, run, afterwards });
  }

  #profileCpu({ seconds = DEFAULT_PROFILE_SECONDS, callback }: RequestOf<'profile.cpu'>): TaskReport {
    const folder = this.#profileFolder();
    const { instance, clock } = this.#options;
    const run = async (signal: AbortSignal) => {
      const path = profilePath(folder, `${instance}-${fileTime(clock)}.cpuprofile`);
      await profileCpu(path, seconds, clock, signal);
      return { file: path, seconds };
    };
    return this.#start({ operation: 'profile.cpu', key: 'profile', needsBus: false, callback, run });
  }

  #profileHeap({ callback }: RequestOf<'profile.heap'>): TaskReport {
    const folder = this.#profileFolder();
    const { instance, clock, secrets } = this.#options;
    const run = async () => {
      const path = profilePath(folder, `${instance}-${fileTime(clock)}.heapsnapshot`);
      return { file: path, bytes: await snapshotHeap(path, secrets()) };
    };
    return this.#start({ operation: 'profile.heap', key: 'profile', needsBus: false, callback, run });
  }

  #start({
    callback,
    ...work
  }: Omit<Work, 'callback'> & { readonly callback: string | undefined }): TaskReport {
    const hosts = this.#options.config.core.controlCallbackHosts ?? new Set<string>();
    const url = callback === undefined ? undefined : checkCallback(callback, hosts);
    return this.#tasks.start({ ...work, callback: url });
  }

  #known(sink: string): string {
    const ids = this.#options.config.sinks.map(({ id }) => id);
    if (ids.includes(sink)) return sink;
    throw new Refusal('unknown_sink', `no such sink is enabled. Enabled sinks: ${ids.join(', ')}`, 'sink');
  }

  #needReplay(): void {
    const { config, controlled } = this.#options;
    if (config.core.metricsSource === 'core')
      throw new Refusal(
        'not_replayable',
        'plain NATS (METRICS_SOURCE=core) keeps nothing that could be read again',
      );
    if (controlled.detached)
      throw new Refusal(
        'detached',
        'the instance has left the bus. Attach it first, or ask another instance.',
      );
  }

  #profileFolder(): string {
    const folder = this.#options.config.core.controlProfileDir;
    if (folder !== undefined) return folder;
    throw new Refusal('not_configured', 'CONTROL_PROFILE_DIR is not set. Set it to a folder for profiles.');
  }

  /** Logs requests that change something, so that the cause can be found afterwards. */
  #log(request: ControlRequest, via: Via): void {
    const { operation, ...fields } = request;
    if (isRead(operation)) return;
    const held = this.#quiet.admit(operation, this.#options.clock.steady());
    if (held === undefined) return;
    // The path and the query of a callback may be a secret.
    const shown = Object.entries(fields).map(([key, value]) => {
      if (key === 'callback') return [key, new URL(String(value)).host];
      return [key, typeof value === 'number' && key !== 'seconds' ? new Date(value).toISOString() : value];
    });
    this.#options.log.info(
      { operation, via, ...Object.fromEntries(shown), heldBack: held },
      'control request received',
    );
  }
}

function rangeOf(from: number | undefined, to: number | undefined): string[] {
  const option = (name: string, ms: number | undefined) =>
    ms === undefined ? [] : [name, new Date(ms).toISOString()];
  return [...option('--from', from), ...option('--to', to)];
}

function fileTime(clock: Clock): string {
  return new Date(clock.now()).toISOString().replaceAll(':', '');
}
