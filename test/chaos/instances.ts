/** Instances of the service that are killed and restarted at once, and the status that they reported. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Status } from '../../src/observe/status.ts';
import { type Program, startProgram } from '../../src/servers/fanout-program.ts';
import { freePort } from '../../src/servers/server-process.ts';
import { LIMIT_MS } from '../limits.ts';

const POLL_MS = 500;
const STATUS_TIMEOUT_MS = 10_000;
/** After SIGTERM: STOP_TIMEOUT, the time to close, and a margin for a busy machine. */
const TERM_GRACE_MS = LIMIT_MS;
const LOG_CHARACTERS = 2_000;

/** Sums over all instances. For a killed one, its last status counts. */
export interface InstanceTotals {
  starts: number;
  /** How many times reading went on after the connection or the consumer was lost. */
  resumptions: number;
  gaps: number;
  reopened: number;
  checkpointFailures: number;
  /** How many times a lane exceeded its backlog, and so caught up by a replay. */
  overflows: number;
  retries: number;
  rejectedPoints: number;
  rejectedMessages: number;
}

interface Instance {
  readonly program: Program;
  readonly url: string;
  /** The settings that it has on top of those of all. */
  readonly variant: Readonly<Record<string, string>>;
  /** When this aborts, no other instance takes its place. */
  readonly keptUntil: AbortSignal;
  /** The signal that we sent to end it. */
  ending?: NodeJS.Signals;
  status?: Status;
}

export class Instances {
  readonly totals: InstanceTotals = {
    starts: 0,
    resumptions: 0,
    gaps: 0,
    reopened: 0,
    checkpointFailures: 0,
    overflows: 0,
    retries: 0,
    rejectedPoints: 0,
    rejectedMessages: 0,
  };
  /** Instances that ended when nobody asked them to, or not cleanly. */
  readonly failures: string[] = [];
  readonly #env: Readonly<Record<string, string>>;
  readonly #variants: readonly Readonly<Record<string, string>>[];
  readonly #running = new Set<Instance>();
  readonly #kept: Promise<void>[] = [];
  readonly #stopping = new AbortController();

  /** `variants`: settings of which each start has the next. */
  constructor(
    env: Readonly<Record<string, string>>,
    variants: readonly Readonly<Record<string, string>>[] = [{}],
  ) {
    this.#env = env;
    this.#variants = variants;
  }

  /** The running instances, in the order of their start. */
  get running(): readonly Instance[] {
    return [...this.#running];
  }

  /** Keeps one instance running until `until` aborts: if it ends, another takes its place at once. */
  keep(until: AbortSignal = this.#stopping.signal): void {
    const { signal: stopping } = this.#stopping;
    const loop = async () => {
      while (!until.aborted && !stopping.aborted) await this.#run(until);
    };
    this.#kept.push(loop());
  }

  /** Sends the signal and resolves when the process has ended. */
  async end(instance: Instance, signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    // An instance that is killed while it stops, or before it is told to, counts as killed.
    if (instance.ending !== 'SIGKILL') instance.ending = signal;
    instance.program.child.kill(signal);
    const timer = setTimeout(() => {
      this.failures.push(`did not end within ${TERM_GRACE_MS} ms of ${signal}: ${logOf(instance)}`);
      instance.program.child.kill('SIGKILL');
    }, TERM_GRACE_MS);
    await instance.program.ended;
    clearTimeout(timer);
  }

  /** Ends all instances for good. */
  async stop(signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    this.#stopping.abort();
    await Promise.all(this.running.map((instance) => this.end(instance, signal)));
    await Promise.all(this.#kept);
  }

  /** The current status of the first instance; undefined if it does not answer. */
  async status(): Promise<Status | undefined> {
    const [instance] = this.#running;
    return instance && (await this.#ask(instance));
  }

  async #run(keptUntil: AbortSignal): Promise<void> {
    const port = await freePort();
    // The end may have come while we looked for a port.
    if (this.#stopping.signal.aborted || keptUntil.aborted) return;
    const variant = this.#variants[this.totals.starts % this.#variants.length]!;
    const env = { ...this.#env, ...variant, HTTP_HOST: '127.0.0.1', HTTP_PORT: String(port) };
    const program = startProgram(['run'], env);
    const instance: Instance = { program, url: `http://127.0.0.1:${port}/api/status`, variant, keptUntil };
    this.#running.add(instance);
    this.totals.starts += 1;
    const watching = new AbortController();
    const watched = this.#watch(instance, watching.signal);
    const result = await program.ended;
    this.#running.delete(instance);
    watching.abort();
    await watched;
    this.#account(instance);
    this.#judge(instance, result);
  }

  async #watch(instance: Instance, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#ask(instance);
      await sleep(POLL_MS, undefined, { signal }).catch(() => {});
    }
  }

  async #ask(instance: Instance): Promise<Status | undefined> {
    try {
      const response = await fetch(instance.url, { signal: AbortSignal.timeout(STATUS_TIMEOUT_MS) });
      instance.status = (await response.json()) as Status;
      return instance.status;
    } catch {
      return undefined;
    }
  }

  #account({ status }: Instance): void {
    if (status === undefined) return;
    const { totals } = this;
    const sum = (counts: Readonly<Record<string, number>>) =>
      Object.values(counts).reduce((a, b) => a + b, 0);
    totals.resumptions += status.source?.resumptions ?? 0;
    totals.gaps += status.source?.gaps ?? 0;
    totals.reopened += status.samples.reopened;
    totals.rejectedMessages += sum(status.messages.rejected);
    for (const sink of status.sinks) {
      totals.checkpointFailures += sink.checkpointFailures;
      totals.overflows += sink.overflows;
      totals.retries += sum(sink.retries);
      totals.rejectedPoints += sum(sink.rejected);
    }
  }

  #judge(instance: Instance, result: number | NodeJS.Signals): void {
    const { ending, status } = instance;
    if (ending === 'SIGKILL') return;
    if (ending === 'SIGTERM' && result === 0) return;
    // It was too early: the process did not listen for signals yet.
    if (ending === 'SIGTERM' && result === 'SIGTERM' && status === undefined) return;
    const what = ending === undefined ? 'ended by itself' : `should end on ${ending} but ended`;
    this.failures.push(`an instance ${what} with ${result}: ${logOf(instance)}`);
  }
}

function logOf({ program }: Instance): string {
  return program.output.stderr.slice(-LOG_CHARACTERS);
}
