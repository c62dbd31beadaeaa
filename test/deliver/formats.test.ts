import { gzipSync, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { METRIC_TYPES, type Point } from '../../src/aggregate/point.ts';
import { OVERFLOW_DIMENSION } from '../../src/aggregate/series.ts';
import { SeriesTable } from '../../src/aggregate/series-table.ts';
import { Tiling } from '../../src/aggregate/tiling.ts';
import { systemClock } from '../../src/base/clock.ts';
import { FORMATS, type Format } from '../../src/decode/formats.ts';
import { wholeMessage } from '../../src/decode/raw-message.ts';
import type { ShapingSettings } from '../../src/decode/shaping.ts';
import { openPipeline } from '../../src/deliver/pipeline.ts';
import { seededRandom } from '../../src/load/random.ts';
import { pointsOf } from '../aggregate/stream.ts';
import { SETTINGS } from '../decode/formats.ts';
import { settingsOf } from '../decode/rules.ts';
import { type Sent, WRITERS } from '../decode/writers.ts';
import { effort } from '../effort.ts';

const tiling = Tiling.of({ windowMs: 10_000, latenessMs: 2000, maxAheadMs: 1000, maxSeries: 150 });
const NOW = Date.UTC(2026, 10, 24);
const SAMPLES = effort(100_000);
const AT_ONCE = { stepsPerTurn: Number.POSITIVE_INFINITY, maxWaitingBytes: 0 };

interface Message {
  readonly payload: Uint8Array | string;
  readonly time: number;
  readonly encoding?: string;
  readonly subject?: string;
  readonly increment?: string;
}

function rowsOf(
  messages: readonly Message[],
  metricsFormat: Format,
  rules: ShapingSettings = {},
  windows = tiling,
) {
  const points: Point[] = [];
  const { pipeline } = openPipeline(
    new SeriesTable(1000),
    {
      ...SETTINGS,
      ...rules,
      metricsFormat,
      metricsCounters: ['*.total'],
      slice: { index: 0, of: 1 },
      pace: AT_ONCE,
    },
    { from: Number.NEGATIVE_INFINITY, closedThrough: 0, instance: '', tiling: windows },
    {
      nextTurn: systemClock.nextTurn,
      onWindows: (windows) => {
        for (const window of windows) points.push(...pointsOf(window));
      },
    },
  );
  messages.forEach(({ payload, time, encoding, increment, subject = 'metrics' }, i) => {
    const bytes = Buffer.from(payload as string);
    pipeline.message(wholeMessage(bytes, time, i + 1), { subject, encoding, increment });
    if (i % 100 === 0) pipeline.progress(time);
  });
  pipeline.progress(NOW + 1e9);
  const { received, rejectedMessages, rejectedSamples } = pipeline.stats;
  return { points, received, rejected: [...rejectedMessages, ...rejectedSamples] };
}

/** Samples in groups, one group per message. They use only what all formats can express. */
function samples(types: readonly Sent['type'][]): { readonly group: Sent[]; readonly time: number }[] {
  const random = seededRandom(5);
  const pick = (below: number) => Math.floor(random() * below);
  const groups: { group: Sent[]; time: number }[] = [];
  let time = NOW;
  for (let made = 0; made < SAMPLES; ) {
    time += pick(20);
    const size = Math.min(SAMPLES - made, 1 + pick(5));
    const group = Array.from({ length: size }, (): Sent => {
      const type = types[pick(types.length)]!;
      const app = `app ${pick(8)}`;
      return {
        name: `${['http', 'db', 'cache.é'][pick(3)]}.${type === 'counter' ? 'total' : type}`,
        type,
        value: type === 'counter' ? pick(200) - 50 : pick(3) === 0 ? pick(1000) / 8 : random() * 1e6,
        dimensions: { app, host: `web-${pick(4)}`, ...(pick(2) === 0 ? { zone: 'a:b' } : {}) },
        // In whole seconds, as StatsD has no smaller unit. Some are too old for their window, some are ahead.
        seconds: pick(4) === 0 ? undefined : Math.floor(time / 1000) + pick(30) - 25,
      };
    });
    groups.push({ group, time });
    made += size;
  }
  return groups;
}

describe('the same 100,000 samples give the same rows', () => {
  const inAll = samples(['counter', 'gauge']);
  const expected = rowsOf(
    inAll.map(({ group, time }) => ({ payload: WRITERS.json(group), time })),
    'json',
  );

  test('as JSON, which is the reference', () => {
    expect(expected.rejected).toEqual([]);
    expect(expected.received).toBe(inAll.length);
    expect(expected.points.reduce((sum, { count }) => sum + count, 0)).toBe(SAMPLES);
    expect(new Set(expected.points.map(({ windowStart }) => windowStart)).size).toBeGreaterThan(
      SAMPLES / 5_000,
    );
    expect(new Set(expected.points.map(({ series }) => series.type))).toEqual(new Set(['counter', 'gauge']));
  });

  test.each(['influx', 'statsd'] as const)('as %s', (format) => {
    const messages = inAll.map(({ group, time }) => ({ payload: WRITERS[format](group), time }));
    expect(rowsOf(messages, format)).toEqual(expected);
    expect(rowsOf(messages, 'auto')).toEqual(expected);
  });

  test.each(['otlp', 'otlpJson'] as const)('as %s', (format) => {
    const messages = inAll.map(({ group, time }) => ({ payload: WRITERS[format](group), time }));
    expect(rowsOf(messages, 'auto')).toEqual(expected);
  });

  test('as lines of JSON', () => {
    const messages = inAll.map(({ group, time }) => ({ payload: WRITERS.jsonLines(group), time }));
    expect(rowsOf(messages, 'json')).toEqual(expected);
  });

  test('as a mix of all formats, compressed or not', () => {
    const formats = ['json', 'influx', 'statsd', 'jsonLines', 'otlp', 'otlpJson'] as const;
    const messages = inAll.map(({ group, time }, i): Message => {
      const payload = WRITERS[formats[(i * 7) % formats.length]!](group);
      if (i % 5 === 0) return { payload: gzipSync(payload), time, encoding: 'gzip' };
      if (i % 5 === 1) return { payload: zstdCompressSync(payload), time, encoding: 'zstd' };
      return { payload, time };
    });
    expect(rowsOf(messages, 'auto')).toEqual(expected);
  });

  test('with timers, which line protocol does not have', () => {
    const timed = samples(METRIC_TYPES);
    const rows = (['json', 'statsd', 'otlp'] as const).map((format) =>
      rowsOf(
        timed.map(({ group, time }) => ({ payload: WRITERS[format](group), time })),
        format,
      ),
    );
    expect(rows[0]!.rejected).toEqual([]);
    expect(new Set(rows[0]!.points.map(({ series }) => series.type)).size).toBe(3);
    expect(rows[1]).toEqual(rows[0]);
    expect(rows[2]).toEqual(rows[0]);
  });
});

test('increments are shaped and limited as counters in JSON are that have the names of their subjects', () => {
  const random = seededRandom(6);
  const pick = (below: number) => Math.floor(random() * below);
  const subjects = [
    'orders.eu.web',
    'orders.eu.app',
    'orders.us.web',
    'old.orders.eu.web',
    'orders',
    'debug',
  ];
  const messages = Array.from({ length: effort(10_000) }, (_, i) => {
    const [subject, value] = [subjects[pick(subjects.length)]!, pick(100) - 20];
    const json = JSON.stringify({ name: subject, type: 'counter', value });
    const message = { time: NOW + 200 * i, subject };
    return {
      increment: { ...message, payload: '{"val":"9"}', increment: `${value}` },
      json: { ...message, payload: json },
    };
  });
  const texts = {
    names: 'orders*, old.*',
    drop: 'orders.us.*: shop',
    keep: '*: region, shop, from',
    rename: 'old.*=*, orders.eu.web=orders, orders.eu.app=orders, orders.us.web=orders; *: shop=from',
    subjects: 'orders.{region}.{shop}, old.orders.{region}.{other}',
  };
  const shapes = [{}, { maxSeriesByName: ['orders=2', '*=1'] }].map((limits) =>
    Tiling.of({ windowMs: 10_000, latenessMs: 2000, maxAheadMs: 1000, maxSeries: 150, ...limits }),
  );
  const seriesOf = (windows: Tiling, subjectWins: boolean) => {
    const rules = settingsOf({ ...texts, subjectWins });
    const [increments, json] = (['increment', 'json'] as const).map((format) =>
      rowsOf(
        messages.map((message) => message[format]),
        format === 'increment' ? 'counter' : 'json',
        rules,
        windows,
      ),
    );
    expect(increments).toEqual(json);
    expect(increments!.rejected).toEqual([]);
    const names = increments!.points.map(
      ({ series }) => `${series.type} ${series.name} ${series.dimensionsJson}`,
    );
    return [...new Set(names)].sort();
  };
  const all = [
    'counter orders {"from":"app","region":"eu"}',
    'counter orders {"from":"web","region":"eu"}',
    'counter orders {"region":"us"}',
    'counter orders {}',
    'counter orders.eu.web {"region":"eu"}',
  ];
  // An increment has no dimensions of its own, over which that of the subject could win.
  for (const subjectWins of [false, true]) expect(seriesOf(shapes[0]!, subjectWins)).toEqual(all);
  expect(seriesOf(shapes[1]!, true)).toContain(`counter orders {"${OVERFLOW_DIMENSION}":"true"}`);
  // The first two of each window.
  const perWindow = new Map<number, number>();
  const limited = rowsOf(
    messages.map(({ increment }) => increment),
    'counter',
    settingsOf(texts),
    shapes[1],
  );
  for (const { series, windowStart } of limited.points)
    if (series.name === 'orders') perWindow.set(windowStart, (perWindow.get(windowStart) ?? 0) + 1);
  expect(Math.max(...perWindow.values())).toBe(3);
});

describe('a sampled timer', () => {
  const rows = (lines: readonly string[]) =>
    rowsOf(
      lines.map((payload) => ({ payload, time: NOW })),
      'statsd',
    ).points;

  test('counts once per measurement that it stands for, in every field', () => {
    const sampled = fc.record({
      value: fc.integer({ min: -100, max: 10_000 }),
      each: fc.integer({ min: 1, max: 40 }),
    });
    fc.assert(
      fc.property(fc.array(sampled, { minLength: 1, maxLength: 30 }), (all) => {
        const weighed = all.map(({ value, each }) => `a:${value}|ms|@${1 / each}`);
        const repeated = all.map(({ value, each }) => `a:${Array(each).fill(value).join(':')}|ms`);
        expect(rows(weighed)).toEqual(rows(repeated));
      }),
    );
  });

  test('has its fractions rounded once, after all are added', () => {
    expect(rows(Array(3).fill('a:6|ms|@0.3'))).toMatchObject([{ count: 10, min: 6, max: 6, p50: 6, p99: 6 }]);
    expect(rows(Array(3).fill('a:6|ms|@0.3'))[0]!.sum).toBeCloseTo(60, 9);
    expect(rows(['a:6|ms|@0.7'])).toMatchObject([{ count: 1, sum: 6 * (1 / 0.7) }]);
    expect(rows(['a:1|ms|@0.4', 'a:2|ms'])).toMatchObject([{ count: 4, sum: 4.5 }]);
  });

  test('is unlike a sampled counter, which is one sample with the whole value', () => {
    expect(rows(['a:3|c|@0.1', 'a:1|c'])).toMatchObject([{ count: 2, sum: 31 }]);
  });
});

test('a message that cannot be unpacked, or is too large after unpacking, is rejected and counted', () => {
  const json = '{"name":"a","type":"counter","value":1}';
  const bomb = gzipSync(Buffer.alloc(50_000_000, ' '));
  const messages: Message[] = [
    { payload: json, time: NOW, encoding: 'identity' },
    { payload: json, time: NOW, encoding: 'gzip' },
    { payload: json, time: NOW, encoding: 'br' },
    { payload: bomb, time: NOW, encoding: 'gzip' },
    { payload: gzipSync(''), time: NOW, encoding: 'gzip' },
    {
      payload: gzipSync('[{"name":"a"},{"name":"a","type":"counter","value":2}]'),
      time: NOW,
      encoding: 'GZIP',
    },
  ];
  for (const format of FORMATS.filter((each) => each === 'json' || each === 'auto')) {
    const { points, received, rejected } = rowsOf(messages, format);
    expect(points).toMatchObject([{ count: 2, sum: 3 }]);
    expect(received).toBe(6);
    expect(rejected).toEqual([
      ['bad_encoding', 1],
      ['unknown_encoding', 1],
      ['too_large', 1],
      ['empty', 1],
      ['bad_type', 1],
    ]);
  }
});
