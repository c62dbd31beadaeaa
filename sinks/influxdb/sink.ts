/**
 * InfluxDB by line protocol, written by /api/v2/write (InfluxDB 2, 3, Cloud, 1.8) or /write (1.x) and read by InfluxQL
 * over /query, which all of them have. Measurement, tags and time identify a point, so writing it again overwrites it.
 */
import {
  type AnswerRow,
  addUp,
  type Batch,
  defineSink,
  halves,
  instancePrice,
  type Question,
  type Rejection,
  type Sink,
  type StoredPoint,
  type Verdict,
  type WindowRange,
  type WriteOutcome,
  writeInParts,
} from '../../src/sink/index.ts';
import { classify, type DroppedRows, sinkError } from './classify.ts';
import { type Config, settings, validate } from './config.ts';
import { Connection, sourceOf } from './connection.ts';
import { encodePoint } from './encode.ts';
import {
  decodeRows,
  decodeSums,
  decodeWindows,
  deletePoint,
  identifier,
  measurementOf,
  type Rows,
  readRows,
  SHOW_SHARDS,
  selectPoints,
  selectSums,
  selectWindows,
  shardBytes,
  showTagKeys,
} from './influxql.ts';

const LIMITS = { maxPoints: 5_000, maxBytes: 4_000_000, inFlight: 2 };
/** More sockets than writes, so that a read or an open never waits for a write. */
const SOCKETS = LIMITS.inFlight + 2;
const CHUNK_ROWS = 1_000;
const DELETES_PER_REQUEST = 100;

interface Row {
  /** Index of the point in the batch. */
  readonly index: number;
  readonly measurement: string;
  readonly line: string;
}

class InfluxDbSink implements Sink {
  readonly #config: Config;
  #connection: Connection | undefined;

  constructor(config: Config) {
    this.#config = config;
  }

  /** Creates the connection on first use, and again after `close`. */
  #connect(): Connection {
    this.#connection ??= new Connection(this.#config, SOCKETS);
    return this.#connection;
  }

  async open(signal: AbortSignal): Promise<void> {
    try {
      if (this.#config.api === 'v1') await this.#ensureDatabase(this.#config.database ?? '', signal);
      else await this.#probeBucket(signal);
    } catch (error) {
      throw sinkError(error, signal);
    }
  }

  async #ensureDatabase(database: string, signal: AbortSignal): Promise<void> {
    for await (const { values = [] } of this.#query('SHOW DATABASES', signal)) {
      if (values.some(([name]) => name === database)) return;
    }
    await this.#run(`CREATE DATABASE ${identifier(database)}`, signal);
  }

  /** Writes nothing: the server checks the bucket and the right to write before it notices that there are no points. */
  async #probeBucket(signal: AbortSignal): Promise<void> {
    try {
      await this.#connect().write('', signal);
    } catch (error) {
      const verdict = classify(error, signal);
      const missesPoints =
        verdict.kind === 'refused' && verdict.reason === 'bad_request' && isEmptyBody(verdict.message);
      if (!missesPoints) throw error;
    }
  }

  async write(batch: Batch, signal: AbortSignal): Promise<WriteOutcome> {
    const rejected: Rejection[] = [];
    const rows = encode(batch, rejected);
    return await writeInParts(rows, rejected, (part) => this.#send(part, signal), split);
  }

  async #send(rows: readonly Row[], signal: AbortSignal): Promise<Verdict<DroppedRows>> {
    try {
      const status = await this.#connect().write(rows.map(({ line }) => line).join('\n'), signal);
      if (status === 204) return { kind: 'written' };
      // Old servers answer 200 to a request that they understood but did not carry out; so does any web page.
      return { kind: 'retry', reason: 'unknown', message: `status ${status} does not acknowledge a write` };
    } catch (error) {
      return classify(error, signal);
    }
  }

  async *read(range: WindowRange, signal: AbortSignal): AsyncGenerator<StoredPoint> {
    for await (const rows of this.#query(selectPoints(range), signal)) yield* decodeRows(rows);
  }

  async remove(batch: Batch, signal: AbortSignal): Promise<void> {
    const keys = new Map<string, string[]>();
    for (const measurement of new Set(batch.points.map(measurementOf))) {
      const found: string[] = [];
      for await (const { values = [] } of this.#query(showTagKeys(measurement), signal)) {
        found.push(...values.map(([key]) => String(key)));
      }
      keys.set(measurement, found);
    }
    const statements = batch.points.map((point) => deletePoint(point, keys.get(measurementOf(point))!));
    for (let start = 0; start < statements.length; start += DELETES_PER_REQUEST) {
      const some = statements.slice(start, start + DELETES_PER_REQUEST);
      await this.#run(some.join(';'), signal);
    }
  }

  async ask(question: Question, signal: AbortSignal): Promise<readonly AnswerRow[]> {
    const isSums = question.kind === 'sums';
    const rows: AnswerRow[] = [];
    for await (const some of this.#query(isSums ? selectSums(question) : selectWindows(question), signal)) {
      rows.push(...(isSums ? decodeSums(some, question.dimension) : decodeWindows(some, question.series)));
    }
    // The parts of one window from several instances are series of their own.
    return addUp(rows);
  }

  /** Resolves to a size only on 1.x, for an administrator. */
  async storage(signal: AbortSignal): Promise<number | undefined> {
    const { db } = sourceOf(this.#config);
    let bytes = 0;
    try {
      for await (const rows of this.#query(SHOW_SHARDS, signal)) {
        bytes += shardBytes(rows, db);
      }
    } catch {
      return undefined;
    }
    return bytes;
  }

  /** Runs statements that return no rows. */
  async #run(statements: string, signal: AbortSignal): Promise<void> {
    for await (const _ of this.#query(statements, signal));
  }

  async *#query(statements: string, signal: AbortSignal): AsyncGenerator<Rows> {
    try {
      for await (const rows of readRows(this.#connect().query(statements, CHUNK_ROWS, signal))) {
        yield rows;
        signal.throwIfAborted();
      }
    } catch (error) {
      throw sinkError(error, signal);
    }
  }

  async close(): Promise<void> {
    this.#connection?.close();
    this.#connection = undefined;
  }
}

/** Matches the wording of InfluxDB 2 (`writing requires points`) and 3 (`no lines`, `empty`). */
function isEmptyBody(message: string): boolean {
  return /requires points|no lines|empty/i.test(message);
}

function encode(batch: Batch, rejected: Rejection[]): Row[] {
  const rows: Row[] = [];
  for (const [index, point] of batch.points.entries()) {
    const line = encodePoint(point);
    if (typeof line === 'string') rows.push({ index, line, measurement: measurementOf(point) });
    else rejected.push({ index, ...line });
  }
  return rows;
}

/**
 * Returns the parts in which to send rows again if the server cannot take some of them. Returns one part if the server
 * dropped every row, or there is only one. The server says how many rows it dropped, not which; sometimes it names a
 * measurement.
 */
function split(rows: readonly Row[], verdict: DroppedRows): readonly (readonly Row[])[] {
  if (verdict.dropped === rows.length) return [rows];
  const named = rows.filter(({ measurement }) => measurement === verdict.measurement);
  if (named.length > 0 && named.length < rows.length) {
    return [rows.filter(({ measurement }) => measurement !== verdict.measurement), named];
  }
  return halves(rows);
}

export default defineSink({
  kind: 'influxdb',
  summary: 'InfluxDB 1.x, 2, 3 and Cloud',
  settings,
  limits: LIMITS,
  validate,
  create: (config): Sink => new InfluxDbSink(config),
  price: instancePrice,
});
