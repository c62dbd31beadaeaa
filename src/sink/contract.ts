/**
 * The contract between `deliver/` and the sinks: all that a sink author needs. A sink encodes points, writes them,
 * classifies the store's answer, and reads. Queues, batching, timeouts, retries with backoff and jitter, circuit
 * breaking, checkpoints and counters belong to the lane alone. A sink keeps no buffer and makes no second attempt.
 */
import type { MetricType, Point, Series } from '../aggregate/point.ts';
import { errorText } from '../base/error-text.ts';
import type { Settings, Values } from '../settings/setting.ts';
import type { SinkBus } from './bus-port.ts';
import type { PriceModel } from './price.ts';

/** Points within the sink's limits. Keys (windowStart, series, instance) are distinct within a batch. */
export interface Batch {
  readonly points: readonly Point[];
}

/** A point that the store refuses for good: if it were sent again, the store would refuse it again. */
export interface Rejection {
  /** Index of the point in the batch. */
  readonly index: number;
  readonly reason: RejectReason;
  /** What the store said, without secrets, on one line. */
  readonly message: string;
}

/** A closed list: it labels a Prometheus counter. */
export const REJECT_REASONS = [
  'too_large',
  'invalid_value',
  'type_conflict',
  'out_of_retention',
  'refused',
  /** The store dropped the point, and nobody knows which one it was. */
  'unidentified',
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

/** Why a store refuses the sink in its present configuration. A closed list: it labels a Prometheus counter. */
export const REFUSE_REASONS = [
  'unauthorized',
  /** We do not trust the store's certificate; nothing was sent. */
  'untrusted',
  'not_found',
  'schema_mismatch',
  'bad_request',
] as const;
export type RefuseReason = (typeof REFUSE_REASONS)[number];

/** Whether it is a reason for which only an operator can help. */
export function isRefusal(reason: string): reason is RefuseReason {
  return (REFUSE_REASONS as readonly string[]).includes(reason);
}

/** Points that are lost in the store, and that nobody can name. */
export interface Unidentified {
  /** How many, as far as it is known; at least 1. */
  readonly count: number;
  /** What the store said, without secrets, on one line. */
  readonly message: string;
}

export type WriteOutcome =
  /** The store acknowledged every point of the batch durably. */
  | { readonly kind: 'written' }
  /** A transient failure. Nothing was written, or an unknown part: the lane sends the whole batch again. */
  | {
      readonly kind: 'retry';
      readonly reason: RetryReason;
      readonly message: string;
      readonly afterMs?: number;
    }
  /**
   * The lane sends the points at `retry` again, and never those in `rejected`. All others are written, except as many
   * as `unidentified` says.
   */
  | {
      readonly kind: 'partial';
      readonly retry: readonly number[];
      readonly rejected: readonly Rejection[];
      /** Points that the store dropped for good without saying which. They count as rejected. */
      readonly unidentified?: Unidentified;
      /** Why the store did not take the points at `retry`. Default: `throttled`. */
      readonly reason?: RetryReason;
    }
  /**
   * The store refuses the sink, not its data: wrong credentials, a missing database. The lane keeps the batch and tries
   * again at its slowest pace.
   */
  | { readonly kind: 'refused'; readonly reason: RefuseReason; readonly message: string };

/** A half-open range, in milliseconds since 1970: the windows with from <= windowStart < to. */
export interface WindowRange {
  readonly from: number;
  readonly to: number;
}

/** A row as the store holds it. `series.id` is the stored id if the store keeps it. */
export type StoredPoint = Omit<Point, 'windowMs'>;

/** Two questions by which stores are compared. Each store answers them with its own query. */
export type Question =
  /**
   * Sums by value of a dimension ('' if a point lacks it), over all points of that name and type with a window in the
   * range. `series` lists the series of that name, for a store that can find rows only by series; undefined if there
   * are too many.
   */
  | {
      readonly kind: 'sums';
      readonly name: string;
      readonly type: MetricType;
      readonly dimension: string;
      readonly series: readonly Series[] | undefined;
      readonly range: WindowRange;
    }
  /** Sums by start of the window (ms since 1970), over the points of one series with a window in the range. */
  | { readonly kind: 'windows'; readonly series: Series; readonly range: WindowRange };

/** The count and the sum of all points with that key. Rows come in any order. */
export interface AnswerRow {
  readonly key: string;
  readonly count: number;
  readonly sum: number;
}

/**
 * A question of `trial`, such as dashboards ask. Each store answers it with its own query. `series` lists the series of
 * the name, for a store that can find rows only by series; undefined if there are too many.
 */
export type Query =
  /**
   * Sums of `sum` over the points of that name and type that have these values of dimensions, for each combination of
   * values of `by` ('' if a point lacks the dimension). With `stepMs`, for each step as well: a multiple of it since
   * 1970, which comes first in the key. With `top`, only that many rows, the largest.
   */
  | {
      readonly kind: 'sums';
      readonly name: string;
      readonly type: MetricType;
      readonly where: readonly (readonly [dimension: string, value: string])[];
      readonly by: readonly string[];
      readonly stepMs?: number | undefined;
      readonly top?: number | undefined;
      readonly series: readonly Series[] | undefined;
      readonly range: WindowRange;
    }
  /** The sum of each window of one series, by start of the window. */
  | { readonly kind: 'windows'; readonly series: Series; readonly range: WindowRange }
  /** The highest p99 of any point of that timer. The key is empty. */
  | {
      readonly kind: 'highest_p99';
      readonly name: string;
      readonly series: readonly Series[] | undefined;
      readonly range: WindowRange;
    }
  /** How many series have a point. The key is empty. */
  | { readonly kind: 'live_series'; readonly range: WindowRange };

export interface QueryRow {
  readonly key: readonly string[];
  readonly value: number;
}

/** See `Sink.giveReceipt`. */
export interface ReceiptBefore {
  readonly before: number | undefined;
}

/** Whether a store with this receipt has not lost any: only then does `giveReceipt` change it. */
export function isAsKnown(before: number | undefined, known: number | undefined): boolean {
  return known === undefined || (before !== undefined && before >= known);
}

export interface Sink {
  /**
   * Connects and makes sure that the schema exists. The lane calls it with backoff until it resolves, and again after
   * an outcome `refused`, so it must be repeatable. Throws a `SinkError` that says what is wrong.
   */
  open(signal: AbortSignal): Promise<void>;
  /**
   * Writes points, overwriting by key: the same batch may come again, and writing it twice must leave the store as
   * writing it once does. Several calls may be under way at once (`limits.inFlight`). A throw counts as `unknown`: the
   * lane sends the batch again.
   */
  write(batch: Batch, signal: AbortSignal): Promise<WriteOutcome>;
  /**
   * Yields what the store itself holds, in any order: by the store's own query, in bounded memory, never from a cache.
   */
  read(range: WindowRange, signal: AbortSignal): AsyncIterable<StoredPoint>;
  /**
   * Yields what the store itself holds under the keys of these points, in any order. For a store whose `read` scans
   * everything.
   */
  lookUp?(points: Iterable<Point>, signal: AbortSignal): AsyncIterable<StoredPoint>;
  /**
   * Deletes the points of the batch by key; an absent point is not an error. `check` removes its probe with it, and the
   * service what a rollback of the stream took back.
   */
  remove(batch: Batch, signal: AbortSignal): Promise<void>;
  /** Closes the connections. May be called twice, and without `open`. Writes under way may fail. */
  close(): Promise<void>;
  /** Answers the question by the store's own query, without holding up writes. Throws if it cannot. */
  ask?(question: Question, signal: AbortSignal): Promise<readonly AnswerRow[]>;
  /**
   * Resolves to what tells this store from every other one, and from itself before it was emptied: random, made when it
   * is first asked for, and kept where it goes when the rows go. The same for everyone who writes to the same rows. At
   * most 100 characters. Called after `open`, and again before the first write after a failure: if it differs from that
   * of the checkpoint, the store gets all windows again. Undefined if the store cannot keep one, or does not let us.
   */
  identity?(signal: AbortSignal): Promise<string | undefined>;
  /**
   * Resolves to the receipt of a writer, a time in ms since 1970, as the store itself holds it; undefined if it holds
   * none. The writer is named by letters, digits, `.`, `-` and `_`. Called after `identity`: a receipt older than that
   * of the checkpoint shows that the store holds older content, and what is behind is written again. So it must be
   * restored together with the rows, and every receipt that was acknowledged must be read.
   */
  receipt?(writer: string, signal: AbortSignal): Promise<number | undefined>;
  /**
   * Makes `time` the receipt of the writer, unless it has a later one, or, with `known`, none or one before `known`:
   * then it stays. Resolves to the one that was there before; to undefined if the store cannot keep receipts, or does
   * not let us. Called after a window is confirmed, at most once a second.
   */
  giveReceipt?(
    writer: string,
    time: number,
    known: number | undefined,
    signal: AbortSignal,
  ): Promise<ReceiptBefore | undefined>;
  /** Resolves to how many bytes the data take in the store; undefined if the store does not say. */
  storage?(signal: AbortSignal): Promise<number | undefined>;
  /** Answers a question of `trial` by the store's own query. Throws if it cannot. */
  query?(query: Query, signal: AbortSignal): Promise<readonly QueryRow[]>;
  /** Resolves to the version of the store, in its own words; undefined if it does not say. */
  version?(signal: AbortSignal): Promise<string | undefined>;
  /** Has the store do at once what it would do with new rows later: merge, flush, collect statistics. */
  compact?(signal: AbortSignal): Promise<void>;
  /**
   * Makes the table that the settings name, and marks it as one of a trial. Called in place of the first `open`. Throws
   * if there is such a table already. Leave out both this and `drop` if the store cannot keep the mark.
   */
  claim?(signal: AbortSignal): Promise<void>;
  /**
   * Deletes the table with all rows. Throws unless its name is that of a trial (`TRIAL_PREFIX`) and `claim` marked it;
   * does nothing if there is none.
   */
  drop?(signal: AbortSignal): Promise<void>;
  /**
   * Lists the names of tables that look like those of trials, where the settings of a trial would put them: what
   * `claim` made and nobody deleted. Called without `open`, of the live settings.
   */
  trials?(signal: AbortSignal): Promise<readonly string[]>;
}

/** A sink's error, in words for the operator: what happened and what to do. Never holds a secret. */
export class SinkError extends Error {
  override readonly name = 'SinkError';
  readonly reason: RetryReason | RefuseReason;
  /** What to do about it, as an imperative sentence; empty if only waiting helps. */
  readonly advice: string;

  constructor(reason: RetryReason | RefuseReason, message: string, advice = '', options?: ErrorOptions) {
    super(message, options);
    this.reason = reason;
    this.advice = advice;
  }
}

/** Returns what happened and what to do about it, as two sentences. */
export function withAdvice({ message, advice }: SinkError): string {
  if (advice === '') return message;
  return /[.!?:;]$/.test(message) ? `${message} ${advice}` : `${message}. ${advice}`;
}

/** Returns what a sink has thrown, in words. */
export function failureInWords(error: unknown): string {
  return error instanceof SinkError ? withAdvice(error) : errorText(error);
}

/** The most that one write may hold. The lane splits windows accordingly. */
export interface SinkLimits {
  readonly maxPoints: number;
  /** Measured by `pointBytes`, an estimate of a point's encoded size. A larger point still comes, but alone. */
  readonly maxBytes: number;
  /** How many writes may be under way at once. */
  readonly inFlight: number;
}

/** What a sink gets in addition to its settings. */
export interface SinkContext {
  /** The sink's id, lower case: `SINK_<ID>_...`. */
  readonly id: string;
  /** Milliseconds after which the signal of a write aborts: for stores with a time limit of their own. */
  readonly timeoutMs?: number | undefined;
  readonly log: SinkLog;
  /** The sink is only read: it makes nothing in the store, and fails to open if what it needs is missing. */
  readonly readOnly?: boolean | undefined;
  /**
   * Connects to the bus of the service, and signs in as the service does: for a sink that publishes there. Rejects with
   * a `SinkError`. Undefined where there is no bus.
   */
  readonly connectBus?: (() => Promise<SinkBus>) | undefined;
}

export interface SinkLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

/** What the setting SKETCH of a store means. */
export const SKETCH_MEANS =
  'true: timers have a column sketch, from which percentiles over any windows and series can be computed';

/**
 * How the running service reads windows back to verify them. `ranges`: by `read`. `keys`: by `lookUp`, which must then
 * exist, because `read` would scan the whole store. `none`: the store keeps nothing that could be read.
 */
export type ReadBack = 'ranges' | 'keys' | 'none';

/** How a name begins that `trial` gives to a table. */
export const TRIAL_PREFIX = 'trial_';
/** What marks such a table, where the store keeps remarks. */
export const TRIAL_MARK = 'made by metrics-fanout trial';

/** Throws unless the name is one that `trial` gives: `drop` deletes nothing else. */
export function mustBeOfTrial(name: string): void {
  if (/^trial_[a-z0-9_]+$/.test(name)) return;
  throw new SinkError('bad_request', `${name} is not a table of a trial`, 'Nothing was deleted.');
}

/** Says that the table is there, but nothing marks it as made by a trial. */
export function notClaimed(name: string): SinkError {
  return new SinkError(
    'bad_request',
    `${name} has no mark of a trial`,
    'Nothing was deleted: delete it by hand if it is yours to delete.',
  );
}

/** Says that `claim` found something under the name. */
export function alreadyThere(name: string): SinkError {
  return new SinkError('conflict', `${name} exists already`, 'Run the trial again: it takes another name.');
}

/** How a kind of sink is told to keep the rows of a trial apart from all others. */
export interface TrialTables<S extends Settings = Settings> {
  /** Returns the settings with a table (database, bucket, folder, label) of this name, and none of the live one. */
  settings(config: Values<S>, name: string): Values<S>;
  /** Where the rows then are, and how to delete them by hand: an imperative sentence. */
  byHand(config: Values<S>): string;
}

/** A kind of sink: what its folder exports and `sinks/index.ts` lists. */
export interface SinkModule<S extends Settings = Settings> {
  readonly kind: string;
  /** One line for the README's table. */
  readonly summary: string;
  /** Parses and documents the variables `SINK_<ID>_<NAME>`. The name is the key in upper snake case. */
  readonly settings: S;
  readonly limits: SinkLimits;
  /** The limits, if they depend on the settings. */
  limitsBy?(config: Values<S>): SinkLimits;
  /** Default: `ranges`. */
  readonly readBack?: ReadBack;
  /** The same, if it depends on the settings. */
  readBackBy?(config: Values<S>): ReadBack;
  /** False if the store cannot delete single points: then `remove` does nothing, and what `check` writes stays. */
  readonly removes?: false;
  /** The same, if it depends on the settings. */
  removesBy?(config: Values<S>): boolean;
  /** Where the rows are, such as the full path of a file, without secrets: `check` and `verify` say it. */
  placeOf?(config: Values<S>): string | undefined;
  /** How long rows are kept, in ms: older ones may be deleted, by the sink or by its store. Absent: for ever. */
  keepsMs?(config: Values<S>): number | undefined;
  /** Checks what spans several variables, such as "required when API is v1". Returns the keys of the wrong settings. */
  validate?(config: Values<S>): readonly { readonly key: keyof S & string; readonly expected: string }[];
  /** Whether it writes the sketches of timers: only then do its points have any (`Point.sketch`). Default: no. */
  sketchesBy?(config: Values<S>): boolean;
  /** True if several sinks may have one identity, and rows of their own all the same. Default: no. */
  readonly sharesIdentity?: true;
  /**
   * True if it waits for its store without holding its thread, and encodes a point in a few microseconds: while windows
   * are small, it runs in one thread with others that do. Default: it has a thread of its own.
   */
  readonly sharesThread?: true;
  /** The subjects of the bus on which it publishes: they must be none that the service reads. */
  publishesOn?(config: Values<S>): readonly { readonly key: keyof S & string; readonly subject: string }[];
  create(config: Values<S>, context: SinkContext): Sink;
  /** Absent if the rows of a trial cannot be kept apart: then there is no trial of this kind. */
  readonly trial?: TrialTables<S>;
  /** Absent if the cost of the store is unknown. */
  readonly price?: PriceModel;
}

/** Ties the type of `create`'s config to the settings. */
export function defineSink<S extends Settings>(module: SinkModule<S>): SinkModule<S> {
  return module;
}

export function readBackOf(module: SinkModule, config: Values<Settings>): ReadBack {
  return module.readBackBy?.(config) ?? module.readBack ?? 'ranges';
}

export function writesSketches(module: SinkModule, config: Values<Settings>): boolean {
  return module.sketchesBy?.(config) ?? false;
}

export function removesOf(module: SinkModule, config: Values<Settings>): boolean {
  return module.removesBy?.(config) ?? module.removes !== false;
}

export function limitsOf(module: SinkModule, config: Values<Settings>): SinkLimits {
  return module.limitsBy?.(config) ?? module.limits;
}
