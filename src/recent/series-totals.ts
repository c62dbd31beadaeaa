/**
 * What each series has in some windows together: added up once for several questions about the same windows, which then
 * have no more to do than to add up series. The first question does without: it would take as long again.
 */
import { COUNTER } from '../aggregate/sample.ts';
import { type Chunk, type ChunkReader, isExact } from './columns.ts';
import type { KeptWindow, RecentView } from './recent-windows.ts';
import { isNamed, patience, type Selection } from './selection.ts';
import type { SeriesDictionary } from './series-dictionary.ts';
import type { Turns } from './turns.ts';

const TYPES = 3;
const NONE = new Float64Array();

/** By number of a series. What no window has in a column that is not needed: an empty array. */
export class SeriesTotals {
  count = NONE;
  /** The sum of what is whole and small. */
  whole = NONE;
  /** The sum of all else, and what rounding took off it. */
  sum = NONE;
  rest = NONE;
  min = NONE;
  max = NONE;
  readonly #windows: readonly number[];
  /** By name and type: whether its series are added up. */
  #done = new Uint8Array();

  /** Likewise: whether a question was about them. */
  #asked = new Uint8Array();

  constructor(windows: RecentView['windows']) {
    this.#windows = windows.map(({ serial }) => serial);
  }

  isOf(windows: RecentView['windows']): boolean {
    const own = this.#windows;
    return own.length === windows.length && windows.every(({ serial }, i) => serial === own[i]);
  }

  get bytes(): number {
    const arrays = [this.count, this.whole, this.sum, this.rest, this.min, this.max, this.#done, this.#asked];
    return arrays.reduce((total, { byteLength }) => total + byteLength, 0);
  }

  /** Whether all names that are selected were asked for before. They are from now on. */
  isWorthIt({ dictionary }: Pick<RecentView, 'dictionary'>, selection: Selection): boolean {
    const length = TYPES * dictionary.texts.names.length;
    this.#asked = atLeast(this.#asked, length);
    let isAgain = true;
    for (let i = 0; i < length; i++) {
      if (!isNamed(selection, i)) continue;
      if (this.#asked[i] === 0) isAgain = false;
      this.#asked[i] = 1;
    }
    return isAgain;
  }

  /**
   * Adds up the series of the names that are selected, of windows and blocks. After a throw, this is of no use any
   * more.
   */
  async addUp(
    parts: readonly Pick<KeptWindow, 'chunks'>[],
    dictionary: SeriesDictionary,
    selection: Selection,
    reader: ChunkReader,
    turns: Turns,
  ): Promise<void> {
    const wanted = this.#missing(selection, TYPES * dictionary.texts.names.length);
    if (!wanted.includes(1)) return;
    // Series that come later are in none of the windows.
    if (this.count.length === 0) {
      this.count = new Float64Array(dictionary.size);
      this.whole = new Float64Array(dictionary.size);
    }
    for (const { chunks } of parts) {
      for (const chunk of chunks) {
        const part = partOf(chunk, wanted);
        if (part === 'none') continue;
        reader.readNumbers(chunk);
        reader.readValues(chunk);
        const size =
          part === 'all'
            ? chunk.size
            : reader.keep(chunk, (number) => wanted[TYPES * dictionary.nameOf(number) + chunk.type] === 1);
        this.#add(chunk, reader, size);
        await patience(turns);
      }
    }
    for (let i = 0; i < wanted.length; i++) if (wanted[i] === 1) this.#done[i] = 1;
  }

  /** Returns by name and type whether it is selected, and not added up. */
  #missing(selection: Selection, length: number): Uint8Array {
    const wanted = new Uint8Array(length);
    this.#done = atLeast(this.#done, length);
    for (let i = 0; i < length; i++) if (this.#done[i] === 0 && isNamed(selection, i)) wanted[i] = 1;
    return wanted;
  }

  #add({ type, sum, rest }: Chunk, reader: ChunkReader, size: number): void {
    const { length } = this.count;
    const isWhole = isExact(sum);
    if ((!isWhole || rest.length > 0) && this.sum.length === 0)
      [this.sum, this.rest] = [new Float64Array(length), new Float64Array(length)];
    if (isWhole) this.#addWhole(reader, size);
    else this.#addEach(reader, size);
    // Also of sums that are whole and small: large numbers may have cancelled each other out.
    if (rest.length > 0) this.#addRests(reader, size);
    if (type === COUNTER) return;
    if (this.min.length === 0) {
      this.min = new Float64Array(length).fill(Number.POSITIVE_INFINITY);
      this.max = new Float64Array(length).fill(Number.NEGATIVE_INFINITY);
    }
    this.#addLimits(reader, size);
  }

  #addWhole({ numbers, count, sum }: ChunkReader, size: number): void {
    const { count: counts, whole: sums } = this;
    for (let i = 0; i < size; i++) {
      const number = numbers[i]!;
      counts[number]! += count[i]!;
      sums[number]! += sum[i]!;
    }
  }

  #addEach({ numbers, count, sum }: ChunkReader, size: number): void {
    const { count: counts, sum: sums, rest: rests } = this;
    for (let i = 0; i < size; i++) {
      const number = numbers[i]!;
      counts[number]! += count[i]!;
      const value = sum[i]!;
      const before = sums[number]!;
      const after = before + value;
      sums[number] = after;
      rests[number]! += roundedOff(before, value, after);
    }
  }

  #addRests({ numbers, rest }: ChunkReader, size: number): void {
    for (let i = 0; i < size; i++) this.rest[numbers[i]!]! += rest[i]!;
  }

  #addLimits({ numbers, min, max }: ChunkReader, size: number): void {
    const { min: least, max: most } = this;
    for (let i = 0; i < size; i++) {
      const number = numbers[i]!;
      if (min[i]! < least[number]!) least[number] = min[i]!;
      if (max[i]! > most[number]!) most[number] = max[i]!;
    }
  }
}

function atLeast(flags: Uint8Array, length: number): Uint8Array<ArrayBuffer> {
  const longer = new Uint8Array(Math.max(length, flags.length));
  longer.set(flags);
  return longer;
}

/** Returns how much of the chunk is wanted. */
function partOf({ type, firstName, lastName }: Chunk, wanted: Uint8Array): 'none' | 'some' | 'all' {
  let found = 0;
  for (let name = firstName; name <= lastName; name++) found += wanted[TYPES * name + type] ?? 0;
  if (found === 0) return 'none';
  return found === lastName - firstName + 1 ? 'all' : 'some';
}

/** What rounding took off a sum of two, whichever is larger (Knuth's TwoSum). NaN if the sum is not finite. */
export function roundedOff(a: number, b: number, sum: number): number {
  const added = sum - a;
  return a - (sum - added) + (b - added);
}
