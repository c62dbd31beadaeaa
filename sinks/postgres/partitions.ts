/** Which partition a time belongs to, and the statements about partitions. Pure. */
import { fromTimestamp, MAX_TIME_MS, timestamp } from '../../src/sink/index.ts';
import type { Partitioning } from './config.ts';

/** How a table is divided by us. */
export type Unit = Exclude<Partitioning, 'off' | 'hypertable'>;

/** In ms since 1970, half-open. */
export interface Partition {
  readonly name: string;
  readonly from: number;
  readonly to: number;
}

const DAY_MS = 86_400_000;
const WEEK_MS = 7 * DAY_MS;
/** 1970-01-01 was a Thursday; weeks begin on Mondays, as they do in ISO 8601. */
const FIRST_MONDAY_MS = 4 * DAY_MS;
const ISO_DATE = 10;

/** Where a table is: its partitions must be in the same schema, whatever the search path begins with. */
export interface Place {
  readonly schema: string;
  readonly table: string;
}

/** Returns the partition of a table that a time belongs to. */
export function partitionOf({ table }: Place, unit: Unit, ms: number): Partition {
  const [from, to] = bounds(unit, ms);
  const day = new Date(from).toISOString().slice(0, ISO_DATE).replaceAll('-', '');
  return { name: `${table}_${unit.charAt(0)}${day}`, from, to };
}

/** Somebody else may have named the schema. */
function quoted(schema: string, name: string): string {
  return [schema, name].map((part) => `"${part.replaceAll('"', '""')}"`).join('.');
}

/** Returns the name as a literal, which the server looks up. */
function literal({ schema, table }: Place): string {
  return `'${quoted(schema, table).replaceAll("'", "''")}'`;
}

function bounds(unit: Unit, ms: number): readonly [from: number, to: number] {
  switch (unit) {
    case 'day': {
      const from = Math.floor(ms / DAY_MS) * DAY_MS;
      return [from, from + DAY_MS];
    }
    case 'week': {
      const from = Math.floor((ms - FIRST_MONDAY_MS) / WEEK_MS) * WEEK_MS + FIRST_MONDAY_MS;
      return [from, from + WEEK_MS];
    }
    case 'month': {
      // Not Date.UTC, which takes a year below 100 for one of the 20th century.
      const month = (next: number) => {
        const date = new Date(0);
        const of = new Date(ms);
        return date.setUTCFullYear(of.getUTCFullYear(), of.getUTCMonth() + next, 1);
      };
      return [month(0), month(1)];
    }
  }
}

/**
 * Creates a partition beside the table and attaches it: unlike PARTITION OF, that keeps neither readers nor writers
 * of the table waiting.
 */
export function makePartition({ schema, table }: Place, { name, from, to }: Partition): string {
  const [parent, part] = [quoted(schema, table), quoted(schema, name)];
  return `CREATE TABLE ${part} (LIKE ${parent} INCLUDING DEFAULTS INCLUDING CONSTRAINTS);
ALTER TABLE ${parent} ATTACH PARTITION ${part} FOR VALUES FROM ('${timestamp(from)}') TO (${end(to)})`;
}

/** No window begins after the year 9999, whose end has no four digits. */
function end(ms: number): string {
  return ms > MAX_TIME_MS ? 'MAXVALUE' : `'${timestamp(ms)}'`;
}

/** Selects the partitions: where their ranges end, whether names are ours, and about how many rows they have. */
export function selectPartitions(place: Place): string {
  return `SELECT n.nspname AS schema, c.relname AS name, c.reltuples::bigint AS rows,
pg_get_expr(c.relpartbound, c.oid) AS bound
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE i.inhparent = ${literal(place)}::regclass`;
}

/** Selects a table that has one of these names of partitions and is none. */
export function selectDetached(place: Place, names: readonly string[]): string {
  const schema = `'${place.schema.replaceAll("'", "''")}'`;
  return `SELECT c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ${schema} AND c.relname IN (${names.map((name) => `'${name}'`).join(', ')})
AND NOT EXISTS (SELECT 1 FROM pg_inherits i WHERE i.inhrelid = c.oid AND i.inhparent = ${literal(place)}::regclass)
ORDER BY 1 LIMIT 1`;
}

export interface Found {
  readonly schema: string;
  readonly name: string;
  /** As the server estimates. */
  readonly rows: number;
  readonly from: number;
  readonly to: number;
}

const BOUND = /^FOR VALUES FROM \('([^']+)'\) TO \('([^']+)'\)$/;

/** Returns the partition of a row if it is one of ours: with a name as we give it, and a range that is known. */
export function foundPartition(
  { table }: Place,
  row: Readonly<Record<string, string | null>>,
): Found | undefined {
  const [, from, to] = BOUND.exec(row.bound ?? '') ?? [];
  const name = row.name ?? '';
  if (from === undefined || to === undefined) return undefined;
  if (!name.startsWith(`${table}_`) || !/^[dwm]\d{8}$/.test(name.slice(table.length + 1))) return undefined;
  return {
    schema: row.schema ?? '',
    name,
    rows: Math.max(Number(row.rows), 0),
    from: fromTimestamp(from),
    to: fromTimestamp(to),
  };
}

/** How long dropping may wait for the lock, while writers wait behind it. */
const DROP_LOCK_TIMEOUT_MS = 1_000;

export function dropPartition({ schema, name }: Found): string {
  return `SET LOCAL lock_timeout TO ${DROP_LOCK_TIMEOUT_MS};\nDROP TABLE ${quoted(schema, name)}`;
}

export function makeHypertable(place: Place): string {
  return `SELECT create_hypertable(${literal(place)}, 'window_start', chunk_time_interval => interval '1 day',
create_default_indexes => false, if_not_exists => true)`;
}

export function dropChunks(place: Place, before: number): string {
  return `SET LOCAL lock_timeout TO ${DROP_LOCK_TIMEOUT_MS};
SELECT drop_chunks(${literal(place)}, older_than => timestamp '${timestamp(before)}') AS name`;
}
