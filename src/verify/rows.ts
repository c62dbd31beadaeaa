/** Compares what a store holds with the truth, row by row. */

import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import type { Field, PointValues } from '../aggregate/point.ts';
import { connectSinkBus } from '../bus/sink-bus.ts';
import type { SinkConfig } from '../config/sink-config.ts';
import { isCheckProbe } from '../sink/check-probe.ts';
import type { StoredPoint } from '../sink/contract.ts';
import { createSink } from '../sink/masked-sink.ts';
import { readTruth, type TruthRow } from './truth.ts';

/** How many differences of each kind are listed; the rest are only counted. */
const MAX_EXAMPLES = 5;

/** The fields that the truth knows exactly. Percentiles are estimates and not among them. */
const TRUTH_FIELDS = ['count', 'sum', 'min', 'max', 'last'] as const;
const IDENTITY = ['name', 'type', 'dimensionsJson'] as const;

/** A row that a store must hold, with the fields that are compared. */
export type ExpectedRow = Pick<TruthRow, 'windowStart' | 'series'> &
  Partial<PointValues> & { readonly instance?: string; readonly sketch?: string | null };

/** A row that is not what it should be. */
export interface RowDifference {
  /** `extra`: the store has the row but should not, or has it twice. */
  readonly kind: 'missing' | 'extra' | 'different';
  /** In ms since 1970; null if the row is a total over all windows. */
  readonly windowStart: number | null;
  readonly seriesId: string;
  readonly name: string;
  readonly type: string;
  /** As JSON. */
  readonly dimensions: string;
  /** For `different`: the fields that differ. */
  readonly fields: readonly { readonly field: string; readonly stored: Shown; readonly expected: Shown }[];
}

type Shown = number | string | null;

export interface RowComparison {
  /** Rows read from the store. */
  points: number;
  /** Sum of the counts of these rows. */
  count: number;
  equal: number;
  missing: number;
  extra: number;
  different: number;
  /** The first few differences of each kind. */
  readonly examples: RowDifference[];
}

export function newRowComparison(): RowComparison {
  return { points: 0, count: 0, equal: 0, missing: 0, extra: 0, different: 0, examples: [] };
}

export function isEqual({ missing, extra, different }: RowComparison): boolean {
  return missing + extra + different === 0;
}

export function describeDifference({
  kind,
  windowStart,
  name,
  type,
  dimensions,
  fields,
}: RowDifference): string {
  const at = windowStart === null ? 'total' : new Date(windowStart).toISOString();
  const row = `${at} ${name} (${type}) ${dimensions}`;
  switch (kind) {
    case 'missing':
      return `${row}: is missing`;
    case 'extra':
      return `${row}: is in the store but should not be`;
    case 'different':
      return `${row}: ${fields.map(({ field, stored, expected }) => `${field} is ${stored}, not ${expected}`).join(', ')}`;
    default:
      return kind satisfies never;
  }
}

/** Rows by their key. Several stores can be compared with them at once. */
export class ExpectedRows {
  readonly size: number;
  readonly #fields: readonly Field[];
  readonly #row: (index: number) => ExpectedRow;
  readonly #indices = new Map<string, number>();

  /** `row` creates the row with the given index, each time it is needed. */
  constructor(fields: readonly Field[], size: number, row: (index: number) => ExpectedRow) {
    this.size = size;
    this.#fields = fields;
    this.#row = row;
    for (let i = 0; i < size; i++) this.#indices.set(keyOf(row(i)), i);
  }

  /**
   * Compares a store's rows with these. Every row must be in the store exactly once, with the same values to the last
   * bit, and there must be no others.
   */
  async compare(
    stored: AsyncIterable<StoredPoint>,
    differs: (kind: RowDifference['kind'], windowStart: number | null) => void = () => {},
  ): Promise<RowComparison> {
    const result = newRowComparison();
    const found = new Uint8Array(this.size);
    const tell = (kind: RowDifference['kind'], row: ExpectedRow, fields: RowDifference['fields'] = []) => {
      result[kind] += 1;
      differs(kind, row.windowStart);
      keepExample(result, { kind, ...describe(row), fields });
    };
    for await (const point of stored) {
      const index = this.#indices.get(keyOf(point));
      if (index === undefined && isCheckProbe(point.series)) continue;
      result.points += 1;
      result.count += point.count;
      if (index === undefined || found[index] === 1) {
        tell('extra', point);
        continue;
      }
      found[index] = 1;
      const wrong = this.#differences(point, this.#row(index));
      if (wrong.length === 0) result.equal += 1;
      else tell('different', point, wrong);
    }
    for (let i = 0; i < this.size; i++) if (found[i] === 0) tell('missing', this.#row(i));
    return result;
  }

  #differences(point: StoredPoint, row: ExpectedRow): RowDifference['fields'] {
    const values = this.#fields.map((field) => ({
      field: field as string,
      stored: point[field] as Shown,
      expected: row[field] as Shown,
    }));
    const identity = IDENTITY.map((field) => {
      const name = field === 'dimensionsJson' ? 'dimensions' : field;
      return { field: name, stored: point.series[field], expected: row.series[field] };
    });
    // What was written before the sink wrote sketches has none: that is no difference.
    const hasBoth = typeof point.sketch === 'string' && row.sketch !== undefined;
    const sketch = { field: 'sketch', stored: point.sketch ?? null, expected: row.sketch ?? null };
    return [...identity, ...values, ...(hasBoth ? [sketch] : [])].filter(
      ({ stored, expected }) => stored !== expected,
    );
  }
}

export function keepExample({ examples }: RowComparison, difference: RowDifference): void {
  const ofKind = examples.filter(({ kind }) => kind === difference.kind);
  if (ofKind.length < MAX_EXAMPLES) examples.push(difference);
}

function keyOf({ windowStart, series, instance = '' }: ExpectedRow): string {
  return `${windowStart} ${series.id} ${instance}`;
}

function describe({ windowStart, series }: ExpectedRow) {
  const { id: seriesId, name, type, dimensionsJson: dimensions } = series;
  return { windowStart, seriesId, name, type, dimensions };
}

/** Compares a store's rows with the truth: every row of the truth must be in the store, and no others. */
export async function compareWithTruth(
  truth: Iterable<TruthRow>,
  stored: AsyncIterable<StoredPoint>,
): Promise<RowComparison> {
  const rows = [...truth];
  return await new ExpectedRows(TRUTH_FIELDS, rows.length, (index) => rows[index]!).compare(stored);
}

/** Resolves to the rows of a file that `load --truth` wrote. */
export async function readTruthFile(file: string): Promise<TruthRow[]> {
  return await Array.fromAsync(readTruth(createInterface({ input: createReadStream(file) })));
}

/**
 * The range that is read extends this many windows beyond the truth on both sides, to find rows that should not be
 * there.
 */
const MARGIN_WINDOWS = 100;
/** For reading one sink: a store that has to scan everything it holds takes a while. */
export const READ_TIMEOUT_MS = 300_000;

/**
 * Reads every sink with its store's own query and compares it with the truth. Resolves to the comparisons by sink id.
 * `isCompared` sees every row, and says which of them the truth is about.
 */
export async function compareSinks(
  sinks: readonly SinkConfig[],
  truth: readonly TruthRow[],
  windowMs: number,
  isCompared: (sink: string, point: StoredPoint) => boolean = () => true,
): Promise<Map<string, RowComparison>> {
  const starts = truth.map(({ windowStart }) => windowStart!);
  const margin = MARGIN_WINDOWS * windowMs;
  const least = starts.reduce((a, b) => Math.min(a, b));
  const most = starts.reduce((a, b) => Math.max(a, b));
  const results = new Map<string, RowComparison>();
  for (const config of sinks) {
    const read = { ...config, readOnly: true };
    const sink = createSink(read, { info() {}, warn() {} }, process.env, () => connectSinkBus(process.env));
    const signal = AbortSignal.timeout(READ_TIMEOUT_MS);
    try {
      await sink.open(signal);
      const stored = sink.read({ from: least - margin, to: most + margin }, signal);
      const compared = only(stored, (point) => isCompared(config.id, point));
      results.set(config.id, await compareWithTruth(truth, compared));
    } finally {
      await sink.close();
    }
  }
  return results;
}

async function* only(
  points: AsyncIterable<StoredPoint>,
  isMeant: (point: StoredPoint) => boolean,
): AsyncGenerator<StoredPoint> {
  for await (const point of points) if (isMeant(point)) yield point;
}
