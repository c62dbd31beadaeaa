/** Reads rows back by the query API: raw samples, in slices of time that each hold a bounded number of them. */
import {
  ALL_FIELDS,
  errorOf,
  type Field,
  HttpServer,
  type IndexedPoint,
  type Query,
  type QueryRow,
  type Series,
  SinkError,
  type StoredPoint,
  transportFailure,
  type WindowRange,
} from '../../src/sink/index.ts';
import { ADVICE, classifyAnswer, messageOf } from './classify.ts';
import { decodeLabels, nameValue } from './names.ts';
import { expressionOf, rowsOf } from './promql.ts';

/** A slice with more points is halved, down to a millisecond. The points of one window always come in one answer. */
const MAX_POINTS = 10_000;
const MAX_ANSWER_BYTES = 268_435_456;
/** A query with a longer list of names asks for all of them. VictoriaMetrics takes queries of 16 KiB. */
const MAX_NAMES_CHARACTERS = 8_192;
const FORM = { 'content-type': 'application/x-www-form-urlencoded' };
const NO_FIELDS = Object.fromEntries(ALL_FIELDS.map((field) => [field, null]));

type OwnLabels = Readonly<Record<string, string>>;

/** The samples of one series, with times in seconds and values as text. */
interface Found {
  readonly metric: Readonly<Record<string, string>>;
  readonly value?: readonly [time: number, value: string];
  readonly values?: readonly (readonly [time: number, value: string])[];
}

export class QueryApi {
  readonly #server: HttpServer;
  readonly #path: string;
  readonly #search: string;
  readonly #own: OwnLabels;
  readonly #matchers: string;

  constructor(url: URL, headers: Readonly<Record<string, string>>, own: OwnLabels, sockets: number) {
    this.#server = new HttpServer(url.href, headers, sockets);
    this.#path = url.pathname;
    this.#search = url.search;
    this.#own = own;
    const matchers = Object.entries(own).map(([name, value]) => `${name}=${JSON.stringify(value)}`);
    this.#matchers = [...matchers, 'metric_type!=""'].join(',');
  }

  /** Yields what the store holds in the range: a row for each sample under one key and field, if it holds several. */
  async *read(range: WindowRange, signal: AbortSignal, more = ''): AsyncGenerator<StoredPoint> {
    const slices = range.from < range.to ? [range] : [];
    for (let slice = slices.pop(); slice !== undefined; slice = slices.pop()) {
      const points = await this.#count(slice, signal, more);
      const middle = Math.floor((slice.from + slice.to) / 2);
      if (points > MAX_POINTS && middle > slice.from) {
        slices.push({ from: middle, to: slice.to }, { from: slice.from, to: middle });
      } else if (points > 0) {
        for (const point of pointsOf(await this.#samples(slice, signal, more), slice, this.#own)) {
          yield point;
          signal.throwIfAborted();
        }
      }
    }
    signal.throwIfAborted();
  }

  /** Resolves to the indexes of the rows that the store holds, with the same values to the last bit. */
  async held(rows: readonly IndexedPoint[], signal: AbortSignal): Promise<Set<number>> {
    const wanted = new Map(rows.map((row) => [keyOf(row.point), row]));
    const starts = rows.map(({ point }) => point.windowStart);
    const range = {
      from: starts.reduce((a, b) => Math.min(a, b)),
      to: starts.reduce((a, b) => Math.max(a, b)) + 1,
    };
    const held = new Set<number>();
    for await (const stored of this.read(range, signal, matcherOf(rows))) {
      const row = wanted.get(keyOf(stored));
      if (row !== undefined && ALL_FIELDS.every((field) => stored[field] === row.point[field])) {
        held.add(row.index);
      }
    }
    return held;
  }

  /** Resolves to the number of points, because every point has a count. */
  async #count(range: WindowRange, signal: AbortSignal, more: string): Promise<number> {
    const counts = this.#span(range, `${more},__name__=~".+_count"`);
    const [found] = await this.#query(`sum(count_over_time(${counts}))`, range, signal);
    return Number(found?.value?.[1] ?? 0);
  }

  /** Answers a question of a trial. With a step, it is asked at the end of each. */
  async answer(query: Query, signal: AbortSignal): Promise<QueryRow[]> {
    const { expression, stepMs } = expressionOf(query, this.#matchers, this.#own);
    if (stepMs === undefined)
      return rowsOf(query, await this.#query(expression, query.range, signal), this.#own);
    const { from, to } = query.range;
    const parameters = {
      query: expression,
      start: new Date(from + stepMs - 1).toISOString(),
      end: new Date(to - 1).toISOString(),
      step: String(stepMs / 1000),
      nocache: '1',
    };
    return rowsOf(
      query,
      await this.#ask(`${this.#path}_range${this.#search}`, parameters, signal),
      this.#own,
    );
  }

  #samples(range: WindowRange, signal: AbortSignal, more: string): Promise<readonly Found[]> {
    return this.#query(this.#span(range, more), range, signal);
  }

  /**
   * Returns a selector of the range, up to its last millisecond. Prometheus 2 also includes the millisecond before its
   * first; Prometheus 3 does not.
   */
  #span({ from, to }: WindowRange, more: string): string {
    return `{${this.#matchers}${more}}[${to - from}ms]`;
  }

  #query(query: string, { to }: WindowRange, signal: AbortSignal): Promise<readonly Found[]> {
    const time = new Date(to - 1).toISOString();
    // Without nocache, VictoriaMetrics answers for 30 seconds earlier if the time is close to now.
    return this.#ask(this.#path + this.#search, { query, time, nocache: '1' }, signal);
  }

  async #ask(
    target: string,
    parameters: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<readonly Found[]> {
    try {
      const body = `${new URLSearchParams(parameters)}`;
      const request = { body, headers: FORM, maxAnswerBytes: MAX_ANSWER_BYTES };
      const answer = await this.#server.post(target, request, signal);
      if (answer.status !== 200) {
        const verdict = classifyAnswer(answer);
        if (verdict.kind !== 'written') throw errorOf(verdict, ADVICE);
        throw new SinkError('unknown', messageOf(answer));
      }
      return (JSON.parse(answer.body.toString()) as { data: { result: Found[] } }).data.result;
    } catch (error) {
      if (error instanceof SinkError) throw error;
      throw errorOf(transportFailure(error, signal), ADVICE);
    }
  }

  /** Resolves to undefined if the server is another one, such as VictoriaMetrics, and does not say. */
  async version(signal: AbortSignal): Promise<string | undefined> {
    const target = this.#path.replace(/\/query$/, '/status/buildinfo') + this.#search;
    try {
      const answer = await this.#server.post(target, { method: 'GET', body: '' }, signal);
      const { data } = JSON.parse(answer.body.toString()) as { data?: { version?: string } };
      return answer.status === 200 && data?.version ? `Prometheus ${data.version}` : undefined;
    } catch {
      return undefined;
    }
  }

  close(): void {
    this.#server.close();
  }
}

type Row = { series: Series; windowStart: number; instance: string } & Record<Field, number | null>;

/** Joins series to points: each field of a point is a series of its own. All fields of a window are in one slice. */
function pointsOf(found: readonly Found[], { from }: WindowRange, own: OwnLabels): StoredPoint[] {
  const rows = new Map<string, Row[]>();
  for (const { metric, values = [] } of found) {
    const decoded = decodeLabels(metric, own);
    if (decoded === undefined) continue;
    const { series, field, instance } = decoded;
    for (const [seconds, value] of values) {
      const windowStart = Math.round(seconds * 1000);
      if (windowStart < from) continue;
      const key = keyOf({ windowStart, series, instance });
      const held = rows.get(key) ?? [];
      // VictoriaMetrics keeps a sample that comes twice, and counts it twice: that makes two rows.
      let row = held.find((other) => other[field] === null);
      if (row === undefined) {
        row = { ...NO_FIELDS, series, windowStart, instance } as Row;
        held.push(row);
        rows.set(key, held);
      }
      row[field] = Number(value);
    }
  }
  // A row without a count is not complete, and equals no point.
  return [...rows.values()].flat() as StoredPoint[];
}

function keyOf({
  windowStart,
  series,
  instance,
}: Pick<StoredPoint, 'windowStart' | 'series' | 'instance'>): string {
  return `${windowStart} ${series.id} ${instance}`;
}

/** Returns a matcher of the names of these rows, to read no others; empty if it would be too long. */
function matcherOf(rows: readonly IndexedPoint[]): string {
  const names = new Set(rows.map(({ point }) => nameValue(point.series.name)));
  const pattern = [...names].map((name) => name.replace(/[\\.+*?()|[\]{}^$]/g, '\\$&')).join('|');
  return pattern.length > MAX_NAMES_CHARACTERS ? '' : `,name=~${JSON.stringify(pattern)}`;
}
