/** How a point looks in OTLP, and what every answer of a receiver means. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import otlp from '../../sinks/otlp/sink.ts';
import { systemClock } from '../../src/base/clock.ts';
import { readSettings, type SettingError } from '../../src/settings/setting.ts';
import { limitsOf, type Sink, type SinkError, type SinkLimits } from '../../src/sink/contract.ts';
import { makePoint, manyPoints, START, WINDOW_MS } from '../conformance/points.ts';
import { WINDOW_MS as LANE_WINDOW_MS, laneOf, sizedWindow } from '../deliver/fixtures.ts';
import {
  type Answer,
  KEY,
  partialSuccess,
  type Received,
  type Receiver,
  startReceiver,
} from './otlp-receiver.ts';

const NEVER = new AbortController().signal;
const PROTOBUF = { 'content-type': 'application/x-protobuf' };
let receiver: Receiver;
const open: Sink[] = [];

beforeAll(async () => {
  receiver = await startReceiver();
});
afterEach(async () => {
  receiver.answerWith(() => undefined);
  receiver.requests.length = 0;
  await Promise.all(open.splice(0).map((sink) => sink.close()));
});
afterAll(() => receiver.stop());

let namespaces = 0;

function sinkOf(more: Readonly<Record<string, string>> = {}): Sink {
  namespaces += 1;
  const url = `${receiver.url}/?namespace=answers${namespaces}`;
  const env = { SINK_T_URL: url, SINK_T_HEADERS: `api-key=${KEY}`, ...more };
  const errors: SettingError[] = [];
  const config = readSettings(otlp.settings, 'SINK_T_', env, errors, []);
  expect(errors).toEqual([]);
  const sink = otlp.create(config, { id: 't', log: { info() {}, warn() {} } });
  open.push(sink);
  return sink;
}

/** What arrives of a write that the receiver accepts. */
async function arriving(
  points: Parameters<Sink['write']>[0]['points'],
  more = {},
): Promise<readonly Received[]> {
  const arrived: Received[] = [];
  receiver.answerWith((data) => {
    arrived.push(...data);
    return undefined;
  });
  expect(await sinkOf(more).write({ points }, NEVER)).toEqual({ kind: 'written' });
  return arrived;
}

/**
 * Adds up deltas as the collector's processor `deltatocumulative` does: what is not newer than the newest of its series
 * is dropped, and acknowledged. A series is a metric with its kind and its attributes.
 */
function runningTotals() {
  const series = new Map<string, { readonly metric: string; time: bigint; total: number }>();
  const totals = {
    dropped: 0,
    take(data: readonly Received[]): undefined {
      for (const { metric, kind, attributes, time, value } of data) {
        if (kind === 'gauge') continue;
        const key = JSON.stringify([metric, kind, attributes]);
        const known = series.get(key);
        if (known === undefined) series.set(key, { metric, time, total: value });
        else if (time <= known.time) totals.dropped += 1;
        else series.set(key, { metric, time, total: known.total + value });
      }
    },
    /** The totals of all series of the metric. */
    of: (metric: string) =>
      [...series.values()].filter((one) => one.metric === metric).map(({ total }) => total),
  };
  return totals;
}

/** The number of the window; NaN if there are no data, as when the sink opens. */
const windowOf = ([first]: readonly Received[]) =>
  first === undefined ? Number.NaN : Number(first.start / 1_000_000n) / LANE_WINDOW_MS;

const kinds = (data: readonly Received[]) =>
  Object.fromEntries(data.map(({ metric, kind }) => [metric, kind]));

describe('a data point', () => {
  it('is a sum of delta temporality, or a gauge, depending on the field', async () => {
    const points = (['counter', 'gauge', 'timer'] as const).map((type) => makePoint({ name: type, type }));
    expect(kinds(await arriving(points))).toEqual({
      'counter.count': 'monotonic delta sum',
      'counter.sum': 'monotonic delta sum',
      'gauge.count': 'monotonic delta sum',
      'gauge.sum': 'monotonic delta sum',
      'gauge.min': 'gauge',
      'gauge.max': 'gauge',
      'gauge.last': 'gauge',
      'timer.count': 'monotonic delta sum',
      'timer.sum': 'monotonic delta sum',
      'timer.min': 'gauge',
      'timer.max': 'gauge',
      'timer.p50': 'gauge',
      'timer.p90': 'gauge',
      'timer.p95': 'gauge',
      'timer.p99': 'gauge',
    });
  });

  it.each([
    ['all', ['counter', 'gauge', 'timer']],
    ['counters', ['counter', 'timer']],
    ['none', []],
  ])(
    'says by its type that a sum is monotonic (%s), not by the sign of its value',
    async (setting, types) => {
      const signs = { down: -1, none: 0, up: 1 };
      const points = (['counter', 'gauge', 'timer'] as const).flatMap((type) =>
        Object.entries(signs).map(([sign, sum]) =>
          makePoint({ name: type, type, dimensions: [['sign', sign]], values: { sum } }),
        ),
      );
      const arrived = await arriving(points, { SINK_T_MONOTONIC: setting });
      const sums = arrived.filter(({ metric }) => metric.endsWith('.sum'));
      expect(sums).toHaveLength(9);
      for (const { metric, kind } of sums) {
        const isMonotonic = types.includes(metric.slice(0, -'.sum'.length));
        expect(kind, metric).toBe(isMonotonic ? 'monotonic delta sum' : 'delta sum');
      }
      const counts = arrived.filter(({ metric }) => metric.endsWith('.count'));
      expect(new Set(counts.map(({ kind }) => kind))).toEqual(new Set(['monotonic delta sum']));
    },
  );

  it('has one running total whatever the sign of its values', async () => {
    const totals = runningTotals();
    receiver.answerWith(totals.take);
    const sink = sinkOf();
    for (const [number, sum] of [5, -3, 7].entries()) {
      const point = makePoint({
        name: 'temp',
        type: 'gauge',
        windowStart: number * WINDOW_MS,
        values: { sum },
      });
      expect(await sink.write({ points: [point] }, NEVER)).toEqual({ kind: 'written' });
    }
    expect(totals.of('temp.sum')).toEqual([9]);
  });

  it('is always a gauge if the store does not accept deltas', async () => {
    const data = await arriving([makePoint({ type: 'timer' })], { SINK_T_SUMS: 'gauge' });
    expect(new Set(data.map(({ kind }) => kind))).toEqual(new Set(['gauge']));
    expect(data).toHaveLength(8);
  });

  it('spans its window, and has the dimensions and the resource', async () => {
    const point = makePoint({ instance: 'boot-1', values: { count: 7, sum: 1.5 } });
    const [count, sum] = await arriving([point], { SINK_T_SERVICE: 'shop' });
    expect(count).toMatchObject({
      start: BigInt(START) * 1_000_000n,
      time: BigInt(START + WINDOW_MS) * 1_000_000n,
      value: 7,
      isInteger: true,
      attributes: { app: 'api', metric_type: 'counter', instance: 'boot-1' },
      service: 'shop',
    });
    expect(sum).toMatchObject({ value: 1.5, isInteger: false });
  });

  it('is sent as gzipped protobuf', async () => {
    await sinkOf().write({ points: manyPoints(10) }, NEVER);
    expect(receiver.requests.at(-1)!.headers).toMatchObject({ 'content-encoding': 'gzip', ...PROTOBUF });
  });
});

describe('a receiver that adds deltas up', () => {
  /** A clock without waits: what fails is tried again at once. */
  const clock = { ...systemClock, random: () => 0 };
  const WINDOWS = 20;
  const SERIES = 5;

  /** Writes windows through a lane, as the service does. */
  async function writeWindows(sink: Sink, limits: SinkLimits): Promise<void> {
    const { lane } = laneOf(clock, sink, { limits });
    const running = lane.run();
    for (let number = 0; number < WINDOWS; number++) lane.offer(sizedWindow(number, SERIES, () => 1));
    lane.advance(WINDOWS * LANE_WINDOW_MS, 1);
    await lane.stop(NEVER);
    await running;
  }

  it('gets the windows of a series in order, also after it was down', async () => {
    const totals = runningTotals();
    const failing = new Map([
      [0, 2],
      [3, 1],
      [4, 4],
    ]);
    receiver.answerWith((data) => {
      const number = windowOf(data);
      const left = failing.get(number) ?? 0;
      failing.set(number, left - 1);
      return left > 0 ? { status: 503 } : totals.take(data);
    });
    await writeWindows(sinkOf(), limitsOf(otlp as never, { sums: 'delta' } as never));
    expect(totals.dropped).toBe(0);
    for (let i = 0; i < SERIES; i++) expect(totals.of(`s${i}.sum`)).toEqual([WINDOWS]);
  });

  it('counts a window once whose acknowledgement was lost', async () => {
    const totals = runningTotals();
    const lost = new Set([2, 7]);
    receiver.answerWith((data) => {
      totals.take(data);
      return lost.delete(windowOf(data)) ? { status: 502 } : undefined;
    });
    await writeWindows(sinkOf(), limitsOf(otlp as never, { sums: 'delta' } as never));
    for (let i = 0; i < SERIES; i++) expect(totals.of(`s${i}.count`)).toEqual([WINDOWS]);
  });

  it('may as well be a Prometheus, which refuses gauges that are older than its newest', async () => {
    const newest = new Map<string, bigint>();
    const failing = new Map([[0, 2]]);
    let refused = 0;
    receiver.answerWith((data) => {
      const number = windowOf(data);
      const left = failing.get(number) ?? 0;
      failing.set(number, left - 1);
      if (left > 0) return { status: 503 };
      if (data.some(({ metric, time }) => time < (newest.get(metric) ?? 0n))) {
        refused += 1;
        return { status: 400, body: 'out of order sample' };
      }
      for (const { metric, time } of data) newest.set(metric, time);
      return undefined;
    });
    await writeWindows(sinkOf({ SINK_T_SUMS: 'gauge' }), limitsOf(otlp as never, { sums: 'gauge' } as never));
    expect(refused).toBe(0);
  });
});

describe('an answer', () => {
  const points = manyPoints(8);
  const outcomeOf = async (answer: Answer) => {
    receiver.answerWith(() => answer);
    return await sinkOf().write({ points }, NEVER);
  };
  /** google.rpc.Status with the message `no`. */
  const status = Uint8Array.of(0x08, 3, 0x12, 2, 0x6e, 0x6f);

  it.each<[what: string, answer: Answer]>([
    ['nothing', { status: 200 }],
    ['protobuf', { status: 202, headers: PROTOBUF }],
    ['JSON', { status: 200, headers: { 'content-type': 'application/json' }, body: '{"partialSuccess":{}}' }],
    ['a warning', partialSuccess(0, 'mind the gap')],
  ])('of success with %s acknowledges all points', async (_, answer) => {
    expect(await outcomeOf(answer)).toEqual({ kind: 'written' });
  });

  it.each<[what: string, answer: Answer]>([
    ['protobuf', partialSuccess(3, 'too old')],
    [
      'JSON',
      {
        status: 200,
        headers: { 'content-type': 'application/json; charset=utf-8' },
        body: '{"partialSuccess":{"rejectedDataPoints":"3","errorMessage":"too old"}}',
      },
    ],
  ])(
    'of partial success, in %s, counts the points that are lost at most, and nothing is sent again',
    async (_, answer) => {
      const outcome = await outcomeOf(answer);
      const message = 'the receiver refused 3 data points of 8 points without saying which: too old';
      expect(outcome).toEqual({
        kind: 'partial',
        retry: [],
        rejected: [],
        unidentified: { count: 3, message },
      });
      expect(receiver.requests).toHaveLength(1);
    },
  );

  it('of partial success never counts more points than were sent', async () => {
    const outcome = await outcomeOf(partialSuccess(24, 'too old'));
    expect(outcome).toMatchObject({ kind: 'partial', retry: [], rejected: [], unidentified: { count: 8 } });
  });

  it('of status 400 to a series is expected again: the next batch costs few requests', async () => {
    let sizes: number[] = [];
    receiver.answerWith((data) => {
      const hosts = new Set(data.map(({ attributes }) => attributes.host!));
      sizes.push(hosts.size);
      return hosts.has('host-301') ? { status: 400, body: 'bad' } : undefined;
    });
    const sink = sinkOf();
    const many = manyPoints(500);
    let left = many;
    while (left.length > 0) {
      const sent = left;
      const outcome = await sink.write({ points: sent }, NEVER);
      left = outcome.kind === 'partial' ? outcome.retry.map((index) => sent[index]!) : [];
    }
    sizes = [];
    expect(await sink.write({ points: many }, NEVER)).toMatchObject({
      retry: [],
      rejected: [{ index: 301 }],
    });
    // The last one is the empty export that shows who is at fault.
    expect(sizes).toEqual([499, 1, 0]);
  });

  it('of success with a web page acknowledges nothing', async () => {
    const answer = { status: 200, headers: { 'content-type': 'text/html' }, body: '<html>Sign in</html>' };
    expect(await outcomeOf(answer)).toMatchObject({ kind: 'retry', reason: 'unknown' });
  });

  it.each([
    [401, { kind: 'refused', reason: 'unauthorized' }],
    [403, { kind: 'refused', reason: 'unauthorized' }],
    [404, { kind: 'refused', reason: 'not_found' }],
    [408, { kind: 'retry', reason: 'timeout' }],
    [415, { kind: 'refused', reason: 'bad_request' }],
    [307, { kind: 'refused', reason: 'bad_request' }],
    [429, { kind: 'retry', reason: 'throttled' }],
    [500, { kind: 'retry', reason: 'server_error' }],
    [502, { kind: 'retry', reason: 'server_error' }],
    [503, { kind: 'retry', reason: 'throttled' }],
    [504, { kind: 'retry', reason: 'server_error' }],
  ])('of status %i means %j', async (code, outcome) => {
    expect(await outcomeOf({ status: code, headers: PROTOBUF, body: status })).toMatchObject({
      ...outcome,
      message: `${code}: no`,
    });
  });

  it('of status 400 that samples are out of order rejects them as too old', async () => {
    const body = 'out of order sample\nout of order sample\n';
    receiver.answerWith((data) => (data.length > 0 ? { status: 400, body } : undefined));
    const outcome = await sinkOf().write({ points: points.slice(0, 1) }, NEVER);
    const message = '400: out of order sample out of order sample';
    expect(outcome).toEqual({
      kind: 'partial',
      retry: [],
      rejected: [{ index: 0, reason: 'out_of_retention', message }],
    });
  });

  it.each([500, 400])('of status %i that deltas are invalid asks for another setting', async (code) => {
    const body = 'invalid temporality and type combination for metric "http.counter.count"\n';
    expect(await outcomeOf({ status: code, headers: { 'content-type': 'text/plain' }, body })).toEqual({
      kind: 'refused',
      reason: 'bad_request',
      message: expect.stringMatching(
        /^\d+: invalid temporality .* set SUMS=gauge, .*otlp-deltatocumulative .*otlp-native-delta-ingestion/,
      ),
    });
    expect(receiver.requests).toHaveLength(1);
  });

  it('may say when to try again, in seconds or as a date', async () => {
    const inSeconds = await outcomeOf({ status: 429, headers: { 'retry-after': '7' } });
    expect(inSeconds).toMatchObject({ kind: 'retry', afterMs: 7_000 });
    const date = new Date(Date.now() + 60_000).toUTCString();
    const byDate = await outcomeOf({ status: 503, headers: { 'retry-after': date } });
    const { afterMs } = byDate as { afterMs: number };
    expect(afterMs).toBeGreaterThan(50_000);
    expect(afterMs).toBeLessThanOrEqual(60_000);
  });

  it.each([
    [400, 'refused'],
    [413, 'too_large'],
  ] as const)(
    'of status %i to some points rejects these, and the others are written',
    async (code, reason) => {
      const bad = new Set(['host-2', 'host-5']);
      const taken: string[] = [];
      receiver.answerWith((data) => {
        if (data.some(({ attributes }) => bad.has(attributes.host!))) return { status: code, body: 'bad' };
        taken.push(...data.map(({ attributes }) => attributes.host!));
        return undefined;
      });
      const outcome = await sinkOf().write({ points }, NEVER);
      const rejected = [2, 5].map((index) => ({ index, reason, message: `${code}: bad` }));
      expect(outcome).toEqual({
        kind: 'partial',
        retry: [],
        rejected: expect.toSatisfy((found) => found.length === 2),
      });
      expect(outcome).toMatchObject({ rejected: expect.arrayContaining(rejected) });
      expect([...new Set(taken)].sort()).toEqual([0, 1, 3, 4, 6, 7].map((index) => `host-${index}`));
    },
  );

  it('of status 400 even to an empty export does not blame the points', async () => {
    expect(await outcomeOf({ status: 400, body: 'JSON only' })).toMatchObject({
      kind: 'refused',
      reason: 'bad_request',
      message: '400: JSON only',
    });
    const opening = sinkOf().open(NEVER);
    await expect(opening).rejects.toMatchObject({
      reason: 'bad_request',
      advice: expect.stringMatching(/URL/),
    } satisfies Partial<SinkError>);
  });
});
