/** Batches as objects in S3, for COPY to read: put there for one attempt, and removed after it, even if it fails. */
import { randomUUID } from 'node:crypto';
import { promisify } from 'node:util';
import { constants, gzip } from 'node:zlib';
import type { S3Client } from '@aws-sdk/client-s3';
import { makeAgents, type Point, resending, type SinkLog } from '../../src/sink/index.ts';
import { awsError } from './classify.ts';
import type { S3Address } from './config.ts';
import { attemptPrefix, manifest, partText, ROWS_PER_PART, s3Url, stagePrefix } from './copy.ts';

/** Connections to S3. */
const SOCKETS = 50;
const REMOVE_TIMEOUT_MS = 5_000;
/** No attempt lasts this long: a killed process left any older object behind. */
const LEFTOVER_AGE_MS = 86_400_000;
/** How many pages of 1,000 leftovers each `open` removes at most. */
const MAX_SWEPT_PAGES = 10;

const compress = promisify(gzip);
type Sdk = typeof import('./aws-sdk.ts');

interface Connected {
  readonly sdk: Sdk;
  readonly client: S3Client;
}

export interface Staged {
  /** URL of the manifest. */
  readonly url: string;
  /** Id of the attempt, unlike that of any other. */
  readonly id: string;
}

export class S3Stage {
  readonly #address: S3Address;
  readonly #region: string | undefined;
  readonly #hasSketch: boolean;
  readonly #log: SinkLog;
  #connected: Promise<Connected> | undefined;
  #closing = new AbortController();
  /** Attempts under way, until their objects are removed. */
  readonly #attempts = new Set<Promise<void>>();

  constructor(address: S3Address, region: string | undefined, hasSketch: boolean, log: SinkLog) {
    this.#hasSketch = hasSketch;
    this.#address = address;
    this.#region = region;
    this.#log = log;
  }

  /** Lends `use` the points as objects in S3 until it settles. Throws a SinkError if S3 fails. */
  async lend<T>(
    points: readonly Point[],
    signal: AbortSignal,
    use: (staged: Staged) => Promise<T>,
  ): Promise<T> {
    const id = randomUUID();
    const keys: string[] = [];
    const prefix = attemptPrefix(this.#address, Date.now(), id);
    const working = this.#put(points, prefix, keys, signal).then((url) => use({ url, id }));
    // Not awaited: whether the rows are in the table does not depend on whether the objects are gone.
    const cleaned = working.then(ignore, ignore).then(() => this.#remove(keys));
    this.#attempts.add(cleaned);
    void cleaned.then(() => this.#attempts.delete(cleaned));
    return await working;
  }

  /** Resolves to the manifest's URL. `keys` receives every key that may exist, even if this throws. */
  async #put(points: readonly Point[], prefix: string, keys: string[], signal: AbortSignal): Promise<string> {
    const either = AbortSignal.any([signal, this.#closing.signal]);
    try {
      for (let from = 0; from < points.length; from += ROWS_PER_PART) {
        const text = partText(points.slice(from, from + ROWS_PER_PART), this.#hasSketch);
        const part = await compress(text, { level: constants.Z_BEST_SPEED });
        await this.#putObject(`${prefix}part-${keys.length}.gz`, part, keys, either);
      }
      const manifestKey = `${prefix}manifest`;
      await this.#putObject(manifestKey, manifest(this.#address, keys), keys, either);
      return s3Url(this.#address, manifestKey);
    } catch (error) {
      throw awsError(error, 's3', either);
    }
  }

  async #putObject(key: string, body: Buffer | string, keys: string[], signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const { sdk, client } = await this.#connect();
    keys.push(key);
    const command = new sdk.PutObjectCommand({ Bucket: this.#address.bucket, Key: key, Body: body });
    await client.send(command, { abortSignal: signal });
  }

  /** Never throws: a later `open` removes what is left. */
  async #remove(keys: readonly string[]): Promise<void> {
    if (keys.length === 0) return;
    const signal = AbortSignal.timeout(REMOVE_TIMEOUT_MS);
    try {
      await this.#delete(keys, signal);
    } catch (error) {
      const { message } = awsError(error, 's3', signal);
      this.#log.warn(
        { bucket: this.#address.bucket, keys, error: message },
        'could not remove objects from S3',
      );
    }
  }

  async #delete(keys: readonly string[], signal: AbortSignal): Promise<void> {
    const { sdk, client } = await this.#connect();
    const objects = keys.map((Key) => ({ Key }));
    const command = new sdk.DeleteObjectsCommand({
      Bucket: this.#address.bucket,
      Delete: { Objects: objects, Quiet: true },
    });
    const { Errors = [] } = await client.send(command, { abortSignal: signal });
    const [first] = Errors;
    if (first !== undefined) throw Object.assign(new Error(first.Message ?? ''), { name: first.Code ?? '' });
  }

  /**
   * Opens, again after `close`, and removes what killed processes left behind. If that fails, only logs a warning.
   */
  async open(signal: AbortSignal): Promise<void> {
    if (this.#closing.signal.aborted) this.#closing = new AbortController();
    try {
      for (let page = 0; page < MAX_SWEPT_PAGES; page += 1) {
        const { leftovers, isLast } = await this.#leftovers(signal);
        if (leftovers.length > 0) await this.#delete(leftovers, signal);
        if (isLast) return;
      }
    } catch (error) {
      signal.throwIfAborted();
      const { message } = awsError(error, 's3', signal);
      const { bucket } = this.#address;
      this.#log.warn(
        { bucket, prefix: stagePrefix(this.#address), error: message },
        'could not look for leftovers: grant s3:ListBucket, or let a lifecycle rule remove them',
      );
    }
  }

  /** Resolves to one page of leftovers, oldest first. The first page that holds anything else is the last. */
  async #leftovers(signal: AbortSignal): Promise<{ leftovers: string[]; isLast: boolean }> {
    const { sdk, client } = await this.#connect();
    const { bucket } = this.#address;
    const command = new sdk.ListObjectsV2Command({ Bucket: bucket, Prefix: stagePrefix(this.#address) });
    const { Contents = [], IsTruncated = false } = await client.send(command, { abortSignal: signal });
    const before = Date.now() - LEFTOVER_AGE_MS;
    const old = Contents.filter(({ LastModified }) => (LastModified?.getTime() ?? Infinity) < before);
    const leftovers = old.flatMap(({ Key }) => Key ?? []);
    return { leftovers, isLast: !IsTruncated || leftovers.length < Contents.length };
  }

  /** Aborts the uploads, and waits until the objects are removed. */
  async close(): Promise<void> {
    this.#closing.abort();
    await Promise.all(this.#attempts);
    const connected = this.#connected;
    this.#connected = undefined;
    (await connected?.catch(ignore))?.client.destroy();
  }

  /** The lane retries, so the SDK must not. The SDK is loaded here, because most services do not need it. */
  #connect(): Promise<Connected> {
    this.#connected ??= import('./aws-sdk.ts').then((sdk) => ({
      sdk,
      client: resending(
        new sdk.S3Client({
          maxAttempts: 1,
          requestHandler: makeAgents(SOCKETS),
          ...(this.#region === undefined ? {} : { region: this.#region }),
        }),
      ),
    }));
    return this.#connected;
  }
}

function ignore(): void {}
