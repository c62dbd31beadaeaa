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

const decode = decoding({ metricsFormat: 'influx' });

const gauge = (name: string, value: number, rest: Partial<Heard> = {}): Heard => ({
  name,
  type: 'gauge',
  dimensions: {},
  value,
  time: Number.NaN,
  weight: 1,
  ...rest,
});

describe('line protocol', () => {
  test('a line of Telegraf', () => {
    const line = 'cpu,cpu=cpu0,host=web\\ 1 usage_idle=98.5,usage_user=1i,active=true 1556813561098765432\n';
    const of = { dimensions: { cpu: 'cpu0', host: 'web 1' }, time: 1556813561098 };
    expect(decode(line)).toEqual({
      rejection: undefined,
      elements: [gauge('cpu.usage_idle', 98.5, of), gauge('cpu.usage_user', 1, of), 'boolean_field'],
    });
  });

  test.each<[string, (InputRejection | Heard)[]]>([
    ['m value=1', [gauge('m', 1)]],
    ['m value=1,v=2', [gauge('m', 1), gauge('m.v', 2)]],
    // Spaces and line endings.
    ['  \t m v=1   7000000  \r\n', [gauge('m.v', 1, { time: 7 })]],
    ['m v=1 ', [gauge('m.v', 1)]],
    ['m   v=1', [gauge('m.v', 1)]],
    ['\n\r\n \nm v=1\n\n', [gauge('m.v', 1)]],
    ['m v=1\r', [gauge('m.v', 1)]],
    ['# a comment, with=a value=1\nm v=1', [gauge('m.v', 1)]],
    ['m v=1\n#', [gauge('m.v', 1)]],
    // Only characters that would end a name can be escaped.
    ['a\\,b\\ c\\=d value=1', [gauge('a,b c\\=d', 1)]],
    ['m,k\\,\\=\\ =a\\,b\\=c\\ d v\\,\\=\\ =1', [gauge('m.v,= ', 1, { dimensions: { 'k,= ': 'a,b=c d' } })]],
    ['m\\n,t=\\x\\\\y v=1', [gauge('m\\n.v', 1, { dimensions: { t: '\\x\\\\y' } })]],
    ['m\\\\,k=v x=1', [gauge('m\\,k=v.x', 1)]],
    ['m,t="a" v=1', [gauge('m.v', 1, { dimensions: { t: '"a"' } })]],
    ['m=a v=1', [gauge('m=a.v', 1)]],
    ['mé,é=ü ß=1', [gauge('mé.ß', 1, { dimensions: { é: 'ü' } })]],
    // An empty value means that the dimension is absent.
    ['m,a=,b=1 v=1', [gauge('m.v', 1, { dimensions: { b: '1' } })]],
    // Strings.
    ['m s="",v=1', ['string_field', gauge('m.v', 1)]],
    ['m s="a, b=c d \\" \\\\",v=1', ['string_field', gauge('m.v', 1)]],
    ['m s="two\nlines # of=it",v=1\nn v=2', ['string_field', gauge('m.v', 1), gauge('n.v', 2)]],
    ['m s="\\x\\" v=1",v=2', ['string_field', gauge('m.v', 2)]],
    // A fault of one field does not affect the others.
    ['m a=x,b=1,c=,d=NaN,e=1.2.3', ['bad_value', gauge('m.b', 1), 'bad_value', 'bad_value', 'bad_value']],
    ['m a=1"b",c=2', ['bad_value', gauge('m.c', 2)]],
    ['m a=1,a=2', [gauge('m.a', 2)]],
    // A fault of the series affects every field.
    ['m,a=1,a=1 x=1,y=2', ['duplicate_key', 'duplicate_key']],
    ['m x=1,y=2,x=3', [gauge('m.y', 2), gauge('m.x', 3)]],
    ['m x=1,x="a"', ['string_field']],
    ['m x="a",xx=1,x=2,x=4i', [gauge('m.xx', 1), gauge('m.x', 4)]],
    ['m,a x=1', ['bad_dimensions']],
    ['m,=a x=1', ['bad_dimensions']],
    ['m,a=b=c x=1', ['bad_dimensions']],
    ['m, x=1', ['bad_dimensions']],
    [',a=b x=1', ['missing_name']],
    ['m\0 x=1', ['bad_name']],
    [`${'m'.repeat(511)} x=1`, ['too_long']],
    [`m,a=${'v'.repeat(4097)} x=1`, ['too_long']],
    [`m,${Array.from({ length: 65 }, (_, i) => `k${i}=v`)} x=1`, ['too_many_dimensions']],
    [`m,${Array.from({ length: 1024 }, (_, i) => `k${i}=`)} x=1`, [gauge('m.x', 1)]],
    [`m,${Array.from({ length: 1025 }, (_, i) => `k${i}=`)} x=1`, ['too_many_dimensions']],
    [`m,a=${'v'.repeat(256 * 1024)} x=1`, ['too_long']],
    // A bad timestamp affects the whole line.
    ['m x=1,y=2 1.5', ['bad_timestamp']],
    ['m x=1,y=2 yesterday', ['bad_timestamp']],
    ['m x=1 9223372036854775808', ['bad_timestamp']],
    // One unreadable line among others.
    ['m\nm x=1\nm \nm x\nm x=1 2 3\nm =1\nm x=1,', [gauge('m.x', 1), ...Array(6).fill('not_line_protocol')]],
    ['m x="a"b\nm x=1', [gauge('m.x', 1), 'not_line_protocol']],
    ['m x="a\nm x=1', [gauge('m.x', 1), 'not_line_protocol']],
    ['m x=1\rm x=1\nm x=2', [gauge('m.x', 2), 'not_line_protocol']],
  ])('%j', (message, elements) => {
    expect(decode(message)).toEqual({ rejection: undefined, elements: grouped(elements) });
  });

  test.each<[InputRejection, string]>([
    ['empty', ''],
    ['empty', ' \n\r\n\t'],
    ['not_line_protocol', 'm'],
    ['not_line_protocol', 'm x\n\nm y\n'],
    ['not_line_protocol', '{"name":"a"}'],
    ['not_line_protocol', 'm x="'],
    ['too_large', `m x=1${' '.repeat(MAX_MESSAGE_BYTES)}`],
  ])('rejected as a whole: %s: %j', (rejection, message) => {
    expect(decode(message)).toEqual({ rejection, elements: [] });
  });

  test('a message of comments holds no samples', () => {
    expect(decode('# one\n # two')).toEqual({ rejection: undefined, elements: [] });
  });

  test('bytes that are not UTF-8', () => {
    expect(decode(Buffer.from('m\xff x=1', 'latin1'))).toMatchObject({ elements: ['bad_unicode'] });
    expect(decode(Buffer.from('m,a=\xff x=1,s="\xff"', 'latin1'))).toMatchObject({
      elements: ['bad_unicode', 'string_field'],
    });
    expect(decode(Buffer.from('m x\xc3=1', 'latin1'))).toMatchObject({ elements: ['bad_unicode'] });
  });

  const NONE: readonly string[] = [
    ...['1e400', '', '.', '-', '+', 'e1', '1e', '1e+', '--1', '1_0', '0x10', 'Infinity', 'inf'],
    ...['i', '-i', '1.5i', '1e3i', '9223372036854775808i', '-9223372036854775809i'],
    ...[
      'u',
      '-1u',
      '-0u',
      '18446744073709551616u',
      '99999999999999999999999u',
      '1ui',
      `${'0'.repeat(100_000)}xi`,
    ],
    ...['tru', 'TrUe', 'yes', 'tt'],
  ];
  test.each<[string, number | undefined]>([
    ['1', 1],
    ['+1', 1],
    ['-1.5', -1.5],
    ['1.', 1],
    ['.5', 0.5],
    ['-.5e1', -5],
    ['1e3', 1000],
    ['1E-3', 0.001],
    ['-0', 0],
    ['-0.0', 0],
    ['007', 7],
    ['0.1', 0.1],
    ['123456789012345678', 123456789012345680],
    ['0.30000000000000004', 0.30000000000000004],
    ['1e-400', 0],
    ['-0i', 0],
    ['12i', 12],
    ['-12i', -12],
    ['9007199254740993i', 9007199254740992],
    ['9223372036854775807i', 2 ** 63],
    ['-9223372036854775808i', -(2 ** 63)],
    ['000000000000000000000012i', 12],
    [`-${'0'.repeat(100_000)}12i`, -12],
    ['12u', 12],
    ['18446744073709551615u', 2 ** 64],
    ...NONE.map((text): [string, undefined] => [text, undefined]),
  ])('the value %s is %s', (text, value) => {
    const given = [value === undefined ? 'bad_value' : gauge('m.v', value), gauge('m.w', 1)];
    expect(decode(`m v=${text},w=1`).elements).toEqual(grouped(given));
  });

  test.each(['t', 'T', 'true', 'True', 'TRUE', 'f', 'F', 'false', 'False', 'FALSE'])(
    '%s is a boolean',
    (text) => {
      expect(decode(`m v=${text}`).elements).toEqual(['boolean_field']);
    },
  );

  test.each([
    ['0', 0],
    ['1', 0],
    ['999999', 0],
    ['1000000', 1],
    ['-1', -1],
    ['-999999', -1],
    ['-1000000', -1],
    ['-1000001', -2],
    ['+1000000', 1],
    ['00001556813561098765432', 1556813561098],
    ['9223372036854775807', 9223372036854],
    ['-9223372036854775808', -9223372036855],
  ])('the timestamp %s is %s ms', (text, time) => {
    expect(decode(`m v=1 ${text}`).elements).toEqual([gauge('m.v', 1, { time })]);
  });

  test('samples whose name matches are counters', () => {
    const table = new SeriesTable(100);
    const counting = decoding(
      { metricsFormat: 'influx', metricsCounters: ['net.bytes_*', 'hits', '?.n'] },
      table,
    );
    // The second time, the spellings are known.
    for (let i = 0; i < 2; i++) {
      const { elements } = counting('net bytes_in=1,bytes_=2,drops=3\nhits value=4,other=5\na n=6\naa n=7');
      expect(elements.map((element) => (element as Heard).type)).toEqual([
        'counter',
        'counter',
        'gauge',
        'counter',
        'gauge',
        'counter',
        'gauge',
      ]);
    }
    expect(table.size).toBe(7);
  });
});

test('a line that would expand to much more than its size is refused at once', () => {
  const line = (tagBytes: number, fields: number) =>
    `m,t=${'v'.repeat(tagBytes)} ${Array.from({ length: fields }, (_, i) => `f${i}=1`).join(',')}`;
  const names = (message: string) => decode(message).elements.length;
  // More fields than real lines have, and tags as long as they may be.
  expect(names(line(300, 400))).toBe(400);
  expect(names(line(4000, 60))).toBe(60);
  const [long, longer] = [line(4000, 10_000), line(500_000, 60_000)];
  const work = workOf(() => {
    expect(decode(long).elements).toEqual(['too_long']);
    expect(decode(longer).elements).toEqual(['too_long']);
  }, MAX_WORK);
  expect(work).toBeLessThan(MAX_WORK);
});

interface Field {
  readonly key: string;
  readonly text: string;
  readonly value: number | InputRejection;
}

interface Model {
  readonly measurement: string;
  readonly tags: Readonly<Record<string, string>>;
  readonly fields: readonly Field[];
  readonly nanos: bigint | undefined;
}

/** No line feed, and no backslash at the end or before an escaped character: line protocol cannot express these. */
const word = fc
  .oneof(
    fc.string({ unit: 'grapheme', minLength: 1, maxLength: 8 }),
    fc.string({
      unit: fc.constantFrom('a', ',', '=', ' ', '\\', '"', '#', '|', '\t'),
      minLength: 1,
      maxLength: 6,
    }),
    fc.constantFrom('value', 'host', '__proto__', '1'),
  )
  .map((text) => text.replace(/[\n\0]/g, '').replace(/\\+(?=[,= ]|$)/g, ''))
  .filter((text) => text !== '');
const double = fc.double({ noNaN: true, noDefaultInfinity: true });
const value: fc.Arbitrary<Pick<Field, 'text' | 'value'>> = fc.oneof(
  double.map((n) => ({ text: String(n), value: n + 0 })),
  double.map((n) => ({ text: n.toExponential(), value: n + 0 })),
  fc.integer().map((n) => ({ text: `${n}i`, value: n })),
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map((n) => ({ text: `${n}i`, value: Number(n) })),
  fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map((n) => ({ text: `${n}u`, value: Number(n) })),
  fc.constantFrom('t', 'FALSE').map((text) => ({ text, value: 'boolean_field' as const })),
  fc
    .string({ unit: fc.constantFrom('a', '"', '\\', ',', ' ', '=', '\n', '#') })
    .map((s) => ({ text: `"${s.replace(/["\\]/g, '\\$&')}"`, value: 'string_field' as const })),
);
const model: fc.Arbitrary<Model> = fc.record({
  measurement: word.filter((text) => !/^[#\t ]/.test(text)),
  tags: fc.dictionary(word, fc.oneof(word, fc.constant('')), { maxKeys: 5 }),
  fields: fc.array(
    fc.tuple(word, value).map(([key, rest]) => ({ key, ...rest })),
    { minLength: 1, maxLength: 5 },
  ),
  nanos: fc.option(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), { nil: undefined }),
});

function render({ measurement, tags, fields, nanos }: Model): string {
  const key = (text: string) => text.replace(/[,= ]/g, '\\$&');
  const tagged = Object.entries(tags).map(([name, of]) => `,${key(name)}=${key(of)}`);
  const values = fields.map(({ key: name, text }) => `${key(name)}=${text}`);
  const time = nanos === undefined ? '' : ` ${nanos}`;
  return `${measurement.replace(/[, ]/g, '\\$&')}${tagged.join('')} ${values}${time}`;
}

function expected({ measurement, tags, fields, nanos }: Model): (InputRejection | Heard)[] {
  const dimensions = Object.fromEntries(Object.entries(tags).filter(([, of]) => of !== ''));
  const time = nanos === undefined ? Number.NaN : Math.floor(Number(nanos / 1000n) / 1000) + 0;
  const last = fields.filter(({ key }, i) => fields.findLastIndex((other) => other.key === key) === i);
  return last.map(({ key, value: of }) => {
    if (typeof of === 'string') return of;
    return gauge(key === 'value' ? measurement : `${measurement}.${key}`, of, { dimensions, time });
  });
}

test('rendered lines are decoded to their models, in any combination, whether seen before or not', () => {
  const known = decoding({ metricsFormat: 'influx' }, new SeriesTable(50));
  fc.assert(
    fc.property(
      fc.array(model, { minLength: 1, maxLength: 4 }),
      fc.constantFrom('\n', '\r\n', '\n\n \n', '\n# a comment\n'),
      (models, separator) => {
        const nanosAreWhole = models.map((each) => ({
          ...each,
          // Rounding down is tested above. Here, the times have no more digits than a double.
          nanos: each.nanos === undefined ? undefined : (each.nanos / 1_000_000n) * 1_000_000n,
        }));
        const text = nanosAreWhole.map(render).join(separator);
        const given = { rejection: undefined, elements: grouped(nanosAreWhole.flatMap(expected)) };
        expect(known(text)).toEqual(given);
        expect(known(text)).toEqual(given);
      },
    ),
    { numRuns: effort(1000) },
  );
});

test('of many fields, too, the last of each key counts', () => {
  const fields = Array.from({ length: 300 }, (_, i) => `f${i % 100}=${i}`);
  const { elements } = decode(`m ${fields}`);
  expect(elements).toEqual(
    Array.from({ length: 100 }, (_, i) => expect.objectContaining({ name: `m.f${i}`, value: 200 + i })),
  );
});

test('in a line of more than 1,024 fields, each counts: to compare them would hold up everything else', () => {
  const fields = (count: number) => Array.from({ length: count }, (_, i) => `f${i % 100}=${i}`).join(',');
  expect(decode(`m ${fields(1024)}`).elements).toHaveLength(100);
  expect(decode(`m ${fields(1025)}`).elements).toHaveLength(1025);
});
