/** One name gets far too many series: it is folded, and named with its key, and other names are left alone. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { NatsConnection } from 'nats';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startProgram } from '../../src/servers/fanout-program.ts';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import { connect } from '../bus-client.ts';
import { eventually } from './control-support.ts';
import { sample, verifyConfirmed, WINDOW_MS, WINDOWS } from './support.ts';

const USERS = 300;

let folder: string;
let nats: NatsServer;
let client: NatsConnection;
let service: ServiceProgram;
let env: Record<string, string>;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'folded-'));
  nats = await startNats();
  client = await connect({ servers: nats.url });
  env = {
    NATS_URL: nats.url,
    ...WINDOWS,
    MAX_SERIES_BY_NAME: 'http.*=5, *=1000',
    SINK_SQLITE_ENABLED: 'true',
    SINK_SQLITE_PATH: join(folder, 'rows.db'),
    PROBE_INTERVAL: '0s',
  };
  service = await startServiceProgram(env);
});
afterAll(async () => {
  await service?.stop('SIGKILL');
  await client?.close();
  await nats?.stop();
  await rm(folder, { recursive: true, force: true });
});

test('in the log, the status, the metrics and cardinality; and verify finds what it should', async () => {
  const time = Math.floor(Date.now() / WINDOW_MS) * WINDOW_MS;
  const timestamp = new Date(time).toISOString();
  for (let i = 0; i < USERS; i++) {
    const dimensions = { app: 'api', user: `u${i}`, up: i % 2 };
    for (const name of ['http.requests', 'db.queries'])
      client.publish('metrics', JSON.stringify({ name, type: 'counter', value: 1, dimensions, timestamp }));
  }
  await client.flush();
  // All of them count in the windows of the time at which they came.
  await eventually('all are read', async () => (await service.status()).samples.byType.counter === 2 * USERS);
  await eventually('the windows are closed', async () => (await service.status()).windows.open === 0);
  const { windows, samples } = await service.status();
  expect(windows.maxSeriesByName).toEqual(['http.*=5', '*=1000']);
  expect(windows.folded).toHaveLength(1);
  expect(windows.folded[0]).toMatchObject({ name: 'http.requests', type: 'counter', key: 'user' });
  expect(windows.folded[0]!.samples).toBe(samples.overflowed);
  expect(samples.overflowed).toBeGreaterThan(USERS / 2);
  const metrics = await (await fetch(`${service.url}/metrics`)).text();
  const series = 'fanout_samples_folded_total{name="http.requests",key="user"}';
  expect(sample(metrics, series)).toBe(samples.overflowed);
  expect(service.output.stderr).toContain('these names have too many series in a window');
  const cardinality = startProgram(['cardinality'], { HTTP_PORT: '1', ...env });
  expect(await cardinality.ended).toBe(0);
  expect(cardinality.output.stdout).toMatch(
    /http\.requests \(counter\): [\d,]+ samples.*user has [\d,]+ values/,
  );
  await eventually('they are confirmed', async () => {
    const { sinks, windows } = await service.status();
    return sinks[0]!.next === windows.boundary;
  });
  const { report, code } = await verifyConfirmed([], env);
  expect(report!.sinks[0]).toMatchObject({
    windows: { different: 0, unknown: 0 },
    rows: { different: 0, missing: 0 },
  });
  expect(code).toBe(0);
});
