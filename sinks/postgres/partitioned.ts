/** The partitions of the table: made before the writes that need them, dropped when they are old. */
import {
  classifyPg,
  MAX_TIME_MS,
  type PgConnection,
  type PgServer,
  type Point,
  SinkError,
  type SinkLog,
  sqlState,
  transaction,
} from '../../src/sink/index.ts';
import {
  dropPartition,
  type Found,
  foundPartition,
  makePartition,
  type Partition,
  type Place,
  partitionOf,
  selectDetached,
  selectPartitions,
  type Unit,
} from './partitions.ts';

/** Another writer was faster: a table or a type of that name exists. */
const ALREADY_EXISTS = ['42P07', '42710', '23505'];
/** Another partition has a part of the range. */
const OVERLAPS = '42P17';
/** The default partition, which somebody else has made, has rows of the range. */
const IN_DEFAULT = '23514';
const SWEEP_EVERY_MS = 3_600_000;
/** How soon to try again if partitions could not be dropped. */
const SWEEP_AGAIN_MS = 300_000;

interface Span {
  from: number;
  to: number;
}

export interface Options {
  readonly place: Place;
  readonly unit: Unit;
  readonly keepMs: number | undefined;
  readonly server: PgServer;
  readonly timeoutMs: number;
  readonly log: SinkLog;
}

export class Partitions {
  readonly #options: Options;
  /** Names of partitions that exist, as far as we know. */
  readonly #known = new Set<string>();
  /** Windows of the writes under way. */
  readonly #inUse = new Set<Readonly<Span>>();
  #newest = Number.NEGATIVE_INFINITY;
  #sweepAt = Number.NEGATIVE_INFINITY;

  constructor(options: Options) {
    this.#options = options;
  }

  /** Makes the partitions for these times that are missing, and the one after them. */
  async prepare(connection: PgConnection, starts: Iterable<number>): Promise<void> {
    const { place, unit } = this.#options;
    const wanted = new Map<string, Partition>();
    let last: Partition | undefined;
    for (const start of starts) {
      if (last !== undefined && start >= last.from && start < last.to) continue;
      last = partitionOf(place, unit, start);
      wanted.set(last.name, last);
      if (last.to > MAX_TIME_MS) continue;
      const next = partitionOf(place, unit, last.to);
      wanted.set(next.name, next);
    }
    for (const partition of wanted.values()) {
      if (this.#known.has(partition.name)) continue;
      await this.#make(connection, partition);
      this.#known.add(partition.name);
    }
  }

  /** Keeps the partitions of these points from being dropped until `write` has settled. */
  async using<T>(points: readonly Point[], write: () => Promise<T>): Promise<T> {
    const span: Span = { from: Number.POSITIVE_INFINITY, to: Number.NEGATIVE_INFINITY };
    for (const { windowStart } of points) {
      if (windowStart < span.from) span.from = windowStart;
      if (windowStart > span.to) span.to = windowStart;
    }
    this.#newest = Math.max(this.#newest, span.to);
    this.#inUse.add(span);
    try {
      return await write();
    } finally {
      this.#inUse.delete(span);
    }
  }

  /** Forgets what exists, because a row found no partition. Throws if a table that is none stands in its place. */
  async mustBeMissing(connection: PgConnection, starts: Iterable<number>): Promise<void> {
    this.#known.clear();
    const { place, unit, server, timeoutMs } = this.#options;
    const names = new Set<string>();
    for (const start of starts)
      for (const each of [unit, 'day'] as const) names.add(partitionOf(place, each, start).name);
    const found = await connection.run(transaction(server, timeoutMs, selectDetached(place, [...names])));
    const name = found?.rows[0]?.name;
    if (name === undefined) return;
    throw new SinkError(
      'not_found',
      `the table ${name} is not a partition of ${place.table}, so rows of its time have none`,
      'Attach that table again, or rename or drop it: then the sink makes a new partition.',
    );
  }

  isSweepDue(now: number): boolean {
    return this.#options.keepMs !== undefined && now >= this.#sweepAt;
  }

  /**
   * Drops the partitions of ours that ended so long ago that nothing in them is kept: as counted from the newest window
   * written, so that a clock that is ahead drops nothing.
   */
  async sweep(connection: PgConnection, now: number): Promise<void> {
    const { place, keepMs, server, timeoutMs, log } = this.#options;
    if (keepMs === undefined) return;
    // Set first, so that the other writes under way do not sweep too.
    this.#sweepAt = now + SWEEP_AGAIN_MS;
    const before = Math.min(now, this.#newest) - keepMs;
    const select = `SET LOCAL datestyle TO ISO;\n${selectPartitions(place)}`;
    const listed = await connection.run(transaction(server, timeoutMs, select));
    const old = (listed?.rows ?? [])
      .map((row) => foundPartition(place, row))
      .filter((found) => found !== undefined)
      .filter((found) => found.to <= before && !this.#isInUse(found));
    let left = 0;
    for (const found of old) {
      // A write may have begun since.
      if (this.#isInUse(found)) continue;
      if (await this.#drop(connection, found)) {
        log.info({ partition: found.name, rows: found.rows }, 'dropped a partition older than KEEP');
      } else left += 1;
    }
    if (left === 0) this.#sweepAt = now + SWEEP_EVERY_MS;
  }

  /** Resolves to false if the server refuses: it may drop the others all the same. */
  async #drop(connection: PgConnection, found: Found): Promise<boolean> {
    const { server, timeoutMs, log } = this.#options;
    this.#known.delete(found.name);
    try {
      await connection.run(transaction(server, timeoutMs, dropPartition(found)));
      return true;
    } catch (error) {
      // Others depend on it, or it is somebody else's. After any other error, the next would fail too.
      if (!/^(2B|42501)/.test(sqlState(error) ?? '')) throw error;
      await connection.run('ROLLBACK');
      const { message } = classifyPg(error);
      log.warn({ partition: found.name, error: message }, 'could not drop a partition; trying again later');
      return false;
    }
  }

  #isInUse({ from, to }: Found): boolean {
    return [...this.#inUse].some((span) => span.from < to && span.to >= from);
  }

  async #make(connection: PgConnection, partition: Partition): Promise<void> {
    const { place, unit, server, timeoutMs } = this.#options;
    try {
      await connection.run(transaction(server, timeoutMs, makePartition(place, partition)));
    } catch (error) {
      const state = sqlState(error) ?? '';
      if (![...ALREADY_EXISTS, OVERLAPS, IN_DEFAULT].includes(state)) throw error;
      await connection.run('ROLLBACK');
      if (state === OVERLAPS && unit !== 'day') await this.#makeDays(connection, partition);
    }
  }

  /** The setting was changed: days fit into what partitions of weeks or months leave open. */
  async #makeDays(connection: PgConnection, { from, to }: Partition): Promise<void> {
    const days = new Partitions({ ...this.#options, unit: 'day' });
    const { place } = this.#options;
    for (let start = from; start < to; start = partitionOf(place, 'day', start).to) {
      await days.#make(connection, partitionOf(place, 'day', start));
    }
  }
}
