/** Compares what a store holds with the truth, row by row. */
import type { StoredPoint } from '../sink.ts';
import type { TruthRow } from './truth.ts';

/** Differences listed in words; the rest is a number. */
const MAX_EXAMPLES = 5;

/** The fields that the truth knows exactly; percentiles are estimates, and no part of it. */
const COMPARED = ['count', 'sum', 'min', 'max', 'last'] as const;

export interface Comparison {
  /** Rows of the store. */
  points: number;
  /** Sum of their counts. */
  count: number;
  equal: number;
  missing: number;
  extra: number;
  different: number;
  readonly examples: string[];
}

export function isEqual({ missing, extra, different }: Comparison): boolean {
  return missing + extra + different === 0;
}

/** Every row of the truth must be in the store exactly once, with the same values to the last bit, and no other. */
export async function compareWithTruth(
  truth: Iterable<TruthRow>,
  stored: AsyncIterable<StoredPoint>,
): Promise<Comparison> {
  const owed = new Map<string, TruthRow>();
  for (const row of truth) owed.set(`${row.windowStart} ${row.series.id}`, row);
  const result: Comparison = {
    points: 0,
    count: 0,
    equal: 0,
    missing: 0,
    extra: 0,
    different: 0,
    examples: [],
  };
  const tell = (what: string) => {
    if (result.examples.length < MAX_EXAMPLES) result.examples.push(what);
  };
  for await (const point of stored) {
    const key = `${point.windowStart} ${point.series.id}`;
    const row = owed.get(key);
    owed.delete(key);
    result.points += 1;
    result.count += point.count;
    if (row === undefined) {
      result.extra += 1;
      tell(`${nameOf(point)}: is in the store, and should not be`);
      continue;
    }
    const wrong = COMPARED.filter((field) => point[field] !== row[field]);
    if (wrong.length === 0) {
      result.equal += 1;
      continue;
    }
    result.different += 1;
    tell(
      `${nameOf(point)}: ${wrong.map((field) => `${field} is ${point[field]}, not ${row[field]}`).join(', ')}`,
    );
  }
  result.missing = owed.size;
  for (const row of owed.values()) {
    if (result.examples.length === MAX_EXAMPLES) break;
    tell(`${nameOf(row)}: is missing`);
  }
  return result;
}

function nameOf({
  windowStart,
  series,
}: {
  windowStart: number | null;
  series: StoredPoint['series'];
}): string {
  const at = windowStart === null ? 'total' : new Date(windowStart).toISOString();
  return `${at} ${series.name} ${series.dimensionsJson}`;
}
