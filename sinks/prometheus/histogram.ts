/**
 * A timer's sketch as a native histogram of remote write 1.0. Prometheus has the buckets of OpenTelemetry, but its
 * number for each is one higher.
 */
import { type BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import {
  type Point,
  readSketchText,
  type SketchBucket,
  wholeCounts,
  ZERO_THRESHOLD,
} from '../../src/sink/index.ts';

/** Field numbers of prometheus.Histogram and BucketSpan. */
const HISTOGRAM = {
  count: 1,
  sum: 3,
  schema: 4,
  zeroThreshold: 5,
  zeroCount: 6,
  negativeSpans: 8,
  negativeDeltas: 9,
  positiveSpans: 11,
  positiveDeltas: 12,
  resetHint: 14,
  timestamp: 15,
} as const;
const SPAN = { offset: 1, length: 2 } as const;

/** Of ours to Prometheus' numbers. */
const NUMBER_OFFSET = 1;
/** The lowest scale that Prometheus takes. */
const MIN_SCHEMA = -4;
/** No running total: each window stands for itself. */
const GAUGE = 3;

/** Whether the point can be one. It has no more buckets than a sketch: Prometheus itself would take any number. */
export function hasHistogram({ sketch }: Point): boolean {
  return typeof sketch === 'string' && readSketchText(sketch).scale >= MIN_SCHEMA;
}

export function writeHistogram(writer: BinaryWriter, { sketch, count, sum, windowStart }: Point): void {
  const { scale, zero, positive, negative } = wholeCounts(readSketchText(sketch!));
  writer.tag(HISTOGRAM.count, WireType.Varint).uint64(count);
  writer.tag(HISTOGRAM.sum, WireType.Bit64).double(sum);
  writer.tag(HISTOGRAM.schema, WireType.Varint).sint32(scale);
  writer.tag(HISTOGRAM.zeroThreshold, WireType.Bit64).double(ZERO_THRESHOLD);
  writer.tag(HISTOGRAM.zeroCount, WireType.Varint).uint64(zero);
  writeBuckets(writer, negative, HISTOGRAM.negativeSpans, HISTOGRAM.negativeDeltas);
  writeBuckets(writer, positive, HISTOGRAM.positiveSpans, HISTOGRAM.positiveDeltas);
  writer.tag(HISTOGRAM.resetHint, WireType.Varint).int32(GAUGE);
  writer.tag(HISTOGRAM.timestamp, WireType.Varint).int64(windowStart);
}

/** Runs of buckets, each with its distance to the one before, and the differences of the counts. */
function writeBuckets(
  writer: BinaryWriter,
  buckets: readonly SketchBucket[],
  spans: number,
  deltas: number,
): void {
  if (buckets.length === 0) return;
  let end = 0;
  for (let i = 0; i < buckets.length; ) {
    const first = buckets[i]![0] + NUMBER_OFFSET;
    let length = 1;
    while (buckets[i + length]?.[0] === buckets[i]![0] + length) length++;
    writer.tag(spans, WireType.LengthDelimited).fork();
    writer.tag(SPAN.offset, WireType.Varint).sint32(first - end);
    writer.tag(SPAN.length, WireType.Varint).uint32(length);
    writer.join();
    end = first + length;
    i += length;
  }
  writer.tag(deltas, WireType.LengthDelimited).fork();
  buckets.forEach(([, count], i) => {
    writer.sint64(count - (buckets[i - 1]?.[1] ?? 0));
  });
  writer.join();
}
