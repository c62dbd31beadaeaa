import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { validate } from '../../sinks/influxdb/config.ts';
import {
  decodeSeries,
  encodePoint,
  escapeKey,
  escapeName,
  instanceTag,
  MAX_SERIES_KEY_BYTES,
  tagsOf,
  unescapeText,
} from '../../sinks/influxdb/encode.ts';
import { ALL_FIELDS } from '../../src/aggregate/point.ts';
import { makeSeries } from '../../src/aggregate/series.ts';
import { HOSTILE_TEXTS, makePoint } from '../conformance/points.ts';
import { effort } from '../effort.ts';

const text = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.string({
    unit: fc.constantFrom('%', '0', 'A', 'u', 'D', '8', '\\', '\n', '\0', '_', '#', '\ud800', '\udc00'),
  }),
  fc.constantFrom(...HOSTILE_TEXTS, ...ALL_FIELDS),
);

describe('escaping', () => {
  it('is undone by unescaping', () => {
    const property = (given: string) => {
      for (const apply of [escapeName, escapeKey, instanceTag])
        expect(unescapeText(apply(given))).toBe(given);
    };
    fc.assert(fc.property(text, property), { numRuns: effort(1_000) });
  });

  it('leaves nothing that means something to the server', () => {
    const property = (given: string) => {
      for (const escaped of [escapeName(given), escapeKey(given)]) {
        expect(escaped).toMatch(/^[^_#\p{Cc}\\][^\p{Cc}\\]*$/u);
        expect(escaped.isWellFormed()).toBe(true);
      }
      expect([...ALL_FIELDS, 'time', 'metric_type', 'instance']).not.toContain(escapeKey(given));
    };
    fc.assert(fc.property(text, property), { numRuns: effort(1_000) });
  });

  it('keeps what needs no escaping, and unescapes only what it escaped', () => {
    for (const plain of ['http.requests', 'Zürich 北京', 'a,b=c d', '"quoted"', 'a_b#c']) {
      expect(escapeKey(plain)).toBe(plain);
    }
    expect(unescapeText('100% of 5%zz')).toBe('100% of 5%zz');
  });

  it('restores a series from its tags', () => {
    const dimensions = fc.uniqueArray(fc.tuple(text, text), { selector: ([key]) => key });
    const property = (name: string, pairs: [string, string][], instance: string) => {
      const series = makeSeries(
        name,
        'timer',
        pairs.filter(([key]) => key !== ''),
      );
      const tags = Object.fromEntries(tagsOf(series));
      // A query returns "" for the tags that a series does not have.
      const stored = { ...tags, absent: '', instance: instanceTag(instance) };
      expect(decodeSeries(escapeName(name), stored)).toEqual({ series, instance });
    };
    fc.assert(fc.property(text, dimensions, text, property), { numRuns: effort(300) });
  });
});

describe('a line', () => {
  const line = (parts: Parameters<typeof makePoint>[0]) => encodePoint(makePoint(parts));

  it('has measurement and tags in order, the fields of the type, and the time in ms', () => {
    const dimensions = [
      ['z', 'a b'],
      ['app', 'x=1,y'],
    ] as const;
    const point = { name: 'http requests', dimensions, windowStart: 1_700_000_000_000, instance: 'b 1' };
    expect(line(point)).toBe(
      'http\\ requests,app=x\\=1\\,y,metric_type=counter,z=a\\ b,instance=b\\ 1 count=1i,sum=2 1700000000000',
    );
    expect(
      line({ type: 'gauge', dimensions: [], windowStart: 0, values: { sum: -0, min: 5e-324, max: 1e21 } }),
    ).toBe('requests,metric_type=gauge count=1i,sum=-0,min=5e-324,max=1e+21,last=5 0');
  });

  it('escapes dimensions with the name of a field, or metric_type', () => {
    expect(
      line({
        dimensions: [
          ['metric_type', 'a'],
          ['count', 'b'],
          ['time', 'c'],
        ],
        windowStart: 0,
      }),
    ).toBe('requests,%63ount=b,%6Detric_type=a,%74ime=c,metric_type=counter count=1i,sum=2 0');
  });

  it('is refused if the server would refuse it', () => {
    const name = 'n'.repeat(MAX_SERIES_KEY_BYTES - ',metric_type=counter'.length);
    expect(line({ name, dimensions: [] })).toBeTypeOf('string');
    expect(line({ name: `${name}n`, dimensions: [] })).toMatchObject({ reason: 'too_large' });
    expect(line({ name, dimensions: [], instance: 'x' })).toMatchObject({ reason: 'too_large' });
    expect(line({ values: { sum: Number.NaN } })).toMatchObject({ reason: 'invalid_value' });
    expect(line({ values: { count: 2 ** 53 } })).toMatchObject({ reason: 'invalid_value' });
  });
});

describe('the settings together', () => {
  const config = {
    url: 'http://127.0.0.1:8086',
    api: 'v2' as const,
    token: 't',
    org: 'o',
    bucket: 'b',
    database: undefined,
    user: undefined,
    password: undefined,
  };
  const faults = (changed: object) => validate({ ...config, ...changed }).map(({ key }) => key);

  it('need what their API needs', () => {
    expect(faults({})).toEqual([]);
    expect(faults({ token: undefined, org: undefined, bucket: undefined })).toEqual([
      'token',
      'org',
      'bucket',
    ]);
    expect(faults({ api: 'v1' })).toEqual(['database']);
    expect(faults({ api: 'v1', database: 'd' })).toEqual([]);
    expect(faults({ api: 'v1', database: 'd', user: 'u' })).toEqual(['password']);
    expect(faults({ api: 'v1', database: 'd', password: 'p' })).toEqual(['user']);
    expect(faults({ api: 'v1', database: 'd', user: 'a:b', password: 'p' })).toEqual(['user']);
    expect(faults({ url: 'http://user:password@host' })).toEqual(['url']);
  });
});
