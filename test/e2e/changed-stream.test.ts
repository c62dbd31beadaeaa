/** Somebody changes the stream while the service runs, like a producer that writes its own configuration. */
import type { NatsConnection } from 'nats';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startProgram } from '../../src/servers/fanout-program.ts';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import { needsNats } from '../bus/server-version.ts';
import { connect } from '../bus-client.ts';
import { LIMIT_MS } from '../limits.ts';
import { eventually } from './control-support.ts';
import { sample, WINDOWS } from './support.ts';

let nats: NatsServer;
let client: NatsConnection;
let service: ServiceProgram;

beforeAll(async () => {
  nats = await startNats();
  client = await connect({ servers: nats.url });
  const sink = { SINK_BLACKHOLE_ENABLED: 'true' };
  service = await startServiceProgram({ NATS_URL: nats.url, ...WINDOWS, ...sink });
});
afterAll(async () => {
  await client?.close();
  await service?.stop('SIGKILL');
  await nats?.stop();
});

const readyz = async () => {
  const response = await fetch(`${service.url}/readyz`);
  return { code: response.status, text: await response.text() };
};
const update = async (config: object) => {
  const { streams } = await client.jetstreamManager({ timeout: LIMIT_MS });
  await streams.update('METRICS', config);
};
const misfits = async () =>
  sample(await (await fetch(`${service.url}/metrics`)).text(), 'fanout_source_misfits_total');

test('fewer subjects: the service is not ready, logs and counts this, and reads what still comes', async () => {
  expect(await misfits()).toBe(0);
  await update({ subjects: ['metrics.telegraf'] });
  await eventually('not ready', async () => (await readyz()).code === 503);
  expect((await readyz()).text).toBe(
    'the stream METRICS does not capture metrics, metrics.> (its subjects: metrics.telegraf)\n',
  );
  expect(service.output.stderr).toMatch(
    /"level":"error".*"advice":"Add metrics, metrics.> to the stream's subjects.*not ready: somebody changed the stream/,
  );
  expect((await service.status()).source).toMatchObject({ misfits: 1 });
  await eventually('counted', async () => (await misfits()) === 1);
  const { received } = (await service.status()).messages;
  client.publish('metrics.telegraf', JSON.stringify({ name: 'a', type: 'counter', value: 1 }));
  await eventually('read', async () => (await service.status()).messages.received > received);
  await update({ subjects: ['metrics', 'metrics.>'] });
  await eventually('ready', async () => (await readyz()).code === 200);
  expect((await service.status()).source).toMatchObject({ unfit: null, misfits: 1 });
});

test('what was counted outlives that the service attaches again', async () => {
  const { source, messages } = await service.status();
  for (const asking of [['detach', '--keep-control'], ['attach']]) {
    const asked = startProgram(['ctl', ...asking, '--all', '--timeout', '1m'], { NATS_URL: nats.url });
    expect(await asked.ended, asked.output.stderr + asked.output.stdout).toBe(0);
  }
  client.publish('metrics.a', JSON.stringify({ name: 'a', type: 'counter', value: 1 }));
  await eventually('read', async () => (await service.status()).messages.received > messages.received);
  await eventually('ready', async () => (await readyz()).code === 200);
  expect(await misfits()).toBe(1);
  const now = await service.status();
  expect(now.source.resumptions).toBeGreaterThanOrEqual(source.resumptions);
});

test('messages stored under other subjects are read', async (context) => {
  needsNats(context, '2.10');
  const { received } = (await service.status()).messages;
  await update({ subject_transform: { src: 'metrics.>', dest: 'stored.>' } });
  client.publish('metrics.a', JSON.stringify({ name: 'a', type: 'counter', value: 1 }));
  await eventually('read', async () => (await service.status()).messages.received > received);
  expect((await readyz()).code).toBe(200);
});
