/** What COPY is told, and what it reads: the rows of a batch as text, delimited and escaped. Pure. */
import type { Point } from '../../src/sink/index.ts';
import type { S3Address } from './config.ts';
import { NAMES, STAGE, toRow } from './encode.ts';

/**
 * A cluster's slices load the parts of a batch side by side; more and smaller ones cost more requests than they save.
 */
export const ROWS_PER_PART = 25_000;
/** Under the prefix of the settings: all that is ours there, and nothing else. */
const FOLDER = 'fanout-stage/';

export function stagePrefix({ prefix }: S3Address): string {
  return prefix === '' ? FOLDER : `${prefix}/${FOLDER}`;
}

/** In the order of time, so that what a process left behind that was killed stands first in a list. */
export function attemptPrefix(address: S3Address, now: number, id: string): string {
  return `${stagePrefix(address)}${new Date(now).toISOString().replace(/[-:]/g, '')}-${id}/`;
}

/** What would end a field or a row, or hide such an end, as UNLOAD escapes it. */
const SPECIAL = /[\\|\n\r]/g;

/**
 * A row a line. An empty field is NULL in a column of numbers and an empty text in one of texts. Numbers are written
 * with the digits that a double needs to come back as it was.
 */
export function partText(points: readonly Point[]): string {
  let text = '';
  for (const point of points) {
    const cells = toRow(point).map((cell) =>
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
 * `id` of the attempt stands for NULL, in place of the default \N, which is a name that somebody may give: no text can
 * hold what is made up after it. The stage needs no statistics, and its encodings come with LIKE.
 */
export function copyIntoStage(manifestUrl: string, role: string, id: string): string {
  const iamRole = role === 'default' ? role : `'${role}'`;
  return `COPY ${STAGE} (${NAMES}) FROM '${manifestUrl}' IAM_ROLE ${iamRole}
MANIFEST GZIP DELIMITER '|' ESCAPE NULL AS '${id}' TIMEFORMAT 'auto' COMPUPDATE OFF STATUPDATE OFF`;
}

/** Of the session's last COPY. */
export const COPIED_ROWS = 'SELECT pg_last_copy_count() AS rows';
