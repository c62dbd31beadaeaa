/** Where a point's row is: the names of folders and files, and back. Pure. */
import { createHash } from 'node:crypto';
import type { Point, WindowRange } from '../../src/sink/index.ts';
import type { PartitionBy } from './config.ts';

export const EXTENSION = '.parquet';
/** Most file systems take names of up to 255 bytes. What is longer is cut, and told apart by a hash. */
const MAX_NAME_BYTES = 160;
const HASH_CHARACTERS = 32;
/** The first and the last moment that are taken: years have four digits, so file names sort by time. */
const FIRST_MS = 0;
const LAST_MS = Date.UTC(9999, 11, 31, 23, 59, 59, 999);

export function isDated({ windowStart }: Point): boolean {
  return windowStart >= FIRST_MS && windowStart <= LAST_MS;
}

/**
 * Returns the file that holds the point, relative to the root, with slashes. It follows from the window, the instance
 * and, if that is a partition, the name: whoever writes the point again, in whatever batch, finds its row there.
 */
export function fileOf(point: Point, by: PartitionBy): string {
  const instance = point.instance === '' ? '' : `-${escaped(point.instance)}`;
  const file = `${dateFolder(point.windowStart)}/${stamp(point.windowStart)}${instance}${EXTENSION}`;
  return by === 'date' ? file : `${nameFolder(point.series.name)}/${file}`;
}

/** Whether the points are certain to be in the same file. */
export function shareFile(one: Point, other: Point, by: PartitionBy): boolean {
  return (
    one.windowStart === other.windowStart &&
    one.instance === other.instance &&
    (by === 'date' || one.series.name === other.series.name)
  );
}

/** Not `name=`: readers would take the column `name` twice, once escaped. */
export const NAME_KEY = 'metric=';
export const DATE_KEY = 'date=';

export function nameFolder(name: string): string {
  return `${NAME_KEY}${escaped(name)}`;
}

export function dateFolder(ms: number): string {
  return `${DATE_KEY}${iso(ms).slice(0, 10)}`;
}

/** Sorts by time, and needs no escapes anywhere: 20261123T013000000Z. */
export function stamp(ms: number): string {
  return iso(ms).replace(/[-:.]/g, '');
}

function iso(ms: number): string {
  return new Date(Math.min(Math.max(ms, FIRST_MS), LAST_MS)).toISOString();
}

const FILE = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)(\d{3})Z(?:-.*)?\.parquet$/s;

/** Returns the start of the window that the file, named without folders, holds; undefined if it is none of ours. */
export function windowOf(file: string): number | undefined {
  const parts = FILE.exec(file);
  if (parts === null) return undefined;
  const [year, month, day, hour, minute, second, ms] = parts.slice(1).map(Number);
  return Date.UTC(year!, month! - 1, day, hour, minute, second, ms);
}

/** Whether a folder of this name can hold windows of the range. */
export function isDateWithin(folder: string, { from, to }: WindowRange): boolean {
  return folder >= dateFolder(from) && folder <= dateFolder(to) && folder.startsWith(DATE_KEY);
}

/** As Hive escapes values, which readers undo; and `-`, `_` and `.` stay. */
function escaped(text: string): string {
  if (text === '') return '__HIVE_DEFAULT_PARTITION__';
  const bytes = Buffer.from(text);
  let name = '';
  for (const byte of bytes) {
    const isPlain = /[A-Za-z0-9._-]/.test(String.fromCharCode(byte));
    name += isPlain ? String.fromCharCode(byte) : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  }
  if (name.length <= MAX_NAME_BYTES) return name;
  const hash = createHash('sha256').update(bytes).digest('hex').slice(0, HASH_CHARACTERS);
  return `${name.slice(0, MAX_NAME_BYTES).replace(/%.?$/, '')}~${hash}`;
}
