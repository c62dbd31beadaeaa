/**
 * Keeps control on the bus, on a separate connection, so that neither its traffic nor missing permissions affect the
 * data.
 */

import { backoffMs, type Clock } from '../base/clock.ts';
import { type Log, Quiet } from '../base/log.ts';
import { type Bus, connect } from '../bus/connect.ts';
import { type ControlOptions, EVENTS, serveControl } from '../bus/control.ts';
import type { Config } from '../config/config.ts';
import type { ControlOnBus } from './controller.ts';
import type { TaskReport } from './tasks.ts';

/** If the bus refuses control, an operator has to fix that, so there is no hurry. */
const RETRY_MIN_MS = 5_000;
const REPEAT_LOG_MS = 600_000;

interface Stay {
  readonly end: AbortController;
  readonly over: Promise<void>;
}

export class Presence implements ControlOnBus {
  readonly #core: Config['core'];
  readonly #options: ControlOptions;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #quiet = new Quiet(REPEAT_LOG_MS);
  #stay: Stay | undefined;
  #bus: Bus | undefined;

  constructor(config: Config, options: ControlOptions, clock: Clock, log: Log) {
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
    const bus = await connect(this.#core, quietly(this.#log), { wait: true, signal, name });
    try {
      const { ended } = await serveControl(bus, this.#options);
      this.#bus = bus;
      const left = new Promise<undefined>((resolve) => {
        signal.addEventListener('abort', () => resolve(undefined), { once: true });
        if (signal.aborted) resolve(undefined);
      });
      return await Promise.race([ended, left]);
    } finally {
      this.#bus = undefined;
      await bus.close();
    }
  }

  #refused(error: unknown): void {
    const held = this.#quiet.admit('refused', this.#clock.steady());
    if (held === undefined) return;
    this.#log.warn(
      { error: error instanceof Error ? error.message : String(error) },
      'no control over the bus; give the user of NATS_* the permissions in examples/nats/metrics-fanout.conf, or set CONTROL_ENABLED=false',
    );
  }
}

/** The two connections come and go together, so the log lines of one are enough. Refusals are logged elsewhere. */
function quietly(log: Log): Log {
  const debug = (fields: object, message: string) => log.debug({ ...fields, connection: 'control' }, message);
  return { debug, info: debug, warn: debug, error: debug };
}
