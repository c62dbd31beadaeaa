/** The table: found where the search path says, created if it is missing, and checked. */
import {
  describeTable,
  type MakingContext,
  makeMissing,
  PG_TYPES,
  type PgConnection,
  type PgResult,
  type PgServer,
  SinkError,
  sqlState,
  transaction,
} from '../../src/sink/index.ts';
import type { Partitioning } from './config.ts';
import { addColumn, columnsOf, createTable, SELECT_TIMESCALE, selectShape } from './encode.ts';
import { makeHypertable, type Place } from './partitions.ts';

const UNDEFINED_TABLE = '42P01';
/** Another writer was faster: a table, a type or an index of this name exists, or a column. */
const ALREADY_EXISTS = ['42P07', '42710', '23505', '42701'];
/** What the server calls a table with partitions. */
const PARTITIONED = 'p';

const OWN_TABLE = 'Rename that table, or set TABLE to another name: the sink creates its own table.';

export interface Shape {
  readonly place: Place;
  /** Whether `window_ms` has 64 bits. We make it with 32. */
  readonly hasLongWindows: boolean;
}

export class Schema {
  readonly #connection: PgConnection;
  readonly #table: string;
  readonly #partitioning: Partitioning;
  readonly #server: PgServer;
  readonly #timeoutMs: number;

  constructor(
    connection: PgConnection,
    table: string,
    partitioning: Partitioning,
    server: PgServer,
    timeoutMs: number,
  ) {
    this.#connection = connection;
    this.#table = table;
    this.#partitioning = partitioning;
    this.#server = server;
    this.#timeoutMs = timeoutMs;
  }

  /** Creates the table, or adds the columns that it does not have. */
  async ensure(hasSketch: boolean, context: MakingContext): Promise<Shape> {
    const create = () => this.#create();
    const found = (await this.#columns()) ?? (await makeMissing(context, `table ${this.#table}`, create));
    for (const column of columnsOf(hasSketch)) {
      const type = found.get(column.name);
      if (type === undefined && column.required) throw this.#mismatch(`it has no column ${column.name}`);
      if (type === undefined) {
        if (!context.readOnly) await this.#unless(ALREADY_EXISTS, addColumn(this.#table, column));
      } else if (!column.oids.includes(type)) {
        throw this.#mismatch(`its column ${column.name} is not of type ${column.type}`);
      }
    }
    return { place: await this.#place(), hasLongWindows: found.get('window_ms') === PG_TYPES.int8 };
  }

  async #place(): Promise<Place> {
    const shape = (await this.#run(selectShape(this.#table)))?.rows[0];
    if (shape === undefined) throw this.#vanished();
    if (shape.has_key !== 't') {
      const advice =
        'Set TABLE to another name, or add PRIMARY KEY (window_start, series_id, instance): a table of the kind redshift has none.';
      throw this.#mismatch('window_start, series_id and instance are not its primary key', advice);
    }
    const place = { schema: shape.schema ?? '', table: this.#table.split('.').at(-1)! };
    if (this.#partitioning === 'hypertable') {
      await this.#unless([], makeHypertable(place));
    } else if (this.#partitioning !== 'off' && shape.kind !== PARTITIONED) {
      const advice =
        'Set PARTITION to off, or TABLE to another name: the sink creates a table with partitions.';
      throw this.#mismatch('it has no partitions', advice);
    }
    return place;
  }

  async #create(): Promise<Map<string, number>> {
    if (this.#partitioning === 'hypertable' && (await this.#run(SELECT_TIMESCALE))?.rows.length !== 1) {
      const advice = 'Run CREATE EXTENSION timescaledb there, or set PARTITION to day, week, month or off.';
      throw new SinkError('not_found', 'this database does not have the extension timescaledb', advice);
    }
    await this.#unless(ALREADY_EXISTS, createTable(this.#table, this.#partitioning));
    const found = await this.#columns();
    if (found !== undefined) return found;
    throw this.#vanished();
  }

  /** Resolves to the columns by name, with the OIDs of their types; undefined if there is no such table. */
  async #columns(): Promise<Map<string, number> | undefined> {
    const result = await this.#unless([UNDEFINED_TABLE], describeTable(this.#table));
    return result && new Map(result.fields.map(({ name, dataTypeID }) => [name, dataTypeID]));
  }

  async #run(statement: string): Promise<PgResult | undefined> {
    return await this.#connection.run(transaction(this.#server, this.#timeoutMs, statement));
  }

  /** Runs a transaction. Resolves to undefined if it fails with one of these states. */
  async #unless(states: readonly string[], statement: string): Promise<PgResult | undefined> {
    try {
      return await this.#run(statement);
    } catch (error) {
      if (!states.includes(sqlState(error) ?? '')) throw error;
      await this.#connection.run('ROLLBACK');
      return undefined;
    }
  }

  #vanished(): SinkError {
    return new SinkError('conflict', `the table ${this.#table} vanished while the sink was opened`);
  }

  #mismatch(what: string, advice = OWN_TABLE): SinkError {
    return new SinkError('schema_mismatch', `the table ${this.#table} is not this sink's: ${what}`, advice);
  }
}
