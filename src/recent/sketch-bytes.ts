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

const body = new ByteWriter();
const signs = { [-1]: new ByteWriter(), 1: new ByteWriter() } as const;

/** Without sketches: an empty one. */
export function writeSketch(sketches: Sketches | undefined, sketch: number, into: ByteWriter): void {
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
   *
   * Nearly all sketches are a few bins of positive values that were never halved, in few bytes: those are read here,
   * where all is a local variable.
   */
  addSome(
    sums: BinSums,
    numbers: Int32Array,
    { groupOf, sketchOf }: { readonly groupOf: Int32Array; readonly sketchOf: Int32Array },
    { from, to, maxBytes }: { readonly from: number; readonly to: number; readonly maxBytes: number },
  ): number {
    const bytes = this.#bytes;
    const { halvings } = sums;
    let at = this.#at;
    const end = at + maxBytes;
    let i = from;
    for (; i < to && at < end; i++) {
      const group = groupOf[numbers[i]!]!;
      const sketch = group < 0 ? group : sketchOf[group]!;
      const length = bytes[at]!;
      const head = bytes[at + 1]! | 0;
      if (length >= 0x80 || (sketch >= 0 && ((head & 0x83) !== 0 || halvings[sketch] !== 0))) {
        this.#at = at;
        this.addTo(sums, sketch);
        at = this.#at;
        continue;
      }
      if (sketch < 0) {
        at += 1 + length;
        continue;
      }
      at = this.#addFew(sums, sketch, at + 2, head >>> 2);
    }
    this.#at = at;
    return i;
  }

  /** Adds so many bins of positive values that were never halved, to such. Returns where they end. */
  #addFew(sums: BinSums, sketch: number, from: number, bins: number): number {
    const bytes = this.#bytes;
    const into = 2 * sketch;
    let counts = sums.counts[into]!;
    let first = sums.first[into]!;
    let { length } = counts;
    let at = from;
    let index = 0;
    for (let i = 0; i < bins; i++) {
      const step = bytes[at]! | 0;
      const written = bytes[at + 1]! | 0;
      // With the next one, most have one byte each.
      if (i > 0 && ((step | written) & 0x80) === 0 && (written & 1) === 0) {
        const place = index + step - first;
        if (place >= 0 && place < length) {
          counts[place]! += written >> 1;
          index += step;
          at += 2;
          continue;
        }
      }
      this.#at = at;
      const whole = this.#whole();
      index = i === 0 ? (whole >>> 1) ^ -(whole & 1) : index + whole;
      // They may become wider at any of these.
      sums.add(into, index >> sums.halvings[sketch]!, weightOf(this.#whole()));
      at = this.#at;
      if (sums.halvings[sketch] !== 0) return this.#addRest(sums, into, index, bins - i - 1);
      counts = sums.counts[into]!;
      first = sums.first[into]!;
      length = counts.length;
    }
    return at;
  }

  /** Adds the bins after this index, of a sketch that was never halved, to such as were. */
  #addRest(sums: BinSums, into: number, after: number, bins: number): number {
    let index = after;
    for (let i = 0; i < bins; i++) {
      index += this.#whole();
      sums.add(into, index >> sums.halvings[into >> 1]!, weightOf(this.#whole()));
    }
    return this.#at;
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

  /** Nearly all numbers take one byte or two: these are read here, where the place is a local variable. */
  #addBins(sums: BinSums, into: number, bins: number, halvings: number): void {
    const bytes = this.#bytes;
    const sketch = into >> 1;
    let at = this.#at;
    let step = bytes[at++]! | 0;
    if (step >= 0x80) {
      const high = bytes[at++]! | 0;
      step = (step & 0x7f) | ((high & 0x7f) << 7);
      if (high >= 0x80) step |= (bytes[at++]! & 0x7f) << 14;
    }
    let index = (step >>> 1) ^ -(step & 1);
    for (let i = 0; ; ) {
      let weight = bytes[at++]! | 0;
      if (weight >= 0x80) {
        this.#at = at;
        weight = this.#long(weight);
        at = this.#at;
      }
      // They may become wider at any of these.
      sums.add(into, index >> (sums.halvings[sketch]! - halvings), weightOf(weight));
      if (++i >= bins || at >= bytes.length) break;
      step = bytes[at++]! | 0;
      if (step >= 0x80) {
        const high = bytes[at++]! | 0;
        step = (step & 0x7f) | ((high & 0x7f) << 7);
        if (high >= 0x80) step |= (bytes[at++]! & 0x7f) << 14;
      }
      index += step;
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
