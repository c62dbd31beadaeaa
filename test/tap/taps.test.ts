/** What the taps show and count, without a bus. */
import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { SKETCH_SCALE } from '../../src/aggregate/buckets.ts';
import { makeSeries } from '../../src/aggregate/series.ts';
import { SeriesRecords } from '../../src/aggregate/series-records.ts';
import { QUANTILES, RELATIVE_ERROR } from '../../src/aggregate/sketch.ts';
import { Tiling } from '../../src/aggregate/tiling.ts';
import { ClosedWindow } from '../../src/aggregate/window.ts';
import { columnsOf, cut, renderTable } from '../../src/commands/terminal/table.ts';
import { REJECTION_TEXTS } from '../../src/decode/rejection.ts';
import { matchesFilters, parseFilter } from '../../src/tap/filters.ts';
import { Pace } from '../../src/tap/pace.ts';
import { Rates } from '../../src/tap/rates.ts';
import { linesOf } from '../../src/tap/sample-lines.ts';
import { Tally } from '../../src/tap/tally.ts';
import { TapDecoder } from '../../src/tap/tap-decoder.ts';
import { closedWindow } from '../aggregate/closed-window.ts';
import { SETTINGS } from '../decode/formats.ts';

const TIME = Date.UTC(2026, 10, 23, 1, 30);
const received = (text: string) => ({
  payload: Buffer.from(text),
  subject: 'metrics.a',
  time: TIME,
  sequence: undefined,
});

function lines(text: string, filters = {}, asJson = false): string[] {
  return linesOf(received(text), new TapDecoder({ ...SETTINGS, maxMessageBytes: 10_000 }), filters, asJson);
}

const SAMPLE = JSON.stringify({
  name: 'http.requests',
  type: 'counter',
  value: 3,
  dims: { status: 200, app: 'api' },
});

test('a sample is one line; in JSON, with everything that is known about it', () => {
  expect(lines(SAMPLE)).toEqual([
    '2026-11-23T01:30:00.000Z metrics.a counter http.requests 3 {"app":"api","status":"200"}',
  ]);
  const array = `[${SAMPLE},{"name":"x","type":"nope","value":1},{"name":"t","type":"timer","value":5,"timestamp":"2026-11-23T01:29:59.5Z"}]`;
  expect(lines(array, {}, true).map((line) => JSON.parse(line))).toEqual([
    {
      time: '2026-11-23T01:30:00.000Z',
      subject: 'metrics.a',
      name: 'http.requests',
      type: 'counter',
      value: 3,
      dimensions: { app: 'api', status: '200' },
      event_time: null,
    },
    expect.objectContaining({ name: 't', type: 'timer', event_time: '2026-11-23T01:29:59.500Z' }),
    expect.objectContaining({ rejected: 'bad_type', why: REJECTION_TEXTS.bad_type }),
  ]);
});

test('what is not a sample is shown with the reason, unless there are filters', () => {
  expect(lines('{"name":"a"')).toEqual([
    `2026-11-23T01:30:00.000Z metrics.a rejected, not_json (${REJECTION_TEXTS.not_json}): {"name":"a"`,
  ]);
  expect(lines('{"name":"a"', { name: '*' })).toEqual([]);
});

test('only what is rejected is shown, if that is wanted', () => {
  const mixed = `[${SAMPLE},{"name":"x","type":"nope","value":1}]`;
  expect(lines(mixed, { rejected: true })).toEqual([
    `2026-11-23T01:30:00.000Z metrics.a rejected, bad_type (${REJECTION_TEXTS.bad_type}): ${mixed}`,
  ]);
  expect(lines(SAMPLE, { rejected: true })).toEqual([]);
});

test('every format is shown as the service would read it, compressed or not', () => {
  const show = (payload: Uint8Array | string, encoding?: string) => {
    const decoder = new TapDecoder({ ...SETTINGS, metricsCounters: ['net.*'] });
    const message = { ...received(''), payload: Buffer.from(payload as string), encoding };
    return linesOf(message, decoder, {}, false).map((line) => line.slice(25));
  };
  expect(show('net,if=eth0 rx=5i,up=true\ncpu value=1')).toEqual([
    'metrics.a counter net.rx 5 {"if":"eth0"}',
    'metrics.a gauge cpu 1 {}',
    `metrics.a rejected, boolean_field (${REJECTION_TEXTS.boolean_field}): net,if=eth0 rx=5i,up=true\\u000acpu value=1`,
  ]);
  expect(show('lat:320|ms|@0.1|#route:/v1')).toEqual(['metrics.a timer lat 320 (10 times) {"route":"/v1"}']);
  expect(show(gzipSync('lat:320|ms'), 'gzip')).toEqual(['metrics.a timer lat 320 {}']);
  expect(show('lat:320|ms', 'br')).toEqual([
    `metrics.a rejected, unknown_encoding (${REJECTION_TEXTS.unknown_encoding}): lat:320|ms`,
  ]);
});

test('nothing that a producer sends acts on the terminal', () => {
  const hostile = '\x1b]0;owned\x07\u009b2J\u202e';
  const sample = JSON.stringify({
    name: hostile,
    type: 'counter',
    value: 1,
    dimensions: { [hostile]: hostile },
  });
  const raw = Buffer.concat([Buffer.from('\x1b[2J\x07'), Buffer.from([0xff, 0x9b, 0xc2, 0x9b])]).toString(
    'latin1',
  );
  for (const asJson of [false, true]) {
    for (const line of [...lines(sample, {}, asJson), ...lines(raw, {}, asJson)]) {
      // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what it is about
      expect(line).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u202e]/);
    }
  }
  expect(JSON.parse(lines(sample, {}, true)[0]!)).toMatchObject({
    name: hostile,
    dimensions: { [hostile]: hostile },
  });
});

test('filters match names and dimensions; an absent dimension is empty', () => {
  const series = makeSeries('http.requests', 'counter', [
    ['app', 'api'],
    ['status', '503'],
  ]);
  const where = (...texts: string[]) => ({ where: texts.map((text) => parseFilter(text)!) });
  expect(matchesFilters({ name: 'http.*' }, series)).toBe(true);
  expect(matchesFilters({ name: 'http' }, series)).toBe(false);
  expect(matchesFilters(where('status=5*', 'app=api'), series)).toBe(true);
  expect(matchesFilters(where('status=5*', 'app=web'), series)).toBe(false);
  expect(matchesFilters(where('host='), series)).toBe(true);
  expect(matchesFilters(where('app='), series)).toBe(false);
  expect(parseFilter('a=b=c')).toEqual({ key: 'a', glob: 'b=c' });
  expect(['app', '=api'].map(parseFilter)).toEqual([undefined, undefined]);
});

function windowOf(rows: readonly [name: string, app: string, count: number, sum: number][]): ClosedWindow {
  const records = new SeriesRecords();
  return new ClosedWindow({
    start: 0,
    windowMs: 1000,
    instance: '',
    records,
    refs: Uint32Array.from(rows, ([name, app]) => records.add(makeSeries(name, 'counter', [['app', app]]))),
    rows: Uint32Array.from(rows, (_, i) => 2 * i),
    values: Float64Array.from(rows.flatMap(([, , count, sum]) => [count, sum])),
  });
}

test('a tally counts by name, type and the given dimensions, and its sums do not lose small values', () => {
  const tally = new Tally(['app'], { name: 'a*' });
  tally.add(
    windowOf([
      ['a', 'x', 2, 1e16],
      ['a', 'y', 1, 5],
      ['b', 'x', 9, 9],
    ]),
  );
  for (let i = 0; i < 10; i++)
    tally.add(
      windowOf([
        ['a', 'x', 1, 1],
        ['a', '', 1, 7],
      ]),
    );
  tally.add(windowOf([['a', 'x', 1, -1e16]]));
  expect(tally.count).toBe(24);
  expect(tally.groups()).toEqual([
    { name: 'a', type: 'counter', values: [''], count: 10, sum: 70 },
    { name: 'a', type: 'counter', values: ['x'], count: 13, sum: 10 },
    { name: 'a', type: 'counter', values: ['y'], count: 1, sum: 5 },
  ]);
});

test('of timers, a tally merges percentiles, in bounded memory, unless a window has no sketches', () => {
  const shape = { windowMs: 1000, latenessMs: 0, maxAheadMs: 0, maxSeries: 100 };
  const now = Tiling.of({ ...shape, maxSeriesBytes: 1e9, sketchScale: SKETCH_SCALE });
  const measured = (scale: number) => Array.from({ length: 500 }, (_, i) => scale * 1.01 ** i);
  const windowsOf = (tiling: Tiling) =>
    [1, 7].map((scale) => {
      const samples = measured(scale).map((value, i) => {
        return { name: 't', type: 'timer', value, dimensions: { i: String(i % 20) } } as const;
      });
      return closedWindow([...samples, { name: 'g', type: 'gauge', value: 1 }], tiling, {
        hasSketches: true,
      });
    });
  const tally = new Tally([], {});
  for (const window of windowsOf(now)) tally.add(window);
  const [gauge, timer] = tally.groups();
  expect([gauge!.percentiles, timer!.count, tally.isCoarse, tally.lacksPercentiles]).toEqual([
    undefined,
    1000,
    false,
    false,
  ]);
  const sorted = [...measured(1), ...measured(7)].sort((a, b) => a - b);
  for (const [i, q] of QUANTILES.entries()) {
    const exact = sorted[Math.floor(q * 999)]!;
    expect(Math.abs(timer!.percentiles![i]! - exact)).toBeLessThanOrEqual(RELATIVE_ERROR * exact);
  }
  const small = new Tally([], {}, 300);
  for (const window of windowsOf(now)) small.add(window);
  expect([small.groups()[1]!.count, small.isCoarse]).toEqual([1000, true]);
  for (const tiling of [now, Tiling.of(shape)]) for (const window of windowsOf(tiling)) tally.add(window);
  expect([tally.groups()[1], tally.lacksPercentiles]).toMatchObject([{ count: 3000 }, true]);
  expect(tally.groups()[1]!.percentiles).toBeUndefined();
});

test('rates are since the last look; keys beyond the limit are counted together', () => {
  const rates = new Rates(0, 2);
  for (const [key, times] of [
    ['a', 1],
    ['b', 6],
    ['c', 2],
    ['d', 2],
  ] as const)
    for (let i = 0; i < times; i++) rates.add(key, 100);
  const { rows, all } = rates.take(2000);
  expect(rows.map(({ key, perSecond, bytesPerSecond }) => [key, perSecond, bytesPerSecond])).toEqual([
    ['b', 3, 300],
    ['(others)', 2, 200],
    ['a', 0.5, 50],
  ]);
  expect(all).toEqual({ perSecond: 5.5, bytesPerSecond: 550, total: 11, totalBytes: 1100 });
  rates.add('a', 1);
  const [first] = rates.take(3000).rows;
  expect(first).toEqual({ key: 'a', perSecond: 1, bytesPerSecond: 1, total: 2, totalBytes: 101 });
});

test('a pace lets this many through per second, and counts the others', () => {
  const pace = new Pace(2);
  expect([0, 10, 20, 999, 1000, 1001, 1002].map((now) => pace.admit(now))).toEqual([
    true,
    true,
    false,
    false,
    true,
    true,
    false,
  ]);
  expect([pace.takeHeld(), pace.takeHeld()]).toEqual([3, 0]);
});

test('a table fits the terminal: texts are cut, numbers are not', () => {
  const rows = [
    ['a-long-name-that-goes-on-and-on', 'x', '1234567'],
    ['漢字漢字漢字漢字漢字漢字漢字', 'a-rather-long-value', '1'],
  ];
  const options = { width: 40, keys: [0, 1], cutsKeys: true };
  const table = renderTable(['name', 'app', 'count'], rows, options).split('\n');
  expect(table.map(columnsOf).every((columns) => columns <= 40)).toBe(true);
  expect(table).toHaveLength(3);
  expect(table[1]).toMatch(/^a-long.*….*on {2}.* 1234567$/);
  expect(table[2]).toMatch(/^漢.*….*漢字 +a-rath.*…g?-?value .* 1$/);
  expect(cut('漢字x', 4)).toBe('漢…x');
  expect(cut('漢字漢字', 4)).toBe('漢…');
  expect(cut('漢字漢字', 1)).toBe('…');
});

test('keys and groups with much text are counted together sooner', () => {
  const rates = new Rates(0);
  for (let i = 0; i < 100; i++) rates.add(`${i}`.padEnd(1_000_000, 'x'), 1);
  const { rows } = rates.take(1000);
  expect(rows).toHaveLength(17);
  expect(rows[0]).toMatchObject({ key: '(others)', total: 84 });
});
