/** The permissions in examples/nats/metrics-fanout.conf are enough for every user, and no more than enough. */

import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { OPERATIONS } from '../../src/control/request.ts';
import { startProgram } from '../../src/servers/fanout-program.ts';
import type { NatsServer } from '../../src/servers/nats.ts';
import { freePort, temporaryFolder } from '../../src/servers/server-process.ts';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import { repliesTaken } from '../bus/server-version.ts';
import { LIMIT_MS } from '../limits.ts';
import { as, Client, ELSEWHERE, SCRATCH, startExampleBus, type User } from './bus-users.ts';
import { ask, ctlOfAll, ended, eventually } from './control-support.ts';
import { WINDOWS } from './support.ts';

const MESSAGES = 500;
const folder = temporaryFolder('permissions');
const sqlite = (id: string) => ({
  [`SINK_${id}_ENABLED`]: 'true',
  [`SINK_${id}_KIND`]: 'sqlite',
  [`SINK_${id}_PATH`]: join(folder.path, `${id}.db`),
});
const onEarly = { ...WINDOWS, ...sqlite('EARLY') };
const onBoth = { ...onEarly, ...sqlite('LATE') };
const clients: Client[] = [];
let nats: NatsServer;
let service: ServiceProgram;
let setup: Client;
let producer: Client;

async function client(user: User): Promise<Client> {
  const made = await Client.connect(user, nats);
  clients.push(made);
  return made;
}

async function produce(): Promise<void> {
  for (let i = 0; i < MESSAGES; i++)
    producer.connection.publish('metrics.test', `{"name":"n${i % 7}","type":"counter","value":1}`);
  await producer.connection.flush();
}

async function run(user: User, ...args: string[]) {
  const program = startProgram(args, { ...as(user, nats), ...onBoth });
  return { code: await program.ended, ...program.output };
}

const lastSequence = async (stream: string) =>
  (await (await setup.connection.jetstreamManager({ timeout: LIMIT_MS })).streams.info(stream)).state
    .last_seq;

beforeAll(async () => {
  nats = await startExampleBus();
  const first = await startServiceProgram({
    ...as('setup', nats),
    ...onEarly,
    METRICS_STREAM_NO_ACK: 'true',
  });
  await first.stop();
  [setup, producer] = [await client('setup'), await client('producer')];
  await produce();
  service = await startServiceProgram({ ...as('fanout', nats), ...onBoth });
  await eventually('control is on the bus', async () => (await service.status()).control.onBus);
});
afterAll(async () => {
  await Promise.all(clients.map(({ connection }) => connection.close()));
  await service?.stop('SIGKILL');
  await nats?.stop();
  folder.remove();
});

test('the service reads, catches up, keeps its checkpoints, verifies and replays, and the bus refuses it nothing', async () => {
  await produce();
  await service.untilConfirmed(Date.now() + 1000);
  // This is checked now because saving a checkpoint may fail while the server is down.
  expect((await service.status()).sinks).toMatchObject([
    { checkpointFailures: 0 },
    { checkpointFailures: 0 },
  ]);
  // When the server is back, the service asks for the last message that it read.
  await nats.halt();
  await nats.resume();
  await eventually('the producer is back', () =>
    producer.connection.rtt().then(
      () => true,
      () => false,
    ),
  );
  await produce();
  await service.untilConfirmed(Date.now() + 1000);
  expect((await service.status()).ready).toBe(true);
  const from = new Date(Date.now() - 60_000).toISOString();
  expect(await run('fanout', 'replay', '--sink', 'late', '--from', from)).toMatchObject({ code: 0 });
  expect(await run('fanout', 'verify', '--from', from)).toMatchObject({ code: 0, stderr: '' });
  expect(await run('fanout', 'checkpoint', 'list')).toMatchObject({ code: 0, stderr: '' });
  const reset = await run('fanout', 'checkpoint', 'reset', '--sink', 'late', '--yes');
  const { instance } = await service.status();
  expect(reset, reset.stdout).toMatchObject({ code: 1, stderr: expect.stringContaining(instance) });
  const held = (await service.status()).messages;
  expect(held.received).toBe(3 * MESSAGES);
  expect(service.output.stderr).not.toMatch(/PERMISSIONS|"level":"error"/);
});

test('an operator may do everything', async () => {
  const { connection } = await client('operator');
  for (const operation of ['sink.pause', 'sink.resume'])
    expect(await ask(connection, 'all', operation, { sink: 'late' })).toMatchObject({ ok: true });
  // This ctl finds the instance on the bus, and gets the end of the task there.
  const env = { ...as('operator', nats), HTTP_PORT: '1' };
  const detached = await ctlOfAll(1, env, 'detach', '--all', '--keep-control', '--json');
  expect(detached).toMatchObject({ code: 0, stderr: '', answers: [{ task: { state: 'done' } }] });
  const answer = await ask(connection, 'all', 'attach');
  expect(await ended(connection, 'all', answer)).toMatchObject({ state: 'done' });
});

test('a viewer may look, and do nothing else', async () => {
  const viewer = await client('viewer');
  expect(await ask(viewer.connection, 'all', 'status')).toMatchObject({ ok: true });
  for (const operation of ['config', 'query', 'cardinality'])
    expect(await ask(viewer.connection, 'all', operation)).toMatchObject({ ok: true });
  const more = ['sink.pause', 'replay', 'detach', 'profile.heap', 'task.cancel'];
  const subjects = more.map((operation) => `fanout.control.all.${operation}`);
  expect(await viewer.publishes([...subjects, 'metrics', 'fanout.control.events.x'])).toEqual([]);
  expect(await viewer.subscribes(['metrics.>', '_INBOX.fanout.>', '_INBOX.operator.>'])).toEqual([]);
});

test('a producer may publish metrics and do nothing else', async () => {
  const { instance } = await service.status();
  const control = ['fanout.control.all.sink.pause', `fanout.control.${instance}.detach`];
  const api = ['$JS.API.STREAM.DELETE.METRICS', '$KV.fanout-checkpoints.default.early.0-1'];
  expect(await producer.publishes(['orders', ...control, ...api], '{"sink":"late"}')).toEqual([]);
  expect(await producer.subscribes(['>', 'metrics.>', 'orders', '_INBOX.>', '_INBOX.fanout.>'])).toEqual([]);
  // The account of the other applications may publish to these subjects, but nobody there listens.
  const apps = await client('apps');
  expect(await apps.publishes(control, '{"sink":"late"}')).toEqual(control);
  const [paused, detached] = [(await service.status()).sinks.map((sink) => sink.paused), false];
  expect({ paused, detached }).toEqual({ paused: [false, false], detached: false });
});

test('with the credentials of the service, one may read metrics, but not publish them, nor touch anything else', async () => {
  const jsm = await setup.connection.jetstreamManager();
  await jsm.streams.add({ name: 'OTHER', subjects: ['other.>', '$KV.other.>'] });
  const before = await lastSequence('METRICS');
  const apps = await client('apps');
  const heard: string[] = [];
  apps.connection.subscribe('>', { callback: (_, { subject }) => heard.push(subject) });
  const rogue = await client('fanout');
  const streams = ['DELETE', 'PURGE', 'UPDATE', 'CREATE', 'SNAPSHOT'].flatMap((verb) =>
    ['METRICS', 'OTHER', 'KV_fanout-checkpoints'].map((stream) => `$JS.API.STREAM.${verb}.${stream}`),
  );
  const read = ['STREAM.INFO', 'STREAM.MSG.GET', 'DIRECT.GET', 'CONSUMER.CREATE', 'CONSUMER.DURABLE.CREATE'];
  const other = read.map((verb) => `$JS.API.${verb}.OTHER`);
  const more = ['metrics', 'metrics.a', 'other.a', '$KV.other.a', 'fanout.control.all.detach', 'orders'];
  expect(await rogue.publishes([...streams, ...other, ...more])).toEqual([]);
  const closed = ['>', 'other.>', 'orders', '$KV.>', '$JS.API.>', '$JS.>', '_INBOX.>', '_INBOX.operator.>'];
  expect(await rogue.subscribes(closed)).toEqual([]);
  expect(await rogue.subscribes(['metrics', 'metrics.>'])).toEqual(['metrics', 'metrics.>']);
  // A consumer may have messages delivered elsewhere in its own account, but not outside of it.
  const delivered = Promise.withResolvers<void>();
  setup.connection.subscribe('_INBOX.setup.rogue', { callback: () => delivered.resolve() });
  await setup.connection.flush();
  for (const deliver_subject of ['orders', '_INBOX.setup.rogue']) {
    const config = { deliver_subject, ack_policy: 'none', deliver_policy: 'all' };
    const request = JSON.stringify({ stream_name: 'METRICS', config });
    await rogue.connection.request('$JS.API.CONSUMER.CREATE.METRICS', request, { timeout: LIMIT_MS });
  }
  await delivered.promise;
  await apps.connection.flush();
  expect(heard).toEqual([]);
  expect([await lastSequence('METRICS'), await lastSequence('OTHER')]).toEqual([before, 0]);
});

test('whatever the reply subject of a permitted request, nothing changes there', async () => {
  const jsm = await setup.connection.jetstreamManager({ timeout: LIMIT_MS });
  await jsm.streams.add(SCRATCH);
  const { instance } = await service.status();
  const operations = Object.keys(OPERATIONS);
  const control = ['all', instance].flatMap((target) =>
    operations.map((operation) => `fanout.control.${target}.${operation}`),
  );
  const isLook = (subject: string) =>
    /\.(status|config|query|cardinality)$/.test(subject) && !subject.includes('task');
  const metrics = ['metrics', 'metrics.scratch'];
  const requests: Partial<Record<User, string[]>> = {
    producer: metrics,
    apps: [...metrics, 'orders', '$SRV.PING', '$JS.API.STREAM.INFO.METRICS', ...control],
    operator: [...control, '$SRV.PING.metrics-fanout'],
    viewer: [...control.filter(isLook), '$SRV.PING.metrics-fanout'],
  };
  const before = { metrics: await lastSequence('METRICS'), ...(await service.status()).control };
  const taken = await repliesTaken((await client('apps')).connection, ELSEWHERE);
  let published = 0;
  const body = JSON.stringify({ sink: 'late', from: new Date().toISOString() });
  for (const [user, subjects] of Object.entries(requests)) {
    const { connection } = await client(user as User);
    for (const reply of ELSEWHERE) {
      for (const subject of subjects) connection.publish(subject, body, { reply });
      if (taken.includes(reply)) published += subjects.filter((subject) => metrics.includes(subject)).length;
    }
    await connection.flush();
  }
  await eventually(
    'the metrics are stored',
    async () => (await lastSequence('METRICS')) >= before.metrics + published,
  );
  const inBucket = await jsm.streams.info('KV_fanout-checkpoints', { subjects_filter: '$KV.*.scratch.>' });
  expect(inBucket.state.subjects ?? {}).toEqual({});
  expect([await lastSequence('METRICS'), await lastSequence('SCRATCH')]).toEqual([
    before.metrics + published,
    0,
  ]);
  expect((await jsm.streams.info('METRICS')).state.first_seq).toBe(1);
  // Every request of operator and viewer arrived, and was ignored.
  const heard = taken.length * (requests.operator!.length + requests.viewer!.length);
  await eventually('all are counted', async () => {
    const { unanswered } = (await service.status()).control;
    return unanswered - before.unanswered >= heard;
  });
  const { sinks, detached, control: after } = await service.status();
  expect({ detached, paused: sinks.map(({ paused }) => paused) }).toEqual({
    detached: false,
    paused: [false, false],
  });
  expect(after.tasksRunning).toBe(0);
});

test('in core mode the same user is enough', async () => {
  const { METRICS_START, ...windows } = WINDOWS;
  const env = { ...as('fanout', nats), ...windows, ...sqlite('CORE'), METRICS_SOURCE: 'core' };
  const core = await startServiceProgram({ ...env, PIPELINE: 'core' });
  await produce();
  await eventually(
    'all messages are received',
    async () => (await core.status()).messages.received === MESSAGES,
  );
  await eventually('they are written', async () => (await core.status()).sinks[0]!.written === 7);
  expect(await core.stop()).toBe(0);
  expect(core.output.stderr).not.toMatch(/PERMISSIONS|"level":"error"/);
});

test('behind a leaf node, the same subjects under the prefix of the domain are enough', async () => {
  const port = await freePort();
  const authorization = 'authorization { user: leaf, password: leaf, account: METRICS }';
  const listening = `\nleafnodes { listen: "127.0.0.1:${port}", ${authorization} }`;
  const hub = await startExampleBus((text) => text + listening, { domain: 'hub' });
  const remotes = `\nleafnodes { remotes [ { url: "nats-leaf://leaf:leaf@127.0.0.1:${port}", account: METRICS } ] }`;
  const inDomain = (text: string) =>
    text.replace(/"\$JS\.API/g, '"$JS.hub.API').replace(/"\$KV/g, '"$JS.hub.API.$KV') + remotes;
  const leaf = await startExampleBus(inDomain, { domain: 'leaf' });
  const env = { ...onEarly, NATS_JETSTREAM_DOMAIN: 'hub', PIPELINE: 'domain' };
  await eventually('the leaf node has found its hub, and everything is created', async () => {
    const first = startProgram(['run'], { ...as('setup', leaf), ...env, HTTP_PORT: '0' });
    await eventually('the service has ended or is up', async () =>
      /is up|"level":"error"/.test(first.output.stderr),
    );
    return (await first.stop()) === 0;
  });
  const other = await startServiceProgram({ ...as('fanout', leaf), ...env });
  await other.untilConfirmed(Date.now() + 1000);
  expect((await other.status()).sinks).toMatchObject([{ checkpointFailures: 0 }]);
  expect(await other.stop()).toBe(0);
  expect(other.output.stderr).not.toMatch(/PERMISSIONS|"level":"error"/);
  await Promise.all([leaf.stop(), hub.stop()]);
});

test('if the bus refuses control, the log says so once, and data keeps flowing', async () => {
  const bus = await startExampleBus((text) => text.replace(/"\$SRV[^"]*"|"fanout\.control\.>"/g, ''));
  const env = { ...as('fanout', bus), METRICS_SOURCE: 'core' };
  const other = await startServiceProgram({ ...env, ...onEarly });
  await other.untilConfirmed(Date.now() + 1000);
  await eventually('it is logged', async () => other.output.stderr.includes('no control over the bus'));
  expect(await other.status()).toMatchObject({ ready: true, control: { enabled: true, onBus: false } });
  expect(other.output.stderr.match(/no control over the bus/g)).toHaveLength(1);
  expect(other.output.stderr).not.toContain('"level":"error"');
  expect(await other.stop()).toBe(0);
  await bus.stop();
});
