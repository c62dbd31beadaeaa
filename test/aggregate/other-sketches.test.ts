/**
 * The sketch beside others: that of OpenTelemetry's SDK, bucket by bucket, DDSketch as the paper has it, and Datadog's
 * own DDSketch. (Its Go twin: `sketches-go.test.ts`.)
 */
import { DDSketch } from '@datadog/sketches-js';
import { ExponentialHistogramAccumulation } from '@opentelemetry/sdk-metrics/build/src/aggregator/ExponentialHistogram.js';
import { expect, test } from 'vitest';
import { SKETCH_SCALE } from '../../src/aggregate/buckets.ts';
import { QUANTILES, type Sketches } from '../../src/aggregate/sketch.ts';
import { seededRandom } from '../../src/load/random.ts';
import { effort } from '../effort.ts';
import { DATADOG_ERROR, draw, ownQuantiles } from './distributions.ts';
import { expectedOldQuantile } from './oracle.ts';

const DISTRIBUTIONS = effort(10_000);
const MAX_SIZE = 4096;

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
    const { sketch, quantiles, error } = ownQuantiles(values);
    const histogram = new ExponentialHistogramAccumulation([0, 0], MAX_SIZE);
    // Its other stores give up the lowest or the highest values, ours never does.
    const datadog = new DDSketch({ relativeAccuracy: DATADOG_ERROR });
    for (const value of values) {
      histogram.record(value);
      datadog.accept(value);
    }
    const scale = Math.min(histogram.scale, SKETCH_SCALE - sketch.halvingsOf(0));
    expect(ownBuckets(sketch, scale)).toEqual(otherBuckets(histogram, scale));
    const sorted = [...values].sort((a, b) => a - b);
    for (const [j, q] of QUANTILES.entries()) {
      const exact = sorted[Math.floor(q * (values.length - 1))]!;
      const most = (1e-9 + error + DATADOG_ERROR) * Math.abs(exact);
      for (const other of [expectedOldQuantile(values, q), datadog.getValueAtQuantile(q)])
        expect(Math.abs(quantiles[j]! - other)).toBeLessThanOrEqual(most);
    }
  }
});
