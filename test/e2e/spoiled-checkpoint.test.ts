/** Garbage in the key of a checkpoint: its sink stops, with a message; the service and the other sinks go on. */
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { KV, NatsConnection } from 'nats';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startProgram } from '../../src/servers/fanout-program.ts';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { temporaryFolder } from '../../src/servers/server-process.ts';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import { connect } from '../bus-client.ts';
import { LIMIT_MS } from '../limits.ts';
import { eventually } from './control-support.ts';
import { sample, WINDOWS } from './support.ts';

const GARBAGE = '{"next":';
const key = 'default.ill.0-1';
const folder = temporaryFolder('spoiled');
const file = (id: string) => join(folder.path, `${id}.db`);
const sqlite = (id: string) => ({
  [`SINK_${id}_ENABLED`]: 'true',
  [`SINK_${id}_KIND`]: 'sqlite',
  [`SINK_${id}_PATH`]: file(id),
});
let nats: NatsServer;
let client: NatsConnection;
let bucket: KV;
let service: ServiceProgram;
let sent = 0;

beforeAll(async () => {
  nats = await startNats();
  client = await connect({ servers: nats.url });
  service = await startServiceProgram(env());
  bucket = await client.jetstream().views.kv('fanout-checkpoints');
});
afterAll(async () => {
  await client?.close();
  await service?.stop('SIGKILL');
  await nats?.stop();
  folder.remove();
});

const env = () => ({ NATS_URL: nats.url, ...WINDOWS, ...sqlite('WELL'), ...sqlite('ILL') });
const sink = async (id: string) => (await service.status()).sinks.find((each) => each.id === id)!;

async function publish(): Promise<void> {
  for (let i = 0; i < 10; i++) client.publish('metrics', '{"name":"n","type":"counter","value":1}');
  sent += 10;
  await client.flush();
}

function counted(id: string): number {
  const database = new DatabaseSync(file(id), { readOnly: true, timeout: LIMIT_MS });
  try {
    return Number(database.prepare('SELECT sum(count) AS n FROM points').get()?.n ?? 0);
  } finally {
    database.close();
  }
}

/** `isKnown`: whether the service itself knows how far the sink is. */
async function stoppedAndHeld(isKnown: boolean): Promise<void> {
  await eventually('the sink is stopped', async () => (await sink('ill')).state === 'stopped');
  const before = counted('ILL');
  await publish();
  await eventually('the other sink has everything', async () => counted('WELL') === sent);
  expect(await sink('ill')).toMatchObject({
    state: 'stopped',
    up: false,
    next: null,
    lastFailure: {
      reason: 'checkpoint',
      message: expect.stringContaining(`nats kv del fanout-checkpoints ${key}`),
    },
  });
  expect(await service.status()).toMatchObject({ ready: true });
  const metrics = await (await fetch(`${service.url}/metrics`)).text();
  expect(sample(metrics, 'fanout_sink_up{sink="ill"}')).toBe(0);
  expect(sample(metrics, 'fanout_sink_up{sink="well"}')).toBe(1);
  const lag = isKnown ? expect.any(Number) : null;
  expect(await sink('ill')).toMatchObject({
    lagSeconds: lag,
    safeUntil: isKnown ? expect.any(String) : null,
  });
  // If nobody knows, it is what is at least true: the alert on it must come.
  expect(sample(metrics, 'fanout_sink_lag_seconds{sink="ill"}')).toBeGreaterThan(0);
  const shown = startProgram(['compare', '--once', '--url', service.url], {});
  await shown.ended;
  expect(shown.output.stdout).toContain('ill is stopped. Checkpoint: ');
  expect(shown.output.stdout.includes('Lag: not known')).toBe(!isKnown);
  expect(counted('ILL')).toBe(before);
  expect((await bucket.get(key))?.string()).toBe(GARBAGE);
  expect(service.output.stderr).toMatch(
    /"level":"error".*the sink is stopped: its checkpoint cannot be read/,
  );
}

test('while the service runs: once the key is deleted, the sink continues where it was', async () => {
  await publish();
  await service.untilConfirmed(Date.now() + 500);
  await bucket.put(key, GARBAGE);
  await publish();
  await stoppedAndHeld(true);
  await bucket.delete(key);
  await eventually('the sink has caught up', async () => counted('ILL') === sent && (await sink('ill')).up);
});

test('at the start: the service starts without the sink, and never overwrites the key', async () => {
  await service.stop();
  await bucket.put(key, GARBAGE);
  service = await startServiceProgram(env());
  await stoppedAndHeld(false);
  await service.stop();
  expect((await bucket.get(key))?.string()).toBe(GARBAGE);
  service = await startServiceProgram(env());
  await bucket.delete(key);
  await publish();
  await eventually('the sink is filled from METRICS_START on', async () => counted('ILL') === sent);
  await eventually('the sink is up', async () => (await sink('ill')).up);
});
