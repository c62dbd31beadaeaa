/**
 * Any receiver of OTLP over HTTP, in protobuf: the OpenTelemetry Collector and the stores that speak OTLP. The protocol
 * has no reads, no deletes and no keys: what happens to a batch that comes again is up to the receiver.
 */
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
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
  RefusedSeries,
  type Rejection,
  type Sink,
  type StoredPoint,
  transportFailure,
  type Unidentified,
  unfitNumber,
  type Verdict,
  type WriteOutcome,
  writeInParts,
} from '../../src/sink/index.ts';
import { ADVICE, classifyAnswer, type PartialSuccess } from './classify.ts';
import { type Config, settings, targetOf, validate } from './config.ts';
import { encodeRequest } from './encode.ts';

/**
 * Small, because receivers may take only a megabyte, gzipped, and report only how many points they refused. One write
 * at a time: whoever adds deltas up to a running total drops what is older than the newest that it has of a series, and
 * acknowledges it all the same. Prometheus refuses it, gauges too.
 */
const LIMITS = { maxPoints: 1_000, maxBytes: 1_000_000, inFlight: 1 };
const SOCKETS = LIMITS.inFlight + 1;
const HEADERS = { 'content-type': 'application/x-protobuf', 'content-encoding': 'gzip' };

const compress = promisify(gzip);

class OtlpSink implements Sink {
  readonly #config: Config;
  readonly #server: HttpServer;
  readonly #target: string;
  readonly #refused = new RefusedSeries<IndexedPoint>(({ point }) => point.series.id);

  constructor(config: Config) {
    this.#config = config;
    this.#server = new HttpServer(config.url, config.headers ?? {}, SOCKETS);
    this.#target = targetOf(config);
  }

  async open(signal: AbortSignal): Promise<void> {
    const verdict = await this.#probe(signal);
    if (verdict.kind !== 'written') throw errorOf(verdict, ADVICE);
  }

  /** Exports nothing. A real receiver that lets us in acknowledges that. */
  async #probe(signal: AbortSignal): Promise<Verdict> {
    const verdict = await this.#export([], signal);
    return verdict.kind === 'partial' ? { kind: 'written' } : verdict;
  }

  async write(batch: Batch, signal: AbortSignal): Promise<WriteOutcome> {
    const rejected: Rejection[] = [];
    const rows = fitting(batch, unfitNumber, rejected);
    const blame = blameOnce(() => this.#probe(signal));
    const lost: Unidentified[] = [];
    const send = async (part: readonly IndexedPoint[]): Promise<Verdict> => {
      const points = part.map(({ point }) => point);
      const verdict = await this.#export(points, signal);
      switch (verdict.kind) {
        case 'partial':
          lost.push(lostBy(verdict, part.length));
          return { kind: 'written' };
        case 'unfit':
          return verdict.reason === 'too_large' ? verdict : await blame(verdict);
        default:
          return verdict;
      }
    };
    return withLost(await writeInParts(rows, rejected, send, halves, this.#refused), lost);
  }

  async #export(points: readonly Point[], signal: AbortSignal): Promise<Verdict | PartialSuccess> {
    try {
      const body = await compress(encodeRequest(points, this.#config));
      return classifyAnswer(await this.#server.post(this.#target, { body, headers: HEADERS }, signal));
    } catch (error) {
      return transportFailure(error, signal);
    }
  }

  async *read(): AsyncGenerator<StoredPoint> {}

  async remove(): Promise<void> {}

  async close(): Promise<void> {
    this.#server.close();
  }
}

/**
 * Returns how many points are lost. The receiver took the others, and as OTLP has no keys, a search for the lost ones
 * would make some receivers count those twice. A point has several data points: better to count too many than too few.
 */
function lostBy({ rejectedDataPoints, message }: PartialSuccess, points: number): Unidentified {
  const text = `the receiver refused ${rejectedDataPoints} data points of ${points} points without saying which: ${message}`;
  return { count: Math.min(rejectedDataPoints, points), message: text };
}

function withLost(outcome: WriteOutcome, lost: readonly Unidentified[]): WriteOutcome {
  const [first] = lost;
  if (first === undefined || (outcome.kind !== 'written' && outcome.kind !== 'partial')) return outcome;
  const count = lost.reduce((sum, one) => sum + one.count, 0);
  return { retry: [], rejected: [], ...outcome, kind: 'partial', unidentified: { ...first, count } };
}

export default defineSink({
  kind: 'otlp',
  summary: 'OpenTelemetry collectors, and stores that accept OTLP over HTTP',
  settings,
  validate,
  sketchesBy: ({ histograms }) => histograms,
  limits: LIMITS,
  readBack: 'none',
  removes: false,
  price: instancePrice,
  sharesThread: true,
  create: (config): Sink => new OtlpSink(config),
});
