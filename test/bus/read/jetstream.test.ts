import type { StreamConfig } from 'nats';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { BusError } from '../../../src/bus/bus-error.ts';
import type { Bus } from '../../../src/bus/connect.ts';
import type { ReadFrom } from '../../../src/bus/read/source.ts';
import { ensureStream, manager } from '../../../src/bus/stream.ts';
import { type NatsServer, startNats } from '../../../src/servers/nats.ts';
import { LIMIT_MS } from '../../limits.ts';
import { deleteAllStreams, deleteStreams } from '../deleted-streams.ts';
import {
  busAt,
  expectMonotone,
  holding,
  losing,
  makePurgeable,
  numbers,
  publishNumbers,
  publishStored,
  type Reading,
  Recorder,
  settings,
  startReading,
  until,
} from '../support.ts';

let nats: NatsServer;
let bus: Bus;
let core: ReturnType<typeof settings>;
const running: (() => Promise<void>)[] = [];

beforeAll(async () => {
  nats = await startNats();
  bus = await busAt(nats.url);
});
beforeEach(() => {
  core = settings({ NATS_URL: nats.url });
});
afterEach(async () => {
  while (running.length > 0) await running.pop()!();
  await deleteAllStreams(nats, (await manager(bus)).streams);
});
afterAll(async () => {
  await bus.close();
  await nats.stop();
});

function read(start: ReadFrom = { kind: 'earliest' }, reader = new Recorder(), on = bus): Reading {
  const reading = startReading(on, core, start, reader);
  // Some are supposed to fail: then the test itself looks at `run`.
  reading.run.catch(() => {});
  const stop = () => reading.stop().catch(() => {});
  running.push(stop);
  return { ...reading, stop };
}

const add = async (config: Partial<StreamConfig> & { name: string }) =>
  (await manager(bus)).streams.add(config);
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

test('every message comes once, in order, with its time; then progress; the consumer is removed at the end', async () => {
  await ensureStream(bus, core);
  await publishStored(bus, 0, 35_000);
  const { source, reader, stop } = read();
  await until('the stored ones', () => reader.sequences.length === 35_000);
  await publishNumbers(bus, 35_000, 40_000, 'metrics.later');
  await until('the later ones', () => reader.sequences.length === 40_000);
  expect(reader.sequences).toEqual(numbers(1, 40_001));
  expect(reader.payloads).toEqual(numbers(0, 40_000).map(String));
  const { streams, consumers } = await manager(bus);
  for (const sequence of [1, 17_000, 40_000]) {
    const { time } = await streams.getMessage('METRICS', { seq: sequence });
    expect(reader.times[sequence - 1]).toBe(time.getTime());
  }
  expect(source.stats).toMatchObject({ lastSequence: 40_000, gaps: 0, gapMessages: 0, resumptions: 0 });
  const told = reader.progressTimes.length;
  await until('idle', () => source.stats.pending === 0 && reader.progressTimes.length > told + 2);
  expectMonotone(reader.progressTimes);
  expect(source.stats.reading).toBe(true);
  await stop();
  expect(source.stats.reading).toBe(false);
  await until('no consumer is left', async () => (await consumers.list('METRICS').next()).length === 0);
});

test('reading starts at a time, at a sequence, or at the earliest message', async () => {
  await ensureStream(bus, core);
  await publishStored(bus, 0, 100);
  await sleep(50);
  const ms = Date.now();
  await sleep(50);
  await publishStored(bus, 100, 200);
  const readings = [
    read({ kind: 'time', ms }),
    read({ kind: 'sequence', sequence: 150 }),
    read(),
    read({ kind: 'time', ms: ms - 3_600_000 }),
    read({ kind: 'time', ms: ms + 3_600_000 }),
    read({ kind: 'sequence', sequence: 201 }),
  ];
  await until('all', () => readings.slice(0, 4).every(({ reader }) => reader.sequences.includes(200)));
  // A reader that gets progress has got all its messages.
  await until('idle', () => readings.every(({ reader }) => reader.progressTimes.length > 1));
  const firsts = readings.map(({ reader }) => reader.sequences[0]);
  expect(firsts).toEqual([101, 150, 1, 1, undefined, undefined]);
  expect(readings.map(({ source }) => source.stats.gaps)).toEqual([0, 0, 0, 0, 0, 0]);
});

test('a missing stream is reported at once', async () => {
  const error = await read().run.catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(BusError);
  expect((error as BusError).message).toBe('there is no stream METRICS');
});

test('messages that retention removed before the start are a gap', async () => {
  await add({ name: 'METRICS', subjects: ['metrics', 'metrics.>'], max_msgs: 100 });
  const ms = Date.now() - 1_000;
  await publishStored(bus, 0, 1_000);
  const readings = [
    read({ kind: 'sequence', sequence: 11 }),
    read({ kind: 'time', ms }),
    read({ kind: 'time', ms, after: 500 }),
    read({ kind: 'time', ms, after: 900 }),
    read({ kind: 'earliest' }),
  ];
  await until('all', () => readings.every(({ reader }) => reader.sequences.length === 100));
  expect(readings.map(({ source: { stats } }) => [stats.gaps, stats.gapMessages])).toEqual([
    [1, 890],
    [1, 0],
    [1, 400],
    [0, 0],
    [0, 0],
  ]);
  const [gap] = readings[1]!.reader.gaps;
  expect(gap).toEqual({ fromTime: ms, toTime: readings[1]!.reader.times[0], messages: 0 });
  expect(readings[0]!.reader.sequences[0]).toBe(901);
});

test('messages removed while we read are a gap with their exact number, between the times around it', async () => {
  await makePurgeable(bus, core);
  await publishNumbers(bus, 0, 10);
  const { source, reader } = read();
  await until('the first', () => reader.sequences.length === 10);
  const release = holding(reader);
  await publishStored(bus, 10, 60_000);
  await (await manager(bus)).streams.purge('METRICS', { seq: 50_000 });
  release();
  await until('the last', () => reader.sequences.includes(60_000));
  const { gaps, gapMessages } = source.stats;
  expect(gaps).toBe(1);
  expect(reader.sequences.length + gapMessages).toBe(60_000);
  const jump = reader.sequences.findIndex(
    (sequence, i) => i > 0 && sequence !== reader.sequences[i - 1]! + 1,
  );
  expect(reader.sequences[jump]).toBe(50_000);
  expect(reader.gaps).toEqual([
    { fromTime: reader.times[jump - 1], toTime: reader.times[jump], messages: gapMessages },
  ]);
});

test('a slow reader holds its source back: few messages come in the meantime, and nothing is lost', async () => {
  await ensureStream(bus, core);
  const { source, reader } = read();
  const release = holding(reader);
  const payload = 'x'.repeat(500);
  const publisher = await busAt(nats.url);
  for (let i = 0; i < 120_000; i++) {
    // See publishStored.
    if (i % 5_000 !== 4_999) publisher.connection.publish('metrics.slow', payload);
    else await publisher.connection.jetstream().publish('metrics.slow', payload, { timeout: LIMIT_MS });
  }
  const other = read();
  await until('another has read all', () => other.reader.sequences.length === 120_000);
  expect(reader.progressTimes).toHaveLength(1);
  expect(reader.sequences.length).toBeLessThanOrEqual(20_001);
  const before = bus.stats.disconnects;
  release();
  await until('all', () => reader.sequences.length === 120_000);
  expect(reader.sequences).toEqual(numbers(1, 120_001));
  expect(source.stats).toMatchObject({ gaps: 0, resumptions: 0 });
  expect(bus.stats.disconnects).toBe(before);
  await publisher.close();
});

test('the bytes in flight to a slow reader are bounded', async () => {
  await ensureStream(bus, core);
  const large = new Uint8Array(900_000);
  for (let i = 0; i < 60; i++) bus.connection.publish('metrics', large);
  await bus.flush();
  const { source, reader } = read();
  const release = holding(reader);
  await until('held', () => reader.progressTimes.length === 1);
  const other = read();
  await until('another has read all', () => other.reader.sequences.length === 60);
  expect(reader.sequences.length * large.length).toBeLessThan(17 * 1024 * 1024);
  release();
  await until('all', () => reader.sequences.length === 60);
  expect(source.stats).toMatchObject({ gaps: 0, resumptions: 0, lastSequence: 60 });
});

test('messages larger than the limit of a batch get through', async () => {
  const roomy = await startNats({ maxPayloadBytes: 16 * 1024 * 1024 });
  const own = await busAt(roomy.url);
  await ensureStream(own, core);
  for (const bytes of [10, 15_000_000, 15_000_000, 10])
    own.connection.publish('metrics', new Uint8Array(bytes));
  await own.flush();
  const { source, reader, stop } = read({ kind: 'earliest' }, new Recorder(), own);
  await until('all', () => reader.sequences.length === 4);
  expect(reader.payloads.map(({ length }) => length)).toEqual([10, 15_000_000, 15_000_000, 10]);
  expect(source.stats).toMatchObject({ gaps: 0, resumptions: 0 });
  await stop();
  await own.close();
  await roomy.stop();
});

test('progress never goes back, even for a message that is earlier', async () => {
  // A negative slack makes idle time run ahead, as if the clock were set back.
  core = { ...core, idleSlack: -5_000 };
  await ensureStream(bus, core);
  const { reader } = read();
  await until('idle', () => reader.progressTimes.length > 0);
  await publishNumbers(bus, 0, 10);
  await until('progress', () => reader.sequences.length === 10 && reader.progressTimes.length > 3);
  expect(reader.progressTimes[0]).toBeGreaterThan(reader.times[0]!);
  expectMonotone(reader.progressTimes);
});

test('a message that is lost on the way is requested again', async () => {
  await ensureStream(bus, core);
  await publishStored(bus, 0, 30_000);
  let delivered = 0;
  const { source, reader } = read(
    { kind: 'earliest' },
    new Recorder(),
    losing(bus, () => ++delivered === 17_000),
  );
  await until('all', () => reader.sequences.length === 30_000);
  expect(reader.sequences).toEqual(numbers(1, 30_001));
  expect(source.stats).toMatchObject({ gaps: 0, resumptions: 1 });
});

test("while nothing arrives, progress follows the server's clock and is never ahead of it", async () => {
  core = settings({ NATS_URL: nats.url, IDLE_SLACK: '50ms' });
  await ensureStream(bus, core);
  const { reader } = read();
  await until('progress', () => reader.progressTimes.length > 0);
  // The progress reported before a message was stored must not be later than its time.
  const told: number[] = [];
  for (let i = 0; i < 40; i++) {
    await sleep(i % 4 === 0 ? 400 : 30);
    const before = reader.progressTimes.at(-1) ?? 0;
    await bus.connection.jetstream().publish('metrics', String(i), { timeout: LIMIT_MS });
    told.push(before);
  }
  await until('all', () => reader.sequences.length === 40);
  for (const [i, time] of reader.times.entries()) expect(told[i]).toBeLessThanOrEqual(time);
  expect(told[0]).toBeGreaterThan(0);
  const { length } = reader.progressTimes;
  const idle = () => reader.progressTimes.slice(length);
  const now = Date.now();
  // The server is on this machine. Progress passes the current time, and then each later time.
  for (const later of [0, 500, 1_000]) {
    await until(`${later} ms later`, () => (idle().at(-1) ?? 0) > now + later);
    expect(idle().at(-1)).toBeLessThanOrEqual(Date.now());
  }
  expect(idle().length).toBeGreaterThanOrEqual(3);
  expect(idle()).toEqual([...new Set(idle())].sort((a, b) => a - b));
});

test.each([
  ['one subject', 'metrics.>', ['metrics.a']],
  ['several subjects', 'metrics,metrics.b.>', ['metrics', 'metrics.b.c']],
])('if the stream captures more, only the messages of %s are handed over', async (_, subjects, wanted) => {
  await add({ name: 'METRICS', subjects: ['metrics', 'metrics.>', 'other'] });
  core = settings({ NATS_URL: nats.url, METRICS_SUBJECTS: subjects });
  for (let i = 0; i < 100; i++) {
    for (const subject of ['other', ...wanted]) bus.connection.publish(subject, `${subject} ${i}`);
  }
  await bus.flush();
  const { source, reader } = read();
  await until('all', () => reader.sequences.length === 100 * wanted.length);
  expect(new Set(reader.payloads.map((payload) => payload.split(' ')[0]))).toEqual(new Set(wanted));
  await until('idle', () => source.stats.pending === 0);
  expect(source.stats.gaps).toBe(0);
  // A new consumer goes on after the last message, and does not take the other subjects for a gap.
  await removeConsumers();
  await publishNumbers(bus, 0, 50, 'other');
  await publishNumbers(bus, 0, 10, wanted[0]);
  await until('the rest', () => reader.sequences.length === 100 * wanted.length + 10);
  expect(source.stats).toMatchObject({ gaps: 0, resumptions: 1 });
  expect(new Set(reader.sequences).size).toBe(reader.sequences.length);
});

test('if the stream captures more, messages that retention removed before they were read are a gap too', async () => {
  await add({ name: 'METRICS', subjects: ['metrics', 'other'], max_msgs: 50_000 });
  core = settings({ NATS_URL: nats.url, METRICS_SUBJECTS: 'metrics' });
  await publishStored(bus, 0, 30_000);
  const { source, reader } = read();
  const release = holding(reader);
  await until('some', () => reader.sequences.length > 0);
  await publishStored(bus, 0, 49_000, 'other');
  await publishStored(bus, 0, 30_000);
  release();
  await until('the last', () => reader.sequences.includes(109_000));
  // Their subjects are no longer known.
  expect(source.stats.gapMessages).toBeGreaterThanOrEqual(60_000 - reader.sequences.length);
  expect(source.stats.gapMessages).toBeGreaterThan(0);
});

async function removeConsumers(): Promise<void> {
  const { consumers } = await manager(bus);
  for (const { name } of await consumers.list('METRICS').next()) await consumers.delete('METRICS', name);
}

test('no message is lost if somebody removes the consumer again and again', async () => {
  await ensureStream(bus, core);
  await publishStored(bus, 0, 100_000);
  const { source, reader } = read();
  for (const at of [10_000, 40_000, 70_000]) {
    await until(`${at} messages`, () => reader.sequences.length >= at);
    await removeConsumers();
  }
  await publishNumbers(bus, 100_000, 101_000);
  await until('all', () => reader.sequences.length >= 101_000);
  expect(reader.sequences).toEqual(numbers(1, 101_001));
  expect(source.stats.gaps).toBe(0);
  expect(source.stats.resumptions).toBeGreaterThan(0);
});

test('a stream that is deleted while we read is created again, and read from its first message', async () => {
  await ensureStream(bus, core);
  await publishNumbers(bus, 0, 1_000);
  const { source, reader } = read();
  await until('the first', () => reader.sequences.length === 1_000);
  await deleteStreams(nats, (await manager(bus)).streams, ['METRICS']);
  await until('the new stream', () => source.stats.resumptions > 0 && source.stats.gaps > 0);
  await publishNumbers(bus, 1_000, 1_500);
  await until('the rest', () => reader.sequences.length === 1_500);
  expect(reader.payloads).toEqual(numbers(0, 1_500).map(String));
  expect(source.stats.lastSequence).toBe(500);
  expect(reader.gaps).toHaveLength(1);
});

test('a new stream is recognised even if it has grown past the last sequence that was read', async () => {
  await ensureStream(bus, core);
  await publishNumbers(bus, 0, 100);
  const { reader, stop } = read();
  await until('the first', () => reader.sequences.length === 100);
  const { streams } = await manager(bus);
  await Promise.all([
    deleteStreams(nats, streams, ['METRICS']).then(() =>
      add({ name: 'METRICS', subjects: ['metrics', 'metrics.>'] }),
    ),
    publishNumbers(bus, 0, 1),
  ]);
  await publishNumbers(bus, 100, 5_000);
  await until('the last', () => reader.payloads.at(-1) === '4999');
  await stop();
  expect(reader.payloads.filter((payload) => Number(payload) >= 100)).toEqual(
    numbers(100, 5_000).map(String),
  );
});

test('a purged stream is a gap, and reading goes on', async () => {
  await makePurgeable(bus, core);
  await publishStored(bus, 0, 10);
  const { source, reader } = read();
  await until('the first', () => reader.sequences.length === 10);
  await (await manager(bus)).streams.purge('METRICS');
  await publishNumbers(bus, 10, 20);
  await until('the rest', () => reader.sequences.length === 20);
  // All of its messages had been read before.
  expect(source.stats.gaps).toBe(0);
});

test('an error or a rejection of the reader ends the reading, and is passed on', async () => {
  await ensureStream(bus, core);
  await publishNumbers(bus, 0, 100);
  const inMessage = new Recorder();
  inMessage.onMessage = (sequence) => {
    if (sequence === 50) throw new RangeError('reader broke');
  };
  await expect(read({ kind: 'earliest' }, inMessage).run).rejects.toThrow('reader broke');
  expect(inMessage.sequences).toHaveLength(50);
  const inProgress = new Recorder();
  inProgress.hold = () => Promise.reject(new RangeError('progress broke'));
  await expect(read({ kind: 'earliest' }, inProgress).run).rejects.toThrow('progress broke');
  // The connection still works.
  const { reader } = read();
  await until('all', () => reader.sequences.length === 100);
});
