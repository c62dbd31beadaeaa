/**
 * Points as arrays in PostgreSQL's binary format, one for each column: the server parses one short statement and no
 * number, however many points there are. Pure.
 */
import { ALL_FIELDS, type Field, type Point } from '../../aggregate/point.ts';

/** Types by their OIDs. */
const INT8 = 20;
const TEXT = 25;
const FLOAT8 = 701;
const TIMESTAMP = 1114;

/** Before the elements: dimensions, whether there are nulls, type, length, and the index of the first element. */
const HEAD_BYTES = 20;
const LENGTH_BYTES = 4;
const NULL_LENGTH = -1;
const WORD_BYTES = 8;
const WORD = 2 ** 32;
/** A UTF-16 code unit takes at most three bytes in UTF-8. */
export const MAX_BYTES_PER_UNIT = 3;
/** The server counts from 2000-01-01, in microseconds. */
const EPOCH_MS = 946_684_800_000;
const MICROSECONDS = 1_000n;

/** The types of the arrays, by column. */
const TYPES: Readonly<Record<string, string>> = {
  window_start: 'timestamp',
  window_ms: 'int8',
  series_id: 'text',
  instance: 'text',
  name: 'text',
  type: 'text',
  dimensions: 'text',
  ...Object.fromEntries(ALL_FIELDS.map((field) => [field, field === 'count' ? 'int8' : 'float8'])),
};

/** With the column that a setting adds. */
const ALL_TYPES: Readonly<Record<string, string>> = { ...TYPES, sketch: 'text' };

/** The columns that we may write. */
export const PG_COLUMNS: ReadonlySet<string> = new Set(Object.keys(ALL_TYPES));

/**
 * Selects the rows of the arrays, which are its parameters from $1 on. In the list of columns, unlike in FROM, unnest
 * keeps no copy of the rows.
 */
export function selectArrays(hasSketch: boolean): string {
  return `SELECT ${Object.entries(hasSketch ? ALL_TYPES : TYPES)
    .map(([name, type], index) => `unnest($${index + 1}::${type}[]) AS "${name}"`)
    .join(', ')}`;
}

/** Returns the time as the server has it. */
export function serverMicroseconds(ms: number): bigint {
  return BigInt(ms - EPOCH_MS) * MICROSECONDS;
}

/** Returns the arrays, in the order of the columns of a row: see `columnValues`. */
export function columnArrays(points: readonly Point[], hasSketch: boolean): Buffer[] {
  return [
    startArray(points),
    integerArray(points, ({ windowMs }) => windowMs),
    textArray(points, ({ series }) => series.id),
    textArray(points, ({ instance }) => instance),
    textArray(points, ({ series }) => series.name),
    textArray(points, ({ series }) => series.type),
    textArray(points, ({ series }) => series.dimensionsJson),
    ...ALL_FIELDS.map((field) =>
      field === 'count' ? integerArray(points, ({ count }) => count) : doubleArray(points, field),
    ),
    ...(hasSketch ? [textArray(points, ({ sketch }) => sketch ?? null)] : []),
  ];
}

function head(bytes: Buffer, type: number, length: number): void {
  bytes.writeInt32BE(1, 0);
  bytes.writeInt32BE(1, 4);
  bytes.writeInt32BE(type, 8);
  bytes.writeInt32BE(length, 12);
  bytes.writeInt32BE(1, 16);
}

function wordArray(type: number, length: number): Buffer {
  const bytes = Buffer.allocUnsafe(HEAD_BYTES + length * (LENGTH_BYTES + WORD_BYTES));
  head(bytes, type, length);
  return bytes;
}

/** The points of a batch have few starts, which mostly come in a row. */
function startArray(points: readonly Point[]): Buffer {
  const bytes = wordArray(TIMESTAMP, points.length);
  let at = HEAD_BYTES;
  let known = Number.NaN;
  let word = 0n;
  for (const { windowStart } of points) {
    if (windowStart !== known) {
      known = windowStart;
      word = serverMicroseconds(windowStart);
    }
    at = bytes.writeInt32BE(WORD_BYTES, at);
    at = bytes.writeBigInt64BE(word, at);
  }
  return bytes;
}

function integerArray(points: readonly Point[], numberOf: (point: Point) => number): Buffer {
  const bytes = wordArray(INT8, points.length);
  let at = HEAD_BYTES;
  for (const point of points) {
    const value = numberOf(point);
    const high = Math.floor(value / WORD);
    at = bytes.writeInt32BE(WORD_BYTES, at);
    at = bytes.writeInt32BE(high, at);
    at = bytes.writeUInt32BE(value - high * WORD, at);
  }
  return bytes;
}

function doubleArray(points: readonly Point[], field: Field): Buffer {
  const bytes = wordArray(FLOAT8, points.length);
  let at = HEAD_BYTES;
  for (const point of points) {
    const value = point[field];
    at = bytes.writeInt32BE(value === null ? NULL_LENGTH : WORD_BYTES, at);
    if (value !== null) at = bytes.writeDoubleBE(value, at);
  }
  return bytes.subarray(0, at);
}

function textArray(points: readonly Point[], textOf: (point: Point) => string | null): Buffer {
  let units = 0;
  for (const point of points) units += textOf(point)?.length ?? 0;
  const bytes = Buffer.allocUnsafe(HEAD_BYTES + points.length * LENGTH_BYTES + units * MAX_BYTES_PER_UNIT);
  head(bytes, TEXT, points.length);
  let at = HEAD_BYTES;
  for (const point of points) {
    const text = textOf(point);
    const length = text === null ? 0 : bytes.write(text, at + LENGTH_BYTES);
    bytes.writeInt32BE(text === null ? NULL_LENGTH : length, at);
    at += LENGTH_BYTES + length;
  }
  return bytes.subarray(0, at);
}
