/**
 * Compares stores with the stream. Windows are computed again in order, in groups. Each group is compared with what the
 * stores hold and then forgotten, so memory is bounded whatever the range.
 */
import { ALL_FIELDS } from '../aggregate/point.ts';
import type { Tiling } from '../aggregate/tiling.ts';
import type { ClosedWindow } from '../aggregate/window.ts';
import { WindowMerger } from '../aggregate/window-merger.ts';
import type { Gap } from '../bus/read/source.ts';
import { windowBytes } from '../deliver/lane/queue.ts';
import type { NameChoices } from '../deliver/name-choices.ts';
import type { WindowHandler } from '../deliver/pipeline.ts';
import { windowsTouched } from '../deliver/start-points.ts';
import type { StoredPoint, WindowRange } from '../sink/contract.ts';
import { ExpectedRows } from './rows.ts';
import { type JudgedSink, SinkJudge } from './verdict.ts';

/**
 * A group takes no more windows once it has this many points or bytes: about 100 MB, including what the comparison
 * creates.
 */
const GROUP_POINTS = 200_000;
const GROUP_BYTES = 50_000_000;

export interface VerificationOptions {
  readonly tiling: Tiling;
  /** The range that is read from the stream; it contains the sinks' ranges. */
  readonly range: WindowRange;
  readonly sinks: readonly JudgedSink[];
  /** Which series are compared, by name; all if absent. */
  readonly matches?: ((name: string) => boolean) | undefined;
  readonly groupPoints?: number;
  /** Ends the verification. Windows that were not judged are unknown. */
  readonly signal: AbortSignal;
}

/** What a sink with windows of its own gets, until it is judged. */
interface OwnWindows {
  readonly tiling: Tiling;
  readonly merger: WindowMerger;
  merged: ClosedWindow[];
  /** All windows before were judged. */
  from: number;
  /** Those that were reopened, each with the sequence up to which the stream must be read. */
  readonly again: Map<number, number>;
}

type RecomputeOne = (
  start: number,
  through: number,
  tiling: Tiling,
) => Promise<readonly ClosedWindow[] | undefined>;

export class Verification {
  readonly judges: readonly SinkJudge[];
  /** Aborts when all windows have been judged. */
  readonly done: AbortSignal;
  readonly #done = new AbortController();
  readonly #options: VerificationOptions;
  #windows: ClosedWindow[] = [];
  #points = 0;
  #bytes = 0;
  #matched = false;
  /** Start of the group that is being collected. */
  #from: number;
  #boundary: number;
  /** Windows with missing messages. */
  readonly #gaps: WindowRange[] = [];
  /**
   * Windows that got samples after they had been closed, each with the sequence up to which the stream must be read.
   */
  readonly #again = new Map<number, number>();
  readonly #own = new Map<SinkJudge, OwnWindows>();

  constructor(options: VerificationOptions) {
    this.#options = options;
    this.#from = options.range.from;
    this.#boundary = options.range.from;
    this.judges = options.sinks.map((sink) => new SinkJudge(sink, options.tiling));
    for (const judge of this.judges) {
      const { windows: tiling } = judge.sink;
      if (tiling === undefined) continue;
      const merger = new WindowMerger(tiling, options.tiling);
      this.#own.set(judge, { tiling, merger, merged: [], from: this.#from, again: new Map() });
    }
    this.done = this.#done.signal;
  }

  /** All windows before this time have been computed. */
  get boundary(): number {
    return this.#boundary;
  }

  /** Whether the stream has a series in these windows whose name matches. */
  get matched(): boolean {
    return this.#matched;
  }

  readonly onWindows: WindowHandler = (windows, boundary) => {
    const { range, groupPoints = GROUP_POINTS, matches } = this.#options;
    for (const window of windows) {
      if (window.start >= range.to) continue;
      this.#matched ||= hasMatch(window, matches);
      this.#windows.push(window);
      this.#points += window.size;
      this.#bytes += windowBytes(window);
      for (const { merger } of this.#own.values()) merger.add(window);
    }
    this.#boundary = Math.min(boundary, range.to);
    for (const own of this.#own.values()) own.merged.push(...own.merger.take(this.#boundary));
    const isLast = this.#boundary === range.to;
    if (!isLast && this.#points < groupPoints && this.#bytes < GROUP_BYTES) return undefined;
    return this.#judgeGroup().then(() => {
      if (isLast) this.#done.abort();
    });
  };

  gap(gap: Gap): void {
    this.#gaps.push(windowsTouched(gap.fromTime, gap.toTime, this.#options.tiling));
    for (const judge of this.judges) {
      judge.doubt('the stream lost messages that belong to these windows (retention)');
    }
  }

  /**
   * Marks windows that got samples after they were handed over. They are judged at the end, with all samples that
   * belong to them.
   */
  reopened(starts: readonly number[], sequence: number): void {
    for (const start of starts) {
      for (const judge of this.#judgesOf(start)) this.#reopenedOf(judge, start, sequence);
      this.#again.set(start, sequence);
    }
  }

  #reopenedOf(judge: SinkJudge, start: number, sequence: number): void {
    const own = this.#own.get(judge);
    const [again, from] = own === undefined ? [this.#again, this.#from] : [own.again, own.from];
    const first = own?.tiling.startOf(start) ?? start;
    if (!again.has(first) && first < from) judge.takeBack(first);
    own?.again.set(first, Math.max(sequence, own.again.get(first) ?? 0));
  }

  /**
   * Judges the reopened windows. `recompute` resolves to a window of the tiling, computed with all messages up to
   * sequence `through`.
   */
  async judgeAgain(recompute: RecomputeOne): Promise<void> {
    const { tiling } = this.#options;
    const plain = this.judges.filter((judge) => !this.#own.has(judge));
    await this.#judgeReopened(this.#again, tiling, plain, recompute);
    for (const [judge, own] of this.#own)
      await this.#judgeReopened(own.again, own.tiling, [judge], recompute);
  }

  async #judgeReopened(
    again: ReadonlyMap<number, number>,
    tiling: Tiling,
    judges: readonly SinkJudge[],
    recompute: RecomputeOne,
  ): Promise<void> {
    const { signal } = this.#options;
    for (const [start, through] of again) {
      const range = { from: start, to: tiling.endOf(start) };
      const concerned = judges.filter(({ sink }) => start >= sink.range.from && start < sink.range.to);
      // With a gap in a part of it, nothing is known of the whole.
      if (concerned.length === 0 || this.#gaps.some((gap) => gap.from < range.to && gap.to > start)) continue;
      const windows = await recompute(start, through, tiling);
      if (windows === undefined) return;
      for (const judge of concerned) {
        const { names, unknownNames } = judge.sink;
        if (without(range, unknownNames ? [unknownNames] : []).length === 0) continue;
        await judge.judge(range, this.#expected(windows, range, names), signal);
      }
    }
  }

  #judgesOf(start: number): SinkJudge[] {
    return this.judges.filter(({ sink }) => start >= sink.range.from && start < sink.range.to);
  }

  async #judgeGroup(): Promise<void> {
    const group = { from: this.#from, to: this.#boundary };
    const windows = this.#windows;
    this.#windows = [];
    this.#points = 0;
    this.#bytes = 0;
    this.#from = this.#boundary;
    const excluded = this.#excludedIn(this.#options.tiling, this.#again);
    // Usually one part, shared by all sinks that get all names.
    const parts = new Map<string, ExpectedRows>();
    const expected = (part: WindowRange, { names }: JudgedSink) => {
      if (names !== undefined) return this.#expected(windows, part, names);
      const key = `${part.from} ${part.to}`;
      const rows = parts.get(key) ?? this.#expected(windows, part);
      parts.set(key, rows);
      return rows;
    };
    await Promise.all(
      this.judges.map(async (judge) => {
        const own = this.#own.get(judge);
        if (own !== undefined) {
          await this.#judgeOwn(judge, own, group.to);
          return;
        }
        const { unknownNames } = judge.sink;
        const parts = intersection(group, judge.sink.range);
        for (const part of without(parts, unknownNames ? [...excluded, unknownNames] : excluded)) {
          await judge.judge(part, expected(part, judge.sink), this.#options.signal);
        }
      }),
    );
  }

  /** Judges what is whole of the windows of a sink that has windows of its own. */
  async #judgeOwn(judge: SinkJudge, own: OwnWindows, boundary: number): Promise<void> {
    const { range, names, unknownNames } = judge.sink;
    const group = { from: own.from, to: own.tiling.startOf(boundary) };
    const windows = own.merged;
    own.merged = [];
    own.from = group.to;
    const excluded = this.#excludedIn(own.tiling, own.again);
    if (unknownNames !== undefined) excluded.push(unknownNames);
    for (const part of without(intersection(group, range), excluded))
      await judge.judge(part, this.#expected(windows, part, names), this.#options.signal);
  }

  /** Returns the windows with gaps, and those that are judged at the end. */
  #excludedIn(tiling: Tiling, again: ReadonlyMap<number, number>): WindowRange[] {
    return [
      ...this.#gaps.map(({ from, to }) => ({ from: tiling.startOf(from), to: tiling.endOf(to - 1) })),
      ...Array.from(again.keys(), (start) => ({ from: start, to: tiling.endOf(start) })),
    ];
  }

  /** `names`: which names the store was given; absent: all. */
  #expected(windows: readonly ClosedWindow[], { from, to }: WindowRange, names?: NameChoices): ExpectedRows {
    const { matches } = this.#options;
    const rows: { readonly window: ClosedWindow; readonly index: number }[] = [];
    for (const window of windows) {
      if (window.start < from || window.start >= to) continue;
      for (const index of names?.pick(window) ?? window.refs.keys()) {
        // No store gets a sum that overflowed.
        if (!Number.isFinite(window.sumOf(index))) continue;
        if (matches && !matches(window.point(index).series.name)) continue;
        rows.push({ window, index });
      }
    }
    return new ExpectedRows(ALL_FIELDS, rows.length, (i) => rows[i]!.window.point(rows[i]!.index));
  }
}

function hasMatch(window: ClosedWindow, matches: VerificationOptions['matches']): boolean {
  for (let i = 0; i < window.size; i++) if (matches?.(window.nameOf(i)) ?? true) return true;
  return false;
}

/** Yields the points whose name matches. */
export async function* onlyMatching(
  points: AsyncIterable<StoredPoint>,
  matches: (name: string) => boolean,
): AsyncGenerator<StoredPoint> {
  for await (const point of points) if (matches(point.series.name)) yield point;
}

function intersection(a: WindowRange, b: WindowRange): WindowRange {
  return { from: Math.max(a.from, b.from), to: Math.min(a.to, b.to) };
}

/** Returns what is left of a range, in order. */
function without(range: WindowRange, excluded: readonly WindowRange[]): WindowRange[] {
  let left = [range];
  for (const { from, to } of excluded) {
    left = left.flatMap((part) => [
      { from: part.from, to: Math.min(part.to, from) },
      { from: Math.max(part.from, to), to: part.to },
    ]);
    left = left.filter((part) => part.from < part.to);
  }
  return left.filter((part) => part.from < part.to);
}
