/** The COPY statement, and the files that it reads: the rows of a batch as text, delimited and escaped. Pure. */
import type { Point } from '../../src/sink/index.ts';
import type { S3Address } from './config.ts';
import { STAGE } from './config.ts';
import { namesOf, toRow } from './encode.ts';

/**
 * The slices of a cluster load the parts of a batch in parallel. Smaller parts would cost more time in requests than
 * they save.
 */
export const ROWS_PER_PART = 25_000;
/** The folder under the configured prefix that holds all of our objects, and only those. */
const FOLDER = 'fanout-stage/';

export function stagePrefix({ prefix }: S3Address): string {
  return prefix === '' ? FOLDER : `${prefix}/${FOLDER}`;
}

/** Returns a prefix that sorts by time, so that a listing begins with what a killed process left behind. */
export function attemptPrefix(address: S3Address, now: number, id: string): string {
  return `${stagePrefix(address)}${new Date(now).toISOString().replace(/[-:]/g, '')}-${id}/`;
}

/** Characters that would end a field or a row, or escape such an end. UNLOAD escapes the same ones. */
const SPECIAL = /[\\|\n\r]/g;

/**
 * Returns the rows, one a line. An empty field is NULL in a column of numbers, and empty text in a column of text.
 * Numbers have enough digits for a double to come back unchanged.
 */
export function partText(points: readonly Point[], hasSketch: boolean): string {
  let text = '';
  for (const point of points) {
    const cells = toRow(point, hasSketch).map((cell) =>
      typeof cell === 'string' ? cell.replace(SPECIAL, '\\$&') : (cell ?? ''),
    );
    text += `${cells.join('|')}\n`;
  }
  return text;
}

export function s3Url({ bucket }: S3Address, key: string): string {
  return `s3://${bucket}/${key}`;
}

export function manifest(address: S3Address, keys: readonly string[]): string {
  return JSON.stringify({ entries: keys.map((key) => ({ url: s3Url(address, key), mandatory: true })) });
}

/**
 * Returns the COPY statement. The attempt's `id` stands for NULL instead of the default \N, because a metric may have
 * \N as its name; the id is random and newer than the text, so no text holds it. The stage needs no statistics, and
 * gets its encodings from LIKE.
 */
export function copyIntoStage(manifestUrl: string, role: string, id: string, hasSketch: boolean): string {
  const iamRole = role === 'default' ? role : `'${role}'`;
  return `COPY ${STAGE} (${namesOf(hasSketch)}) FROM '${manifestUrl}' IAM_ROLE ${iamRole}
MANIFEST GZIP DELIMITER '|' ESCAPE NULL AS '${id}' TIMEFORMAT 'auto' COMPUPDATE OFF STATUPDATE OFF`;
}
