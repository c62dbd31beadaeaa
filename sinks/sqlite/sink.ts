/**
 * An SQLite file: the store that needs nothing else. node:sqlite is synchronous, so a write blocks its thread, and is
 * there as a whole or not at all. Other processes may read the file meanwhile (WAL).
 */
import { randomUUID } from 'node:crypto';
import { closeSync, constants, existsSync, mkdirSync, openSync, rmSync, statSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import type { DatabaseSync as Database, StatementSync } from 'node:sqlite';
import { setImmediate as yieldToEvents } from 'node:timers/promises';
import {
  type AnswerRow,
  addUp,
  alreadyThere,
  type Batch,
  defineSink,
  instancePrice,
  isAsKnown,
  loadSqlite,
  makeMissing,
  mustBeOfTrial,
  notClaimed,
  outcomeOf,
  type Query,
  type QueryRow,
  type Question,
  type ReceiptBefore,
  type Rejection,
  type Sink,
  type SinkContext,
  SinkError,
  type StoredPoint,
  type WindowRange,
  type WriteOutcome,
} from '../../src/sink/index.ts';
import { CONSTRAINT, classify, lacksValue, resultCode } from './classify.ts';
import { type SqliteConfig, settings, validate } from './config.ts';
import {
  CREATE_RECEIPTS,
  CREATE_STORE,
  CREATE_TABLE,
  CREATE_TRIAL,
  columnsOf,
  DELETE,
  DELETE_OLD,
  fromRow,
  GIVE_RECEIPT,
  KEY,
  NAME_STORE,
  queryStatement,
  refusal,
  SELECT_RECEIPT,
  SELECT_STORE,
  SELECT_SUMS,
  SELECT_TRIAL,
  SELECT_WINDOWS,
  selectRows,
  toAnswer,
  toKey,
  toQueryRow,
  toRow,
  upsertInto,
} from './encode.ts';

const { DatabaseSync } = await loadSqlite();

/**
 * How long SQLite waits for another writer. The thread that reads the bus is blocked meanwhile, so this is short; the
 * lane tries again.
 */
const BUSY_TIMEOUT_MS = 50;
/** How many rows to read before the rest of the thread gets a chance to run. */
const ROWS_PER_TURN = 1_000;
/** Mode of a new file, which SQLite also gives to the -wal and -shm files: metrics are for the service's user alone. */
const FILE_MODE = 0o600;
/** A question is answered in slices of this much time, so that writes get a turn in between. */
const SLICE_MS = 10_000;

/** What SQLite has not yet moved into the file. Whoever is killed leaves it. */
const LOG_SUFFIX = '-wal';
/** A larger file would take too long to check: some 7 ms a MB. */
const MAX_CHECKED_BYTES = 64 * 1024 * 1024;
/** At most so many faults are looked for. */
const CHECK_FILE = 'PRAGMA integrity_check(100)';
/** Values that a constraint of some table forbids. See https://sqlite.org/pragma.html#pragma_integrity_check */
const IS_NO_DAMAGE = /^(ok$|CHECK constraint failed in |\S+ value in )/;

/** Of the file of a trial. */
const EXTENSION = '.db';

interface Opened {
  readonly database: Database;
  readonly upsert: StatementSync;
  readonly remove: StatementSync;
  /** The open file, which may no longer be the file at the path. */
  readonly file: string;
}

class SqliteSink implements Sink {
  readonly #path: string;
  readonly #hasSketch: boolean;
  readonly #keepMs: number | undefined;
  readonly #context: SinkContext;
  #opened: Opened | undefined;
  /** The file system that the file was on when it was first opened. */
  #device: bigint | undefined;

  constructor(config: SqliteConfig, context: SinkContext) {
    this.#path = pathOf(config);
    this.#context = context;
    this.#hasSketch = config.sketch;
    this.#keepMs = config.keep;
  }

  async open(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    await this.close();
    this.#mustBeMounted();
    if (!existsSync(this.#path)) {
      await makeMissing(this.#context, `file ${this.#path}`, () => {
        makeFolder(this.#path);
        makeFile(this.#path);
      });
    }
    const hasLog = sizeOf(this.#path + LOG_SUFFIX) > 0;
    let database: Database | undefined;
    try {
      database = new DatabaseSync(this.#path, { timeout: BUSY_TIMEOUT_MS });
      if (!this.#context.readOnly) this.#prepare(database, hasLog);
      this.#opened = {
        database,
        upsert: database.prepare(upsertInto(this.#hasSketch)),
        remove: database.prepare(DELETE),
        file: fileAt(this.#path) ?? '',
      };
      this.#device = deviceOf(this.#path);
    } catch (error) {
      database?.close();
      const { reason, message, advice } = classify(error);
      throw new SinkError(reason, `${this.#path}: ${message}`, advice, { cause: error });
    }
  }

  #prepare(database: Database, hasLog: boolean): void {
    if (hasLog) mustBeWhole(database, this.#path);
    // FULL: a commit is on the disk before it is acknowledged.
    database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL');
    inTransaction(database, (opened) => migrate(opened, this.#hasSketch));
  }

  async write(batch: Batch, signal: AbortSignal): Promise<WriteOutcome> {
    signal.throwIfAborted();
    try {
      const { database, upsert } = this.#connection();
      const rejected: Rejection[] = [];
      inTransaction(database, () => {
        upsertAll(batch, upsert, this.#hasSketch, rejected);
        // In the same commit, and more than come: so they never pile up.
        if (this.#keepMs !== undefined) this.#deleteOld(database, 2 * batch.points.length);
      });
      return rejected.length === 0 ? { kind: 'written' } : { kind: 'partial', retry: [], rejected };
    } catch (error) {
      return outcomeOf(classify(error));
    }
  }

  #deleteOld(database: Database, most: number): void {
    database.prepare(DELETE_OLD).run({ now: Date.now(), keep: this.#keepMs!, most });
  }

  async *read(range: WindowRange, signal: AbortSignal): AsyncGenerator<StoredPoint> {
    signal.throwIfAborted();
    // One statement on a connection of its own sees all earlier commits, and delays no writer.
    const database = new DatabaseSync(this.#path, { readOnly: true, timeout: BUSY_TIMEOUT_MS });
    try {
      let rows = 0;
      for (const row of database.prepare(selectRows(this.#hasSketch)).iterate(range.from, range.to)) {
        yield fromRow(row);
        rows += 1;
        if (rows % ROWS_PER_TURN === 0) await yieldToEvents();
        signal.throwIfAborted();
      }
    } finally {
      database.close();
    }
  }

  async remove(batch: Batch, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    try {
      const { database, remove } = this.#connection();
      inTransaction(database, () => {
        for (const point of batch.points) remove.run(...toKey(point));
      });
    } catch (error) {
      throw classify(error);
    }
  }

  async ask(question: Question, signal: AbortSignal): Promise<readonly AnswerRow[]> {
    signal.throwIfAborted();
    this.#connection();
    const database = new DatabaseSync(this.#path, { readOnly: true, timeout: BUSY_TIMEOUT_MS });
    try {
      const { range } = question;
      if (question.kind === 'windows') {
        const named = { from: range.from, to: range.to, series: question.series.id };
        return database
          .prepare(SELECT_WINDOWS)
          .all(named)
          .map((row) => toAnswer(row));
      }
      return addUp(await sumsBySlices(database, question, signal));
    } catch (error) {
      signal.throwIfAborted();
      throw classify(error);
    } finally {
      database.close();
    }
  }

  async identity(signal: AbortSignal): Promise<string> {
    signal.throwIfAborted();
    try {
      return String(this.#connection().database.prepare(SELECT_STORE).get()?.identity);
    } catch (error) {
      throw classify(error);
    }
  }

  async receipt(writer: string, signal: AbortSignal): Promise<number | undefined> {
    signal.throwIfAborted();
    try {
      return receiptIn(this.#connection().database, writer);
    } catch (error) {
      throw classify(error);
    }
  }

  async giveReceipt(
    writer: string,
    time: number,
    known: number | undefined,
    signal: AbortSignal,
  ): Promise<ReceiptBefore> {
    signal.throwIfAborted();
    try {
      let before: number | undefined;
      inTransaction(this.#connection().database, (database) => {
        before = receiptIn(database, writer);
        if (isAsKnown(before, known)) database.prepare(GIVE_RECEIPT).run(writer, time);
      });
      return { before };
    } catch (error) {
      throw classify(error);
    }
  }

  /** Resolves to the size, including what is not yet in the main file. */
  async storage(): Promise<number> {
    return sizeOf(this.#path) + sizeOf(this.#path + LOG_SUFFIX);
  }

  async query(query: Query, signal: AbortSignal): Promise<readonly QueryRow[]> {
    signal.throwIfAborted();
    const { database } = this.#connection();
    try {
      const [sql, values] = queryStatement(query);
      return database
        .prepare(sql)
        .all(...values)
        .flatMap(toQueryRow);
    } catch (error) {
      throw classify(error);
    }
  }

  async version(): Promise<string> {
    const found = this.#connection().database.prepare('SELECT sqlite_version() AS version').get();
    return `SQLite ${found?.version}`;
  }

  /** Writes what is in the log into the file, and what the planner wants to know of the table. */
  async compact(): Promise<void> {
    try {
      this.#connection().database.exec('PRAGMA wal_checkpoint(TRUNCATE); ANALYZE');
    } catch (error) {
      throw classify(error);
    }
  }

  async claim(signal: AbortSignal): Promise<void> {
    mustBeOfTrial(basename(this.#path, EXTENSION));
    if (existsSync(this.#path)) throw alreadyThere(this.#path);
    await this.open(signal);
    this.#connection().database.exec(CREATE_TRIAL);
  }

  async trials(): Promise<readonly string[]> {
    const names = await readdir(dirname(this.#path));
    return names.filter((name) => name.endsWith(EXTENSION)).map((name) => basename(name, EXTENSION));
  }

  async drop(signal: AbortSignal): Promise<void> {
    mustBeOfTrial(basename(this.#path, EXTENSION));
    await this.open(signal);
    if (this.#connection().database.prepare(SELECT_TRIAL).get() === undefined) throw notClaimed(this.#path);
    await this.close();
    for (const suffix of ['-wal', '-shm', '']) rmSync(this.#path + suffix, { force: true });
  }

  async close(): Promise<void> {
    this.#opened?.database.close();
    this.#opened = undefined;
  }

  /** Throws if the file is gone together with its file system: a new one would be underneath. */
  #mustBeMounted(): void {
    if (this.#device === undefined || existsSync(this.#path) || deviceOf(this.#path) === this.#device) return;
    throw new SinkError(
      'not_found',
      `${this.#path} is gone, and what is at its place is on another file system`,
      'Mount its file system again. If you want a new file there, restart the service.',
    );
  }

  #connection(): Opened {
    if (this.#opened === undefined) throw new SinkError('connection', 'the database is not open');
    // SQLite goes on writing to a deleted file, and would acknowledge rows that nobody can read.
    if (fileAt(this.#path) !== this.#opened.file) {
      throw new SinkError('not_found', `${this.#path} was deleted or replaced while it was open`);
    }
    return this.#opened;
  }
}

async function sumsBySlices(
  database: Database,
  { name, type, dimension, range }: Extract<Question, { kind: 'sums' }>,
  signal: AbortSignal,
): Promise<AnswerRow[]> {
  // What is no UTF-8 would be asked for as U+FFFD, which other rows may have.
  if (!name.isWellFormed()) return [];
  const key = dimension.isWellFormed() ? dimension : null;
  const select = database.prepare(SELECT_SUMS);
  const rows: AnswerRow[] = [];
  for (let from = range.from; from < range.to; from += SLICE_MS) {
    const to = Math.min(range.to, from + SLICE_MS);
    rows.push(...select.all(key, from, to, name, type).map((row) => toAnswer(row, dimension)));
    await yieldToEvents();
    signal.throwIfAborted();
  }
  return rows;
}

function receiptIn(database: Database, writer: string): number | undefined {
  const found = database.prepare(SELECT_RECEIPT).get(writer);
  return found && Number(found.time);
}

/** Bytes; 0 if there is no such file. */
function sizeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}

/**
 * An older copy of the file may lie beside the log of the newer one. SQLite applies it all the same: the receipts are
 * then the newest, while rows are lost or there twice.
 */
function mustBeWhole(database: Database, path: string): void {
  if (sizeOf(path) > MAX_CHECKED_BYTES) return;
  const rows = database.prepare(CHECK_FILE).all();
  const found = rows.map((row) => String(row.integrity_check)).find((each) => !IS_NO_DAMAGE.test(each));
  if (found === undefined) return;
  throw new SinkError(
    'schema_mismatch',
    `it does not go with the log beside it: ${found.replace(/\s+/g, ' ').slice(0, 100)}`,
    'Restore the file once more, without -wal and -shm beside it. Or move all three away: the service fills a new one.',
  );
}

/** Says which file is at the path. Another file system may have a file with the same inode. */
function fileAt(path: string): string | undefined {
  const found = statSync(path, { bigint: true, throwIfNoEntry: false });
  return found && `${found.dev} ${found.ino}`;
}

/** Returns the file system that the path is on, or would be if it were made. */
function deviceOf(path: string): bigint {
  const found = statSync(path, { bigint: true, throwIfNoEntry: false });
  return found?.dev ?? deviceOf(dirname(path));
}

function makeFolder(path: string): void {
  const folder = dirname(path);
  try {
    mkdirSync(folder, { recursive: true });
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : String(error);
    throw new SinkError(
      'not_found',
      `the folder ${folder} cannot be created: ${code}`,
      'Create the folder, or set SINK_<ID>_PATH to another file.',
      { cause: error },
    );
  }
}

/** Resolved, so that even `:memory:` names a file: what we acknowledge must outlive the process. */
function pathOf({ path }: SqliteConfig): string {
  return resolve(path);
}

/** Not for an existing file: to open and close it here would drop the locks of this process's connections. */
function makeFile(path: string): void {
  try {
    closeSync(openSync(path, constants.O_CREAT | constants.O_RDWR, FILE_MODE));
  } catch {
    // SQLite runs into the same trouble, and says what it is.
  }
}

function inTransaction(database: Database, work: (database: Database) => void): void {
  // IMMEDIATE waits for other writers at the start, where SQLite is able to wait.
  database.exec('BEGIN IMMEDIATE');
  try {
    work(database);
    database.exec('COMMIT');
  } catch (error) {
    if (database.isTransaction) database.exec('ROLLBACK');
    throw error;
  }
}

function upsertAll(batch: Batch, upsert: StatementSync, hasSketch: boolean, rejected: Rejection[]): void {
  for (const [index, point] of batch.points.entries()) {
    const refused = refusal(point);
    if (refused !== undefined) {
      rejected.push({ index, ...refused });
      continue;
    }
    try {
      upsert.run(...toRow(point, hasSketch));
    } catch (error) {
      // Somebody added a constraint to the table. SQLite undid only this row.
      if (resultCode(error) !== CONSTRAINT || lacksValue(error)) throw error;
      rejected.push({ index, reason: 'refused', message: classify(error).message });
    }
  }
}

/** Creates the table, or adds the columns that it does not have. */
function migrate(database: Database, hasSketch: boolean): void {
  const isNew = database.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'points'").get() === undefined;
  database.exec(CREATE_TABLE);
  database.exec(CREATE_STORE);
  database.exec(CREATE_RECEIPTS);
  if (isNew) database.exec('DELETE FROM fanout_store; DELETE FROM fanout_receipts');
  database.prepare(NAME_STORE).run(randomUUID());
  const found = database.prepare('SELECT name, pk FROM pragma_table_info(?)').all('points');
  const key = found.filter(({ pk }) => pk !== 0).sort((a, b) => Number(a.pk) - Number(b.pk));
  if (key.map(({ name }) => name).join() !== KEY.join())
    throw mismatch(`its primary key is not ${KEY.join(', ')}`);
  for (const [name, type] of Object.entries(columnsOf(hasSketch))) {
    if (found.some((column) => column.name === name)) continue;
    if (type.includes('NOT NULL')) throw mismatch(`it has no column ${name}`);
    database.exec(`ALTER TABLE points ADD COLUMN ${name} ${type}`);
  }
}

function mismatch(what: string): SinkError {
  const advice = 'Rename that table, or set SINK_<ID>_PATH to another file: the sink creates its own table.';
  return new SinkError('schema_mismatch', `the table points is not this sink's: ${what}`, advice);
}

export default defineSink({
  kind: 'sqlite',
  summary:
    'an SQLite file through node:sqlite: nothing to install, and the default if no other sink is turned on',
  settings,
  sketchesBy: ({ sketch }) => sketch,
  validate,
  limits: { maxPoints: 10_000, maxBytes: 8_000_000, inFlight: 1 },
  create: (config, context): Sink => new SqliteSink(config, context),
  placeOf: pathOf,
  trial: {
    settings: ({ path, ...config }, name) => ({
      ...config,
      path: join(dirname(path), name + EXTENSION),
      keep: undefined,
    }),
    byHand: ({ path }) => `delete the file ${path}`,
  },
  keepsMs: ({ keep }) => keep,
  price: instancePrice,
});
