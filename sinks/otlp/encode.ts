/**
 * Points as an OTLP ExportMetricsServiceRequest, in protobuf. Every field is a metric of its own, `<name>.<field>`:
 *
 *   - `count` and `sum` are Sums of delta temporality over the window, and `count` is a whole number. `count` is
 *     monotonic; whether `sum` is depends on the type and the settings, never on the value, since stores make it part
 *     of a series' identity;
 *   - all others are Gauges, rather than one Summary: some stores take its count and sum for running totals;
 *   - with `histograms`, a timer is one ExponentialHistogram of delta temporality instead, `<name>`, if its point has a
 *     sketch: those of windows that an earlier version computed have none;
 *   - the time of a data point is the end of its window, and its start time is the start;
 *   - its attributes are the dimensions, `metric_type` and, in core mode, `instance`.
 *
 * Protobuf cannot hold half of a surrogate pair, and two attributes are ours. So texts are escaped, reversibly: `%`
 * becomes `%25` and half of a pair becomes text such as `%uD83D`. The first character of a dimension with one of our
 * keys is escaped too.
 */
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import {
  FIELDS,
  type Field,
  type MetricType,
  type Point,
  readSketchText,
  type Series,
  type SketchBucket,
  wholeCounts,
  ZERO_THRESHOLD,
} from '../../src/sink/index.ts';

const TYPE_KEY = 'metric_type';
const INSTANCE_KEY = 'instance';
const SCOPE = 'metrics-fanout';
const NANOS_PER_MS = 1_000_000n;
const DELTA = 1;

/** Field numbers, from metrics.proto, common.proto and metrics_service.proto of OTLP 1. */
const REQUEST = { resourceMetrics: 1 } as const;
const RESOURCE_METRICS = { resource: 1, scopeMetrics: 2 } as const;
const RESOURCE = { attributes: 1 } as const;
const SCOPE_METRICS = { scope: 1, metrics: 2 } as const;
const SCOPE_FIELDS = { name: 1 } as const;
const METRIC = { name: 1, gauge: 5, sum: 7, exponentialHistogram: 10 } as const;
/** The fields of both Gauge and Sum. A Gauge has only the first. */
const DATA = { points: 1, temporality: 2, isMonotonic: 3 } as const;
const DATA_POINT = { start: 2, time: 3, asDouble: 4, asInt: 6, attributes: 7 } as const;
const HISTOGRAM_POINT = {
  attributes: 1,
  start: 2,
  time: 3,
  count: 4,
  sum: 5,
  scale: 6,
  zeroCount: 7,
  positive: 8,
  negative: 9,
  min: 12,
  max: 13,
  zeroThreshold: 14,
} as const;
const BUCKETS = { offset: 1, counts: 2 } as const;
const KEY_VALUE = { key: 1, value: 2 } as const;
const ANY_VALUE = { string: 1 } as const;

export interface EncodeOptions {
  readonly sums: 'delta' | 'gauge';
  /** Which types have a `sum` that is monotonic. `counters`: timers too, but not gauges. */
  readonly monotonic: 'all' | 'counters' | 'none';
  readonly service: string;
  readonly histograms: boolean;
}

export function encodeRequest(points: readonly Point[], options: EncodeOptions): Uint8Array {
  const writer = new BinaryWriter();
  message(writer, REQUEST.resourceMetrics, () => {
    message(writer, RESOURCE_METRICS.resource, () => {
      attribute(writer, RESOURCE.attributes, 'service.name', options.service);
    });
    message(writer, RESOURCE_METRICS.scopeMetrics, () => {
      message(writer, SCOPE_METRICS.scope, () => text(writer, SCOPE_FIELDS.name, SCOPE));
      for (const metric of metricsOf(points, options)) {
        message(writer, SCOPE_METRICS.metrics, () => writeMetric(writer, metric));
      }
    });
  });
  return writer.finish();
}

type Kind = 'gauge' | 'sum' | 'monotonic sum' | 'histogram';

interface Metric {
  readonly name: string;
  /** Undefined for a histogram. */
  readonly field: Field | undefined;
  readonly kind: Kind;
  readonly points: Point[];
}

/** A metric holds the data points of all series that share its name and kind. */
function metricsOf(points: readonly Point[], options: EncodeOptions): Iterable<Metric> {
  const metrics = new Map<string, Metric>();
  for (const point of points) {
    const isHistogram = options.histograms && typeof point.sketch === 'string';
    for (const field of isHistogram ? [undefined] : FIELDS[point.series.type]) {
      const kind = field === undefined ? 'histogram' : kindOf(field, point.series.type, options);
      const name = escapeText(point.series.name) + (field === undefined ? '' : `.${field}`);
      const key = `${kind} ${name}`;
      let metric = metrics.get(key);
      if (metric === undefined) {
        metric = { name, field, kind, points: [] };
        metrics.set(key, metric);
      }
      metric.points.push(point);
    }
  }
  return metrics.values();
}

function kindOf(field: Field, type: MetricType, { sums, monotonic }: EncodeOptions): Kind {
  if ((field !== 'count' && field !== 'sum') || sums === 'gauge') return 'gauge';
  if (field === 'count' || monotonic === 'all') return 'monotonic sum';
  return monotonic === 'counters' && type !== 'gauge' ? 'monotonic sum' : 'sum';
}

function writeMetric(writer: BinaryWriter, { name, field, kind, points }: Metric): void {
  text(writer, METRIC.name, name);
  if (field === undefined) {
    message(writer, METRIC.exponentialHistogram, () => {
      for (const point of points) message(writer, DATA.points, () => writeHistogramPoint(writer, point));
      writer.tag(DATA.temporality, WireType.Varint).int32(DELTA);
    });
    return;
  }
  message(writer, kind === 'gauge' ? METRIC.gauge : METRIC.sum, () => {
    for (const point of points) {
      message(writer, DATA.points, () => writeDataPoint(writer, point, field));
    }
    if (kind === 'gauge') return;
    writer.tag(DATA.temporality, WireType.Varint).int32(DELTA);
    if (kind === 'monotonic sum') writer.tag(DATA.isMonotonic, WireType.Varint).bool(true);
  });
}

function writeDataPoint(writer: BinaryWriter, point: Point, field: Field): void {
  const { series, windowStart, windowMs, instance } = point;
  writer.tag(DATA_POINT.start, WireType.Bit64).fixed64(nanos(windowStart));
  writer.tag(DATA_POINT.time, WireType.Bit64).fixed64(nanos(windowStart + windowMs));
  if (field === 'count') writer.tag(DATA_POINT.asInt, WireType.Bit64).sfixed64(point.count);
  else writer.tag(DATA_POINT.asDouble, WireType.Bit64).double(point[field] ?? 0);
  writer.raw(attributesOf(series));
  if (instance !== '') attribute(writer, DATA_POINT.attributes, INSTANCE_KEY, instance);
}

function writeHistogramPoint(writer: BinaryWriter, point: Point): void {
  const { series, windowStart, windowMs, instance, count, sum, min, max, sketch } = point;
  const { scale, zero, positive, negative } = wholeCounts(readSketchText(sketch!));
  writer.raw(attributesOf(series, HISTOGRAM_POINT.attributes));
  if (instance !== '') attribute(writer, HISTOGRAM_POINT.attributes, INSTANCE_KEY, instance);
  writer.tag(HISTOGRAM_POINT.start, WireType.Bit64).fixed64(nanos(windowStart));
  writer.tag(HISTOGRAM_POINT.time, WireType.Bit64).fixed64(nanos(windowStart + windowMs));
  writer.tag(HISTOGRAM_POINT.count, WireType.Bit64).fixed64(BigInt(count));
  writer.tag(HISTOGRAM_POINT.sum, WireType.Bit64).double(sum);
  writer.tag(HISTOGRAM_POINT.scale, WireType.Varint).sint32(scale);
  writer.tag(HISTOGRAM_POINT.zeroCount, WireType.Bit64).fixed64(BigInt(zero));
  message(writer, HISTOGRAM_POINT.positive, () => writeBuckets(writer, positive));
  message(writer, HISTOGRAM_POINT.negative, () => writeBuckets(writer, negative));
  writer.tag(HISTOGRAM_POINT.min, WireType.Bit64).double(min ?? 0);
  writer.tag(HISTOGRAM_POINT.max, WireType.Bit64).double(max ?? 0);
  writer.tag(HISTOGRAM_POINT.zeroThreshold, WireType.Bit64).double(ZERO_THRESHOLD);
}

/** Without gaps, as the protocol has them: at most as many as a sketch has bins. */
function writeBuckets(writer: BinaryWriter, buckets: readonly SketchBucket[]): void {
  const [first] = buckets;
  if (first === undefined) return;
  writer.tag(BUCKETS.offset, WireType.Varint).sint32(first[0]);
  message(writer, BUCKETS.counts, () => {
    let next = first[0];
    for (const [bucket, count] of buckets) {
      for (; next < bucket; next++) writer.uint64(0);
      writer.uint64(count);
      next = bucket + 1;
    }
  });
}

function nanos(ms: number): bigint {
  return BigInt(ms) * NANOS_PER_MS;
}

const attributes = new WeakMap<Series, Uint8Array>();
const histogramAttributes = new WeakMap<Series, Uint8Array>();

/** Encodes the attributes once per series: they are the same for all of its fields and windows. */
function attributesOf(series: Series, field: number = DATA_POINT.attributes): Uint8Array {
  const known = field === DATA_POINT.attributes ? attributes : histogramAttributes;
  let bytes = known.get(series);
  if (bytes === undefined) {
    const writer = new BinaryWriter();
    for (const [key, value] of series.dimensions) {
      attribute(writer, field, escapeKey(key), escapeText(value));
    }
    attribute(writer, field, TYPE_KEY, series.type);
    bytes = writer.finish();
    known.set(series, bytes);
  }
  return bytes;
}

function attribute(writer: BinaryWriter, number: number, key: string, value: string): void {
  message(writer, number, () => {
    text(writer, KEY_VALUE.key, key);
    message(writer, KEY_VALUE.value, () => text(writer, ANY_VALUE.string, value));
  });
}

function text(writer: BinaryWriter, number: number, value: string): void {
  writer.tag(number, WireType.LengthDelimited).string(value);
}

function message(writer: BinaryWriter, number: number, write: () => void): void {
  writer.tag(number, WireType.LengthDelimited).fork();
  write();
  writer.join();
}

const UNFIT = /[\p{Surrogate}%]/gu;

function escapeCharacter(character: string): string {
  const code = character.charCodeAt(0);
  const hex = code.toString(16).toUpperCase();
  return code > 0xff ? `%u${hex}` : `%${hex.padStart(2, '0')}`;
}

function escapeText(value: string): string {
  return value.replace(UNFIT, escapeCharacter);
}

function escapeKey(key: string): string {
  const isOurs = key === TYPE_KEY || key === INSTANCE_KEY;
  return isOurs ? escapeCharacter(key) + key.slice(1) : escapeText(key);
}
