/** Compares what a store holds with the truth, row by row. */
import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import type { SinkConfig } from '../config.ts';
import type { StoredPoint } from '../sink.ts';
import { readTruth, type TruthRow } from './truth.ts';

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

/** The rows of a file that `load --truth` wrote. */
export async function readTruthFile(file: string): Promise<TruthRow[]> {
  return await Array.fromAsync(readTruth(createInterface({ input: createReadStream(file) })));
}

/** Wider than the truth by so many windows: what should not be there is looked for on both sides. */
const MARGIN_WINDOWS = 100;
const READ_TIMEOUT_MS = 300_000;

/** Reads every sink through its store's own query, and compares it. By sink id. */
export async function compareSinks(
  sinks: readonly SinkConfig[],
  truth: readonly TruthRow[],
  windowMs: number,
): Promise<Map<string, Comparison>> {
  const starts = truth.map(({ windowStart }) => windowStart!);
  const margin = MARGIN_WINDOWS * windowMs;
  const least = starts.reduce((a, b) => Math.min(a, b));
  const most = starts.reduce((a, b) => Math.max(a, b));
  const results = new Map<string, Comparison>();
  for (const { id, module, values } of sinks) {
    const sink = module.create(values, { id, log: { info() {}, warn() {} } });
    const signal = AbortSignal.timeout(READ_TIMEOUT_MS);
    try {
      await sink.open(signal);
      const stored = sink.read({ from: least - margin, to: most + margin }, signal);
      results.set(id, await compareWithTruth(truth, stored));
    } finally {
      await sink.close();
    }
  }
  return results;
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
