/** How Prometheus shows what is written, what it refuses, and what every answer of a receiver means. */

import type { RequestListener } from 'node:http';
import fc from 'fast-check';
import { uncompress } from 'snappy';
import { describe, expect, it } from 'vitest';
import { decodeLabels, labelsOf, METRIC_LABEL, metricOf } from '../../sinks/prometheus/names.ts';
import prometheus from '../../sinks/prometheus/sink.ts';
import type { Point } from '../../src/aggregate/point.ts';
import { makeSeries } from '../../src/aggregate/series.ts';
import { type ReceiverOptions, startPrometheusReceiver } from '../../src/servers/prometheus.ts';
import { readSettings, type SettingError } from '../../src/settings/setting.ts';
import { readBackOf, type Sink } from '../../src/sink/contract.ts';
import {
  differences,
  EVERYTHING,
  HOSTILE_TEXTS,
  makePoint,
  manyPoints,
  readAll,
  START,
  WINDOW_MS,
} from '../conformance/points.ts';
import { judged } from '../verify/judged.ts';
import { endAfterEach, startStandIn } from './stand-in.ts';

const NEVER = new AbortController().signal;
const atEnd = endAfterEach();

function configOf(variables: Readonly<Record<string, string>>) {
  const errors: SettingError[] = [];
  const env = Object.fromEntries(Object.entries(variables).map(([name, value]) => [`SINK_T_${name}`, value]));
  const config = readSettings(prometheus.settings, 'SINK_T_', env, errors, []);
  return errors.length === 0 ? config : errors;
}

function sinkOf(variables: Readonly<Record<string, string>>): Sink {
  const config = configOf(variables);
  if (Array.isArray(config)) throw new Error(JSON.stringify(config));
  const sink = prometheus.create(config as never, { id: 't', log: { info() {}, warn() {} } });
  atEnd(() => sink.close());
  return sink;
}

async function realServer(options: ReceiverOptions = {}) {
  const server = await startPrometheusReceiver(options);
  atEnd(() => server.stop());
  return server;
}

const at = (windowStart: number, host: string, sum = 1) =>
  makePoint({ windowStart, dimensions: [['host', host]], values: { sum } });

/** The reasons of the rejected points, by index. Nothing may be left to retry. */
async function rejections(sink: Sink, points: readonly Point[]): Promise<Record<number, string>> {
  const outcome = await sink.write({ points }, NEVER);
  expect(outcome).not.toMatchObject({ kind: expect.stringMatching(/retry|refused/) });
  if (outcome.kind !== 'partial') return {};
  expect(outcome.retry).toEqual([]);
  return Object.fromEntries(outcome.rejected.map(({ index, reason }) => [index, reason]));
}

describe('a real Prometheus', () => {
  it('has a metric for every field, under a name that can be typed', async () => {
    const server = await realServer();
    const sink = sinkOf({ URL: `${server.url}/api/v1/write`, LABELS: 'job=fanout,env=test' });
    const dimensions: [string, string][] = [
      ['app', 'api'],
      ['http.status', '200'],
    ];
    const point = makePoint({ name: 'http.requests', dimensions, values: { count: 2, sum: 7 } });
    expect(await rejections(sink, [point])).toEqual({});
    const time = new Date(START).toISOString();
    const query = 'http_requests_sum{app="api",job="fanout",env="test"}';
    const response = await fetch(`${server.url}/api/v1/query?${new URLSearchParams({ query, time })}`);
    const { data } = (await response.json()) as { data: { result: unknown } };
    const metric = {
      __name__: 'http_requests_sum',
      U__http_2e_status: '200',
      app: 'api',
      env: 'test',
      job: 'fanout',
      metric_type: 'counter',
      name: 'http.requests',
    };
    expect(data.result).toEqual([{ metric, value: [START / 1000, '7'] }]);
  });

  it('refuses points that are out of order or differ from what it holds; the others are written', async () => {
    const server = await realServer();
    const sink = sinkOf({ URL: `${server.url}/api/v1/write` });
    const later = START + 6 * WINDOW_MS;
    const first = [at(later, 'a'), at(later, 'b')];
    expect(await rejections(sink, first)).toEqual({});
    const second = [at(later, 'a'), at(START, 'b'), at(START, 'c'), at(later, 'b', 2), at(later, 'd')];
    expect(await rejections(sink, second)).toEqual({ 1: 'out_of_retention', 3: 'refused' });
    const held = [...first, second[2]!, second[4]!];
    expect(differences(await readAll(sink, EVERYTHING, NEVER), held)).toEqual([]);
  });

  it('says of what it refuses as too old, but holds with the same values, that it is written', async () => {
    const server = await realServer();
    const sink = sinkOf({ URL: `${server.url}/api/v1/write` });
    const windows = [0, 1, 2].map((number) =>
      manyPoints(40).map((point) => ({ ...point, windowStart: START + number * WINDOW_MS })),
    );
    for (const points of windows) expect(await rejections(sink, points)).toEqual({});
    // As after a restart, from the last checkpoint on.
    for (const points of windows) expect(await sink.write({ points }, NEVER)).toEqual({ kind: 'written' });
    expect(differences(await readAll(sink, EVERYTHING, NEVER), windows.flat())).toEqual([]);

    const again = windows[0]!.slice(0, 8);
    const others = again.map((point, index) =>
      index % 4 === 1 ? { ...point, count: point.count + 1 } : point,
    );
    const unknown = makePoint({
      name: 'http.counter',
      dimensions: [
        ['app', 'app-0'],
        ['host', 'host-0'],
      ],
      instance: 'x',
    });
    const all = [...others, { ...again[0]!, windowStart: START - WINDOW_MS }, unknown];
    expect(await rejections(sink, all)).toEqual({
      1: 'out_of_retention',
      5: 'out_of_retention',
      8: 'out_of_retention',
    });
    expect(differences(await readAll(sink, EVERYTHING, NEVER), [...windows.flat(), unknown])).toEqual([]);
  });

  it('finds names that look like patterns', async () => {
    const server = await realServer();
    const sink = sinkOf({ URL: `${server.url}/api/v1/write` });
    const points = HOSTILE_TEXTS.map((name) => makePoint({ name }));
    const later = points.map((point) => ({ ...point, windowStart: START + WINDOW_MS }));
    for (const window of [points, later]) expect(await rejections(sink, window)).toEqual({});
    expect(await sink.write({ points }, NEVER)).toEqual({ kind: 'written' });
  });

  it('accepts late windows if out-of-order samples are allowed, and refuses older ones', async () => {
    const server = await realServer({ outOfOrder: '10m' });
    const sink = sinkOf({ URL: `${server.url}/api/v1/write` });
    const hour = 3_600_000;
    const points = [at(START + hour, 'a'), at(START + hour - 300_000, 'a')];
    expect(await rejections(sink, [points[0]!])).toEqual({});
    expect(await rejections(sink, [at(START - hour, 'a'), points[1]!])).toEqual({ 0: 'out_of_retention' });
    expect(differences(await readAll(sink, EVERYTHING, NEVER), points)).toEqual([]);
  });

  it('is read in slices, within its limit of samples per query', async () => {
    const server = await realServer({ flags: ['--query.max-samples=60000'] });
    const sink = sinkOf({ URL: `${server.url}/api/v1/write` });
    const windows = [0, 1, 2, 3, 4].map((number) => START + number * WINDOW_MS);
    const points = windows.flatMap((windowStart) =>
      manyPoints(3_000).map((point) => ({ ...point, windowStart })),
    );
    for (let i = 0; i < points.length; i += 1_000) {
      expect(await rejections(sink, points.slice(i, i + 1_000))).toEqual({});
    }
    expect(differences(await readAll(sink, EVERYTHING, NEVER), points)).toEqual([]);
  });
});

describe('an answer', () => {
  const points = manyPoints(4);
  const serve = async (listener: RequestListener) => {
    return sinkOf({ URL: `${await startStandIn(listener, atEnd)}/api/v1/push` });
  };
  const outcomeOf = async (status: number, body: string, headers = {}) => {
    const sink = await serve((_, outgoing) => outgoing.writeHead(status, headers).end(body));
    return await sink.write({ points }, NEVER);
  };

  it.each([
    [200, { kind: 'written' }],
    [204, { kind: 'written' }],
    [400, { kind: 'refused', reason: 'bad_request', message: '400: no' }],
    [401, { kind: 'refused', reason: 'unauthorized', message: '401: no' }],
    [403, { kind: 'refused', reason: 'unauthorized', message: '403: no' }],
    [404, { kind: 'refused', reason: 'not_found', message: '404: no' }],
    [408, { kind: 'retry', reason: 'timeout', message: '408: no' }],
    [415, { kind: 'refused', reason: 'bad_request', message: '415: no' }],
    [429, { kind: 'retry', reason: 'throttled', message: '429: no' }],
    [500, { kind: 'retry', reason: 'server_error', message: '500: no' }],
    [503, { kind: 'retry', reason: 'throttled', message: '503: no' }],
  ])('of status %i means %j', async (status, outcome) => {
    expect(await outcomeOf(status, status < 300 ? '' : 'no')).toEqual(outcome);
  });

  it('may say when to try again', async () => {
    expect(await outcomeOf(429, 'slow', { 'retry-after': '3' })).toMatchObject({ afterMs: 3_000 });
  });

  it('comes from the host of the URL, even if its path begins with two slashes', async () => {
    const asked: unknown[] = [];
    const url = await startStandIn(({ url, headers }, outgoing) => {
      asked.push(`http://${headers.host} ${url}`);
      outgoing.writeHead(204).end();
    }, atEnd);
    expect(await sinkOf({ URL: `${url}//api/v1/push?a=%20b` }).write({ points }, NEVER)).toEqual({
      kind: 'written',
    });
    expect(asked).toEqual([`${url} //api/v1/push?a=%20b`]);
  });

  it('that is a web page acknowledges nothing', async () => {
    const answer = await outcomeOf(200, '<html>Sign in</html>', { 'content-type': 'text/html' });
    expect(answer).toMatchObject({ kind: 'retry', reason: 'unknown' });
  });

  it.each([
    ['out of order sample', 'out_of_retention'],
    [
      'the sample has been rejected because another sample with a more recent timestamp (err-mimir-sample-out-of-order)',
      'out_of_retention',
    ],
    ['timestamp too old', 'out_of_retention'],
    ['err-mimir-sample-duplicate-timestamp: duplicate sample for timestamp', 'refused'],
  ])('of status 400 with "%s" rejects the points', async (message, reason) => {
    const rejected = points.map((_, index) => ({ index, reason, message: `400: ${message}` }));
    const outcome = await outcomeOf(400, message);
    expect(outcome).toMatchObject({ kind: 'partial', retry: [], rejected: expect.arrayContaining(rejected) });
  });
});

describe('what is read', () => {
  const point = makePoint({ values: { count: 1, sum: 2 } });
  const labels = { job: 'metrics-fanout', name: 'requests', metric_type: 'counter', app: 'api' };

  /** Reads from a store that holds these samples of the two fields of the point. */
  async function readOf(samples: { count: readonly string[]; sum: readonly string[] }) {
    const seconds = point.windowStart / 1000;
    const result = Object.entries(samples).map(([field, values]) => ({
      metric: { ...labels, __name__: `requests_${field}` },
      values: values.map((value) => [seconds, value]),
    }));
    const url = await startStandIn((incoming, outgoing) => {
      let body = '';
      incoming.on('data', (chunk) => {
        body += chunk;
      });
      incoming.on('end', () => {
        const isCount = decodeURIComponent(body).includes('count_over_time');
        const counted = [{ metric: {}, value: [seconds, `${samples.count.length}`] }];
        outgoing.end(JSON.stringify({ data: { result: isCount ? counted : result } }));
      });
    }, atEnd);
    return await readAll(sinkOf({ URL: `${url}/api/v1/write` }), EVERYTHING, NEVER);
  }

  it.each([
    ['once', { count: ['1'], sum: ['2'] }, { equal: 1, extra: 0, different: 0, sameDigest: true }],
    [
      'twice',
      { count: ['1', '1'], sum: ['2', '2'] },
      { equal: 1, extra: 1, different: 0, sameDigest: false },
    ],
    [
      'twice in part',
      { count: ['1'], sum: ['2', '2'] },
      { equal: 1, extra: 1, different: 0, sameDigest: false },
    ],
    [
      'with two values',
      { count: ['1', '1'], sum: ['3', '2'] },
      { equal: 0, extra: 1, different: 1, sameDigest: false },
    ],
  ])('is a difference unless a sample is there once: %s', async (_, samples, verdict) => {
    expect(await judged(await readOf(samples), [point])).toMatchObject(verdict);
  });
});

describe('labels', () => {
  const dimensions = (count: number) =>
    Array.from({ length: count }, (_, index) => [`k${index}`, 'v'] as [string, string]);
  // With those of the metric, the name, the type and the job.
  const withLabels = (count: number) => makePoint({ name: 'many', dimensions: dimensions(count - 4) });
  const points = [
    withLabels(40),
    withLabels(41),
    makePoint({ dimensions: [['k', 'x'.repeat(4096)]] }),
    makePoint({ dimensions: [['k', `${'x'.repeat(4095)}é`]] }),
    makePoint({ dimensions: [['k'.repeat(256), 'v']] }),
    makePoint({ dimensions: [['k'.repeat(257), 'v']] }),
    makePoint({ name: 'n'.repeat(4096 - '_count'.length) }),
    makePoint({ name: 'm'.repeat(4096 - '_sum'.length) }),
    makePoint({ name: 'in core mode', dimensions: dimensions(36), instance: 'boot-1' }),
  ];
  const EXCESSIVE = { 1: 'too_large', 3: 'too_large', 5: 'too_large', 7: 'too_large', 8: 'too_large' };
  const serve =
    (headers: Record<string, string>, variables: Record<string, string> = {}) =>
    async () => {
      const url = await startStandIn((_, outgoing) => outgoing.writeHead(204, headers).end(), atEnd);
      const sink = sinkOf({ URL: `${url}/api/v1/write`, ...variables });
      await sink.open(NEVER);
      return sink;
    };
  const victoria = { 'x-server-hostname': 'vm-0' };

  it.each([
    ['of any server have no limit', serve({}), {}],
    ['of VictoriaMetrics are rejected where it would drop them in silence', serve(victoria), EXCESSIVE],
    [
      'of any server have the limits of the settings',
      serve({}, { MAX_LABELS: '40' }),
      { 1: 'too_large', 8: 'too_large' },
    ],
    [
      'of VictoriaMetrics have the limits of the settings first',
      serve(victoria, { MAX_LABELS: '41', MAX_LABEL_BYTES: '0', MAX_LABEL_NAME_BYTES: '300' }),
      {},
    ],
  ])('%s', async (_, sink, expected) => {
    expect(await rejections(await sink(), points)).toEqual(expected);
  });

  it('that are too many say which limit it is', async () => {
    const outcome = await (await serve(victoria)()).write({ points: points.slice(1, 2) }, NEVER);
    const message = expect.stringMatching(
      /^41 labels, of at most 40: .*-maxLabelsPerTimeseries .*MAX_LABELS$/,
    );
    expect(outcome).toMatchObject({ rejected: [{ index: 0, message }] });
  });
});

describe('samples that a receiver refuses as too old', () => {
  const points = manyPoints(2);
  const serve = async (answerQuery: RequestListener) => {
    const url = await startStandIn((incoming, outgoing) => {
      if (incoming.url === '/api/v1/query') answerQuery(incoming, outgoing);
      else outgoing.writeHead(400).end('out of order sample');
    }, atEnd);
    return sinkOf({ URL: `${url}/api/v1/write` });
  };

  it('are rejected, with a word about it, if what it holds cannot be read', async () => {
    const sink = await serve((_, outgoing) => outgoing.writeHead(500).end('no'));
    const message = '400: out of order sample; what the store holds could not be read (server_error)';
    const rejected = points.map((_, index) => ({ index, reason: 'out_of_retention', message }));
    expect(await sink.write({ points }, NEVER)).toMatchObject({
      kind: 'partial',
      retry: [],
      rejected: expect.arrayContaining(rejected),
    });
  });

  it('come again if the time is up before the answer', async () => {
    const abort = new AbortController();
    const sink = await serve(() => abort.abort());
    await expect(sink.write({ points }, abort.signal)).rejects.toThrow();
  });
});

describe('a receiver that refuses a request for one series', () => {
  it('gets the others without it: in the next window by two requests and one that shows who is at fault', async () => {
    let sizes: number[] = [];
    const url = await startStandIn(async (incoming, outgoing) => {
      const body = Buffer.concat(await Array.fromAsync(incoming as AsyncIterable<Buffer>));
      const text = (await uncompress(body)).toString('latin1');
      sizes.push(new Set(text.match(/host-\d+/g)).size);
      outgoing.writeHead(/host-321\b/.test(text) ? 400 : 204).end('label value too long');
    }, atEnd);
    const sink = sinkOf({ URL: `${url}/api/v1/push` });
    const points = manyPoints(1_000);
    let left: readonly Point[] = points;
    while (left.length > 0) {
      const sent = left;
      const outcome = await sink.write({ points: sent }, NEVER);
      left = outcome.kind === 'partial' ? outcome.retry.map((index) => sent[index]!) : [];
      // 20 requests, and one without samples.
      expect(sizes.length).toBeLessThanOrEqual(21);
    }
    sizes = [];
    expect(await sink.write({ points }, NEVER)).toMatchObject({ retry: [], rejected: [{ index: 321 }] });
    expect(sizes).toEqual([999, 1, 0]);
  });
});

describe('settings', () => {
  const readBack = (variables: Record<string, string>) => {
    const config = configOf({ ...variables });
    return readBackOf(prometheus as never, config as never);
  };

  it('say whether rows can be read back', () => {
    expect(readBack({ URL: 'http://p:9090/api/v1/write' })).toBe('ranges');
    expect(readBack({ URL: 'https://m/api/v1/push' })).toBe('none');
    expect(readBack({ URL: 'https://m/api/v1/push', QUERY_URL: 'https://m/prometheus' })).toBe('ranges');
  });

  it.each(['job', 'a.b=c', '__a=b', 'a=', '1=a', 'job=a,instance=host1', 'name=a', 'metric_type=a'])(
    'do not accept the label %j',
    (LABELS) => {
      expect(configOf({ URL: 'http://p', LABELS })).toMatchObject([{ variable: 'SINK_T_LABELS' }]);
    },
  );
});

describe('names', () => {
  it('can be decoded, whatever the text is', () => {
    const text = fc.string({ unit: 'binary', minLength: 1, maxLength: 8 });
    const tricky = fc.constantFrom(
      'job',
      'U__',
      'U__a_2e_',
      '__name__',
      'name',
      'instance',
      '\ud83d',
      'a_b',
      'a.b',
      '_2e_',
    );
    const any = fc.oneof(
      text,
      tricky,
      fc.string({ unit: fc.constantFrom('_', 'U', '2', 'e', '.'), minLength: 1 }),
    );
    const own = { job: 'x' };
    fc.assert(
      fc.property(
        any,
        fc.dictionary(any, any, { noNullPrototype: true }),
        any,
        (name, dimensions, instance) => {
          const series = makeSeries(name, 'gauge', Object.entries(dimensions));
          const labels = labelsOf(series, instance, own);
          for (const [label] of labels) expect(label).toMatch(/^[a-zA-Z_][a-zA-Z0-9_]*$/);
          expect(new Set(labels.map(([label]) => label)).size).toBe(labels.length);
          const metric = metricOf(series, 'last');
          expect(metric).toMatch(/^[a-zA-Z_:][a-zA-Z0-9_:]*$/);
          const decoded = decodeLabels({ ...Object.fromEntries(labels), [METRIC_LABEL]: metric }, own);
          expect(decoded).toEqual({ series, field: 'last', instance });
        },
      ),
    );
  });
});
