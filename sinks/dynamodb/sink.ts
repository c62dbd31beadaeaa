/**
 * DynamoDB by BatchWriteItem: one item per point, which a put of the same key replaces whole. One write of the lane is
 * one call, so the lane's concurrency is that of the store.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { DynamoDBClient, QueryCommandInput, WriteRequest } from '@aws-sdk/client-dynamodb';
import {
  type AnswerRow,
  addUp,
  alreadyThere,
  type Batch,
  defineSink,
  fitting,
  type IndexedPoint,
  makeAgents,
  mustBeOfTrial,
  notClaimed,
  type Point,
  pointBytes,
  type Query,
  type QueryRow,
  type Question,
  type Rejection,
  resending,
  type Series,
  type Sink,
  type SinkContext,
  SinkError,
  type StoredPoint,
  type WindowRange,
  type WriteOutcome,
} from '../../src/sink/index.ts';
import { classify, type ItemVerdict, sinkError } from './classify.ts';
import { type Config, settings } from './config.ts';
import {
  answerRow,
  decodeItem,
  encodeItem,
  type Item,
  isStorable,
  keyOf,
  partitionKey,
  refusal,
  sortKeyRange,
} from './encode.ts';
import { HotSeries } from './hot-series.ts';
import { Pace } from './pace.ts';
import { onDemand } from './price.ts';
import { queryRows } from './query.ts';
import { sdk } from './sdk.ts';
import { describe, ensureTable, identityOf, writeUnits } from './table.ts';

/** The most items that BatchWriteItem takes. */
const MAX_ITEMS = 25;
/** The most keys that BatchGetItem takes. */
const MAX_KEYS = 100;
const LIMITS = { maxPoints: MAX_ITEMS, maxBytes: 4_000_000, inFlight: 16 };
/** A write takes a unit for each kilobyte of an item, or a part of one. */
const UNIT_BYTES = 1024;
/** How many series of one question are queried at once. */
const QUERIES_AT_ONCE = 4;
/** More sockets than writes, so that a read, a question or an open never waits for a write. */
const SOCKETS = LIMITS.inFlight + QUERIES_AT_ONCE + 4;

/** Marks a table as made by a trial. No point has this key. */
const TRIAL_ITEM = { pk: { S: 'fanout_trial' }, sk: { S: 'fanout_trial' } };

type Logger = NonNullable<DynamoDBClient['config']['logger']>;

/** Without `info`, the SDK does not copy the input and output of every call for a log that we do not keep. */
const QUIET: Omit<Logger, 'info'> = { debug() {}, trace() {}, warn() {}, error() {} };

class DynamoDbSink implements Sink {
  readonly #config: Config;
  readonly #context: SinkContext;
  readonly #hot: HotSeries;
  #pace = new Pace();
  #client: DynamoDBClient | undefined;

  constructor(config: Config, context: SinkContext) {
    this.#config = config;
    this.#context = context;
    this.#hot = new HotSeries(context.log);
  }

  /** Creates the client on first use, and again after `close`. The lane retries, so the SDK must not. */
  #connect(): DynamoDBClient {
    const { region, endpoint } = this.#config;
    this.#client ??= resending(
      new (sdk().DynamoDBClient)({
        ...(region === undefined ? {} : { region }),
        ...(endpoint === undefined ? {} : { endpoint }),
        maxAttempts: 1,
        requestHandler: makeAgents(SOCKETS),
        logger: QUIET as Logger,
      }),
    );
    return this.#client;
  }

  async open(signal: AbortSignal): Promise<void> {
    try {
      signal.throwIfAborted();
      const table = await ensureTable(this.#connect(), this.#config, this.#context, signal);
      this.#pace = new Pace(writeUnits(table));
    } catch (error) {
      throw sinkError(error, signal);
    }
  }

  async write(batch: Batch, signal: AbortSignal): Promise<WriteOutcome> {
    const rejected: Rejection[] = [];
    const rows = fitting(batch, refusal, rejected);
    const first = rows.length === 0 ? [] : await this.#put(rows, signal);
    if (Array.isArray(first)) return outcome(first, rejected);
    if (first.kind !== 'unfit') return first;
    return await this.#putOneByOne(rows, rejected, signal);
  }

  /** Writes each item alone, to find the bad ones: DynamoDB refuses a whole call because of a single item. */
  async #putOneByOne(
    rows: readonly IndexedPoint[],
    rejected: Rejection[],
    signal: AbortSignal,
  ): Promise<WriteOutcome> {
    const retry: number[] = [];
    for (const [position, row] of rows.entries()) {
      const answer = await this.#put([row], signal);
      if (Array.isArray(answer)) retry.push(...answer);
      else if (answer.kind === 'unfit') {
        rejected.push({ index: row.index, reason: answer.reason, message: answer.message });
      } else {
        retry.push(...rows.slice(position).map(({ index }) => index));
        const reason = answer.kind === 'retry' ? answer.reason : 'unknown';
        return { kind: 'partial', retry, rejected, reason };
      }
    }
    return outcome(retry, rejected);
  }

  /** Resolves to the indexes of the rows that DynamoDB was too busy for. All others are written. */
  async #put(rows: readonly IndexedPoint[], signal: AbortSignal): Promise<number[] | ItemVerdict> {
    const pace = this.#pace;
    const { ttl, sketch } = this.#config;
    const requests = rows.map(({ point }) => ({ PutRequest: { Item: encodeItem(point, ttl, sketch) } }));
    try {
      const units = rows.reduce((sum, { point }) => sum + Math.ceil(pointBytes(point) / UNIT_BYTES), 0);
      const waitMs = pace.take(units, performance.now());
      if (waitMs > 0) {
        await sleep(waitMs, undefined, { signal }).catch((error: unknown) => {
          pace.giveBack(units);
          throw error;
        });
      }
      const unprocessed = await this.#send(requests, signal);
      if (unprocessed.length === 0) {
        if (waitMs > 0) pace.raise(units);
        return [];
      }
      const left = new Set(unprocessed.map((request) => keyText(request.PutRequest?.Item)));
      const busy = rows.filter((_, at) => left.has(keyText(requests[at]!.PutRequest.Item)));
      this.#slowDown(pace, busy);
      return busy.map(({ index }) => index);
    } catch (error) {
      const verdict = classify(error, signal);
      if (verdict.kind === 'retry' && verdict.reason === 'throttled') this.#slowDown(pace, rows);
      return verdict;
    }
  }

  #slowDown(pace: Pace, busy: readonly IndexedPoint[]): void {
    const now = performance.now();
    pace.lower(now);
    const { table } = this.#config;
    const series = busy.map(({ point }) => point.series);
    this.#hot.add(series, now, { table, unitsPerSecond: pace.unitsPerSecond });
  }

  async #send(requests: WriteRequest[], signal: AbortSignal): Promise<WriteRequest[]> {
    const command = new (sdk().BatchWriteItemCommand)({ RequestItems: { [this.#config.table]: requests } });
    const answer = await this.#connect().send(command, { abortSignal: signal });
    return Object.values(answer.UnprocessedItems ?? {}).flat();
  }

  /** Reads by a scan: the key begins with the series, and an index by time would double the cost of every write. */
  async *read(range: WindowRange, signal: AbortSignal): AsyncGenerator<StoredPoint> {
    const [from, to] = sortKeyRange(range);
    let next: Item | undefined;
    do {
      const page = await this.#scan(from, to, next, signal);
      for (const item of page.Items ?? []) {
        const point = decodeItem(item, this.#config.sketch);
        if (point === undefined) continue;
        yield point;
        if (signal.aborted) throw sinkError(signal.reason, signal);
      }
      next = page.LastEvaluatedKey;
    } while (next !== undefined);
  }

  async #scan(from: string, to: string, start: Item | undefined, signal: AbortSignal) {
    const command = new (sdk().ScanCommand)({
      TableName: this.#config.table,
      ConsistentRead: true,
      FilterExpression: 'sk >= :from AND sk < :to',
      ExpressionAttributeValues: { ':from': { S: from }, ':to': { S: to } },
      ExclusiveStartKey: start,
    });
    try {
      signal.throwIfAborted();
      return await this.#connect().send(command, { abortSignal: signal });
    } catch (error) {
      throw sinkError(error, signal);
    }
  }

  async *lookUp(points: Iterable<Point>, signal: AbortSignal): AsyncGenerator<StoredPoint> {
    let keys: Item[] = [];
    for (const point of points) {
      if (refusal(point) !== undefined) continue;
      if (keys.push(keyOf(point)) < MAX_KEYS) continue;
      yield* await this.#get(keys, signal);
      keys = [];
    }
    if (keys.length > 0) yield* await this.#get(keys, signal);
  }

  async #get(keys: Item[], signal: AbortSignal): Promise<StoredPoint[]> {
    const { table } = this.#config;
    const command = new (sdk().BatchGetItemCommand)({
      RequestItems: { [table]: { Keys: keys, ConsistentRead: true } },
    });
    try {
      const answer = await this.#connect().send(command, { abortSignal: signal });
      const left = answer.UnprocessedKeys?.[table]?.Keys?.length ?? 0;
      if (left > 0) throw new SinkError('throttled', `DynamoDB did not read ${left} items`);
      return (answer.Responses?.[table] ?? []).flatMap((item) => decodeItem(item, this.#config.sketch) ?? []);
    } catch (error) {
      throw sinkError(error, signal);
    }
  }

  /** Each series is a partition, so a name takes one query for each of its series. */
  async ask(question: Question, signal: AbortSignal): Promise<readonly AnswerRow[]> {
    if (question.kind === 'windows')
      return addUp(await this.#querySeries(question.series, question.range, signal));
    const { dimension, range, series: all } = question;
    if (all === undefined)
      throw new SinkError(
        'bad_request',
        'the name has too many series to find without reading the whole table',
      );
    const waiting = [...all];
    const rows: AnswerRow[] = [];
    const drain = async () => {
      for (let series = waiting.shift(); series !== undefined; series = waiting.shift()) {
        const key = series.dimensions.find(([name]) => name === dimension)?.[1] ?? '';
        for (const row of await this.#querySeries(series, range, signal)) rows.push({ ...row, key });
      }
    };
    await Promise.all(Array.from({ length: QUERIES_AT_ONCE }, drain));
    return addUp(rows);
  }

  /** Reads the series one by one, as `ask` does, and adds up here: DynamoDB adds nothing up. */
  async query(query: Query, signal: AbortSignal): Promise<readonly QueryRow[]> {
    return await queryRows(query, QUERIES_AT_ONCE, (series) => this.#items(series, query.range, signal));
  }

  async #items(series: Series, range: WindowRange, signal: AbortSignal): Promise<StoredPoint[]> {
    if (!isStorable(series)) return [];
    const items = await this.#pages(series, range, {}, signal);
    return items.flatMap((item) => decodeItem(item, this.#config.sketch) ?? []);
  }

  async claim(signal: AbortSignal): Promise<void> {
    const { table } = this.#config;
    mustBeOfTrial(table);
    try {
      if ((await describe(this.#connect(), table, signal)) !== undefined) throw alreadyThere(table);
      await this.open(signal);
      await this.#connect().send(new (sdk().PutItemCommand)({ TableName: table, Item: TRIAL_ITEM }), {
        abortSignal: signal,
      });
    } catch (error) {
      throw sinkError(error, signal);
    }
  }

  async drop(signal: AbortSignal): Promise<void> {
    const { table } = this.#config;
    mustBeOfTrial(table);
    try {
      const client = this.#connect();
      if ((await describe(client, table, signal)) === undefined) return;
      const get = new (sdk().GetItemCommand)({ TableName: table, Key: TRIAL_ITEM, ConsistentRead: true });
      if ((await client.send(get, { abortSignal: signal })).Item === undefined) throw notClaimed(table);
      await client.send(new (sdk().DeleteTableCommand)({ TableName: table }), { abortSignal: signal });
    } catch (error) {
      throw sinkError(error, signal);
    }
  }

  async trials(signal: AbortSignal): Promise<readonly string[]> {
    const found: string[] = [];
    try {
      for await (const { TableNames = [] } of sdk().paginateListTables(
        { client: this.#connect() },
        {},
        { abortSignal: signal },
      ))
        found.push(...TableNames);
    } catch (error) {
      throw sinkError(error, signal);
    }
    return found;
  }

  async #querySeries(series: Series, range: WindowRange, signal: AbortSignal): Promise<AnswerRow[]> {
    if (!isStorable(series)) return [];
    const some = {
      ProjectionExpression: 'sk, #count, #sum',
      ExpressionAttributeNames: { '#count': 'count', '#sum': 'sum' },
    };
    return (await this.#pages(series, range, some, signal)).map(answerRow);
  }

  /** Resolves to the items of a series. `some`: which of their attributes; without it, all. */
  async #pages(
    series: Series,
    range: WindowRange,
    some: Pick<QueryCommandInput, 'ProjectionExpression' | 'ExpressionAttributeNames'>,
    signal: AbortSignal,
  ): Promise<Item[]> {
    const [from, to] = sortKeyRange(range);
    const items: Item[] = [];
    let next: Item | undefined;
    do {
      const command = new (sdk().QueryCommand)({
        ...some,
        TableName: this.#config.table,
        KeyConditionExpression: 'pk = :pk AND sk BETWEEN :from AND :to',
        // A sort key continues after its time, so the keys of a window that begins at `to` sort after `to`.
        ExpressionAttributeValues: { ':pk': partitionKey(series), ':from': { S: from }, ':to': { S: to } },
        ExclusiveStartKey: next,
      });
      try {
        signal.throwIfAborted();
        const page = await this.#connect().send(command, { abortSignal: signal });
        items.push(...(page.Items ?? []));
        next = page.LastEvaluatedKey;
      } catch (error) {
        throw sinkError(error, signal);
      }
    } while (next !== undefined);
    return items;
  }

  async identity(signal: AbortSignal): Promise<string | undefined> {
    try {
      const table = await describe(this.#connect(), this.#config.table, signal);
      if (table === undefined) throw new SinkError('not_found', `there is no table ${this.#config.table}`);
      return identityOf(table);
    } catch (error) {
      throw sinkError(error, signal);
    }
  }

  /** Resolves to the size some hours ago: DynamoDB counts only from time to time. */
  async storage(signal: AbortSignal): Promise<number | undefined> {
    try {
      const command = new (sdk().DescribeTableCommand)({ TableName: this.#config.table });
      const { Table } = await this.#connect().send(command, { abortSignal: signal });
      // DynamoDB has not counted yet.
      return Table?.TableSizeBytes === 0 ? undefined : Table?.TableSizeBytes;
    } catch (error) {
      throw sinkError(error, signal);
    }
  }

  async remove(batch: Batch, signal: AbortSignal): Promise<void> {
    const requests = batch.points.map((point) => ({ DeleteRequest: { Key: keyOf(point) } }));
    for (let start = 0; start < requests.length; start += MAX_ITEMS) {
      const unprocessed = await this.#delete(requests.slice(start, start + MAX_ITEMS), signal);
      if (unprocessed > 0) throw new SinkError('throttled', `DynamoDB did not delete ${unprocessed} items`);
    }
  }

  async #delete(requests: WriteRequest[], signal: AbortSignal): Promise<number> {
    try {
      return (await this.#send(requests, signal)).length;
    } catch (error) {
      throw sinkError(error, signal);
    }
  }

  async close(): Promise<void> {
    this.#client?.destroy();
    this.#client = undefined;
  }
}

function outcome(retry: readonly number[], rejected: readonly Rejection[]): WriteOutcome {
  if (retry.length === 0 && rejected.length === 0) return { kind: 'written' };
  return { kind: 'partial', retry, rejected, reason: 'throttled' };
}

/** Returns the key of an item as text, to recognize the items that came back. */
function keyText(item: Item | undefined): string {
  return JSON.stringify([item?.pk?.S, item?.sk?.S]);
}

export default defineSink({
  kind: 'dynamodb',
  summary: 'Amazon DynamoDB',
  settings,
  sketchesBy: ({ sketch }) => sketch,
  limits: LIMITS,
  readBack: 'keys',
  keepsMs: ({ ttl }) => ttl,
  sharesThread: true,
  create: (config, context): Sink => new DynamoDbSink(config, context),
  price: onDemand,
  trial: {
    settings: (config, name) => ({ ...config, table: name, create: true }),
    byHand: ({ table }) => `run aws dynamodb delete-table --table-name ${table}`,
  },
});
