/**
 * Brings changes into files: reads, merges, and replaces, one at a time for each file. Changes that come meanwhile
 * wait, and then go into the file together. Another process on the same file is noticed when the file is replaced.
 */
import { errorText, SinkError } from '../../src/sink/index.ts';
import { type Change, changed } from './file.ts';
import { Room } from './room.ts';
import { type Admit, type FileStore, MAX_FILE_BYTES, tooLarge } from './store.ts';

/** How often a file may turn out to have been replaced meanwhile before the lane is to try again, after a pause. */
const MAX_ATTEMPTS = 4;

interface Job {
  readonly change: Change;
  readonly signal: AbortSignal;
  readonly settle: (error?: unknown) => void;
}

export class Merger {
  readonly #store: FileStore;
  /** What waits, by file. A file is in here as long as it is worked on. */
  readonly #waiting = new Map<string, Job[]>();
  readonly #room: Room;

  /** `mergedBytes`: how large the files that are merged at once may be in all. One file alone may be larger. */
  constructor(store: FileStore, mergedBytes = MAX_FILE_BYTES) {
    this.#store = store;
    this.#room = new Room(mergedBytes);
  }

  /** Resolves when the change is in the file, durably. Rejects as soon as the signal aborts. */
  async apply(file: string, change: Change, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const abort = () => reject(signal.reason);
    signal.addEventListener('abort', abort);
    const settle = (error?: unknown) => (error === undefined ? resolve() : reject(error));
    const jobs = this.#waiting.get(file);
    if (jobs !== undefined) jobs.push({ change, signal, settle });
    else void this.#work(file, [{ change, signal, settle }]);
    try {
      await promise;
    } finally {
      signal.removeEventListener('abort', abort);
    }
  }

  /** Works until nothing waits for the file. */
  async #work(file: string, jobs: Job[]): Promise<void> {
    this.#waiting.set(file, jobs);
    while (jobs.length > 0) await this.#together(file, jobs.splice(0));
    this.#waiting.delete(file);
  }

  /** Brings in the changes of all jobs, the later over the earlier. Gives up only when nobody waits any more. */
  async #together(file: string, all: readonly Job[]): Promise<void> {
    const jobs = all.filter(({ signal }) => !signal.aborted);
    if (jobs.length === 0) return;
    const change = jobs.length === 1 ? jobs[0]!.change : new Map(jobs.flatMap((job) => [...job.change]));
    const given = new AbortController();
    const count = () => {
      if (jobs.every(({ signal }) => signal.aborted)) given.abort(jobs[0]!.signal.reason);
    };
    for (const { signal } of jobs) signal.addEventListener('abort', count);
    try {
      await this.#merge(file, change, given.signal);
      for (const { settle } of jobs) settle();
    } catch (error) {
      for (const { settle } of jobs) settle(error);
    } finally {
      for (const { signal } of jobs) signal.removeEventListener('abort', count);
    }
  }

  async #merge(file: string, change: Change, signal: AbortSignal): Promise<void> {
    for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt += 1) {
      let leave = () => {};
      const admit = async (bytes: number) => {
        leave = await this.#room.take(bytes, signal);
      };
      try {
        if (await this.#replace(file, change, signal, admit)) return;
      } finally {
        leave();
      }
    }
    throw new SinkError('conflict', `another process keeps writing ${file}`);
  }

  /** Resolves to false if another process was faster. */
  async #replace(file: string, change: Change, signal: AbortSignal, admit: Admit): Promise<boolean> {
    const before = await this.#store.get(file, signal, admit);
    try {
      const after = await changedIn(file, before?.bytes, change, signal);
      if (after !== undefined && after.byteLength > MAX_FILE_BYTES) throw tooLarge(file, after.byteLength);
      // Nothing was there, and nothing is to be.
      if (before === undefined && after === undefined) return true;
      return await this.#store.replace(file, after, before, signal);
    } finally {
      await before?.release();
    }
  }
}

async function changedIn(
  file: string,
  before: Uint8Array | undefined,
  change: Change,
  signal: AbortSignal,
): Promise<Uint8Array | undefined> {
  try {
    return await changed(before, change, signal);
  } catch (error) {
    signal.throwIfAborted();
    throw unreadable(file, error);
  }
}

/** The error of a file that is there and is not one of this sink's. */
export function unreadable(file: string, error: unknown): SinkError {
  const message = errorText(error);
  return new SinkError(
    'schema_mismatch',
    `${file} cannot be read: ${message}`.replace(/\s+/g, ' ').slice(0, 300),
    'Move that file away, or set SINK_<ID>_URL to another place.',
    { cause: error },
  );
}
