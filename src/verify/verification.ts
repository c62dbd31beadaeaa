/**
 * Compares stores with the stream. Windows are computed again in order, in groups. Each group is compared with what the
 * stores hold and then forgotten, so memory is bounded whatever the range.
 */
import { ALL_FIELDS } from '../aggregate/point.ts';
import type { Tiling } from '../aggregate/tiling.ts';
import type { ClosedWindow } from '../aggregate/window.ts';
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

  constructor(options: VerificationOptions) {
    this.#options = options;
    this.#from = options.range.from;
    this.#boundary = options.range.from;
    this.judges = options.sinks.map((sink) => new SinkJudge(sink, options.tiling));
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
    }
    this.#boundary = Math.min(boundary, range.to);
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
      if (!this.#again.has(start) && start < this.#from) {
        for (const judge of this.#judgesOf(start)) judge.takeBack(start);
      }
      this.#again.set(start, sequence);
    }
  }

  /**
   * Judges the reopened windows. `recompute` resolves to a window computed with all messages up to sequence `through`.
   */
  async judgeAgain(
    recompute: (start: number, through: number) => Promise<readonly ClosedWindow[] | undefined>,
  ): Promise<void> {
    const { signal } = this.#options;
    for (const [start, through] of this.#again) {
      const range = this.#windowAt(start);
      if (without(range, this.#gaps).length === 0) continue;
      const windows = await recompute(start, through);
      if (windows === undefined) return;
      for (const judge of this.#judgesOf(start)) {
        const { names, unknownNames } = judge.sink;
        if (without(range, unknownNames ? [unknownNames] : []).length === 0) continue;
        await judge.judge(range, this.#expected(windows, range, names), signal);
      }
    }
  }

  #windowAt(start: number): WindowRange {
    return { from: start, to: this.#options.tiling.endOf(start) };
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
    const excluded = [...this.#gaps, ...[...this.#again.keys()].map((start) => this.#windowAt(start))];
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
        const own = intersection(group, judge.sink.range);
        const { unknownNames } = judge.sink;
        for (const part of without(own, unknownNames ? [...excluded, unknownNames] : excluded)) {
          await judge.judge(part, expected(part, judge.sink), this.#options.signal);
        }
      }),
    );
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
