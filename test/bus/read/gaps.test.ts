/** The gaps that a source finds when it creates its consumer again: all of them, and each once. */
import { getEventListeners } from 'node:events';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Bus } from '../../../src/bus/connect.ts';
import type { ReadFrom } from '../../../src/bus/read/source.ts';
import { manager } from '../../../src/bus/stream.ts';
import { type NatsServer, startNats } from '../../../src/servers/nats.ts';
import { deleteStreams } from '../deleted-streams.ts';
import {
  busAt,
  holding,
  makePurgeable,
  numbers,
  publishNumbers,
  publishStored,
  type Reading,
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
  core = settings({ NATS_URL: nats.url });
});
beforeEach(async () => {
  await makePurgeable(bus, core);
});
afterEach(async () => {
  while (running.length > 0) await running.pop()!();
  await deleteStreams(nats, (await manager(bus)).streams, ['METRICS']);
});
afterAll(async () => {
  await bus.close();
  await nats.stop();
});

function read(start: ReadFrom): Reading {
  const reading = startReading(bus, core, start);
  running.push(reading.stop);
  return reading;
}

/** Deletes all consumers while their readers are held. Nobody reads during `meanwhile`. */
async function lose(readings: readonly Reading[], meanwhile = async () => {}): Promise<void> {
  const { promise: held, resolve: release } = Promise.withResolvers<void>();
  const before = readings.map(({ reader, source }) => [
    reader.progressTimes.length,
    source.stats.resumptions,
  ]);
  for (const { reader } of readings) reader.hold = () => held;
  const isHeld = ({ reader }: Reading, i: number) => reader.progressTimes.length > before[i]![0]!;
  await until('held', () => readings.every(isHeld));
  const { consumers } = await manager(bus);
  for (const { name } of await consumers.list('METRICS').next()) await consumers.delete('METRICS', name);
  await meanwhile();
  for (const { reader } of readings) reader.hold = undefined;
  release();
  const isBack = ({ source: { stats } }: Reading, i: number) =>
    stats.resumptions > before[i]![1]! && stats.reading;
  await until('reading again', () => readings.every(isBack));
}

const purge = async () => (await manager(bus)).streams.purge('METRICS');

test('a gap at the start of a new consumer is reported once, and extends to the time when it was seen', async () => {
  await publishNumbers(bus, 0, 10);
  const reading = read({ kind: 'earliest' });
  const { reader } = reading;
  await until('the first', () => reader.sequences.length === 10);
  let removedAt = 0;
  await lose([reading], async () => {
    await publishStored(bus, 10, 15);
    const { time } = await (await manager(bus)).streams.getMessage('METRICS', { seq: 15 });
    removedAt = time.getTime();
    await purge();
  });
  const [gap] = reader.gaps;
  expect(gap).toMatchObject({ fromTime: reader.times.at(-1), messages: 5 });
  expect(gap!.toTime).toBeGreaterThanOrEqual(removedAt);
  await lose([reading]);
  await publishNumbers(bus, 15, 20);
  await until('the rest', () => reader.sequences.length === 15);
  expect(reader.sequences.slice(10)).toEqual(numbers(16, 21));
  expect(reader.gaps).toEqual([gap]);
});

test('what was purged behind a reader is not waited for until the requests for it expire', async () => {
  const { reader, source } = read({ kind: 'earliest' });
  await until('it reads', () => source.stats.reading);
  const release = holding(reader);
  // More than comes after the reader has asked for time.
  await publishStored(bus, 0, 30_000);
  await until('held', () => reader.progressTimes.length > 0);
  await purge();
  release();
  await until('the end', () => source.stats.readThrough >= 30_000);
  expect(source.stats.answers.get('request_timeout') ?? 0).toBe(0);
  await publishNumbers(bus, 30_000, 30_001);
  await until('the next', () => reader.payloads.includes('30000'));
  expect(reader.gaps).toMatchObject([{ messages: 30_001 - reader.sequences.length }]);
});

test('a gap before the first message is reported once too', async () => {
  await publishStored(bus, 0, 10);
  await purge();
  const ms = Date.now() - 60_000;
  const readings = [
    read({ kind: 'time', ms }),
    read({ kind: 'time', ms, orSequence: 6 }),
    read({ kind: 'sequence', sequence: 6 }),
  ];
  const gaps = () => readings.map(({ source: { stats } }) => [stats.gaps, stats.gapMessages]);
  await lose(readings);
  expect(gaps()).toEqual([
    [0, 0],
    [1, 5],
    [1, 5],
  ]);
  await lose(readings, async () => {
    await publishStored(bus, 10, 13);
    await purge();
  });
  await lose(readings);
  expect(gaps()).toEqual([
    [1, 3],
    [2, 8],
    [2, 8],
  ]);
});

test('the replacement of a stream is reported once', async () => {
  await publishNumbers(bus, 0, 10);
  const reading = read({ kind: 'earliest' });
  const { reader, source } = reading;
  await until('the first', () => reader.sequences.length === 10);
  await deleteStreams(nats, (await manager(bus)).streams, ['METRICS']);
  await until('the new stream', () => source.stats.gaps === 1 && source.stats.reading);
  for (let times = 0; times < 2; times++) await lose([reading]);
  expect(reader.gaps).toHaveLength(1);
  await publishNumbers(bus, 10, 20);
  await until('the rest', () => reader.sequences.length === 20);
  expect(reader.payloads).toEqual(numbers(0, 20).map(String));
});

test('a consumer that is gone leaves no listeners', async () => {
  const reading = read({ kind: 'earliest' });
  for (let times = 0; times < 3; times++) await lose([reading]);
  expect(getEventListeners(reading.signal, 'abort').length).toBeLessThanOrEqual(1);
});
