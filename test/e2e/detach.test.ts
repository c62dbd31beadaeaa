/** Three instances of a pipeline get requests; one leaves the bus and comes back. All as the bus itself sees it. */
import { join } from 'node:path';
import type { NatsConnection } from 'nats';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { viewOf } from '../../src/observe/view.ts';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { freePort, temporaryFolder } from '../../src/servers/server-process.ts';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import type { TruthRow } from '../../src/verify/truth.ts';
import { connect } from '../bus-client.ts';
import { type Anything, ask, askEverybody, ctl, ctlOfAll, ended, eventually } from './control-support.ts';
import { endOf, expectEqual, sendTraffic, WINDOWS } from './support.ts';

const folder = temporaryFolder('detach-test');
const services: ServiceProgram[] = [];
const ids: string[] = [];
let nats: NatsServer;
let monitor: string;
let client: NatsConnection;
let env: Record<string, string>;

/** The store of the first instance. Its slice is 0/1, so the store must hold everything. */
const own = () => ({ SINK_SQLITE_ENABLED: 'true', SINK_SQLITE_PATH: join(folder.path, 'a.db') });
const traffic = () =>
  sendTraffic({ folder: folder.path, nats }, ['--count', '6000', '--rate', '6000', '--series', '50']);

beforeAll(async () => {
  const port = await freePort();
  nats = await startNats({ extra: `http: "127.0.0.1:${port}"` });
  monitor = `http://127.0.0.1:${port}`;
  client = await connect({ servers: nats.url, name: 'the test' });
  env = { NATS_URL: nats.url, ...WINDOWS };
  const hole = { SINK_HOLE_ENABLED: 'true', SINK_HOLE_KIND: 'blackhole' };
  services.push(await startServiceProgram({ ...env, ...own() }));
  services.push(...(await Promise.all([1, 2].map(() => startServiceProgram({ ...env, ...hole })))));
  for (const service of services) {
    ids.push((await service.status()).instance);
    await eventually('control is on the bus', async () => (await service.status()).control.onBus);
  }
});
afterAll(async () => {
  await client?.close();
  await Promise.all(services.map((service) => service.stop('SIGKILL')));
  await nats?.stop();
  folder.remove();
});

/** The connections of an instance with their subscriptions, as the server knows them. */
async function connectionsOf(id: string): Promise<{ name: string; subscriptions_list?: string[] }[]> {
  const { connections }: Anything = await (await fetch(`${monitor}/connz?subs=1`)).json();
  return connections.filter(({ name = '' }: Anything) => name.includes(id));
}

async function consumers(): Promise<number> {
  const jetstream: Anything = await (await fetch(`${monitor}/jsz?consumers=1`)).json();
  return jetstream.consumers;
}

const subscriptionsOf = async (id: string) =>
  (await connectionsOf(id)).flatMap(({ subscriptions_list = [] }) => subscriptions_list);

test('every instance answers a request to all, and ctl shows each of them', async () => {
  const answers = await askEverybody(client, 'fanout.control.all.status', { answers: 3 });
  expect(answers.map(({ instance }) => instance).sort()).toEqual([...ids].sort());
  const asked = await ctlOfAll(3, env, 'status', '--json');
  expect(asked.code, asked.stderr).toBe(0);
  expect(asked.answers.map(({ instance }) => instance).sort()).toEqual([...ids].sort());
  const table = await ctlOfAll(3, env, 'status');
  for (const id of ids) expect(table.stdout).toMatch(new RegExp(`^${id}  0/1 +ready `, 'm'));
  expect(table.stdout).not.toContain('\x1b');

  // Only two of them have that sink.
  const paused = await ctlOfAll(3, env, 'pause', 'hole', '--all', '--json');
  expect(paused.code).toBe(1);
  expect(paused.answers).toHaveLength(3);
  const first = paused.answers.find(({ instance }) => instance === ids[0]);
  expect(first).toMatchObject({ ok: false, error: { code: 'unknown_sink' } });
  const resumed = await ctlOfAll(3, env, 'resume', 'hole', '--all', '--json');
  expect(
    resumed.answers.filter(({ result }) => result?.sink === 'hole' && result.paused === false),
  ).toHaveLength(2);
  expect((await ctl(env, 'resume', 'hole', '--instance', ids[1]!)).stdout).toContain('hole is resumed');

  const one = await ctl(env, 'status', '--json', '--instance', ids[1]!);
  expect(one).toMatchObject({ code: 0, answers: [{ instance: ids[1], via: 'bus' }] });
  const another = { body: '{"pipeline":"another"}', answers: 0, instances: 3 };
  expect(await askEverybody(client, 'fanout.control.all.status', another)).toEqual([]);
});

test('a request that changes something needs an address; if nobody is there, it is an error', async () => {
  const vague = await ctl(env, 'detach');
  expect(vague).toMatchObject({ code: 1, stderr: expect.stringContaining('--instance') });
  const nobody = await ctl({ ...env, HTTP_PORT: '1' }, 'status', '--instance', 'nobody', '--timeout', '5s');
  expect(nobody).toMatchObject({
    code: 1,
    stdout: '',
    stderr: expect.stringContaining('no instance nobody'),
  });
  const other = await ctl({ ...env, HTTP_PORT: '1', PIPELINE: 'another' }, 'status', '--timeout', '5s');
  expect(other).toMatchObject({ code: 1, stderr: expect.stringContaining('pipeline another') });
});

test('a detached instance leaves nothing on the bus and answers over its socket; reattached, it has every row', async () => {
  const [id] = ids as [string];
  const [service] = services as [ServiceProgram];
  const local = { ...env, HTTP_PORT: new URL(service.url).port };
  const before: TruthRow[] = await traffic();
  await service.untilConfirmed(endOf(before));
  expect((await subscriptionsOf(id)).length).toBeGreaterThan(20);
  const had = await consumers();

  const detached = await ctl(env, 'detach', '--instance', id, '--json');
  expect(detached, detached.stderr).toMatchObject({
    code: 0,
    answers: [{ instance: id, task: { state: 'done', result: { detached: true } } }],
  });
  await eventually('its connections are closed', async () => (await connectionsOf(id)).length === 0);
  expect(await subscriptionsOf(id)).toEqual([]);
  await eventually('its consumer is gone', async () => (await consumers()) === had - 1);
  expect((await fetch(`${service.url}/readyz`)).status).toBe(503);
  expect(viewOf(await service.status()).headline.text).toContain('Detached from the bus');
  expect((await fetch(`${service.url}/healthz`)).status).toBe(200);

  // With the instance's own environment, ctl finds it together with those on the bus.
  const all = await ctlOfAll(3, local, 'status', '--json');
  expect(all.answers.find(({ instance }) => instance === id)).toMatchObject({
    via: 'socket',
    result: { ready: false, detached: true, sinks: [{ id: 'sqlite', state: 'stopped' }] },
  });
  expect(all.answers).toHaveLength(3);
  const status = await ctl(local, 'status');
  expect(status).toMatchObject({ code: 0, stdout: expect.stringContaining('detached (over its socket)') });
  const overTcp = await ctl(env, 'status', '--url', service.url);
  expect(overTcp).toMatchObject({ code: 1, stdout: expect.stringContaining('CONTROL_TOKEN') });
  const refused = await ctl(
    local,
    'verify',
    '--instance',
    id,
    '--from',
    new Date(Date.now() - 60_000).toISOString(),
  );
  expect(refused).toMatchObject({ code: 1, stdout: expect.stringContaining('detached') });

  const meanwhile = await traffic();
  // To all of them, including the one that is not on the bus.
  const attached = await ctlOfAll(3, local, 'attach', '--all', '--json');
  expect([attached.code, attached.answers.length]).toEqual([0, 3]);
  expect(attached.answers.find(({ instance }) => instance === id)).toMatchObject({
    via: 'socket',
    task: { state: 'done' },
  });
  await service.untilConfirmed(endOf(meanwhile));
  await eventually('it is ready', async () => (await fetch(`${service.url}/readyz`)).ok);
  await eventually('control is on the bus', async () => (await service.status()).control.onBus);
  expect(await ask(client, id, 'status')).toMatchObject({
    ok: true,
    result: { ready: true, detached: false },
  });
  await expectEqual(own(), [...before, ...meanwhile]);
});

test('every instance verifies all that the stream still holds, without being told from when on', async () => {
  const asked = await ctlOfAll(3, env, 'verify', '--all', '--json');
  expect(asked.answers, asked.stderr).toHaveLength(3);
  for (const { ok, task } of asked.answers)
    expect({ ok, task }).toMatchObject({ ok: true, task: { state: 'done' } });
  const first = asked.answers.find(({ instance }) => instance === ids[0]);
  expect(first!.task.result).toMatchObject({ equal: true, sinks: [{ sink: 'sqlite' }] });
  expect(first!.task.result.sinks[0].windows.equal).toBeGreaterThan(0);
  // The other two have a sink that keeps nothing: nobody can say that it is equal.
  expect(asked.code).toBe(1);
});

test('detached with control kept, only control is left', async () => {
  const id = ids[1]!;
  const report = await ended(client, id, await ask(client, id, 'detach', { keepControl: true }));
  expect(report).toMatchObject({ state: 'done', result: { detached: true, keepControl: true } });
  const left = await subscriptionsOf(id);
  expect(left.filter((subject) => !/^(\$SRV|fanout\.control)\./.test(subject))).toEqual([]);
  expect(left.length).toBeGreaterThan(20);
  expect((await connectionsOf(id)).map(({ name }) => name)).toEqual([`metrics-fanout control ${id}`]);
  const [other] = [ids[2]!];
  expect(await ask(client, other, 'status')).toMatchObject({ result: { ready: true } });
  // Attaching twice is allowed.
  for (let i = 0; i < 2; i++) {
    const back = await ended(client, id, await ask(client, id, 'attach'));
    expect(back).toMatchObject({ state: 'done', result: { detached: false } });
  }
  await eventually('it is ready', async () => (await ask(client, id, 'status')).result.ready);
});

test('a pause outlives a detachment', async () => {
  const id = ids[2]!;
  await ask(client, id, 'sink.pause', { sink: 'hole' });
  await ended(client, id, await ask(client, id, 'detach', { keepControl: true }));
  await ended(client, id, await ask(client, id, 'attach'));
  const { result } = await ask(client, id, 'status');
  expect(result.sinks).toMatchObject([{ id: 'hole', paused: true, state: 'paused' }]);
  await ask(client, id, 'sink.resume', { sink: 'hole' });
  await eventually('the sink goes on', async () => {
    const [sink] = (await ask(client, id, 'status')).result.sinks;
    return sink.state === 'live' && !sink.paused;
  });
});

test('without the bus, an attachment waits and can be cancelled; a detached instance can be stopped', async () => {
  const [service] = services as [ServiceProgram];
  const local = { ...env, HTTP_PORT: new URL(service.url).port };
  expect((await ctl(env, 'detach', '--instance', ids[0]!)).code).toBe(0);
  await client.close();
  await nats.halt('SIGKILL');
  const started = await ctl(local, 'attach', '--all', '--no-wait', '--json');
  expect(started).toMatchObject({ code: 0, answers: [{ result: { state: 'running' } }] });
  const task = started.answers[0].result.id;
  expect((await ctl(local, 'cancel', task)).code).toBe(0);
  const over = await ctl(local, 'task', task, '--json');
  expect(over.answers[0].result).toMatchObject({ operation: 'attach', state: 'cancelled' });
  expect(over.code).toBe(1);
  expect(await service.status()).toMatchObject({ detached: true, ready: false });
  expect(await service.stop()).toBe(0);
});
