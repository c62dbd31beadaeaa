/** Exponential histograms, read by OpenTelemetry's own code and by the service itself. */
import root from '@opentelemetry/otlp-transformer/build/src/generated/root.js';
import { expect, test } from 'vitest';
import { encodeRequest } from '../../sinks/otlp/encode.ts';
import otlp from '../../sinks/otlp/sink.ts';
import { Aggregator } from '../../src/aggregate/aggregator.ts';
import { SKETCH_SCALE } from '../../src/aggregate/buckets.ts';
import type { Point } from '../../src/aggregate/point.ts';
import { SeriesTable } from '../../src/aggregate/series-table.ts';
import { Tiling } from '../../src/aggregate/tiling.ts';
import { makeDecoder } from '../../src/decode/formats.ts';
import { wholeMessage } from '../../src/decode/raw-message.ts';
import { closedWindow } from '../aggregate/closed-window.ts';
import { pointsOf } from '../aggregate/stream.ts';
import { SETTINGS } from '../decode/formats.ts';

const START = 1_795_000_000_000;
const TILING = Tiling.of({
  windowMs: 10_000,
  latenessMs: 0,
  maxAheadMs: 0,
  maxSeries: 100,
  sketchScale: SKETCH_SCALE,
});
const OPTIONS = { sums: 'delta', monotonic: 'all', service: 's', histograms: true } as const;

interface Buckets {
  readonly offset: number;
  readonly bucketCounts: readonly unknown[];
}

interface Decoded {
  readonly resourceMetrics: readonly {
    readonly scopeMetrics: readonly {
      readonly metrics: readonly {
        readonly name: string;
        readonly exponentialHistogram?: {
          readonly aggregationTemporality: number;
          readonly dataPoints: readonly Record<string, unknown>[];
        };
      }[];
    }[];
  }[];
}

const { ExportMetricsServiceRequest } = (
  root as unknown as {
    opentelemetry: {
      proto: {
        collector: {
          metrics: { v1: { ExportMetricsServiceRequest: { decode(bytes: Uint8Array): Decoded } } };
        };
      };
    };
  }
).opentelemetry.proto.collector.metrics.v1;

function pointsFor(values: readonly number[]): Point[] {
  const samples = values.map((value) => ({
    name: 'took',
    type: 'timer' as const,
    value,
    dimensions: { app: 'api' },
  }));
  return pointsOf(closedWindow(samples, TILING, { hasSketches: true }, START));
}

test('a timer is one exponential histogram of delta temporality', () => {
  const points = pointsFor([1000, 1000, 1023, 0, -1.5]);
  const { metrics } = ExportMetricsServiceRequest.decode(encodeRequest(points, OPTIONS)).resourceMetrics[0]!
    .scopeMetrics[0]!;
  expect(metrics.map(({ name }) => name)).toEqual(['took']);
  const { aggregationTemporality, dataPoints } = metrics[0]!.exponentialHistogram!;
  expect(aggregationTemporality).toBe(1);
  const [point] = dataPoints;
  const numbers = ({ offset, bucketCounts }: Buckets) => [offset, ...bucketCounts.map(Number)];
  expect({
    ...point,
    startTimeUnixNano: Number(point!.startTimeUnixNano),
    timeUnixNano: Number(point!.timeUnixNano),
    count: Number(point!.count),
    zeroCount: Number(point!.zeroCount),
    positive: numbers(point!.positive as Buckets),
    negative: numbers(point!.negative as Buckets),
    attributes: (point!.attributes as { key: string; value: { stringValue: string } }[]).map(
      ({ key, value }) => [key, value.stringValue],
    ),
  }).toMatchObject({
    startTimeUnixNano: START * 1e6,
    timeUnixNano: (START + 10_000) * 1e6,
    count: 5,
    sum: 3021.5,
    min: -1.5,
    max: 1023,
    scale: 6,
    zeroCount: 1,
    zeroThreshold: 2 ** -128,
    positive: [637, 2, 0, 1],
    negative: [37, 1],
    attributes: [
      ['app', 'api'],
      ['metric_type', 'timer'],
    ],
  });
});

test('the service reads what it wrote: the same sketch, count and percentiles', () => {
  const points = pointsFor(Array.from({ length: 1000 }, (_, i) => 1.013 ** i * (i % 50 === 0 ? -1 : 1)));
  const table = new SeriesTable(100);
  const decoder = makeDecoder(table, { ...SETTINGS, metricsFormat: 'otlp' });
  const aggregator = new Aggregator(table, { tiling: TILING, from: 0, hasSketches: true });
  decoder.take(wholeMessage(encodeRequest(points, OPTIONS), START, 1), {
    sample: (sample) => aggregator.add(sample, START),
    rejected: (reason: string) => {
      throw new Error(reason);
    },
    rejectedMessage: (reason: string) => {
      throw new Error(reason);
    },
  });
  // Its time is the end of the window.
  const [read] = aggregator.closeAll().flatMap(pointsOf);
  const { sketch, count, min, max } = points[0]!;
  expect(read).toMatchObject({ sketch, count, min, max });
});

test('counts that are not whole are rounded such that they add up to the count of the row', () => {
  const [point] = pointsFor([1]);
  const sketch = '{"scale":6,"zero":0.4,"positive":[[1,0.3],[2,0.4],[5,2.9]]}';
  const request = encodeRequest([{ ...point!, sketch, count: 4 }], OPTIONS);
  const histogram =
    ExportMetricsServiceRequest.decode(request).resourceMetrics[0]!.scopeMetrics[0]!.metrics[0]!
      .exponentialHistogram!.dataPoints[0]!;
  const { offset, bucketCounts } = histogram.positive as Buckets;
  expect([Number(histogram.zeroCount), offset, ...bucketCounts.map(Number)]).toEqual([0, 1, 1, 0, 0, 0, 3]);
});

test('without the setting, and of windows of an earlier version, there is a metric for each field', () => {
  const [{ sketch: _, ...old }] = pointsFor([1]) as [Point];
  for (const [points, options] of [
    [pointsFor([1]), { ...OPTIONS, histograms: false }],
    [[old], OPTIONS],
  ] as const) {
    const { metrics } = ExportMetricsServiceRequest.decode(encodeRequest(points, options)).resourceMetrics[0]!
      .scopeMetrics[0]!;
    expect(metrics.map(({ name }) => name)).toContain('took.p99');
  }
});

test('needs delta temporality', () => {
  const config = {
    url: 'http://a',
    headers: undefined,
    sums: 'gauge',
    monotonic: 'all',
    service: 's',
  } as const;
  expect(otlp.validate!({ ...config, histograms: true } as never).map(({ key }) => key)).toEqual([
    'histograms',
  ]);
  expect(otlp.validate!({ ...config, histograms: false } as never)).toEqual([]);
});
