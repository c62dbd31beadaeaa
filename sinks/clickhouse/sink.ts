/**
 * ClickHouse over its HTTP interface. A row that is inserted again replaces the one before it, at once for those who
 * read with FINAL, and for all when ClickHouse merges the parts.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type AnswerRow,
  type Batch,
  defineSink,
  fitting,
  type IndexedPoint,
  instancePrice,
  type Question,
  type Rejection,
  type Sink,
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
  COLUMNS,
  createTable,
  decodeRow,
  deleteRows,
  describeColumns,
  describeTable,
  encodeRows,
  insert,
  KEY,
  quoteName,
  type Row,
  refusal,
  select,
  selectAnswer,
  tableBytes,
  unfinishedMutations,
} from './encode.ts';

/** Every insert makes a part that has to be merged: few and large ones. */
const LIMITS = { maxPoints: 50_000, maxBytes: 32_000_000, inFlight: 2 };
/** More than writes, so that a read or an open never waits for them. */
const SOCKETS = LIMITS.inFlight + 3;
const DELETES_PER_STATEMENT = 100;
/** Deletes are done in the background. */
const MUTATION_POLL_MS = 20;

class ClickHouseSink implements Sink {
  readonly #config: Config;
  readonly #connection: Connection;
  readonly #table: string;

  constructor(config: Config) {
    this.#config = config;
    this.#connection = new Connection(config, SOCKETS);
    this.#table = quoteName(config.table);
  }

  async open(signal: AbortSignal): Promise<void> {
    if (!(await this.#isOurs(signal))) {
      await this.#connection.run(createTable(this.#table), signal);
      await this.#isOurs(signal);
    }
    await this.#addColumns(signal);
  }

  /** False where there is no table: who may not make one needs none to be made. */
  async #isOurs(signal: AbortSignal): Promise<boolean> {
    const { database, table } = this.#config;
    const described = this.#connection.query<{ engine: string; sorting_key: string }>(
      describeTable(database, table),
      signal,
    );
    for await (const { engine, sorting_key: key } of described) {
      if (!engine.endsWith('ReplacingMergeTree')) throw mismatch(table, `its engine is ${engine}`);
      if (key !== KEY.join(', ')) throw mismatch(table, `its sorting key is ${key}`);
      return true;
    }
    return false;
  }

  /** Those that an older version did not have; all of them hold NULL where there is nothing. */
  async #addColumns(signal: AbortSignal): Promise<void> {
    const { database, table } = this.#config;
    const found = new Map<string, string>();
    const columns = this.#connection.query<{ name: string; type: string }>(
      describeColumns(database, table),
      signal,
    );
    for await (const { name, type } of columns) found.set(name, type);
    for (const [name, type] of Object.entries(COLUMNS) as [keyof typeof COLUMNS, string][]) {
      const there = found.get(name);
      if (there === undefined) {
        if (!type.startsWith('Nullable')) throw mismatch(table, `it has no column ${name}`);
        await this.#connection.run(addColumn(this.#table, name), signal);
      } else if (there !== type && there !== `LowCardinality(${type})`) {
        throw mismatch(table, `its column ${name} is ${there}, not ${type}`);
      }
    }
  }

  async write(batch: Batch, signal: AbortSignal): Promise<WriteOutcome> {
    const rejected: Rejection[] = [];
    const rows = fitting(batch, refusal, rejected);
    return await writeInParts(rows, rejected, (part) => this.#insert(part, signal));
  }

  async #insert(rows: readonly IndexedPoint[], signal: AbortSignal): Promise<Verdict> {
    try {
      const body = encodeRows(rows.map(({ point }) => point));
      return classifyAnswer(await this.#connection.insert(insert(this.#table), body, signal));
    } catch (error) {
      return transportFailure(error, signal);
    }
  }

  async *read(range: WindowRange, signal: AbortSignal): AsyncGenerator<StoredPoint> {
    for await (const row of this.#connection.query<Row>(select(this.#table, range), signal)) {
      yield decodeRow(row);
    }
  }

  async ask(question: Question, signal: AbortSignal): Promise<readonly AnswerRow[]> {
    return await Array.fromAsync(
      this.#connection.query<AnswerRow>(selectAnswer(this.#table, question), signal),
    );
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

export default defineSink({
  kind: 'clickhouse',
  summary: 'ClickHouse, over its HTTP interface',
  settings,
  limits: LIMITS,
  validate,
  price: instancePrice,
  create: (config): Sink => new ClickHouseSink(config),
});
