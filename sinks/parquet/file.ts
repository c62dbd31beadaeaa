/**
 * One Parquet file: what is in it, and what is in it after a change. A row group that holds no key of the change is
 * taken over as it stands, compressed: a window that comes in k batches costs k times the encoding of one batch, and k
 * times the reading of the ids, not the encoding of all before it.
 */
import { setImmediate as yieldToEvents } from 'node:timers/promises';
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import {
  type AsyncBuffer,
  type FileMetaData,
  parquetMetadataAsync,
  parquetReadObjects,
  type RowGroup,
} from 'hyparquet';
import { ByteWriter, ParquetWriter } from 'hyparquet-writer';
import { POINT_BYTES, type Point, pointBytes, SinkError } from '../../src/sink/index.ts';
import { COLUMNS, columnsOf, keyOf, type Row, rowOf, SCHEMA } from './encode.ts';

/** What a full row group has: what a reader decodes at once, and what is decoded again for one changed row. */
interface GroupLimits {
  readonly rows: number;
  /** Measured by `pointBytes`. */
  readonly bytes: number;
  /**
   * A row group that takes more memory is not decoded. This sink writes none, but an older version may have, which
   * counted only rows, with very long dimensions.
   */
  readonly decodedBytes: number;
}

const LIMITS: GroupLimits = { rows: 20_000, bytes: 16_000_000, decodedBytes: 256 * 1024 * 1024 };
/** A smaller part of a full group is merged with new rows, so that a file never has many small groups. */
const SMALL_GROUP = 0.5;
/** How much of a file's end is read first: the footer takes about 2 KB for each row group. */
const FOOTER_BYTES = 65_536;
const ZSTD_LEVEL = 3;

/** What becomes of keys: the point, or undefined if the row goes. All points are of one file. */
export type Change = ReadonlyMap<string, Point | undefined>;

const utf8 = new TextDecoder('utf-8', { ignoreBOM: true });

const reading = {
  compressors: { ZSTD: (input: Uint8Array) => new Uint8Array(zstdDecompressSync(input)) },
  parsers: {
    // The default drops a byte order mark, which is part of a name as any other character.
    stringFromBytes: (bytes: Uint8Array | undefined) => bytes && utf8.decode(bytes),
    timestampFromMilliseconds: (ms: bigint) => ms,
  },
};

const compressors = {
  ZSTD: (input: Uint8Array) =>
    zstdCompressSync(input, { params: { [constants.ZSTD_c_compressionLevel]: ZSTD_LEVEL } }),
};

/** Resolves to the file after the change; to undefined if no row is left. */
export async function changed(
  before: Uint8Array | undefined,
  change: Change,
  signal: AbortSignal,
  limits: GroupLimits = LIMITS,
): Promise<Uint8Array | undefined> {
  const writer = new ByteWriter((before?.byteLength ?? 0) + 1024);
  const file = new ParquetWriter({
    writer,
    schema: [...SCHEMA],
    codec: 'ZSTD',
    compressors,
    createdBy: 'metrics-fanout',
  });
  const packer = new Packer(file, limits, signal);
  if (before !== undefined) await keep(before, change, packer, file);
  for (const point of change.values()) if (point !== undefined) await packer.add(point);
  await packer.end();
  if (file.num_rows === 0n) return undefined;
  file.finish();
  return writer.getBytes();
}

/** Encodes rows as soon as they fill a row group, so that no more are in memory than one group has. */
class Packer {
  readonly limits: GroupLimits;
  readonly signal: AbortSignal;
  readonly #file: ParquetWriter;
  /** Rows take many times the memory of points: those of points are made when they are encoded. */
  #waiting: (Row | Point)[] = [];
  #bytes = 0;

  constructor(file: ParquetWriter, limits: GroupLimits, signal: AbortSignal) {
    this.#file = file;
    this.limits = limits;
    this.signal = signal;
  }

  /** Resolves at once, unless a row group is full. */
  add(row: Row | Point): Promise<void> | undefined {
    this.#waiting.push(row);
    this.#bytes += isPoint(row) ? pointBytes(row) : rowBytes(row);
    const { rows, bytes } = this.limits;
    return this.#waiting.length >= rows || this.#bytes >= bytes ? this.end() : undefined;
  }

  async end(): Promise<void> {
    if (this.#waiting.length === 0) return;
    // Encoding blocks the thread: an abort, or another file, gets a turn before each row group.
    await yieldToEvents();
    this.signal.throwIfAborted();
    const rows = this.#waiting.map((row) => (isPoint(row) ? rowOf(row) : row));
    this.#file.write({ columnData: columnsOf(rows), rowGroupSize: this.limits.rows });
    this.#waiting = [];
    this.#bytes = 0;
  }
}

function isPoint(row: Row | Point): row is Point {
  return 'series' in row;
}

function rowBytes({ name, dimensions }: Row): number {
  return POINT_BYTES + (name as string).length + (dimensions as string).length;
}

/** Copies the row groups that stay as they are. The rows that stay of the others go to the packer. */
async function keep(before: Uint8Array, change: Change, packer: Packer, file: ParquetWriter): Promise<void> {
  const source = inMemory(before);
  const { rows, bytes, decodedBytes: most } = packer.limits;
  for (const group of groupsOf(await footer(source))) {
    await yieldToEvents();
    packer.signal.throwIfAborted();
    if (group.rows >= SMALL_GROUP * rows || decodedBytes(group) >= SMALL_GROUP * bytes) {
      const ids = await rowsOf(source, group, most, ['series_id', 'instance']);
      if (!ids.some((row) => change.has(rowKey(row)))) {
        copy(before, group, file);
        continue;
      }
    }
    for (const row of await rowsOf(source, group, most)) if (!change.has(rowKey(row))) await packer.add(row);
  }
}

const rowKey = ({ series_id, instance }: Row) => keyOf(series_id as string, instance as string);

function copy(before: Uint8Array, { start, end, meta }: Group, file: ParquetWriter): void {
  const { writer } = file;
  const moved = BigInt(writer.offset - start);
  const shifted = (offset: bigint | undefined) => (offset === undefined ? undefined : offset + moved);
  writer.appendBytes(before.subarray(start, end));
  file.row_groups.push({
    ...meta,
    columns: meta.columns.map((column) => ({
      ...column,
      file_offset: column.file_offset + moved,
      meta_data: column.meta_data && {
        ...column.meta_data,
        data_page_offset: column.meta_data.data_page_offset + moved,
        dictionary_page_offset: shifted(column.meta_data.dictionary_page_offset),
      },
    })),
  } as RowGroup);
  file.num_rows += meta.num_rows;
}

interface Group {
  readonly metadata: FileMetaData;
  readonly meta: RowGroup;
  /** Index of its first row, and how many there are. */
  readonly first: number;
  readonly rows: number;
  /** Where its bytes are in the file. */
  readonly start: number;
  readonly end: number;
}

function groupsOf(metadata: FileMetaData): Group[] {
  let first = 0;
  return metadata.row_groups.map((meta) => {
    const chunks = meta.columns.map(({ meta_data }) => meta_data!);
    const starts = chunks.map((chunk) => Number(chunk.dictionary_page_offset ?? chunk.data_page_offset));
    const ends = chunks.map((chunk, index) => starts[index]! + Number(chunk.total_compressed_size));
    const rows = Number(meta.num_rows);
    first += rows;
    return { metadata, meta, first: first - rows, rows, start: Math.min(...starts), end: Math.max(...ends) };
  });
}

/** Yields the rows of each row group, with these columns or all, one group in memory at a time. */
export async function* groups(file: AsyncBuffer, columns?: readonly string[]): AsyncGenerator<Row[]> {
  for (const group of groupsOf(await footer(file))) {
    const bytes = await file.slice(group.start, group.end);
    const slice = (start: number, end = group.end) => bytes.slice(start - group.start, end - group.start);
    yield await rowsOf({ byteLength: file.byteLength, slice }, group, LIMITS.decodedBytes, columns);
  }
}

async function footer(file: AsyncBuffer): Promise<FileMetaData> {
  const metadata = await parquetMetadataAsync(file, { ...reading, initialFetchSize: FOOTER_BYTES });
  const columns = metadata.schema.slice(1);
  const isOurs =
    columns.length === COLUMNS.length &&
    columns.every(({ name, type }, index) => name === COLUMNS[index]!.name && type === COLUMNS[index]!.type);
  if (!isOurs) throw new SinkError('schema_mismatch', 'it has other columns than this sink writes');
  return metadata;
}

/** Returns how many bytes the columns of a row group take in memory, or all of them, as far as the file says. */
function decodedBytes({ meta, rows }: Group, columns?: readonly string[]): number {
  const sizes = meta.columns.map(({ meta_data }) => {
    const name = meta_data?.path_in_schema[0] ?? '';
    return columns?.includes(name) === false ? 0 : Number(meta_data?.total_uncompressed_size);
  });
  return sizes.reduce((sum, size) => sum + size, rows * POINT_BYTES);
}

async function rowsOf(
  file: AsyncBuffer,
  group: Group,
  maxBytes: number,
  columns?: readonly string[],
): Promise<Row[]> {
  const bytes = decodedBytes(group, columns);
  if (bytes > maxBytes) {
    const what = `a row group takes ${bytes} bytes in memory, of at most ${maxBytes}`;
    throw new SinkError('schema_mismatch', what);
  }
  return await parquetReadObjects({
    ...reading,
    file,
    metadata: group.metadata,
    rowStart: group.first,
    rowEnd: group.first + group.rows,
    ...(columns !== undefined && { columns: [...columns] }),
  });
}

export function inMemory(bytes: Uint8Array): AsyncBuffer {
  return {
    byteLength: bytes.byteLength,
    slice: (start, end = bytes.byteLength) => new Uint8Array(bytes.subarray(start, end)).buffer,
  };
}
