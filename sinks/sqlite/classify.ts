/** What the result codes of SQLite (https://sqlite.org/rescode.html) mean to the lane. Pure. */
import { errorText, SinkError } from '../../src/sink/index.ts';
import { COLUMNS } from './encode.ts';

type Verdict = readonly [reason: SinkError['reason'], advice: string];

const WRITABLE =
  'Make the file and its folder writable for this process, or set SINK_<ID>_PATH to another file.';

const COLUMN = 'Give that column a default, or let it be NULL: this sink does not write it.';

const VERDICTS: Readonly<Record<number, Verdict>> = {
  3: ['unauthorized', WRITABLE], // PERM
  5: ['conflict', ''], // BUSY
  6: ['conflict', ''], // LOCKED
  8: ['unauthorized', WRITABLE], // READONLY
  10: ['server_error', ''], // IOERR
  11: ['schema_mismatch', 'Restore the file from a backup, or set SINK_<ID>_PATH to another file.'], // CORRUPT
  13: ['server_error', 'Free some space on the disk.'], // FULL
  14: ['not_found', WRITABLE], // CANTOPEN
  23: ['unauthorized', WRITABLE], // AUTH
  26: ['schema_mismatch', 'Set SINK_<ID>_PATH to a new file or to an SQLite database.'], // NOTADB
};

/** Returns the low byte of the result code, which the others only refine; undefined if the error is not SQLite's. */
export function resultCode(error: unknown): number | undefined {
  const code = error instanceof Error && 'errcode' in error ? error.errcode : undefined;
  return typeof code === 'number' ? code & 0xff : undefined;
}

export const CONSTRAINT = 19;

/** Whether a column that somebody added must have a value, and has no default: that refuses every row. */
export function lacksValue(error: unknown): boolean {
  const [, column] = /^NOT NULL constraint failed: points\.(.+)$/.exec(errorText(error)) ?? [];
  return column !== undefined && !Object.hasOwn(COLUMNS, column);
}

export function classify(error: unknown): SinkError {
  if (error instanceof SinkError) return error;
  const message = errorText(error);
  if (lacksValue(error)) return new SinkError('schema_mismatch', message, COLUMN, { cause: error });
  if (/^no such (table|column)|has no column named/.test(message)) {
    return new SinkError('not_found', message, 'Leave the table to this sink, which creates it again.', {
      cause: error,
    });
  }
  const [reason, advice] = VERDICTS[resultCode(error) ?? -1] ?? ['unknown', ''];
  return new SinkError(reason, message, advice, { cause: error });
}
