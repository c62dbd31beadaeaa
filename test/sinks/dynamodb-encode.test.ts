import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeItem, encodeItem, keyOf, refusal, sortKeyRange } from '../../sinks/dynamodb/encode.ts';
import { FIELDS, type Field, METRIC_TYPES, type Point } from '../../src/aggregate/point.ts';
import { HOSTILE_TEXTS, makePoint, START, WINDOW_MS } from '../conformance/points.ts';
import { effort } from '../effort.ts';

const text = fc.oneof(
  fc.string({ unit: 'grapheme', minLength: 1 }),
  fc.constantFrom(...HOSTILE_TEXTS, '\0', '__proto__%', '__proto__%%'),
);
const dimensions = fc.uniqueArray(fc.tuple(text, text), { selector: ([key]) => key });
const number = fc.double({ noNaN: true, noDefaultInfinity: true });

describe('an item', () => {
  it('is decoded to the point that it was made from', () => {
    const property = (name: string, pairs: [string, string][], value: number, instance: string) => {
      for (const type of METRIC_TYPES) {
        const values = Object.fromEntries(
          FIELDS[type].map((field): [Field, number] => [field, field === 'count' ? 3 : value]),
        );
        const { windowMs: _, ...stored } = makePoint({ name, type, dimensions: pairs, values, instance });
        expect(decodeItem(encodeItem({ ...stored, windowMs: WINDOW_MS }, undefined))).toEqual(stored);
      }
    };
    fc.assert(fc.property(text, dimensions, number, fc.constantFrom('', 'a', '#b'), property), {
      numRuns: effort(300),
    });
  });

  it('has the documented keys and attributes', () => {
    const point = makePoint({ instance: 'boot-1', dimensions: [['app', 'api']] });
    const { id } = point.series;
    expect(encodeItem(point, 3_600_500)).toEqual({
      pk: { S: `requests#${id}` },
      sk: { S: '2026-11-23T01:30:00.000Z#boot-1' },
      window_start: { S: '2026-11-23T01:30:00.000Z' },
      window_ms: { N: '10000' },
      series_id: { S: id },
      instance: { S: 'boot-1' },
      name: { S: 'requests' },
      type: { S: 'counter' },
      dimensions: { M: { app: { S: 'api' } } },
      count: { N: '1' },
      sum: { N: '2' },
      expires_at: { N: String((START + WINDOW_MS + 3_600_500 + 500) / 1_000) },
    });
    expect(keyOf(point)).toEqual({
      pk: { S: `requests#${id}` },
      sk: { S: '2026-11-23T01:30:00.000Z#boot-1' },
    });
  });

  it.each([
    [0, { N: '0' }],
    [-0, { S: '-0' }],
    [1e21, { N: '1e+21' }],
    [1e-130, { N: '1e-130' }],
    [9.999999999999999e-131, { S: '9.999999999999999e-131' }],
    [-9.99e125, { N: '-9.99e+125' }],
    [1e126, { S: '1e+126' }],
    [5e-324, { S: '5e-324' }],
    [-1e300, { S: '-1e+300' }],
  ])('holds %d exactly, as text if type N cannot', (sum, expected) => {
    expect(encodeItem(makePoint({ values: { sum } }), undefined).sum).toEqual(expected);
  });

  it('that is not ours is not decoded', () => {
    const item = encodeItem(makePoint(), undefined);
    expect(decodeItem({ pk: { S: 'a' }, sk: { S: 'b' } })).toBeUndefined();
    expect(decodeItem({ ...item, type: { S: 'other' } })).toBeUndefined();
    expect(decodeItem({ ...item, sk: { S: 'yesterday#' } })).toBeUndefined();
  });
});

describe('refused before it is sent', () => {
  const reason = (parts: Parameters<typeof makePoint>[0]) => refusal(makePoint(parts))?.reason;

  it('is what DynamoDB cannot hold', () => {
    expect(reason({})).toBeUndefined();
    expect(reason({ values: { sum: Number.POSITIVE_INFINITY } })).toBe('invalid_value');
    expect(reason({ name: '\ud800' })).toBe('invalid_value');
    expect(reason({ dimensions: [['k', '\udc00']] })).toBe('invalid_value');
    expect(reason({ name: 'n'.repeat(2_015) })).toBeUndefined();
    expect(reason({ name: 'n'.repeat(2_016) })).toBe('too_large');
    expect(reason({ instance: 'i'.repeat(1_000) })).toBe('too_large');
    expect(reason({ dimensions: [['k', 'x'.repeat(409_600)]] })).toBe('too_large');
    expect(reason({ dimensions: [['k', '€'.repeat(136_534)]] })).toBe('too_large');
  });
});

describe('the range of sort keys', () => {
  it('has the windows of the half-open range, of every instance', () => {
    const time = fc.integer({ min: 0, max: 2_000_000_000_000 });
    const property = (from: number, to: number, windowStart: number, instance: string) => {
      const [first, end] = sortKeyRange({ from, to });
      const sk = keyOf(makePoint({ windowStart, instance } satisfies Partial<Point>)).sk?.S ?? '';
      expect(sk >= first && sk < end).toBe(windowStart >= from && windowStart < to);
    };
    fc.assert(fc.property(time, time, time, fc.constantFrom('', 'a', '\uffff'), property));
    fc.assert(fc.property(time, (at) => property(at, at + 1, at, 'a')));
  });

  it('accepts any time', () => {
    expect(sortKeyRange({ from: Number.NEGATIVE_INFINITY, to: Number.MAX_SAFE_INTEGER })).toEqual([
      '0000-01-01T00:00:00.000Z',
      '9999-12-31T23:59:59.999Z',
    ]);
  });
});
