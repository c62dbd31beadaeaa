/**
 * Any receiver of OTLP over HTTP, in protobuf: the OpenTelemetry Collector and the stores that speak OTLP. The protocol
 * has no reads, no deletes and no keys: what happens to a batch that comes again is up to the receiver.
 */
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import {
  type Batch,
  blame,
  defineSink,
  errorOf,
  fitting,
  HttpServer,
  type IndexedPoint,
  instancePrice,
  type Point,
  type Rejection,
  type Sink,
  type StoredPoint,
  transportFailure,
  unfitNumber,
  type Verdict,
  type WriteOutcome,
  writeInParts,
} from '../../src/sink/index.ts';
import { ADVICE, classifyAnswer, type PartialSuccess } from './classify.ts';
import { type Config, settings, targetOf } from './config.ts';
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
    return await writeInParts(rows, rejected, (part) => this.#send(part, rejected, signal));
  }

  async #send(rows: readonly IndexedPoint[], rejected: Rejection[], signal: AbortSignal): Promise<Verdict> {
    const verdict = await this.#export(
      rows.map(({ point }) => point),
      signal,
    );
    switch (verdict.kind) {
      case 'partial':
        rejected.push(...doubtful(rows, verdict));
        return { kind: 'written' };
      case 'unfit':
        return verdict.reason === 'too_large' ? verdict : await blame(verdict, () => this.#probe(signal));
      default:
        return verdict;
    }
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
 * Returns every point of the batch as rejected. The receiver took the other points, so the batch must not be sent
 * again, but any point may be one that it refused. Better to count too many rejections than too few. Nothing else here
 * turns a number without names into rejections.
 */
function doubtful(
  rows: readonly IndexedPoint[],
  { rejectedDataPoints, message }: PartialSuccess,
): Rejection[] {
  const text = `the receiver refused ${rejectedDataPoints} data points of ${rows.length} points without saying which: ${message}`;
  return rows.map(({ index }) => ({ index, reason: 'refused', message: text }));
}

export default defineSink({
  kind: 'otlp',
  summary: 'OpenTelemetry collectors, and stores that accept OTLP over HTTP',
  settings,
  limits: LIMITS,
  readBack: 'none',
  removes: false,
  price: instancePrice,
  create: (config): Sink => new OtlpSink(config),
});
