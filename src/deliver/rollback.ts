/**
 * What a rollback of the stream takes back, and where sinks begin again because of it: pure arithmetic on what was read
 * and on what the stream holds now. All times are in ms since 1970.
 */
import type { Tiling } from '../aggregate/tiling.ts';
import type { HeldMarks } from '../bus/read/parting.ts';
import { keyOfMark, type Mark, marksOf, type StoredTrail } from '../bus/read/trail.ts';
import type { Slice } from '../config/core-settings.ts';
import type { WindowRange } from '../sink/contract.ts';
import { firstPossible, resumeFrom, type SinkPosition, type StreamExtent } from './start-points.ts';

/** Where two histories of a stream part. */
export interface Parting {
  /** The last message that is known to be in both; undefined if none is. */
  readonly after: Mark | undefined;
  /** No message that was taken back had an earlier stream time. */
  readonly least: number;
  /** The last message known to have been read of those that were taken back. */
  readonly through: Mark;
}

/** For the operator: what was taken back. */
export interface Rollback extends WindowRange {
  /** Sequences of the last message that both histories have (0 if unknown) and of the last one that was taken back. */
  readonly after: number;
  readonly through: number;
}

/** How many of the latest rollbacks are kept. */
const MAX_ROLLBACKS = 20;

/** The rollbacks that a process has met. */
export class RollbackLog {
  times = 0;
  readonly latest: Rollback[] = [];

  add(rollback: Rollback): void {
    this.times += 1;
    this.latest.push(rollback);
    if (this.latest.length > MAX_ROLLBACKS) this.latest.shift();
  }
}

/** What the marks are compared with. */
export interface StreamNow extends StreamExtent {
  readonly created: string;
  readonly firstSequence: number;
  readonly held: HeldMarks;
}

/** The checkpoints of one sink. */
type Stored = readonly {
  readonly slice: string;
  readonly checkpoint: SinkPosition & { readonly trail?: StoredTrail | undefined };
  /** What was read after this sequence was misread: see `withMisread`. */
  readonly misreadAfter?: number | undefined;
}[];

/** What this process has read so far. */
export interface ReadSoFar {
  readonly marks: readonly Mark[];
  readonly misreadAfter?: number | undefined;
}

export interface Resumption {
  /** Undefined if nothing is known of the sink. */
  readonly position: SinkPosition | undefined;
  /** What was taken back of what the sink has, if anything. */
  readonly rollback: Rollback | undefined;
  /** Windows that the rollback touched and that the stream no longer holds whole: they stay as they are. */
  readonly lost: WindowRange | undefined;
  /** Windows for which a stream that is gone may have held more than the sink has: the checkpoint is of that one. */
  readonly orphaned: WindowRange | undefined;
}

/** `marks`: of one trail, ascending by sequence. Returns undefined if the stream still holds what it handed out. */
export function partingOf(marks: readonly Mark[], held: HeldMarks): Parting | undefined {
  const heldOf = (mark: Mark) => held.get(keyOfMark(mark));
  const first = marks.find((mark) => heldOf(mark) === 'other');
  if (first === undefined) return undefined;
  const before = marks.filter(({ sequence }) => sequence < first.sequence);
  // Retention has removed the oldest ones: the first message that the stream still holds may be one of another history.
  const after = before.findLast((mark) => heldOf(mark) === 'same') ?? before.at(-1);
  const since = marks.filter(({ sequence }) => after === undefined || sequence > after.sequence);
  const least = Math.min(
    after?.time ?? first.time,
    ...since.map(({ time, least = time }) => Math.min(time, least)),
  );
  return { after, least, through: since.findLast((mark) => heldOf(mark) === 'other')! };
}

/**
 * Returns where a sink resumes: at its checkpoint, or before it, at the first window that messages which were taken
 * back can have touched. What came in their place may touch earlier windows too: it counts as news for them.
 * `read`: what this process has read so far.
 */
export function resume(
  stored: Stored,
  own: Slice | undefined,
  read: ReadSoFar,
  stream: StreamNow,
  { tiling, now }: { readonly tiling: Tiling; readonly now: number },
): Resumption {
  const partings: Parting[] = [];
  const lost: WindowRange[] = [];
  const rewound = stored.map(({ slice, checkpoint, misreadAfter }) => {
    let position = beforeReading(checkpoint, stream, tiling, now);
    // Each record by itself: what was read after a rollback is in no history but the new one.
    for (const record of [{ marks: marksOf(checkpoint.trail, stream.created), misreadAfter }, read]) {
      const parting = partingOf(record.marks, withMisread(stream.held, record));
      if (parting === undefined) continue;
      const { lost: lostBy, ...earlier } = rewind(position, parting, stream, tiling, now);
      partings.push(parting);
      if (lostBy !== undefined) lost.push(lostBy);
      position = earlier;
    }
    return { slice, checkpoint: position };
  });
  const before = resumeFrom(stored, own);
  const position = resumeFrom(rewound, own);
  const orphaned = before && orphanedSince(before, stored, stream, tiling, now);
  // Checkpoints of a slicing that is no longer in use keep their trails for good.
  if (position === undefined || before === undefined || isSamePosition(position, before))
    return { position, rollback: undefined, lost: undefined, orphaned };
  return {
    position,
    rollback: partings.length === 0 ? undefined : toldOf(partings, position.next, tiling),
    lost: spanOf(lost),
    orphaned,
  };
}

/**
 * Returns the windows from the checkpoint to where this stream begins, if the checkpoint is of another stream; to the
 * present if this one is older. Nobody can tell what else the other one held.
 */
function orphanedSince(
  { next, sequence }: SinkPosition,
  stored: Stored,
  stream: StreamNow,
  tiling: Tiling,
  now: number,
): WindowRange | undefined {
  const ofPosition = stored.find(
    ({ checkpoint }) => checkpoint.next === next && checkpoint.sequence === sequence,
  );
  const { trail } = ofPosition?.checkpoint ?? {};
  if (trail === undefined || trail.created === stream.created || !Number.isFinite(next)) return undefined;
  const created = Date.parse(stream.created);
  const to = tiling.endOf(created > next ? created : now);
  return to > next ? { from: next, to } : undefined;
}

/** What was read after this sequence was read wrongly: that counts as taken back, whatever the stream holds. */
function withMisread(held: HeldMarks, { marks, misreadAfter }: ReadSoFar): HeldMarks {
  if (misreadAfter === undefined) return held;
  const misread = marks.filter(({ sequence }) => sequence > misreadAfter);
  return new Map([...held, ...misread.map((mark) => [keyOfMark(mark), 'other'] as const)]);
}

/** Returns the marks that the stream still holds: what a new trail begins with. */
export function marksHeld(marks: readonly Mark[], held: HeldMarks): Mark[] {
  return marks.filter((mark) => held.get(keyOfMark(mark)) === 'same');
}

/** Returns what was taken back of what was read, whether a sink had it or not; undefined if nothing was. */
export function rollbackOf(read: ReadSoFar, held: HeldMarks, tiling: Tiling): Rollback | undefined {
  const parting = partingOf(read.marks, withMisread(held, read));
  return parting && toldOf([parting], tiling.startOf(parting.least - tiling.latenessMs), tiling);
}

export function mergeRollbacks(rollbacks: readonly Rollback[]): Rollback | undefined {
  const span = spanOf(rollbacks);
  return (
    span && {
      after: Math.min(...rollbacks.map(({ after }) => after)),
      through: Math.max(...rollbacks.map(({ through }) => through)),
      ...span,
    }
  );
}

function toldOf(partings: readonly Parting[], from: number, tiling: Tiling): Rollback {
  return {
    after: Math.min(...partings.map(({ after }) => after?.sequence ?? 0)),
    through: Math.max(...partings.map(({ through }) => through.sequence)),
    from,
    to: tiling.endOf(Math.max(from, ...partings.map(({ through }) => through.time + tiling.maxAheadMs))),
  };
}

/**
 * Windows that were closed before anything had been read have no mark that tells whether they are still empty. There is
 * nothing in the stream for them, or they have to be computed.
 */
function beforeReading(position: SinkPosition, stream: StreamNow, tiling: Tiling, now: number): SinkPosition {
  const { next, sequence, began } = position;
  if (sequence > 0 || began === undefined) return position;
  return { ...position, next: Math.min(next, firstPossible(began, stream, tiling, now)) };
}

function rewind(
  position: SinkPosition,
  { after, least }: Parting,
  stream: StreamNow,
  tiling: Tiling,
  now: number,
): SinkPosition & { readonly lost?: WindowRange } {
  const touched = after === undefined ? Number.NEGATIVE_INFINITY : tiling.startOf(least - tiling.latenessMs);
  // A sink gets no window before its first one.
  const first = Math.max(touched, position.began ?? Number.NEGATIVE_INFINITY);
  const next = Math.min(position.next, firstPossible(first, stream, tiling, now));
  // It has no window before its first one, so there is no news for it there.
  const hasNews = after !== undefined && next !== position.began;
  const sequence = hasNews
    ? Math.min(position.sequence, Math.max(after.sequence, stream.firstSequence - 1))
    : 0;
  const lostFrom = Number.isFinite(first) ? first : tiling.startOf(least - tiling.latenessMs);
  return { ...position, next, sequence, ...(lostFrom < next && { lost: { from: lostFrom, to: next } }) };
}

function isSamePosition(one: SinkPosition, other: SinkPosition): boolean {
  return one.next === other.next && one.sequence === other.sequence;
}

/** Returns the range from the first to the last; undefined if there is none. */
export function spanOf(ranges: readonly (WindowRange | undefined)[]): WindowRange | undefined {
  const known = ranges.filter((range) => range !== undefined);
  if (known.length === 0) return undefined;
  return { from: Math.min(...known.map(({ from }) => from)), to: Math.max(...known.map(({ to }) => to)) };
}
