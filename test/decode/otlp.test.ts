import { JsonMetricsSerializer, ProtobufMetricsSerializer } from '@opentelemetry/otlp-transformer';
import { resourceFromAttributes } from '@opentelemetry/resources';
import {
  AggregationTemporality,
  AggregationType,
  MeterProvider,
  MetricReader,
} from '@opentelemetry/sdk-metrics';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SKETCH_SCALE } from '../../src/aggregate/buckets.ts';
import { SeriesTable } from '../../src/aggregate/series-table.ts';
import { Sketches } from '../../src/aggregate/sketch.ts';
import { makeDecoder } from '../../src/decode/formats.ts';
import { wholeMessage } from '../../src/decode/raw-message.ts';
import type { InputRejection } from '../../src/decode/rejection.ts';
import { effort } from '../effort.ts';
import { decoding, type Heard, SETTINGS } from './formats.ts';
import { protobuf, request, text } from './otlp-messages.ts';

const DELTA = 1;
const CUMULATIVE = 2;
const TIME = '1700000000123000000';
const MS = 1_700_000_000_123;
const decode = decoding({ metricsFormat: 'otlp' });
const auto = decoding({});
const OF_SHOP = { 'service.name': 'shop' };

const heard = (type: Heard['type'], name: string, value: number, rest: Partial<Heard> = {}): Heard => ({
  name,
  type,
  value,
  dimensions: OF_SHOP,
  time: MS,
  weight: 1,
  ...rest,
});

/** Decodes a request in both encodings, twice each. They must agree. */
function both(what: object) {
  const json = JSON.stringify(what);
  const given = decode(protobuf(what));
  for (const other of [decode(json), auto(protobuf(what)), auto(json), decode(protobuf(what)), decode(json)])
    expect(other).toEqual(given);
  expect(given.rejection).toBeUndefined();
  return given.elements;
}

const gauge = (name: string, ...dataPoints: object[]) => ({ name, gauge: { dataPoints } });
const sum = (name: string, aggregationTemporality: number, ...dataPoints: object[]) => ({
  name,
  sum: { aggregationTemporality, dataPoints, isMonotonic: true },
});
const point = (value: number, ...attributes: object[]) => ({
  timeUnixNano: TIME,
  asDouble: value,
  attributes,
});

/** The values of a histogram. */
function timed(what: object) {
  return both(request([what])).filter((each) => typeof each !== 'string');
}
const total = (all: readonly Heard[]) => all.reduce((sum, { value, weight }) => sum + value * weight, 0);
const weights = (all: readonly Heard[]) => all.reduce((sum, { weight }) => sum + weight, 0);
const range = (all: readonly Heard[]) => [
  Math.min(...all.map(({ value }) => value)),
  Math.max(...all.map(({ value }) => value)),
];

class Reader extends MetricReader {
  protected override async onShutdown() {}
  protected override async onForceFlush() {}
}

test("what OpenTelemetry's SDK exports comes to what was given to it", async () => {
  const reader = new Reader({ aggregationTemporalitySelector: () => AggregationTemporality.DELTA });
  const provider = new MeterProvider({
    resource: resourceFromAttributes({ 'service.name': 'shop', 'host.name': 'h1' }),
    readers: [reader],
    views: [
      { instrumentName: 'wait', aggregation: { type: AggregationType.EXPONENTIAL_HISTOGRAM } },
      {
        instrumentName: 'size',
        aggregation: {
          type: AggregationType.EXPLICIT_BUCKET_HISTOGRAM,
          options: { boundaries: [1, 10, 100] },
        },
      },
    ],
  });
  const meter = provider.getMeter('lib', '1.0');
  const orders = meter.createCounter('orders');
  for (let i = 1; i <= 10; i++) orders.add(i, { route: '/v1', status: 200 });
  meter.createCounter('ratio').add(0.25);
  const gauged = meter.createGauge('temp');
  gauged.record(21.5, { ok: true, list: ['a', 'b'] });
  gauged.record(Number.NaN, { ok: false });
  const [size, wait] = [meter.createHistogram('size'), meter.createHistogram('wait')];
  for (const value of [0.5, 3, 4, 50, 5000]) size.record(value);
  for (let i = 1; i <= 1000; i++) wait.record(i);
  const { resourceMetrics } = await reader.collect();
  const before = Date.now();
  for (const serializer of [ProtobufMetricsSerializer, JsonMetricsSerializer]) {
    const { rejection, elements } = auto(serializer.serializeRequest(resourceMetrics)!);
    expect(rejection).toBeUndefined();
    const samples = elements.filter((each) => typeof each !== 'string');
    const of = (name: string) => samples.filter((each) => each.name === name);
    const any = { time: expect.any(Number) as number };
    const route = { ...OF_SHOP, route: '/v1', status: '200' };
    expect(of('orders')).toEqual([heard('counter', 'orders', 55, { dimensions: route, ...any })]);
    expect(of('ratio')).toEqual([heard('counter', 'ratio', 0.25, any)]);
    const listed = { ...OF_SHOP, ok: 'true', list: '["a","b"]' };
    expect(of('temp')).toEqual([heard('gauge', 'temp', 21.5, { dimensions: listed, ...any })]);
    expect(weights(of('size'))).toBe(5);
    expect(total(of('size'))).toBeCloseTo(5057.5, 8);
    expect(range(of('size'))).toEqual([0.5, 5000]);
    expect(new Set(of('wait').map(({ type }) => type))).toEqual(new Set(['timer']));
    expect(weights(of('wait'))).toBe(1000);
    expect(total(of('wait'))).toBeCloseTo(500_500, 6);
    expect(range(of('wait'))).toEqual([1, 1000]);
    expect(elements.filter((each) => typeof each === 'string')).toEqual(['bad_value']);
    for (const { time } of samples) expect(Math.abs(time - before)).toBeLessThan(60_000);
  }
  await provider.shutdown();
});

describe('what a data point comes to', () => {
  test.each<[string, object, readonly (Heard | InputRejection)[]]>([
    ['a gauge', gauge('g', point(1.5)), [heard('gauge', 'g', 1.5)]],
    ['an integer', gauge('g', { timeUnixNano: TIME, asInt: '-7' }), [heard('gauge', 'g', -7)]],
    ['a delta sum', sum('s', DELTA, point(3)), [heard('counter', 's', 3)]],
    ['a cumulative sum', sum('s', CUMULATIVE, point(3)), [heard('gauge', 's', 3)]],
    ['a sum of no temporality', sum('s', 0, point(3)), ['bad_type']],
    ['a point without a time', gauge('g', { asDouble: 1 }), [heard('gauge', 'g', 1, { time: Number.NaN })]],
    [
      'a point without a value',
      gauge('g', { timeUnixNano: TIME }, point(2)),
      [heard('gauge', 'g', 2), 'bad_value'],
    ],
    ['no recorded value', gauge('g', { asDouble: 1, flags: 1 }), ['no_recorded_value']],
    ['a metric without a name', gauge('', point(1)), ['missing_name']],
    ['a summary', { name: 's', summary: { dataPoints: [{ count: 1, sum: 1 }] } }, ['summary']],
    [
      'a cumulative histogram',
      {
        name: 'h',
        histogram: { aggregationTemporality: 2, dataPoints: [{ timeUnixNano: TIME, count: 5, sum: 9.5 }] },
      },
      [heard('gauge', 'h.count', 5), heard('gauge', 'h.sum', 9.5)],
    ],
    [
      'attributes of all kinds',
      gauge(
        'g',
        point(
          1,
          text('s', 'é'),
          { key: 'b', value: { boolValue: false } },
          { key: 'i', value: { intValue: '-9007199254740993' } },
          { key: 'd', value: { doubleValue: 0.5 } },
          { key: 'a', value: { arrayValue: { values: [{ stringValue: 'x' }, { boolValue: true }] } } },
          { key: 'm', value: { kvlistValue: { values: [text('k', 'v')] } } },
          text('empty', ''),
        ),
      ),
      [
        heard('gauge', 'g', 1, {
          dimensions: {
            ...OF_SHOP,
            s: 'é',
            b: 'false',
            i: '-9007199254740993',
            d: '0.5',
            a: '["x",true]',
            m: '{"k":"v"}',
          },
        }),
      ],
    ],
    ['an attribute twice', gauge('g', point(1, text('a', 'x'), text('a', 'y'))), ['duplicate_key']],
    ['an attribute without a key', gauge('g', point(1, text('', 'x'))), ['bad_dimensions']],
    [
      'more attributes than may be',
      gauge('g', point(1, ...Array.from({ length: 65 }, (_, i) => text(`k${i}`, 'v')))),
      ['too_many_dimensions'],
    ],
    [
      'very many attributes',
      gauge('g', point(1, ...Array.from({ length: 1025 }, (_, i) => text(`k${i}`, 'v')))),
      ['too_many_dimensions'],
    ],
    [
      'an attribute that the resource has, too',
      gauge('g', point(1, text('service.name', 'own'))),
      [heard('gauge', 'g', 1, { dimensions: { 'service.name': 'own' } })],
    ],
  ])('%s', (_, metric, expected) => {
    expect(both(request([metric]))).toEqual(expected);
  });

  test('which attributes of resources and scopes count is a setting', () => {
    const what = request([gauge('g', point(1))], [text('service.name', 'shop'), text('k8s.pod.name', 'p')]);
    for (const [metricsOtlpAttributes, dimensions] of [
      [undefined, OF_SHOP],
      [[], {}],
      [['*'], { ...OF_SHOP, 'k8s.pod.name': 'p', 'otel.scope.name': 'lib' }],
      [['k8s.*'], { 'k8s.pod.name': 'p' }],
    ] as const) {
      const decoder = decoding({ metricsFormat: 'otlp', metricsOtlpAttributes });
      expect(decoder(protobuf(what)).elements).toEqual([heard('gauge', 'g', 1, { dimensions })]);
      expect(decoder(JSON.stringify(what)).elements).toEqual([heard('gauge', 'g', 1, { dimensions })]);
    }
  });
});

test('a running total is announced, unless it is a level: then a gauge is what it should be', () => {
  const announced = (what: object, isSnake = false) =>
    [protobuf(request([what])), Buffer.from(JSON.stringify(request([what])))].map((message) => {
      let times = 0;
      const decoder = makeDecoder(new SeriesTable(10), { ...SETTINGS, metricsFormat: 'otlp' });
      const handler = { sample() {}, rejected() {}, rejectedMessage() {}, cumulative: () => void times++ };
      const text = isSnake ? message.toString().replace('isMonotonic', 'is_monotonic') : message;
      decoder.take(wholeMessage(Buffer.from(text)), handler);
      decoder.flush(handler);
      return times;
    });
  const monotonic = sum('s', CUMULATIVE, point(3), point(4));
  const { isMonotonic: _, ...unsaid } = monotonic.sum;
  const counts = { dataPoints: [{ timeUnixNano: TIME, count: 5, sum: 9.5 }] };
  expect(announced(monotonic)).toEqual([2, 2]);
  expect(announced(monotonic, true)[1]).toBe(2);
  expect(announced({ name: 's', sum: { ...unsaid, isMonotonic: false } })).toEqual([0, 0]);
  expect(announced({ name: 's', sum: unsaid })).toEqual([0, 0]);
  expect(announced({ name: 'h', histogram: { ...counts, aggregationTemporality: CUMULATIVE } })).toEqual([
    1, 1,
  ]);
  expect(announced(sum('s', DELTA, point(3)))).toEqual([0, 0]);
});

describe('JSON as SDKs write it', () => {
  const point = (given: object) => JSON.stringify(request([gauge('g', given)]));
  test.each([
    ['times as numbers', point({ timeUnixNano: Number(TIME), asDouble: 1 })],
    [
      'times in halves',
      point({
        timeUnixNano: { low: Number(BigInt(TIME) & 0xffffffffn), high: Number(BigInt(TIME) >> 32n) },
        asInt: 1,
      }),
    ],
    ['integers as numbers', point({ timeUnixNano: TIME, asInt: 1 })],
    ['doubles as text', point({ timeUnixNano: TIME, asDouble: '1' })],
    ['unknown fields', point({ timeUnixNano: TIME, asDouble: 1, entity: { x: [1] } })],
    [
      'snake case',
      point({ time_unix_nano: TIME, as_int: '1' })
        .replace('resourceMetrics', 'resource_metrics')
        .replace('scopeMetrics', 'scope_metrics')
        .replace('dataPoints', 'data_points'),
    ],
    [
      'on several lines',
      `\n${JSON.stringify(JSON.parse(point({ timeUnixNano: TIME, asDouble: 1 })), null, 2)}\n`,
    ],
  ])('%s', (_, message) => {
    for (const each of [decode, auto]) expect(each(message).elements).toEqual([heard('gauge', 'g', 1)]);
  });

  test('names of temporalities', () => {
    const named = (temporality: string) =>
      decode(
        JSON.stringify(request([{ ...sum('s', 0, { timeUnixNano: TIME, asInt: '2' }) }])).replace(
          '"aggregationTemporality":0',
          `"aggregationTemporality":"AGGREGATION_TEMPORALITY_${temporality}"`,
        ),
      ).elements;
    expect(named('DELTA')).toEqual([heard('counter', 's', 2)]);
    expect(named('CUMULATIVE')).toEqual([heard('gauge', 's', 2)]);
    expect(named('UNSPECIFIED')).toEqual(['bad_type']);
  });

  test('a gauge that is NaN, and so null: that point is rejected, not the request', () => {
    const points = [
      { timeUnixNano: TIME, asDouble: null },
      { timeUnixNano: TIME, asDouble: 'NaN' },
      { timeUnixNano: TIME, asDouble: 1 },
    ];
    expect(decode(JSON.stringify(request([gauge('g', ...points)]))).elements).toEqual([
      heard('gauge', 'g', 1),
      'bad_value',
      'bad_value',
    ]);
  });
});

describe('rejected as a whole', () => {
  const deep = `{"resourceMetrics":${'['.repeat(40)}${']'.repeat(40)}}`;
  test.each<[InputRejection, string | Uint8Array]>([
    ['empty', ''],
    ['empty', ' \n'],
    ['too_large', `{"resourceMetrics":[]${' '.repeat(1_048_576)}}`],
    ['not_json', '{"resourceMetrics":}'],
    ['too_deep', deep],
    ['too_deep', '{"resourceMetrics":'.repeat(50_000)],
    ['too_long', `{"resourceMetrics":[${'{},'.repeat(10_000)}{}]}`],
    ['not_otlp', '{"resourceMetrics":[7]}'],
    ['not_otlp', '{"resourceMetrics":{}}'],
    ['bad_unicode', Buffer.from('{"resourceMetrics":[],"\xff":1}', 'latin1')],
    ['not_otlp', Buffer.from([0x0a, 5, 1])],
    ['not_otlp', Buffer.from([0x0b, 0x0c])],
    ['not_otlp', Buffer.alloc(20, 0xff)],
    ['not_otlp', 'a:1|c'],
  ])('%s: %.30j', (rejection, message) => {
    expect(decode(message)).toEqual({ rejection, elements: [] });
  });
});

describe('histograms', () => {
  const explicit = (dataPoint: object) => ({
    name: 'h',
    histogram: { aggregationTemporality: DELTA, dataPoints: [{ timeUnixNano: TIME, ...dataPoint }] },
  });
  const exponential = (dataPoint: object) => ({
    name: 'h',
    exponentialHistogram: {
      aggregationTemporality: DELTA,
      dataPoints: [{ timeUnixNano: TIME, ...dataPoint }],
    },
  });

  test.each<[string, object, readonly (readonly [value: number, weight: number])[]]>([
    ['no measurement', explicit({ count: 0, bucketCounts: [0, 0], explicitBounds: [1] }), []],
    [
      'no buckets, but ends',
      explicit({ count: 4, sum: 10, min: 1, max: 4 }),
      [
        [1, 1],
        [4, 1],
        [2.5, 2],
      ],
    ],
    ['no buckets and no ends', explicit({ count: 4, sum: 10 }), [[2.5, 4]]],
    ['without a sum', explicit({ count: 2, bucketCounts: [0, 2, 0], explicitBounds: [1, 3] }), [[2, 2]]],
    [
      'above the last bound',
      explicit({ count: 3, sum: 33, bucketCounts: [0, 1, 2], explicitBounds: [1, 5] }),
      [
        [3, 1],
        [15, 2],
      ],
    ],
    [
      'below zero',
      explicit({ count: 2, sum: -7, min: -5, max: -2, bucketCounts: [2, 0], explicitBounds: [0] }),
      [
        [-5, 1],
        [-2, 1],
      ],
    ],
    [
      'exponential: zeros and both signs',
      exponential({
        count: 4,
        sum: 1.5,
        scale: 0,
        zeroCount: 2,
        positive: { offset: 1, bucketCounts: [1] },
        negative: { offset: 0, bucketCounts: [1] },
      }),
      [
        [-1.5, 1],
        [0, 2],
        [3, 1],
      ],
    ],
  ])('%s', (_, what, values) => {
    expect(timed(what).map(({ value, weight }) => [value, weight])).toEqual(values);
  });

  test.each([
    ['fewer bounds than counts', explicit({ count: 2, bucketCounts: [1, 1], explicitBounds: [] })],
    ['bounds in disorder', explicit({ count: 1, bucketCounts: [1, 0, 0], explicitBounds: [2, 1] })],
    ['another count', explicit({ count: 3, bucketCounts: [1, 1], explicitBounds: [1] })],
    [
      'a scale that is none',
      exponential({ count: 1, scale: 1000, positive: { offset: 0, bucketCounts: [1] } }),
    ],
    ['no sum, no buckets', explicit({ count: 3 })],
  ])('rejected: %s', (_, what) => {
    expect(both(request([what]))).toEqual(['bad_value']);
  });

  test('more buckets than may be', () => {
    const bucketCounts = Array(5000).fill(1);
    expect(both(request([exponential({ count: 5000, positive: { bucketCounts } })]))).toEqual(['too_long']);
  });

  const measured = fc.array(fc.double({ min: -1e6, max: 1e6, noNaN: true }), { minLength: 1, maxLength: 60 });

  test('exponential, scale 6 and more: the sketch has the counts of all buckets, exactly', () => {
    const spread = fc.record({
      scale: fc.integer({ min: 6, max: 20 }),
      first: fc.integer({ min: -30, max: 30 }),
      counts: fc.array(fc.oneof(fc.constant(0), fc.nat(9)), { minLength: 1, maxLength: 40 }),
      negative: fc.array(fc.nat(3), { maxLength: 10 }),
      zeroCount: fc.nat(3),
      /** At the lower bounds of all buckets, at the upper ones, or where it cannot be. */
      share: fc.constantFrom(0, 0.3, 1, -5, 5),
    });
    fc.assert(
      fc.property(spread, ({ scale, first, counts, negative, zeroCount, share }) => {
        const offset = first * 2 ** scale + 7;
        const bound = (index: number) => 2 ** (index / 2 ** scale);
        const expected = new Map<string, number>(zeroCount > 0 ? [['0 0', zeroCount]] : []);
        let sum = 0;
        for (const [sign, all] of [
          [1, counts],
          [-1, negative],
        ] as const) {
          for (const [i, count] of all.entries()) {
            const [low, high] = [bound(offset + i), bound(offset + i + 1)];
            sum += sign * count * (low + (high - low) * (sign > 0 ? share : 1 - share));
            const key = `${sign} ${Math.floor((offset + i) / 2 ** (scale - 6))}`;
            if (count > 0) expected.set(key, (expected.get(key) ?? 0) + count);
          }
        }
        const count = [...counts, ...negative, zeroCount].reduce((all, each) => all + each, 0);
        const buckets = (bucketCounts: number[]) => ({ offset, bucketCounts });
        const point = {
          count,
          sum,
          scale,
          zeroCount,
          positive: buckets(counts),
          negative: buckets(negative),
        };
        const sketch = new Sketches(SKETCH_SCALE);
        sketch.begin();
        for (const { value, weight } of timed(exponential(point)))
          sketch.add(0, value, weight, { grow: () => true });
        const found = new Map<string, number>();
        sketch.eachBucket(0, (sign, bucket, weight) => found.set(`${sign} ${bucket}`, weight));
        expect(found).toEqual(expected);
      }),
      { numRuns: effort(1000) },
    );
  });

  test('count, sum, ends, and every quantile in its bucket: whatever was measured', () => {
    fc.assert(
      fc.property(measured, fc.integer({ min: -3, max: 8 }), fc.boolean(), (raw, scale, hasEnds) => {
        const values = raw.map((value) => value + 0).toSorted((a, b) => a - b);
        const ends = hasEnds ? { min: values[0]!, max: values.at(-1)! } : {};
        const [count, sum] = [values.length, values.reduce((all, value) => all + value, 0)];
        const index = (value: number) => Math.ceil(Math.log2(value) * 2 ** scale) - 1;
        const buckets = (all: number[]) => {
          if (all.length === 0) return undefined;
          const offset = Math.min(...all.map(index));
          const bucketCounts = Array<number>(Math.min(4096, Math.max(...all.map(index)) - offset + 1)).fill(
            0,
          );
          for (const value of all) bucketCounts[index(value) - offset]! += 1;
          return { offset, bucketCounts };
        };
        const small = 1e-3;
        const of = (sign: number) => values.filter((value) => sign * value > small).map(Math.abs);
        const zeroCount = values.filter((value) => Math.abs(value) <= small).length;
        const [positive, negative] = [buckets(of(1)), buckets(of(-1))];
        fc.pre([positive, negative].every((each) => (each?.bucketCounts.length ?? 0) < 4096));
        const samples = timed(exponential({ count, sum, ...ends, scale, zeroCount, positive, negative }));
        expect(weights(samples)).toBe(count);
        const spread = values.reduce((all, value) => all + Math.abs(value), 0);
        if (hasEnds) {
          const [low, high] = range(samples);
          expect(low).toBeCloseTo(Math.abs(values[0]!) <= small ? low! : values[0]!, 6);
          expect(high).toBeCloseTo(Math.abs(values.at(-1)!) <= small ? high! : values.at(-1)!, 6);
        }
        expect(Math.abs(total(samples) - sum)).toBeLessThan(1e-9 * spread + small * count);
        const spelled = samples
          .flatMap(({ value, weight }) => Array<number>(weight).fill(value))
          .toSorted((a, b) => a - b);
        spelled.forEach((value, i) => {
          const truth = values[i]!;
          if (Math.abs(truth) <= small) expect(Math.abs(value)).toBeLessThanOrEqual(small);
          // In one bucket: at most its width apart.
          else expect(value / truth).toBeLessThanOrEqual(2 ** (2 ** -scale) * (1 + 1e-9));
        });
      }),
      { numRuns: effort(300) },
    );
  });
});

const anyPoint = fc.record({
  timeUnixNano: fc.bigInt({ min: 1_000_000n, max: 2n ** 62n }).map(String),
  attributes: fc.array(
    fc.tuple(fc.constantFrom('a', 'b', 'é', '__proto__', '1'), fc.string({ unit: 'grapheme' })),
    { maxLength: 4 },
  ),
  value: fc.oneof(
    fc.double({ noNaN: true, noDefaultInfinity: true }).map((asDouble) => ({ asDouble })),
    fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map((n) => ({ asInt: String(n) })),
  ),
});
const anyMetric = fc.record({
  name: fc.constantFrom('m', 'n.é'),
  kind: fc.constantFrom('gauge', 'delta', 'cumulative'),
  points: fc.array(anyPoint, { maxLength: 5 }),
});

test('any points, in both encodings, at once and in turns, come to what was written', () => {
  const table = new SeriesTable(50);
  fc.assert(
    fc.property(fc.array(anyMetric, { maxLength: 5 }), fc.constantFrom(1, 3), (metrics, stepsPerTurn) => {
      const expected: unknown[] = [];
      const written = metrics.map(({ name, kind, points }) => {
        const dataPoints = points.map(({ timeUnixNano, attributes, value }) => {
          const distinct = new Map(attributes);
          const dimensions = Object.fromEntries(
            [['service.name', 'shop'] as const, ...distinct].filter(([, text]) => text !== ''),
          );
          const type = kind === 'delta' ? 'counter' : 'gauge';
          const read = Number(Object.values(value)[0]) + 0;
          const time = Number(BigInt(timeUnixNano) / 1_000_000n);
          expected.push([type, name, dimensions, read, time]);
          return { timeUnixNano, ...value, attributes: [...distinct].map(([key, of]) => text(key, of)) };
        });
        return kind === 'gauge'
          ? gauge(name, ...dataPoints)
          : sum(name, kind === 'delta' ? DELTA : CUMULATIVE, ...dataPoints);
      });
      const what = request(written);
      for (const message of [protobuf(what), Buffer.from(JSON.stringify(what))]) {
        const decoder = makeDecoder(table, { ...SETTINGS, metricsFormat: 'otlp' });
        const given: unknown[] = [];
        const handler: Parameters<typeof decoder.flush>[0] = {
          sample: ({ series, value, eventTime }) => {
            const { type, name, dimensions } = table.series(series);
            given.push([type, name, Object.fromEntries(dimensions), value, eventTime]);
          },
          rejected: (reason) => given.push(reason),
          rejectedMessage: (reason) => given.push(reason),
        };
        decoder.steps.left = stepsPerTurn;
        decoder.take(wholeMessage(message), handler);
        for (let turn = 1; decoder.isPaused; turn++) {
          decoder.steps.left = stepsPerTurn;
          // At another place each time.
          const moved = Buffer.concat([Buffer.alloc(turn), message]);
          decoder.resume({ ...wholeMessage(moved), start: turn }, handler);
        }
        expect(given).toEqual(message.length === 0 ? ['empty'] : expected);
      }
    }),
    { numRuns: effort(300) },
  );
});
