/** What must become of every message, in the words of the service's own counters; counts by name, which add up. */
import { METRIC_TYPES, type MetricType } from '../../src/aggregate/point.ts';
import type { InputRejection } from '../../src/decode/rejection.ts';
import type { Status } from '../../src/observe/status.ts';

export type Counts = Readonly<Record<string, number>>;

/** One message, in the stream and received. */
const MESSAGE = 'messages';

export const samples = (type: MetricType, count = 1): Counts => ({
  [MESSAGE]: 1,
  [`samples: ${type}`]: count,
});
export const late = (): Counts => ({ ...samples('gauge'), late: 1 });
export const ahead = (): Counts => ({ ...samples('gauge'), ahead: 1 });
export const rejected = (reason: InputRejection): Counts => ({
  [MESSAGE]: 1,
  [`messages rejected: ${reason}`]: 1,
});
/** A message of which elements, lines or fields are rejected, and perhaps others are not. */
export const partly = (reasons: Partial<Record<InputRejection, number>>, taken: Counts = {}): Counts => ({
  [MESSAGE]: 1,
  ...Object.fromEntries(Object.entries(reasons).map(([reason, n]) => [`samples rejected: ${reason}`, n])),
  ...taken,
});
/** The stream does not take it. */
export const NOT_STORED: Counts = {};

export class Ledger {
  readonly #sums = new Map<string, number>();

  add(counts: Counts): void {
    for (const [name, count] of Object.entries(counts))
      this.#sums.set(name, (this.#sums.get(name) ?? 0) + count);
  }

  get messages(): number {
    return this.#sums.get(MESSAGE) ?? 0;
  }

  counts(): Counts {
    return Object.fromEntries(this.#sums);
  }
}

/** What the service says became of them. */
export function countsOf({ messages, samples: taken }: Status): Counts {
  const by = (what: string, counts: Counts) =>
    Object.entries(counts).map(([name, count]) => [`${what}: ${name}`, count] as const);
  return Object.fromEntries([
    [MESSAGE, messages.received],
    ...by('messages rejected', messages.rejected),
    ...by('samples', taken.byType),
    ...by('samples rejected', taken.rejected),
    ...(['late', 'ahead', 'overflowed', 'ignored', 'foreign', 'reopened'] as const).map(
      (name) => [name, taken[name]] as const,
    ),
  ]);
}

export function decoded(counts: Counts): number {
  return METRIC_TYPES.reduce((sum, type) => sum + (counts[`samples: ${type}`] ?? 0), 0);
}

/** Where the two differ, in words. */
export function discrepancies(expected: Counts, actual: Counts): string[] {
  const names = new Set([...Object.keys(expected), ...Object.keys(actual)]);
  return [...names]
    .filter((name) => (expected[name] ?? 0) !== (actual[name] ?? 0))
    .map((name) => `${name}: ${actual[name] ?? 0}, not ${expected[name] ?? 0}`);
}
