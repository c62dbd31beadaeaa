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
import { type Point, SinkError } from '../../src/sink/index.ts';
import { COLUMNS, columnsOf, keyOf, type Row, rowOf, SCHEMA } from './encode.ts';

/** Rows of a full row group: what a reader decodes at once, and what is decoded again for one changed row. */
const GROUP_ROWS = 20_000;
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

/** Resolves to the file after the change; to undefined if no row is left. `groupRows`: of a full row group. */
export async function changed(
  before: Uint8Array | undefined,
  change: Change,
  signal: AbortSignal,
  groupRows = GROUP_ROWS,
): Promise<Uint8Array | undefined> {
  const writer = new ByteWriter((before?.byteLength ?? 0) + 1024);
  const file = new ParquetWriter({
    writer,
    schema: [...SCHEMA],
    codec: 'ZSTD',
    compressors,
    createdBy: 'metrics-fanout',
  });
  const kept: Row[] = before === undefined ? [] : await keep(before, change, file, groupRows, signal);
  const points = [...change.values()].filter((point) => point !== undefined);
  const count = kept.length + points.length;
  for (let from = 0; from < count; from += groupRows) {
    // Encoding blocks the thread: an abort, or another file, gets a turn after each row group.
    await yieldToEvents();
    signal.throwIfAborted();
    // Rows take many times the memory of points: only those of one row group are made at a time.
    const rows = kept.slice(from, from + groupRows);
    const first = from + rows.length - kept.length;
    rows.push(...points.slice(first, first + groupRows - rows.length).map(rowOf));
    file.write({ columnData: columnsOf(rows), rowGroupSize: groupRows });
  }
  if (file.num_rows === 0n) return undefined;
  file.finish();
  return writer.getBytes();
}

/** Copies the row groups that stay as they are. Resolves to the rows that stay of the others. */
async function keep(
  before: Uint8Array,
  change: Change,
  file: ParquetWriter,
  groupRows: number,
  signal: AbortSignal,
): Promise<Row[]> {
  const source = inMemory(before);
  const kept: Row[] = [];
  for (const group of groupsOf(await footer(source))) {
    await yieldToEvents();
    signal.throwIfAborted();
    if (group.rows >= SMALL_GROUP * groupRows) {
      const ids = await rowsOf(source, group, ['series_id', 'instance']);
      if (!ids.some((row) => change.has(rowKey(row)))) {
        copy(before, group, file);
        continue;
      }
    }
    for (const row of await rowsOf(source, group)) if (!change.has(rowKey(row))) kept.push(row);
  }
  return kept;
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
    yield await rowsOf({ byteLength: file.byteLength, slice }, group, columns);
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

async function rowsOf(file: AsyncBuffer, group: Group, columns?: readonly string[]): Promise<Row[]> {
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
