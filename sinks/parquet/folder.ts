/**
 * A folder. A file is written beside its place, synced, and renamed; then its folder is synced. What decides whether it
 * is still the file that was read, and the renaming, happen under a lock that all processes on the folder share: it is
 * held for microseconds, and ends with the process that holds it.
 */
import { randomUUID } from 'node:crypto';
import { renameSync, rmSync, statSync } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, readFile, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { SinkError, type WindowRange } from '../../src/sink/index.ts';
import { explainFile } from './classify.ts';
import { DATE_KEY, EXTENSION, isDateWithin, NAME_KEY, windowOf } from './layout.ts';
import { FolderLock } from './lock.ts';
import {
  type Admit,
  checkMarker,
  type FileStore,
  type Listed,
  MARKER,
  MAX_FILE_BYTES,
  type Making,
  markerOf,
  type Reading,
  type Stored,
  tooLarge,
  unmarked,
} from './store.ts';

/** Within the root, so that renaming is within one file system. */
const TEMPORARY = '_tmp';
const MAX_MARKERS_TRIED = 20;
/** How many folders are remembered as made and synced. */
const MAX_KNOWN_FOLDERS = 10_000;

export interface FolderOptions {
  readonly making: Making;
  /** Whether a folder that was not used before is taken. */
  readonly create: boolean;
  /** Nothing is made in the folder: it may be on a file system that cannot be written to. */
  readonly readOnly: boolean;
}

export class FolderStore implements FileStore {
  readonly #root: string;
  readonly #options: FolderOptions;
  readonly #lock: FolderLock;
  readonly #known = new Set<string>();
  /** The folder that was opened first: its marker, and on which file system it was. */
  #first: { readonly marker: string; readonly device: bigint } | undefined;

  constructor(root: string, options: FolderOptions) {
    this.#root = root;
    this.#options = options;
    this.#lock = new FolderLock(join(root, '_metrics-fanout.lock'));
  }

  async open(layout: string, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    this.#known.clear();
    const marker = join(this.#root, MARKER);
    const atFirst = await textOf(marker);
    await this.#mustBeTheFirst(atFirst);
    if (this.#options.readOnly) return await this.#openToRead(atFirst, layout);
    if (atFirst === undefined) await this.#options.making(() => this.#prepare(layout, signal));
    else await this.#prepare(layout, signal);
  }

  async #openToRead(marker: string | undefined, layout: string): Promise<void> {
    if (marker === undefined) await this.#options.making(async () => {});
    else checkMarker(marker, layout);
  }

  /** Makes what is missing. */
  async #prepare(layout: string, signal: AbortSignal): Promise<void> {
    const marker = join(this.#root, MARKER);
    const made = await mkdir(this.#root, { recursive: true });
    if (made !== undefined) await syncAbove(this.#root, dirname(made));
    await mkdir(join(this.#root, TEMPORARY), { recursive: true });
    await this.#lock.open();
    await this.#sweep();
    // Others that open the folder may remove the temporary file.
    for (let tried = 0; tried < MAX_MARKERS_TRIED; tried++) {
      const found = await textOf(marker);
      if (found !== undefined) {
        checkMarker(found, layout);
        this.#first ??= { marker: found, device: await deviceOf(this.#root) };
        return;
      }
      await this.#put(marker, Buffer.from(markerOf(layout, randomUUID())), undefined, signal);
    }
    throw new SinkError('conflict', `others remove ${MARKER} from the folder`);
  }

  /**
   * Throws if what is there now may be what was underneath the file system of the folder that was opened first: nothing
   * must be made or written there. Who removes the folder as a whole gets a new one, which another process may make.
   */
  async #mustBeTheFirst(marker: string | undefined): Promise<void> {
    if (marker === undefined && !this.#options.create && !this.#options.readOnly) throw unmarked();
    if (this.#first === undefined || marker === this.#first.marker) return;
    const isEmptied = marker === undefined && (await unlessAbsent(stat(this.#root))) !== undefined;
    if (!isEmptied && (await deviceOf(this.#root)) === this.#first.device) {
      this.#first = undefined;
      return;
    }
    throw new SinkError(
      'not_found',
      `${this.#root} is not the folder that it was: ${MARKER} is ${marker === undefined ? 'missing' : 'another one'}`,
      'Mount its file system again. If you want to begin anew there, restart the service.',
    );
  }

  /** Removes what killed processes left. If it was another's that is alive, that one writes it again. */
  async #sweep(): Promise<void> {
    const folder = join(this.#root, TEMPORARY);
    for (const name of await readdir(folder)) await rm(join(folder, name), { force: true });
  }

  async marker(): Promise<string | undefined> {
    return await textOf(join(this.#root, MARKER));
  }

  async close(): Promise<void> {
    this.#lock.close();
  }

  async get(file: string, signal: AbortSignal, admit?: Admit): Promise<Stored | undefined> {
    const handle = await openOrNot(join(this.#root, file));
    if (handle === undefined) return undefined;
    // The handle stays open, so that no new file gets the inode of this one.
    try {
      const found = await handle.stat({ bigint: true });
      if (found.size > MAX_FILE_BYTES) throw tooLarge(file, Number(found.size));
      await admit?.(Number(found.size));
      const bytes = await handle.readFile({ signal });
      return { bytes, version: versionOf(found), release: () => handle.close() };
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  async replace(
    file: string,
    bytes: Uint8Array | undefined,
    before: Stored | undefined,
    signal: AbortSignal,
  ): Promise<boolean> {
    const path = join(this.#root, file);
    if (bytes !== undefined) return await this.#put(path, bytes, before, signal);
    const isGone = await this.#lock.hold(() => {
      if (!this.#is(path, before)) return false;
      rmSync(path);
      return true;
    }, signal);
    if (isGone) await syncFolder(dirname(path));
    return isGone;
  }

  async #put(
    path: string,
    bytes: Uint8Array,
    before: Stored | undefined,
    signal: AbortSignal,
  ): Promise<boolean> {
    const temporary = join(this.#root, TEMPORARY, `${randomUUID()}.tmp`);
    const folder = dirname(path);
    let isPut = false;
    this.#lock.check();
    try {
      await writeSynced(temporary, bytes, signal);
      await this.#makeFolder(folder);
      isPut = await this.#lock.hold(() => {
        if (!this.#is(path, before)) return false;
        renameSync(temporary, path);
        return true;
      }, signal);
      if (isPut) await syncFolder(folder);
      return isPut;
    } catch (error) {
      // Somebody removed the folder, or what is temporary: nothing was done.
      if (!isPut && codeOf(error) === 'ENOENT') {
        this.#known.clear();
        this.#lock.check();
        await mkdir(join(this.#root, TEMPORARY), { recursive: true });
        return false;
      }
      throw error;
    } finally {
      if (!isPut) await rm(temporary, { force: true });
    }
  }

  #is(path: string, before: Stored | undefined): boolean {
    const found = statSync(path, { bigint: true, throwIfNoEntry: false });
    return (found === undefined ? undefined : versionOf(found)) === before?.version;
  }

  /** Makes the folder, and all above it down from the root durable: another process may have made them just now. */
  async #makeFolder(folder: string): Promise<void> {
    if (this.#known.has(folder)) return;
    await mkdir(folder, { recursive: true });
    await syncAbove(folder, this.#root);
    if (this.#known.size >= MAX_KNOWN_FOLDERS) this.#known.clear();
    this.#known.add(folder);
  }

  async *list(range: WindowRange, folder: string | undefined, signal: AbortSignal): AsyncGenerator<Listed> {
    this.#lock.check();
    for await (const dates of this.#parents(folder)) {
      const within = (await namesIn(join(this.#root, dates))).filter((name) => isDateWithin(name, range));
      for (const date of within) {
        signal.throwIfAborted();
        for (const name of await namesIn(join(this.#root, dates, date))) {
          const windowStart = windowOf(name);
          if (windowStart === undefined || windowStart < range.from || windowStart >= range.to) continue;
          yield { file: [dates, date, name].filter(Boolean).join('/'), windowStart };
        }
      }
    }
  }

  /** Yields the folders with dates: the root, or those of names. */
  async *#parents(folder: string | undefined): AsyncGenerator<string> {
    if (folder !== undefined) yield folder;
    else {
      yield '';
      yield* (await namesIn(this.#root)).filter((name) => name.startsWith(NAME_KEY));
    }
  }

  async read(file: string, signal: AbortSignal): Promise<Reading | undefined> {
    const handle = await openOrNot(join(this.#root, file));
    if (handle === undefined) return undefined;
    const { size } = await handle.stat();
    return {
      byteLength: size,
      async slice(start, end = size) {
        signal.throwIfAborted();
        const bytes = new Uint8Array(end - start);
        let read = 0;
        while (read < bytes.length) {
          const { bytesRead } = await handle.read(bytes, read, bytes.length - read, start + read);
          if (bytesRead === 0) throw new Error('the file ends early');
          read += bytesRead;
        }
        return bytes.buffer;
      },
      close: () => handle.close(),
    };
  }

  async bytes(signal: AbortSignal): Promise<number> {
    this.#lock.check();
    let bytes = 0;
    for await (const dates of this.#parents(undefined)) {
      for (const date of await namesIn(join(this.#root, dates))) {
        if (!date.startsWith(DATE_KEY)) continue;
        signal.throwIfAborted();
        const folder = join(this.#root, dates, date);
        for (const name of await namesIn(folder)) {
          if (name.endsWith(EXTENSION)) bytes += await sizeOf(join(folder, name));
        }
      }
    }
    return bytes;
  }

  explain(error: unknown, signal: AbortSignal): SinkError {
    return explainFile(error, signal);
  }
}

function versionOf({ ino, size, ctimeNs }: { ino: bigint; size: bigint; ctimeNs: bigint }): string {
  return `${ino} ${size} ${ctimeNs}`;
}

async function writeSynced(path: string, bytes: Uint8Array, signal: AbortSignal): Promise<void> {
  const handle = await open(path, 'wx');
  try {
    await handle.writeFile(bytes, { signal });
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Makes the names of the folder, and of those above it up to `top`, durable. */
async function syncAbove(folder: string, top: string): Promise<void> {
  for (let at = folder; at.length > top.length; at = dirname(at)) await syncFolder(dirname(at));
}

/** Makes the names in the folder durable. */
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined;
}

/** Resolves to undefined if there is nothing at the path. */
async function unlessAbsent<T>(looking: Promise<T>): Promise<T | undefined> {
  try {
    return await looking;
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/** Resolves to the file system that the path is on, or would be if it were made. */
async function deviceOf(path: string): Promise<bigint> {
  const found = await unlessAbsent(stat(path, { bigint: true }));
  return found?.dev ?? (await deviceOf(dirname(path)));
}

const openOrNot = (path: string): Promise<FileHandle | undefined> => unlessAbsent(open(path, 'r'));
const textOf = (path: string) => unlessAbsent(readFile(path, 'utf8'));
const namesIn = async (folder: string) => (await unlessAbsent(readdir(folder)))?.sort() ?? [];
const sizeOf = async (path: string) => (await unlessAbsent(stat(path)))?.size ?? 0;
