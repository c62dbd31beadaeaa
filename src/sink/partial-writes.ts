/** Batches that are not written whole: some points fit no request, and some stores refuse all for a few points. */
import type { Point } from '../aggregate/point.ts';
import {
  type Batch,
  type RefuseReason,
  type Rejection,
  type RejectReason,
  SinkError,
  type WriteOutcome,
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

/** The store can never take some of the points sent. The others may or may not have been written. */
export interface Unfit {
  readonly kind: 'unfit';
  readonly reason: RejectReason;
  readonly message: string;
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

/** How many requests one write may send in search of the points that the store cannot take. */
const MAX_REQUESTS = 64;

/**
 * Sends rows (`index` is that of the point in the batch). If some are unfit, sends the parts that `split` makes of
 * them, down to single rows. If `split` returns one part, its rows are rejected. `rejected` holds the points found
 * unfit before sending.
 */
export async function writeInParts<R extends { readonly index: number }, U extends Unfit = Unfit>(
  rows: readonly R[],
  rejected: Rejection[],
  send: (rows: readonly R[]) => Promise<Verdict<U>>,
  split: (rows: readonly R[], verdict: U) => readonly (readonly R[])[] = halves,
): Promise<WriteOutcome> {
  const groups = rows.length === 0 ? [] : [rows];
  for (let requests = 0; groups.length > 0; requests += 1) {
    const group = groups.pop()!;
    const verdict = requests < MAX_REQUESTS ? await send(group) : UNDECIDED;
    if (verdict.kind === 'written') continue;
    if (verdict.kind !== 'unfit') {
      // Nothing is written. The points found unfit before sending will be found unfit again.
      if (requests === 0) return verdict;
      const reason = verdict.kind === 'retry' ? verdict.reason : 'unknown';
      return { kind: 'partial', retry: indexes([group, ...groups].flat()), rejected, reason };
    }
    const parts = split(group, verdict);
    if (parts.length > 1) groups.push(...parts);
    else rejected.push(...group.map(({ index }) => rejection(index, verdict)));
  }
  return rejected.length === 0 ? { kind: 'written' } : { kind: 'partial', retry: [], rejected };
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

const UNDECIDED: Verdict<never> = {
  kind: 'retry',
  reason: 'unknown',
  message: 'the batch has too many points that the store cannot take',
};

export function halves<R>(rows: readonly R[]): readonly (readonly R[])[] {
  if (rows.length <= 1) return [rows];
  const half = rows.length >> 1;
  return [rows.slice(half), rows.slice(0, half)];
}

function indexes(rows: readonly { readonly index: number }[]): number[] {
  return rows.map(({ index }) => index);
}

function rejection(index: number, { reason, message }: Unfit): Rejection {
  return { index, reason, message };
}
