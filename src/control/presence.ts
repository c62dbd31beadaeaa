/**
 * Keeps control on the bus, on a separate connection, so that neither its traffic nor missing permissions affect the
 * data.
 */

import { backoffMs, type Clock, unlessAborted } from '../base/clock.ts';
import { errorText } from '../base/error-text.ts';
import { type Log, Quiet } from '../base/log.ts';
import { BusError } from '../bus/bus-error.ts';
import { type Bus, connect } from '../bus/connect.ts';
import { type ControlOptions, EVENTS, serveControl } from '../bus/control.ts';
import type { Config } from '../config/config.ts';
import type { ControlOnBus } from './controller.ts';
import type { TaskReport } from './tasks.ts';

/** If the bus refuses control, an operator has to fix that, so there is no hurry. */
const RETRY_MIN_MS = 5_000;
const REPEAT_LOG_MS = 600_000;
const REPEAT_UNANSWERED_MS = 60_000;
const PERMISSIONS_ADVICE =
  'Give the user of NATS_* the permissions in examples/nats/metrics-fanout.conf, or set CONTROL_ENABLED=false.';
/** How much of a subject that somebody else chose the log shows. */
const SHOWN_SUBJECT = 200;

interface Stay {
  readonly end: AbortController;
  readonly over: Promise<void>;
}

export class Presence implements ControlOnBus {
  readonly #core: Config['core'];
  readonly #options: Omit<ControlOptions, 'unanswerable'>;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #quiet = new Quiet(REPEAT_LOG_MS);
  readonly #seldom = new Quiet(REPEAT_UNANSWERED_MS);
  #unanswered = 0;
  #stay: Stay | undefined;
  #bus: Bus | undefined;

  constructor(config: Config, options: Omit<ControlOptions, 'unanswerable'>, clock: Clock, log: Log) {
    // Few messages arrive here, so the client receives them the plain way.
    this.#core = { ...config.core, metricsReceive: 'plain' };
    this.#options = options;
    this.#clock = clock;
    this.#log = log;
  }

  /** Whether requests over the bus are answered, as far as is known. */
  get isOn(): boolean {
    return this.#bus?.connected ?? false;
  }

  /** How many requests were ignored because their answer would have gone to no inbox of CONTROL_REPLY_PREFIXES. */
  get unanswered(): number {
    return this.#unanswered;
  }

  enter(): void {
    if (this.#stay !== undefined) return;
    const end = new AbortController();
    this.#stay = { end, over: this.#serve(end.signal) };
  }

  /** Resolves when its connection is closed. */
  async leave(): Promise<void> {
    const stay = this.#stay;
    this.#stay = undefined;
    stay?.end.abort();
    await stay?.over;
  }

  async tell(report: TaskReport): Promise<void> {
    const bus = this.#bus;
    if (bus?.publish(`${EVENTS}.${report.id}`, JSON.stringify(report)) !== true) return;
    await bus.flush().catch(() => {});
  }

  async #serve(signal: AbortSignal): Promise<void> {
    for (let attempt = 1; !signal.aborted; attempt++) {
      try {
        const failure = await this.#serveOnce(signal);
        if (failure !== undefined) this.#refused(failure);
      } catch (error) {
        if (!signal.aborted) this.#refused(error);
      }
      await this.#clock.sleep(RETRY_MIN_MS + backoffMs(attempt, this.#clock.random()), signal);
    }
  }

  async #serveOnce(signal: AbortSignal): Promise<Error | undefined> {
    const name = `metrics-fanout control ${this.#options.identity.instance}`;
    // It enters once the data has a connection: what keeps only this one from the bus, such as a limit, is told here.
    const options = { wait: true, signal, name, onWaiting: (error: BusError) => this.#refused(error) };
    const bus = await connect(this.#core, quietly(this.#log), options);
    try {
      const { ended } = await serveControl(bus, {
        ...this.#options,
        unanswerable: (subject, reply) => this.#ignored(subject, reply),
      });
      this.#bus = bus;
      return await unlessAborted(ended, signal);
    } finally {
      this.#bus = undefined;
      await bus.close();
    }
  }

  #ignored(subject: string, reply: string): void {
    this.#unanswered += 1;
    const heldBack = this.#seldom.admit('unanswered', this.#clock.steady());
    if (heldBack === undefined) return;
    const fields = {
      subject: subject.slice(0, SHOWN_SUBJECT),
      reply: reply.slice(0, SHOWN_SUBJECT),
      heldBack,
    };
    this.#log.warn(
      fields,
      reply === ''
        ? 'ignored a request to control that asks for no answer; send it as a request'
        : 'ignored a request to control whose answer would go outside CONTROL_REPLY_PREFIXES',
    );
  }

  #refused(error: unknown): void {
    const held = this.#quiet.admit('refused', this.#clock.steady());
    if (held === undefined) return;
    const advice = error instanceof BusError ? error.advice : PERMISSIONS_ADVICE;
    const fields = { error: errorText(error), advice };
    this.#log.warn(fields, 'no control over the bus');
  }
}

/** The two connections come and go together, so the log lines of one are enough. Refusals are logged elsewhere. */
function quietly(log: Log): Log {
  const debug = (fields: object, message: string) => log.debug({ ...fields, connection: 'control' }, message);
  return { debug, info: debug, warn: debug, error: debug };
}
