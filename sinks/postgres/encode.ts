/** Points to parameters, and the statements. Pure. */
import {
  isPgText,
  MAX_TIME_MS,
  MIN_TIME_MS,
  PG_TYPES,
  type Point,
  pgLiteral,
  quotedTable,
  type Rejection,
  selectArrays,
  timestamp,
  unfitNumber,
  type WindowRange,
  within,
} from '../../src/sink/index.ts';
import type { Partitioning, PostgresConfig } from './config.ts';

interface Column {
  readonly name: string;
  readonly type: string;
  /** The types that we accept in an existing table. */
  readonly oids: readonly number[];
  readonly required: boolean;
}

const { int4, int8, float8, text, bpchar, varchar } = PG_TYPES;
const TEXTS = [text, varchar, bpchar];
/** Compared byte by byte: faster than by the rules of a language, and the same on every server. */
const KEY_TEXT = 'text COLLATE "C"';

/** In the order of `columnArrays`. */
const COLUMNS: readonly Column[] = [
  { name: 'window_start', type: 'timestamp', oids: [PG_TYPES.timestamp], required: true },
  { name: 'window_ms', type: 'int', oids: [int4, int8], required: true },
  { name: 'series_id', type: KEY_TEXT, oids: TEXTS, required: true },
  { name: 'instance', type: KEY_TEXT, oids: TEXTS, required: true },
  { name: 'name', type: 'text', oids: TEXTS, required: true },
  { name: 'type', type: 'text', oids: TEXTS, required: true },
  { name: 'dimensions', type: 'text', oids: TEXTS, required: true },
  { name: 'count', type: 'bigint', oids: [int8], required: true },
  { name: 'sum', type: 'double precision', oids: [float8], required: true },
  ...['min', 'max', 'last', 'p50', 'p90', 'p95', 'p99'].map((name) => ({
    name,
    type: 'double precision',
    oids: [float8],
    required: false,
  })),
];

const SKETCH: Column = { name: 'sketch', type: 'text', oids: TEXTS, required: false };

/** The columns, with the one that a setting adds. */
export function columnsOf(hasSketch: boolean): readonly Column[] {
  return hasSketch ? [...COLUMNS, SKETCH] : COLUMNS;
}

/** The most bytes of an instance: a key of an index has at most 2,704. */
const INSTANCE_BYTES = 1_024;
/** Our table within a statement. No table of the settings has this name, because theirs are in lower case. */
const TARGET = '"Target"';
const KEY = ['window_start', 'series_id', 'instance'];
const KEY_COLUMNS = KEY.map((name) => `"${name}"`).join(', ');
const namesOf = (hasSketch: boolean) =>
  columnsOf(hasSketch)
    .map(({ name }) => `"${name}"`)
    .join(', ');

export function createTable(table: string, partitioning: Partitioning): string {
  const columns = COLUMNS.map(
    ({ name, type, required }) => `"${name}" ${type}${required ? ' NOT NULL' : ''}`,
  ).join(', ');
  const divided =
    partitioning === 'off' || partitioning === 'hypertable' ? '' : ' PARTITION BY RANGE ("window_start")';
  return `CREATE TABLE ${quotedTable(table)} (${columns}, PRIMARY KEY (${KEY_COLUMNS}))${divided}`;
}

export function addColumn(table: string, column: Column): string {
  return `ALTER TABLE ${quotedTable(table)} ADD COLUMN "${column.name}" ${column.type}`;
}

/**
 * Selects what kind of table it is, in which schema, and whether the columns of our key are unique in it. The name is
 * looked up on the search path, as in every other statement.
 */
export function selectShape(table: string): string {
  return `SELECT c.relkind AS kind, n.nspname AS schema, EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = c.oid
AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
AND (SELECT array_agg(a.attname::text ORDER BY a.attname) FROM pg_attribute a
  WHERE a.attrelid = c.oid AND a.attnum = ANY(i.indkey)) = ARRAY['instance', 'series_id', 'window_start']) AS has_key
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = '${quotedTable(table)}'::regclass`;
}

export const SELECT_TIMESCALE = `SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'`;

/** Writes the rows of the arrays, in the order of `inKeyOrder`. */
export function upsert(table: string, hasSketch: boolean): string {
  const values = columnsOf(hasSketch).filter(({ name }) => !KEY.includes(name));
  const set = values.map(({ name }) => `"${name}" = excluded."${name}"`).join(', ');
  return `INSERT INTO ${quotedTable(table)} AS ${TARGET} (${namesOf(hasSketch)}) SELECT * FROM (${selectArrays(hasSketch)}) AS rows
ORDER BY "window_start", "series_id" COLLATE "C", "instance" COLLATE "C"
ON CONFLICT (${KEY_COLUMNS}) DO UPDATE SET ${set}`;
}

/** In what follows COPY, a row each. */
export function copyInto(table: string, hasSketch: boolean): string {
  return `COPY ${quotedTable(table)} (${namesOf(hasSketch)}) FROM STDIN (FORMAT binary)`;
}

/** How many keys of a batch are looked up before it is written. */
const LOOKED_UP = 4;

/**
 * Selects a row if the table has some of the keys: of a batch that was written before, it has all. Each key is a
 * condition of its own, which the server looks up in the index whatever it knows of the table.
 */
export function selectHeld(table: string, points: readonly Point[]): string {
  const step = Math.max(1, (points.length - 1) / (LOOKED_UP - 1));
  const some = Array.from(
    { length: Math.min(LOOKED_UP, points.length) },
    (_, i) => points[Math.floor(i * step)]!,
  );
  const exists = some.map(({ windowStart, series, instance }) => {
    const values = [timestamp(windowStart), series.id, instance].map(pgLiteral);
    const same = KEY.map((name, index) => `"${name}" = ${values[index]}`).join(' AND ');
    return `EXISTS (SELECT 1 FROM ${quotedTable(table)} WHERE ${same})`;
  });
  return `SELECT 1 AS held WHERE ${exists.join(' OR ')}`;
}

/** More points than a batch has. */
const MAX_ORDERED = 2 ** 20;
/** So many digits of a series' id make 32 bits. */
const PREFIX_DIGITS = 8;

/**
 * Returns the points in the order of their keys: writers of the same keys lock them in the same order, and none waits
 * for one that waits for it. The points of one window are sorted as numbers, of the beginning of the id and the index:
 * that takes a fifth of the time. What is then not in order yet, such as several windows, is sorted by the whole key.
 */
export function inKeyOrder(points: readonly Point[]): Point[] {
  if (points.length > MAX_ORDERED) return points.toSorted(byKey);
  // Loops: mapping functions would take twice as long.
  const numbers = new Float64Array(points.length);
  for (let i = 0; i < points.length; i++) {
    const beginning = Number.parseInt(points[i]!.series.id.slice(0, PREFIX_DIGITS), 16) || 0;
    numbers[i] = beginning * MAX_ORDERED + i;
  }
  numbers.sort();
  const ordered: Point[] = [];
  let isOrdered = true;
  for (const number of numbers) {
    const point = points[number % MAX_ORDERED]!;
    isOrdered &&= ordered.length === 0 || byKey(ordered.at(-1)!, point) <= 0;
    ordered.push(point);
  }
  return isOrdered ? ordered : ordered.sort(byKey);
}

function byKey(a: Point, b: Point): number {
  if (a.windowStart !== b.windowStart) return a.windowStart - b.windowStart;
  if (a.series.id !== b.series.id) return a.series.id < b.series.id ? -1 : 1;
  if (a.instance === b.instance) return 0;
  return a.instance < b.instance ? -1 : 1;
}

/** Parameters: those of the arrays that hold the key. */
export function deleteKeys(table: string): string {
  const same = KEY.map((name) => `${TARGET}."${name}" = k."${name}"`).join(' AND ');
  return `DELETE FROM ${quotedTable(table)} AS ${TARGET}
USING unnest($1::timestamp[], $2::text[], $3::text[]) AS k (${KEY_COLUMNS}) WHERE ${same}`;
}

/** Indices of the arrays that hold the key. */
export const KEY_ARRAYS = [0, 2, 3] as const;

/**
 * Selects a page of the range, in the order of the key: from the start, or after the key in the parameters. Each page
 * is a transaction, so however slow the reader, it holds no lock and no snapshot.
 */
export function selectPage(
  { table, sketch }: Pick<PostgresConfig, 'table' | 'sketch'>,
  { from, to }: WindowRange,
  rows: number,
  isFirst: boolean,
): string {
  const after = isFirst ? '' : ` AND (${KEY_COLUMNS}) > ($1::timestamp, $2::text, $3::text)`;
  return `SELECT ${namesOf(sketch)} FROM ${quotedTable(table)} WHERE ${within(from, to)}${after}
ORDER BY ${KEY_COLUMNS} LIMIT ${rows}`;
}

/** Selects the size in bytes, with all partitions. The tree of a table without partitions is empty. */
export function selectSize(table: string): string {
  const name = `'${quotedTable(table)}'::regclass`;
  return `SELECT pg_total_relation_size(${name}) + coalesce(sum(pg_total_relation_size(relid)), 0) AS bytes
FROM pg_partition_tree(${name}) WHERE relid <> ${name}`;
}

/** Selects the remark on a table; no row if there is no such table. */
export function selectMark(table: string): string {
  const found = `to_regclass('${quotedTable(table)}')`;
  return `SELECT coalesce(obj_description(${found}, 'pg_class'), '') AS mark WHERE ${found} IS NOT NULL`;
}

/** Selects the names of tables with that mark in the schema of this one. */
export function selectMarked(table: string, mark: string): string {
  const schema = table.includes('.') ? pgLiteral(table.split('.')[0]!) : 'current_schema()';
  return `SELECT c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ${schema} AND c.relkind IN ('r', 'p') AND obj_description(c.oid, 'pg_class') = ${pgLiteral(mark)} ORDER BY 1`;
}

export function markTable(table: string, mark: string): string {
  return `COMMENT ON TABLE ${quotedTable(table)} IS ${pgLiteral(mark)}`;
}

export function dropTable(table: string): string {
  return `DROP TABLE ${quotedTable(table)}`;
}

/** Removes what is left of overwritten rows, and collects what the planner wants to know. Runs in no transaction. */
export function vacuum(table: string): string {
  return `VACUUM ANALYZE ${quotedTable(table)}`;
}

export function selectHypertableSize(table: string): string {
  return `SELECT hypertable_size('${quotedTable(table)}') AS bytes`;
}

/** Returns why a row cannot hold the point unchanged; undefined if it can. */
export function refusal(point: Point): Omit<Rejection, 'index'> | undefined {
  const unfit = unfitNumber(point);
  if (unfit !== undefined) return unfit;
  const { series, instance, windowStart } = point;
  if (!(windowStart >= MIN_TIME_MS && windowStart < MAX_TIME_MS)) {
    return {
      reason: 'invalid_value',
      message: `the window ${windowStart} is not within the years 1 to 9999`,
    };
  }
  // In `dimensions`, JSON escapes both. Halves of surrogate pairs would all become the same character.
  for (const [what, value] of [
    ['name', series.name],
    ['instance', instance],
  ] as const) {
    if (!isPgText(value)) {
      return { reason: 'invalid_value', message: `the ${what} has a NUL or is not well-formed Unicode` };
    }
  }
  const bytes = Buffer.byteLength(instance);
  if (bytes <= INSTANCE_BYTES) return undefined;
  return { reason: 'too_large', message: `instance takes ${bytes} bytes, over ${INSTANCE_BYTES}` };
}
