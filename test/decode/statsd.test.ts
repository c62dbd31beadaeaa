import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SeriesTable } from '../../src/aggregate/series-table.ts';
import { MAX_MESSAGE_BYTES } from '../../src/decode/limits.ts';
import type { InputRejection } from '../../src/decode/rejection.ts';
import { effort } from '../effort.ts';
import { workOf } from '../work.ts';
import { grouped } from './decoded.ts';
import { decoding, type Heard } from './formats.ts';

/** Several times the actual work. Anything quadratic is far above it. */
const MAX_WORK = 500;

const decode = decoding({ metricsFormat: 'statsd' });

const heard = (type: Heard['type'], name: string, value: number, rest: Partial<Heard> = {}): Heard => ({
  name,
  type,
  dimensions: {},
  value,
  time: Number.NaN,
  weight: 1,
  ...rest,
});
const counter = (name: string, value: number, rest?: Partial<Heard>) => heard('counter', name, value, rest);
const gauge = (name: string, value: number, rest?: Partial<Heard>) => heard('gauge', name, value, rest);
const timer = (name: string, value: number, rest?: Partial<Heard>) => heard('timer', name, value, rest);
const tagged = (dimensions: Record<string, string>) => ({ dimensions });

describe('StatsD', () => {
  test.each<[string, (InputRejection | Heard)[]]>([
    ['a.b:3|c', [counter('a.b', 3)]],
    ['a:-3|c', [counter('a', -3)]],
    ['a:+1.5|c', [counter('a', 1.5)]],
    ['a:320|ms', [timer('a', 320)]],
    ['a:0.5|h', [timer('a', 0.5)]],
    ['a:-1|d', [timer('a', -1)]],
    ['a:333|g', [gauge('a', 333)]],
    ['a:0|g', [gauge('a', 0)]],
    // Packets with several lines.
    ['a:1|c\nb:2|g\n', [counter('a', 1), gauge('b', 2)]],
    ['\r\n \na:1|c\r\nb:2|g\r\n\n', [counter('a', 1), gauge('b', 2)]],
    // Several values.
    ['a:1:2:-3|ms|#k:v', [1, 2, -3].map((value) => timer('a', value, tagged({ k: 'v' })))],
    ['a:1::x:2|c', [counter('a', 1), 'bad_value', counter('a', 2)]],
    // Tags.
    ['a:1|c|#k:v,l:w', [counter('a', 1, tagged({ k: 'v', l: 'w' }))]],
    ['a:1|c|#url:http://x:80/', [counter('a', 1, tagged({ url: 'http://x:80/' }))]],
    ['a:1|c|#urgent,k:', [counter('a', 1, tagged({ urgent: 'true' }))]],
    ['a:1|c|#,k:v,,', [counter('a', 1, tagged({ k: 'v' }))]],
    ['a:1|c|#', [counter('a', 1)]],
    ['a:1|c|#k:v w=x', [counter('a', 1, tagged({ k: 'v w=x' }))]],
    ['é:1|c|#ü:ß', [counter('é', 1, tagged({ ü: 'ß' }))]],
    ['a:1|c|#:v', ['bad_dimensions']],
    // Other parts after the type.
    ['a:1|c|c:ci-1234|#k:v', [counter('a', 1, tagged({ k: 'v' }))]],
    ['a:1|c|#k:v|c:x|e:it-false,pu-1|card:low', [counter('a', 1, tagged({ k: 'v' }))]],
    ['a:1|g|T1656581400|#k:v', [gauge('a', 1, { ...tagged({ k: 'v' }), time: 1656581400000 })]],
    ['a:1|g|T', ['bad_timestamp']],
    ['a:1|g|T-1', ['bad_timestamp']],
    ['a:1|g|T1656581400.5', ['bad_timestamp']],
    ['a:1|g|T1234567890123', ['bad_timestamp']],
    // Rates.
    ['a:3|c|@0.1', [counter('a', 30)]],
    ['a:3:4|c|@0.1', [counter('a', 30), counter('a', 40)]],
    ['a:3|c|@0.3', [counter('a', 3 * (1 / 0.3))]],
    ['a:1|c|@0.333333333333', [counter('a', 3)]],
    ['a:1|c|@0.0204081632653061', [counter('a', 49)]],
    ['a:3|c|@1', [counter('a', 3)]],
    ['a:3|c|@1e-3', [counter('a', 3000)]],
    ['a:320|ms|@0.1', [timer('a', 320, { weight: 10 })]],
    ['a:320|ms|#k:v|@.5', [timer('a', 320, { weight: 2, ...tagged({ k: 'v' }) })]],
    ['a:1:2|h|@0.4\nb:3|d', [timer('a', 1, { weight: 2.5 }), timer('a', 2, { weight: 2.5 }), timer('b', 3)]],
    ['a:5|g|@0.1', [gauge('a', 5)]],
    ...['', '0', '-0.5', '1.1', '2', 'x', '1e-10', 'NaN'].map((rate): [string, InputRejection[]] => [
      `a:1|c|@${rate}`,
      ['bad_sample_rate'],
    ]),
    ['a:1e308|c|@0.1', ['bad_value']],
    ['a:1e308|ms|@0.1', ['bad_value']],
    // Lines without a sample.
    ['a:+5|g', ['delta_gauge']],
    ['a:-5|g', ['delta_gauge']],
    ['a:-x|g', ['bad_value']],
    ['a:1:-1|g', [gauge('a', 1), 'delta_gauge']],
    ['a:42|s', ['set']],
    ['a:user 7:b=c|s|#k:v', ['set']],
    ['_e{5,4}:title|text|t:warning', ['not_a_metric']],
    ['_sc|redis|2|#env:dev|m:timed out', ['not_a_metric']],
    ['a:1|x', ['bad_type']],
    ['a:1|', ['bad_type']],
    ['a:1|m', ['bad_type']],
    ['a:1|C', ['bad_type']],
    ['a:1|__proto__', ['bad_type']],
    ['a:|c', ['bad_value']],
    ['a:x|c', ['bad_value']],
    ['a: 1|c', ['bad_value']],
    ['a:1e999|c', ['bad_value']],
    [':1|c', ['missing_name']],
    ['a\0:1|c', ['bad_name']],
    [`${'a'.repeat(513)}:1|c`, ['too_long']],
    // One unreadable line among others.
    ['a\nb:1|c\nc:1\nd|c\n|e:1|c', [counter('b', 1), ...Array(4).fill('not_statsd')]],
    ['a:1|c|#k:v|#l:w\nb:1|c', [counter('b', 1), 'not_statsd']],
    [`a:1|c|#${Array.from({ length: 1024 }, (_, i) => `k${i}:`)}`, [counter('a', 1)]],
    [`a:1|c|#${Array.from({ length: 1025 }, (_, i) => `k${i}:`)}`, ['too_many_dimensions']],
    ['a:1|c|@1|@1\nb:1|c', [counter('b', 1), 'not_statsd']],
    ['a:1|c|T1|T1\nb:1|c', [counter('b', 1), 'not_statsd']],
    // Sections that are empty, or that nobody knows.
    ['a:1|c|', [counter('a', 1)]],
    ['a:1|c||k:v|c:|#k:v|f:a,b|@0.5', [counter('a', 2, { dimensions: { k: 'v' } })]],
    ['a:1|c|x@0.1|z#k:v', [counter('a', 1)]],
    // Several values of one key.
    ['a:1|c|#k:v,k:v,l', [counter('a', 1, { dimensions: { k: 'v', l: 'true' } })]],
    ['a:1|c|#k:w,k:v,k:w,k:', [counter('a', 1, { dimensions: { k: 'v,w' } })]],
    ['a:1|c|#k,k:a', [counter('a', 1, { dimensions: { k: 'a,true' } })]],
    [`a:1|c|#${Array.from({ length: 1025 }, () => 'k:v')}`, ['too_many_dimensions']],
    // Empty values beside others.
    ['a:1::2:|c', [counter('a', 1), counter('a', 2)]],
    ['a::3|g', [gauge('a', 3)]],
    ['a::|c', ['bad_value', 'bad_value']],
    // Tags in the name, if nobody asked for them.
    ['a,k=v:1|c', [counter('a,k=v', 1)]],
    ['a[k=v]:1|c', [counter('a[k=v]', 1)]],
    ['a#k=v:1|c', [counter('a#k=v', 1)]],
  ])('%j', (message, elements) => {
    expect(decode(message)).toEqual({ rejection: undefined, elements: grouped(elements) });
  });

  test.each<[InputRejection, string]>([
    ['empty', ''],
    ['empty', ' \n\r\n'],
    ['not_statsd', 'a'],
    ['not_statsd', 'a b=1\n\na:1\n'],
    ['not_statsd', '{"name":"a"}'],
    ['too_large', `a:1|c${'\n'.repeat(MAX_MESSAGE_BYTES)}`],
  ])('rejected as a whole: %s: %j', (rejection, message) => {
    expect(decode(message)).toEqual({ rejection, elements: [] });
  });

  test('bytes that are not UTF-8', () => {
    expect(decode(Buffer.from('a\xff:1|c', 'latin1')).elements).toEqual(['bad_unicode']);
    expect(decode(Buffer.from('a:1|c|#k:\xff', 'latin1')).elements).toEqual(['bad_unicode']);
  });
});

describe('by setting', () => {
  const tagged = decoding({ metricsFormat: 'statsd', metricsStatsdTags: ['influx', 'hash', 'brackets'] });

  test.each<[string, unknown]>([
    ['a,k=v,l=w:1|c', counter('a', 1, { dimensions: { k: 'v', l: 'w' } })],
    ['a,k=v:1|c|#k:u,m:n', counter('a', 1, { dimensions: { k: 'u,v', m: 'n' } })],
    ['a#k=v,l:1|c', counter('a', 1, { dimensions: { k: 'v', l: 'true' } })],
    ['a[k=v,l=b:c|d]:1|c', counter('a', 1, { dimensions: { k: 'v', l: 'b:c|d' } })],
    ['a[]:1|c', counter('a', 1)],
    ['a,:1|c', counter('a', 1)],
    ['a,k=:1|c', counter('a', 1)],
    ['a,k=x#y[z]:1|c', counter('a', 1, { dimensions: { k: 'x#y[z]' } })],
    ['a[k=v:1|c', counter('a[k=v', 1)],
    ['a[k=v]b:1|c', counter('a[k=v]b', 1)],
    ['a,=v:1|c', 'bad_dimensions'],
    [',k=v:1|c', 'missing_name'],
    [`a${',k=v'.repeat(1025)}:1|c`, 'too_many_dimensions'],
  ])('tags in names: %.30j', (message, element) => {
    for (let i = 0; i < 2; i++) expect(tagged(message).elements).toEqual([element]);
  });

  test('only the ways that are asked for are read', () => {
    const hash = decoding({ metricsFormat: 'statsd', metricsStatsdTags: ['hash'] });
    expect(hash('a,k=v#l=w:1|c[x]').elements).toEqual(['bad_type']);
    expect(hash('a,k=v#l=w:1|c').elements).toEqual([counter('a,k=v', 1, { dimensions: { l: 'w' } })]);
  });

  test('auto takes a comma in a name for StatsD only then', () => {
    const auto = decoding({ metricsStatsdTags: ['influx'] });
    expect(auto('a,k=v:1|c').elements).toEqual([counter('a', 1, { dimensions: { k: 'v' } })]);
    expect(auto('a,k=v value=1').elements).toEqual([gauge('a', 1, { dimensions: { k: 'v' } })]);
    expect(decoding({})('a,k=v:1|c').rejection).toBe('not_line_protocol');
  });

  test('a gauge with a sign is a value', () => {
    const signed = decoding({ metricsFormat: 'statsd', metricsStatsdSignedGauges: true });
    expect(signed('a:-5:+3:1|g').elements).toEqual([gauge('a', -5), gauge('a', 3), gauge('a', 1)]);
  });
});

test('many values with long tags are little work', () => {
  const long = (tags: string) => decode(`a:${'1:'.repeat(30_000)}1|c|#${tags}`).elements;
  const work = workOf(() => {
    expect(new Set(long('k,'.repeat(50_000)))).toEqual(new Set(['too_many_dimensions']));
    expect(long(`k:${'v'.repeat(4000)}`)).toHaveLength(30_001);
  }, MAX_WORK);
  expect(work).toBeLessThan(MAX_WORK);
});

/** What a line is rendered from. */
interface Model {
  readonly name: string;
  readonly values: readonly number[];
  readonly type: 'c' | 'g' | 'ms' | 'h' | 'd';
  /** Number of measurements that each sample stands for: 1/rate. */
  readonly each: number | undefined;
  readonly tags: Readonly<Record<string, string>> | undefined;
  readonly seconds: number | undefined;
  /** Decides the order of the parts after the type. */
  readonly order: readonly number[];
}

const TYPES = { c: 'counter', g: 'gauge', ms: 'timer', h: 'timer', d: 'timer' } as const;
const letters = fc.oneof(
  fc.string({ unit: 'grapheme', minLength: 1, maxLength: 8 }),
  fc.constantFrom('http.requests', 'a b', '__proto__', '"', '\\', 'a=b', '{', '@0.1', 'T1'),
);
const without = (what: RegExp) =>
  letters
    .map((text) => text.replace(what, '').replace(/[\n\r\0|]/g, ''))
    .filter((text) => text.trim() !== '');
const model: fc.Arbitrary<Model> = fc.record({
  name: without(/:|^_e\{/g),
  values: fc.array(fc.oneof(fc.integer(), fc.double({ min: -1e9, max: 1e9, noNaN: true })), {
    minLength: 1,
    maxLength: 3,
  }),
  type: fc.constantFrom('c', 'g', 'ms', 'h', 'd'),
  each: fc.option(fc.integer({ min: 1, max: 5000 }), { nil: undefined }),
  tags: fc.option(fc.dictionary(without(/[:,]/g), fc.oneof(without(/,/g), fc.constant('')), { maxKeys: 4 }), {
    nil: undefined,
  }),
  seconds: fc.option(fc.integer({ min: 0, max: 4e9 }), { nil: undefined }),
  order: fc.array(fc.nat(9), { minLength: 4, maxLength: 4 }),
});

function render({ name, values, type, each, tags, seconds, order }: Model): string {
  const parts = [
    each === undefined ? '' : `|@${1 / each}`,
    tags === undefined ? '' : `|#${Object.entries(tags).map(([key, of]) => `${key}:${of}`)}`,
    seconds === undefined ? '' : `|T${seconds}`,
    '|c:container',
  ];
  const ranked = parts.map((part, i) => ({ part, rank: order[i]! })).sort((a, b) => a.rank - b.rank);
  return `${name}:${values.join(':')}|${type}${ranked.map(({ part }) => part).join('')}`;
}

function expected({ name, values, type, each = 1, tags = {}, seconds }: Model): (InputRejection | Heard)[] {
  const dimensions = Object.fromEntries(Object.entries(tags).filter(([, of]) => of !== ''));
  const rest = { dimensions, time: seconds === undefined ? Number.NaN : seconds * 1000 };
  return values.map((value) => {
    if (type === 'g') return value < 0 ? 'delta_gauge' : gauge(name, value + 0, rest);
    if (type === 'c') return counter(name, value * each + 0, rest);
    return heard(TYPES[type], name, value + 0, { ...rest, weight: each });
  });
}

test('rendered lines are decoded to their models, in any combination, whether seen before or not', () => {
  const known = decoding({ metricsFormat: 'statsd' }, new SeriesTable(50));
  fc.assert(
    fc.property(fc.array(model, { minLength: 1, maxLength: 4 }), (models) => {
      const text = models.map(render).join('\n');
      const given = { rejection: undefined, elements: grouped(models.flatMap(expected)) };
      expect(known(text)).toEqual(given);
      expect(known(text)).toEqual(given);
    }),
    { numRuns: effort(1000) },
  );
});
