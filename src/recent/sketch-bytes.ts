/**
 * The sketches of timers as bytes: of most timers only a few bins hold anything. A sketch is
 *
 *     length in bytes of what follows
 *     four times the number of its bins of positive values, plus 2 if bins were halved, plus 1 if it has others
 *     if bins were halved: how often
 *     the bins of positive values
 *     if it has others: the weight of the zeros, the number of bins of negative values, and these
 *
 * and a bin is the distance of its index to the one before (of the first: the index itself, zigzag) and its weight. All
 * of these are whole numbers as in `ByteWriter.whole`. A weight that is not whole (sampled StatsD timers) is kept in
 * 64ths.
 */
import { MAX_HALVINGS } from '../aggregate/buckets.ts';
import type { Sketches } from '../aggregate/sketch.ts';
import type { BinSums } from './bin-sums.ts';
import { ByteWriter } from './byte-writer.ts';

const PARTS = 64;
/** Whole numbers of one or two bytes are below. */
const TWO_BYTES = 0x4000;

const body = new ByteWriter();
const signs = { [-1]: new ByteWriter(), 1: new ByteWriter() } as const;

/** Without sketches: an empty one. */
export function writeSketch(
  sketches: Pick<Sketches, 'eachBucket' | 'halvingsOf'> | undefined,
  sketch: number,
  into: ByteWriter,
): void {
  let zeros = 0;
  const bins = { [-1]: 0, 1: 0 };
  const last = { [-1]: 0, 1: 0 };
  body.clear();
  for (const sign of [-1, 1] as const) signs[sign].clear();
  sketches?.eachBucket(sketch, (sign, index, weight) => {
    if (sign === 0) {
      zeros = weight;
      return;
    }
    signs[sign].whole(bins[sign] === 0 ? zigzag(index) : index - last[sign]);
    writeWeight(weight, signs[sign]);
    bins[sign] += 1;
    last[sign] = index;
  });
  const hasOthers = zeros > 0 || bins[-1] > 0;
  const halvings = sketches?.halvingsOf(sketch) ?? 0;
  body.whole(4 * bins[1] + 2 * Number(halvings > 0) + Number(hasOthers));
  if (halvings > 0) body.whole(halvings);
  body.append(signs[1]);
  if (hasOthers) {
    writeWeight(zeros, body);
    body.whole(bins[-1]);
    body.append(signs[-1]);
  }
  into.whole(body.size);
  into.append(body);
}

function zigzag(index: number): number {
  return ((index << 1) ^ (index >> 31)) >>> 0;
}

function writeWeight(weight: number, into: ByteWriter): void {
  if (Number.isSafeInteger(weight) && weight < 2 ** 51) into.whole(2 * weight);
  else into.whole(2 * Math.min(2 ** 51, Math.max(1, Math.round(weight * PARTS))) + 1);
}

/** Reads one sketch after another. Also bytes from elsewhere: what is not there is 0. */
export class SketchReader {
  #bytes: Uint8Array = new Uint8Array();
  #at = 0;

  begin(bytes: Uint8Array): void {
    this.#bytes = bytes;
    this.#at = 0;
  }

  /**
   * Adds the sketches of points, one after another, from point `from` on: as many as have so many bytes, or all.
   * `groupOf` and `sketchOf` say by the number of a series, and of its group, which sketch it is added to, if any.
   * Returns the next point.
   */
  addSome(
    sums: BinSums,
    numbers: Int32Array,
    { groupOf, sketchOf }: { readonly groupOf: Int32Array; readonly sketchOf: Int32Array },
    { from, to, maxBytes }: { readonly from: number; readonly to: number; readonly maxBytes: number },
  ): number {
    const bytes = this.#bytes;
    const end = this.#at + maxBytes;
    let i = from;
    for (; i < to && this.#at < end; i++) {
      const group = groupOf[numbers[i]!]!;
      const sketch = group < 0 ? group : sketchOf[group]!;
      const at = this.#at;
      const length = bytes[at]!;
      const head = bytes[at + 1]! | 0;
      // Nearly all are short, and only of positive values that were never halved.
      if (length >= 0x80 || (sketch >= 0 && (head & 0x83) !== 0)) this.addTo(sums, sketch);
      else if (sketch < 0) this.#at = at + 1 + length;
      else {
        this.#at = at + 2;
        this.#addBins(sums, 2 * sketch, head >>> 2, 0);
      }
    }
    return i;
  }

  /** Passes over the next sketch, and returns its bytes. */
  next(): Uint8Array {
    const from = this.#at;
    const length = this.#whole();
    this.#at += length;
    return this.#bytes.subarray(from, this.#at);
  }

  /** Adds the next sketch to a sparse one. */
  addToSparse(sum: SparseSketch): void {
    this.#whole();
    const head = this.#whole();
    const halvings = (head & 2) === 0 ? 0 : Math.min(MAX_HALVINGS, this.#whole());
    const more = sum.widen(halvings);
    this.#addSparse(sum.positive, Math.floor(head / 4), more);
    if (head % 2 === 0) return;
    sum.zeros += weightOf(this.#whole());
    this.#addSparse(sum.negative, this.#whole(), more);
  }

  #addSparse(into: SparseBins, bins: number, halvings: number): void {
    if (bins === 0) return;
    let index = 0;
    into.begin();
    for (let i = 0; i < bins; i++) {
      const step = this.#whole();
      index = i === 0 ? (step >>> 1) ^ -(step & 1) : index + step;
      into.add(index >> halvings, weightOf(this.#whole()));
    }
    into.end();
  }

  /** Adds the next sketch to another one; if that is negative, passes over it. */
  addTo(sums: BinSums, sketch: number): void {
    const bytes = this.#bytes;
    const length = bytes[this.#at]! < 0x80 ? bytes[this.#at++]! : this.#whole();
    if (sketch < 0) {
      this.#at += length;
      return;
    }
    const head = bytes[this.#at]! < 0x80 ? bytes[this.#at++]! : this.#whole();
    const halvings = (head & 2) === 0 ? 0 : Math.min(MAX_HALVINGS, this.#whole());
    if (halvings > 0) sums.widen(sketch, halvings);
    if (head > 3) this.#addBins(sums, 2 * sketch, head >>> 2, halvings);
    if (head % 2 === 1) this.#addOthers(sums, sketch, halvings);
  }

  #addOthers(sums: BinSums, sketch: number, halvings: number): void {
    sums.zeros[sketch]! += weightOf(this.#whole());
    const bins = this.#whole();
    if (bins > 0) this.#addBins(sums, 2 * sketch + 1, bins, halvings);
  }

  /** Adds so many bins, of a sketch that was halved so often. */
  #addBins(sums: BinSums, into: number, bins: number, halvings: number): void {
    const bytes = this.#bytes;
    let { counts } = sums;
    let first = sums.first[into]!;
    let length = sums.lengths[into]!;
    let place = sums.places[into]!;
    let shift = sums.halvings[into >> 1]! - halvings;
    let at = this.#at;
    let index = 0;
    for (let i = 0; i < bins && at < bytes.length; i++) {
      let next = at;
      let step = bytes[next++]! | 0;
      if (step >= 0x80) step = (step & 0x7f) | (bytes[next++]! << 7);
      const written = bytes[next++]! | 0;
      const to = i === 0 ? (step >>> 1) ^ -(step & 1) : index + step;
      const bin = (to >> shift) - first;
      // Nearly all have a step of two bytes at most, a whole weight of one, and a bin that is there.
      if (step < TWO_BYTES && (written & 0x81) === 0 && bin >= 0 && bin < length) {
        counts[place + bin]! += written >> 1;
        index = to;
        at = next;
        continue;
      }
      this.#at = at;
      const whole = this.#whole();
      index = i === 0 ? (whole >>> 1) ^ -(whole & 1) : index + whole;
      sums.add(into, index >> shift, weightOf(this.#whole()));
      at = this.#at;
      ({ counts } = sums);
      first = sums.first[into]!;
      length = sums.lengths[into]!;
      place = sums.places[into]!;
      shift = sums.halvings[into >> 1]! - halvings;
    }
    this.#at = at;
  }

  #whole(): number {
    const byte = this.#bytes[this.#at++] ?? 0;
    return byte < 0x80 ? byte : this.#long(byte);
  }

  #long(first: number): number {
    const bytes = this.#bytes;
    let value = first & 0x7f;
    for (let unit = 0x80, byte = first; byte >= 0x80; unit *= 0x80) {
      byte = bytes[this.#at++] ?? 0;
      value += (byte & 0x7f) * unit;
    }
    return value;
  }
}

/** The sum of a few sketches of few bins. */
export class SparseSketch {
  zeros = 0;
  readonly positive = new SparseBins();
  readonly negative = new SparseBins();
  #halvings = 0;

  clear(): void {
    this.zeros = 0;
    this.#halvings = 0;
    this.positive.clear();
    this.negative.clear();
  }

  /** Makes the buckets no narrower than this. Returns by how many halvings a sketch with so many is narrower. */
  widen(halvings: number): number {
    const more = halvings - this.#halvings;
    if (more <= 0) return -more;
    this.#halvings = halvings;
    for (const bins of [this.positive, this.negative]) bins.halve(more);
    return 0;
  }

  writeTo(into: ByteWriter): void {
    const hasOthers = this.zeros > 0 || this.negative.size > 0;
    body.clear();
    body.whole(4 * this.positive.size + 2 * Number(this.#halvings > 0) + Number(hasOthers));
    if (this.#halvings > 0) body.whole(this.#halvings);
    this.positive.writeTo(body);
    if (hasOthers) {
      writeWeight(this.zeros, body);
      body.whole(this.negative.size);
      this.negative.writeTo(body);
    }
    into.whole(body.size);
    into.append(body);
  }
}

/** Bins of one sign by index, ascending. */
class SparseBins {
  size = 0;
  #indexes: number[] = [];
  #weights: number[] = [];
  /** What others are merged into, and how many of these are merged already. */
  #nextSize = 0;
  #nextIndexes: number[] = [];
  #nextWeights: number[] = [];
  #merged = 0;

  clear(): void {
    this.size = 0;
  }

  begin(): void {
    this.#nextSize = 0;
    this.#merged = 0;
  }

  /** Indexes never descend between `begin` and `end`. */
  add(index: number, weight: number): void {
    while (this.#merged < this.size && this.#indexes[this.#merged]! <= index) this.#pass();
    this.#push(index, weight);
  }

  end(): void {
    while (this.#merged < this.size) this.#pass();
    [this.#indexes, this.#nextIndexes] = [this.#nextIndexes, this.#indexes];
    [this.#weights, this.#nextWeights] = [this.#nextWeights, this.#weights];
    this.size = this.#nextSize;
  }

  halve(halvings: number): void {
    this.begin();
    for (let i = 0; i < this.size; i++) this.#push(this.#indexes[i]! >> halvings, this.#weights[i]!);
    this.#merged = this.size;
    this.end();
  }

  writeTo(into: ByteWriter): void {
    for (let i = 0; i < this.size; i++) {
      const index = this.#indexes[i]!;
      into.whole(i === 0 ? zigzag(index) : index - this.#indexes[i - 1]!);
      writeWeight(this.#weights[i]!, into);
    }
  }

  #pass(): void {
    const at = this.#merged++;
    this.#push(this.#indexes[at]!, this.#weights[at]!);
  }

  #push(index: number, weight: number): void {
    const last = this.#nextSize - 1;
    if (last >= 0 && this.#nextIndexes[last] === index) {
      this.#nextWeights[last]! += weight;
      return;
    }
    this.#nextIndexes[this.#nextSize] = index;
    this.#nextWeights[this.#nextSize++] = weight;
  }
}

function weightOf(written: number): number {
  if (written < 0x80 && (written & 1) === 0) return written >> 1;
  return written % 2 === 0 ? written / 2 : (written - 1) / 2 / PARTS;
}
