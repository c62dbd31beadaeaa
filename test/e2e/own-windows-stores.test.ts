/**
 * Sinks with windows of their own, names and shaped series at once, in ClickHouse, Prometheus, a stream and an OTLP
 * receiver, each a real one. A store is out of reach for a while, and the service is killed meanwhile.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type ClickHouse, startClickHouse } from '../../src/servers/clickhouse.ts';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { startPrometheusReceiver } from '../../src/servers/prometheus.ts';
import { type Server, temporaryFolder } from '../../src/servers/server-process.ts';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import type { StoredPoint } from '../../src/sink/contract.ts';
import { connect } from '../bus-client.ts';
import { FaultProxy } from '../faults/proxy.ts';
import { KEY, type Receiver, startReceiver } from '../sinks/otlp-receiver.ts';
import { eventually } from './control-support.ts';
import {
  addRow,
  countOf,
  endOf,
  type Summed,
  startTraffic,
  storedPoints,
  verifyConfirmed,
  WINDOWS,
} from './support.ts';

const OWN_MS = 4000;
const STREAM_MS = 6000;
const READABLE = ['clickhouse', 'fine', 'nats', 'prometheus'];
/** Of the names that `load` sends, as they are after the rules. */
const CHOSEN = /^(web\.|queue\.)/;

const folder = temporaryFolder('own-windows-stores');
let nats: NatsServer;
let prometheus: Server;
let clickhouse: ClickHouse;
let receiver: Receiver;
let proxy: FaultProxy;
let service: ServiceProgram | undefined;

beforeAll(async () => {
  const access = { user: 'fanout', password: 'secret' };
  [nats, prometheus, clickhouse, receiver] = await Promise.all([
    startNats(),
    startPrometheusReceiver({ outOfOrder: '1h' }),
    startClickHouse(access),
    startReceiver(),
  ]);
  proxy = await FaultProxy.start(clickhouse.port);
  const client = await connect({ servers: nats.url });
  const { streams } = await client.jetstreamManager();
  await streams.add({ name: 'WINDOWS', subjects: ['fanout.windows.>'] });
  await client.close();
});
afterAll(async () => {
  await service?.stop('SIGKILL');
  await proxy?.stop();
  await Promise.all([nats, prometheus, clickhouse, receiver].map((server) => server?.stop()));
  folder.remove();
});

const env = () => ({
  ...WINDOWS,
  NATS_URL: nats.url,
  METRICS_NAMES: '!cache.*',
  METRICS_DROP_DIMENSIONS: '*: host, region',
  METRICS_RENAME: 'http.*=web.*; *: app=service',
  VERIFY_SHARE: '1',
  VERIFY_REPLAY_SHARE: '1',
  VERIFY_DELAY: '100ms',
  SINK_FINE_ENABLED: 'true',
  SINK_FINE_KIND: 'sqlite',
  SINK_FINE_PATH: `${folder.path}/fine.db`,
  SINK_CLICKHOUSE_ENABLED: 'true',
  SINK_CLICKHOUSE_URL: `http://127.0.0.1:${proxy.port}`,
  SINK_CLICKHOUSE_USER: 'fanout',
  SINK_CLICKHOUSE_PASSWORD: 'secret',
  SINK_CLICKHOUSE_SKETCH: 'true',
  SINK_PROMETHEUS_ENABLED: 'true',
  SINK_PROMETHEUS_URL: `${prometheus.url}/api/v1/write`,
  SINK_OTLP_ENABLED: 'true',
  SINK_OTLP_URL: receiver.url,
  SINK_OTLP_HEADERS: `Api-Key=${KEY}`,
  SINK_NATS_ENABLED: 'true',
  ...Object.fromEntries(
    ['CLICKHOUSE', 'PROMETHEUS', 'OTLP', 'NATS'].flatMap((id) => [
      [`SINK_${id}_WINDOW`, id === 'NATS' ? `${STREAM_MS}ms` : `${OWN_MS}ms`],
      [`SINK_${id}_NAMES`, 'web.*, queue.*'],
    ]),
  ),
});

/** A window on the bus, as JSON. */
interface Stored {
  readonly window_start: number;
  readonly window_ms: number;
  readonly series_id: string;
  readonly count: number;
  readonly sum: number;
  readonly min?: number;
  readonly max?: number;
}

function rowsIn(ownMs: number, points: readonly StoredPoint[]): Map<string, Summed> {
  const rows = new Map<string, Summed>();
  for (const point of points) {
    const { windowStart, series } = point;
    if (!CHOSEN.test(series.name)) continue;
    const key = `${Math.floor(windowStart / ownMs) * ownMs} ${series.id}`;
    rows.set(key, addRow(rows.get(key), point));
  }
  return rows;
}

/** What the stream holds; of a key that is there more than once, the newest message counts. */
async function rowsInStream(): Promise<Map<string, Summed>> {
  const client = await connect({ servers: nats.url });
  const { streams } = await client.jetstreamManager();
  const { last_seq } = (await streams.info('WINDOWS')).state;
  const rows = new Map<string, Summed>();
  for (let seq = 1; seq <= last_seq; seq++) {
    const message = await streams.getMessage('WINDOWS', { seq });
    const { window_start, window_ms, series_id, count, sum, min = null, max = null } = message.json<Stored>();
    expect(window_ms).toBe(STREAM_MS);
    rows.set(`${window_start} ${series_id}`, { count, sum, min, max });
  }
  await client.close();
  return rows;
}

const sorted = <V>(rows: ReadonlyMap<string, V>) => [...rows].sort(([a], [b]) => (a < b ? -1 : 1));
const byKey = (points: readonly StoredPoint[]) =>
  sorted(new Map(points.map((point) => [`${point.windowStart} ${point.series.id}`, point])));

const written = async (id: string) =>
  (await service!.status()).sinks.find((sink) => sink.id === id)?.written ?? 0;

test('every store holds the windows of its own, by the names and rules, after a kill and an outage', async () => {
  service = await startServiceProgram(env());
  const traffic = startTraffic(
    { nats, folder: folder.path },
    ['--rate', '400', '--series', '200', '--late', '0.05'],
    env(),
  );
  await eventually('each wrote a window', async () =>
    (await service!.status()).sinks.every((sink) => sink.written > 0),
  );
  await proxy.refuse();
  const before = await written('prometheus');
  await eventually('the others go on', async () => (await written('prometheus')) > before);
  await service.stop('SIGKILL');
  service = await startServiceProgram(env());
  await eventually('the others go on again', async () => (await written('otlp')) > 0);
  await proxy.pass();
  await sleep(OWN_MS);
  const truth = await traffic.end();
  await service.untilConfirmed(endOf(truth));
  const { sinks } = await service.status();
  for (const { id, verified, dropped, rejected } of sinks)
    expect([id, verified.lastDifference, dropped, rejected]).toEqual([id, null, 0, {}]);
  await service.stop();

  const fine = await storedPoints(env(), 'fine');
  expect(fine.reduce((sum, { count }) => sum + count, 0)).toBe(countOf(truth));
  const dimensions = new Set(fine.flatMap(({ series }) => series.dimensions.map(([key]) => key)));
  expect([...dimensions]).toContain('service');
  for (const gone of ['host', 'region', 'app']) expect([...dimensions]).not.toContain(gone);
  const stored = await storedPoints(env(), 'clickhouse');
  expect(stored.length).toBeGreaterThan(0);
  const read = await (await fetch(`${receiver.url}/read`)).json();
  const others = { prometheus: await storedPoints(env(), 'prometheus'), otlp: read as StoredPoint[] };
  const expected = sorted(rowsIn(OWN_MS, fine));
  for (const [id, points] of Object.entries({ clickhouse: stored, ...others })) {
    const rows = points.map(({ windowStart, series, count, sum, min, max }) => [
      `${windowStart} ${series.id}`,
      { count, sum, min, max },
    ]);
    expect(sorted(new Map(rows as [string, Summed][])), id).toEqual(expected);
    expect(rows.length, id).toBe(expected.length);
  }
  for (const [id, points] of Object.entries(others))
    expect(
      byKey(points).map(([key, { p99, last }]) => [key, p99, last]),
      id,
    ).toEqual(byKey(stored).map(([key, { p99, last }]) => [key, p99, last]));
  expect(sorted(await rowsInStream())).toEqual(sorted(rowsIn(STREAM_MS, fine)));

  const { code, report, stderr } = await verifyConfirmed(
    ['--to', new Date(endOf(truth)).toISOString(), ...READABLE.flatMap((id) => ['--sink', id])],
    env(),
  );
  expect(code, `${stderr} ${JSON.stringify(report)}`).toBe(0);
});
