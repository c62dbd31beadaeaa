/**
 * Parquet files for DuckDB, Spark, Athena and the like, in a folder or a bucket: one for each window and instance (and
 * name, if that is a partition).
 *
 * How a window is split into batches is the lane's affair, and differs: after a restart, in a part that is tried again,
 * by size. A repair rewrites a window, and takes rows out of it. So no file can belong to a batch: its name follows
 * from the point alone, and a write reads the file, merges by key, and replaces it as a whole. Then a batch written
 * twice, in whatever pieces and order, leaves what writing it once does. What makes that cheap: a window of up to
 * `maxPoints` comes as one batch, and of a larger one, the row groups that a batch does not touch are copied as they
 * are (`file.ts`). Files by a hash of the series would not help: every batch has series for all of them.
 *
 * Writers on the same file are put in order: within a sink by `Merger`, within the machine or the bucket by `replace`,
 * which fails if the file is no longer the one that was read. A hot standby writes the same rows to the same files, at
 * the same time.
 */
import { dirname, join } from 'node:path';
import { setImmediate as yieldToEvents } from 'node:timers/promises';
import type { AsyncBuffer } from 'hyparquet';
import {
  type AnswerRow,
  addUp,
  type Batch,
  defineSink,
  dimensionIn,
  fitting,
  instancePrice,
  makeMissing,
  outcomeOf,
  type Point,
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
import { BucketStore } from './bucket.ts';
import { type ParquetConfig, type Place, settings, validate } from './config.ts';
import { keyOf, pointOf, type Row, refusal } from './encode.ts';
import { type Change, groups } from './file.ts';
import { FolderStore } from './folder.ts';
import { fileOf, nameFolder, shareFile } from './layout.ts';
import { Merger, unreadable } from './merger.ts';
import { giveReceiptIn, receiptIn } from './receipts.ts';
import { type FileStore, idIn, type Making, type Reading, unmarked } from './store.ts';

/** How many files of a batch are worked on at once: with names as partitions, there are many. */
const FILES_AT_ONCE = 8;

class ParquetSink implements Sink {
  readonly #config: ParquetConfig;
  readonly #store: FileStore;
  readonly #merger: Merger;

  constructor(config: ParquetConfig, context: SinkContext) {
    const { url, region, endpoint } = config;
    const { readOnly = false } = context;
    const making: Making = (make) => makeMissing(context, placeOf(config), make);
    const options = { making, create: config.create, readOnly };
    this.#config = config;
    this.#store =
      url.kind === 'folder'
        ? new FolderStore(url.path, options)
        : new BucketStore({ place: url, region, endpoint, ...options });
    this.#merger = new Merger(this.#store);
  }

  async open(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    await this.#explained(signal, () => this.#store.open(this.#config.partitionBy, signal));
  }

  async write(batch: Batch, signal: AbortSignal): Promise<WriteOutcome> {
    signal.throwIfAborted();
    const rejected: Rejection[] = [];
    const fit = fitting(batch, refusal, rejected);
    try {
      await this.#apply(
        this.#changes(
          fit.map(({ point }) => point),
          (point) => point,
        ),
        signal,
      );
      return rejected.length === 0 ? { kind: 'written' } : { kind: 'partial', retry: [], rejected };
    } catch (error) {
      return outcomeOf(this.#store.explain(error, signal));
    }
  }

  async remove(batch: Batch, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const none: Rejection[] = [];
    const held = fitting(batch, refusal, none).map(({ point }) => point);
    await this.#explained(signal, () => {
      const changes = this.#changes(held, () => undefined);
      return this.#apply(changes, signal);
    });
  }

  #changes(
    points: readonly Point[],
    becomes: (point: Point) => Point | undefined,
  ): Map<string, Map<string, Point | undefined>> {
    const changes = new Map<string, Map<string, Point | undefined>>();
    const { partitionBy } = this.#config;
    let last: Point | undefined;
    let change = new Map<string, Point | undefined>();
    for (const point of points) {
      // Neighbours mostly share a file: to name it costs as much as to encode the row.
      if (last === undefined || !shareFile(point, last, partitionBy)) {
        const file = fileOf(point, partitionBy);
        change = changes.get(file) ?? new Map();
        changes.set(file, change);
        last = point;
      }
      change.set(keyOf(point.series.id, point.instance), becomes(point));
    }
    return changes;
  }

  /** Resolves when all changes are in their files. If one fails, those under way are waited for, and no more begun. */
  async #apply(changes: ReadonlyMap<string, Change>, signal: AbortSignal): Promise<void> {
    const left = [...changes];
    let failure: { readonly error: unknown } | undefined;
    const work = async () => {
      for (let next = left.shift(); next !== undefined && failure === undefined; next = left.shift()) {
        try {
          await this.#merger.apply(...next, signal);
        } catch (error) {
          failure ??= { error };
        }
      }
    };
    await Promise.all(Array.from({ length: FILES_AT_ONCE }, work));
    if (failure !== undefined) throw (failure as { readonly error: unknown }).error;
  }

  async *read(range: WindowRange, signal: AbortSignal): AsyncGenerator<StoredPoint> {
    for await (const rows of this.#groups(range, signal)) {
      for (const row of rows) {
        yield pointOf(row);
        signal.throwIfAborted();
      }
    }
  }

  async ask(question: Question, signal: AbortSignal): Promise<readonly AnswerRow[]> {
    const answers: AnswerRow[] = [];
    for await (const rows of this.#groups(question.range, signal, question)) {
      answers.push(...addUp(answersOf(question, rows)));
    }
    return addUp(answers);
  }

  /** Yields the rows of the range, row group by row group; for a question, with the columns that it needs. */
  async *#groups(range: WindowRange, signal: AbortSignal, question?: Question): AsyncGenerator<Row[]> {
    signal.throwIfAborted();
    const { partitionBy } = this.#config;
    const name = question?.kind === 'sums' ? question.name : question?.series.name;
    const folder = partitionBy === 'date' ? '' : name === undefined ? undefined : nameFolder(name);
    const explain = (error: unknown) => this.#store.explain(error, signal);
    try {
      for await (const { file } of this.#store.list(range, folder, signal)) {
        const reading = await this.#store.read(file, signal);
        // Its last row was removed since it was listed.
        if (reading !== undefined) yield* rowsIn(file, reading, question, explain, signal);
      }
    } catch (error) {
      signal.throwIfAborted();
      throw explain(error);
    }
  }

  identity(signal: AbortSignal): Promise<string | undefined> {
    return this.#explained(signal, async () => {
      const marker = await this.#store.marker(signal);
      if (marker === undefined) throw unmarked();
      return idIn(marker);
    });
  }

  receipt(writer: string, signal: AbortSignal): Promise<number | undefined> {
    return this.#explained(signal, () => receiptIn(this.#store, writer, signal));
  }

  giveReceipt(
    writer: string,
    time: number,
    known: number | undefined,
    signal: AbortSignal,
  ): Promise<ReceiptBefore> {
    return this.#explained(signal, () => giveReceiptIn(this.#store, writer, time, known, signal));
  }

  storage(signal: AbortSignal): Promise<number | undefined> {
    return this.#explained(signal, () => this.#store.bytes(signal));
  }

  /** Does the work. If it fails, rejects with what that means. */
  async #explained<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw this.#store.explain(error, signal);
    }
  }

  async close(): Promise<void> {
    await this.#store.close();
  }
}

async function* rowsIn(
  file: string,
  reading: Reading,
  question: Question | undefined,
  explain: (error: unknown) => SinkError,
  signal: AbortSignal,
): AsyncGenerator<Row[]> {
  // What fails otherwise is not the reading, but what was read.
  const explained: AsyncBuffer = {
    byteLength: reading.byteLength,
    slice: async (start, end) => {
      try {
        return await reading.slice(start, end);
      } catch (error) {
        throw explain(error);
      }
    },
  };
  try {
    for await (const rows of groups(explained, question && COLUMNS_OF[question.kind])) {
      yield rows;
      await yieldToEvents();
      signal.throwIfAborted();
    }
  } catch (error) {
    signal.throwIfAborted();
    throw error instanceof SinkError && error.reason !== 'schema_mismatch' ? error : unreadable(file, error);
  } finally {
    await reading.close();
  }
}

const COLUMNS_OF = {
  sums: ['name', 'type', 'dimensions', 'count', 'sum'],
  windows: ['window_start', 'series_id', 'count', 'sum'],
} as const satisfies Record<Question['kind'], readonly string[]>;

function* answersOf(question: Question, rows: readonly Row[]): Generator<AnswerRow> {
  for (const row of rows) {
    const key = question.kind === 'sums' ? sumsKey(question, row) : windowsKey(question, row);
    if (key !== undefined) yield { key, count: Number(row.count), sum: row.sum as number };
  }
}

/** Returns undefined if the row is not asked for. */
function sumsKey(
  { name, type, dimension }: Extract<Question, { kind: 'sums' }>,
  row: Row,
): string | undefined {
  if (row.name !== name || row.type !== type) return undefined;
  return dimensionIn(row.dimensions as string, dimension);
}

function windowsKey({ series }: Extract<Question, { kind: 'windows' }>, row: Row): string | undefined {
  return row.series_id === series.id ? String(row.window_start) : undefined;
}

/** Returns a place of its own, next to the live one: what is below that one, is read with it. */
function beside(place: Place, name: string): Place {
  if (place.kind === 'folder') return { kind: 'folder', path: join(dirname(place.path), name) };
  const above = place.prefix.split('/').slice(0, -2).join('/');
  return { ...place, prefix: `${above === '' ? '' : `${above}/`}${name}/` };
}

function placeOf({ url }: ParquetConfig): string {
  return url.kind === 'folder' ? `folder ${url.path}` : `bucket folder s3://${url.bucket}/${url.prefix}`;
}

export default defineSink({
  kind: 'parquet',
  summary: 'Parquet files in a folder or in S3, for DuckDB, Spark, Athena, ClickHouse and pandas',
  settings,
  validate,
  price: instancePrice,
  // Twice as much of either takes 150 MB more.
  limits: { maxPoints: 50_000, maxBytes: 16_000_000, inFlight: 1 },
  create: (config, context) => new ParquetSink(config, context),
  placeOf,
  trial: {
    settings: (config, name) => ({ ...config, url: beside(config.url, name), create: true }),
    byHand: (config) => `delete the ${placeOf(config)}`,
  },
});
