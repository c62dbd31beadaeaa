/**
 * PostgreSQL, with a real primary key. A batch goes by COPY if the table has none of its keys; otherwise by a statement
 * that takes an array for each column, and overwrites the rows whose keys the table has. Nothing is kept in a session,
 * so a pooler may give every transaction another one.
 */
import {
  type AnswerRow,
  alreadyThere,
  type Batch,
  beginReading,
  classifyPg,
  columnArrays,
  copyRows,
  defineSink,
  fitting,
  halves,
  type IdentityOptions,
  type IndexedPoint,
  instancePrice,
  isAboutData,
  keyOfRow,
  lacksPartition,
  loadPg,
  MISCOUNTED,
  mustBeOfTrial,
  notClaimed,
  outcomeOf,
  type PgConnection,
  PgConnections,
  type PgResult,
  type PgRow,
  type PgServer,
  type Point,
  pgAnswer,
  pgGiveReceipt,
  pgIdentity,
  pgQuery,
  pgQueryRows,
  pgQuestion,
  pgReceipt,
  pgRejectReason,
  pointOfRow,
  type Query,
  type QueryRow,
  type Question,
  type ReceiptBefore,
  RefusedSeries,
  type Rejection,
  type RowKey,
  type Sink,
  type SinkContext,
  SinkError,
  type SinkLog,
  type StoredPoint,
  sqlState,
  statementTimeout,
  TRIAL_MARK,
  transaction,
  type Verdict,
  type WindowRange,
  WriteOrder,
  type WriteOutcome,
  writeInParts,
} from '../../src/sink/index.ts';
import { type PostgresConfig, settings, validate } from './config.ts';
import { copyQuery } from './copy-query.ts';
import {
  copyInto,
  deleteKeys,
  dropTable,
  inKeyOrder,
  KEY_ARRAYS,
  markTable,
  refusal,
  selectHeld,
  selectHypertableSize,
  selectMark,
  selectMarked,
  selectPage,
  selectSize,
  upsert,
  vacuum,
} from './encode.ts';
import { Partitions } from './partitioned.ts';
import { dropChunks } from './partitions.ts';
import { Schema, type Shape } from './schema.ts';

const LIMITS = { maxPoints: 10_000, maxBytes: 8_000_000, inFlight: 2 };
/** Rows of the first page of a read, and of the largest one. Each page has twice as many rows as the one before. */
const FIRST_PAGE_ROWS = 1_000;
const MAX_PAGE_ROWS = 8_000;
const QUESTION_TIMEOUT_MS = 5_000;
/** A key comes twice in one statement: halved, each half takes it. */
const TWICE = '21000';
/**
 * COPY says of these that it cannot store a row, or that the other statement must be used: the table has a key, a value
 * or a constraint is not met, a row is too long, rows are secured one by one, or it is no table.
 */
const NOT_BY_COPY = /^(2[23]|54000|0A000|42809)/;
/**
 * How long nothing goes by COPY after it failed, as it may if another instance writes the same rows: each failure is in
 * the server's log.
 */
const NO_COPY_MS = 3_600_000;
const SWEEP_EVERY_MS = 3_600_000;

const SERVER: PgServer = { isRedshift: false, endsIdle: true };

interface Opened extends Shape {
  readonly partitions: Partitions | undefined;
}

class PostgresSink implements Sink {
  readonly #config: PostgresConfig;
  readonly #log: SinkLog;
  readonly #readOnly: boolean | undefined;
  readonly #timeoutMs: number;
  readonly #connections: PgConnections;
  readonly #order: WriteOrder;
  readonly #refused = new RefusedSeries<IndexedPoint>(({ point }) => point.series.id);
  #opened: Opened | undefined;
  /** When COPY is tried again. */
  #copyAgainAt = 0;
  /** When the chunks of a hypertable are dropped next. */
  #dropAt = 0;
  /** The newest window written, for a hypertable. */
  #newest = Number.NEGATIVE_INFINITY;

  constructor(config: PostgresConfig, { log, timeoutMs, readOnly }: SinkContext) {
    this.#config = config;
    this.#log = log;
    this.#readOnly = readOnly;
    this.#timeoutMs = statementTimeout(timeoutMs);
    this.#connections = new PgConnections(loadPg().Client, config);
    this.#order = new WriteOrder(config.table, this.#timeoutMs);
  }

  async open(signal: AbortSignal): Promise<void> {
    const { table, partition, keep, sketch } = this.#config;
    this.#opened = await this.#classified(signal, () =>
      this.#connections.lend(signal, async (connection) => {
        await mustBePostgres(connection);
        const schema = new Schema(connection, table, partition, SERVER, this.#timeoutMs);
        const shape = await schema.ensure(sketch, { log: this.#log, readOnly: this.#readOnly });
        if (this.#readOnly || partition === 'off' || partition === 'hypertable')
          return { ...shape, partitions: undefined };
        const options = { place: shape.place, unit: partition, keepMs: keep, server: SERVER };
        const partitions = new Partitions({ ...options, timeoutMs: this.#timeoutMs, log: this.#log });
        await partitions.prepare(connection, [Date.now()]);
        return { ...shape, partitions };
      }),
    );
  }

  async write(batch: Batch, signal: AbortSignal): Promise<WriteOutcome> {
    const rejected: Rejection[] = [];
    const rows = fitting(batch, refusal, rejected);
    const outcome = await writeInParts(
      rows,
      rejected,
      (part) => this.#send(part, signal),
      halves,
      this.#refused,
    );
    if (outcome.kind === 'written' && this.#config.keep !== undefined) {
      for (const { windowStart } of batch.points) this.#newest = Math.max(this.#newest, windowStart);
      await this.#dropOld(signal);
    }
    return outcome;
  }

  async #send(rows: readonly IndexedPoint[], signal: AbortSignal): Promise<Verdict> {
    const points = inKeyOrder(rows.map(({ point }) => point));
    try {
      return await this.#lend(signal, async (connection, opened) => {
        const { partitions } = opened;
        const write = () => this.#store(connection, points, opened, signal);
        return partitions === undefined ? await write() : await partitions.using(points, write);
      });
    } catch (error) {
      signal.throwIfAborted();
      return outcomeOf(classifyPg(error));
    }
  }

  async #store(
    connection: PgConnection,
    points: readonly Point[],
    { partitions, hasLongWindows }: Opened,
    signal: AbortSignal,
  ): Promise<Verdict> {
    await partitions?.prepare(connection, startsOf(points));
    try {
      const rowCount =
        (await this.#copy(connection, points, hasLongWindows, signal)) ??
        (await this.#order.inTurn(connection, SERVER, signal, () => this.#upsert(connection, points)));
      if (rowCount === points.length) return { kind: 'written' };
      return {
        kind: 'retry',
        reason: 'server_error',
        message: `${MISCOUNTED} ${rowCount} of ${points.length} were written`,
      };
    } catch (error) {
      if (partitions !== undefined && lacksPartition(error)) {
        await partitions.mustBeMissing(connection, startsOf(points));
        return { kind: 'retry', reason: 'conflict', message: classifyPg(error).message };
      }
      if (!isAboutData(error) && sqlState(error) !== TWICE) throw error;
      return { kind: 'unfit', reason: pgRejectReason(error), message: classifyPg(error).message };
    }
  }

  /**
   * Writes the points, by COPY if the table has none of them. Resolves to how many rows were written; to undefined if
   * COPY cannot write them, and nothing was written.
   */
  async #copy(
    connection: PgConnection,
    points: readonly Point[],
    hasLongWindows: boolean,
    signal: AbortSignal,
  ): Promise<number | null | undefined> {
    const { table, partition, sketch } = this.#config;
    // Not tried with TimescaleDB.
    if (partition === 'hypertable' || Date.now() < this.#copyAgainAt) return undefined;
    const write = async ([held]: readonly PgRow[]) => {
      if (held !== undefined) return await this.#upsert(connection, points);
      const copy = copyQuery(`${copyInto(table, sketch)};\nCOMMIT`, copyRows(points, hasLongWindows, sketch));
      try {
        const [copied] = await connection.send(copy);
        return copied?.rowCount;
      } catch (error) {
        if (!NOT_BY_COPY.test(sqlState(error) ?? '')) throw error;
        this.#copyAgainAt = Date.now() + NO_COPY_MS;
        await connection.run('ROLLBACK');
        return undefined;
      }
    };
    return await this.#order.inTurn(connection, SERVER, signal, write, selectHeld(table, points));
  }

  /** Resolves to how many rows were written. */
  async #upsert(connection: PgConnection, points: readonly Point[]): Promise<number | null> {
    const { table, sketch } = this.#config;
    const { rowCount } = await commit(connection, upsert(table, sketch), columnArrays(points, sketch));
    return rowCount;
  }

  /** Runs a transaction of one statement that writes. */
  async #runInTurn(
    connection: PgConnection,
    text: string,
    values: unknown[],
    signal: AbortSignal,
  ): Promise<PgResult> {
    return await this.#order.inTurn(connection, SERVER, signal, () => commit(connection, text, values));
  }

  /** At most once an hour, after a write. What fails is tried again after a later write. */
  async #dropOld(signal: AbortSignal): Promise<void> {
    const now = Date.now();
    try {
      const { place, partitions } = this.#mustBeOpen();
      if (partitions?.isSweepDue(now) === true) {
        await this.#lend(signal, (connection) => partitions.sweep(connection, now));
      } else if (this.#config.partition === 'hypertable' && now >= this.#dropAt) {
        this.#dropAt = now + SWEEP_EVERY_MS;
        // As in `Partitions.sweep`: a clock that is ahead drops nothing.
        const before = Math.min(now, this.#newest) - this.#config.keep!;
        const drop = transaction(SERVER, this.#timeoutMs, dropChunks(place, before));
        const dropped = await this.#lend(signal, (connection) => connection.run(drop));
        for (const { name } of dropped?.rows ?? [])
          this.#log.info({ name }, 'dropped a chunk older than KEEP');
      }
    } catch (error) {
      const { message } = classifyPg(error);
      this.#log.warn({ error: message }, 'could not drop what is older than KEEP; trying again later');
    }
  }

  async *read(range: WindowRange, signal: AbortSignal): AsyncGenerator<StoredPoint> {
    let limit = FIRST_PAGE_ROWS;
    let after: RowKey | undefined;
    try {
      for (;;) {
        const page = await this.#page(range, limit, after, signal);
        for (const row of page) {
          yield pointOfRow(row);
          signal.throwIfAborted();
        }
        if (page.length < limit) return;
        after = keyOfRow(page.at(-1)!);
        limit = Math.min(2 * limit, MAX_PAGE_ROWS);
      }
    } catch (error) {
      signal.throwIfAborted();
      throw classifyPg(error);
    }
  }

  async #page(
    range: WindowRange,
    limit: number,
    after: RowKey | undefined,
    signal: AbortSignal,
  ): Promise<readonly PgRow[]> {
    const select = selectPage(this.#config, range, limit, after === undefined);
    const begun = beginReading(SERVER, this.#timeoutMs);
    return await this.#lend(signal, (connection) => inOneGo(connection, begun, select, [...(after ?? [])]));
  }

  async remove(batch: Batch, signal: AbortSignal): Promise<void> {
    const { points } = batch;
    if (points.length === 0) return;
    const arrays = columnArrays(points, false);
    const keys = KEY_ARRAYS.map((index) => arrays[index]!);
    await this.#classified(signal, () =>
      this.#lend(signal, (connection) =>
        this.#runInTurn(connection, deleteKeys(this.#config.table), keys, signal),
      ),
    );
  }

  async ask(question: Question, signal: AbortSignal): Promise<readonly AnswerRow[]> {
    const asked = pgQuestion(this.#config.table, question, SERVER);
    if (asked === undefined) return [];
    const begun = beginReading(SERVER, QUESTION_TIMEOUT_MS);
    return await this.#classified(signal, async () => {
      const rows = await this.#lend(signal, (connection) => inOneGo(connection, begun, ...asked));
      return pgAnswer(question, rows);
    });
  }

  async query(query: Query, signal: AbortSignal): Promise<readonly QueryRow[]> {
    const [text, values] = pgQuery(this.#config.table, query);
    const begun = beginReading(SERVER, this.#timeoutMs);
    return await this.#classified(signal, async () =>
      pgQueryRows(await this.#lend(signal, (connection) => inOneGo(connection, begun, text, values))),
    );
  }

  async version(signal: AbortSignal): Promise<string | undefined> {
    const select = 'SELECT version() AS version';
    return await this.#classified(signal, () =>
      this.#lend(signal, async (connection) => {
        const found = (await connection.run(select))?.rows[0]?.version ?? undefined;
        // Then come the system's own name for it, and what it was built on.
        return found?.split(/ on | \(/)[0];
      }),
    );
  }

  async compact(signal: AbortSignal): Promise<void> {
    const { table } = this.#config;
    await this.#classified(signal, () => this.#lend(signal, (connection) => connection.run(vacuum(table))));
  }

  async claim(signal: AbortSignal): Promise<void> {
    const { table } = this.#config;
    mustBeOfTrial(nameOf(table));
    await this.#classified(signal, async () => {
      if ((await this.#mark(signal)) !== undefined) throw alreadyThere(table);
    });
    await this.open(signal);
    await this.#runAlone(markTable(table, TRIAL_MARK), signal);
  }

  async drop(signal: AbortSignal): Promise<void> {
    const { table } = this.#config;
    mustBeOfTrial(nameOf(table));
    const mark = await this.#classified(signal, () => this.#mark(signal));
    if (mark === undefined) return;
    if (mark !== TRIAL_MARK) throw notClaimed(table);
    await this.#runAlone(dropTable(table), signal);
  }

  async trials(signal: AbortSignal): Promise<readonly string[]> {
    const select = transaction(SERVER, this.#timeoutMs, selectMarked(this.#config.table, TRIAL_MARK));
    const found = await this.#classified(signal, () =>
      this.#connections.lend(signal, (connection) => connection.run(select)),
    );
    return (found?.rows ?? []).flatMap(({ name }) => (name == null ? [] : [name]));
  }

  /** Resolves to the remark on the table; undefined if there is no table. */
  async #mark(signal: AbortSignal): Promise<string | undefined> {
    return await this.#connections.lend(signal, async (connection) => {
      const found = await connection.run(
        transaction(SERVER, this.#timeoutMs, selectMark(this.#config.table)),
      );
      return found?.rows[0]?.mark ?? undefined;
    });
  }

  async #runAlone(statement: string, signal: AbortSignal): Promise<void> {
    await this.#classified(signal, () =>
      this.#connections.lend(signal, (connection) =>
        connection.run(transaction(SERVER, this.#timeoutMs, statement)),
      ),
    );
  }

  async #classified<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      signal.throwIfAborted();
      throw classifyPg(error);
    }
  }

  identity(signal: AbortSignal): Promise<string | undefined> {
    return this.#told(signal, (connection, options) => pgIdentity(connection, options));
  }

  receipt(writer: string, signal: AbortSignal): Promise<number | undefined> {
    return this.#told(signal, (connection, options) => pgReceipt(connection, options, writer));
  }

  giveReceipt(
    writer: string,
    time: number,
    known: number | undefined,
    signal: AbortSignal,
  ): Promise<ReceiptBefore | undefined> {
    return this.#told(signal, (connection, options) =>
      pgGiveReceipt(connection, options, writer, time, known),
    );
  }

  async #told<T>(
    signal: AbortSignal,
    ask: (connection: PgConnection, options: IdentityOptions) => Promise<T>,
  ): Promise<T> {
    const { table } = this.#config;
    const about = { table, log: this.#log, readOnly: this.#readOnly };
    const options = { ...about, server: SERVER, timeoutMs: this.#timeoutMs };
    return await this.#classified(signal, () => this.#lend(signal, (connection) => ask(connection, options)));
  }

  async storage(signal: AbortSignal): Promise<number | undefined> {
    const { table, partition } = this.#config;
    const select = partition === 'hypertable' ? selectHypertableSize(table) : selectSize(table);
    try {
      return await this.#lend(signal, async (connection) => {
        const found = await connection.run(transaction(SERVER, this.#timeoutMs, select));
        const bytes = found?.rows[0]?.bytes ?? null;
        return bytes === null ? undefined : Number(bytes);
      });
    } catch {
      return undefined;
    }
  }

  async close(): Promise<void> {
    this.#opened = undefined;
    this.#connections.close();
  }

  #mustBeOpen(): Opened {
    if (this.#opened === undefined) throw new SinkError('connection', 'the sink is not open');
    return this.#opened;
  }

  async #lend<T>(
    signal: AbortSignal,
    use: (connection: PgConnection, opened: Opened) => Promise<T>,
  ): Promise<T> {
    const opened = this.#mustBeOpen();
    return await this.#connections.lend(signal, (connection) => use(connection, opened));
  }
}

/** Returns the name of the table without its schema. */
function nameOf(table: string): string {
  return table.split('.').at(-1)!;
}

/** Asks in a transaction of several messages, which a pooler that gives every statement another session refuses. */
async function mustBePostgres(connection: PgConnection): Promise<void> {
  await connection.run('BEGIN');
  const version = (await connection.run('SELECT version() AS version'))?.rows[0]?.version ?? '';
  await connection.run('COMMIT');
  if (!/redshift/i.test(version)) return;
  throw new SinkError(
    'bad_request',
    'this server is Amazon Redshift',
    'Set KIND to redshift for this server.',
  );
}

/**
 * Ends a transaction with one more statement, in one go. If that fails, COMMIT rolls back, and the connection is as it
 * was.
 */
async function commit(connection: PgConnection, text: string, values: unknown[]): Promise<PgResult> {
  const [result] = await Promise.all([connection.query(text, values), connection.run('COMMIT')]);
  return result;
}

/** Runs a transaction of one statement that reads, in one round trip. */
async function inOneGo(
  connection: PgConnection,
  begun: string,
  text: string,
  values: unknown[],
): Promise<readonly PgRow[]> {
  const [, { rows }] = await Promise.all([
    connection.run(begun),
    connection.query(text, values),
    connection.run('COMMIT'),
  ]);
  return rows;
}

function* startsOf(points: readonly Point[]): Generator<number> {
  for (const { windowStart } of points) yield windowStart;
}

export default defineSink({
  kind: 'postgres',
  summary: 'PostgreSQL, with a primary key and, if wanted, partitions by time',
  settings,
  validate,
  sketchesBy: ({ sketch }) => sketch,
  limits: LIMITS,
  sharesThread: true,
  create: (config, context): Sink => new PostgresSink(config, context),
  keepsMs: ({ keep }) => keep,
  trial: {
    settings: (config, name) => ({
      ...config,
      keep: undefined,
      table: [...config.table.split('.').slice(0, -1), name].join('.'),
    }),
    byHand: ({ table }) => `run DROP TABLE ${table}`,
  },
  price: instancePrice,
});
