import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { METRIC_TYPES } from '../../src/aggregate/point.ts';
import { makeSeries } from '../../src/aggregate/series.ts';
import { SeriesTable } from '../../src/aggregate/series-table.ts';
import { JsonDecoder } from '../../src/decode/json.ts';
import { expectedSamples } from '../aggregate/oracle.ts';
import { effort } from '../effort.ts';
import { type Decoded, decodeMessage, decodeWith, grouped, withField } from './decoded.ts';
import { spelled } from './spelled.ts';

function decode(message: string | Uint8Array): Decoded {
  return decodeWith(new SeriesTable(100), message);
}

const dimensionValue = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.constantFrom('', 'true', '1', 'a"b\\c', '\u2028', '\u{1f600}'),
  fc.integer(),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
  fc.boolean(),
  fc.constant(null),
);
const dimensionsArbitrary = fc.dictionary(
  fc.oneof(
    fc.string({ unit: 'binary', minLength: 1, maxLength: 5 }),
    fc.constantFrom('app', '10', '9', '__proto__'),
  ),
  dimensionValue,
  { maxKeys: 8 },
);
const sampleArbitrary = fc
  .record(
    {
      name: fc.oneof(
        fc.constantFrom('http.requests', 'é'),
        fc.string({ unit: 'binary', minLength: 1, maxLength: 20 }),
      ),
      type: fc.constantFrom(...METRIC_TYPES),
      value: fc.oneof(fc.integer(), fc.double({ noNaN: true, noDefaultInfinity: true }), fc.maxSafeInteger()),
      dimensions: fc.option(dimensionsArbitrary),
      timestamp: fc.option(
        fc.date({ noInvalidDate: true, min: new Date(0), max: new Date(4e12) }).map((d) => d.toISOString()),
      ),
      extra: fc.jsonValue({ maxDepth: 4 }),
    },
    { requiredKeys: ['name', 'type', 'value'] },
  )
  .filter(({ name }) => !name.includes('\0'));

describe('samples', () => {
  test('the message of nats_metrics', () => {
    const message =
      '{"name":"http.requests","type":"counter","value":3,"dimensions":{"app":"api","status":200},' +
      '"timestamp":"2026-11-23T01:30:00.123456789Z"}';
    expect(decode(message)).toEqual({
      rejection: undefined,
      elements: [
        {
          series: makeSeries('http.requests', 'counter', [
            ['app', 'api'],
            ['status', '200'],
          ]),
          value: 3,
          eventTime: Date.UTC(2026, 10, 23, 1, 30, 0, 123),
        },
      ],
    });
  });

  test('agree with JSON.parse, however they are spelled, whether seen before or not', () => {
    const table = new SeriesTable(50);
    fc.assert(
      fc.property(
        fc.array(sampleArbitrary, { minLength: 1, maxLength: 4 }),
        spelled,
        fc.boolean(),
        (samples, spell, single) => {
          const text = spell(single ? samples[0]! : samples);
          const expected = expectedSamples(text).map(({ name, type, dimensions, value, eventTime }) => ({
            series: makeSeries(name, type, dimensions),
            value,
            eventTime: eventTime ?? Number.NaN,
          }));
          expect(expected).toHaveLength(single ? 1 : samples.length);
          expect(decodeWith(table, text)).toEqual({ rejection: undefined, elements: grouped(expected) });
          expect(decodeWith(table, text)).toEqual({ rejection: undefined, elements: grouped(expected) });
        },
      ),
      { numRuns: effort(3000) },
    );
  });

  test('all spellings of a series get the same number', () => {
    const table = new SeriesTable(100);
    const decoder = new JsonDecoder(table);
    const numbers = [
      '{"name":"a","type":"gauge","value":1,"dimensions":{"k":200,"b":true}}',
      '{"name":"a","type":"gauge","value":1,"dimensions":{"b":"true","k":"200","none":null,"empty":""}}',
      ' { "value" : 1 , "tags" : { "b" : true , "k" : 2e2 } , "type" : "gauge" , "name" : "\\u0061" } ',
      '{"n\\u0061me":"a","ty\\u0070e":"gau\\u0067e","value":1,"labels":{"\\u006b":"20\\u0030","b":true}}',
    ].map((text) => {
      let number = -1;
      const handler = { sample: ({ series }: { series: number }) => (number = series), rejected: () => {} };
      expect(decodeMessage(decoder, Buffer.from(text), handler)).toBeUndefined();
      return number;
    });
    expect(new Set(numbers).size).toBe(1);
    expect(table.size).toBe(1);
  });

  test('a spelling is remembered once, even if unknown fields follow the dimensions', () => {
    const table = new SeriesTable(100);
    const bytes = ['', ',"unit":"ms"', ',"host":{"a":1}'].map((field) => {
      const text = `{"name":"a","type":"counter","value":1,"dimensions":{"k":1}${field},"timestamp":"2026-11-23T01:30:00Z"}`;
      for (let i = 0; i < 3; i++) expect(decodeWith(table, text).elements).toHaveLength(1);
      return table.spellingBytes;
    });
    expect(new Set(bytes).size).toBe(1);
    expect(table.size).toBe(1);
  });

  test('spellings that would be equal without their boundaries are told apart', () => {
    const table = new SeriesTable(100);
    const texts = ['counter', 'timer'].flatMap((type) =>
      [
        ['ab', '{"c":1}'],
        ['a', '{"bc":1}'],
        ['ab{', '{}'],
        ['ab', '{}'],
      ].map(([name, dims]) => `{"name":"${name}","type":"${type}","value":1,"dims":${dims}}`),
    );
    const ids = () =>
      texts.map(
        (text) => decodeWith(table, text).elements.map((e) => (typeof e === 'string' ? e : e.series.id))[0],
      );
    const first = ids();
    expect(new Set(first).size).toBe(texts.length);
    expect(ids()).toEqual(first);
  });

  test.each([
    ['12345678901234567890', '12345678901234567890'],
    ['-0', '0'],
    ['0', '0'],
    ['-7', '-7'],
    ['1.0', '1'],
    ['1e3', '1000'],
    ['-0.0', '0'],
    ['0.1', '0.1'],
    ['1E400', undefined],
    ['true', 'true'],
    ['false', 'false'],
    ['null', ''],
    ['""', ''],
    ['"x"', 'x'],
  ])('the dimension value %s is %s', (json, text) => {
    const { rejection, elements } = decode(withField('dimensions', `{"k":${json}}`));
    if (text === undefined) expect(rejection).toBe('bad_dimensions');
    else expect(elements).toMatchObject([{ series: { dimensions: text === '' ? [] : [['k', text]] } }]);
  });

  test('null means absent for an optional field', () => {
    expect(decode('{"name":"a","type":"timer","value":1,"dimensions":null,"timestamp":null}')).toMatchObject({
      elements: [{ series: { dimensionsJson: '{}' }, eventTime: Number.NaN }],
    });
  });

  test('an empty array holds no samples', () => {
    expect(decode(' [ ] ')).toEqual({ rejection: undefined, elements: [] });
  });
});
