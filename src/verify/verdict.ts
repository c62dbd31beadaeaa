import type { Tiling } from '../aggregate/tiling.ts';
import type { NameChoices } from '../deliver/name-choices.ts';
import { isCheckProbe } from '../sink/check-probe.ts';
import { failureInWords, type StoredPoint, type WindowRange } from '../sink/contract.ts';
import {
  type ExpectedRows,
  keepExample,
  newRowComparison,
  type RowComparison,
  type RowDifference,
} from './rows.ts';

/** Attempts to read a group: a momentary fault must not end a long run. */
const ATTEMPTS = 2;

/** A store, and the range of its windows to judge. */
export interface JudgedSink {
  readonly id: string;
  readonly range: WindowRange;
  /** Its windows, if it has windows of its own. */
  readonly windows?: Tiling | undefined;
  /** Rows of earlier windows may be absent: the sink never got these windows, or keeps them no longer. */
  readonly owedFrom?: number;
  /** Which names it gets, and got; absent: all. Rows of other names are counted, and not compared. */
  readonly names?: NameChoices | undefined;
  /** Windows for which nobody knows any longer which names it got. */
  readonly unknownNames?: WindowRange | undefined;
  read(range: WindowRange): AsyncIterable<StoredPoint>;
}

/** The result for one store. Every window in its range is equal, different, not owed or unknown. */
export interface WindowVerdict {
  readonly windows: {
    readonly equal: number;
    readonly different: number;
    /** Rows are absent that need not be there: see `JudgedSink.owedFrom`. */
    readonly notOwed: number;
    readonly unknown: number;
  };
  readonly rows: Readonly<Record<'equal' | RowDifference['kind'], number>> & {
    /** Of names that the sink was not given; absent if it gets all. */
    readonly notChosen?: number;
  };
  /** Why windows are unknown. */
  readonly reasons: readonly string[];
  readonly examples: readonly RowDifference[];
}

type Counts = Record<RowDifference['kind'], number>;

/** Collects what has been found about one store so far. */
export class SinkJudge {
  readonly sink: JudgedSink;
  readonly #tiling: Tiling;
  #windows = 0;
  readonly #rows: RowComparison = newRowComparison();
  /** By start of a window. */
  readonly #differing = new Map<number, Counts>();
  /** By start of a window: rows of names that the sink was not given. */
  readonly #notChosen = new Map<number, number>();
  readonly #reasons = new Set<string>();
  /** The store does not answer, so it is not asked for any more groups. */
  #isGivenUp = false;

  constructor(sink: JudgedSink, tiling: Tiling) {
    this.sink = sink;
    this.#tiling = sink.windows ?? tiling;
  }

  get rows(): number {
    return this.#rows.points;
  }

  /** Judges the windows in `range`. If the store cannot be read, they stay unknown. Never rejects. */
  async judge(range: WindowRange, expected: ExpectedRows, signal: AbortSignal): Promise<void> {
    for (let attempt = 1; !this.#isGivenUp && !signal.aborted; attempt++) {
      const differing = new Map<number, Counts>();
      const notChosen = new Map<number, number>();
      const differs = (kind: RowDifference['kind'], windowStart: number | null) => {
        const start = this.#tiling.startOf(windowStart!);
        const counts = differing.get(start) ?? { missing: 0, extra: 0, different: 0 };
        counts[kind] += 1;
        differing.set(start, counts);
      };
      try {
        const comparison = await expected.compare(this.#given(range, notChosen), differs);
        this.#take(range, comparison, differing);
        for (const [start, rows] of notChosen) this.#notChosen.set(start, rows);
        return;
      } catch (error) {
        if (signal.aborted || attempt < ATTEMPTS) continue;
        this.#isGivenUp = true;
        this.doubt(`the store cannot be read: ${failureInWords(error)}`);
      }
    }
  }

  /** The rows of names that the sink was given. The others are counted. */
  #given(range: WindowRange, notChosen: Map<number, number>): AsyncIterable<StoredPoint> {
    const { names } = this.sink;
    return names === undefined
      ? this.sink.read(range)
      : givenRows(this.sink.read(range), names, this.#tiling, notChosen);
  }

  #take(range: WindowRange, comparison: RowComparison, differing: ReadonlyMap<number, Counts>): void {
    this.#windows += this.#tiling.windowsBetween(range.from, range.to);
    for (const [start, counts] of differing) this.#differing.set(start, counts);
    this.#rows.points += comparison.points;
    this.#rows.equal += comparison.equal;
    for (const example of comparison.examples) {
      const isOwed = example.kind !== 'missing' || !this.#isNotOwed(example.windowStart!);
      if (isOwed) keepExample(this.#rows, example);
    }
  }

  #isNotOwed(start: number): boolean {
    return start < (this.sink.owedFrom ?? Number.NEGATIVE_INFINITY);
  }

  /** Records why some windows are unknown. */
  doubt(reason: string): void {
    this.#reasons.add(reason);
  }

  /** Withdraws the judgement of a window that was judged by only part of its samples. */
  takeBack(start: number): void {
    this.#windows -= 1;
    this.#differing.delete(start);
    this.#notChosen.delete(start);
    const { examples } = this.#rows;
    const kept = examples.filter(({ windowStart }) => this.#tiling.startOf(windowStart!) !== start);
    examples.splice(0, examples.length, ...kept);
  }

  verdict(): WindowVerdict {
    const { from, to } = this.sink.range;
    const all = Math.round(this.#tiling.windowsBetween(from, to));
    let notOwed = 0;
    const counts = { equal: this.#rows.equal, missing: 0, extra: 0, different: 0 };
    for (const [start, { missing, extra, different: differ }] of this.#differing) {
      if (this.#isNotOwed(start) && extra + differ === 0) {
        notOwed += 1;
        continue;
      }
      counts.missing += missing;
      counts.extra += extra;
      counts.different += differ;
    }
    return {
      windows: {
        equal: Math.round(this.#windows) - this.#differing.size,
        different: this.#differing.size - notOwed,
        notOwed,
        unknown: all - Math.round(this.#windows),
      },
      rows: { ...counts, ...(this.sink.names && { notChosen: sumOf(this.#notChosen.values()) }) },
      reasons: [...this.#reasons],
      examples: this.#rows.examples,
    };
  }
}

async function* givenRows(
  stored: AsyncIterable<StoredPoint>,
  names: NameChoices,
  tiling: Tiling,
  notChosen: Map<number, number>,
): AsyncGenerator<StoredPoint> {
  for await (const point of stored) {
    const start = tiling.startOf(point.windowStart);
    if (names.gives(point.series.name, { start, windowMs: tiling.epochAt(start).windowMs })) yield point;
    else if (!isCheckProbe(point.series)) notChosen.set(start, (notChosen.get(start) ?? 0) + 1);
  }
}

function sumOf(counts: Iterable<number>): number {
  let sum = 0;
  for (const count of counts) sum += count;
  return sum;
}
