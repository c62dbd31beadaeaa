import { describe, expect, test } from 'vitest';
import { SeriesTable } from '../../src/aggregate/series-table.ts';
import { JsonDecoder } from '../../src/decode/json.ts';
import * as limits from '../../src/decode/limits.ts';
import type { InputRejection } from '../../src/decode/rejection.ts';
import { type Decoded, decodeMessage, decodeWith, GOOD, withField } from './decoded.ts';

/** Reasons that do not apply to JSON. */
type OfOthers =
  | 'not_line_protocol'
  | 'not_statsd'
  | 'boolean_field'
  | 'string_field'
  | 'set'
  | 'delta_gauge'
  | 'bad_sample_rate'
  | 'not_a_metric'
  | 'not_otlp'
  | 'summary'
  | 'no_recorded_value'
  | 'unknown_encoding'
  | 'bad_encoding'
  | 'delete_marker'
  | 'schedule'
  | 'missing_increment';
type JsonRejection = Exclude<InputRejection, OfOthers>;

function decode(message: string | Uint8Array): Decoded {
  return decodeWith(new SeriesTable(100), message);
}

describe('rejections', () => {
  const nested = (depth: number) => `${'['.repeat(depth)}${']'.repeat(depth)}`;
  const dims = (count: number, value: unknown = 'v') =>
    JSON.stringify(Object.fromEntries(Array.from({ length: count }, (_, i) => [`k${i}`, value])));
  const text = (length: number) => JSON.stringify('x'.repeat(length));

  const TABLE: Record<JsonRejection, string[]> = {
    empty: ['', ' \t\r\n'],
    too_large: [' '.repeat(limits.MAX_MESSAGE_BYTES + 1), `[${GOOD},${' '.repeat(10_000_000)}${GOOD}]`],
    not_json: [
      'x',
      '{',
      '[',
      '{]',
      `${GOOD}x`,
      `${GOOD}${GOOD}`,
      '{"name":"a",}',
      '{"name" "a"}',
      "{'name':1}",
      `[${GOOD},]`,
      `[${GOOD},{"name":}]`,
      `[${GOOD}`,
      '\ufeff{}',
      withField('value', 'NaN'),
      withField('value', 'Infinity'),
      withField('value', '-'),
      withField('value', '+1'),
      withField('value', '01'),
      withField('value', '1.'),
      withField('value', '.1'),
      withField('value', '1e'),
      withField('value', '1e+'),
      withField('value', '0x1'),
      withField('name', '"\\x41"'),
      withField('name', '"\\u12g4"'),
      withField('name', '"a\nb"'),
      withField('name', '"a'),
      withField('extra', '[1 2]'),
      withField('extra', '{"a":1,}'),
      withField('extra', '[}'),
      withField('extra', 'nul'),
      withField('extra', 'nulll'),
      withField('dimensions', '{"a":1,}'),
      withField('dimensions', '{"a":1 "b":2}'),
      withField('dimensions', '{"a":[}'),
      withField('dimensions', '{,}'),
      // A syntax error takes precedence over a fault of the sample.
      '{"name":1,"type":"x",',
    ],
    not_an_object: ['1', '"x"', 'null', 'true', ' -0.5e1 '],
    too_deep: [
      nested(limits.MAX_DEPTH + 1),
      withField('extra', nested(limits.MAX_DEPTH)),
      withField('dimensions', `{"a":${nested(limits.MAX_DEPTH)}}`),
      `[${GOOD},${withField('extra', nested(limits.MAX_DEPTH - 1))}]`,
      '['.repeat(500_000),
      '{"a":'.repeat(100_000),
    ],
    duplicate_key: [
      '{"name":"a","name":"a","type":"counter","value":1}',
      '{"name":"a","n\\u0061me":"a","type":"counter","value":1}',
      '{"name":"a","type":"counter","value":1,"dims":{},"tags":{}}',
      '{"name":"a","type":"counter","value":1,"x":1,"\\u0078":2}',
      '{"name":"a","type":"counter","value":1,"timestamp":null,"timestamp":null}',
      withField('dimensions', '{"a":1,"a":1}'),
      withField('dimensions', '{"a":1,"\\u0061":null}'),
    ],
    bad_unicode: [
      withField('name', '"\\ud800"'),
      withField('name', '"\\udc00"'),
      withField('name', '"\\udc00\\udc00"'),
      withField('name', '"\\ud800\\ud800\\udc00"'),
      withField('name', '"\\ud800x"'),
      withField('dimensions', '{"a":"\\udfff"}'),
      withField('dimensions', '{"\\ud83d":"a"}'),
      withField('extra', '["\\ud800"]'),
      withField('\\ud800', '1'),
    ],
    missing_name: ['{}', withField('name', undefined), withField('name', 'null')],
    bad_name: [
      withField('name', '""'),
      withField('name', '"a\\u0000"'),
      withField('name', '7'),
      withField('name', '{}'),
    ],
    bad_type: [
      withField('type', undefined),
      withField('type', 'null'),
      withField('type', '"Counter"'),
      withField('type', '""'),
      withField('type', '"histogram"'),
      withField('type', '1'),
    ],
    bad_value: [
      withField('value', undefined),
      withField('value', 'null'),
      withField('value', '"1"'),
      withField('value', '1e999'),
      withField('value', '-1e999'),
      withField('value', 'true'),
      withField('value', '[1]'),
    ],
    bad_dimensions: [
      withField('dimensions', '[]'),
      withField('dimensions', '"a"'),
      withField('dimensions', '1'),
      withField('dimensions', '{"":"a"}'),
      withField('dimensions', '{"a":{}}'),
      withField('dimensions', '{"a":[1]}'),
      withField('dimensions', '{"a":1e999}'),
    ],
    too_many_dimensions: [
      withField('dimensions', dims(limits.MAX_DIMENSIONS + 1)),
      withField('dimensions', dims(10_000)),
      withField('dimensions', dims(limits.MAX_SPELLED_KEYS + 1, null)),
    ],
    too_long: [
      withField('name', text(limits.MAX_NAME_BYTES + 1)),
      withField('name', JSON.stringify('é'.repeat(limits.MAX_NAME_BYTES / 2 + 1))),
      withField('dimensions', `{${text(limits.MAX_DIMENSION_KEY_BYTES + 1)}:1}`),
      withField('dimensions', `{"a":${text(limits.MAX_DIMENSION_VALUE_BYTES + 1)}}`),
      withField('dimensions', `{"a":${'9'.repeat(limits.MAX_DIMENSION_VALUE_BYTES + 1)}}`).replace(
        '999',
        '111',
      ),
      withField('dimensions', dims(9, 'x'.repeat(limits.MAX_DIMENSION_VALUE_BYTES - 100))),
      withField('dimensions', `{${' '.repeat(limits.MAX_SPELLED_BYTES)}}`),
      `${GOOD.slice(0, -1)},${dims(limits.MAX_SPELLED_KEYS + 1).slice(1)}`,
    ],
    bad_timestamp: [
      withField('timestamp', '1764000000'),
      withField('timestamp', '""'),
      withField('timestamp', '"yesterday"'),
      withField('timestamp', '"2026-02-29T00:00:00Z"'),
    ],
  };

  test.each(Object.keys(TABLE) as JsonRejection[])('%s', (reason) => {
    for (const message of TABLE[reason]) {
      expect([message.slice(0, 80), decode(message)]).toEqual([
        message.slice(0, 80),
        { rejection: reason, elements: [] },
      ]);
    }
  });

  test('an integer past the range of a double is refused as a value, but accepted as a dimension', () => {
    const digits = '9'.repeat(400);
    expect(decode(withField('value', digits)).rejection).toBe('bad_value');
    expect(decode(withField('dimensions', `{"a":${digits}}`)).elements).toMatchObject([
      { series: { dimensions: [['a', digits]] } },
    ]);
  });

  test('a message that is exactly at a limit is accepted', () => {
    for (const message of [
      GOOD.padEnd(limits.MAX_MESSAGE_BYTES),
      withField('name', text(limits.MAX_NAME_BYTES)),
      withField('dimensions', dims(limits.MAX_DIMENSIONS)),
      withField('dimensions', `${dims(limits.MAX_DIMENSIONS).slice(0, -1)},"none":null}`),
      withField('dimensions', `{${text(limits.MAX_DIMENSION_KEY_BYTES)}:1}`),
      withField('dimensions', `{"a":${text(limits.MAX_DIMENSION_VALUE_BYTES)}}`),
      withField('extra', nested(limits.MAX_DEPTH - 1)),
      withField('dimensions', dims(limits.MAX_SPELLED_KEYS, null)),
      `${GOOD.slice(0, -1)},${dims(limits.MAX_SPELLED_KEYS).slice(1)}`,
    ]) {
      expect(decode(message).elements).toMatchObject([{ value: 1 }]);
    }
  });

  test('the maximum size of a message is an option', () => {
    const decoder = new JsonDecoder(new SeriesTable(10), { maxMessageBytes: 20_000_000 });
    let samples = 0;
    const handler = { sample: () => samples++, rejected: () => {} };
    const large = `[${Array(200_000).fill(GOOD).join(',')}]`;
    expect(decodeMessage(decoder, Buffer.from(large), handler)).toBeUndefined();
    expect(samples).toBe(200_000);
  });

  test('bytes that are not UTF-8', () => {
    const sequences = [
      [0x80],
      [0xbf],
      [0xc0, 0x80],
      [0xc1, 0xbf],
      [0xc3],
      [0xe0, 0x80, 0x80],
      [0xe0, 0x9f, 0xbf],
      [0xe2, 0x82],
      [0xed, 0xa0, 0x80],
      [0xed, 0xbf, 0xbf],
      [0xf0, 0x80, 0x80, 0x80],
      [0xf0, 0x8f, 0xbf, 0xbf],
      [0xf0, 0x9f, 0x98],
      [0xf4, 0x90, 0x80, 0x80],
      [0xf5, 0x80, 0x80, 0x80],
      [0xff],
    ];
    for (const sequence of sequences) {
      for (const field of ['name', 'extra', 'dimensions']) {
        const json = field === 'dimensions' ? '{"a":"x?y"}' : '"x?y"';
        const [before, after] = withField(field, json).split('?');
        const message = Buffer.concat([Buffer.from(before!), Buffer.from(sequence), Buffer.from(after!)]);
        expect([sequence, decode(message).rejection]).toEqual([sequence, 'bad_unicode']);
      }
      expect(decode(Buffer.from(sequence)).rejection).toBe('not_json');
    }
  });

  test('characters at the edges of UTF-8 are accepted', () => {
    const name = '\u007f\u0080\u07ff\u0800\ud7ff\ue000\uffff\u{10000}\u{10ffff}\ufeff';
    expect(decode(withField('name', JSON.stringify(name))).elements).toMatchObject([{ series: { name } }]);
    expect(decode(withField('name', '"\\ud83d\\ude00"')).elements).toMatchObject([
      { series: { name: '😀' } },
    ]);
  });

  test("are the same in the layout of Go's encoder, for a series seen before", () => {
    const table = new SeriesTable(100);
    const message = (value: string, dimensions: string, timestamp: string) =>
      `{"name":"a","type":"gauge","value":${value},"dimensions":${dimensions},"timestamp":"${timestamp}"}`;
    const time = '2026-11-23T01:30:00.5Z';
    const good = message('1', '{"x":1}', time);
    for (const text of [GOOD, withField('type', '"gauge"'), good, message('1', '{}', time)])
      decodeWith(table, text);
    expect(decodeWith(table, good).elements).toMatchObject([{ value: 1 }]);
    const faults: [string, InputRejection][] = [
      [message('1e999', '{"x":1}', time), 'bad_value'],
      [message('1', '', time), 'not_json'],
      [message('1', '{"x":1', time), 'not_json'],
      [message('1', '{"x":1}}', time), 'not_json'],
      [message('1', '{"x":1},"timestamp":"x"', time), 'bad_timestamp'],
      [message('1', `{"x":1},"timestamp":"${time}"`, time), 'duplicate_key'],
      [message('1', '{"x":1}', time.replace('11', '13')), 'bad_timestamp'],
      [message('1', '{"x":1}', `${time}\u0001`), 'not_json'],
      [good.replace('"}', '"]'), 'not_json'],
      [good.slice(0, -2), 'not_json'],
    ];
    for (const [text, reason] of faults)
      expect([text, decodeWith(table, text).rejection]).toEqual([text, reason]);
  });

  test('an array keeps its good elements and counts the others', () => {
    const elements = [
      GOOD,
      '1',
      '[]',
      'null',
      withField('value', '1e999'),
      withField('name', '"\\ud800"'),
      withField('dimensions', '{"a":{"b":[1,{}]}}'),
      `{"name":"a","name":"b","x":[{"y":"]"}],"type":"counter","value":1}`,
      GOOD,
    ];
    const { rejection, elements: decoded } = decode(`[${elements.join(' , ')}]`);
    expect(rejection).toBeUndefined();
    expect(decoded.map((element) => (typeof element === 'string' ? element : 'good'))).toEqual([
      'good',
      'good',
      'not_an_object',
      'not_an_object',
      'not_an_object',
      'bad_value',
      'bad_unicode',
      'bad_dimensions',
      'duplicate_key',
    ]);
  });
});
