/**
 * Amazon Redshift or PostgreSQL, over the PostgreSQL protocol. Redshift enforces no keys, so a batch is staged in a
 * temporary table and then, under a lock, replaces by key what the table holds.
 */
import {
  type AnswerRow,
  type Batch,
  begin,
  beginReading,
  columnArrays,
  defineSink,
  describeTable,
  fitting,
  halves,
  type IdentityOptions,
  type IndexedPoint,
  instancePrice,
  isAboutData,
  isSameKey,
  keyOfRow,
  loadPg,
  type MakingContext,
  makeMissing,
  makeSeries,
  outcomeOf,
  type PgConnection,
  PgConnections,
  type PgRow,
  type PgServer,
  type Point,
  pgAnswer,
  pgGiveReceipt,
  pgIdentity,
  pgQuestion,
  pgReceipt,
  pgRejectReason,
  pointOfRow,
  type Question,
  type ReceiptBefore,
  RefusedSeries,
  type Rejection,
  type RetryReason,
  type RowKey,
  type Sink,
  type SinkContext,
  SinkError,
  type SinkLog,
  type StoredPoint,
  sqlState,
  statementTimeout,
  transaction,
  type Verdict,
  type WindowRange,
  WriteOrder,
  type WriteOutcome,
  writeInParts,
} from '../../src/sink/index.ts';
import { classify, isLoadFailure } from './classify.ts';
import { MAX_COPIED_POINTS, type RedshiftConfig, settings, validate } from './config.ts';
import { copyIntoStage } from './copy.ts';
import {
  addColumn,
  beginOnRedshift,
  columnsOf,
  createStage,
  createTable,
  deleteStaged,
  insertArrays,
  insertIntoStage,
  mergeStage,
  proveStaged,
  ROWS_PER_INSERT,
  refusal,
  SELECT_ENDS_IDLE,
  SELECT_VERSION,
  selectPage,
  selectSize,
  toRow,
} from './encode.ts';
import { S3Stage } from './s3.ts';
import { makeSignIn } from './sign-in.ts';

const LIMITS = { maxPoints: 10_000, maxBytes: 8_000_000, inFlight: 2 };
/** Limits of batches that go through S3. */
const COPY_LIMITS = { maxPoints: MAX_COPIED_POINTS, maxBytes: 32_000_000, inFlight: 2 };
/** Rows of the first page of a read, and of the largest one. Each page has twice as many rows as the one before. */
const FIRST_PAGE_ROWS = 1_000;
const MAX_PAGE_ROWS = 16_000;
/** Limits a question, so that on Redshift an abandoned one does not keep holding the lock that writers wait for. */
const QUESTION_TIMEOUT_MS = 5_000;
const COPY_FAILED = 'COPY could not load a batch; sending it by INSERT';
const UNDEFINED_TABLE = '42P01';
/** Another writer was faster: a table, a type or an index of this name exists, or a column. */
const ALREADY_EXISTS = ['42P07', '42710', '23505', '42701'];

/** A row that is copied only into the stage. */
const PROBE: Point = {
  series: makeSeries('probe', 'counter', []),
  windowStart: 0,
  windowMs: 1,
  instance: '',
  count: 1,
  sum: 0,
  min: null,
  max: null,
  last: null,
  p50: null,
  p90: null,
  p95: null,
  p99: null,
};

/** COPY could not load the rows. */
interface NotCopied {
  readonly kind: 'not_copied';
  readonly reason: RetryReason;
  readonly message: string;
}

class RedshiftSink implements Sink {
  readonly #config: RedshiftConfig;
  readonly #log: SinkLog;
  readonly #readOnly: boolean | undefined;
  readonly #table: string;
  /** The time limit of a statement. */
  readonly #timeoutMs: number;
  readonly #connections: PgConnections;
  readonly #order: WriteOrder;
  readonly #s3: S3Stage | undefined;
  readonly #refused = new RefusedSeries<IndexedPoint>(({ point }) => point.series.id);
  /** What the server said when the sink was opened; undefined while it is closed. */
  #server: PgServer | undefined;

  constructor(config: RedshiftConfig, { log, timeoutMs, readOnly }: SinkContext) {
    this.#config = config;
    this.#log = log;
    this.#readOnly = readOnly;
    this.#table = config.table;
    this.#timeoutMs = statementTimeout(timeoutMs);
    this.#connections = new PgConnections(loadPg().Client, config, makeSignIn(config));
    this.#order = new WriteOrder(config.table, this.#timeoutMs);
    const { s3, region, sketch } = config;
    this.#s3 = s3 && new S3Stage(s3, region, sketch, log);
  }

  async open(signal: AbortSignal): Promise<void> {
    this.#server = await this.#classified(signal, () =>
      this.#connections.lend(signal, async (connection) => {
        const server = await askServer(connection);
        const schema = new Schema(connection, this.#table, server, this.#timeoutMs);
        await schema.ensure(this.#config.sketch, { log: this.#log, readOnly: this.#readOnly });
        if (this.#s3 !== undefined && !this.#readOnly)
          await this.#tryCopy(this.#s3, connection, server, signal);
        return server;
      }),
    );
  }

  async write(batch: Batch, signal: AbortSignal): Promise<WriteOutcome> {
    const rejected: Rejection[] = [];
    const rows = fitting(batch, refusal, rejected);
    let s3 = this.#s3;
    const send = async (part: readonly IndexedPoint[]): Promise<Verdict> => {
      const copies = s3 !== undefined && part.length >= this.#config.s3MinPoints;
      const verdict = await this.#send(part, copies ? s3 : undefined, signal);
      if (verdict.kind !== 'not_copied') return verdict;
      // INSERT, unlike COPY, says what is wrong with a row.
      s3 = undefined;
      this.#log.warn({ points: part.length, error: verdict.message }, COPY_FAILED);
      const inserted = await this.#send(part, undefined, signal);
      return inserted.kind === 'not_copied' ? { ...inserted, kind: 'retry' } : inserted;
    };
    return await writeInParts(rows, rejected, send, halves, this.#refused);
  }

  /** Writes the rows in one transaction, which goes through S3 if it is given. */
  async #send(
    rows: readonly IndexedPoint[],
    s3: S3Stage | undefined,
    signal: AbortSignal,
  ): Promise<Verdict | NotCopied> {
    const points = rows.map(({ point }) => point);
    try {
      return await this.#lend(signal, async (connection, server) => {
        const way = { connection, server, signal };
        try {
          if (s3 === undefined) await this.#merge(way, points);
          else await this.#mergeByCopy(s3, way, points);
          return { kind: 'written' };
        } catch (error) {
          if (!isLoadFailure(error) && !isAboutData(error)) throw error;
          // Ends the transaction, and with it the stage.
          await connection.run('ROLLBACK');
          const { message } = classify(error);
          if (isLoadFailure(error)) return { kind: 'not_copied', reason: 'server_error', message };
          return { kind: 'unfit', reason: pgRejectReason(error), message };
        }
      });
    } catch (error) {
      signal.throwIfAborted();
      return outcomeOf(classify(error));
    }
  }

  async *read(range: WindowRange, signal: AbortSignal): AsyncGenerator<StoredPoint> {
    let limit = FIRST_PAGE_ROWS;
    let from: readonly ['at' | 'after', RowKey] | undefined;
    try {
      for (;;) {
        const page = await this.#page(range, limit, from, signal);
        const isLast = page.length < limit;
        const lastKey = keyOfRow(page.at(-1) ?? {});
        // The page may have cut off duplicates of its last key, so those rows come with the next page.
        const isWhole = isLast || isSameKey(keyOfRow(page[0]!), lastKey);
        for (const row of page) {
          if (!isWhole && isSameKey(keyOfRow(row), lastKey)) continue;
          yield pointOfRow(row);
          signal.throwIfAborted();
        }
        if (isLast) return;
        from = [isWhole ? 'after' : 'at', lastKey];
        limit = Math.min(2 * limit, MAX_PAGE_ROWS);
      }
    } catch (error) {
      signal.throwIfAborted();
      throw classify(error);
    }
  }

  async #page(
    range: WindowRange,
    limit: number,
    from: readonly ['at' | 'after', RowKey] | undefined,
    signal: AbortSignal,
  ): Promise<readonly PgRow[]> {
    return await this.#lend(signal, async (connection, server) => {
      await connection.run(beginReading(server, this.#timeoutMs));
      const [how, key = []] = from ?? [];
      const { rows } = await connection.query(selectPage(this.#config, range, limit, how), [...key]);
      await connection.run('COMMIT');
      return rows;
    });
  }

  async remove(batch: Batch, signal: AbortSignal): Promise<void> {
    const { points } = batch;
    if (points.length === 0) return;
    await this.#classified(signal, () =>
      this.#lend(signal, (connection, server) =>
        this.#withStage({ connection, server, signal }, points, deleteStaged(this.#table, points, server)),
      ),
    );
  }

  async ask(question: Question, signal: AbortSignal): Promise<readonly AnswerRow[]> {
    return await this.#classified(signal, () =>
      this.#lend(signal, async (connection, server) => {
        const asked = pgQuestion(this.#table, question, server);
        if (asked === undefined) return [];
        await connection.run(beginReading(server, QUESTION_TIMEOUT_MS));
        const { rows } = await connection.query(...asked);
        await connection.run('COMMIT');
        return pgAnswer(question, rows);
      }),
    );
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
    return await this.#classified(signal, () =>
      this.#lend(signal, (connection, server) =>
        ask(connection, {
          table: this.#table,
          server,
          timeoutMs: this.#timeoutMs,
          log: this.#log,
          readOnly: this.#readOnly,
        }),
      ),
    );
  }

  async #classified<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      signal.throwIfAborted();
      throw classify(error);
    }
  }

  async storage(signal: AbortSignal): Promise<number | undefined> {
    try {
      return await this.#lend(signal, async (connection, server) => {
        const select = selectSize(this.#table, server.isRedshift);
        const found = await connection.run(transaction(server, this.#timeoutMs, select));
        const bytes = found?.rows[0]?.bytes ?? null;
        return bytes === null ? undefined : Number(bytes);
      });
    } catch {
      // Redshift shows this only to users with the right to see it.
      return undefined;
    }
  }

  async close(): Promise<void> {
    this.#server = undefined;
    this.#connections.close();
    await this.#s3?.close();
  }

  async #lend<T>(
    signal: AbortSignal,
    use: (connection: PgConnection, server: PgServer) => Promise<T>,
  ): Promise<T> {
    const server = this.#server;
    if (server === undefined) throw new SinkError('connection', 'the sink is not open');
    return await this.#connections.lend(signal, (connection) => use(connection, server));
  }

  /** Runs a transaction that has the points in its stage. `end` is how it ends. */
  async #withStage(
    { connection, server, signal }: Way,
    points: readonly Point[],
    end: string,
  ): Promise<void> {
    const { sketch } = this.#config;
    if (!server.isRedshift) {
      await this.#order.inTurn(connection, server, signal, async () => {
        // In one go: if a statement fails, so do those after it, and the error of the first is thrown.
        await Promise.all([
          connection.run(createStage(this.#table, server, this.#config.sketch)),
          connection.query(insertArrays(sketch), columnArrays(points, sketch)),
          connection.run(end),
        ]);
      });
      return;
    }
    // Nothing is sent before the lock is there, and so nothing of a write that was given up before that.
    await connection.run(beginOnRedshift(this.#table, server, this.#timeoutMs));
    for (let from = 0; from < points.length; from += ROWS_PER_INSERT) {
      const chunk = points.slice(from, from + ROWS_PER_INSERT);
      const cells = chunk.flatMap((point) => toRow(point, sketch));
      await connection.query(insertIntoStage(chunk.length, sketch), cells);
    }
    await this.#runOnRedshift(connection, end);
  }

  async #merge(way: Way, points: readonly Point[]): Promise<void> {
    await this.#withStage(way, points, mergeStage(this.#table, points, way.server, this.#config.sketch));
  }

  /** The whole transaction is one text, because it holds the lock while Redshift reads from S3. */
  async #mergeByCopy(
    s3: S3Stage,
    { connection, server, signal }: Way,
    points: readonly Point[],
  ): Promise<void> {
    await s3.lend(points, signal, async ({ url, id }) => {
      const statements = [
        beginOnRedshift(this.#table, server, this.#timeoutMs),
        copyIntoStage(url, this.#config.iamRole!, id, this.#config.sketch),
        mergeStage(this.#table, points, server, this.#config.sketch),
      ];
      await this.#runOnRedshift(connection, statements.join(';\n'));
    });
  }

  /** On Redshift, no row of a stage can be to blame for a merge that fails: the table has the same columns. */
  async #runOnRedshift(connection: PgConnection, text: string): Promise<void> {
    try {
      await connection.run(text);
    } catch (error) {
      throw isAboutData(error) ? classify(error) : error;
    }
  }

  /** Checks the bucket, the role and the rights of both now, rather than at the first large batch. Writes nothing. */
  async #tryCopy(
    s3: S3Stage,
    connection: PgConnection,
    server: PgServer,
    signal: AbortSignal,
  ): Promise<void> {
    if (!server.isRedshift) {
      throw new SinkError(
        'bad_request',
        'this server is not Redshift, and only Redshift can copy from S3',
        'Unset S3 and IAM_ROLE for this server.',
      );
    }
    await s3.open(signal);
    await s3.lend([PROBE], signal, async ({ url, id }) => {
      const statements = [
        begin(server, this.#timeoutMs),
        createStage(this.#table, server, this.#config.sketch),
        copyIntoStage(url, this.#config.iamRole!, id, this.#config.sketch),
        proveStaged(1, server),
        'ROLLBACK',
      ];
      await connection.run(statements.join(';\n'));
    });
  }
}

/** By which connection and until when a batch is written. */
interface Way {
  readonly connection: PgConnection;
  readonly server: PgServer;
  readonly signal: AbortSignal;
}

/** Asks in a transaction of several messages, which a pooler that gives every statement another session refuses. */
async function askServer(connection: PgConnection): Promise<PgServer> {
  await connection.run('BEGIN');
  const version = await connection.run(SELECT_VERSION);
  const isRedshift = /redshift/i.test(version?.rows[0]?.version ?? '');
  const found = isRedshift ? undefined : await connection.run(SELECT_ENDS_IDLE);
  await connection.run('COMMIT');
  return { isRedshift, endsIdle: found !== undefined && found.rows.length > 0 };
}

/** The table. Every statement is a transaction of its own. */
class Schema {
  readonly #connection: PgConnection;
  readonly #table: string;
  readonly #server: PgServer;
  readonly #timeoutMs: number;

  constructor(connection: PgConnection, table: string, server: PgServer, timeoutMs: number) {
    this.#connection = connection;
    this.#table = table;
    this.#server = server;
    this.#timeoutMs = timeoutMs;
  }

  /** Creates the table, or adds the columns that it does not have. */
  async ensure(hasSketch: boolean, context: MakingContext): Promise<void> {
    const table = this.#table;
    const create = () => this.#create();
    const found = (await this.#columns()) ?? (await makeMissing(context, `table ${table}`, create));
    for (const column of columnsOf(hasSketch)) {
      const type = found.get(column.name);
      if (type === undefined && column.required) throw mismatch(table, `it has no column ${column.name}`);
      if (type === undefined) {
        if (!context.readOnly) await this.#unless(ALREADY_EXISTS, addColumn(table, column));
      } else if (!column.oids.includes(type)) {
        throw mismatch(table, `its column ${column.name} is not of type ${column.type}`);
      }
    }
  }

  async #create(): Promise<Map<string, number>> {
    await this.#unless(ALREADY_EXISTS, createTable(this.#table, this.#server.isRedshift));
    const found = await this.#columns();
    if (found !== undefined) return found;
    throw new SinkError('conflict', `the table ${this.#table} vanished while it was being created`);
  }

  /** Resolves to the columns by name, with the OIDs of their types; undefined if there is no such table. */
  async #columns(): Promise<Map<string, number> | undefined> {
    const result = await this.#unless([UNDEFINED_TABLE], describeTable(this.#table));
    return result && new Map(result.fields.map(({ name, dataTypeID }) => [name, dataTypeID]));
  }

  /** Runs a transaction. Resolves to undefined if it fails with one of these states. */
  async #unless(
    states: readonly string[],
    statements: string,
  ): Promise<Awaited<ReturnType<PgConnection['run']>>> {
    try {
      return await this.#connection.run(transaction(this.#server, this.#timeoutMs, statements));
    } catch (error) {
      if (!states.includes(sqlState(error) ?? '')) throw error;
      await this.#connection.run('ROLLBACK');
      return undefined;
    }
  }
}

function mismatch(table: string, what: string): SinkError {
  const advice = 'Rename that table, or set TABLE to another name: the sink creates its own table.';
  return new SinkError('schema_mismatch', `the table ${table} is not this sink's: ${what}`, advice);
}

export default defineSink({
  kind: 'redshift',
  summary: 'Amazon Redshift or PostgreSQL, over the PostgreSQL protocol',
  settings,
  validate,
  sketchesBy: ({ sketch }) => sketch,
  limits: LIMITS,
  limitsBy: ({ s3 }) => (s3 === undefined ? LIMITS : COPY_LIMITS),
  sharesThread: true,
  create: (config, context): Sink => new RedshiftSink(config, context),
  price: instancePrice,
  trial: {
    settings: (config, name) => ({
      ...config,
      table: [...config.table.split('.').slice(0, -1), name].join('.'),
    }),
    byHand: ({ table }) => `run DROP TABLE ${table}`,
  },
});
