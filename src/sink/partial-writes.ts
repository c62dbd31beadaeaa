/** Batches that are not written whole: some points fit no request, and some stores refuse all for a few points. */
import type { Point } from '../aggregate/point.ts';
import {
  type Batch,
  isRefusal,
  type RefuseReason,
  type Rejection,
  type RejectReason,
  type RetryReason,
  SinkError,
  type WriteOutcome,
  withAdvice,
} from './contract.ts';

/** A point and its index in the batch. */
export interface IndexedPoint {
  readonly index: number;
  readonly point: Point;
}

/** Returns the points for which `refusal` returns undefined. Adds the others to `rejected`. */
export function fitting(
  batch: Batch,
  refusal: (point: Point) => Omit<Rejection, 'index'> | undefined,
  rejected: Rejection[],
): IndexedPoint[] {
  const fit: IndexedPoint[] = [];
  for (const [index, point] of batch.points.entries()) {
    const unfit = refusal(point);
    if (unfit === undefined) fit.push({ index, point });
    else rejected.push({ index, ...unfit });
  }
  return fit;
}

/** The outcome of one request. */
export type Verdict<U extends Unfit = Unfit> = Exclude<WriteOutcome, { kind: 'partial' }> | U;

/** The store can never take some of the points sent. */
export interface Unfit {
  readonly kind: 'unfit';
  readonly reason: RejectReason;
  readonly message: string;
  /**
   * True: the store has written all the others, so that the search is only for the names of those that it dropped.
   * Absent: it took none of them, or nobody knows.
   */
  readonly othersWritten?: boolean;
  /** How many of the points sent the store can never take, if it says so. */
  readonly unfit?: number;
  /** Those that the store itself names. */
  readonly named?: readonly Rejection[];
}

/** Returns the verdict as an error, for a call that reports failure only by an exception. */
export function errorOf(
  verdict: Exclude<Verdict, { kind: 'written' }>,
  advice: Readonly<Record<RefuseReason, string>>,
): SinkError {
  if (verdict.kind === 'retry') return new SinkError(verdict.reason, verdict.message);
  const reason = verdict.kind === 'refused' ? verdict.reason : 'bad_request';
  return new SinkError(reason, verdict.message, advice[reason]);
}

/** Returns what a write resolves to that failed with this error. Only an operator can help a store that refuses. */
export function outcomeOf(error: SinkError): Exclude<Verdict<never>, { kind: 'written' }> {
  const { reason, message } = error;
  if (!isRefusal(reason)) return { kind: 'retry', reason, message };
  return { kind: 'refused', reason, message: withAdvice(error) };
}

/**
 * How many requests one write may send in search of the points that the store cannot take. Halving finds one among half
 * a million with as many, so that every write gets somewhere.
 */
const MAX_REQUESTS = 20;
/** After this, a search that has found something ends, so that the lane's timeout does not take back what it found. */
const MAX_SEARCH_MS = 5_000;

/**
 * Sends rows (`index` is that of the point in the batch). If some are unfit, sends the parts that `split` makes of
 * them, down to single rows. If `split` returns one part, its rows are rejected. `rejected` holds the points found
 * unfit before sending.
 *
 * The search for the unfit rows is bounded. Rows that it did not get to are to be sent again, unless the store has
 * written all but the unfit ones: then the unfit ones among them are counted, not named.
 *
 * With `refused`, rows of series that were refused alone before are sent after all others.
 */
export async function writeInParts<R extends { readonly index: number }, U extends Unfit = Unfit>(
  rows: readonly R[],
  rejected: Rejection[],
  send: (rows: readonly R[]) => Promise<Verdict<U>>,
  split: (rows: readonly R[], verdict: U) => readonly (readonly R[])[] = halves,
  refused?: RefusedSeries<R>,
): Promise<WriteOutcome> {
  const search = new Search(rejected, split, refused);
  search.begin(rows);
  const started = performance.now();
  for (let requests = 0; ; requests += 1) {
    const group = search.next();
    if (group === undefined) return search.outcome();
    const isLate = performance.now() - started > MAX_SEARCH_MS && search.hasFound;
    if (requests === MAX_REQUESTS || isLate) return search.cutShort(group);
    const verdict = await send(group.rows);
    if (verdict.kind === 'written') search.written(group);
    else if (verdict.kind === 'unfit') search.unfit(group, verdict);
    // Nothing is written. The points found unfit before sending will be found unfit again.
    else if (requests === 0) return verdict;
    else return search.failed(group, verdict.kind === 'retry' ? verdict.reason : 'unknown');
  }
}

/** Rows that the store dropped from a request of which it wrote all the others. */
interface Dropped {
  /** Undefined if the store does not say. */
  readonly count: number | undefined;
  readonly message: string;
  named: number;
}

/** Rows to send. */
interface Group<R, U> {
  readonly rows: readonly R[];
  /** Set if these rows are written already, except some of those that were dropped. */
  readonly dropped?: Dropped | undefined;
  /** The verdict on the rows of which these are one of two parts. The other part has the same object. */
  readonly parent?: { readonly verdict: U } | undefined;
  /** Their series were refused before, each alone. */
  readonly areSuspects?: boolean;
}

class Search<R extends { readonly index: number }, U extends Unfit> {
  /** The next group is the last one. */
  readonly #groups: Group<R, U>[] = [];
  readonly #dropped = new Set<Dropped>();
  readonly #rejected: Rejection[];
  readonly #split: (rows: readonly R[], verdict: U) => readonly (readonly R[])[];
  readonly #refused: RefusedSeries<R> | undefined;
  /** Whether a row has been written or rejected, so that the next write has fewer to send. */
  hasFound = false;

  constructor(
    rejected: Rejection[],
    split: (rows: readonly R[], verdict: U) => readonly (readonly R[])[],
    refused: RefusedSeries<R> | undefined,
  ) {
    this.#rejected = rejected;
    this.#split = split;
    this.#refused = refused;
  }

  begin(rows: readonly R[]): void {
    const suspects = new Set(this.#refused?.among(rows));
    const others = suspects.size === 0 ? rows : rows.filter((row) => !suspects.has(row));
    if (suspects.size > 0) this.#groups.push({ rows: [...suspects], areSuspects: true });
    if (others.length > 0) this.#groups.push({ rows: others });
  }

  /** Returns undefined at the end of the search. */
  next(): Group<R, U> | undefined {
    for (;;) {
      const group = this.#groups.pop();
      if (group?.dropped === undefined) return group;
      const { count, named } = group.dropped;
      if (count === undefined || named < count) return group;
    }
  }

  written({ rows, parent }: Group<R, U>): void {
    this.hasFound = true;
    this.#refused?.forget(rows);
    const sibling = this.#groups.at(-1);
    // If one part was fit, the other is not: there is no need to ask. A request that was too large says nothing.
    if (sibling === undefined || parent === undefined || sibling.parent !== parent) return;
    const { verdict } = parent;
    const areAllUnfit = verdict.unfit === sibling.rows.length;
    if (verdict.reason === 'too_large' || (sibling.rows.length === 1 && !areAllUnfit)) return;
    this.#groups.pop();
    if (areAllUnfit) this.#reject(sibling, verdict);
    else this.#take(sibling, verdict);
  }

  unfit(group: Group<R, U>, verdict: U): void {
    const { rows } = group;
    const inGroup = new Set(rows.map(({ index }) => index));
    const named = (verdict.named ?? []).filter(({ index }) => inGroup.has(index));
    const count = isCountOf(verdict.unfit, rows.length) ? verdict.unfit : undefined;
    const dropped = group.dropped ?? (verdict.othersWritten ? this.#drop(count, verdict) : undefined);
    if (dropped !== undefined) this.hasFound = true;
    const known = { ...group, dropped };
    if (named.length > 0) this.#takeNamed(known, named, count);
    else if (count === rows.length) this.#reject(known, verdict);
    else this.#take(known, verdict);
  }

  #drop(count: number | undefined, { message }: Unfit): Dropped {
    const dropped = { count, message, named: 0 };
    this.#dropped.add(dropped);
    return dropped;
  }

  #takeNamed(group: Group<R, U>, named: readonly Rejection[], count: number | undefined): void {
    const indexes = new Set(named.map(({ index }) => index));
    const rest = group.rows.filter(({ index }) => !indexes.has(index));
    this.#rejected.push(...named);
    this.#found(group, group.rows.length - rest.length);
    if (rest.length === 0 || (group.dropped !== undefined && count === named.length)) return;
    this.#groups.push({ rows: rest, dropped: group.dropped });
  }

  /** Takes rows apart of which some are unfit. */
  #take(group: Group<R, U>, verdict: U): void {
    const { rows, dropped } = group;
    const parts = group.areSuspects ? rows.map((row) => [row]) : this.#split(rows, verdict);
    if (rows.length === 1 || parts.length <= 1) this.#reject(group, verdict);
    else {
      const parent = parts.length === 2 ? { verdict } : undefined;
      this.#groups.push(...parts.map((part) => ({ rows: part, dropped, parent })));
    }
  }

  #reject(group: Group<R, U>, { reason, message }: U): void {
    this.#rejected.push(...group.rows.map(({ index }) => ({ index, reason, message })));
    this.#found(group, group.rows.length);
    // Where the others are written anyway, or with another window, the series is no reason to expect a refusal.
    if (group.dropped === undefined && reason !== 'out_of_retention') this.#refused?.add(group.rows);
  }

  #found({ dropped }: Group<R, U>, rows: number): void {
    this.hasFound = true;
    if (dropped !== undefined) dropped.named += rows;
  }

  outcome(): WriteOutcome {
    return this.#end([], undefined);
  }

  /** The store failed: all rows that the search did not get to are sent again. */
  failed(group: Group<R, U>, reason: RetryReason): WriteOutcome {
    return this.#end([group, ...this.#groups], reason);
  }

  /** The search costs too much: rows that are written, except those dropped, are not sent again. */
  cutShort(group: Group<R, U>): WriteOutcome {
    const left = [group, ...this.#groups];
    const lost = new Map<Dropped, number>();
    for (const { dropped, rows } of left) {
      if (dropped !== undefined) lost.set(dropped, (lost.get(dropped) ?? 0) + rows.length);
    }
    const unsent = left.filter(({ dropped }) => dropped === undefined);
    return this.#end(unsent, unsent.length === 0 ? undefined : 'unknown', lost);
  }

  #end(
    unsent: readonly Group<R, U>[],
    reason: RetryReason | undefined,
    lost: ReadonlyMap<Dropped, number> = new Map(),
  ): WriteOutcome {
    const retry = unsent.flatMap(({ rows }) => rows.map(({ index }) => index));
    const rejected = this.#rejected;
    const counts = Array.from(lost, ([dropped, rows]) => Math.min(rows, unnamed(dropped)));
    const count = counts.reduce((sum, one) => sum + one, 0);
    if (retry.length === 0 && rejected.length === 0 && count === 0) return { kind: 'written' };
    const [first] = lost.keys();
    return {
      kind: 'partial',
      retry,
      rejected,
      ...(reason === undefined ? {} : { reason }),
      ...(count === 0 ? {} : { unidentified: { count, message: first!.message } }),
    };
  }
}

/** Returns how many rows were dropped that have no name yet: one, which is the least, if the store does not say. */
function unnamed({ count, named }: Dropped): number {
  return count === undefined ? 1 : Math.max(count - named, 0);
}

function isCountOf(count: number | undefined, rows: number): count is number {
  return count !== undefined && count > 0 && count <= rows;
}

/** Remembers series, the latest ones: only a hint of what to send apart. */
export class RememberedSeries<R> {
  readonly #ids = new Set<string>();
  readonly #idOf: (row: R) => string;
  readonly #max: number;

  constructor(idOf: (row: R) => string, max: number) {
    this.#idOf = idOf;
    this.#max = max;
  }

  among(rows: readonly R[]): R[] {
    return this.#ids.size === 0 ? [] : rows.filter((row) => this.#ids.has(this.#idOf(row)));
  }

  add(rows: readonly R[]): void {
    for (const row of rows) {
      const id = this.#idOf(row);
      this.#ids.delete(id);
      this.#ids.add(id);
      const [oldest] = this.#ids;
      if (this.#ids.size > this.#max) this.#ids.delete(oldest!);
    }
  }

  forget(rows: readonly R[]): void {
    if (this.#ids.size === 0) return;
    for (const row of rows) this.#ids.delete(this.#idOf(row));
  }
}

/** How many series a sink remembers as refused. */
const MAX_REFUSED_SERIES = 1_000;

/**
 * The series of which a store refused a point alone, so that one bad series does not make every batch cost a search.
 * Such a point is still sent: it is rejected only if the store refuses it.
 */
export class RefusedSeries<R> extends RememberedSeries<R> {
  constructor(idOf: (row: R) => string) {
    super(idOf, MAX_REFUSED_SERIES);
  }
}

/**
 * Resolves to `unfit` if the store takes a request without points, so that the points are at fault. Otherwise the store
 * refuses the sink, or must be asked again.
 */
export async function blame(unfit: Unfit, sendNothing: () => Promise<Verdict>): Promise<Verdict> {
  const control = await sendNothing();
  if (control.kind === 'written') return unfit;
  if (control.kind === 'retry') return control;
  return { kind: 'refused', reason: 'bad_request', message: unfit.message };
}

/** Returns a `blame` for one write: once the store has taken a request without points, it is not asked again. */
export function blameOnce(sendNothing: () => Promise<Verdict>): (unfit: Unfit) => Promise<Verdict> {
  let isClear = false;
  return async (unfit) => {
    if (isClear) return unfit;
    const verdict = await blame(unfit, sendNothing);
    isClear = verdict.kind === 'unfit';
    return verdict;
  };
}

export function halves<R>(rows: readonly R[]): readonly (readonly R[])[] {
  if (rows.length <= 1) return [rows];
  const half = rows.length >> 1;
  return [rows.slice(half), rows.slice(0, half)];
}
