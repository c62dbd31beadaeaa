/** A stream that takes back messages that it has delivered, as its readers see it. */
import { cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { SubscriptionOptions } from 'nats';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import type { Bus } from '../../../src/bus/connect.ts';
import { createJetStreamSource } from '../../../src/bus/read/jetstream.ts';
import { compareMarks } from '../../../src/bus/read/parting.ts';
import { RollbackWatch } from '../../../src/bus/read/rollback-watch.ts';
import type { Source } from '../../../src/bus/read/source.ts';
import { keyOfMark, Trail } from '../../../src/bus/read/trail.ts';
import { describeStream, manager } from '../../../src/bus/stream.ts';
import { type NatsServer, startNats } from '../../../src/servers/nats.ts';
import { temporaryFolder } from '../../../src/servers/server-process.ts';
import { LIMIT_MS } from '../../limits.ts';
import { deleteAllStreams } from '../deleted-streams.ts';
import { busAt, makePurgeable, numbers, publishStored, Recorder, settings, until } from '../support.ts';

const COMPARE_MS = 15_000;
const folder = temporaryFolder('rollback');
const copy = join(folder.path, 'copy');
let nats: NatsServer;
let bus: Bus;
let core: ReturnType<typeof settings>;
const stops: (() => Promise<void>)[] = [];

beforeAll(async () => {
  nats = await startNats();
  bus = await busAt(nats.url);
  core = settings({ NATS_URL: nats.url });
});
afterEach(async () => {
  while (stops.length > 0) await stops.pop()!();
});
afterAll(async () => {
  await bus.close();
  await nats.stop();
  folder.remove();
});

async function withServerDown(work: () => void): Promise<void> {
  await nats.halt('SIGTERM');
  work();
  await nats.resume();
  await bus.whenConnected(AbortSignal.timeout(LIMIT_MS));
  await until('the stream is there', () =>
    describeStream(bus, core).then(
      () => true,
      () => false,
    ),
  );
}

function read(source: Source, reader = new Recorder()) {
  const abort = new AbortController();
  const run = source.run(reader, abort.signal);
  stops.push(() => {
    abort.abort();
    return run;
  });
  return { source, reader, run };
}

async function madeAnew(): Promise<{ created: string }> {
  await deleteAllStreams(nats, (await manager(bus)).streams);
  await makePurgeable(bus, core);
  return await describeStream(bus, core);
}

test('with a trail, reading ends; without one, it goes on by time, and the gap runs forwards', async () => {
  const { created } = await madeAnew();
  const trail = new Trail(created);
  const start = { kind: 'earliest' } as const;
  const live = read(createJetStreamSource(bus, core, { start, trail, isLive: true }));
  const plain = read(createJetStreamSource(bus, core, { start }));
  const both = [live.reader, plain.reader];
  await publishStored(bus, 0, 10);
  await until('the first', () => both.every(({ sequences }) => sequences.length === 10));
  await withServerDown(() => cpSync(nats.storePath, copy, { recursive: true }));
  await publishStored(bus, 10, 15);
  await until('more', () => both.every(({ sequences }) => sequences.length === 15));
  await until('noted', () => trail.marks.at(-1)?.sequence === 15);
  await withServerDown(() => {
    rmSync(nats.storePath, { recursive: true });
    cpSync(copy, nats.storePath, { recursive: true });
  });
  await live.run;
  expect(live.source.stats).toMatchObject({ rolledBack: true, gaps: 0 });
  await publishStored(bus, 20, 30);
  await until('what is new', () => plain.reader.payloads.at(-1) === '29');
  expect(plain.source.stats).toMatchObject({ rolledBack: false, gaps: 1 });
  expect(plain.reader.payloads.slice(15)).toEqual(numbers(20, 30).map(String));
  const [gap] = plain.reader.gaps;
  expect(gap!.toTime).toBeGreaterThanOrEqual(gap!.fromTime);
  const held = await compareMarks(bus, core, await describeStream(bus, core), trail.marks);
  const others = trail.marks.filter((mark) => held.get(keyOfMark(mark)) === 'other');
  expect(others.length).toBeGreaterThan(0);
  expect(others.every(({ sequence }) => sequence > 10)).toBe(true);
  // A reader that starts now knows by the trail that it must not read.
  const late = read(createJetStreamSource(bus, core, { start, trail }));
  await late.run;
  expect(late.reader.sequences).toEqual([]);
  expect(late.source.stats.rolledBack).toBe(true);
});

test('if the consumer survives, its last message before a pause is compared from time to time', async () => {
  const { created } = await madeAnew();
  await publishStored(bus, 0, 5);
  const trail = new Trail(created);
  let now = 0;
  const watch = new RollbackWatch({ bus, core, trail, isLive: true, now: () => now });
  const stats = { ...createJetStreamSource(bus, core, { start: { kind: 'earliest' } }).stats };
  const { streams } = await manager(bus);
  const timeOf = async (seq: number) => (await streams.getMessage('METRICS', { seq })).time.getTime();
  watch.progress({ ...stats, lastSequence: 3, lastStreamTime: await timeOf(3) });
  watch.paused({ ...stats, lastSequence: 3, lastStreamTime: await timeOf(3) });
  expect(trail.pinned.map(({ sequence }) => sequence)).toEqual([3]);
  watch.progress({ ...stats, lastSequence: 5, lastStreamTime: await timeOf(5) });
  expect(watch.isDue()).toBe(false);
  now += COMPARE_MS;
  expect(watch.isDue()).toBe(true);
  expect(await watch.compare()).toBe(false);
  expect(trail.pinned).toEqual([]);
  // Next time, the stream has another message there, and the consumer has gone past it.
  watch.paused({ ...stats, lastSequence: 6, lastStreamTime: 1 });
  await publishStored(bus, 5, 8);
  watch.progress({ ...stats, lastSequence: 8, lastStreamTime: await timeOf(8) });
  expect(await watch.compare()).toBe(true);
  expect(trail.pinned.map(({ sequence }) => sequence)).toEqual([6]);
});

test('a stream that was deleted and created again does not count as rolled back', async () => {
  await madeAnew();
  const trail = new Trail('2026-01-01T00:00:00Z', [{ sequence: 1_000, time: 1 }]);
  await publishStored(bus, 0, 3);
  const { reader, source } = read(
    createJetStreamSource(bus, core, { start: { kind: 'earliest' }, trail, isLive: true }),
  );
  await until('all', () => reader.sequences.length === 3);
  expect(source.stats.rolledBack).toBe(false);
  await until('a new trail', () => trail.marks.at(-1)?.sequence === 3);
});

test('nor does it while it has not delivered anything: what was read is of the stream before', async () => {
  const { created } = await madeAnew();
  await publishStored(bus, 0, 5);
  const trail = new Trail(created);
  const watch = new RollbackWatch({ bus, core, trail, isLive: true, now: () => 0 });
  const stats = { ...createJetStreamSource(bus, core, { start: { kind: 'earliest' } }).stats };
  const { time } = await (await manager(bus)).streams.getMessage('METRICS', { seq: 5 });
  const read = { ...stats, lastSequence: 5, lastStreamTime: time.getTime() };
  watch.progress(read);
  const other = await madeAnew();
  expect(other.created).not.toBe(created);
  const facts = await describeStream(bus, core);
  expect(await watch.attaches(facts, read)).toBe(false);
  watch.paused(read);
  watch.progress(read);
  expect(await watch.compare()).toBe(false);
  // The consumer is lost before the first message.
  expect(await watch.attaches(facts, read)).toBe(false);
  expect(trail.marks).toEqual([]);
  await publishStored(bus, 0, 3);
  watch.progress({ ...stats, lastSequence: 3, lastStreamTime: 1 });
  expect(await watch.compare()).toBe(true);
});

test('a sequence that does not rise is not taken for a delivery: the consumer is created again', async () => {
  await madeAnew();
  let isDue = true;
  const falling = fallingAt(bus, () => isDue);
  const plain = settings({ NATS_URL: nats.url, METRICS_RECEIVE: 'plain' });
  const { reader, source } = read(createJetStreamSource(falling, plain, { start: { kind: 'earliest' } }));
  await publishStored(bus, 0, 10);
  await until('it fell', () => source.stats.resumptions === 1 || reader.sequences.length > 10);
  isDue = false;
  await until('all', () => reader.sequences.length >= 10);
  expect(reader.sequences).toEqual(numbers(1, 11));
});

/** The bus, except that the message with sequence 8 says that it has sequence 3. */
function fallingAt(bus: Bus, isDue: () => boolean): Bus {
  const connection = new Proxy(bus.connection, {
    get(target, name) {
      if (name !== 'subscribe') return Reflect.get(target, name).bind?.(target) ?? Reflect.get(target, name);
      return (subject: string, options: SubscriptionOptions) =>
        target.subscribe(subject, {
          ...options,
          callback: (error, message) => {
            const reply = message.reply?.replace(
              /^(\$JS\.ACK\.(?:[^.]+\.){3})8\./,
              (_, start: string) => `${start}3.`,
            );
            const changed = isDue() && reply !== message.reply;
            options.callback?.(
              error,
              changed
                ? new Proxy(message, {
                    get: (of, key) => (key === 'reply' ? reply : Reflect.get(of, key, of)),
                  })
                : message,
            );
          },
        });
    },
  });
  return new Proxy(bus, {
    get: (target, name) => {
      if (name === 'connection') return connection;
      if (name === 'frames') return undefined;
      const value = Reflect.get(target, name, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}
