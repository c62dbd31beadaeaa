/**
 * A lock that processes share, on a file. Node.js has none of its own, but SQLite has: the system lets go of it when
 * the process ends, however it ends. The file stays empty.
 */
import { statSync } from 'node:fs';
import type { DatabaseSync as Database } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import { loadSqlite, SinkError } from '../../src/sink/index.ts';

/** SQLITE_BUSY: another process holds the lock. */
const BUSY = 5;
const LOOK_EVERY_MS = 5;

export class FolderLock {
  readonly #path: string;
  #opened: { readonly database: Database; readonly file: string } | undefined;

  constructor(path: string) {
    this.#path = path;
  }

  async open(): Promise<void> {
    const { DatabaseSync } = await loadSqlite();
    this.close();
    // 0: waiting here would block the thread.
    const database = new DatabaseSync(this.#path, { timeout: 0 });
    try {
      // The file appears with the first lock.
      database.exec('BEGIN IMMEDIATE; ROLLBACK');
    } catch (error) {
      if (!isBusy(error)) {
        database.close();
        throw error;
      }
    }
    this.#opened = { database, file: this.#file() ?? '' };
  }

  close(): void {
    this.#opened?.database.close();
    this.#opened = undefined;
  }

  /** Throws if the file is no longer the one that was opened. */
  check(): void {
    // Who deletes the folder, or mounts another one over it, must not be answered that its rows are there.
    if (this.#opened !== undefined && this.#file() !== this.#opened.file) {
      throw new SinkError('not_found', `${this.#path} was deleted or replaced while it was open`);
    }
  }

  /** Says which file is at the path. Another file system may have a file with the same inode. */
  #file(): string | undefined {
    const found = statSync(this.#path, { bigint: true, throwIfNoEntry: false });
    return found && `${found.dev} ${found.ino}`;
  }

  /** Calls `work` while no other process holds the lock. */
  async hold<T>(work: () => T, signal: AbortSignal): Promise<T> {
    for (;;) {
      signal.throwIfAborted();
      const { database } = this.#opened ?? {};
      if (database === undefined) throw new SinkError('connection', 'the folder is not open');
      this.check();
      if (take(database)) {
        try {
          return work();
        } finally {
          database.exec('ROLLBACK');
        }
      }
      await sleep(LOOK_EVERY_MS, undefined, { signal });
    }
  }
}

function take(database: Database): boolean {
  try {
    database.exec('BEGIN IMMEDIATE');
    return true;
  } catch (error) {
    if (isBusy(error)) return false;
    throw error;
  }
}

function isBusy(error: unknown): boolean {
  return error instanceof Error && 'errcode' in error && (Number(error.errcode) & 0xff) === BUSY;
}
