/** Adds up recent windows for a question. */
import { METRIC_TYPES } from '../aggregate/point.ts';
import { COUNTER, TIMER } from '../aggregate/sample.ts';
import { QUANTILES } from '../aggregate/sketch.ts';
import { BinSums } from './bin-sums.ts';
import { KeptBlocks, type Part } from './blocks.ts';
import { ByteWriter } from './byte-writer.ts';
import { ChunkReader, isExact } from './columns.ts';
import { type Coverage, coverageOf } from './coverage.ts';
import { GroupSums } from './group-sums.ts';
import {
  type AnswerGroup,
  MAX_ANSWER_BYTES,
  MAX_GROUPS,
  type OtherGroups,
  type RecentAnswer,
  type RecentQuestion,
  sumInJson,
} from './question.ts';
import type { RecentView } from './recent-windows.ts';
import { hasChunk, NO_GROUP, patience, REST_GROUPS, type Selection, selectSeries } from './selection.ts';
import { SeriesTotals } from './series-totals.ts';
import { SketchReader, writeSketch } from './sketch-bytes.ts';
import type { Turns } from './turns.ts';

/** The numbers of a group, and what JSON adds to its texts. */
const GROUP_BYTES = 320;

/** Bytes of sketches between two looks at the clock. */
const STEP_BYTES = 4096;
/** Groups, likewise. */
const STEP_GROUPS = 2048;

const NO_GROUPS = new Int32Array();

/** Arrays that every question needs. */
export class Adder {
  readonly #reader = new ChunkReader();
  readonly #sketches = new SketchReader();
  readonly #blocks = new KeptBlocks();
  #totals: SeriesTotals | undefined;
  #groupOf = NO_GROUPS;

  /** Makes what the next questions will have less work with. `steady`: moments, in milliseconds. */
  async prepare(view: RecentView, steady: () => number, pause: () => Promise<void>): Promise<void> {
    await this.#blocks.prepare(view, { now: steady, pause, reserve: () => this.#borrow(view) });
    this.#borrow(view);
  }

  async answer(
    question: RecentQuestion,
    view: RecentView,
    of: { readonly now: number; readonly steady: number; readonly slice: string; readonly parts: boolean },
    turns: Turns,
  ): Promise<RecentAnswer> {
    const coverage = coverageOf(question, view, of);
    const selection = await selectSeries(view.dictionary, question, this.#groupsFor(view), turns);
    const windows = view.windows.filter(({ start }) => coverage.has(start));
    const parts = this.#blocks.partsOf(windows, of.steady);
    const sums = new GroupSums(selection.groups.length);
    await this.#add({ ...view, windows }, parts, question.by.length > 0, selection, sums, turns);
    const shown = largest(selection, sums);
    const sketches = await this.#merge(parts, selection, sums, shown, turns);
    const groups = await groupsOf(selection, sums, shown, sketches, coverage, question, turns);
    sketches.bins.release();
    return { ...coverage.words, ...groups };
  }

  /**
   * The first question about names in these windows adds up their points. Another one adds up the series first, which
   * costs more, and leaves that for all others. `isMixed`: whether series that follow each other are often in different
   * groups.
   */
  async #add(
    view: RecentView,
    parts: readonly Part[],
    isMixed: boolean,
    selection: Selection,
    sums: GroupSums,
    turns: Turns,
  ): Promise<void> {
    const totals = this.#totals?.isOf(view.windows) ? this.#totals : new SeriesTotals(view.windows);
    // If this is cut short, what was added up so far is of no use.
    this.#totals = undefined;
    if (totals.isWorthIt(view, selection)) {
      await totals.addUp(parts, view.dictionary, selection, this.#reader, turns);
      await sums.addTotals(selection.groupOf, totals, turns);
    } else await this.#addPoints(parts, isMixed, selection, sums, turns);
    this.#totals = totals;
    if (this.#borrow(view)) return;
    this.#totals = undefined;
    if (!this.#borrow(view)) this.#groupOf = NO_GROUPS;
  }

  /** Returns an array for the groups of the series. A question is over before the next one begins. */
  #groupsFor({ dictionary }: RecentView): Int32Array {
    if (this.#groupOf.length < dictionary.size || this.#groupOf.length > 2 * dictionary.size)
      this.#groupOf = new Int32Array(dictionary.size);
    return this.#groupOf;
  }

  /** Returns whether there is room for all that is left for other questions. */
  #borrow(view: RecentView): boolean {
    const bytes = this.#blocks.bytes + this.#groupOf.byteLength + (this.#totals?.bytes ?? 0);
    return view.lend(bytes, () => {
      this.#blocks.clear();
      this.#groupOf = NO_GROUPS;
      this.#totals = undefined;
    });
  }

  async #addPoints(
    parts: readonly Part[],
    isMixed: boolean,
    selection: Selection,
    sums: GroupSums,
    turns: Turns,
  ): Promise<void> {
    const reader = this.#reader;
    const { groupOf } = selection;
    for (const { chunks } of parts) {
      for (const chunk of chunks) {
        if (!hasChunk(selection, chunk)) continue;
        reader.readNumbers(chunk);
        reader.readValues(chunk);
        if (!isMixed) sums.addRuns(groupOf, reader, chunk.size);
        else if (isExact(chunk.sum)) sums.addWholeChunk(groupOf, reader, chunk.size);
        else sums.addEachOf(groupOf, reader, chunk.size);
        if (chunk.rest.length > 0) sums.addRestsOf(groupOf, reader, chunk.size);
        if (chunk.type !== COUNTER) sums.addLimitsOf(groupOf, reader, chunk.size);
        await patience(turns);
      }
    }
  }

  /** Merges the sketches of the groups that are shown. */
  async #merge(
    parts: readonly Part[],
    selection: Selection,
    sums: GroupSums,
    shown: readonly number[],
    turns: Turns,
  ): Promise<MergedSketches> {
    const { groupOf, groups } = selection;
    const timers = shown.filter((group) => groups[group]!.type === TIMER);
    const sketchOf = new Int32Array(groups.length).fill(NO_GROUP);
    for (const [sketch, group] of timers.entries()) sketchOf[group] = sketch;
    const bins = new BinSums(timers.length);
    const [reader, sketches] = [this.#reader, this.#sketches];
    for (const { chunks } of timers.length === 0 ? [] : parts) {
      for (const chunk of chunks) {
        if (chunk.type !== TIMER || !hasChunk(selection, chunk)) continue;
        reader.readNumbers(chunk);
        sketches.begin(chunk.sketches);
        const part = { from: 0, to: chunk.size, maxBytes: STEP_BYTES };
        while (part.from < part.to) {
          part.from = sketches.addSome(bins, reader.numbers, { groupOf, sketchOf }, part);
          if (turns.isOver) await patience(turns);
        }
      }
    }
    const percentiles: Percentiles[] = [];
    for (const [sketch, group] of timers.entries()) {
      percentiles.push(percentilesOf(bins, sketch, sums.min[group]!, sums.max[group]!));
      if (turns.isOver) await patience(turns);
    }
    return { bins, sketchOf, percentiles };
  }
}

type Percentiles = Pick<AnswerGroup, 'p50' | 'p90' | 'p95' | 'p99'>;

const NO_PERCENTILES: Percentiles = { p50: null, p90: null, p95: null, p99: null };

interface MergedSketches {
  readonly bins: BinSums;
  /** By group: which one it has. */
  readonly sketchOf: Int32Array;
  /** By sketch. */
  readonly percentiles: readonly Percentiles[];
}

/** Returns the groups to show, largest first, as many as an answer may have. */
function largest({ groups }: Selection, { count }: GroupSums): number[] {
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
  sums: GroupSums,
  shown: readonly number[],
  { bins, sketchOf, percentiles }: MergedSketches,
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
      writeSketch(bins, sketch, writer);
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
      ...(percentiles[sketch] ?? NO_PERCENTILES),
      ...(sketches && { rest }),
      ...(text !== undefined && { sketch: text }),
    });
    if (turns.isOver) await patience(turns);
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

export function percentilesOf(bins: BinSums, sketch: number, min: number, max: number): Percentiles {
  const weight = bins.weightOf(sketch);
  if (weight === 0) return NO_PERCENTILES;
  const out = new Float64Array(QUANTILES.length);
  bins.quantiles(sketch, weight, min, max, out);
  return { p50: out[0]!, p90: out[1]!, p95: out[2]!, p99: out[3]! };
}
