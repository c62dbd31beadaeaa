import type { Tiling } from '../aggregate/tiling.ts';
import type { StoredPoint, WindowRange } from '../sink/contract.ts';
import {
  type ExpectedRows,
  keepExample,
  newRowComparison,
  type RowComparison,
  type RowDifference,
} from './rows.ts';

/** Of a group that could not be read: a moment's fault must not end a long run. */
const ATTEMPTS = 2;

/** A store, and which of its windows are judged. */
export interface JudgedSink {
  readonly id: string;
  readonly range: WindowRange;
  read(range: WindowRange): AsyncIterable<StoredPoint>;
}

/** What is to be said of a store. Every window judged is equal, different or unknown. */
export interface WindowVerdict {
  readonly windows: { readonly equal: number; readonly different: number; readonly unknown: number };
  readonly rows: Readonly<Record<'equal' | RowDifference['kind'], number>>;
  /** Why windows are unknown. */
  readonly reasons: readonly string[];
  readonly examples: readonly RowDifference[];
}

type Counts = Record<RowDifference['kind'], number>;

/** What was found of one store so far. */
export class SinkJudge {
  readonly sink: JudgedSink;
  readonly #tiling: Tiling;
  #windows = 0;
  readonly #rows: RowComparison = newRowComparison();
  /** By window. */
  readonly #differing = new Map<number, Counts>();
  readonly #reasons = new Set<string>();
  /** The store does not answer: it is not asked for every group. */
  #isGivenUp = false;

  constructor(sink: JudgedSink, tiling: Tiling) {
    this.sink = sink;
    this.#tiling = tiling;
  }

  get rows(): number {
    return this.#rows.points;
  }

  /** Where the store cannot be read, the windows stay unknown. Never rejects. */
  async judge(range: WindowRange, expected: ExpectedRows, signal: AbortSignal): Promise<void> {
    for (let attempt = 1; !this.#isGivenUp && !signal.aborted; attempt++) {
      const differing = new Map<number, Counts>();
      const differs = (kind: RowDifference['kind'], windowStart: number | null) => {
        const start = this.#tiling.startOf(windowStart!);
        const counts = differing.get(start) ?? { missing: 0, extra: 0, different: 0 };
        counts[kind] += 1;
        differing.set(start, counts);
      };
      try {
        const comparison = await expected.compare(this.sink.read(range), differs);
        this.#take(range, comparison, differing);
        return;
      } catch (error) {
        if (signal.aborted || attempt < ATTEMPTS) continue;
        this.#isGivenUp = true;
        this.doubt(`it cannot be read: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
  }

  #take(range: WindowRange, comparison: RowComparison, differing: ReadonlyMap<number, Counts>): void {
    this.#windows += this.#tiling.windowsBetween(range.from, range.to);
    for (const [start, counts] of differing) this.#differing.set(start, counts);
    this.#rows.points += comparison.points;
    this.#rows.equal += comparison.equal;
    for (const example of comparison.examples) keepExample(this.#rows, example);
  }

  /** Why some window is unknown. */
  doubt(reason: string): void {
    this.#reasons.add(reason);
  }

  /** The window was judged by less than all that belongs to it. */
  takeBack(start: number): void {
    this.#windows -= 1;
    this.#differing.delete(start);
    const { examples } = this.#rows;
    const kept = examples.filter(({ windowStart }) => this.#tiling.startOf(windowStart!) !== start);
    examples.splice(0, examples.length, ...kept);
  }

  verdict(): WindowVerdict {
    const { from, to } = this.sink.range;
    const all = Math.round(this.#tiling.windowsBetween(from, to));
    const different = this.#differing.size;
    const counts = { equal: this.#rows.equal, missing: 0, extra: 0, different: 0 };
    for (const { missing, extra, different: differ } of this.#differing.values()) {
      counts.missing += missing;
      counts.extra += extra;
      counts.different += differ;
    }
    return {
      windows: {
        equal: Math.round(this.#windows) - different,
        different,
        unknown: all - Math.round(this.#windows),
      },
      rows: counts,
      reasons: [...this.#reasons],
      examples: this.#rows.examples,
    };
  }
}
