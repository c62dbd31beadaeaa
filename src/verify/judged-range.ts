/** Decides which windows of a sink `verify` judges: pure arithmetic. All times are in ms since 1970. */
import type { Tiling } from '../aggregate/tiling.ts';
import type { WholeWindows } from '../deliver/replay/recompute-range.ts';
import type { WindowRange } from '../sink/contract.ts';

export interface Judgeable {
  /** Start of the first window of the pipeline that was asked for; undefined: wherever the sink began. */
  readonly asked: number | undefined;
  /** The windows of the pipeline that can be computed again. */
  readonly whole: WholeWindows;
  /** The windows of the sink. */
  readonly windows: Tiling;
  /** Where the sink began, and the first window that it has not confirmed; undefined if unknown. */
  readonly began: number | undefined;
  readonly next: number | undefined;
}

export interface JudgedRange {
  readonly range: WindowRange;
  /** How many windows that were asked for the stream no longer holds whole. */
  readonly lost: number;
  /** How many windows after the range are complete, and not confirmed. */
  readonly unconfirmed: number;
  /** The range that was asked for, if no whole window of the sink is in it. */
  readonly without: WindowRange | undefined;
  /** Start of the window that is not judged because it begins before the start that was asked for; else undefined. */
  readonly cut: number | undefined;
}

/** Only whole windows of the sink are judged: of others, only a part was asked for, or is held. */
export function judgedRange({ asked, whole, windows, began, next }: Judgeable): JudgedRange {
  const firstFrom = (time: number) => (windows.startOf(time) === time ? time : windows.endOf(time));
  const isShortened = whole.isTruncated || whole.lost > 0;
  // Where the stream lost nothing, there is nothing before its first message that a longer window could lack.
  const held = isShortened ? firstFrom(whole.from) : windows.startOf(whole.from);
  const wanted = asked === undefined ? held : firstFrom(asked);
  const first = Math.max(held, wanted);
  const complete = windows.startOf(whole.to);
  const from = asked === undefined && began !== undefined ? Math.max(first, firstFrom(began)) : first;
  const to = Math.max(from, windows.startOf(Math.min(whole.to, next ?? from)));
  const lost = whole.lost === 0 ? 0 : Math.round(windows.windowsBetween(wanted, Math.min(first, complete)));
  const isCut = asked !== undefined && asked < wanted && wanted > whole.from;
  return {
    range: { from, to },
    lost,
    unconfirmed: Math.floor(windows.windowsBetween(to, whole.to)),
    without:
      first >= complete && lost === 0
        ? { from: asked ?? Math.min(held, whole.from), to: whole.to }
        : undefined,
    cut: isCut ? windows.startOf(asked) : undefined,
  };
}
