/** The sketch beside two others: that of OpenTelemetry's SDK, bucket by bucket, and DDSketch as the paper has it. */
import { ExponentialHistogramAccumulation } from '@opentelemetry/sdk-metrics/build/src/aggregator/ExponentialHistogram.js';
import { expect, test } from 'vitest';
import { SKETCH_SCALE } from '../../src/aggregate/buckets.ts';
import { QUANTILES, RELATIVE_ERROR, Sketches } from '../../src/aggregate/sketch.ts';
import { seededRandom } from '../../src/load/random.ts';
import { effort } from '../effort.ts';
import { expectedOldQuantile } from './oracle.ts';

const DISTRIBUTIONS = effort(10_000);
const OLD_ERROR = 0.01;
const MAX_SIZE = 4096;

/** Values of one of six kinds, which spread a little or much. */
function draw(random: () => number): number[] {
  const [kind, size, scale, spread] = [
    random(),
    1 + Math.floor(random() * 60),
    random() * 40 - 10,
    random() * 8,
  ];
  const gauss = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  return Array.from({ length: size }, () => {
    if (kind < 0.2) return Math.exp(scale + spread * gauss());
    if (kind < 0.4) return Math.round(Math.exp(Math.abs(scale)) * random());
    if (kind < 0.55) return 2 ** scale * (1 - random()) ** -(1 / (0.5 + spread));
    if (kind < 0.7) return -Math.log(1 - random()) * Math.exp(scale);
    if (kind < 0.85) return 2 ** Math.floor(random() * 20);
    return gauss() * Math.exp(scale);
  });
}

/** Counts by sign and bucket, at a scale. */
function ownBuckets(sketch: Sketches, scale: number): Map<string, number> {
  const found = new Map<string, number>();
  sketch.eachBucket(0, (sign, bucket, weight) => {
    const key = `${sign} ${sign === 0 ? 0 : bucket >> (SKETCH_SCALE - sketch.halvingsOf(0) - scale)}`;
    found.set(key, (found.get(key) ?? 0) + weight);
  });
  return found;
}

function otherBuckets(histogram: ExponentialHistogramAccumulation, scale: number): Map<string, number> {
  const found = new Map<string, number>();
  const { positive, negative, zeroCount } = histogram.toPointValue();
  for (const [sign, { offset, bucketCounts }] of [
    [1, positive],
    [-1, negative],
  ] as const) {
    for (const [i, count] of bucketCounts.entries()) {
      const key = `${sign} ${(offset + i) >> (histogram.scale - scale)}`;
      if (count > 0) found.set(key, (found.get(key) ?? 0) + count);
    }
  }
  if (zeroCount > 0) found.set('0 0', zeroCount);
  return found;
}

test("has the buckets of OpenTelemetry's SDK, and the quantiles of DDSketch within the sum of both errors", () => {
  const random = seededRandom(20);
  for (let i = 0; i < DISTRIBUTIONS; i++) {
    const values = draw(random);
    const sketch = new Sketches(SKETCH_SCALE);
    sketch.begin();
    const histogram = new ExponentialHistogramAccumulation([0, 0], MAX_SIZE);
    for (const value of values) {
      sketch.add(0, value, 1, { grow: () => true });
      histogram.record(value);
    }
    const scale = Math.min(histogram.scale, SKETCH_SCALE - sketch.halvingsOf(0));
    expect(ownBuckets(sketch, scale)).toEqual(otherBuckets(histogram, scale));
    const [min, max] = [Math.min(...values), Math.max(...values)];
    const quantiles = sketch.quantiles(0, values.length, min, max, new Float64Array(QUANTILES.length), 0);
    if (sketch.halvingsOf(0) > 0) continue;
    const sorted = [...values].sort((a, b) => a - b);
    for (const [j, quantile] of quantiles.entries()) {
      const exact = sorted[Math.floor(QUANTILES[j]! * (values.length - 1))]!;
      const other = expectedOldQuantile(values, QUANTILES[j]!);
      expect(Math.abs(quantile - other)).toBeLessThanOrEqual(
        (1e-9 + RELATIVE_ERROR + OLD_ERROR) * Math.abs(exact),
      );
    }
  }
});
