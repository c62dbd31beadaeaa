/** Third-party stores side by side: real ones that can be read, and a receiver that cannot. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type ClickHouse, startClickHouse } from '../../src/servers/clickhouse.ts';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { startPrometheusReceiver } from '../../src/servers/prometheus.ts';
import { type Server, temporaryFolder } from '../../src/servers/server-process.ts';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import { KEY, type Receiver, startReceiver } from '../sinks/otlp-receiver.ts';
import { countOf, endOf, sendTraffic, verifyConfirmed, WINDOWS } from './support.ts';

const folder = temporaryFolder('third-party');
const servers: Server[] = [];
let nats: NatsServer;
let clickhouse: ClickHouse;
let prometheus: Server;
let receiver: Receiver;
let service: ServiceProgram;
let env: Record<string, string>;

beforeAll(async () => {
  nats = await startNats();
  clickhouse = await startClickHouse({ user: 'fanout', password: 'secret' });
  prometheus = await startPrometheusReceiver({ outOfOrder: '1h' });
  receiver = await startReceiver();
  servers.push(nats, clickhouse, prometheus, receiver);
  env = {
    ...WINDOWS,
    NATS_URL: nats.url,
    SINK_CLICKHOUSE_ENABLED: 'true',
    SINK_CLICKHOUSE_URL: clickhouse.url,
    SINK_CLICKHOUSE_USER: 'fanout',
    SINK_CLICKHOUSE_PASSWORD: 'secret',
    SINK_PROMETHEUS_ENABLED: 'true',
    SINK_PROMETHEUS_URL: `${prometheus.url}/api/v1/write`,
    SINK_OTLP_ENABLED: 'true',
    SINK_OTLP_URL: receiver.url,
    SINK_OTLP_HEADERS: `api-key=${KEY}`,
  };
  service = await startServiceProgram(env);
});
afterAll(async () => {
  await service?.stop('SIGKILL');
  await Promise.all(servers.map((server) => server.stop()));
  folder.remove();
});

test('readable stores hold every row, and the other one was sent every row; verify tells them apart', async () => {
  const args = ['--count', '12000', '--rate', '4000', '--series', '100', '--late', '0.05'];
  const truth = await sendTraffic({ folder: folder.path, nats }, args);
  await service.untilConfirmed(endOf(truth));
  const to = new Date(endOf(truth)).toISOString();
  const { code, report } = await verifyConfirmed(['--to', to], env);
  expect(report!.sinks.map(({ sink }) => sink)).toEqual(['clickhouse', 'otlp', 'prometheus']);
  const [ofClickHouse, ofOtlp, ofPrometheus] = report!.sinks;
  for (const { sink, windows, rows } of [ofClickHouse!, ofPrometheus!]) {
    expect(windows, sink).toMatchObject({ different: 0, unknown: 0, unconfirmed: 0 });
    expect(rows, sink).toEqual({ equal: truth.length, missing: 0, extra: 0, different: 0 });
  }
  expect(ofOtlp!.windows).toMatchObject({ equal: 0, different: 0 });
  expect(ofOtlp!.windows.unknown).toBe(ofClickHouse!.windows.equal);
  expect(code).toBe(1);
  const counts = receiver.received().filter(({ metric }) => metric.endsWith('.count'));
  expect(counts).toHaveLength(truth.length);
  expect(counts.reduce((sum, { value }) => sum + value, 0)).toBe(countOf(truth));
  expect(await service.stop()).toBe(0);
});
