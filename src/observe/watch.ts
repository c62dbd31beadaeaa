/** Looks at the service once a second, for the rates, the last hour of the charts, and the open pages. */
import type { ServerResponse } from 'node:http';
import type { Clock } from '../base/clock.ts';
import { Audience, encodeEvent } from './audience.ts';
import { type Charts, History, type Moment, momentOf, STEP_MS } from './history.ts';
import type { Meters } from './meters.ts';
import type { Status } from './status.ts';
import { type View, viewOf } from './view.ts';

const TICK_MS = 1000;

/** The events that a page receives. */
export interface PageEvents {
  /** When it opens. */
  readonly opening: { readonly view: View; readonly charts: Charts };
  /** Every second. */
  readonly view: View;
  /** Every ten seconds. */
  readonly moment: Moment;
}

export class Watch {
  readonly #status: () => Status;
  readonly #meters: Meters;
  readonly #clock: Pick<Clock, 'steady'>;
  readonly #history: History;
  readonly #audience = new Audience();
  readonly #timer: NodeJS.Timeout;
  readonly #failed: (error: unknown) => void;
  #ticks = 0;
  /** What a page that opens before the next tick gets, encoded. */
  #opening: string | undefined;

  /** Runs until `stop`. */
  constructor(
    status: () => Status,
    meters: Meters,
    clock: Pick<Clock, 'steady'>,
    sinks: readonly string[],
    failed: (error: unknown) => void,
  ) {
    this.#failed = failed;
    this.#status = status;
    this.#meters = meters;
    this.#clock = clock;
    this.#history = new History(sinks);
    this.#timer = setInterval(() => this.#tryTick(), TICK_MS).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** Keeps the connection and sends events over it. Returns false if too many pages are open already. */
  listen(response: ServerResponse): boolean {
    return this.#audience.join(response, () => {
      this.#opening ??= this.#makeOpening();
      return this.#opening;
    });
  }

  #makeOpening(): string {
    const opening: PageEvents['opening'] = { view: viewOf(this.#status()), charts: this.#history.charts };
    return encodeEvent('opening', opening);
  }

  /** A third-party sink may put anything into the status. An error here must not end the service. */
  #tryTick(): void {
    try {
      this.#tick();
    } catch (error) {
      this.#failed(error);
    }
  }

  #tick(): void {
    this.#opening = undefined;
    const status = this.#status();
    this.#meters.tick(status, this.#clock.steady());
    this.#ticks += 1;
    this.#audience.tell('view', () => viewOf(this.#status()));
    if (this.#ticks % (STEP_MS / TICK_MS) !== 0) return;
    const moment = momentOf(this.#status());
    this.#history.add(moment);
    this.#audience.tell('moment', () => moment);
  }
}
