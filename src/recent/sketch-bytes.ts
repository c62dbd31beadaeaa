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

  /** How many bytes it has read: the measure of its work. */
  get position(): number {
    return this.#at;
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

function weightOf(written: number): number {
  if (written < 0x80 && (written & 1) === 0) return written >> 1;
  return written % 2 === 0 ? written / 2 : (written - 1) / 2 / PARTS;
}
