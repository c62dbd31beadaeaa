/**
 * Prometheus, and everything else that accepts its remote write 1.0: protobuf, compressed with snappy. A sample is
 * keyed by its series and time, so sending it again does no harm. But a receiver refuses a new value for a key that it
 * holds, and refuses samples out of order unless it is configured to take them.
 */
import { snappyCompress } from 'hyparquet-writer/src/snappy.js';
import {
  type Batch,
  blameOnce,
  defineSink,
  errorOf,
  fitting,
  HttpServer,
  halves,
  type IndexedPoint,
  instancePrice,
  type Point,
  type Query,
  type QueryRow,
  RefusedSeries,
  type Rejection,
  type Sink,
  SinkError,
  type StoredPoint,
  transportFailure,
  unfitNumber,
  type Verdict,
  type WindowRange,
  type WriteOutcome,
  writeInParts,
} from '../../src/sink/index.ts';
import { ADVICE, classifyAnswer, isOtherValue, namesSamples } from './classify.ts';
import { type Config, queryUrlOf, settings } from './config.ts';
import { encodeRequest } from './encode.ts';
import { excess, isVictoria, type LabelLimits, labelLimits } from './limits.ts';
import { QueryApi } from './query.ts';

/** One write at a time: a second one could overtake it, and then its samples would be out of order. */
const LIMITS = { maxPoints: 1_000, maxBytes: 1_000_000, inFlight: 1 };
const SOCKETS = LIMITS.inFlight + 1;
const HEADERS = {
  'content-type': 'application/x-protobuf',
  'content-encoding': 'snappy',
  'x-prometheus-remote-write-version': '0.1.0',
  'user-agent': 'metrics-fanout',
};

/** Rows of a batch that the store was found to hold already, and why that may be too few. */
interface Held {
  readonly indexes: ReadonlySet<number>;
  readonly doubt: string;
}

const isTwice = (verdict: Verdict) => verdict.kind === 'unfit' && isOtherValue(verdict.message);
const isTooOld = (verdict: Verdict) => verdict.kind === 'unfit' && verdict.reason === 'out_of_retention';

class PrometheusSink implements Sink {
  readonly #config: Config;
  readonly #server: HttpServer;
  readonly #target: string;
  readonly #queries: QueryApi | undefined;
  /** Those of the server are known from its first answer on, which the sink gets when it opens. */
  #limits: LabelLimits;
  readonly #refused = new RefusedSeries<IndexedPoint>(({ point }) => point.series.id);

  constructor(config: Config) {
    const { url, headers = {}, labels } = config;
    const { pathname, search } = new URL(url);
    const queryUrl = queryUrlOf(config);
    this.#config = config;
    this.#limits = labelLimits(config, false);
    this.#target = pathname + search;
    this.#server = new HttpServer(url, headers, SOCKETS);
    this.#queries = queryUrl && new QueryApi(queryUrl, headers, labels, SOCKETS);
  }

  async open(signal: AbortSignal): Promise<void> {
    const verdict = await this.#send([], signal);
    if (verdict.kind !== 'written') throw errorOf(verdict, ADVICE);
  }

  async write(batch: Batch, signal: AbortSignal): Promise<WriteOutcome> {
    const rejected: Rejection[] = [];
    const { labels } = this.#config;
    const refusal = (point: Point) => unfitNumber(point) ?? excess(point, labels, this.#limits);
    const rows = fitting(batch, refusal, rejected);
    const blame = blameOnce(() => this.#send([], signal));
    let held: Held | undefined;
    const send = async (part: readonly IndexedPoint[]) => {
      let verdict = await this.#sendOthers(part, held, signal);
      if (held === undefined && isTooOld(verdict)) {
        held = await this.#heldOf(rows, signal);
        if (held.indexes.size > 0) verdict = await this.#sendOthers(part, held, signal);
      }
      if (verdict.kind !== 'unfit') return verdict;
      if (isTooOld(verdict)) return { ...verdict, message: `${verdict.message}${held?.doubt ?? ''}` };
      const isClear = verdict.reason !== 'refused' || namesSamples(verdict.message);
      return isClear ? verdict : await blame(verdict);
    };
    return await writeInParts(rows, rejected, send, halves, this.#refused);
  }

  /** Sends the rows that the store is not known to hold. */
  async #sendOthers(
    part: readonly IndexedPoint[],
    held: Held | undefined,
    signal: AbortSignal,
  ): Promise<Verdict> {
    const others = part.filter(({ index }) => held === undefined || !held.indexes.has(index));
    return others.length === 0 ? { kind: 'written' } : await this.#send(others, signal);
  }

  /**
   * Prometheus refuses a sample that is older than its newest one even if it holds that sample, as it does after a
   * restart of the service. What it holds is written.
   */
  async #heldOf(rows: readonly IndexedPoint[], signal: AbortSignal): Promise<Held> {
    if (this.#queries === undefined) return { indexes: new Set(), doubt: '' };
    try {
      return { indexes: await this.#queries.held(rows, signal), doubt: '' };
    } catch (error) {
      signal.throwIfAborted();
      const reason = error instanceof SinkError ? error.reason : 'unknown';
      const doubt = `; what the store holds could not be read (${reason})`;
      return { indexes: new Set(), doubt };
    }
  }

  /** Sends rows. Without rows, it only checks that a receiver is there and lets us in. */
  async #send(rows: readonly IndexedPoint[], signal: AbortSignal): Promise<Verdict> {
    try {
      const points = rows.map(({ point }) => point);
      const { histograms } = this.#config;
      const verdict = await this.#post(points, histograms, signal);
      // Native histograms may have to be in order where samples need not be: then the fields go without.
      const isRefused = histograms && (isTooOld(verdict) || isTwice(verdict));
      return isRefused ? await this.#post(points, false, signal) : verdict;
    } catch (error) {
      return transportFailure(error, signal);
    }
  }

  async #post(points: readonly Point[], histograms: boolean, signal: AbortSignal): Promise<Verdict> {
    const body = snappyCompress(encodeRequest(points, this.#config.labels, histograms));
    const answer = await this.#server.post(this.#target, { body, headers: HEADERS }, signal);
    if (isVictoria(answer.headers)) this.#limits = labelLimits(this.#config, true);
    return classifyAnswer(answer);
  }

  async *read(range: WindowRange, signal: AbortSignal): AsyncGenerator<StoredPoint> {
    if (this.#queries === undefined) {
      throw new SinkError('not_found', 'no URL is set to read back from', 'Set QUERY_URL.');
    }
    yield* this.#queries.read(range, signal);
  }

  async query(query: Query, signal: AbortSignal): Promise<readonly QueryRow[]> {
    if (this.#queries === undefined)
      throw new SinkError('not_found', 'no URL is set to ask questions', 'Set QUERY_URL.');
    return await this.#queries.answer(query, signal);
  }

  async version(signal: AbortSignal): Promise<string | undefined> {
    return await this.#queries?.version(signal);
  }

  async remove(): Promise<void> {}

  async close(): Promise<void> {
    this.#server.close();
    this.#queries?.close();
  }
}

export default defineSink({
  kind: 'prometheus',
  summary: 'Prometheus, Mimir, VictoriaMetrics and everything else that accepts remote write 1.0',
  settings,
  sketchesBy: ({ histograms }) => histograms,
  limits: LIMITS,
  readBackBy: (config) => (queryUrlOf(config) === undefined ? 'none' : 'ranges'),
  removes: false,
  price: instancePrice,
  sharesThread: true,
  create: (config): Sink => new PrometheusSink(config),
  trial: {
    // Another label would not do: the live sink would take series with more labels for its own.
    settings: ({ labels, ...config }, name) => {
      const [[label = 'job'] = [], ...others] = Object.entries(labels);
      return { ...config, labels: { [label]: name, ...Object.fromEntries(others) } };
    },
    byHand: ({ labels }) => {
      const [label = '', name = ''] = Object.entries(labels)[0] ?? [];
      const matcher = `{${label}="${name}"}`;
      return `leave the series ${matcher} to the retention, or delete them: POST /api/v1/admin/tsdb/delete_series?match[]=${matcher} (Prometheus needs --web.enable-admin-api)`;
    },
  },
});
