/** The key-value bucket that holds all that outlives an instance. */

import { setTimeout as sleep } from 'node:timers/promises';
import { ErrorCode, type KV, NatsError, StorageType } from 'nats';
import { BusError } from '../bus-error.ts';
import type { Bus } from '../connect.ts';
import { apiErrorCode, jetstreamError } from '../errors.ts';
import { API_TIMEOUT_MS, streamExists } from '../stream.ts';

export const BUCKET = 'fanout-checkpoints';

/** The bucket holds a few hundred bytes per sink; a bound lets it live on accounts that demand one. */
const MAX_BUCKET_BYTES = 16 * 1024 * 1024;
const MAX_VALUE_BYTES = 64 * 1024;
/** How long one call may take in all. */
export const CALL_TIMEOUT_MS = 10_000;
/** How often a write is tried again after another writer came first. */
export const MAX_CONFLICTS = 5;
const WRONG_LAST_SEQUENCE = 10071;
const CLOCK_KEY = 'clock';

/** Whether the bucket is there already. Rejects with a `BusError` where that cannot be told. */
export function bucketExists(bus: Bus): Promise<boolean> {
  return streamExists(bus, `KV_${BUCKET}`);
}

/** The bucket, made where it is missing. Rejects with a `BusError`. */
export async function openBucket(bus: Bus, replicas: number): Promise<KV> {
  try {
    return await bus.connection.jetstream({ timeout: API_TIMEOUT_MS, checkAPI: false }).views.kv(BUCKET, {
      description: 'how far every sink of metrics-fanout is',
      history: 1,
      storage: StorageType.File,
      replicas,
      max_bytes: MAX_BUCKET_BYTES,
      maxValueSize: MAX_VALUE_BYTES,
      // By the leader: of a cluster's servers, any answers the other requests, also one that lags, and tells of the
      // past.
      allow_direct: false,
      timeout: API_TIMEOUT_MS,
    });
  } catch (error) {
    throw jetstreamError(error, `opening the key-value bucket ${BUCKET}`);
  }
}

/**
 * The server's time (ms since 1970) at some moment of the call: that of an entry which it stamps for us. Rejects with a
 * `BusError` where it is not there, as with a leader that has only just been elected.
 */
export async function readServerTime(bucket: Pick<KV, 'put' | 'get'>): Promise<number> {
  const revision = await bucket.put(CLOCK_KEY, '');
  const entry = await bucket.get(CLOCK_KEY);
  if (entry !== null && entry.revision >= revision) return entry.created.getTime();
  throw new BusError(
    "reading the server's clock: what was just written is not there yet",
    'Wait until the servers have elected a leader.',
    { cause: new NatsError('not there yet', ErrorCode.Timeout) },
  );
}

/** Whether another writer came first. */
export function isConflict(error: unknown): boolean {
  return apiErrorCode(error) === WRONG_LAST_SEQUENCE;
}

/** The bucket, opened when it is first needed, and anew after a call failed. */
export class Bucket {
  readonly #bus: Bus;
  readonly #replicas: number;
  #opened: Promise<KV> | undefined;

  /** `replicas`: should it be missing; as many as the stream has, or it would not survive what that does. */
  constructor(bus: Bus, replicas: number) {
    this.#bus = bus;
    this.#replicas = replicas;
  }

  /** Rejects with a `BusError` after `CALL_TIMEOUT_MS` at the latest. */
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
      // It may have been deleted: begin afresh.
      this.#opened = undefined;
      throw jetstreamError(error, doing);
    } finally {
      timer.abort();
    }
  }
}
