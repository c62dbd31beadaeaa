/**
 * Any receiver of OTLP over HTTP, in protobuf: the OpenTelemetry Collector and the stores that speak it. The protocol
 * has no reading, no deleting and no keys: what a receiver does with a batch that comes again is its own affair.
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

/** Small enough for the receivers that take a megabyte, gzipped, and that tell of refused points by number only. */
const LIMITS = { maxPoints: 1_000, maxBytes: 1_000_000, inFlight: 2 };
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

  /** An export of nothing, which a receiver acknowledges where it is one and lets us in. */
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
 * The receiver took the others, and must not be sent the batch again. Every point of it may be one of those refused, so
 * all count as rejected: too many rather than too few.
 */
function doubtful(
  rows: readonly IndexedPoint[],
  { rejectedDataPoints, message }: PartialSuccess,
): Rejection[] {
  const said = `${rejectedDataPoints} data points of ${rows.length} points were refused, unsaid which: ${message}`;
  return rows.map(({ index }) => ({ index, reason: 'refused', message: said }));
}

export default defineSink({
  kind: 'otlp',
  summary: 'OpenTelemetry collectors, and the stores that take OTLP over HTTP',
  settings,
  limits: LIMITS,
  readBack: 'none',
  removes: false,
  price: instancePrice,
  create: (config): Sink => new OtlpSink(config),
});
