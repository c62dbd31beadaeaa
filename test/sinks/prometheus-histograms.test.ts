/** Native histograms in a real Prometheus: what it says of them, beside the exact answer. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import prometheus from '../../sinks/prometheus/sink.ts';
import { SKETCH_SCALE } from '../../src/aggregate/buckets.ts';
import type { Point } from '../../src/aggregate/point.ts';
import { Tiling } from '../../src/aggregate/tiling.ts';
import { seededRandom } from '../../src/load/random.ts';
import { startPrometheusReceiver } from '../../src/servers/prometheus.ts';
import type { Server } from '../../src/servers/server-process.ts';
import type { Sink } from '../../src/sink/contract.ts';
import { closedWindow } from '../aggregate/closed-window.ts';
import { pointsOf } from '../aggregate/stream.ts';
import { TEST_LIMIT_MS } from '../limits.ts';
import { sinkSettings } from './stand-in.ts';

const WINDOW_MS = 10_000;
const TILING = Tiling.of({
  windowMs: WINDOW_MS,
  latenessMs: 0,
  maxAheadMs: 0,
  maxSeries: 100,
  sketchScale: SKETCH_SCALE,
});
const START = Math.floor(Date.now() / WINDOW_MS) * WINDOW_MS - 600_000;
/** A value and the one that stands for its bucket; Prometheus interpolates in the bucket, at most its width away. */
const ERROR = 2 ** (1 / 64) - 1;
const signal = AbortSignal.timeout(TEST_LIMIT_MS);

let server: Server;
let plain: Server;
beforeAll(async () => {
  server = await startPrometheusReceiver({ flags: ['--enable-feature=native-histograms'] });
  plain = await startPrometheusReceiver({});
});
afterAll(async () => {
  await server.stop();
  await plain.stop();
});

function sinkAt({ port }: Server, job = 'a'): Sink {
  const variables = {
    URL: `http://127.0.0.1:${port}/api/v1/write`,
    HISTOGRAMS: 'true',
    LABELS: `job=${job}`,
  };
  return prometheus.create(sinkSettings(prometheus, variables), { id: 't', log: { info() {}, warn() {} } });
}

async function ask(query: string, time: number): Promise<number[]> {
  const parameters = new URLSearchParams({ query, time: new Date(time).toISOString() });
  const response = await fetch(`http://127.0.0.1:${server.port}/api/v1/query?${parameters}`);
  const { data, error } = (await response.json()) as {
    data?: { result: { value: [number, string] }[] };
    error?: string;
  };
  if (data === undefined) throw new Error(error);
  return data.result.map(({ value }) => Number(value[1]));
}

function windowOf(values: readonly (readonly [pod: string, value: number])[], start: number): Point[] {
  const samples = values.map(([pod, value]) => ({
    name: 'took',
    type: 'timer' as const,
    value,
    dimensions: { pod },
  }));
  return pointsOf(closedWindow(samples, TILING, { hasSketches: true }, start));
}

function quantile(values: readonly number[], q: number): number {
  return [...values].sort((a, b) => a - b)[Math.floor(q * (values.length - 1))]!;
}

test('histogram_quantile is within a bucket of the exact one: over a series, and over all of them', async () => {
  const random = seededRandom(6);
  const values = Array.from({ length: 20_000 }, (_, i) => {
    const value =
      1e6 * Math.exp(2 * Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random()));
    return [`p${i % 20}`, value] as const;
  });
  const sink = sinkAt(server);
  expect(await sink.write({ points: windowOf(values, START) }, signal)).toEqual({ kind: 'written' });
  expect(await ask('count(histogram_count(took_histogram))', START)).toEqual([20]);
  expect(await ask('sum(histogram_count(took_histogram))', START)).toEqual([20_000]);
  for (const q of [0.5, 0.9, 0.95, 0.99]) {
    const merged = (await ask(`histogram_quantile(${q}, sum(took_histogram))`, START))[0]!;
    expect(
      Math.abs(
        merged /
          quantile(
            values.map(([, value]) => value),
            q,
          ) -
          1,
      ),
    ).toBeLessThan(ERROR);
    const [own] = await ask(`histogram_quantile(${q}, took_histogram{pod="p3"})`, START);
    const exact = quantile(
      values.flatMap(([pod, value]) => (pod === 'p3' ? value : [])),
      q,
    );
    // Between two ranks, Prometheus takes the higher one.
    expect(Math.abs(own! / exact - 1)).toBeLessThan(0.1);
  }
  await sink.close();
});

test('a value at a bound of a bucket, values below zero, and zeros are where they belong', async () => {
  const sink = sinkAt(server, 'b');
  const values = [1024, 1024, 0, -3].map((value) => ['q', value] as const);
  await sink.write({ points: windowOf(values, START) }, signal);
  const within = (low: number, high: number) =>
    ask(`4 * histogram_fraction(${low}, ${high}, took_histogram{job="b"})`, START);
  // The bounds of the bucket that has 1024 as its upper one, and of its neighbor.
  const bound = 2 ** (10 - 1 / 64);
  expect((await within(bound, 1024))[0]).toBeCloseTo(2, 3);
  expect((await within(1024, 2 ** (10 + 1 / 64)))[0]).toBeCloseTo(0, 3);
  expect((await within(-(2 ** -100), 2 ** -100))[0]).toBeCloseTo(1, 3);
  expect((await within(-3.1, -2.9))[0]).toBeCloseTo(1, 3);
  await sink.close();
});

test('rows are read back as without histograms, and what comes again is written', async () => {
  const sink = sinkAt(server, 'c');
  const points = windowOf([['p', 5]], START);
  for (let i = 0; i < 2; i++) expect(await sink.write({ points }, signal)).toEqual({ kind: 'written' });
  const rows = await Array.fromAsync(sink.read({ from: START, to: START + 1 }, signal));
  expect(rows.map(({ p99, count }) => [p99, count])).toEqual([[5, 1]]);
  await sink.close();
});

test('where samples may be out of order and histograms may not, the fields are written without', async () => {
  const lenient = await startPrometheusReceiver({
    outOfOrder: '1h',
    flags: ['--enable-feature=native-histograms'],
  });
  const sink = sinkAt(lenient, 'd');
  for (const start of [START + WINDOW_MS, START])
    expect(await sink.write({ points: windowOf([['p', 5]], start) }, signal)).toEqual({ kind: 'written' });
  const rows = await Array.fromAsync(sink.read({ from: START, to: START + 2 * WINDOW_MS }, signal));
  expect(rows.map(({ windowStart, p99 }) => [windowStart, p99])).toEqual([
    [START, 5],
    [START + WINDOW_MS, 5],
  ]);
  await sink.close();
  await lenient.stop();
});

test('a Prometheus that takes no histograms refuses, and says what to do', async () => {
  const sink = sinkAt(plain);
  const outcome = await sink.write({ points: windowOf([['p', 5]], START) }, signal);
  expect(outcome).toMatchObject({ kind: 'refused', reason: 'bad_request' });
  await sink.close();
});
