/** Adds up recent windows for a question. */
import { SKETCH_SCALE } from '../aggregate/buckets.ts';
import { METRIC_TYPES } from '../aggregate/point.ts';
import { COUNTER, TIMER } from '../aggregate/sample.ts';
import { QUANTILES, Sketches } from '../aggregate/sketch.ts';
import { BinSums } from './bin-sums.ts';
import { ByteWriter } from './byte-writer.ts';
import { ChunkReader } from './columns.ts';
import { type Coverage, coverageOf } from './coverage.ts';
import {
  type AnswerGroup,
  MAX_ANSWER_BYTES,
  MAX_GROUPS,
  type OtherGroups,
  type RecentAnswer,
  type RecentQuestion,
  sumInJson,
} from './question.ts';
import type { KeptWindow, RecentView } from './recent-windows.ts';
import { hasChunk, NO_GROUP, patience, REST_GROUPS, type Selection, selectSeries } from './selection.ts';
import { roundedOff, SeriesTotals } from './series-totals.ts';
import { SketchReader, writeSketch } from './sketch-bytes.ts';
import type { Turns } from './turns.ts';

/** The numbers of a group, and what JSON adds to its texts. */
const GROUP_BYTES = 320;

/** Bytes of sketches between two looks at the clock. */
const STEP_BYTES = 4096;
/** Groups, likewise, and series. */
const STEP_GROUPS = 2048;
const STEP_SERIES = 4096;

/** Arrays that every question needs. */
export class Adder {
  readonly #reader = new ChunkReader();
  readonly #sketches = new SketchReader();
  #totals: SeriesTotals | undefined;

  async answer(
    question: RecentQuestion,
    view: RecentView,
    of: { readonly now: number; readonly slice: string; readonly parts: boolean },
    turns: Turns,
  ): Promise<RecentAnswer> {
    const coverage = coverageOf(question, view, of);
    const selection = await selectSeries(view.dictionary, question, turns);
    const windows = view.windows.filter(({ start }) => coverage.has(start));
    const { dictionary, lend } = view;
    const sums = new Sums(selection.groups.length);
    const totals = await this.#totalsOf({ windows, dictionary, lend }, selection, turns);
    await sums.add(selection.groupOf, totals, turns);
    const shown = largest(selection, sums);
    const sketches = await this.#merge(windows, selection, shown, turns);
    return {
      ...coverage.words,
      ...(await groupsOf(selection, sums, shown, sketches, coverage, question, turns)),
    };
  }

  /** Returns what the series have together in these windows, as far as they are selected. */
  async #totalsOf(
    view: Pick<RecentView, 'windows' | 'dictionary' | 'lend'>,
    selection: Selection,
    turns: Turns,
  ): Promise<SeriesTotals> {
    const known = this.#totals?.isOf(view.windows) ? this.#totals : undefined;
    const totals = known ?? new SeriesTotals(view);
    this.#totals = undefined;
    await totals.addUp(view, selection, this.#reader, turns);
    const giveBack = () => {
      if (this.#totals === totals) this.#totals = undefined;
    };
    if (view.lend(totals.bytes, giveBack)) this.#totals = totals;
    return totals;
  }

  /** Merges the sketches of the groups that are shown. */
  async #merge(
    windows: readonly KeptWindow[],
    selection: Selection,
    shown: readonly number[],
    turns: Turns,
  ): Promise<MergedSketches> {
    const { groupOf, groups } = selection;
    const sketchOf = new Int32Array(groups.length).fill(NO_GROUP);
    let timers = 0;
    for (const group of shown) if (groups[group]!.type === TIMER) sketchOf[group] = timers++;
    const bins = new BinSums(timers);
    const [reader, sketches] = [this.#reader, this.#sketches];
    for (const { chunks } of timers === 0 ? [] : windows) {
      for (const chunk of chunks) {
        if (chunk.type !== TIMER || !hasChunk(selection, chunk)) continue;
        reader.readNumbers(chunk);
        sketches.begin(chunk.sketches);
        for (let i = 0, looked = 0; i < chunk.size; i++) {
          const group = groupOf[reader.numbers[i]!]!;
          sketches.addTo(bins, group < 0 ? NO_GROUP : sketchOf[group]!);
          if (sketches.position - looked < STEP_BYTES) continue;
          looked = sketches.position;
          await patience(turns);
        }
        await patience(turns);
      }
    }
    const merged = new Sketches(SKETCH_SCALE);
    for (let sketch = 0; sketch < timers; sketch++) {
      bins.copyTo(merged, sketch);
      await patience(turns);
    }
    return { merged, sketchOf };
  }
}

interface MergedSketches {
  readonly merged: Sketches;
  /** By group: which one it has. */
  readonly sketchOf: Int32Array;
}

/** By group. */
class Sums {
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

  /** Adds up the series of each group. */
  async add(groupOf: Int32Array, totals: SeriesTotals, turns: Turns): Promise<void> {
    for (let from = 0; from < groupOf.length; from += STEP_SERIES) {
      const to = Math.min(groupOf.length, from + STEP_SERIES);
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

/** Returns the groups to show, largest first, as many as an answer may have. */
function largest({ groups }: Selection, { count }: Sums): number[] {
  // Sorting the counts alone is quick, so few groups are left to sort.
  const least = Math.max(Number.MIN_VALUE, count.slice(REST_GROUPS).sort().at(-MAX_GROUPS) ?? 0);
  const above: number[] = [];
  const equal: number[] = [];
  for (let group = REST_GROUPS; group < groups.length; group++) {
    if (count[group]! > least) above.push(group);
    else if (count[group] === least && equal.length < MAX_GROUPS) equal.push(group);
  }
  above.sort((a, b) => count[b]! - count[a]! || a - b);
  let left = MAX_ANSWER_BYTES;
  const shown: number[] = [];
  for (const group of [...above, ...equal].slice(0, MAX_GROUPS)) {
    const { name = '', values } = groups[group]!;
    left -= GROUP_BYTES + Buffer.byteLength(JSON.stringify([name, values]));
    if (left < 0) break;
    shown.push(group);
  }
  return shown;
}

async function groupsOf(
  { groups }: Selection,
  sums: Sums,
  shown: readonly number[],
  { merged, sketchOf }: MergedSketches,
  { seconds }: Coverage,
  { by, sketches }: RecentQuestion,
  turns: Turns,
): Promise<Pick<RecentAnswer, 'groups' | 'others'>> {
  const others = METRIC_TYPES.map((type): OtherGroups => ({ type, groups: 0, count: 0, sum: 0 }));
  const given: AnswerGroup[] = [];
  const isShown = new Uint8Array(groups.length);
  let left = MAX_ANSWER_BYTES;
  const writer = new ByteWriter();
  for (const group of shown) {
    const { name = '', type, values } = groups[group]!;
    const sketch = sketchOf[group]!;
    let text: string | undefined;
    if (sketches && sketch >= 0) {
      writeSketch(merged, sketch, writer);
      text = Buffer.from(writer.take()).toString('base64');
      left -= text.length;
    }
    if (left < 0) break;
    isShown[group] = 1;
    const [count, hasLimits] = [sums.count[group]!, type !== COUNTER];
    const { sum, rest } = sums.partsOf(group);
    given.push({
      name,
      type: METRIC_TYPES[type]!,
      dimensions: Object.fromEntries(by.map((key, i) => [key, values[i]!])),
      count,
      sum: sumInJson(sum),
      ...ratesOf(count, sum, seconds),
      min: hasLimits ? sums.min[group]! : null,
      max: hasLimits ? sums.max[group]! : null,
      ...percentilesOf(merged, sketch, sums.min[group]!, sums.max[group]!),
      ...(sketches && { rest }),
      ...(text !== undefined && { sketch: text }),
    });
    await patience(turns);
  }
  for (let group = 0; group < groups.length; group++) {
    if (group % STEP_GROUPS === 0) await patience(turns);
    const count = sums.count[group]!;
    if (count === 0 || isShown[group] === 1) continue;
    const { type } = groups[group]!;
    const before = others[type]!;
    others[type] = {
      type: before.type,
      groups: before.groups + 1,
      count: before.count + count,
      sum: sumInJson(Number(before.sum) + sums.sumOf(group)),
    };
  }
  return { groups: given, others: others.filter((other) => other.groups > 0) };
}

export function ratesOf(count: number, sum: number, seconds: number) {
  const per = seconds > 0 ? seconds : 1;
  return { countPerSecond: count / per, sumPerSecond: sumInJson(sum / per) };
}

/** `sketch`: negative if there is none. */
export function percentilesOf(
  sketches: Sketches,
  sketch: number,
  min: number,
  max: number,
): Pick<AnswerGroup, 'p50' | 'p90' | 'p95' | 'p99'> {
  if (sketch < 0) return { p50: null, p90: null, p95: null, p99: null };
  let weight = 0;
  sketches.eachBucket(sketch, (_sign, _index, each) => {
    weight += each;
  });
  if (weight === 0) return { p50: null, p90: null, p95: null, p99: null };
  const out = sketches.quantiles(sketch, weight, min, max, new Float64Array(QUANTILES.length), 0);
  const [p50, p90, p95, p99] = Array.from(out);
  return { p50: p50!, p90: p90!, p95: p95!, p99: p99! };
}
