/**
 * A bucket in S3. An object is put on the condition that it is still the one that was read, which S3 checks: two
 * processes, or a request that arrives late, cannot undo what another one wrote.
 */
import { randomUUID } from 'node:crypto';
import { addAbortSignal, type Readable } from 'node:stream';
import type { S3Client } from '@aws-sdk/client-s3';
import { awsErrorName, makeAgents, resending, SinkError, type WindowRange } from '../../src/sink/index.ts';
import { explainBucket } from './classify.ts';
import type { Place } from './config.ts';
import { inMemory } from './file.ts';
import { DATE_KEY, dateFolder, EXTENSION, NAME_KEY, stamp, windowOf } from './layout.ts';
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

/** Connections to S3. */
const SOCKETS = 50;
const WHOLE_BYTES = 8 * 1024 * 1024;
/** More than so many pages of 1,000 files are not counted. */
const MAX_COUNTED_PAGES = 1_000;

type Sdk = typeof import('./s3-sdk.ts');

interface Connected {
  readonly sdk: Sdk;
  readonly client: S3Client;
}

interface Answer {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly etag: string;
  /** Of the whole object. */
  readonly size: number;
}

export interface BucketOptions {
  readonly place: Extract<Place, { kind: 'bucket' }>;
  readonly region: string | undefined;
  readonly endpoint: string | undefined;
  readonly making: Making;
  /** Whether a prefix that was not used before is taken. */
  readonly create: boolean;
  readonly readOnly: boolean;
  /** A file up to this size is read with one request, a larger one row group by row group. Default: 8 MiB. */
  readonly wholeBytes?: number;
}

export class BucketStore implements FileStore {
  readonly #options: BucketOptions;
  #connected: Promise<Connected> | undefined;
  #closing = new AbortController();

  constructor(options: BucketOptions) {
    this.#options = options;
  }

  async open(layout: string, signal: AbortSignal): Promise<void> {
    if (this.#closing.signal.aborted) this.#closing = new AbortController();
    const { making, create, readOnly } = this.#options;
    const atFirst = await this.marker(signal);
    if (atFirst === undefined && !create && !readOnly) throw unmarked();
    const marker = Buffer.from(atFirst ?? markerOf(layout, randomUUID()));
    if (atFirst === undefined) await making(() => this.replace(MARKER, marker, undefined, signal));
    // A store that lets it be put again as a new one does not check conditions.
    if (!readOnly && (await this.replace(MARKER, marker, undefined, signal))) throw unconditional();
    const found = await this.marker(signal);
    if (found === undefined) throw unmarked();
    checkMarker(found, layout);
  }

  async marker(signal: AbortSignal): Promise<string | undefined> {
    const found = await this.#get(MARKER, {}, signal);
    return found && Buffer.from(found.bytes).toString();
  }

  async close(): Promise<void> {
    this.#closing.abort();
    const connected = this.#connected;
    this.#connected = undefined;
    (await connected?.catch(() => undefined))?.client.destroy();
  }

  async get(file: string, signal: AbortSignal, admit?: Admit): Promise<Stored | undefined> {
    const found = await this.#get(file, {}, signal, admit);
    return found && { bytes: found.bytes, version: found.etag, release: async () => {} };
  }

  async replace(
    file: string,
    bytes: Uint8Array | undefined,
    before: Stored | undefined,
    signal: AbortSignal,
  ): Promise<boolean> {
    const { sdk, client } = await this.#connect();
    const object = { Bucket: this.#options.place.bucket, Key: this.#key(file) };
    const condition = before === undefined ? { IfNoneMatch: '*' } : { IfMatch: before.version };
    const abortSignal = this.#either(signal);
    try {
      if (bytes === undefined) {
        const command = new sdk.DeleteObjectCommand({ ...object, IfMatch: before?.version });
        await client.send(command, { abortSignal });
      } else {
        // If the one before has put it all the same, this one is refused, and the file is read again.
        const command = new sdk.PutObjectCommand({ ...object, ...condition, Body: bytes });
        await client.send(command, { abortSignal });
      }
      return true;
    } catch (error) {
      if (isConflict(error)) return false;
      throw awsErrorName(error) === 'NotImplemented' ? unconditional() : error;
    }
  }

  async *list(range: WindowRange, folder: string | undefined, signal: AbortSignal): AsyncGenerator<Listed> {
    const from = `${dateFolder(range.from)}/${stamp(range.from)}`;
    for await (const parent of this.#parents(folder, signal)) {
      const prefix = this.#key(`${parent}${DATE_KEY}`);
      for await (const { Key = '' } of this.#objects(prefix, this.#key(parent + from), signal)) {
        const windowStart = windowOf(Key.slice(Key.lastIndexOf('/') + 1));
        if (windowStart === undefined || windowStart < range.from) continue;
        if (windowStart >= range.to) break;
        yield { file: Key.slice(this.#options.place.prefix.length), windowStart };
      }
    }
  }

  /** Yields the folders with dates, each with its slash: the root, or those of names. */
  async *#parents(folder: string | undefined, signal: AbortSignal): AsyncGenerator<string> {
    if (folder !== undefined) {
      yield folder === '' ? '' : `${folder}/`;
      return;
    }
    yield '';
    const prefix = this.#key(NAME_KEY);
    for await (const { CommonPrefixes = [] } of this.#pages({ Prefix: prefix, Delimiter: '/' }, signal)) {
      yield* CommonPrefixes.map(({ Prefix = '' }) => Prefix.slice(this.#options.place.prefix.length));
    }
  }

  async *#objects(prefix: string, after: string, signal: AbortSignal) {
    for await (const { Contents = [] } of this.#pages({ Prefix: prefix, StartAfter: after }, signal))
      yield* Contents;
  }

  async *#pages(query: { Prefix: string; Delimiter?: string; StartAfter?: string }, signal: AbortSignal) {
    const { sdk, client } = await this.#connect();
    const { bucket } = this.#options.place;
    let token: string | undefined;
    do {
      const command = new sdk.ListObjectsV2Command({ Bucket: bucket, ...query, ContinuationToken: token });
      const abortSignal = this.#either(signal);
      const page = await client.send(command, { abortSignal });
      yield page;
      token = page.NextContinuationToken;
    } while (token !== undefined);
  }

  async read(file: string, signal: AbortSignal): Promise<Reading | undefined> {
    const first = await this.#get(
      file,
      { Range: `bytes=0-${(this.#options.wholeBytes ?? WHOLE_BYTES) - 1}` },
      signal,
    );
    if (first === undefined) return undefined;
    const { size, etag } = first;
    const start = inMemory(first.bytes);
    return {
      byteLength: size,
      slice: async (from, to = size) => {
        if (to <= first.bytes.byteLength) return await start.slice(from, to);
        // The condition: all of it is of one version.
        const part = await this.#get(file, { Range: `bytes=${from}-${to - 1}`, IfMatch: etag }, signal);
        if (part === undefined) throw new SinkError('conflict', 'the file was removed while it was read');
        return part.bytes.buffer;
      },
      close: async () => {},
    };
  }

  /** Resolves to undefined if there is no such object. */
  async #get(
    file: string,
    options: { Range?: string; IfMatch?: string },
    signal: AbortSignal,
    admit?: Admit,
  ): Promise<Answer | undefined> {
    const { sdk, client } = await this.#connect();
    const abortSignal = this.#either(signal);
    const command = new sdk.GetObjectCommand({
      Bucket: this.#options.place.bucket,
      Key: this.#key(file),
      ...options,
    });
    try {
      const {
        Body,
        ETag = '',
        ContentLength = 0,
        ContentRange,
      } = await client.send(command, { abortSignal });
      // The SDK's own signal ends with the headers.
      const body = addAbortSignal(abortSignal, Body as Readable);
      if (ContentLength > MAX_FILE_BYTES) {
        body.destroy();
        throw tooLarge(file, ContentLength);
      }
      await admit?.(ContentLength);
      return {
        bytes: await collect(body, ContentLength),
        etag: ETag,
        size: sizeIn(ContentRange) ?? ContentLength,
      };
    } catch (error) {
      if (awsErrorName(error) === 'NoSuchKey') return undefined;
      if (isConflict(error)) throw new SinkError('conflict', 'the file was replaced while it was read');
      throw error;
    }
  }

  async bytes(signal: AbortSignal): Promise<number | undefined> {
    let bytes = 0;
    let pages = 0;
    for await (const { Contents = [] } of this.#pages({ Prefix: this.#options.place.prefix }, signal)) {
      pages += 1;
      if (pages > MAX_COUNTED_PAGES) return undefined;
      for (const { Key, Size = 0 } of Contents) if (Key?.endsWith(EXTENSION)) bytes += Size;
    }
    return bytes;
  }

  explain(error: unknown, signal: AbortSignal): SinkError {
    return explainBucket(error, signal);
  }

  #key(file: string): string {
    return this.#options.place.prefix + file;
  }

  #either(signal: AbortSignal): AbortSignal {
    return AbortSignal.any([signal, this.#closing.signal]);
  }

  /** The lane retries, so the SDK must not. The SDK is loaded here, because a folder does not need it. */
  #connect(): Promise<Connected> {
    const { region, endpoint } = this.#options;
    this.#connected ??= import('./s3-sdk.ts').then((sdk) => ({
      sdk,
      client: resending(
        new sdk.S3Client({
          maxAttempts: 1,
          requestHandler: makeAgents(SOCKETS),
          ...(region !== undefined && { region }),
          ...(endpoint !== undefined && { endpoint, forcePathStyle: true }),
        }),
      ),
    }));
    return this.#connected;
  }
}

/** What S3 answers if the object is not the one that the condition names. */
const CONFLICTS = ['PreconditionFailed', 'ConditionalRequestConflict', 'NoSuchKey', 'NotFound'];

function isConflict(error: unknown): boolean {
  return CONFLICTS.includes(awsErrorName(error));
}

function unconditional(): SinkError {
  return new SinkError(
    'bad_request',
    'the store does not check If-None-Match and If-Match when an object is put, so two writers would undo each other',
    'Use a store that checks them, as S3 does, or a folder.',
  );
}

async function collect(body: Readable, length: number): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(length);
  let at = 0;
  for await (const chunk of body as AsyncIterable<Uint8Array>) {
    bytes.set(chunk, at);
    at += chunk.byteLength;
  }
  if (at !== length) throw new SinkError('connection', 'the answer of S3 ended early');
  return bytes;
}

/** Of `bytes 0-9/100`. */
function sizeIn(range: string | undefined): number | undefined {
  const size = Number(range?.split('/')[1]);
  return Number.isSafeInteger(size) ? size : undefined;
}
