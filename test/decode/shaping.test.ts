import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FILTERED } from '../../src/aggregate/sample.ts';
import { identify } from '../../src/aggregate/series.ts';
import { SeriesTable } from '../../src/aggregate/series-table.ts';
import type { SampleHandler } from '../../src/decode/decoder.ts';
import {
  type DecoderSettings,
  inputOf,
  isKnownInput,
  makeDecoder,
  makeDecoderFor,
} from '../../src/decode/formats.ts';
import { wholeMessage } from '../../src/decode/raw-message.ts';
import { ShapingRules } from '../../src/decode/shaping.ts';
import { RULE_KINDS } from '../../src/decode/shaping-rules.ts';
import { expectedShape, type RuleTexts } from '../aggregate/shaping-oracle.ts';
import { effort } from '../effort.ts';
import { SETTINGS } from './formats.ts';
import { settingsOf } from './rules.ts';

const NAMES = ['http.requests', 'http.debug.x', 'http', 'db.queries', 'db.', 'old.db', 'job:up', 'ä.b'];
const KEYS = ['app', 'host', 'hostname', 'pod', 'k8s_pod', 'k8s_', 'env', 'a.b', '__proto__'];
const SUBJECTS = [
  'metrics',
  'metrics.api.prod.http',
  'metrics.web.dev.a.b',
  'metrics.api.prod',
  'other.api.x.y',
  '',
];

const nameGlob = fc.constantFrom(
  ...NAMES,
  ...['*', 'http.*', 'db*', '*.debug.*', '?b.*', 'h?tp', 'none'],
  // Where the subject is the name.
  ...['metrics', 'metrics.*', '*.prod*', 'other.api.?.y'],
);
const keyGlob = fc.constantFrom(...KEYS, '*', 'host*', 'k8s_*', '*.b', '?od');
const joined = (item: fc.Arbitrary<string>, by: string) =>
  fc.array(item, { minLength: 1, maxLength: 3 }).map((items) => items.join(by));
const keyRule = fc.tuple(nameGlob, joined(keyGlob, ', ')).map(([name, keys]) => `${name}: ${keys}`);
const renaming = fc.constantFrom(
  'http=web',
  'http.*=web.*',
  'old.*=*',
  'db.queries=http.requests',
  'job:up=up',
  'db*=database*',
  'metrics.*=m.*',
  'metrics.api.prod=other.api.x.y',
);
const keyRenaming = fc.constantFrom(
  'host=hostname',
  'hostname=host',
  'k8s_*=*',
  'pod=app',
  'app=pod',
  'k8s_*=k8s.*',
  'env=app',
);
const renameRule = fc.oneof(
  joined(renaming, ', '),
  fc.tuple(nameGlob, joined(keyRenaming, ', ')).map(([name, pairs]) => `${name}: ${pairs}`),
);
const pattern = fc.constantFrom(
  'metrics.{app}.{env}.>',
  'metrics.{app}.{env}',
  '*.{app}.>',
  '{pod}.api.>',
  'metrics.{host}.*.*',
);
const ruleTexts: fc.Arbitrary<RuleTexts> = fc.record(
  {
    names: joined(
      fc.oneof(
        nameGlob,
        nameGlob.map((glob) => `!${glob}`),
      ),
      ', ',
    ),
    drop: joined(keyRule, '; '),
    keep: joined(keyRule, '; '),
    rename: joined(renameRule, '; '),
    subjects: joined(pattern, ', '),
    subjectWins: fc.boolean(),
  },
  { requiredKeys: [] },
);
const dimensions = fc
  .uniqueArray(fc.tuple(fc.constantFrom(...KEYS.slice(0, -1)), fc.constantFrom('1', '2', '')), {
    selector: ([key]) => key,
    maxLength: 5,
  })
  .map((entries) => Object.fromEntries(entries));

describe('shaping', () => {
  it('agrees with the oracle', () => {
    fc.assert(
      fc.property(
        ruleTexts,
        fc.constantFrom(...NAMES),
        dimensions,
        fc.constantFrom(...SUBJECTS),
        (texts, name, given, subject) => {
          const rules = new ShapingRules(settingsOf(texts));
          const shaped = rules.shape(identify(name, Object.entries(given)), rules.dimensionsOf(subject));
          const expected = expectedShape(name, given, subject, texts);
          expect(shaped && { name: shaped.name, dimensions: Object.fromEntries(shaped.dimensions) }).toEqual(
            expected,
          );
          const sorted = Object.entries(expected?.dimensions ?? {});
          expect(shaped?.dimensionsJson).toBe(expected && identify('', sorted).dimensionsJson);
        },
      ),
      { numRuns: effort(3000) },
    );
  });

  it('says the examples of the documentation', () => {
    const rules = new ShapingRules(
      settingsOf({
        names: 'http.*, !http.debug.*',
        drop: 'http.*: host, k8s_*; *: pid',
        rename: 'http.reqs=http.requests, http.old.*=http.*; *: hostname=host',
        subjects: 'metrics.{app}.{env}.>',
      }),
    );
    const shape = (name: string, given: object, subject: string) => {
      const shaped = rules.shape(identify(name, Object.entries(given)), rules.dimensionsOf(subject));
      return shaped && `${shaped.name} ${shaped.dimensionsJson}`;
    };
    expect(
      shape('http.reqs', { hostname: 'a', host: 'b', k8s_pod: 'c', app: 'own' }, 'metrics.api.prod.x'),
    ).toBe('http.requests {"app":"own","env":"prod","host":"a"}');
    expect(shape('http.old.x', { pid: '1' }, 'metrics.x')).toBe('http.x {}');
    expect(shape('http.debug.x', {}, 'metrics.x')).toBeUndefined();
    expect(shape('db.x', {}, 'metrics.x')).toBeUndefined();
  });
});

/** In these, the subject is the name, and there are no dimensions. */
const BY_SUBJECT = ['number', 'counter'] as const;

interface Published {
  readonly subject: string;
  readonly name: string;
  readonly dimensions: Record<string, string>;
  readonly streamTime: number;
}

const published: fc.Arbitrary<Published> = fc.record({
  subject: fc.constantFrom(...SUBJECTS.slice(0, -1)),
  name: fc.constantFrom(...NAMES),
  dimensions,
  streamTime: fc.constantFrom(1000, 2999, 3000, 9999),
});

const isBySubject = (format: string) => (BY_SUBJECT as readonly string[]).includes(format);

const FORMATS = {
  number: () => '1',
  // The server puts the running total there.
  counter: () => '{"val":"17"}',
  json: ({ name, dimensions }: Published) => JSON.stringify({ name, type: 'gauge', value: 1, dimensions }),
  array: ({ name, dimensions }: Published) => JSON.stringify([{ name, type: 'gauge', value: 1, dimensions }]),
  influx: ({ name, dimensions }: Published) =>
    `${[
      name,
      ...Object.entries(dimensions)
        .filter(([, value]) => value !== '')
        .map(([key, value]) => `${key}=${value}`),
    ].join(',')} value=1`,
  otlp: ({ name, dimensions }: Published) =>
    JSON.stringify({
      resourceMetrics: [
        {
          scopeMetrics: [
            {
              metrics: [
                {
                  name,
                  gauge: {
                    dataPoints: [
                      {
                        asDouble: 1,
                        timeUnixNano: '0',
                        attributes: Object.entries(dimensions).map(([key, stringValue]) => ({
                          key,
                          value: { stringValue },
                        })),
                      },
                    ],
                  },
                },
              ],
            },
          ],
        },
      ],
    }),
};

/** The series that each message comes to, in order; undefined where its name is not taken. */
function decodeAll(
  messages: readonly (Published & { readonly payload: string })[],
  decoder: ReturnType<typeof makeDecoder>,
  table: SeriesTable,
  isNumbered = false,
): (string | undefined)[] {
  const found: (string | undefined)[] = [];
  const handler: SampleHandler = {
    sample: ({ series }) => {
      if (series === FILTERED) found.push(undefined);
      else {
        const { name, dimensionsJson } = table.series(series);
        found.push(`${name} ${dimensionsJson}`);
      }
    },
    rejected: () => expect.unreachable(),
    rejectedMessage: (reason) => expect.unreachable(reason),
  };
  for (const { payload, subject, streamTime } of messages) {
    const label = {
      subject,
      increment: '1',
      ...(isNumbered && { subjectNumber: 1 + SUBJECTS.indexOf(subject) }),
    };
    decoder.take(wholeMessage(Buffer.from(payload), streamTime), handler, label);
  }
  decoder.flush(handler);
  return found;
}

function expectedOf({ name, dimensions, subject }: Published, texts: RuleTexts): string | undefined {
  const expected = expectedShape(name, dimensions, subject, texts);
  return expected && `${expected.name} ${identify('', Object.entries(expected.dimensions)).dimensionsJson}`;
}

describe('the decoders', () => {
  it.each(Object.keys(FORMATS) as (keyof typeof FORMATS)[])(
    'shape %s by the rules of its epoch',
    (format) => {
      const own: DecoderSettings = isBySubject(format)
        ? { ...SETTINGS, metricsFormat: format as (typeof BY_SUBJECT)[number] }
        : SETTINGS;
      fc.assert(
        fc.property(
          fc.array(published, { minLength: 1, maxLength: 40 }),
          ruleTexts,
          ruleTexts,
          // Small: it forgets what it knows all the time.
          fc.constantFrom(5, 1000),
          fc.boolean(),
          (given, first, second, keep, isNumbered) => {
            const messages = isBySubject(format)
              ? given.map((message) => ({ ...message, name: message.subject, dimensions: {} }))
              : given;
            const table = new SeriesTable(keep);
            const shape = { windowMs: 1000, latenessMs: 0, maxAheadMs: 0, maxSeries: keep };
            const inputs = [first, second].map((texts) => inputOf({ ...own, ...settingsOf(texts) }));
            expect(inputs.every(isKnownInput)).toBe(true);
            const decoder = makeDecoderFor(table, own, [
              { from: Number.NEGATIVE_INFINITY, ...shape, input: inputs[0]! },
              { from: 3000, ...shape, input: inputs[1]! },
            ]);
            const all = messages.map((message) => ({ ...message, payload: FORMATS[format](message) }));
            // Twice: the spellings are known then.
            const expected = messages.map((message) =>
              expectedOf(message, message.streamTime < 3000 ? first : second),
            );
            expect(decodeAll([...all, ...all], decoder, table, isNumbered)).toEqual([
              ...expected,
              ...expected,
            ]);
          },
        ),
        { numRuns: effort(150) },
      );
    },
  );

  it.each([
    ['statsd', 'http:1|g|#host:a,app:b'],
    ['number', '1'],
    ['counter', ''],
  ] as const)('shape %s too', (metricsFormat, payload) => {
    const table = new SeriesTable(100);
    const rules = { drop: '*: host', rename: 'metrics.*=m.*; *: app=service', subjects: '*.{tenant}.>' };
    const decoder = makeDecoder(table, { ...SETTINGS, ...settingsOf(rules), metricsFormat });
    const messages = ['x', 'y', 'x'].map((tenant) => ({
      subject: `metrics.${tenant}.z`,
      name: '',
      dimensions: {},
      streamTime: 0,
      payload,
    }));
    expect(decodeAll(messages, decoder, table)).toEqual(
      metricsFormat === 'statsd'
        ? ['x', 'y', 'x'].map((tenant) => `http {"service":"b","tenant":"${tenant}"}`)
        : ['x', 'y', 'x'].map((tenant) => `m.${tenant}.z {"tenant":"${tenant}"}`),
    );
  });

  it('share a table with others that have other rules', () => {
    const table = new SeriesTable(100);
    const settings = (texts: RuleTexts): DecoderSettings => ({ ...SETTINGS, ...settingsOf(texts) });
    const message = { subject: 'metrics.api.prod.x', name: 'http', dimensions: { host: 'a' }, streamTime: 0 };
    const payload = FORMATS.json(message);
    const results = [
      {},
      { drop: '*: host' },
      { names: 'db.*' },
      { subjects: '*.{app}.>' },
      { drop: '*: host' },
    ].map((texts) => decodeAll([{ ...message, payload }], makeDecoder(table, settings(texts)), table)[0]);
    expect(results).toEqual([
      'http {"host":"a"}',
      'http {}',
      undefined,
      'http {"app":"api","host":"a"}',
      'http {}',
    ]);
  });

  it('check the limits of what a series becomes', () => {
    const dimensions = Object.fromEntries(Array.from({ length: 80 }, (_, i) => [`k${i}`, 'v']));
    const payload = JSON.stringify({ name: 'a', type: 'gauge', value: 1, dimensions });
    const table = new SeriesTable(100);
    const decode = (texts: RuleTexts, subject: string) => {
      const heard: string[] = [];
      const handler: SampleHandler = {
        sample: ({ series }) => heard.push(table.series(series).dimensionsJson),
        rejected: () => expect.unreachable(),
        rejectedMessage: (reason) => heard.push(reason),
      };
      const decoder = makeDecoder(table, { ...SETTINGS, ...settingsOf(texts) });
      decoder.take(wholeMessage(Buffer.from(payload)), handler, { subject });
      decoder.flush(handler);
      return heard;
    };
    expect(decode({}, 'a')).toEqual(['too_many_dimensions']);
    expect(decode({ keep: '*: k1' }, 'a')).toEqual(['{"k1":"v"}']);
    expect(decode({ keep: '*: x', subjects: 'm.{x}' }, `m.${'x'.repeat(5000)}`)).toEqual(['too_long']);
  });
});

describe('rules', () => {
  it.each([
    ['names', 'a,,b', 'rule 2 is empty'],
    ['names', 'a, !', '"!" names nothing'],
    ['names', `${'a,'.repeat(100)}a`, '101 rules, and 100 are the most'],
    ['names', 'a'.repeat(4001), '4001 characters, and 4000 are the most'],
    ['dimensions', 'http.*', '"http.*" is no rule'],
    ['dimensions', 'http.*:host', '"http.*:host" is no rule'],
    ['dimensions', 'a: b; c: ', '"c:" is no rule'],
    ['dimensions', 'a: b,,c', 'rule 2 is empty'],
    ['rename', 'a', '"a" renames nothing'],
    ['rename', 'a=b=c', '"a=b=c" renames nothing'],
    ['rename', 'a.*=b', '"a.*=b" has a * on one side only'],
    ['rename', 'a*b=c', '"a*b=c" has a wildcard'],
    ['rename', ': a=b', '": a=b" is of no names'],
    ['limits', 'http.*', '"http.*" is no limit'],
    ['limits', 'a=1, b=0', '"b=0" is no limit'],
    ['limits', 'a=1.5', '"a=1.5" is no limit'],
    ['subjects', 'metrics.>', '"metrics.>" gives no dimension'],
    ['subjects', 'metrics.>.{a}', 'has a > that is not its last token'],
    ['subjects', 'metrics.{a}.{a}', 'names a key twice'],
    ['subjects', 'metrics.{}', 'has braces with nothing in them'],
    ['subjects', 'metrics.{a', 'is no subject'],
    ['subjects', 'metrics..{a}', 'is no subject'],
  ] as const)('of %s that are wrong are named: %s', (kind, text, problem) => {
    expect(RULE_KINDS[kind](text)).toEqual({ problem: expect.stringContaining(problem) });
  });

  it.each([
    ['names', 'names', ',', 'n*'],
    ['dimensions', 'dropDimensions', ';', 'n*: k'],
    ['rename', 'rename', ';', 'n=m'],
    ['subjects', 'subjectDimensions', ',', 'm.{k}.>'],
  ] as const)('of %s that a setting may have are known in a shape', (kind, member, separator, rule) => {
    const text = Array.from({ length: 100 }, () => rule.padStart(39, 'x')).join(separator);
    const read = RULE_KINDS[kind](text);
    expect(read).toHaveProperty('rules.length', 100);
    expect(isKnownInput({ [member]: 'rules' in read && read.rules })).toBe(true);
  });

  it('are known in a shape only if they can be read', () => {
    expect(isKnownInput({ names: ['a', '!b'], rename: ['a=b', '*: c=d'], dropDimensions: ['*: x, y'] })).toBe(
      true,
    );
    expect(isKnownInput({ rename: ['a'] })).toBe(false);
    expect(isKnownInput({ dropDimensions: 'x' })).toBe(false);
    expect(isKnownInput({ subjectDimensions: ['a.b'] })).toBe(false);
  });
});
