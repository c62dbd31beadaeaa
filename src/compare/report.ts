/** What a running service told over some time, as one HTML file. */
import { History, momentOf } from '../observe/history.ts';
import { reportPage } from '../observe/page.ts';
import type { SinkStatus, Status } from '../observe/status.ts';
import { type Comparison, type View, viewOf } from '../observe/view.ts';
import { amount, bytes, NONE, perSecond, seconds, total } from '../observe/words.ts';

/** Of a report; with more, lines would not be clearer. */
export const MAX_SAMPLES = 720;

/** Collects what one service tells. */
export class Recording {
  readonly #url: string;
  readonly #first: Status;
  #last: Status;
  readonly #history: History;
  readonly #highest = new Map<string, { lag: number; write: number }>();

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
    this.#last = status;
    this.#history.add(momentOf(status));
    for (const { id, lagSeconds, writeSeconds } of status.sinks) {
      const before = this.#highest.get(id) ?? { lag: 0, write: 0 };
      const write = Math.max(before.write, writeSeconds?.p99 ?? 0);
      this.#highest.set(id, { lag: Math.max(before.lag, lagSeconds), write });
    }
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

  /** The figures of the whole time behind those of its end. */
  #withSummary({ comparison }: View): Comparison {
    const row = (what: string, text: (before: SinkStatus, after: SinkStatus) => string) => ({
      what: `${what}, in all`,
      cells: this.#last.sinks.map((after) => {
        const before = this.#first.sinks.find(({ id }) => id === after.id);
        return { text: before === undefined ? NONE : text(before, after), note: '', tone: 'plain' as const };
      }),
    });
    const spanSeconds = Math.max(1, (Date.parse(this.#last.now) - Date.parse(this.#first.now)) / 1000);
    const summary = [
      row('points', (before, after) => amount(after.written - before.written)),
      row('points a second', (before, after) => perSecond((after.written - before.written) / spanSeconds)),
      row('bytes', (before, after) => bytes(after.writtenBytes - before.writtenBytes)),
      row('retries', (before, after) => amount(total(after.retries) - total(before.retries))),
      row('highest lag', (_, { id }) => seconds(this.#highest.get(id)?.lag ?? 0)),
      row('highest write p99', (_, { id }) => seconds(this.#highest.get(id)?.write ?? 0)),
    ];
    return { ...comparison, rows: [...comparison.rows, ...summary] };
  }
}
