import { describe, expect, test } from 'vitest';
import { SeriesTable } from '../../src/aggregate/series-table.ts';
import { formatOf } from '../../src/decode/auto.ts';
import { makeDecoder } from '../../src/decode/formats.ts';
import { wholeMessage } from '../../src/decode/raw-message.ts';
import { effort } from '../effort.ts';
import { workOf } from '../work.ts';
import { decoding, type Heard, SETTINGS } from './formats.ts';

describe('the format of a message is detected by its beginning', () => {
  test.each([
    ['json', '{"name":"a=b|c"}'],
    ['json', ' \r\n\t[ '],
    ['json', ''],
    ['json', ' '],
    ['json', 'x'],
    ['json', 'not json'],
    ['json', '"a"'],
    ['json', 'a:1'],
    ['json', 'a, b\nc d=1'],
    ['influx', 'cpu v=1'],
    ['influx', 'cpu,host=a v=1'],
    ['influx', '\n  cpu v=1'],
    ['influx', '# a comment|'],
    ['influx', 'job:rate:5m v=1'],
    ['influx', 'cpu,url=http://a|b v=1'],
    ['influx', 'a\\ b|c v=1'],
    ['influx', 'm=a v=1'],
    ['statsd', 'a:1|c'],
    ['statsd', '\na:1|c|#k:v,l=w'],
    ['statsd', 'a|c'],
    ['statsd', '_sc|redis|2'],
    ['statsd', '_e{5,4}:title|text'],
    ['statsd', 'a.b-c/d:1|ms\ncpu v=1'],
  ])('%s: %j', (format, message) => {
    const bytes = Buffer.from(`{${message}|=`);
    expect(formatOf(bytes, 1, bytes.length - 2)).toBe(format);
  });
});

const LONG = 65_536;
/** Several times the work of the worst of them. Anything quadratic is far above it. */
const MAX_WORK = 500;
const NOW = { time: Number.NaN, weight: 1, dimensions: { k: 'v' } };

test('each format is recognized, and gives the same series', () => {
  const table = new SeriesTable(100);
  const decode = decoding({ metricsCounters: ['a'] }, table);
  const sample: Heard = { name: 'a', type: 'counter', value: 1, ...NOW };
  for (let i = 0; i < 2; i++) {
    for (const message of [
      '{"name":"a","type":"counter","value":1,"dimensions":{"k":"v"}}',
      'a,k=v value=1',
      'a:1|c|#k:v',
    ]) {
      expect(decode(message)).toEqual({ rejection: undefined, elements: [sample] });
    }
  }
  expect(table.size).toBe(1);
  expect(decode('nonsense')).toEqual({ rejection: 'not_json', elements: [] });
});

test('spellings of different formats are told apart, even if their bytes are the same', () => {
  const table = new SeriesTable(100);
  const decode = {
    json: decoding({ metricsFormat: 'json' }, table),
    influx: decoding({ metricsFormat: 'influx' }, table),
    statsd: decoding({ metricsFormat: 'statsd' }, table),
  };
  const names = () =>
    (
      [
        ['json', '{"name":"a\\\\,b","type":"gauge","value":1}'],
        ['influx', 'a\\\\,b value=1'],
        ['statsd', 'a\\\\,b:1|g'],
        ['json', '{"name":"value=","type":"gauge","value":1,"dimensions":{}}'],
        ['influx', '{} value=1'],
        ['json', '{"name":"a:","type":"gauge","value":1}'],
        ['statsd', 'a:1|g'],
        ['influx', '|g a:=1'],
        ['influx', '|#{} a:=1'],
        ['statsd', 'value=:1|g|#{} '],
      ] as const
    ).map(([format, message]) => decode[format](message).elements.map((element) => (element as Heard).name));
  const expected = ['a\\,b', 'a\\,b', 'a\\\\,b', 'value=', '{}', 'a:', 'a', '|g.a:', '|#{}.a:', 'value='];
  expect(names()).toEqual(expected.map((name) => [name]));
  expect(names()).toEqual(expected.map((name) => [name]));
});

test('samples stay in order when the format changes from message to message', () => {
  const table = new SeriesTable(100);
  const decoder = makeDecoder(table, SETTINGS);
  const found: number[] = [];
  const handler: Parameters<typeof decoder.flush>[0] = {
    sample: ({ sequence }) => found.push(sequence),
    rejected: () => {},
    rejectedMessage: () => {},
  };
  const messages = [
    '{"name":"a","type":"gauge","value":1}',
    'a value=2',
    '{"name":"a","type":"gauge","value":3}',
    'a:4|g',
  ];
  for (let i = 0; i < 400; i++) {
    const bytes = Buffer.from(messages[(i * 7) % 4]!);
    decoder.take(wholeMessage(bytes, 0, i), handler);
  }
  decoder.flush(handler);
  expect(found).toEqual(Array.from({ length: 400 }, (_, i) => i));
});

test('no long message takes a long time', () => {
  const pieces = [
    ...[
      'm x="\n',
      'm x="\\"\n',
      'm x=1,',
      'm x=',
      'm,a=',
      'm,a=b',
      '\\ ',
      '\\,',
      'm x=1 1\n',
      '#\n',
      ' ',
      '\n',
      '"',
      '=',
      ',',
    ],
    ...['a:1|c|#', 'a:1:', ':', '|', '|#', 'a,', 'a:1|c\n', 'a|c\n', '|@0.1', '0', '1', '9.', '-', 'e'],
  ];
  const ends = ['', 'x', ' v=1', 'x|c'];
  const starts = ['', 'm x=', 'a:', 'a:1|c|#'];
  const frames = starts.flatMap((first) => ends.map((last) => [first, last] as const));
  for (const format of ['influx', 'statsd'] as const) {
    const decode = decoding({ metricsFormat: format });
    for (const piece of pieces) {
      for (const [start, end] of frames.slice(0, effort(frames.length))) {
        const message = Buffer.from(start + piece.repeat((LONG - 20) / piece.length) + end);
        const work = workOf(() => decode(message), MAX_WORK);
        expect(work, `${format}: ${JSON.stringify([start, piece, end])}`).toBeLessThan(MAX_WORK);
      }
    }
  }
});
