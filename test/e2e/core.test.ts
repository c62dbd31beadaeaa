import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Bus, connect } from '../../src/bus/connect.ts';
import { loadConfig } from '../../src/config/config.ts';
import { freePort } from '../../src/servers/server-process.ts';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import { type Stack, startStack } from '../../src/servers/stack.ts';
import type { StoredPoint } from '../../src/sink/contract.ts';
import { ctl, eventually } from './control-support.ts';
import { WINDOWS } from './support.ts';

let stack: Stack;
let bus: Bus;
const running: ServiceProgram[] = [];
beforeAll(async () => {
  stack = await startStack();
  const silent = { debug() {}, info() {}, warn() {}, error() {} };
  bus = await connect((await loadConfig({ NATS_URL: stack.nats.url })).core, silent);
});
afterAll(async () => {
  await bus?.close();
  await Promise.all(running.map((service) => service.stop('SIGKILL')));
  await stack?.stop();
});

async function start(more: Readonly<Record<string, string>> = {}): Promise<ServiceProgram> {
  const { METRICS_START, ...windows } = WINDOWS;
  const env = { ...stack.env, ...windows, ...more, METRICS_SOURCE: 'core', METRICS_QUEUE_GROUP: 'fanout' };
  const service = await startServiceProgram(env);
  running.push(service);
  return service;
}

/** A subscription is there a moment after the service says that it is attached: until a message comes through. */
async function untilHeard(service: ServiceProgram): Promise<void> {
  const { received } = (await service.status()).messages;
  await eventually('it hears', async () => {
    bus.publish('metrics.core', '{"name":"heard","type":"counter","value":1}');
    return (await service.status()).messages.received > received;
  });
}

async function stored(): Promise<Map<string, StoredPoint[]>> {
  for (const [name, value] of Object.entries(stack.env))
    if (name.startsWith('AWS_')) process.env[name] = value;
  const { sinks } = await loadConfig(stack.env);
  const all = new Map<string, StoredPoint[]>();
  for (const { id, module, values } of sinks) {
    const sink = module.create(values, { id, log: { info() {}, warn() {} } });
    const signal = new AbortController().signal;
    await sink.open(signal);
    all.set(id, await Array.fromAsync(sink.read({ from: 0, to: Date.now() + 60_000 }, signal)));
    await sink.close();
  }
  return all;
}

test('a queue group shares the load; the parts of a window add up in every store, even after restarts', async () => {
  const first = await start();
  await start();
  let sent = 0;
  const send = async (forMs: number) => {
    for (const until = Date.now() + forMs; Date.now() < until; await sleep(5)) {
      for (let i = 0; i < 20; i++) {
        const payload = JSON.stringify({
          name: `core.${i % 5}`,
          type: 'counter',
          value: 2,
          dimensions: { i },
        });
        if (bus.publish('metrics.core', payload)) sent += 1;
      }
    }
    await bus.flush();
  };
  await send(2500);
  // A restart within a window, while the other instance goes on.
  const stopping = first.stop('SIGTERM');
  await send(500);
  expect(await stopping).toBe(0);
  await start();
  await send(2500);
  const shares = await Promise.all(
    running.slice(1).map(async (service) => (await service.status()).messages.received),
  );
  expect(Math.min(...shares)).toBeGreaterThan(0);
  await Promise.all(running.slice(1).map((service) => service.stop('SIGTERM')));

  for (const [id, points] of await stored()) {
    const count = points.reduce((sum, point) => sum + point.count, 0);
    const total = points.reduce((sum, point) => sum + point.sum, 0);
    expect([id, count, total]).toEqual([id, sent, 2 * sent]);
    expect(new Set(points.map(({ instance }) => instance)).size, id).toBe(3);
  }
});

test('samples before and after a detachment add up too', async () => {
  const CONTROL_TOKEN = 'a token of the test';
  const service = await start({ WINDOW: '1h', CONTROL_TOKEN });
  const url = service.url;
  const send = async () => {
    for (let i = 0; i < 100; i++) bus.publish('metrics.core', '{"name":"stays","type":"counter","value":2}');
    await bus.flush();
  };
  await untilHeard(service);
  await send();
  for (const verb of ['detach', 'attach']) {
    expect((await ctl({ CONTROL_TOKEN }, verb, '--url', url)).code).toBe(0);
  }
  await untilHeard(service);
  await send();
  expect(await service.stop()).toBe(0);
  for (const [id, points] of await stored()) {
    const counts = points.filter(({ series }) => series.name === 'stays').map(({ count }) => count);
    expect([id, ...counts]).toEqual([id, 100, 100]);
  }
});

test('a stop logs what it loses, as nothing can be read again', async () => {
  const service = await startServiceProgram({
    NATS_URL: stack.nats.url,
    METRICS_SOURCE: 'core',
    STOP_TIMEOUT: '100ms',
    SINK_CLICKHOUSE_ENABLED: 'true',
    SINK_CLICKHOUSE_URL: `http://127.0.0.1:${await freePort()}`,
  });
  running.push(service);
  await eventually('both are received', async () => {
    for (const name of ['a', 'b'])
      bus.publish('metrics.core', `{"name":"${name}","type":"counter","value":1}`);
    return (await service.status()).messages.received >= 2;
  });
  expect(await service.stop()).toBe(0);
  expect(service.output.stderr).toMatch(
    /"level":"error".*"sink":"clickhouse","points":2,"msg":"points are lost/,
  );
});
