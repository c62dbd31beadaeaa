/** The key-value bucket that holds everything that outlives an instance. */

import { setTimeout as sleep } from 'node:timers/promises';
import { ErrorCode, type KV, NatsError, StorageType } from 'nats';
import { BucketGone, BusError } from '../bus-error.ts';
import type { Bus } from '../connect.ts';
import { apiErrorCode, jetstreamError } from '../errors.ts';
import { API_TIMEOUT_MS, jetStreamOptions } from '../jetstream-api.ts';
import { describeStream, manager, REMAKE_WAIT_MS, refuseHistory, streamExists } from '../stream.ts';

export const BUCKET = 'fanout-checkpoints';

/** The bucket holds a few hundred bytes per sink. A bound lets it live on accounts that require one. */
const MAX_BUCKET_BYTES = 16 * 1024 * 1024;
export const MAX_VALUE_BYTES = 64 * 1024;
/** How long one call may take in total. */
export const CALL_TIMEOUT_MS = 10_000;
/** How often a write is retried after another writer came first. */
export const MAX_CONFLICTS = 5;
const WRONG_LAST_SEQUENCE = 10071;
const CLOCK_KEY = 'clock';

/** Resolves to whether the bucket exists. Rejects with a `BusError` if it cannot find out. */
export function bucketExists(bus: Bus): Promise<boolean> {
  return streamExists(bus, `KV_${BUCKET}`);
}

/** By connection: whether the bucket was there, and since when (steady ms) it has been known to be gone. */
const known = new WeakMap<Bus, { goneSince: number | undefined }>();

/**
 * Resolves to the bucket, which is created if missing. Rejects with a `BusError`. One that was deleted while this
 * connection was in use is made again after a pause, as the stream is, and used once it keeps what is written to it.
 */
export async function openBucket(bus: Bus, replicas: number): Promise<KV> {
  const before = known.get(bus);
  if (before !== undefined && !(await bucketExists(bus))) {
    before.goneSince ??= performance.now();
    if (performance.now() - before.goneSince < REMAKE_WAIT_MS) {
      throw new BucketGone(
        `the key-value bucket ${BUCKET} is gone; it is made again after a pause`,
        'Check who deletes it. The checkpoints are written again.',
      );
    }
  }
  const bucket = await makeOrFind(bus, replicas);
  if (before?.goneSince !== undefined) await prove(bus, bucket);
  known.set(bus, { goneSince: undefined });
  return bucket;
}

/** Rejects with a `BucketGone` if the new bucket has a history, or does not keep what is written to it. */
async function prove(bus: Bus, bucket: KV): Promise<void> {
  try {
    const of = { metricsStream: `KV_${BUCKET}`, metricsSubjects: [`$KV.${BUCKET}.>`] };
    refuseHistory(await describeStream(bus, of));
    await readServerTime(bucket);
  } catch (error) {
    const { message, advice } = jetstreamError(error, `trying the new key-value bucket ${BUCKET}`);
    throw new BucketGone(message, advice, { cause: error });
  }
}

async function makeOrFind(bus: Bus, replicas: number): Promise<KV> {
  try {
    return await bus.connection.jetstream(jetStreamOptions(bus)).views.kv(BUCKET, {
      description: 'how far each sink of metrics-fanout has got',
      history: 1,
      storage: StorageType.File,
      replicas,
      max_bytes: MAX_BUCKET_BYTES,
      maxValueSize: MAX_VALUE_BYTES,
      // Read from the leader. Direct requests are answered by any server of the cluster, even one that lags and returns
      // old values.
      allow_direct: false,
      timeout: API_TIMEOUT_MS,
    });
  } catch (error) {
    throw jetstreamError(error, `opening the key-value bucket ${BUCKET}`);
  }
}

/**
 * Resolves to the keys that begin with `prefix` and a dot, deleted ones included. Asks for the subjects of the bucket's
 * stream: the client's own way, a consumer that the server pushes to us, does not work through an account's import.
 */
export async function keysUnder(bus: Bus, prefix: string): Promise<string[]> {
  const all = `$KV.${BUCKET}.`;
  const jsm = await manager(bus);
  const { state } = await jsm.streams.info(`KV_${BUCKET}`, { subjects_filter: `${all}${prefix}.>` });
  return Object.keys(state.subjects ?? {}).map((subject) => subject.slice(all.length));
}

/**
 * Resolves to the server's time (ms since 1970) at some moment during the call: the timestamp that the server gives an
 * entry of ours. Rejects with a `BusError` if the entry is not visible, as happens with a leader that has only just
 * been elected.
 */
export async function readServerTime(bucket: Pick<KV, 'put' | 'get'>): Promise<number> {
  const revision = await bucket.put(CLOCK_KEY, '');
  const entry = await bucket.get(CLOCK_KEY);
  if (entry !== null && entry.revision >= revision) return entry.created.getTime();
  throw new BusError(
    "reading the server's clock: the entry just written is not visible yet",
    'Wait until the servers have elected a leader.',
    { cause: new NatsError('not visible yet', ErrorCode.Timeout) },
  );
}

/** Returns whether the error means that another writer came first. */
export function isConflict(error: unknown): boolean {
  return apiErrorCode(error) === WRONG_LAST_SEQUENCE;
}

/** The bucket, opened when first needed and reopened after a call failed. */
export class Bucket {
  readonly #bus: Bus;
  readonly #replicas: number;
  #opened: Promise<KV> | undefined;

  /**
   * `replicas`: used if the bucket has to be created. As many as the stream has, or the bucket would not survive what
   * the stream survives.
   */
  constructor(bus: Bus, replicas: number) {
    this.#bus = bus;
    this.#replicas = replicas;
  }

  /** Calls `work` with the bucket. Rejects with a `BusError` after at most `CALL_TIMEOUT_MS`. */
  async call<T>(doing: string, work: (bucket: KV) => Promise<T>): Promise<T> {
    const timer = new AbortController();
    const expired = sleep(CALL_TIMEOUT_MS, undefined, timer).then(() => {
      throw new BusError(
        `${doing}: no answer within ${CALL_TIMEOUT_MS} ms`,
        'Check the health of the server.',
        { cause: new NatsError('no answer', ErrorCode.Timeout) },
      );
    });
    expired.catch(() => {});
    this.#opened ??= openBucket(this.#bus, this.#replicas);
    const done = this.#opened.then(work);
    done.catch(() => {});
    try {
      return await Promise.race([done, expired]);
    } catch (error) {
      // The bucket may have been deleted: open it again.
      this.#opened = undefined;
      throw jetstreamError(error, doing);
    } finally {
      timer.abort();
    }
  }
}
