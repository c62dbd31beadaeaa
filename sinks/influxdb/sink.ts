/**
 * InfluxDB by line protocol, written by /api/v2/write (InfluxDB 2, 3, Cloud, 1.8) or /write (1.x) and read by InfluxQL
 * over /query, which all of them have; or by the API of InfluxDB 3 alone. Measurement, tags and time identify a point,
 * so writing it again overwrites it.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type AnswerRow,
  addUp,
  type Batch,
  blameOnce,
  defineSink,
  halves,
  type IndexedPoint,
  instancePrice,
  isAsKnown,
  isRefusal,
  makeMissing,
  type Query,
  type QueryRow,
  type Question,
  type ReceiptBefore,
  RefusedSeries,
  type Rejection,
  RememberedSeries,
  type Sink,
  type SinkContext,
  SinkError,
  type StoredPoint,
  type Verdict,
  type WindowRange,
  type WriteOutcome,
  writeInParts,
} from '../../src/sink/index.ts';
import { blamesPoints, classify, type DroppedRows, sinkError } from './classify.ts';
import { type Config, settings, validate } from './config.ts';
import { Connection, sourceOf } from './connection.ts';
import { encodePoint } from './encode.ts';
import {
  decodeQuery,
  decodeReceipt,
  decodeRows,
  decodeStore,
  decodeSums,
  decodeWindows,
  deletePoint,
  identifier,
  measurementOf,
  type Offer,
  type Rows,
  readRows,
  readRowsV3,
  receiptLine,
  SELECT_STORE,
  SHOW_SHARDS,
  selectPoints,
  selectQuery,
  selectReceipt,
  selectSums,
  selectWindows,
  shardBytes,
  showTagKeys,
  storeLine,
} from './influxql.ts';
import { bucketBytes } from './metrics.ts';
import { claim, drop, type TrialAccess, trials, trialTables } from './trial.ts';

const LIMITS = { maxPoints: 5_000, maxBytes: 4_000_000, inFlight: 2 };
/** More sockets than writes, so that a read or an open never waits for a write. */
const SOCKETS = LIMITS.inFlight + 2;
const CHUNK_ROWS = 1_000;
const DELETES_PER_REQUEST = 100;

/** How a message begins if the server answers no POST at the address of queries: with its status. */
const NO_SUCH_METHOD = '405: ';

/**
 * How long after an identity was offered those of others that begin at the same time have been offered too. InfluxDB
 * has no write that only the first can make. If one comes later all the same, it finds that another is sure.
 */
const SETTLE_MS = 1_000;

/** How many series to remember of a server that takes no new ones: about 10 MB. */
const MAX_TAKEN_SERIES = 100_000;

interface Row extends IndexedPoint {
  readonly line: string;
}

const idOf = ({ point }: Row) => point.series.id;

class InfluxDbSink implements Sink {
  readonly #config: Config;
  readonly #context: SinkContext;
  readonly #refused = new RefusedSeries(idOf);
  /** Series of which the server took a point since it first had as many as it may have. */
  #taken: RememberedSeries<Row> | undefined;
  #connection: Connection | undefined;

  constructor(config: Config, context: SinkContext) {
    this.#config = config;
    this.#context = context;
  }

  /** Creates the connection on first use, and again after `close`. */
  #connect(): Connection {
    this.#connection ??= new Connection(this.#config, SOCKETS);
    return this.#connection;
  }

  async open(signal: AbortSignal): Promise<void> {
    try {
      if (this.#config.api === 'v1') await this.#openV1(this.#config.database ?? '', signal);
      else await this.#writeNothing(signal);
      if (this.#config.api === 'v3' && !this.#context.readOnly) await this.#connect().createDatabase(signal);
    } catch (error) {
      throw sinkError(error, signal);
    }
  }

  /** QuestDB takes writes, but has no databases, and no queries in this language. */
  async #openV1(database: string, signal: AbortSignal): Promise<void> {
    try {
      await this.#ensureDatabase(database, signal);
    } catch (error) {
      if (!(error instanceof SinkError && error.message.startsWith(NO_SUCH_METHOD))) throw error;
      await this.#writeNothing(signal);
    }
  }

  async #ensureDatabase(database: string, signal: AbortSignal): Promise<void> {
    for await (const { values = [] } of this.#query('SHOW DATABASES', signal)) {
      if (values.some(([name]) => name === database)) return;
    }
    const create = () => this.#run(`CREATE DATABASE ${identifier(database)}`, signal);
    await makeMissing(this.#context, `database ${database}`, create);
  }

  /** Writes nothing: the server checks the bucket and the right to write before it notices that there are no points. */
  async #writeNothing(signal: AbortSignal): Promise<void> {
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
    const blame = blameOnce(() => this.#control(signal));
    const send = (part: readonly Row[]) => this.#send(part, blame, signal);
    const split = (part: readonly Row[], verdict: DroppedRows) => this.#split(part, verdict);
    return await writeInParts(rows, rejected, send, split, this.#refused);
  }

  /** Whether the server takes a request without points. */
  async #control(signal: AbortSignal): Promise<Verdict> {
    try {
      await this.#writeNothing(signal);
      return { kind: 'written' };
    } catch (error) {
      return classify(error, signal);
    }
  }

  async #send(
    rows: readonly Row[],
    blame: ReturnType<typeof blameOnce>,
    signal: AbortSignal,
  ): Promise<Verdict<DroppedRows>> {
    try {
      const status = await this.#connect().write(rows.map(({ line }) => line).join('\n'), signal);
      if (status === 204) {
        this.#taken?.add(rows);
        return { kind: 'written' };
      }
      // Old servers answer 200 to a request that they understood but did not carry out; so does any web page.
      return { kind: 'retry', reason: 'unknown', message: `status ${status} does not acknowledge a write` };
    } catch (error) {
      const failure = classify(error, signal);
      if (failure.kind === 'unfit') {
        if (failure.isLimit) this.#taken ??= new RememberedSeries(idOf, MAX_TAKEN_SERIES);
        return named(rows, failure);
      }
      const unfit = blamesPoints(error, failure);
      if (unfit === undefined) return failure;
      const verdict = await blame(unfit);
      return verdict.kind === 'unfit' ? unfit : verdict;
    }
  }

  /**
   * Returns the parts in which to send rows again if the server cannot take some of them: by series, time, measurement
   * or line if it says anything of these. It mostly says how many rows it dropped, not which.
   */
  #split(rows: readonly Row[], verdict: DroppedRows): readonly (readonly Row[])[] {
    const { isLimit = false, keepsFrom = 0, measurement, suspect = 0 } = verdict;
    const taken = isLimit ? new Set(this.#taken?.among(rows)) : undefined;
    return (
      (taken && parted(rows, (row) => taken.has(row))) ??
      parted(rows, ({ point }) => point.windowStart < keepsFrom) ??
      (isLimit ? undefined : parted(rows, ({ point }) => measurementOf(point) === measurement)) ??
      parted(rows, (row) => row === rows[suspect - 1]) ??
      halves(rows)
    );
  }

  async *read(range: WindowRange, signal: AbortSignal): AsyncGenerator<StoredPoint> {
    for await (const rows of this.#query(selectPoints(range), signal)) yield* decodeRows(rows);
  }

  async remove(batch: Batch, signal: AbortSignal): Promise<void> {
    if (!removes(this.#config)) return;
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

  protected access(): TrialAccess {
    const query = (statement: string, signal: AbortSignal) => this.#query(statement, signal);
    return { config: this.#config, connection: this.#connect(), query };
  }

  /** InfluxDB 3 has no type of answer in which we find it. A user who may not read has no identity either. */
  async identity(signal: AbortSignal): Promise<string | undefined> {
    if (this.#config.api === 'v3') return undefined;
    try {
      const known = await this.#stored(signal);
      if (known?.isSure || this.#context.readOnly) return known?.identity;
      const own = { identity: randomUUID(), made: Date.now(), isSure: false };
      if (known === undefined) await this.#offer(own, signal);
      // With a short TIMEOUT, there is no time to wait for long: the next attempt finds what this one has offered.
      const waitMs = known === undefined ? SETTLE_MS : known.made + SETTLE_MS - Date.now();
      if (waitMs > 0) await sleep(Math.min(waitMs, SETTLE_MS), undefined, { signal });
      const first = await this.#stored(signal);
      if (first?.isSure === false) await this.#offer({ ...first, isSure: true }, signal);
      return (await this.#stored(signal))?.identity;
    } catch (error) {
      const failure = sinkError(error, signal);
      if (!(failure instanceof SinkError) || !isRefusal(failure.reason)) throw failure;
      if (failure.reason === 'not_found') throw failure;
      const fields = { error: failure.message };
      this.#context.log.warn(fields, 'the sink would not notice if the database was replaced');
      return undefined;
    }
  }

  async #offer(offer: Offer, signal: AbortSignal): Promise<void> {
    await this.#connect().write(storeLine(offer), signal);
  }

  async #stored(signal: AbortSignal): Promise<Offer | undefined> {
    return decodeStore(await Array.fromAsync(this.#query(SELECT_STORE, signal)));
  }

  async receipt(writer: string, signal: AbortSignal): Promise<number | undefined> {
    try {
      return decodeReceipt(await Array.fromAsync(this.#query(selectReceipt(writer), signal)));
    } catch (error) {
      throw sinkError(error, signal);
    }
  }

  async giveReceipt(
    writer: string,
    time: number,
    known: number | undefined,
    signal: AbortSignal,
  ): Promise<ReceiptBefore | undefined> {
    if (this.#config.api === 'v3') return undefined;
    try {
      const before = await this.receipt(writer, signal);
      if (isAsKnown(before, known) && !(before !== undefined && before >= time))
        await this.#connect().write(receiptLine(writer, time), signal);
      return { before };
    } catch (error) {
      throw sinkError(error, signal);
    }
  }

  /**
   * 1.x tells only an administrator; on 2, the token must be allowed to read the bucket's description; 3 tells nobody.
   */
  async storage(signal: AbortSignal): Promise<number | undefined> {
    if (this.#config.api === 'v3') return undefined;
    const { db } = sourceOf(this.#config);
    const get = (target: string) => this.#connect().get(target, signal);
    let bytes = 0;
    try {
      const found = this.#config.api === 'v2' ? await bucketBytes(get, this.#config) : undefined;
      if (found !== undefined) return found;
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
      const connection = this.#connect();
      const answer =
        this.#config.api === 'v3'
          ? readRowsV3(connection.queryV3(statements, signal))
          : readRows(connection.query(statements, CHUNK_ROWS, signal));
      for await (const rows of answer) {
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

/** Of 1.x and 2: InfluxDB 3 keeps no mark of a trial, and its answers have no place for what is computed. */
class TriedInfluxDbSink extends InfluxDbSink {
  async query(query: Query, signal: AbortSignal): Promise<readonly QueryRow[]> {
    return decodeQuery(query, await Array.fromAsync(this.access().query(selectQuery(query), signal)));
  }

  async version(signal: AbortSignal): Promise<string | undefined> {
    const version = await orSinkError(signal, () => this.access().connection.version(signal));
    return version && `InfluxDB ${version}`;
  }

  async claim(signal: AbortSignal): Promise<void> {
    await orSinkError(signal, () => claim(this.access(), signal));
    await this.open(signal);
  }

  async drop(signal: AbortSignal): Promise<void> {
    await orSinkError(signal, () => drop(this.access(), signal));
  }

  async trials(signal: AbortSignal): Promise<readonly string[]> {
    return await orSinkError(signal, () => trials(this.access(), signal));
  }
}

async function orSinkError<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw sinkError(error, signal);
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
    if (typeof line === 'string') rows.push({ index, point, line });
    else rejected.push({ index, ...line });
  }
  return rows;
}

/** How many lines InfluxDB 3 names at most, by the documentation of its cloud. */
const MAX_NAMED_LINES = 100;

/** Returns the verdict with the rows that the server names, or that are beyond the retention by the bound it names. */
function named(rows: readonly Row[], verdict: DroppedRows): DroppedRows {
  const { lines = [], keepsFrom = Number.NEGATIVE_INFINITY, unfit: count, ...rest } = verdict;
  if (lines.length > 0) {
    const refused = lines.flatMap(({ line, reason, message }) => {
      const index = rows[line - 1]?.index;
      return index === undefined ? [] : [{ index, reason, message }];
    });
    const all = lines.length < MAX_NAMED_LINES && refused.length === lines.length;
    return { ...rest, named: refused, ...(all ? { unfit: refused.length } : {}) };
  }
  const old = rows.filter(({ point }) => point.windowStart < keepsFrom);
  if (count !== undefined && old.length === count) {
    const { reason, message } = verdict;
    return { ...rest, unfit: count, named: old.map(({ index }) => ({ index, reason, message })) };
  }
  // The server counts by shard, which is a range of time, and tells of one shard only.
  const [first] = rows;
  const areOfOneWindow = rows.every(({ point }) => point.windowStart === first?.point.windowStart);
  return { ...rest, keepsFrom, ...(count !== undefined && areOfOneWindow ? { unfit: count } : {}) };
}

/** Returns the two parts of the rows, that for which `test` is true last; undefined if there is only one. */
function parted(rows: readonly Row[], test: (row: Row) => boolean): readonly (readonly Row[])[] | undefined {
  const chosen = rows.filter(test);
  if (chosen.length === 0 || chosen.length === rows.length) return undefined;
  return [rows.filter((row) => !test(row)), chosen];
}

/** InfluxDB 3 deletes only whole tables and databases. */
function removes({ api }: Config): boolean {
  return api !== 'v3';
}

export default defineSink({
  kind: 'influxdb',
  summary: 'InfluxDB 1.x, 2, 3 and Cloud',
  settings,
  limits: LIMITS,
  validate,
  removesBy: removes,
  sharesThread: true,
  create: (config, context): Sink =>
    config.api === 'v3' ? new InfluxDbSink(config, context) : new TriedInfluxDbSink(config, context),
  trial: trialTables,
  price: instancePrice,
});
