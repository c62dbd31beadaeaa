/** A report on a running service over some time, as one HTML file. */

import { amount, bytes, NO_VALUE, percent, perSecond, seconds, total } from '../base/number-format.ts';
import { namesText, rankedCells, type SinkComparison } from './comparison.ts';
import { History, momentOf } from './history.ts';
import { reportPage } from './page.ts';
import type { SinkStatus, Status } from './status.ts';
import { type View, viewOf } from './view.ts';

/** The most samples in a report: more would not make the lines clearer. */
export const MAX_SAMPLES = 720;

/** Totals of a sink since the first sample. */
interface Counted {
  points: number;
  bytes: number;
  retries: number;
  readonly highest: { lag: number; late: number; write: number | undefined };
  /** How many times it was down when somebody looked. */
  down: number;
  last: SinkStatus;
}

/** Collects the statuses of one service. */
export class Recording {
  readonly #url: string;
  readonly #first: Status;
  #last: Status;
  readonly #history: History;
  #looks = 0;
  readonly #counted = new Map<string, Counted>();

  constructor(url: string, first: Status) {
    this.#url = url;
    this.#first = first;
    this.#last = first;
    this.#history = new History(
      first.sinks.map(({ id }) => id),
      MAX_SAMPLES,
    );
    this.add(first);
  }

  add(status: Status): void {
    this.#looks += 1;
    this.#last = status;
    this.#history.add(momentOf(status));
    for (const sink of status.sinks) this.#count(sink);
  }

  #count(sink: SinkStatus): void {
    const none = {
      points: 0,
      bytes: 0,
      retries: 0,
      highest: { lag: 0, late: 0, write: undefined },
      down: 0,
      last: sink,
    };
    const counted = this.#counted.get(sink.id) ?? none;
    const { last, highest } = counted;
    counted.points += increase(last.written, sink.written);
    counted.bytes += increase(last.writtenBytes, sink.writtenBytes);
    counted.retries += increase(total(last.retries), total(sink.retries));
    highest.lag = Math.max(highest.lag, sink.lagSeconds ?? 0);
    // Absent in what an older version says.
    highest.late = Math.max(highest.late, sink.lateSeconds ?? 0);
    if (sink.writeSeconds) highest.write = Math.max(highest.write ?? 0, sink.writeSeconds.p99);
    if (!sink.up) counted.down += 1;
    counted.last = sink;
    this.#counted.set(sink.id, counted);
  }

  html(): string {
    const view = viewOf(this.#last);
    return reportPage({
      url: this.#url,
      from: this.#first.now,
      to: this.#last.now,
      charts: this.#history.charts,
      view: { ...view, comparison: this.#withSummary(view) },
    });
  }

  /** Adds the figures of the whole time after those of its end. */
  #withSummary({ comparison }: View): SinkComparison {
    // `isOfPoints`: whether it depends on which names a sink gets. `ranked`: a value of which less is better.
    const row = (
      what: string,
      text: (counted: Counted) => string,
      isOfPoints: boolean,
      ranked?: (counted: Counted) => number | undefined,
    ) => ({
      what: `${what}, overall`,
      cells: rankedCells(
        this.#last.sinks.map(({ id }) => {
          const counted = this.#counted.get(id);
          const value = counted === undefined ? undefined : ranked?.(counted);
          const { last } = counted ?? {};
          const names = isOfPoints && last ? { names: namesText(last), windowMs: last.windowMs } : {};
          const shown = {
            ...{ note: '', tone: 'plain' as const, ...names },
            ...(value === undefined ? {} : { value }),
          };
          return { ...shown, text: counted === undefined ? NO_VALUE : text(counted) };
        }),
      ),
    });
    const spanSeconds = Math.max(1, (Date.parse(this.#last.now) - Date.parse(this.#first.now)) / 1000);
    const summary = [
      row('points', ({ points }) => amount(points), true),
      row('points per second', ({ points }) => perSecond(points / spanSeconds), true),
      row('bytes', (counted) => bytes(counted.bytes), true),
      row('retries', ({ retries }) => amount(retries), false),
      row('highest lag', ({ highest }) => seconds(highest.lag), false),
      row('highest lag beyond WINDOW + LATENESS', ({ highest }) => seconds(highest.late), false),
      row(
        'highest write p99',
        ({ highest }) => (highest.write === undefined ? NO_VALUE : seconds(highest.write)),
        true,
        ({ highest }) => highest.write,
      ),
      row('down', ({ down }) => percent(down / this.#looks), false),
    ];
    return { ...comparison, rows: [...comparison.rows, ...summary] };
  }
}

/** The increase of a counter, which starts at 0 again if the service was restarted or returned to the bus. */
function increase(before: number, after: number): number {
  return after >= before ? after - before : after;
}
