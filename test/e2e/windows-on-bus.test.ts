/** The windows back on the bus: the service publishes them, and `verify` finds every one in the stream. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { loadConfig } from '../../src/config/config.ts';
import { ConfigError } from '../../src/config/config-error.ts';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { temporaryFolder } from '../../src/servers/server-process.ts';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import { connect } from '../bus-client.ts';
import { LIMIT_MS } from '../limits.ts';
import { endOf, sendTraffic, verifyConfirmed, WINDOWS } from './support.ts';

let nats: NatsServer;
let service: ServiceProgram | undefined;
const folder = temporaryFolder('windows-on-bus');

beforeAll(async () => {
  nats = await startNats();
});
afterAll(async () => {
  await service?.stop();
  await nats?.stop();
  folder.remove();
});

test('every window is in the stream that captures them, once, also after a restart in the middle', async () => {
  const env = { NATS_URL: nats.url, ...WINDOWS, SINK_NATS_ENABLED: 'true' };
  const connection = await connect({ servers: nats.url });
  const { streams } = await connection.jetstreamManager();
  await streams.add({ name: 'WINDOWS', subjects: ['fanout.windows.>'] });
  service = await startServiceProgram(env);
  const traffic = sendTraffic({ nats, folder: folder.path }, ['--rate', '300', '--duration', '4s']);
  const stored = async () => (await streams.info('WINDOWS')).state.messages;
  await expect.poll(stored, { timeout: LIMIT_MS }).toBeGreaterThan(0);
  await service.stop('SIGKILL');
  service = await startServiceProgram(env);
  const truth = await traffic;
  await service.untilConfirmed(endOf(truth));
  const { code, report } = await verifyConfirmed(['--to', new Date(endOf(truth)).toISOString()], env);
  expect(report?.sinks).toMatchObject([
    {
      sink: 'nats',
      windows: { different: 0, unknown: 0 },
      rows: { equal: truth.length, missing: 0, extra: 0 },
    },
  ]);
  expect(code).toBe(0);
  // The windows that were written again when the service came back are there once.
  expect(await stored()).toBe(truth.length);
  await connection.close();
});

test('subjects that the service reads are refused with the settings', async () => {
  const env = { SINK_W_ENABLED: 'true', SINK_W_KIND: 'nats', SINK_W_SUBJECT: 'metrics.windows' };
  const error = await loadConfig(env).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(ConfigError);
  expect((error as ConfigError).errors).toMatchObject([
    { variable: 'SINK_W_SUBJECT', expected: expect.stringContaining('metrics.>') },
  ]);
  await expect(loadConfig({ ...env, METRICS_SUBJECTS: 'samples.>' })).resolves.toBeDefined();
});
