/** Producers that misbehave, next to an honest one. It must not lose a sample because of them in any store. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import type { JsMsg, NatsConnection } from 'nats';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { loadConfig } from '../../src/config/config.ts';
import { type ClickHouse, startClickHouse } from '../../src/servers/clickhouse.ts';
import { startProgram } from '../../src/servers/fanout-program.ts';
import { startPrometheusReceiver } from '../../src/servers/prometheus.ts';
import type { Server } from '../../src/servers/server-process.ts';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import { type Stack, startStack } from '../../src/servers/stack.ts';
import type { StoredPoint } from '../../src/sink/contract.ts';
import { compareWithTruth, isEqual } from '../../src/verify/rows.ts';
import { Truth, type TruthRow } from '../../src/verify/truth.ts';
import { connect } from '../bus-client.ts';
import { LIMIT_MS } from '../limits.ts';
import { oddSeries } from './odd-names.ts';
import { sample, WINDOW_MS, WINDOWS } from './support.ts';

const MAX_SERIES = 1000;
/**
 * The table is swept when it holds twice the series that are in use: those of two open windows and of the last closed
 * one. The overflow series of each window are fewer than a tenth of MAX_SERIES.
 */
const MAX_KNOWN_SERIES = 2 * 3 * 1.1 * MAX_SERIES;
const FLOOD = 'flood';
const FLOOD_MESSAGES = 20_000;
const NOISE_MESSAGES = 15_000;
const MAX_MESSAGE_BYTES = 1024 * 1024;
const MAX_PAYLOAD_BYTES = 2 * MAX_MESSAGE_BYTES;
const MAX_GROWTH_BYTES = 150e6;
/** The distance between neighbouring doubles at the size of today's nanoseconds since 1970. */
const DOUBLE_STEP_NANOS = 256;
/** How far after the end (and in Prometheus, before the start) rows are searched that should not be there. */
const MARGIN_MS = 20_000;
/** As in WINDOWS. */
const LATENESS_MS = 500;
const CLICKHOUSE = { user: 'fanout', password: 'pass' };

let stack: Stack;
let clickhouse: ClickHouse;
let prometheus: Server;
let service: ServiceProgram;
let bus: NatsConnection;
let env: Record<string, string>;
const started = Math.floor(Date.now() / WINDOW_MS) * WINDOW_MS;
/** What the service must have received. */
let sent = 0;

beforeAll(async () => {
  [stack, clickhouse, prometheus] = await Promise.all([
    startStack(undefined, { maxPayloadBytes: MAX_PAYLOAD_BYTES }),
    startClickHouse(CLICKHOUSE),
    startPrometheusReceiver({ outOfOrder: '1h' }),
  ]);
  bus = await connect({ servers: stack.nats.url });
  // The stream captures more than metrics.
  const subjects = ['metrics', 'metrics.>', 'noise.>'];
  await (await bus.jetstreamManager({ timeout: LIMIT_MS })).streams.add({ name: 'METRICS', subjects });
  env = {
    ...stack.env,
    ...WINDOWS,
    MAX_SERIES: `${MAX_SERIES}`,
    PROBE_INTERVAL: '0s',
    VERIFY_SHARE: '0',
    VERIFY_REPLAY_SHARE: '0',
    SINK_CLICKHOUSE_ENABLED: 'true',
    SINK_CLICKHOUSE_URL: clickhouse.url,
    SINK_CLICKHOUSE_USER: CLICKHOUSE.user,
    SINK_CLICKHOUSE_PASSWORD: CLICKHOUSE.password,
    SINK_POSTGRES_ENABLED: 'true',
    SINK_POSTGRES_URL: await stack.postgres.createDatabase('abuse'),
    SINK_POSTGRES_PARTITION: 'day',
    SINK_PARQUET_ENABLED: 'true',
    SINK_PARQUET_URL: pathToFileURL(join(stack.folder, 'parquet')).href,
    SINK_PROMETHEUS_ENABLED: 'true',
    SINK_PROMETHEUS_URL: `${prometheus.url}/api/v1/write`,
  };
  service = await startServiceProgram(env);
});
afterAll(async () => {
  await bus?.close();
  await service?.stop('SIGKILL');
  await Promise.all([clickhouse?.stop(), prometheus?.stop(), stack?.stop()]);
});

function publish(sampleOrSamples: unknown): void {
  bus.publish('metrics.abuse', JSON.stringify(sampleOrSamples));
  sent += 1;
}

function publishHonest(value: number): void {
  for (const type of ['counter', 'gauge', 'timer'])
    publish({
      name: `honest.${type}`,
      type,
      value,
      dimensions: { app: 'api' },
      timestamp: new Date().toISOString(),
    });
}

/** A name with a NUL is rejected for all stores, as some cannot hold it. */
const isName = (name: string) => !name.includes('\0');

/** Whether a message of an honest producer came after the end of its window, which may happen on a busy machine. */
function isTooLate({ name, timestamp }: { name?: string; timestamp?: string }, streamTime: number): boolean {
  if (!name?.startsWith('honest.') || timestamp === undefined) return false;
  const end = (Math.floor(Date.parse(timestamp) / WINDOW_MS) + 1) * WINDOW_MS;
  return streamTime >= end + LATENESS_MS;
}

/** The truth, computed from the stream slowly and without code of the service. It does not know MAX_SERIES. */
async function truthOfStream(): Promise<{ truth: Truth; lateHonest: number }> {
  const truth = new Truth({ windowMs: WINDOW_MS, latenessMs: LATENESS_MS, maxAheadMs: 500 });
  let lateHonest = 0;
  const { streams } = await bus.jetstreamManager({ timeout: LIMIT_MS });
  const { state } = await streams.info('METRICS');
  // In whole milliseconds. The client gives nanoseconds as a double, which is too coarse just before a millisecond.
  const timeOf = async ({ seq, info: { timestampNanos } }: JsMsg) => {
    const ms = Math.floor((timestampNanos - DOUBLE_STEP_NANOS) / 1e6);
    if (ms === Math.floor((timestampNanos + DOUBLE_STEP_NANOS) / 1e6)) return ms;
    return (await streams.getMessage('METRICS', { seq })).time.getTime();
  };
  const consumer = await bus.jetstream().consumers.get('METRICS');
  for await (const message of await consumer.consume({ max_messages: 5000 })) {
    const isMetric = message.subject.startsWith('metrics') && message.data.length <= MAX_MESSAGE_BYTES;
    const sample = isMetric ? message.json<{ name?: string; timestamp?: string }>() : {};
    if (isMetric && isName(sample.name ?? '')) {
      const time = await timeOf(message);
      truth.add(message.data, time);
      if (isTooLate(sample, time)) lateHonest += 1;
    }
    if (message.seq === state.last_seq) break;
  }
  return { truth, lateHonest };
}

async function untilConfirmed(): Promise<void> {
  await bus.flush();
  await service.untilConfirmed(Math.ceil(Date.now() / WINDOW_MS) * WINDOW_MS);
}

/** The rows of every store, by sink. */
async function stored(): Promise<Map<string, StoredPoint[]>> {
  for (const [name, value] of Object.entries(env)) if (name.startsWith('AWS_')) process.env[name] = value;
  const rows = new Map<string, StoredPoint[]>();
  for (const { id, module, values } of (await loadConfig(env)).sinks) {
    const sink = module.create(values, { id, log: { info() {}, warn() {} } });
    const signal = AbortSignal.timeout(LIMIT_MS);
    await sink.open(signal);
    rows.set(
      id,
      await Array.fromAsync(
        sink.read(
          { from: id === 'prometheus' ? started - MARGIN_MS : 0, to: Date.now() + MARGIN_MS },
          signal,
        ),
      ),
    );
    await sink.close();
  }
  return rows;
}

const total = (counts: Readonly<Record<string, number>>) =>
  Object.values(counts).reduce((sum, count) => sum + count, 0);

async function* asStream<T>(items: Iterable<T>): AsyncGenerator<T> {
  yield* items;
}

/** Counts and sums by name and window: these are right whatever was folded. */
function byName(rows: Iterable<Pick<TruthRow, 'series' | 'windowStart' | 'count' | 'sum'>>) {
  const sums = new Map<string, number[]>();
  for (const { series, windowStart, count, sum } of rows) {
    const key = JSON.stringify([windowStart, series.name, series.type]);
    const [counts = 0, total = 0] = sums.get(key) ?? [];
    sums.set(key, [counts + count, total + sum]);
  }
  return Object.fromEntries([...sums].sort(([a], [b]) => (a < b ? -1 : 1)));
}

test('odd names, wrong clocks, huge messages and other traffic: every store holds exactly the true rows', async () => {
  const start = Date.now();
  const year = 365 * 86_400_000;
  const clocks = [start + year, start - year, 0, Date.UTC(9999, 11, 31)];
  const nearlyTooLarge = Array.from({ length: 10_000 }, (_, i) => ({
    name: 'huge',
    type: 'timer',
    value: i,
    tags: { i: i % 5 },
  }));
  const rounds = 3;
  for (let round = 1; round <= rounds; round++) {
    publishHonest(round);
    for (const { name, dimensions } of oddSeries())
      publish({ name, type: 'counter', value: round, dimensions });
    for (const time of clocks)
      publish({ name: 'clock', type: 'gauge', value: round, timestamp: new Date(time).toISOString() });
    publish(nearlyTooLarge);
    publish({ name: 'x'.repeat(MAX_MESSAGE_BYTES), type: 'counter', value: 1 });
    for (let i = 0; i < NOISE_MESSAGES / rounds; i++) bus.publish(`noise.${i % 100}`, 'not a metric');
    publishHonest(-round);
    await bus.flush();
    await sleep(WINDOW_MS / 2);
  }
  // Too large for the bus: it is refused, and nobody else is disturbed.
  const large = await connect({ servers: stack.nats.url });
  expect(() => large.publish('metrics', new Uint8Array(MAX_PAYLOAD_BYTES + 1))).toThrow(/MAX_PAYLOAD/);
  await large.close();
  await untilConfirmed();

  const { truth, lateHonest } = await truthOfStream();
  const { messages, samples } = await service.status();
  expect(messages.received).toBe(sent);
  const unnameable = oddSeries().filter(({ name }) => !isName(name)).length;
  expect(messages.rejected).toMatchObject({ too_large: rounds, bad_name: unnameable * rounds });
  expect(total(messages.rejected)).toBe(rounds * (1 + unnameable));
  expect(samples.byType).toEqual(truth.samples);
  expect([samples.late, samples.ahead]).toEqual([truth.late, truth.ahead]);
  expect([truth.late - lateHonest, truth.ahead]).toEqual([2 * rounds, 2 * rounds]);
  expect(samples.overflowed).toBe(0);
  const rows = [...truth.rows()];
  for (const [id, points] of await stored()) {
    const comparison = await compareWithTruth(rows, asStream(points));
    expect(isEqual(comparison), `${id}: ${JSON.stringify(comparison)}`).toBe(true);
    expect(comparison.points, id).toBe(rows.length);
  }
  const { sinks } = await service.status();
  for (const { id, rejected, up } of sinks) expect([id, up, total(rejected)]).toEqual([id, true, 0]);
});

test('every message has a new series: memory is bounded, and no name loses a sample', async () => {
  const memory = async () =>
    sample(await (await fetch(`${service.url}/metrics`)).text(), 'process_resident_memory_bytes')!;
  const before = await memory();
  const from = new Date().toISOString();
  for (let i = 0; i < FLOOD_MESSAGES; i++) {
    if (i % 100 === 0) publishHonest(i);
    publish({ name: FLOOD, type: 'counter', value: 1, dimensions: { id: `${i}` } });
  }
  await untilConfirmed();
  const { messages, samples, windows } = await service.status();
  expect(messages.received).toBe(sent);
  expect(samples.overflowed).toBeGreaterThan(FLOOD_MESSAGES / 2);
  expect(windows.series).toBeLessThan(MAX_KNOWN_SERIES);
  expect(await memory()).toBeLessThan(before + MAX_GROWTH_BYTES);

  const expected = byName((await truthOfStream()).truth.rows());
  for (const [id, points] of await stored()) {
    expect(byName(points), id).toEqual(expected);
    const perWindow = Map.groupBy(points, ({ windowStart }) => windowStart);
    for (const [window, rows] of perWindow) {
      const names = new Set(rows.map(({ series }) => series.name)).size;
      expect(rows.length, `${id} ${window}`).toBeLessThanOrEqual(MAX_SERIES + names);
    }
  }
  const verify = startProgram(['verify', '--from', from], env);
  expect([await verify.ended, verify.output.stderr]).toEqual([0, '']);
});
