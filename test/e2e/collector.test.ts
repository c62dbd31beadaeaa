import { ValueType } from '@opentelemetry/api';
import { JsonMetricsSerializer, ProtobufMetricsSerializer } from '@opentelemetry/otlp-transformer';
import { resourceFromAttributes } from '@opentelemetry/resources';
import {
  AggregationTemporality,
  AggregationType,
  MeterProvider,
  PeriodicExportingMetricReader,
  type PushMetricExporter,
  type ResourceMetrics,
} from '@opentelemetry/sdk-metrics';
import { headers, type NatsConnection } from 'nats';
import { expect, test } from 'vitest';
import { QUANTILES, RELATIVE_ERROR } from '../../src/aggregate/sketch.ts';
import { seededRandom } from '../../src/load/random.ts';
import { COLLECTOR, rowsOfWritten, startCollector, type WrittenRow } from './collector.ts';
import { startWithSqlite, storedPoints, WINDOW_MS } from './support.ts';

const SPAN_MS = 5 * WINDOW_MS;
const MIN_EXPORTS = 100;
const PERCENTILES = ['p50', 'p90', 'p95', 'p99'] as const;
/** Of sums of histograms, which are spread over their buckets. */
const ROUNDING = 1e-9;

/** Sends each request to both, as the same bytes: by turns as protobuf and as JSON. */
class Bridge implements PushMetricExporter {
  requests = 0;
  /** The SDK keeps them to itself. */
  readonly failures: unknown[] = [];
  readonly #client: NatsConnection;
  readonly #url: string;
  readonly #temporality: AggregationTemporality;

  constructor(client: NatsConnection, url: string, temporality: AggregationTemporality) {
    this.#client = client;
    this.#url = url;
    this.#temporality = temporality;
  }

  selectAggregationTemporality(): AggregationTemporality {
    return this.#temporality;
  }

  export(metrics: ResourceMetrics, done: Parameters<PushMetricExporter['export']>[1]): void {
    this.#send(metrics).then(
      () => done({ code: 0 }),
      (error: Error) => {
        this.failures.push(error);
        done({ code: 1, error });
      },
    );
  }

  async #send(metrics: ResourceMetrics): Promise<void> {
    const isJson = this.requests++ % 2 === 1;
    const body = (isJson ? JsonMetricsSerializer : ProtobufMetricsSerializer).serializeRequest(metrics)!;
    const type = isJson ? 'application/json' : 'application/x-protobuf';
    const fields = headers();
    fields.set('Content-Type', type);
    const post = { method: 'POST', headers: { 'content-type': type }, body: Buffer.from(body) };
    const [answer] = await Promise.all([
      fetch(this.#url, post),
      this.#client.jetstream().publish('metrics.otlp', body, { headers: fields }),
    ]);
    expect(answer.status, await answer.text()).toBe(200);
  }

  async forceFlush(): Promise<void> {}
  async shutdown(): Promise<void> {}
}

/** A program with every kind of instrument. `step` has it do something, and export it. */
function instrumented(exporter: PushMetricExporter, service: string, seed: number) {
  const random = seededRandom(seed);
  const pick = <T>(...from: readonly T[]) => from[Math.floor(random() * from.length)]!;
  const provider = new MeterProvider({
    resource: resourceFromAttributes({ 'service.name': service, 'host.name': 'h1' }),
    readers: [new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 2 ** 31 - 1 })],
    views: [{ instrumentName: 'wait', aggregation: { type: AggregationType.EXPONENTIAL_HISTOGRAM } }],
  });
  const meter = provider.getMeter('lib', '1.0');
  const [orders, bytes] = [
    meter.createCounter('orders', { valueType: ValueType.INT }),
    meter.createCounter('bytes'),
  ];
  const open = meter.createUpDownCounter('open');
  const temperature = meter.createGauge('temperature');
  const [size, wait] = [meter.createHistogram('size'), meter.createHistogram('wait')];
  meter.createObservableGauge('memory').addCallback((result) => {
    for (const pool of ['a', 'b']) result.observe(random() * 1e9, { pool });
  });
  meter.createObservableCounter('ticks').addCallback((result) => result.observe(performance.now()));
  const step = async () => {
    for (let i = 0; i < 20; i++) {
      const attributes = { route: pick('/', '/v1', 'ä "x"'), status: pick(200, 500), ok: random() < 0.5 };
      orders.add(Math.floor(random() * 10), attributes);
      bytes.add(random() * 1_500, { ratio: pick(0.5, -1e-7, 1e15), list: pick(['a', 'b'], ['c']), none: '' });
      open.add(pick(-1, 1), { 'service.name': pick('own', 'other') });
      temperature.record(random() * 200 - 100, { room: pick('x', 'y') });
      size.record(random() * 12_000, { route: attributes.route });
      wait.record(pick(0, Math.exp(20 * random() - 10), random()), { route: attributes.route });
    }
    await provider.forceFlush();
  };
  return { step, end: () => provider.shutdown() };
}

test('rows are what the file of the Collector comes to', async (context) => {
  context.skip(
    COLLECTOR === undefined,
    'needs an OpenTelemetry Collector: otelcol on the PATH, or FANOUT_OTELCOL',
  );
  // Nothing is late, however busy the machine is.
  const [{ env, service, client }, collector] = await Promise.all([
    startWithSqlite(context, 'collector', { LATENESS: '20s' }),
    startCollector(COLLECTOR!),
  ]);
  context.onTestFinished(() => collector.remove());

  const bridges = [AggregationTemporality.DELTA, AggregationTemporality.CUMULATIVE].map(
    (temporality) => new Bridge(client, collector.url, temporality),
  );
  const programs = bridges.map((bridge, i) => instrumented(bridge, ['shop', 'totals'][i]!, i));
  const start = Date.now();
  for (let i = 0; i < MIN_EXPORTS || Date.now() < start + SPAN_MS; i++)
    for (const program of programs) await program.step();
  for (const program of programs) await program.end();
  const requests = bridges.reduce((sum, bridge) => sum + bridge.requests, 0);
  expect(bridges.flatMap(({ failures }) => failures)).toEqual([]);
  await service.untilConfirmed(Date.now());
  const { messages, samples } = await service.status();
  expect(messages.received).toBe(requests);
  expect(Object.values({ ...messages.rejected, ...samples.rejected }).every((count) => count === 0)).toBe(
    true,
  );

  const written = await collector.written();
  expect(written.length).toBe(requests);
  const expected = rowsOfWritten(written, WINDOW_MS);
  const points = await storedPoints(env, 'sqlite');
  const keyOf = ({ windowStart, series: { type, name, dimensions } }: (typeof points)[number]) =>
    JSON.stringify([windowStart, type, name, dimensions]);
  expect(points.map(keyOf).sort()).toEqual([...expected.keys()].sort());
  const kinds = { counter: 0, gauge: 0, timer: 0 };
  for (const point of points) {
    kinds[point.series.type]++;
    expectRow(point, expected.get(keyOf(point))!, keyOf(point));
  }
  for (const count of Object.values(kinds)) expect(count).toBeGreaterThan(0);
});

type Values = Readonly<Record<'count' | 'sum' | (typeof PERCENTILES)[number], number | null>> & {
  readonly series: { readonly type: string };
  readonly min: number | null;
  readonly max: number | null;
  readonly last: number | null;
};

function expectRow(point: Values, row: WrittenRow, key: string): void {
  const { count, sum, min, max, last } = row;
  const has = { count: point.count, sum: point.sum };
  switch (point.series.type) {
    case 'counter':
      expect(has, key).toEqual({ count, sum });
      return;
    case 'gauge':
      expect({ ...has, min: point.min, max: point.max, last: point.last }, key).toEqual({
        count,
        sum,
        min,
        max,
        last,
      });
      return;
    default:
      expect(point.count, key).toBe(count);
      for (const [ours, theirs] of [
        [point.sum, sum],
        [point.min, min],
        [point.max, max],
      ] as const)
        expect(Math.abs(ours! - theirs), key).toBeLessThanOrEqual(ROUNDING * Math.abs(theirs));
      expectPercentiles(point, row, key);
  }
}

/** Each is in the bucket that it is really in, but for the error of the sketch. */
function expectPercentiles(point: Values, { count, measured }: WrittenRow, key: string): void {
  expect(measured.length, key).toBe(count);
  const lows = measured.map(({ low }) => low).sort((a, b) => a - b);
  const highs = measured.map(({ high }) => high).sort((a, b) => a - b);
  for (const [i, name] of PERCENTILES.entries()) {
    const rank = Math.floor(QUANTILES[i]! * (count - 1));
    const slack = (value: number) => (RELATIVE_ERROR + ROUNDING) * Math.abs(value);
    expect(point[name], `${key} ${name}`).toBeGreaterThanOrEqual(lows[rank]! - slack(lows[rank]!));
    expect(point[name], `${key} ${name}`).toBeLessThanOrEqual(highs[rank]! + slack(highs[rank]!));
  }
}
