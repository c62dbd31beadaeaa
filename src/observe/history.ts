/** The data of the charts: the last hour, one value every ten seconds, in memory of a fixed size. */
import { METRIC_TYPES } from '../aggregate/point.ts';
import type { SinkStatus, Status } from './status.ts';

export const STEP_MS = 10_000;
export const STEPS = 360;
/** Significant digits of a value that is sent to a page: more cannot be seen. */
const DIGITS = 4;

/** Values by the series of a chart, such as `messages` or `lag:sqlite`. Null if unknown. */
export interface Moment {
  /** Seconds since 1970. */
  readonly time: number;
  readonly values: Readonly<Record<string, number | null>>;
}

export interface Charts {
  readonly times: readonly number[];
  readonly columns: Readonly<Record<string, readonly (number | null)[]>>;
}

const OF_SOURCE: Readonly<Record<string, (status: Status) => number>> = {
  messages: ({ messages }) => messages.perSecond,
  ...Object.fromEntries(
    METRIC_TYPES.map((type) => [type, ({ samples }: Status) => samples.perSecond[type] ?? 0]),
  ),
};

/** The name of the series is this key, a colon and the id of the sink. */
const OF_SINK: Readonly<Record<string, (sink: SinkStatus) => number | null>> = {
  // Absent, like the answers, in what an older version says.
  late: ({ lateSeconds }) => lateSeconds ?? null,
  write: ({ writeSeconds }) => writeSeconds?.p99 ?? null,
  backlog: ({ backlogPoints }) => backlogPoints,
  asked50: ({ querySeconds }) => querySeconds?.p50 ?? null,
  asked95: ({ querySeconds }) => querySeconds?.p95 ?? null,
};

export function momentOf(status: Status): Moment {
  const values: Record<string, number | null> = {};
  for (const [name, of] of Object.entries(OF_SOURCE)) values[name] = shown(of(status));
  for (const sink of status.sinks) {
    for (const [name, of] of Object.entries(OF_SINK)) values[`${name}:${sink.id}`] = shown(of(sink));
  }
  return { time: Math.round(Date.parse(status.now) / 1000), values };
}

function shown(value: number | null): number | null {
  return value === null ? null : Number(value.toPrecision(DIGITS));
}

export class History {
  readonly #times: Float64Array;
  /** NaN if a value is unknown. */
  readonly #columns: ReadonlyMap<string, Float64Array>;
  #size = 0;
  #next = 0;

  constructor(sinks: readonly string[], steps = STEPS) {
    const names = [
      ...Object.keys(OF_SOURCE),
      ...sinks.flatMap((id) => Object.keys(OF_SINK).map((name) => `${name}:${id}`)),
    ];
    this.#times = new Float64Array(steps);
    this.#columns = new Map(names.map((name) => [name, new Float64Array(steps)]));
  }

  /** Overwrites the oldest moment if the history is full. */
  add({ time, values }: Moment): void {
    this.#times[this.#next] = time;
    for (const [name, column] of this.#columns) column[this.#next] = values[name] ?? Number.NaN;
    this.#next = (this.#next + 1) % this.#times.length;
    this.#size = Math.min(this.#size + 1, this.#times.length);
  }

  /** Puts earlier moments before all others, as far as there is room. */
  prepend(earlier: readonly Moment[]): void {
    const { times, columns } = this.charts;
    const later = times.map((time, index) => ({
      time,
      values: Object.fromEntries(Object.entries(columns).map(([name, all]) => [name, all[index] ?? null])),
    }));
    this.#size = 0;
    this.#next = 0;
    for (const moment of [...earlier, ...later]) this.add(moment);
  }

  /** Oldest first. */
  get charts(): Charts {
    const inOrder = (column: Float64Array) => [
      ...column.subarray(this.#size < column.length ? 0 : this.#next, this.#size),
      ...column.subarray(0, this.#size < column.length ? 0 : this.#next),
    ];
    const columns = Array.from(this.#columns, ([name, column]) => [
      name,
      inOrder(column).map((value) => (Number.isNaN(value) ? null : value)),
    ]);
    return { times: inOrder(this.#times), columns: Object.fromEntries(columns) };
  }
}
