/** Looks at the service once a second, for the rates, the last hour of the charts, and the open pages. */
import type { Clock } from '../base/clock.ts';
import type { Heartbeat } from '../base/heartbeat.ts';
import { encodeEvent } from './audience.ts';
import { type Charts, History, type Moment, momentOf, STEP_MS } from './history.ts';
import type { PageSource } from './http-server.ts';
import { historyText, momentsOf } from './kept-history.ts';
import type { LoopLag } from './loop-lag.ts';
import type { Meters, Reading } from './meters.ts';
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

export interface PageWatchOptions {
  readonly status: () => Status;
  /** Looked at every second. A status costs five times as much, and is made only when somebody sees it. */
  readonly reading: () => Reading;
  readonly meters: Meters;
  readonly clock: Pick<Clock, 'steady' | 'now'>;
  /** Their ids. */
  readonly sinks: readonly string[];
  /** Beats with every look: as long as it does, the main thread does not stand still. */
  readonly heartbeat: Heartbeat;
  /** Is told of every look, which has a timer. */
  readonly lag?: LoopLag;
  readonly failed: (error: unknown) => void;
}

export class Watch implements PageSource {
  readonly #options: PageWatchOptions;
  readonly #history: History;
  readonly #subscribers = new Set<(event: string) => void>();
  readonly #timer: NodeJS.Timeout;
  #ticks = 0;
  #isRestored = false;
  /** What a page that opens before the next tick gets, encoded. */
  #opening: Buffer | undefined;

  /** Runs until `stop`. */
  constructor(options: PageWatchOptions) {
    this.#options = options;
    this.#history = new History(options.sinks);
    this.#timer = setInterval(() => this.#tryTick(), TICK_MS).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  opening(): Uint8Array {
    this.#opening ??= this.#makeOpening();
    return this.#opening;
  }

  /** The last hour of the charts, to keep; undefined if there is nothing yet. */
  get kept(): string | undefined {
    return historyText(this.#history.charts);
  }

  /** Puts what an earlier process kept before what there is. Only the first call does. */
  restore(text: string): void {
    if (this.#isRestored) return;
    this.#isRestored = true;
    const [first = this.#options.clock.now() / 1000] = this.#history.charts.times;
    this.#history.prepend(momentsOf(text, first));
    this.#opening = undefined;
  }

  subscribe(send: (event: string) => void): () => void {
    this.#subscribers.add(send);
    return () => this.#subscribers.delete(send);
  }

  #makeOpening(): Buffer {
    const opening: PageEvents['opening'] = {
      view: viewOf(this.#options.status()),
      charts: this.#history.charts,
    };
    return Buffer.from(encodeEvent('opening', opening));
  }

  /** A third-party sink may put anything into the status. An error here must not end the service. */
  #tryTick(): void {
    const { heartbeat, lag, clock } = this.#options;
    heartbeat.beat();
    lag?.ran(clock.steady(), TICK_MS);
    try {
      this.#tick();
    } catch (error) {
      this.#options.failed(error);
    }
  }

  #tick(): void {
    const { status, reading, meters, clock } = this.#options;
    this.#opening = undefined;
    meters.tick(reading(), clock.steady());
    this.#ticks += 1;
    this.#tell('view', () => viewOf(status()));
    if (this.#ticks % (STEP_MS / TICK_MS) !== 0) return;
    const moment = momentOf(status());
    this.#history.add(moment);
    this.#tell('moment', () => moment);
  }

  /** Calls `data` only if somebody is subscribed. */
  #tell(event: string, data: () => unknown): void {
    if (this.#subscribers.size === 0) return;
    const text = encodeEvent(event, data());
    for (const send of this.#subscribers) send(text);
  }
}
