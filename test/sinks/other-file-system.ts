/** A folder on another file system than that of temporary files, to stand for one that is mounted. */
import { mkdtempSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** In memory, on Linux. */
const OTHER = '/dev/shm';

export function hasOtherFileSystem(): boolean {
  const other = statSync(OTHER, { throwIfNoEntry: false });
  return other !== undefined && other.dev !== statSync(tmpdir()).dev;
}

export function temporaryOnOtherFileSystem(): string {
  return mkdtempSync(join(OTHER, 'fanout-'));
}
