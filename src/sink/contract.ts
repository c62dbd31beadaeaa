/**
 * The contract between `deliver/` and the sinks: all that a sink author needs. A sink encodes points, writes them,
 * classifies what came back, and reads. Queues, batching, timeouts, retries with backoff and jitter, circuit breaking,
 * checkpoints and counters are the lane's alone; a sink keeps no buffer and makes no second attempt.
 */
import type { MetricType, Point, Series } from '../aggregate/point.ts';
import type { Settings, Values } from '../settings/setting.ts';
import type { PriceModel } from './price.ts';

/** Points within the sink's limits. Keys (windowStart, series, instance) are distinct within a batch. */
export interface Batch {
  readonly points: readonly Point[];
}

/** A point that the store refuses for good: sent again, it would be refused again. */
export interface Rejection {
  /** Index of the point in the batch. */
  readonly index: number;
  readonly reason: RejectReason;
  /** What the store said, without secrets; at most a line. */
  readonly message: string;
}

/** A closed list: it labels a Prometheus counter. */
export const REJECT_REASONS = [
  'too_large',
  'invalid_value',
  'type_conflict',
  'out_of_retention',
  'refused',
] as const;
export type RejectReason = (typeof REJECT_REASONS)[number];

/** Why the lane tries again. A closed list: it labels a Prometheus counter. */
export const RETRY_REASONS = [
  'timeout',
  'connection',
  'throttled',
  'conflict',
  'server_error',
  'unknown',
] as const;
export type RetryReason = (typeof RETRY_REASONS)[number];

/** Why a store refuses the sink as it is configured. A closed list: it labels a Prometheus counter. */
export const REFUSE_REASONS = [
  'unauthorized',
  /** The store's certificate is not one that we trust: nothing was sent. */
  'untrusted',
  'not_found',
  'schema_mismatch',
  'bad_request',
] as const;
export type RefuseReason = (typeof REFUSE_REASONS)[number];

export type WriteOutcome =
  /** The store acknowledged every point of the batch durably. */
  | { readonly kind: 'written' }
  /** Transient, nothing or an unknown part is written: the lane sends the batch again. */
  | {
      readonly kind: 'retry';
      readonly reason: RetryReason;
      readonly message: string;
      readonly afterMs?: number;
    }
  /** Points at `retry` are to be sent again, those in `rejected` never; all others are written. */
  | {
      readonly kind: 'partial';
      readonly retry: readonly number[];
      readonly rejected: readonly Rejection[];
      /** Why the points at `retry` were not taken; `throttled` where absent. */
      readonly reason?: RetryReason;
    }
  /** Permanent for the sink, not for its data: credentials, a missing database. Held and tried at the slowest pace. */
  | { readonly kind: 'refused'; readonly reason: RefuseReason; readonly message: string };

/** Half-open, in milliseconds since 1970: windows with from <= windowStart < to. */
export interface WindowRange {
  readonly from: number;
  readonly to: number;
}

/** A row as the store holds it. `series.id` is the stored one where the store has it. */
export type StoredPoint = Omit<Point, 'windowMs'>;

/** What stores are compared by besides writing: two questions, asked of each in its own words. */
export type Question =
  /**
   * By value of a dimension ('' where it is absent): all points of that name and type with a window in the range.
   * `series` are those of the name, for a store that finds rows by series only; undefined where they are too many.
   */
  | {
      readonly kind: 'sums';
      readonly name: string;
      readonly type: MetricType;
      readonly dimension: string;
      readonly series: readonly Series[] | undefined;
      readonly range: WindowRange;
    }
  /** By start of the window (ms since 1970): the points of one series with a window in the range. */
  | { readonly kind: 'windows'; readonly series: Series; readonly range: WindowRange };

/** Counts and sums of all points that fall under the key, in any order. */
export interface AnswerRow {
  readonly key: string;
  readonly count: number;
  readonly sum: number;
}

export interface Sink {
  /**
   * Connects and makes sure that the schema exists. Repeatable: called with backoff until it resolves, and again after
   * an outcome `refused`. Throws a `SinkError` that says what is wrong.
   */
  open(signal: AbortSignal): Promise<void>;
  /**
   * Overwrites by key: the same batch may come again, and writing it twice leaves the store as writing it once.
   * Several calls may be under way at once (`limits.inFlight`). A throw means "unknown": the batch is sent again.
   */
  write(batch: Batch, signal: AbortSignal): Promise<WriteOutcome>;
  /**
   * What the store itself holds, in any order: read by the store's own query, in bounded memory, never from a cache.
   */
  read(range: WindowRange, signal: AbortSignal): AsyncIterable<StoredPoint>;
  /**
   * What the store itself holds under the keys of these points, in any order; where `read` looks through everything.
   */
  lookUp?(points: Iterable<Point>, signal: AbortSignal): AsyncIterable<StoredPoint>;
  /** Deletes the points of the batch by key; absent ones are no error. `check` clears its probe with it. */
  remove(batch: Batch, signal: AbortSignal): Promise<void>;
  /** May be called twice, and without open. Writes under way may fail. */
  close(): Promise<void>;
  /** By the store's own query, and without holding up writes. Throws where it cannot. */
  ask?(question: Question, signal: AbortSignal): Promise<readonly AnswerRow[]>;
  /** Bytes that the data take in the store; undefined where the store does not say. */
  storage?(signal: AbortSignal): Promise<number | undefined>;
}

/** An error of a sink in words for the operator: what happened, what to do. Never holds a secret. */
export class SinkError extends Error {
  override readonly name = 'SinkError';
  readonly reason: RetryReason | RefuseReason;
  /** What to do about it, as an imperative sentence; empty where only waiting helps. */
  readonly advice: string;

  constructor(reason: RetryReason | RefuseReason, message: string, advice = '', options?: ErrorOptions) {
    super(message, options);
    this.reason = reason;
    this.advice = advice;
  }
}

/** What one write may hold at most; the lane splits windows accordingly. */
export interface SinkLimits {
  readonly maxPoints: number;
  /** By `pointBytes`, an estimate of a point's encoded size. A single point over it still comes alone. */
  readonly maxBytes: number;
  /** Writes under way at once. */
  readonly inFlight: number;
}

/** What a sink gets besides its settings. */
export interface SinkContext {
  /** The sink's id, lower case: `SINK_<ID>_...`. */
  readonly id: string;
  /** After which the signal of a write aborts, in ms: for stores that have a limit of their own. */
  readonly timeoutMs?: number | undefined;
  readonly log: SinkLog;
}

export interface SinkLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

/**
 * How a service that runs reads windows back, to verify them. `ranges`: by `read`. `keys`: `read` would look through
 * all that the store holds, so it asks by `lookUp`, which must be there. `none`: the store keeps nothing that could be
 * read.
 */
export type ReadBack = 'ranges' | 'keys' | 'none';

/** What a sink's folder exports and `sinks/index.ts` lists. */
export interface SinkModule<S extends Settings = Settings> {
  readonly kind: string;
  /** One line for the README's table. */
  readonly summary: string;
  /** Parses and documents the `SINK_<ID>_<NAME>` variables, the name being the key in upper snake case. */
  readonly settings: S;
  readonly limits: SinkLimits;
  /** The same, where they depend on the settings. */
  limitsBy?(config: Values<S>): SinkLimits;
  /** Default: `ranges`. */
  readonly readBack?: ReadBack;
  /** The same, where it depends on the settings. */
  readBackBy?(config: Values<S>): ReadBack;
  /** False where the store cannot delete single points: `remove` does nothing, and what `check` writes stays. */
  readonly removes?: false;
  /** What no single variable can say, such as "required where API is v1": the keys of the settings at fault. */
  validate?(config: Values<S>): readonly { readonly key: keyof S & string; readonly expected: string }[];
  create(config: Values<S>, context: SinkContext): Sink;
  /** Absent where nothing is known of what the store costs. */
  readonly price?: PriceModel;
}

/** Ties the type of `create`'s config to the settings. */
export function defineSink<S extends Settings>(module: SinkModule<S>): SinkModule<S> {
  return module;
}

export function readBackOf(module: SinkModule, config: Values<Settings>): ReadBack {
  return module.readBackBy?.(config) ?? module.readBack ?? 'ranges';
}

export function limitsOf(module: SinkModule, config: Values<Settings>): SinkLimits {
  return module.limitsBy?.(config) ?? module.limits;
}
