/** What a question adds up, by group: points of chunks, or what each series has in all windows together. */
import type { ChunkReader } from './columns.ts';
import { NO_GROUP, patience } from './selection.ts';
import { roundedOff, type SeriesTotals } from './series-totals.ts';
import type { Turns } from './turns.ts';

/** Series between two looks at the clock. */
const STEP_SERIES = 4096;

/** By group. */
export class GroupSums {
  readonly count: Float64Array;
  readonly min: Float64Array;
  readonly max: Float64Array;
  readonly #sum: Float64Array;
  /** What rounding took off each sum, which `count` adds too; and the sum of what is whole and small. */
  readonly #rest: Float64Array;
  readonly #whole: Float64Array;

  constructor(groups: number) {
    const column = () => new Float64Array(groups);
    this.count = column();
    this.min = column().fill(Number.POSITIVE_INFINITY);
    this.max = column().fill(Number.NEGATIVE_INFINITY);
    this.#sum = column();
    this.#rest = column();
    this.#whole = column();
  }

  sumOf(group: number): number {
    return this.partsOf(group).sum;
  }

  /** The sum, and what rounding took off it: more would be lost if sums of several instances were added without. */
  partsOf(group: number): { readonly sum: number; readonly rest: number } {
    const [one, other] = [this.#sum[group]!, this.#whole[group]!];
    const rounded = one + other;
    const rest = this.#rest[group]! + roundedOff(one, other, rounded);
    if (!Number.isFinite(rest)) return { sum: rounded, rest: 0 };
    return { sum: rounded + rest, rest: roundedOff(rounded, rest, rounded + rest) };
  }

  // The loops have no branch that depends on what is in a group and what is not, beside the first: a processor cannot
  // guess it, and each wrong guess costs more than all the rest.

  /** Of sums that are whole and small. */
  addWholeChunk(groupOf: Int32Array, { numbers, count, sum }: ChunkReader, size: number): void {
    const counts = this.count;
    const sums = this.#whole;
    for (let i = 0; i < size; i++) {
      const group = groupOf[numbers[i]!]!;
      if (group < 0) continue;
      counts[group]! += count[i]!;
      sums[group]! += sum[i]!;
    }
  }

  addEachOf(groupOf: Int32Array, { numbers, count, sum }: ChunkReader, size: number): void {
    const counts = this.count;
    const sums = this.#sum;
    const rests = this.#rest;
    for (let i = 0; i < size; i++) {
      const group = groupOf[numbers[i]!]!;
      if (group < 0) continue;
      counts[group]! += count[i]!;
      const value = sum[i]!;
      const before = sums[group]!;
      const after = before + value;
      sums[group] = after;
      rests[group]! += roundedOff(before, value, after);
    }
  }

  /** Adding to the same place in memory again and again has to wait for the time before: where groups come in runs. */
  addRuns(groupOf: Int32Array, { numbers, count, sum }: ChunkReader, size: number): void {
    let group = NO_GROUP;
    let counted = 0;
    let summed = 0;
    let rest = 0;
    for (let i = 0; i < size; i++) {
      const next = groupOf[numbers[i]!]!;
      if (next !== group) {
        if (group >= 0) this.#set(group, counted, summed, rest);
        group = next;
        if (group < 0) continue;
        counted = this.count[group]!;
        summed = this.#sum[group]!;
        rest = this.#rest[group]!;
      }
      if (group < 0) continue;
      counted += count[i]!;
      const value = sum[i]!;
      const before = summed;
      summed += value;
      rest += roundedOff(before, value, summed);
    }
    if (group >= 0) this.#set(group, counted, summed, rest);
  }

  /** Of sums that were added by another method. */
  addRestsOf(groupOf: Int32Array, { numbers, rest }: ChunkReader, size: number): void {
    const rests = this.#rest;
    for (let i = 0; i < size; i++) {
      const group = groupOf[numbers[i]!]!;
      if (group >= 0) rests[group]! += rest[i]!;
    }
  }

  addLimitsOf(groupOf: Int32Array, { numbers, min, max }: ChunkReader, size: number): void {
    const least = this.min;
    const most = this.max;
    for (let i = 0; i < size; i++) {
      const group = groupOf[numbers[i]!]!;
      if (group < 0) continue;
      if (min[i]! < least[group]!) least[group] = min[i]!;
      if (max[i]! > most[group]!) most[group] = max[i]!;
    }
  }

  #set(group: number, count: number, sum: number, rest: number): void {
    this.count[group] = count;
    this.#sum[group] = sum;
    this.#rest[group] = rest;
  }

  /** Adds up the series of each group. */
  async addTotals(groupOf: Int32Array, totals: SeriesTotals, turns: Turns): Promise<void> {
    const end = Math.min(groupOf.length, totals.count.length);
    for (let from = 0; from < end; from += STEP_SERIES) {
      const to = Math.min(end, from + STEP_SERIES);
      this.#addWhole(groupOf, totals, from, to);
      if (totals.sum.length > 0) this.#addEach(groupOf, totals, from, to);
      if (totals.min.length > 0) this.#addLimits(groupOf, totals, from, to);
      await patience(turns);
    }
  }

  #addWhole(groupOf: Int32Array, { count, whole }: SeriesTotals, from: number, to: number): void {
    const counts = this.count;
    const sums = this.#whole;
    for (let number = from; number < to; number++) {
      const group = groupOf[number]!;
      if (group < 0) continue;
      counts[group]! += count[number]!;
      sums[group]! += whole[number]!;
    }
  }

  #addEach(groupOf: Int32Array, { sum, rest }: SeriesTotals, from: number, to: number): void {
    const sums = this.#sum;
    const rests = this.#rest;
    for (let number = from; number < to; number++) {
      const group = groupOf[number]!;
      if (group < 0) continue;
      const value = sum[number]!;
      const before = sums[group]!;
      const after = before + value;
      sums[group] = after;
      rests[group]! += roundedOff(before, value, after) + rest[number]!;
    }
  }

  #addLimits(groupOf: Int32Array, { min, max }: SeriesTotals, from: number, to: number): void {
    const least = this.min;
    const most = this.max;
    for (let number = from; number < to; number++) {
      const group = groupOf[number]!;
      if (group < 0) continue;
      if (min[number]! < least[group]!) least[group] = min[number]!;
      if (max[number]! > most[group]!) most[group] = max[number]!;
    }
  }
}
