/**
 * Amazon Redshift or PostgreSQL, over the PostgreSQL protocol. Redshift enforces no keys, so a batch is staged in a
 * temporary table and then, under a lock, replaces by key what the table holds.
 */
import {
  type AnswerRow,
  type Batch,
  defineSink,
  instancePrice,
  makeSeries,
  type Point,
  type Question,
  type Rejection,
  type Sink,
  type SinkContext,
  SinkError,
  type SinkLog,
  type StoredPoint,
  type WindowRange,
  type WriteOutcome,
} from '../../src/sink/index.ts';
import { classify, isAboutData, isLoadFailure, isRefusal, rejectReason, sqlState } from './classify.ts';
import { MAX_COPIED_POINTS, type RedshiftConfig, settings, validate } from './config.ts';
import { type Connection, Connections } from './connection.ts';
import { COPIED_ROWS, copyIntoStage } from './copy.ts';
import {
  addColumn,
  beginQuestion,
  CLEAR_STAGE,
  COLUMNS,
  copyRange,
  createStage,
  createTable,
  deleteStaged,
  describeTable,
  fetchRows,
  fromRow,
  fromTimestamp,
  insertIntoStage,
  mergeStage,
  OPEN_CURSOR,
  ROWS_PER_INSERT,
  refusal,
  selectSize,
  selectSums,
  selectWindows,
  toRow,
} from './encode.ts';
import { S3Stage } from './s3.ts';

const LIMITS = { maxPoints: 10_000, maxBytes: 8_000_000, inFlight: 2 };
/** Limits of batches that go through S3. */
const COPY_LIMITS = { maxPoints: MAX_COPIED_POINTS, maxBytes: 32_000_000, inFlight: 2 };
const ROWS_PER_FETCH = 1_000;
/** Limits a question, so that an abandoned one does not keep holding the lock that writers wait for. */
const QUESTION_TIMEOUT_MS = 5_000;
/** How many merges of one write may fail because of their data. After that, the rest is left to the next write. */
const MAX_FAILED_MERGES = 64;
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

class RedshiftSink implements Sink {
  readonly #config: RedshiftConfig;
  readonly #log: SinkLog;
  readonly #table: string;
  readonly #connections: Connections;
  readonly #s3: S3Stage | undefined;
  #isOpen = false;
  /** Undefined until the server was asked. */
  #isRedshift: boolean | undefined;

  constructor(config: RedshiftConfig, { log, timeoutMs }: SinkContext) {
    this.#config = config;
    this.#log = log;
    this.#table = config.table;
    this.#connections = new Connections(config, timeoutMs);
    this.#s3 = config.s3 === undefined ? undefined : new S3Stage(config.s3, config.region, log);
  }

  async open(signal: AbortSignal): Promise<void> {
    try {
      await this.#connections.lend(signal, async (connection) => {
        await ensureTable(connection, this.#table);
        if (this.#s3 !== undefined) await this.#tryCopy(this.#s3, connection, signal);
      });
      this.#isOpen = true;
    } catch (error) {
      signal.throwIfAborted();
      throw classify(error);
    }
  }

  async write(batch: Batch, signal: AbortSignal): Promise<WriteOutcome> {
    const rejected: Rejection[] = [];
    const indices: number[] = [];
    for (const [index, point] of batch.points.entries()) {
      const refused = refusal(point);
      if (refused === undefined) indices.push(index);
      else rejected.push({ index, ...refused });
    }
    try {
      const merge = (connection: Connection) =>
        this.#mergeAll(connection, batch.points, indices, rejected, signal);
      const retry = indices.length === 0 ? [] : await this.#lend(signal, merge);
      if (retry.length === 0 && rejected.length === 0) return { kind: 'written' };
      return { kind: 'partial', retry, rejected, reason: 'server_error' };
    } catch (error) {
      signal.throwIfAborted();
      const { reason, message } = classify(error);
      return isRefusal(reason) ? { kind: 'refused', reason, message } : { kind: 'retry', reason, message };
    }
  }

  async *read(range: WindowRange, signal: AbortSignal): AsyncGenerator<StoredPoint> {
    let connection: Connection | undefined;
    try {
      this.#mustBeOpen();
      connection = await this.#connections.acquire(signal);
      await connection.query(copyRange(this.#table, range));
      await connection.query(OPEN_CURSOR);
      for (;;) {
        const { rows } = await connection.query(fetchRows(ROWS_PER_FETCH));
        for (const row of rows) {
          yield fromRow(row);
          signal.throwIfAborted();
        }
        if (rows.length < ROWS_PER_FETCH) return;
      }
    } catch (error) {
      signal.throwIfAborted();
      throw classify(error);
    } finally {
      // The temporary table ends with the connection.
      if (connection !== undefined) this.#connections.discard(connection);
    }
  }

  async remove(batch: Batch, signal: AbortSignal): Promise<void> {
    if (batch.points.length === 0) return;
    try {
      await this.#lend(signal, async (connection) => {
        await this.#stage(connection, batch.points);
        await connection.query(deleteStaged(this.#table, batch.points));
      });
    } catch (error) {
      signal.throwIfAborted();
      throw classify(error);
    }
  }

  async ask(question: Question, signal: AbortSignal): Promise<readonly AnswerRow[]> {
    try {
      return await this.#lend(signal, async (connection) => {
        const isRedshift = await this.#knowServer(connection);
        await connection.query(beginQuestion(QUESTION_TIMEOUT_MS));
        const isSums = question.kind === 'sums';
        const { rows } = isSums
          ? await connection.query(selectSums(this.#table, question.range, isRedshift), [
              question.dimension,
              question.name,
              question.type,
            ])
          : await connection.query(selectWindows(this.#table, question.range), [question.series.id]);
        await connection.query('COMMIT');
        return rows.map(({ key, count, sum }) => ({
          key: isSums ? (key ?? '') : String(fromTimestamp(key ?? '')),
          count: Number(count),
          sum: Number(sum),
        }));
      });
    } catch (error) {
      signal.throwIfAborted();
      throw classify(error);
    }
  }

  async storage(signal: AbortSignal): Promise<number | undefined> {
    try {
      return await this.#lend(signal, async (connection) => {
        const { rows } = await connection.query(selectSize(this.#table, await this.#knowServer(connection)));
        const bytes = rows[0]?.bytes ?? null;
        return bytes === null ? undefined : Number(bytes);
      });
    } catch {
      // Redshift shows this only to users with the right to see it.
      return undefined;
    }
  }

  async #knowServer(connection: Connection): Promise<boolean> {
    this.#isRedshift ??= await isRedshift(connection);
    return this.#isRedshift;
  }

  async close(): Promise<void> {
    this.#isOpen = false;
    this.#connections.close();
    await this.#s3?.close();
  }

  async #lend<T>(signal: AbortSignal, use: (connection: Connection) => Promise<T>): Promise<T> {
    this.#mustBeOpen();
    return await this.#connections.lend(signal, use);
  }

  #mustBeOpen(): void {
    if (!this.#isOpen) throw new SinkError('connection', 'the sink is not open');
  }

  /**
   * Writes the points at `indices`. Halves what the server refuses because of its data until it has found the bad
   * points. Resolves to the indices of the points that it did not get to.
   */
  async #mergeAll(
    connection: Connection,
    points: readonly Point[],
    indices: readonly number[],
    rejected: Rejection[],
    signal: AbortSignal,
  ): Promise<number[]> {
    const parts = [indices];
    let failed = 0;
    let s3 = this.#s3;
    for (let part = parts.pop(); part !== undefined; part = parts.pop()) {
      if (failed === MAX_FAILED_MERGES) return [...parts.flat(), ...part];
      const chosen = part.map((index) => points[index]!);
      try {
        if (s3 === undefined || chosen.length < this.#config.s3MinPoints)
          await this.#stage(connection, chosen);
        else await this.#stageByCopy(s3, connection, chosen, signal);
        await connection.query(mergeStage(this.#table, chosen));
      } catch (error) {
        if (isLoadFailure(error)) {
          // INSERT, unlike COPY, says what is wrong with a row.
          s3 = undefined;
          const { message } = classify(error);
          this.#log.warn({ points: part.length, error: message }, COPY_FAILED);
          parts.push(part);
          continue;
        }
        if (!isAboutData(error)) throw error;
        await connection.query('ROLLBACK');
        failed += 1;
        const middle = part.length >> 1;
        if (middle > 0) {
          parts.push(part.slice(middle), part.slice(0, middle));
        } else {
          rejected.push({ index: part[0]!, reason: rejectReason(error), message: classify(error).message });
        }
      }
    }
    return [];
  }

  async #clearStage(connection: Connection): Promise<void> {
    await connection.query(connection.staged ? CLEAR_STAGE : createStage(this.#table));
    connection.staged = true;
  }

  async #stage(connection: Connection, points: readonly Point[]): Promise<void> {
    await this.#clearStage(connection);
    // One commit for all inserts, because each commit costs Redshift as much as an insert.
    await connection.query('BEGIN');
    for (let from = 0; from < points.length; from += ROWS_PER_INSERT) {
      const chunk = points.slice(from, from + ROWS_PER_INSERT);
      const name = chunk.length === ROWS_PER_INSERT ? 'fanout_insert' : undefined;
      await connection.query(insertIntoStage(chunk.length), chunk.flatMap(toRow), name);
    }
    await connection.query('COMMIT');
  }

  /** Runs before the merging transaction, so that Redshift does not hold its lock while it reads from S3. */
  async #stageByCopy(
    s3: S3Stage,
    connection: Connection,
    points: readonly Point[],
    signal: AbortSignal,
  ): Promise<void> {
    await s3.lend(points, signal, async ({ url, id }) => {
      await this.#clearStage(connection);
      await connection.query(copyIntoStage(url, this.#config.iamRole!, id));
      const { rows } = await connection.query(COPIED_ROWS);
      if (Number(rows[0]?.rows) === points.length) return;
      throw new SinkError('server_error', `COPY loaded ${rows[0]?.rows} rows of ${points.length}`);
    });
  }

  /**
   * Checks the bucket, the role and the rights of both now, rather than at the first large batch. The row stays in the
   * stage.
   */
  async #tryCopy(s3: S3Stage, connection: Connection, signal: AbortSignal): Promise<void> {
    if (!(await this.#knowServer(connection))) {
      throw new SinkError(
        'bad_request',
        'this server is not Redshift, and only Redshift can copy from S3',
        'Unset S3 and IAM_ROLE for this server.',
      );
    }
    await s3.open(signal);
    await this.#stageByCopy(s3, connection, [PROBE], signal);
  }
}

/** Creates the table, or adds the columns that an older version did not have. */
async function ensureTable(connection: Connection, table: string): Promise<void> {
  const found = (await columnsOf(connection, table)) ?? (await createMissingTable(connection, table));
  for (const column of COLUMNS) {
    const type = found.get(column.name);
    if (type === undefined && column.required) throw mismatch(table, `it has no column ${column.name}`);
    if (type === undefined) {
      await unlessPresent(connection.query(addColumn(table, column)));
    } else if (!column.oids.includes(type)) {
      throw mismatch(table, `its column ${column.name} is not of type ${column.type}`);
    }
  }
}

async function isRedshift(connection: Connection): Promise<boolean> {
  const { rows } = await connection.query('SELECT version() AS version');
  return /redshift/i.test(rows[0]?.version ?? '');
}

async function createMissingTable(connection: Connection, table: string): Promise<Map<string, number>> {
  await unlessPresent(connection.query(createTable(table, await isRedshift(connection))));
  const found = await columnsOf(connection, table);
  if (found === undefined)
    throw new SinkError('conflict', `the table ${table} vanished while it was being created`);
  return found;
}

/** Resolves to the columns by name, with the OIDs of their types; undefined if there is no such table. */
async function columnsOf(connection: Connection, table: string): Promise<Map<string, number> | undefined> {
  try {
    const { fields } = await connection.query(describeTable(table));
    return new Map(fields.map(({ name, dataTypeID }) => [name, dataTypeID]));
  } catch (error) {
    if (sqlState(error) === UNDEFINED_TABLE) return undefined;
    throw error;
  }
}

async function unlessPresent(making: Promise<unknown>): Promise<void> {
  try {
    await making;
  } catch (error) {
    if (!ALREADY_EXISTS.includes(sqlState(error) ?? '')) throw error;
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
  limits: LIMITS,
  limitsBy: ({ s3 }) => (s3 === undefined ? LIMITS : COPY_LIMITS),
  create: (config, context): Sink => new RedshiftSink(config, context),
  price: instancePrice,
});
