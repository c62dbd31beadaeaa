/**
 * ClickHouse over its HTTP interface. A row that is inserted again replaces the earlier one: at once for queries with
 * FINAL, and for all others when ClickHouse merges the parts.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type AnswerRow,
  alreadyThere,
  type Batch,
  defineSink,
  errorText,
  fitting,
  halves,
  type IndexedPoint,
  instancePrice,
  isAsKnown,
  makeMissing,
  mustBeOfTrial,
  notClaimed,
  type Query,
  type QueryRow,
  type Question,
  type ReceiptBefore,
  RefusedSeries,
  type Rejection,
  type Sink,
  type SinkContext,
  SinkError,
  type StoredPoint,
  transportFailure,
  type Verdict,
  type WindowRange,
  type WriteOutcome,
  writeInParts,
} from '../../src/sink/index.ts';
import { classifyAnswer, mismatch } from './classify.ts';
import { type Config, settings, validate } from './config.ts';
import { Connection } from './connection.ts';
import {
  addColumn,
  columnsOf,
  createMark,
  createReceipts,
  createTable,
  decodeAnswer,
  decodeIdentity,
  decodeRow,
  deleteRows,
  describeColumns,
  describeTable,
  dropPartition,
  dropTable,
  encodeRows,
  endOfPartition,
  giveReceipt,
  insert,
  isMonthly,
  KEY,
  KNOWN_SETTINGS,
  mergeParts,
  nameTable,
  type QueryCells,
  quoteName,
  type Row,
  refusal,
  SELECT_VERSION,
  select,
  selectAnswer,
  selectEnding,
  selectIdentity,
  selectOldIdentity,
  selectPartitions,
  selectQuery,
  selectReceipt,
  selectTables,
  tableBytes,
  unfinishedMutations,
  unstablePartition,
} from './encode.ts';

/** Few and large inserts, because each one makes a part that ClickHouse has to merge. */
const LIMITS = { maxPoints: 50_000, maxBytes: 32_000_000, inFlight: 2 };
/** More sockets than writes, so that a read or an open never waits for a write. */
const SOCKETS = LIMITS.inFlight + 3;
/** How often old partitions are looked for. */
const DROP_EVERY_MS = 3_600_000;
const DELETES_PER_STATEMENT = 100;
/** How often to check for the end of a delete, which ClickHouse does in the background. */
const MUTATION_POLL_MS = 20;

class ClickHouseSink implements Sink {
  readonly #config: Config;
  readonly #connection: Connection;
  readonly #table: string;
  /** Of the table that holds the identity if an older version made it. */
  readonly #store: string;
  /** Of the table that holds the receipts. */
  readonly #receipts: string;
  readonly #context: SinkContext;
  /** Whether the rows are on this server alone: behind one address, others may have an identity of their own. */
  #isAlone = false;
  #isMonthly = false;
  /** Start of the newest window that was written. */
  #newest = Number.NEGATIVE_INFINITY;
  #dropAt = Number.NEGATIVE_INFINITY;
  readonly #refused = new RefusedSeries<IndexedPoint>(({ point }) => point.series.id);

  constructor(config: Config, context: SinkContext) {
    this.#config = config;
    this.#context = context;
    this.#connection = new Connection(config, SOCKETS);
    this.#table = quoteName(config.table);
    this.#store = quoteName(`${config.table}_store`);
    this.#receipts = quoteName(`${config.table}_receipts`);
  }

  async open(signal: AbortSignal): Promise<void> {
    if (!(await this.#isOurs(signal))) {
      await makeMissing(this.#context, `table ${this.#table}`, () =>
        this.#connection.run(createTable(this.#table, randomUUID()), signal),
      );
      await this.#isOurs(signal);
    }
    if (!this.#context.readOnly) await this.#addColumns(signal);
    for await (const { name } of this.#connection.query<{ name: string }>(KNOWN_SETTINGS, signal)) {
      this.#connection.insertSettings = { [name]: '0' };
    }
  }

  /** Resolves to false if there is no table. Asked first, so that an existing table needs no right to create one. */
  async #isOurs(signal: AbortSignal): Promise<boolean> {
    const { database, table } = this.#config;
    const described = this.#connection.query<{ engine: string; sorting_key: string; partition_key: string }>(
      describeTable(database, table),
      signal,
    );
    for await (const { engine, sorting_key: key, partition_key: partition } of described) {
      this.#isAlone = engine === 'ReplacingMergeTree';
      this.#isMonthly = isMonthly(partition);
      if (!engine.endsWith('ReplacingMergeTree')) throw mismatch(table, `its engine is ${engine}`);
      if (key !== KEY.join(', ')) throw mismatch(table, `its sorting key is ${key}`);
      const column = unstablePartition(partition);
      if (column !== undefined) throw mismatch(table, `its partitions depend on ${column}, which may change`);
      return true;
    }
    return false;
  }

  /** Adds the columns that the table does not have. All of them are NULL in old rows. */
  async #addColumns(signal: AbortSignal): Promise<void> {
    const { database, table } = this.#config;
    const found = new Map<string, string>();
    const columns = this.#connection.query<{ name: string; type: string }>(
      describeColumns(database, table),
      signal,
    );
    for await (const { name, type } of columns) found.set(name, type);
    for (const [name, type] of Object.entries(columnsOf(this.#config.sketch))) {
      const actual = found.get(name);
      if (actual === undefined) {
        if (!type.startsWith('Nullable')) throw mismatch(table, `it has no column ${name}`);
        await this.#connection.run(addColumn(this.#table, name, type), signal);
      } else if (actual !== type && actual !== `LowCardinality(${type})`) {
        throw mismatch(table, `its column ${name} is ${actual}, not ${type}`);
      }
    }
  }

  async write(batch: Batch, signal: AbortSignal): Promise<WriteOutcome> {
    const rejected: Rejection[] = [];
    const rows = fitting(batch, refusal, rejected);
    const outcome = await writeInParts(
      rows,
      rejected,
      (part) => this.#insert(part, signal),
      halves,
      this.#refused,
    );
    if (outcome.kind === 'written' && this.#config.keep !== undefined) {
      for (const { windowStart } of batch.points) this.#newest = Math.max(this.#newest, windowStart);
      await this.#dropOld(this.#config.keep, signal);
    }
    return outcome;
  }

  /** At most once an hour, after a write. What fails is tried again an hour later. */
  async #dropOld(keepMs: number, signal: AbortSignal): Promise<void> {
    const { database, table } = this.#config;
    const now = Date.now();
    if (now < this.#dropAt || !this.#isMonthly) return;
    this.#dropAt = now + DROP_EVERY_MS;
    // A clock that is ahead drops nothing.
    const before = Math.min(now, this.#newest) - keepMs;
    try {
      const found = await Array.fromAsync(
        this.#connection.query<{ id: string }>(selectPartitions(database, table), signal),
      );
      for (const { id } of found.filter(({ id }) => endOfPartition(id) <= before)) {
        await this.#connection.run(dropPartition(this.#table, id), signal);
        this.#context.log.info({ partition: id }, 'dropped a partition older than KEEP');
      }
    } catch (error) {
      const reason = errorText(error);
      this.#context.log.warn({ reason }, 'could not drop what is older than KEEP; trying again later');
    }
  }

  async #insert(rows: readonly IndexedPoint[], signal: AbortSignal): Promise<Verdict> {
    try {
      const { sketch } = this.#config;
      const points = rows.map(({ point }) => point);
      const body = encodeRows(points, sketch);
      return classifyAnswer(await this.#connection.insert(insert(this.#table, sketch), body, signal));
    } catch (error) {
      return transportFailure(error, signal);
    }
  }

  async *read(range: WindowRange, signal: AbortSignal): AsyncGenerator<StoredPoint> {
    for await (const row of this.#connection.query<Row>(
      select(this.#table, range, this.#config.sketch),
      signal,
    )) {
      yield decodeRow(row);
    }
  }

  async ask(question: Question, signal: AbortSignal): Promise<readonly AnswerRow[]> {
    const name = question.kind === 'sums' ? question.name : question.series.name;
    if (!name.isWellFormed()) return [];
    return await Array.fromAsync(
      this.#connection.query<AnswerRow>(selectAnswer(this.#table, question), signal),
    );
  }

  async query(query: Query, signal: AbortSignal): Promise<readonly QueryRow[]> {
    const rows: QueryRow[] = [];
    for await (const cells of this.#connection.query<QueryCells>(selectQuery(this.#table, query), signal))
      rows.push(...decodeAnswer(cells));
    return rows;
  }

  async version(signal: AbortSignal): Promise<string | undefined> {
    const found = this.#connection.query<{ version: string }>(SELECT_VERSION, signal);
    for await (const { version } of found) return `ClickHouse ${version}`;
    return undefined;
  }

  async compact(signal: AbortSignal): Promise<void> {
    await this.#connection.run(mergeParts(this.#table), signal);
  }

  async claim(signal: AbortSignal): Promise<void> {
    const { table } = this.#config;
    mustBeOfTrial(table);
    if (await this.#has(table, signal)) throw alreadyThere(table);
    await this.#connection.run(createMark(quoteName(markOf(table))), signal);
    await this.open(signal);
  }

  async drop(signal: AbortSignal): Promise<void> {
    const { table } = this.#config;
    mustBeOfTrial(table);
    if (!(await this.#has(markOf(table), signal))) {
      if (await this.#has(table, signal)) throw notClaimed(table);
      return;
    }
    // The mark goes last: a trial that is cut short can go on with it.
    for (const name of [this.#table, this.#store, quoteName(markOf(table))])
      await this.#connection.run(dropTable(name), signal);
  }

  async trials(signal: AbortSignal): Promise<readonly string[]> {
    const select = selectEnding(this.#config.database, markOf(''));
    const found: string[] = [];
    for await (const { name } of this.#connection.query<{ name: string }>(select, signal))
      found.push(name.slice(0, -markOf('').length));
    return found;
  }

  async #has(table: string, signal: AbortSignal): Promise<boolean> {
    for await (const _ of this.#connection.query(selectTables(this.#config.database, table), signal))
      return true;
    return false;
  }

  async identity(signal: AbortSignal): Promise<string | undefined> {
    if (!this.#isAlone) return undefined;
    const known = (await this.#named(signal)) ?? (await this.#namedByOlder(signal));
    if (known !== undefined || this.#context.readOnly) return known;
    const statement = nameTable(this.#table, randomUUID());
    try {
      await this.#connection.run(statement, signal);
    } catch (error) {
      const named = await this.#named(signal);
      // Another sink was faster.
      if (named !== undefined) return named;
      unlessUnauthorized(error);
      const advice = `Run ${statement} as a user who may.`;
      this.#context.log.warn({ advice }, 'the sink would not notice if the table was replaced');
      return undefined;
    }
    return await this.#named(signal);
  }

  /** Resolves to undefined if the table has no identity. */
  async #named(signal: AbortSignal): Promise<string | undefined> {
    const { database, table } = this.#config;
    const found = this.#connection.query<{ text: string }>(selectIdentity(database, table), signal);
    for await (const { text } of found) return decodeIdentity(text);
    return undefined;
  }

  async #namedByOlder(signal: AbortSignal): Promise<string | undefined> {
    try {
      const found = this.#connection.query<{ identity: string }>(selectOldIdentity(this.#store), signal);
      for await (const { identity } of found) return identity;
    } catch (error) {
      if (!(error instanceof SinkError) || error.reason !== 'not_found') unlessUnauthorized(error);
    }
    return undefined;
  }

  async receipt(writer: string, signal: AbortSignal): Promise<number | undefined> {
    try {
      const found = this.#connection.query<{ time: number }>(selectReceipt(this.#receipts, writer), signal);
      for await (const { time } of found) return time;
    } catch (error) {
      if (!(error instanceof SinkError) || error.reason !== 'not_found') throw error;
      await this.#connection.run(createReceipts(this.#receipts), signal);
    }
    return undefined;
  }

  async giveReceipt(
    writer: string,
    time: number,
    known: number | undefined,
    signal: AbortSignal,
  ): Promise<ReceiptBefore | undefined> {
    try {
      const before = await this.receipt(writer, signal);
      if (isAsKnown(before, known) && !(before !== undefined && before >= time))
        await this.#connection.run(giveReceipt(this.#receipts, writer, time), signal);
      return { before };
    } catch (error) {
      unlessUnauthorized(error);
      const advice = `Let the user create, insert into and select from ${this.#receipts}.`;
      this.#context.log.warn({ advice }, 'the sink would not notice if the table was restored from a backup');
      return undefined;
    }
  }

  async storage(signal: AbortSignal): Promise<number | undefined> {
    const { database, table } = this.#config;
    const sizes = this.#connection.query<{ bytes: number }>(tableBytes(database, table), signal);
    for await (const { bytes } of sizes) return bytes;
    return undefined;
  }

  async remove(batch: Batch, signal: AbortSignal): Promise<void> {
    const { database, table } = this.#config;
    for (let start = 0; start < batch.points.length; start += DELETES_PER_STATEMENT) {
      const some = batch.points.slice(start, start + DELETES_PER_STATEMENT);
      await this.#connection.run(deleteRows(this.#table, some), signal);
    }
    for (let left = batch.points.length; left > 0; await sleep(MUTATION_POLL_MS, undefined, { signal })) {
      const counts = this.#connection.query<{ left: number }>(unfinishedMutations(database, table), signal);
      for await (const count of counts) left = count.left;
    }
  }

  async close(): Promise<void> {
    this.#connection.close();
  }
}

function markOf(table: string): string {
  return `${table}_mark`;
}

function unlessUnauthorized(error: unknown): void {
  if (!(error instanceof SinkError) || error.reason !== 'unauthorized') throw error;
}

export default defineSink({
  kind: 'clickhouse',
  summary: 'ClickHouse, over its HTTP interface',
  settings,
  sketchesBy: ({ sketch }) => sketch,
  limits: LIMITS,
  validate,
  price: instancePrice,
  sharesThread: true,
  create: (config, context): Sink => new ClickHouseSink(config, context),
  keepsMs: ({ keep }) => keep,
  trial: {
    settings: (config, name) => ({ ...config, table: name, keep: undefined }),
    byHand: ({ table }) => `run DROP TABLE ${table} and ${table}_mark`,
  },
});
