import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { BusError } from '../../../src/bus/bus-error.ts';
import { type Bus, connect } from '../../../src/bus/connect.ts';
import { createCoreSource } from '../../../src/bus/read/core.ts';
import { steadyNow } from '../../../src/bus/read/server-clock.ts';
import { publishRejected } from '../../../src/bus/rejected.ts';
import { type NatsServer, startNats } from '../../../src/servers/nats.ts';
import { temporaryFolder } from '../../../src/servers/server-process.ts';
import { FaultProxy } from '../../faults/proxy.ts';
import { makeCertificates } from '../credentials.ts';
import { busAt, memoryLog, numbers, publishNumbers, Recorder, settings, until } from '../support.ts';

/** By then, what was delivered to another client would have arrived. */
const UNREAD_MS = 50;
/** Longer than a message takes by another way. */
const SLOW_MS = 500;

let nats: NatsServer;
let bus: Bus;

beforeAll(async () => {
  nats = await startNats({ jetstream: false });
  bus = await busAt(nats.url);
});
afterAll(async () => {
  await bus.close();
  await nats.stop();
});

const core = (env: Record<string, string> = {}) => settings({ METRICS_SOURCE: 'core', ...env });

function read(on: Bus, configured = core(), reader = new Recorder()) {
  const abort = new AbortController();
  const source = createCoreSource(on, configured);
  const run = source.run(reader, abort.signal);
  run.catch(() => {});
  const stop = () => {
    abort.abort();
    return run;
  };
  return { source, reader, run, stop };
}

test('messages are handed over with their time of arrival; progress comes with and without messages', async () => {
  const { reader, source, stop } = read(bus);
  await bus.flush();
  const start = steadyNow();
  await publishNumbers(bus, 0, 20_000, 'metrics.a.b');
  await publishNumbers(bus, 20_000, 20_010);
  await publishNumbers(bus, 0, 10, 'other');
  await until('all', () => reader.payloads.length === 20_010);
  const end = steadyNow();
  expect(reader.payloads).toEqual(numbers(0, 20_010).map(String));
  expect(new Set(reader.sequences)).toEqual(new Set([0]));
  for (const time of [reader.times[0]!, reader.times.at(-1)!]) {
    expect(Number.isInteger(time)).toBe(true);
    expect(time).toBeGreaterThanOrEqual(Math.floor(start));
    expect(time).toBeLessThanOrEqual(end);
  }
  const told = reader.progressTimes.length;
  await until('progress without messages', () => reader.progressTimes.length >= told + 3);
  expect(reader.progressTimes).toEqual([...reader.progressTimes].sort((a, b) => a - b));
  expect(source.stats).toMatchObject({ gaps: 0, pending: 0, lastSequence: 0, reading: true });
  await stop();
  expect(source.stats.reading).toBe(false);
  const { length } = reader.payloads;
  await publishNumbers(bus, 0, 10);
  expect(reader.payloads).toHaveLength(length);
});

test('it reads once the server has the subscription: nothing that is published then is lost', async () => {
  const proxy = await FaultProxy.start(nats.port);
  const slow = await busAt(`nats://127.0.0.1:${proxy.port}`);
  proxy.delay(SLOW_MS);
  const { reader, source, stop } = read(slow);
  expect(source.stats.reading).toBe(false);
  await until('it reads', () => source.stats.reading);
  await publishNumbers(bus, 0, 10, 'metrics.a');
  await until('all', () => reader.payloads.length === 10);
  await stop();
  expect(source.stats.reading).toBe(false);
  await slow.close();
  await proxy.stop();
});

test('the members of a queue group share the messages, and each message comes once', async () => {
  const buses = await Promise.all([1, 2, 3].map(() => busAt(nats.url)));
  const members = buses.map((each) => read(each, core({ METRICS_QUEUE_GROUP: 'fanout' })));
  const alone = read(bus);
  await Promise.all([...buses, bus].map((each) => each.flush()));
  await publishNumbers(bus, 0, 3_000);
  const total = () => members.reduce((sum, { reader }) => sum + reader.payloads.length, 0);
  await until('all', () => total() >= 3_000 && alone.reader.payloads.length >= 3_000);
  const all = members.flatMap(({ reader }) => reader.payloads.map(Number));
  expect(all.sort((a, b) => a - b)).toEqual(numbers(0, 3_000));
  for (const { reader } of members) expect(reader.payloads.length).toBeGreaterThan(100);
  await Promise.all([alone, ...members].map(({ stop }) => stop()));
  await Promise.all(buses.map((each) => each.close()));
});

test('the source waits for a slow reader up to a limit, then loses messages, which are counted', async () => {
  const { reader, source, stop } = read(bus);
  let release = () => {};
  reader.hold = () =>
    new Promise((resolve) => {
      release = resolve;
    });
  await until('held', () => reader.progressTimes.length === 1);
  const publisher = await busAt(nats.url);
  await publishNumbers(publisher, 0, 150_000);
  await publisher.close();
  await until('the limit', () => reader.payloads.length === 100_000);
  await bus.flush();
  reader.hold = undefined;
  release();
  await until('a gap', () => reader.gaps.length === 1);
  expect(reader.gaps[0]!.messages).toBe(50_000);
  expect(reader.gaps[0]!.fromTime).toBeLessThanOrEqual(reader.gaps[0]!.toTime);
  expect(source.stats).toMatchObject({ gaps: 1, gapMessages: 50_000 });
  await publishNumbers(bus, 0, 10);
  await until('goes on', () => reader.payloads.length === 100_010);
  expect(reader.progressTimes.length).toBeGreaterThan(0);
  await stop();
});

test('while the socket is not read nothing arrives, and then all of it, in order; with TLS too', async () => {
  const folder = temporaryFolder('socket');
  const { server, ca } = makeCertificates(folder.path);
  const secure = await startNats({ jetstream: false, tls: server });
  const tls = { NATS_URL: `tls://127.0.0.1:${secure.port}`, NATS_TLS_CA_FILE: ca };
  for (const env of [{ NATS_URL: nats.url }, tls]) {
    const configured = core({ ...env, METRICS_RECEIVE: 'frames' });
    const attach = () => connect(configured, memoryLog());
    const [own, other] = await Promise.all([attach(), attach()]);
    const [mine, others]: [string[], string[]] = [[], []];
    own.subscribe('metrics', ({ data }) => void mine.push(Buffer.from(data).toString()));
    other.subscribe('metrics', ({ data }) => void others.push(Buffer.from(data).toString()));
    await Promise.all([own.flush(), other.flush()]);
    expect(own.socket!.pause()).toBe(true);
    await publishNumbers(other, 0, 1_000);
    await until('delivered to the other', () => others.length === 1_000);
    await sleep(UNREAD_MS);
    expect(mine).toEqual([]);
    own.socket!.resume();
    await until('read', () => mine.length === 1_000);
    expect(mine).toEqual(others);
    await Promise.all([own.close(), other.close()]);
  }
  await secure.stop();
  folder.remove();
});

test('a busy bus is read at a pace, and a flood in the middle of it loses nothing', async () => {
  const configured = core({ NATS_URL: nats.url, METRICS_RECEIVE: 'frames' });
  const own = await connect(configured, memoryLog());
  let pauses = 0;
  const { socket } = own;
  const pause = socket!.pause.bind(socket);
  socket!.pause = () => {
    pauses += 1;
    return pause();
  };
  const { reader, source, stop } = read(own, configured);
  await own.flush();
  let published = 0;
  for (; pauses < 3; published += 5) {
    await publishNumbers(bus, published, published + 5);
    await sleep(1);
  }
  await publishNumbers(bus, published, published + 200_000);
  await until('all', () => reader.payloads.length === published + 200_000);
  expect(reader.payloads).toEqual(numbers(0, published + 200_000).map(String));
  expect(source.stats).toMatchObject({ gaps: 0, resumptions: 0 });
  await stop();
  await own.close();
});

test('a lost connection is a gap', async () => {
  const server = await startNats({ jetstream: false });
  const own = await busAt(server.url);
  const { reader, source, stop } = read(own);
  await server.halt('SIGKILL');
  await server.resume();
  await until('told', () => reader.gaps.length === 1);
  expect(source.stats).toMatchObject({ gaps: 1, gapMessages: 0, resumptions: 1 });
  await publishNumbers(own, 0, 10);
  await until('goes on', () => reader.payloads.length === 10);
  await stop();
  await own.close();
  await server.stop();
});

test('an error of the reader ends the reading, and is passed on', async () => {
  const reader = new Recorder();
  reader.onMessage = () => {
    throw new RangeError('reader broke');
  };
  const { run } = read(bus, core(), reader);
  await bus.flush();
  await publishNumbers(bus, 0, 1);
  await expect(run).rejects.toThrow('reader broke');
  const late = new Recorder();
  late.hold = () => Promise.reject(new RangeError('progress broke'));
  await expect(read(bus, core(), late).run).rejects.toThrow('progress broke');
});

test('a subscription that the server refuses is an error for the operator', async () => {
  const user = '{ user: u, password: p, permissions: { subscribe: [ "_INBOX.fanout.>" ] } }';
  const extra = `authorization { users: [ ${user} ] }`;
  const server = await startNats({ extra });
  const configured = core({ NATS_URL: server.url, NATS_USER: 'u', NATS_PASSWORD: 'p' });
  const own = await connect(configured, memoryLog());
  const error = await read(own, configured).run.catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(BusError);
  expect((error as BusError).message).toContain('subscribe to metrics');
  await own.close();
  await server.stop();
});

test('rejected records are published, within limits', async () => {
  const seen: string[] = [];
  const stop = bus.subscribe('fanout.rejected.*', ({ data, subject }) => {
    seen.push(`${subject} ${Buffer.from(data)}`);
  });
  await bus.flush();
  const circular: Record<string, unknown> = {};
  circular.self = circular;
  expect(publishRejected(bus, 'influxdb', { reason: 'no' })).toBe(true);
  expect(publishRejected(bus, 'influxdb', circular)).toBe(false);
  expect(publishRejected(bus, 'influxdb', undefined)).toBe(false);
  expect(publishRejected(bus, 'influxdb', 'x'.repeat(300_000))).toBe(false);
  await until('seen', () => seen.length > 0);
  expect(seen).toEqual(['fanout.rejected.influxdb {"reason":"no"}']);
  stop();
});

test('messages in flight at the end of the reading are still handed over', async () => {
  const proxy = await FaultProxy.start(nats.port);
  const [producer, reading] = await Promise.all([busAt(nats.url), busAt(`nats://127.0.0.1:${proxy.port}`)]);
  const reader = new Recorder();
  const { stop } = read(reading, core({ METRICS_QUEUE_GROUP: 'drain' }), reader);
  const ended = new Promise<void>((resolve) => {
    reader.onMessage = () => {
      reader.onMessage = undefined;
      resolve(stop());
    };
  });
  await reading.flush();
  // All of them are in flight when the first one ends the reading.
  proxy.hang();
  await publishNumbers(producer, 0, 5_000);
  await proxy.pass();
  await ended;
  expect(reader.payloads).toHaveLength(5_000);
  await Promise.all([producer.close(), reading.close()]);
  await proxy.stop();
});
