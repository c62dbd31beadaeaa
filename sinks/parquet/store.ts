/** What holds the files: a folder or a bucket. Both replace a file only if it is still the one that was read. */
import type { AsyncBuffer } from 'hyparquet';
import { SinkError, type WindowRange } from '../../src/sink/index.ts';

/**
 * A larger file is not merged: the old one, the new one and a row group are in memory at once. At 25 to 60 bytes a row,
 * it holds more than four million series.
 */
export const MAX_FILE_BYTES = 256 * 1024 * 1024;

/** A file as it was read. */
export interface Stored {
  readonly bytes: Uint8Array;
  /** Another one if the file was replaced. */
  readonly version: string;
  /** Lets go of it. Until then, no other file gets its version. */
  release(): Promise<void>;
}

export type Admit = (bytes: number) => Promise<void>;

export interface Listed {
  /** Relative to the root, with slashes. */
  readonly file: string;
  readonly windowStart: number;
}

/** A file that is being read; it stays as it is, whoever replaces it. */
export interface Reading extends AsyncBuffer {
  close(): Promise<void>;
}

/** Marks a place that was not used before, by `make`. Rejects if that must not be done. */
export type Making = (make: () => Promise<unknown>) => Promise<unknown>;

/** Every call may throw whatever the file system or the SDK throws: `explain` says what it means. */
export interface FileStore {
  /** Makes sure that the root is there and holds files of this layout, or none. */
  open(layout: string, signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
  /** Resolves to undefined if there is no such file. Reads it when `admit` has resolved, which gets its size. */
  get(file: string, signal: AbortSignal, admit?: Admit): Promise<Stored | undefined>;
  /**
   * Puts the file, or removes it if `bytes` is undefined. Resolves to true when that is durable, and to false, with
   * nothing done, if the file is no longer `before`. A reader sees either the old file or the new one.
   */
  replace(
    file: string,
    bytes: Uint8Array | undefined,
    before: Stored | undefined,
    signal: AbortSignal,
  ): Promise<boolean>;
  /** Lists the files of windows in the range. `folder`: the only one to look into. */
  list(range: WindowRange, folder: string | undefined, signal: AbortSignal): AsyncIterable<Listed>;
  /** Resolves to undefined if the file is gone. */
  read(file: string, signal: AbortSignal): Promise<Reading | undefined>;
  /** Resolves to the text of the marker; undefined if there is none. */
  marker(signal: AbortSignal): Promise<string | undefined>;
  /** Resolves to the bytes of all files; undefined if there are too many to count. */
  bytes(signal: AbortSignal): Promise<number | undefined>;
  /** Says what an error of this store means. */
  explain(error: unknown, signal: AbortSignal): SinkError;
}

/** Says in the root which layout the files have. Readers skip names that begin with an underscore. */
export const MARKER = '_metrics-fanout.json';

/** `id` tells one place from another, and from itself before it was emptied. Older places have none. */
export function markerOf(layout: string, id?: string): string {
  return `${JSON.stringify({ writer: 'metrics-fanout', partition_by: layout, id })}\n`;
}

/** Returns the id in a marker; undefined if it has none. */
export function idIn(marker: string): string | undefined {
  return /"id":"([^"]*)"/.exec(marker)?.[1];
}

/** Throws if the marker is that of another layout: rows would be in two files. */
export function checkMarker(text: string, layout: string): void {
  const id = idIn(text);
  if (text === markerOf(layout, id)) return;
  throw new SinkError(
    'schema_mismatch',
    `${MARKER} says that the files there are laid out in another way`,
    'Set SINK_<ID>_PARTITION_BY to what it was, or SINK_<ID>_URL to another place.',
  );
}

/** The error of a place that was to be in use already, and has no marker. */
export function unmarked(): SinkError {
  return new SinkError(
    'not_found',
    `there is no ${MARKER}`,
    'Mount the file system, or correct SINK_<ID>_URL. For a new place, set SINK_<ID>_CREATE=true.',
  );
}

export function tooLarge(file: string, bytes: number): SinkError {
  return new SinkError(
    'bad_request',
    `${file} would have ${bytes} bytes, of at most ${MAX_FILE_BYTES}`,
    'Set SINK_<ID>_PARTITION_BY=name,date with another SINK_<ID>_URL.',
  );
}
