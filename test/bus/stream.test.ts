import { RetentionPolicy, type StreamConfig } from 'nats';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { BusError } from '../../src/bus/bus-error.ts';
import type { Bus } from '../../src/bus/connect.ts';
import { connect } from '../../src/bus/connect.ts';
import { describeStream, ensureStream, manager } from '../../src/bus/stream.ts';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { deleteAllStreams } from './deleted-streams.ts';
import { needsNats, repliesTaken } from './server-version.ts';
import { busAt, memoryLog, publishStored, settings } from './support.ts';

let nats: NatsServer;
let bus: Bus;

beforeAll(async () => {
  nats = await startNats();
  bus = await busAt(nats.url);
});
afterEach(async () => {
  await deleteAllStreams(nats, (await manager(bus)).streams);
});
afterAll(async () => {
  await bus.close();
  await nats.stop();
});

const core = settings({ METRICS_STREAM_MAX_AGE: '90m' });
const add = async (config: Partial<StreamConfig> & { name: string }) =>
  (await manager(bus)).streams.add(config);

async function refusal(of: Promise<unknown>): Promise<BusError> {
  const error = await of.then(
    () => new Error('it was accepted'),
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(BusError);
  return error as BusError;
}

test('the stream is created if it is missing, with the limits of the settings', async () => {
  expect((await refusal(describeStream(bus, core))).message).toBe('there is no stream METRICS');
  const made = await ensureStream(bus, core);
  expect(made).toMatchObject({ firstSequence: 1, lastSequence: 0, maxAgeMs: 5_400_000, maxBytes: 2 ** 29 });
  const { config } = await (await manager(bus)).streams.info('METRICS');
  expect(config).toMatchObject({
    storage: 'file',
    retention: 'limits',
    discard: 'old',
    subjects: ['metrics', 'metrics.>'],
  });
  expect(config.no_ack ?? false).toBe(false);
});

test('nobody can make it lose messages with a reply subject', async () => {
  await ensureStream(bus, core);
  await publishStored(bus, 0, 3);
  const { streams } = await manager(bus);
  await expect(streams.purge('METRICS')).rejects.toThrow('not permitted');
  await expect(streams.deleteMessage('METRICS', 1)).rejects.toThrow('not permitted');
  const replies = ['$JS.API.STREAM.PURGE.METRICS', '$JS.API.STREAM.DELETE.METRICS'];
  for (const reply of replies) bus.connection.publish('metrics.a', '4', { reply });
  await publishStored(bus, 5, 6);
  const { length } = await repliesTaken(bus.connection, replies);
  expect(await describeStream(bus, core)).toMatchObject({ messages: 4 + length, firstSequence: 1 });
});

test('with METRICS_STREAM_NO_ACK, it acknowledges nothing, whatever the reply subject', async () => {
  const silent = settings({ METRICS_STREAM_NO_ACK: 'true' });
  await ensureStream(bus, silent);
  const scratch = await add({ name: 'SCRATCH', subjects: ['scratch'] });
  for (const reply of ['scratch', 'metrics.b']) bus.connection.publish('metrics.a', '1', { reply });
  await bus.flush();
  await expect.poll(async () => (await describeStream(bus, silent)).messages).toBe(2);
  expect((await (await manager(bus)).streams.info(scratch.config.name)).state.messages).toBe(0);
});

test('it can be created by many at once', async () => {
  const buses = await Promise.all([1, 2, 3, 4].map(() => busAt(nats.url)));
  const ages = ['1h', '2h', '3h', '4h'].map((age) => settings({ METRICS_STREAM_MAX_AGE: age }));
  const all = await Promise.all(buses.map((each, i) => ensureStream(each, ages[i]!)));
  expect(new Set(all.map(({ maxAgeMs }) => maxAgeMs)).size).toBe(1);
  await Promise.all(buses.map((each) => each.close()));
});

test('an existing stream is never changed; its facts are returned', async () => {
  await add({ name: 'METRICS', subjects: ['metrics.>', 'metrics', 'more'], max_msgs: 100 });
  const before = (await (await manager(bus)).streams.info('METRICS')).config;
  const start = Date.now();
  await publishStored(bus, 0, 150);
  const facts = await ensureStream(bus, core);
  expect(facts).toMatchObject({ messages: 100, firstSequence: 51, lastSequence: 150, maxMessages: 100 });
  expect(facts.maxAgeMs).toBeUndefined();
  expect(facts.firstTime).toBeGreaterThan(start - 5_000);
  expect((await (await manager(bus)).streams.info('METRICS')).config).toEqual(before);
  await (await manager(bus)).streams.purge('METRICS');
  expect(await describeStream(bus, core)).toMatchObject({
    messages: 0,
    firstSequence: 151,
    lastSequence: 150,
  });
});

describe('an existing stream is refused', () => {
  test('if it does not capture all subjects', async () => {
    await add({ name: 'METRICS', subjects: ['metrics.*'] });
    const error = await refusal(ensureStream(bus, core));
    expect(error.message).toContain('does not capture metrics, metrics.>');
    expect(error.advice).toContain("Add metrics, metrics.> to the stream's subjects");
  });

  test.each([RetentionPolicy.Workqueue, RetentionPolicy.Interest])(
    'if it has %s retention',
    async (retention) => {
      await add({ name: 'METRICS', subjects: ['metrics', 'metrics.>'], retention });
      expect((await refusal(ensureStream(bus, core))).message).toContain(`${retention} retention`);
    },
  );

  test('if it is a mirror with a filter', async (context) => {
    needsNats(context, '2.10');
    await add({ name: 'ORIGIN', subjects: ['metrics', 'metrics.>'] });
    await add({ name: 'METRICS', mirror: { name: 'ORIGIN', filter_subject: 'metrics.a' } });
    const { message, advice } = await refusal(ensureStream(bus, core));
    expect(message).toContain('is a mirror of some subjects of ORIGIN');
    expect(advice).toContain('a stream with ORIGIN as a source');
  });

  test('if it is sealed', async () => {
    await add({ name: 'METRICS', subjects: ['metrics', 'metrics.>'] });
    await (await manager(bus)).streams.update('METRICS', { sealed: true } as object);
    expect((await refusal(ensureStream(bus, core))).message).toContain('sealed');
  });

  test('if another stream has the subjects', async () => {
    await add({ name: 'OTHER', subjects: ['metrics.>'] });
    const error = await refusal(ensureStream(bus, core));
    expect(error.message).toContain('another stream, OTHER,');
    expect(error.advice).toContain('METRICS_STREAM to OTHER');
  });
});

async function withServer(options: Parameters<typeof startNats>[0], run: (bus: Bus) => Promise<void>) {
  const server = await startNats(options);
  const own = await busAt(server.url);
  await run(own).finally(async () => {
    await own.close();
    await server.stop();
  });
}

test('a server without JetStream', async () => {
  await withServer({ jetstream: false }, async (own) => {
    const error = await refusal(ensureStream(own, core));
    expect(error.message).toContain('no JetStream');
    expect(error.advice).toContain('METRICS_SOURCE=core');
  });
});

test('a server with too little storage', async () => {
  await withServer({ maxStoreBytes: 64 * 1024 * 1024 }, async (own) => {
    const error = await refusal(ensureStream(own, settings({ METRICS_STREAM_MAX_BYTES: '8GiB' })));
    expect(error.message).toContain('no room for 8589934592 bytes');
    expect(error.advice).toContain('Lower METRICS_STREAM_MAX_BYTES');
  });
});

test('an account without JetStream, and a user without permission', async () => {
  const extra = `accounts {
    A { users: [ { user: a, password: a } ] }
    B { jetstream: enabled, users: [ { user: b, password: b, permissions: { publish: [ "metrics" ] } } ] }
  }`;
  const server = await startNats({ extra });
  const log = memoryLog();
  const as = (user: string) =>
    connect(settings({ NATS_URL: server.url, NATS_USER: user, NATS_PASSWORD: user }), log);
  const [a, b] = await Promise.all([as('a'), as('b')]);
  expect((await refusal(ensureStream(a, core))).advice).toContain('Enable JetStream');
  expect((await refusal(ensureStream(b, core))).message).toContain('does not permit it');
  expect(b.stats.permissionErrors).toBeGreaterThan(0);
  expect(log.lines.find(({ message }) => message === 'the bus does not permit a subject')).toMatchObject({
    level: 'error',
    fields: { operation: 'publish', subject: expect.stringContaining('$JS.API.') },
  });
  await Promise.all([a.close(), b.close()]);
  await server.stop();
});
