/**
 * A sketch as text, as stores hold it: JSON that plain SQL can take apart everywhere. Buckets have OpenTelemetry's
 * numbers, in ascending order, with their counts. What is empty is left out. So the same sketch is always the same
 * text.
 *
 *     {"scale":6,"zero":2,"positive":[[638,3],[640,1]],"negative":[[12,1]]}
 */
import { SKETCH_SCALE } from './buckets.ts';
import type { Sketches } from './sketch.ts';

/** In characters, of one byte each: Redshift's longest text has 65,535. What is longer is halved. */
const MAX_SKETCH_TEXT = 60_000;
/** Characters of one bucket, about, and of all else. */
const BUCKET_TEXT = 11;
const FRAME_TEXT = 60;

/** A bucket and its count. */
export type SketchBucket = readonly [bucket: number, count: number];

export interface SketchParts {
  readonly scale: number;
  readonly zero: number;
  readonly positive: readonly SketchBucket[];
  readonly negative: readonly SketchBucket[];
}

export function sketchText(sketches: Sketches, sketch: number): string {
  const parts = { 1: [] as SketchBucket[], [-1]: [] as SketchBucket[] };
  let zero = 0;
  sketches.eachBucket(sketch, (sign, bucket, weight) => {
    if (sign === 0) zero = weight;
    else parts[sign].push([bucket, weight]);
  });
  let [scale, positive, negative] = [SKETCH_SCALE - sketches.halvingsOf(sketch), parts[1], parts[-1]];
  for (;;) {
    const text = textOf(scale, zero, positive, negative);
    if (text.length <= MAX_SKETCH_TEXT) return text;
    [scale, positive, negative] = [scale - 1, halved(positive), halved(negative)];
  }
}

/** Returns how long the text is, at most, about. `count`: of the samples. */
export function sketchSize(sketches: Sketches, sketch: number, count: number): number {
  return Math.min(MAX_SKETCH_TEXT, FRAME_TEXT + BUCKET_TEXT * Math.min(count, sketches.binsOf(sketch)));
}

/** Reads what `sketchText` wrote. */
export function readSketchText(text: string): SketchParts {
  const { scale, zero = 0, positive = [], negative = [] } = JSON.parse(text) as Partial<SketchParts>;
  return { scale: scale ?? SKETCH_SCALE, zero, positive, negative };
}

/**
 * Returns it with whole counts, for a protocol that has no others. Their sum is rounded once, as `count` is: sampled
 * timers count in fractions.
 */
export function wholeCounts({ scale, zero, positive, negative }: SketchParts): SketchParts {
  let [sum, given] = [0, 0];
  const whole = (count: number) => {
    sum += count;
    const more = Math.round(sum) - given;
    given += more;
    return more;
  };
  const all = (buckets: readonly SketchBucket[]) =>
    buckets.map(([bucket, count]): SketchBucket => [bucket, whole(count)]).filter(([, count]) => count > 0);
  return { scale, zero: whole(zero), positive: all(positive), negative: all(negative) };
}

function textOf(
  scale: number,
  zero: number,
  positive: readonly SketchBucket[],
  negative: readonly SketchBucket[],
): string {
  return JSON.stringify({
    scale,
    ...(zero > 0 && { zero }),
    ...(positive.length > 0 && { positive }),
    ...(negative.length > 0 && { negative }),
  });
}

function halved(buckets: readonly SketchBucket[]): SketchBucket[] {
  const made: SketchBucket[] = [];
  for (const [bucket, count] of buckets) {
    const [last, before] = made.at(-1) ?? [Number.NaN, 0];
    if (last === bucket >> 1) made[made.length - 1] = [last, before + count];
    else made.push([bucket >> 1, count]);
  }
  return made;
}
