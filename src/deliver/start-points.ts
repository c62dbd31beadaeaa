/**
 * Decides where reading begins: pure arithmetic on windows and on what the stream still holds. All times are in ms
 * since 1970.
 */

import type { Tiling } from '../aggregate/tiling.ts';
import type { StartSetting } from '../base/time-text.ts';
import type { Checkpoint } from '../bus/kv/checkpoints.ts';
import type { Slice } from '../config/core-settings.ts';
import type { WindowRange } from '../sink/contract.ts';
import type { KnownReceipts } from './lane/receipts.ts';
import { mergeChoices } from './name-choices.ts';

/** What a stream holds. */
export interface StreamExtent {
  /** Stream time of the first message; undefined if there is none. */
  readonly firstTime: number | undefined;
  /** Whether earlier messages were removed (retention). */
  readonly truncated: boolean;
}

/**
 * The clocks of server and service are assumed to differ by no more than this. Starting too early is harmless: windows
 * without samples cost nothing.
 */
export const CLOCK_MARGIN_MS = 60_000;

/**
 * Returns the start of the first window that the stream holds completely. An untruncated stream holds every window that
 * its first message can reach back to (LATENESS). A truncated stream holds only the windows whose earliest possible
 * sample (MAX_AHEAD before their start) is younger than its first message: another message with the same timestamp may
 * have been removed. The first message of an empty stream is still to come.
 */
export function firstWholeWindow(extent: StreamExtent, tiling: Tiling, now: number): number {
  if (extent.truncated) return tiling.endOf((extent.firstTime ?? now) + tiling.maxAheadMs);
  return tiling.startOf((extent.firstTime ?? now - CLOCK_MARGIN_MS) - tiling.latenessMs);
}

/** Returns the first window from `wanted` on that the stream holds whole. */
export function firstPossible(wanted: number, stream: StreamExtent, tiling: Tiling, now: number): number {
  if (!stream.truncated && Number.isFinite(wanted)) return wanted;
  return Math.max(wanted, firstWholeWindow(stream, tiling, now));
}

/**
 * Returns where a sink begins whose first window was `began` (undefined: unknown), and whose store has only the windows
 * before `heldTo` (undefined: nothing any more). `lost`: the windows that the stream no longer holds whole.
 */
export function beginAgain(
  began: number | undefined,
  extent: StreamExtent,
  tiling: Tiling,
  now: number,
  heldTo?: number,
): { readonly from: number; readonly lost: WindowRange | undefined } {
  const wanted = heldTo ?? began;
  const from = firstPossible(wanted ?? Number.NEGATIVE_INFINITY, extent, tiling, now);
  return { from, lost: wanted !== undefined && wanted < from ? { from: wanted, to: from } : undefined };
}

/** Returns the start of the first window that a sink without a checkpoint gets: always a whole window (I3). */
export function firstWanted(start: StartSetting, extent: StreamExtent, tiling: Tiling, now: number): number {
  const whole = firstWholeWindow(extent, tiling, now);
  switch (start.kind) {
    case 'earliest':
      return whole;
    case 'now':
      return Math.max(whole, tiling.startOf(now));
    case 'at':
      return Math.max(whole, tiling.startOf(start.ms));
    default:
      return start satisfies never;
  }
}

/** Returns the stream time from which messages must be read for the windows from checkpoint `next` on (I6). */
export function readFrom(next: number, tiling: Tiling): number {
  return next - tiling.maxAheadMs;
}

/**
 * Returns where a sink resumes, given the checkpoints of all slices that it was ever written in. A slice's own
 * checkpoint says how far its own windows are confirmed. If every slice of a slicing has a checkpoint, all windows
 * before the lowest of them are confirmed, whichever instance owns them now. Without a slice of its own, only complete
 * slicings count. Returns undefined if nothing is known.
 */
export function resumeFrom(
  stored: readonly { readonly slice: string; readonly checkpoint: SinkPosition }[],
  own: Slice | undefined,
): SinkPosition | undefined {
  const slicings = new Map<number, Map<number, SinkPosition>>();
  for (const { slice, checkpoint } of stored) {
    const [index = 0, of = 1] = slice.split('/').map(Number);
    const slicing = slicings.get(of) ?? new Map<number, SinkPosition>();
    slicings.set(of, slicing.set(index, checkpoint));
  }
  const whole = [...slicings].filter(([of, positions]) => positions.size === of);
  const ofOwn = own && slicings.get(own.of)?.get(own.index);
  // Its own comes first: at the same window, the others may have begun later.
  const known = [
    ...(ofOwn === undefined ? [] : [ofOwn]),
    ...whole.map(([, positions]) => lowest([...positions].sort(([a], [b]) => a - b).map(([, one]) => one))),
  ];
  // A slice without a checkpoint has confirmed nothing, whatever its neighbours have: START decides where it begins.
  return known.length > 0 ? known.reduce((most, one) => (one.next > most.next ? one : most)) : undefined;
}

export type SinkPosition = Pick<
  Checkpoint,
  'next' | 'sequence' | 'began' | 'store' | 'receipts' | 'skipped' | 'choices' | 'window'
>;

/**
 * Returns the start of the first window that the sink was ever given, by whichever slice: -Infinity if unknown. `from`:
 * where it begins now, if it has not begun before.
 */
export function firstGiven(stored: readonly { readonly checkpoint: SinkPosition }[], from: number): number {
  return Math.min(from, ...stored.map(({ checkpoint }) => checkpoint.began ?? Number.NEGATIVE_INFINITY));
}

/** By sink: the identity of the store that its position is about. A sink that begins now has none. */
export function storesOf(
  resumptions: ReadonlyMap<string, { readonly position: SinkPosition | undefined }>,
): ReadonlyMap<string, string> {
  const stores = new Map<string, string>();
  for (const [sink, { position }] of resumptions)
    if (position?.store !== undefined) stores.set(sink, position.store);
  return stores;
}

/** Names a slice of a sink to its store: receipts of different writers are different ones. */
export function writerOf(pipeline: string, sink: string, slice: string): string {
  return `${pipeline}.${sink}.${slice.replace('/', '-')}`;
}

/** Returns, by sink, the receipts that its position speaks of, and whose it gives itself. */
export function receiptsOf(
  resumptions: ReadonlyMap<string, { readonly position: SinkPosition | undefined }>,
  pipeline: string,
  slice: string,
): ReadonlyMap<string, KnownReceipts> {
  return new Map(
    [...resumptions].map(([sink, { position }]) => {
      const known = new Map(Object.entries(position?.receipts ?? {}));
      return [sink, { writer: writerOf(pipeline, sink, slice), known }];
    }),
  );
}

/**
 * `positions`: those of all slices, in their order. The slices began at different times. The sink has all windows from
 * the latest of these starts on. If they are about different stores, nobody knows which one has what, and no store is
 * the right one.
 */
function lowest(positions: readonly SinkPosition[]): SinkPosition {
  const least = positions.reduce((a, b) => (b.next < a.next ? b : a));
  const begins = positions.flatMap(({ began }) => began ?? []);
  const stores = [...new Set(positions.flatMap(({ store }) => store ?? []))].sort();
  const receipts = Object.assign({}, ...positions.map((position) => position.receipts));
  const choices = mergeChoices(positions);
  const { choices: _ofLeast, ...rest } = least;
  return {
    ...rest,
    ...(choices.length > 0 && { choices }),
    ...(Object.keys(receipts).length > 0 && { receipts }),
    ...(begins.length > 0 && { began: Math.max(...begins) }),
    ...(stores.length > 0 && { store: stores.join(' and ') }),
  };
}

/**
 * Lanes at most this many windows behind the foremost start together with it; one further behind catches up with its
 * own replay.
 */
const TOGETHER_WINDOWS = 6;

/**
 * A window, and the sequence up to which all messages had been read when earlier windows were closed; undefined if
 * unknown.
 */
export interface LaneStart {
  readonly from: number;
  readonly closedThrough: number | undefined;
}

/**
 * Returns where the live path begins: at the hindmost of the lanes that are near the foremost. Lanes that begin in the
 * future do not count, because no lane could join the live path before then.
 */
export function liveFrom(starts: readonly LaneStart[], tiling: Tiling, now: number): LaneStart {
  const past = starts.filter((start) => hasBegun(start, now));
  if (past.length === 0) return starts.reduce((least, one) => (isBefore(one, least) ? one : least));
  const foremost = Math.max(...past.map(({ from }) => from));
  const near = starts.filter(({ from }) => tiling.windowsBetween(from, foremost) <= TOGETHER_WINDOWS);
  return near.reduce((least, one) => (isBefore(one, least) ? one : least));
}

/** A lane with a checkpoint has begun, whatever our clock says: the server's clock may be ahead of it, or once was. */
export function hasBegun({ from, closedThrough }: LaneStart, now: number): boolean {
  return closedThrough !== undefined || from <= now;
}

/** Of two starts at the same window, the one that had read less is the safe choice: it treats more messages as news. */
function isBefore(a: LaneStart, b: LaneStart): boolean {
  if (a.from !== b.from) return a.from < b.from;
  return (a.closedThrough ?? Number.POSITIVE_INFINITY) < (b.closedThrough ?? Number.POSITIVE_INFINITY);
}

/**
 * Returns the windows that messages with stream times from `fromTime` to `toTime` can belong to, as a half-open range.
 */
export function windowsTouched(
  fromTime: number,
  toTime: number,
  tiling: Tiling,
): { from: number; to: number } {
  return {
    from: tiling.startOf(fromTime - tiling.latenessMs),
    to: tiling.endOf(toTime + tiling.maxAheadMs),
  };
}
