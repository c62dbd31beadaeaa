import { cpSync, rmSync } from 'node:fs';
import { afterEach, expect, test } from 'vitest';
import { type Bus, connect } from '../../src/bus/connect.ts';
import { createCoreSource } from '../../src/bus/read/core.ts';
import { createJetStreamSource } from '../../src/bus/read/jetstream.ts';
import { ensureStream } from '../../src/bus/stream.ts';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { temporaryFolder } from '../../src/servers/server-process.ts';
import {
  busAt,
  expectMonotone,
  memoryLog,
  numbers,
  publishNumbers,
  publishStored,
  Recorder,
  settings,
  until,
} from './support.ts';

const stops: (() => Promise<void>)[] = [];
afterEach(async () => {
  while (stops.length > 0) await stops.pop()!();
});

async function setUp() {
  const nats = await startNats();
  stops.push(() => nats.stop());
  const core = settings({ NATS_URL: nats.url });
  const log = memoryLog();
  const bus = await connect(core, log);
  stops.push(() => bus.close());
  await ensureStream(bus, core);
  return { nats, core, bus, log };
}

function read(bus: Bus, core: ReturnType<typeof settings>) {
  const abort = new AbortController();
  const reader = new Recorder();
  const source = createJetStreamSource(bus, core, { start: { kind: 'earliest' } });
  const run = source.run(reader, abort.signal);
  stops.push(async () => {
    abort.abort();
    await run;
  });
  return { reader, source };
}

/**
 * Publishes with acknowledgements, and retries until the server has the message: the stream holds each exactly once.
 */
async function publishThrough(bus: Bus, from: number, to: number): Promise<void> {
  const js = bus.connection.jetstream();
  for (let i = from; i < to; i++) {
    const isStored = () =>
      js.publish('metrics', String(i), { msgID: String(i), timeout: 500 }).then(
        () => true,
        () => false,
      );
    while (!(await isStored())) await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

test.each(['SIGTERM', 'SIGKILL'] as const)(
  'the server ends with %s twice within 200,000 messages: none is lost, none comes twice',
  async (signal) => {
    const { nats, core, bus } = await setUp();
    await publishStored(bus, 0, 200_000);
    const { reader, source } = read(bus, core);
    reader.hold = () => new Promise((resolve) => setTimeout(resolve, 50));
    for (const at of [20_000, 120_000]) {
      await until(`${at} messages`, () => reader.sequences.length >= at);
      expect(reader.sequences.length).toBeLessThan(200_000);
      await nats.halt(signal);
      await nats.resume();
    }
    const publisher = await busAt(nats.url);
    await publishThrough(publisher, 200_000, 200_100);
    await publisher.close();
    await until('all', () => reader.sequences.length >= 200_100);
    expect(reader.payloads).toEqual(numbers(0, 200_100).map(String));
    expect(reader.sequences).toEqual(numbers(1, 200_101));
    expect(source.stats).toMatchObject({ gaps: 0, gapMessages: 0 });
    expect(bus.stats.reconnects).toBeGreaterThan(0);
    expectMonotone(reader.times);
    expectMonotone(reader.progressTimes);
  },
);

test('producers go on while the server keeps crashing: the reader gets exactly what the stream has', async () => {
  const { nats, core, bus } = await setUp();
  const { reader, source } = read(bus, core);
  const publisher = await busAt(nats.url);
  stops.push(() => publisher.close());
  let isDone = false;
  const publishing = publishThrough(publisher, 0, 3_000).then(() => {
    isDone = true;
  });
  for (let i = 0; i < 3 && !isDone; i++) {
    await new Promise((resolve) => setTimeout(resolve, 400));
    await nats.halt('SIGKILL');
    await nats.resume();
  }
  await publishing;
  await until('all', () => reader.sequences.length >= 3_000);
  expect(reader.payloads).toEqual(numbers(0, 3_000).map(String));
  expect(source.stats.gaps).toBe(0);
  expectMonotone(reader.times);
  expectMonotone(reader.progressTimes);
});

test('a connection is lost while the server goes on: messages in flight are requested again', async () => {
  const { core, bus } = await setUp();
  await publishStored(bus, 0, 15_000);
  const { reader, source } = read(bus, core);
  // Everything in the stream is in flight, so the server itself would report that nothing is pending.
  reader.onMessage = (sequence) => {
    if (sequence === 5_000) void bus.connection.reconnect();
  };
  await until('all', () => reader.sequences.length >= 15_000);
  expect(reader.sequences).toEqual(numbers(1, 15_001));
  expect(source.stats).toMatchObject({ gaps: 0, resumptions: 1 });
});

test('a reader that asks the source to wait is left alone, even if the connection is lost in the meantime', async () => {
  const { nats, core, bus } = await setUp();
  await publishStored(bus, 0, 30_000);
  const { reader, source } = read(bus, core);
  let release = () => {};
  let isHeld = false;
  let toldMeanwhile = 0;
  reader.hold = () => {
    if (isHeld) toldMeanwhile += 1;
    isHeld = true;
    return new Promise((resolve) => {
      release = resolve;
    });
  };
  await until('held', () => isHeld);
  await nats.halt('SIGKILL');
  await nats.resume();
  await until('back', () => bus.stats.reconnects > 0);
  // Long enough for a new consumer to deliver everything. It must not deliver to the reader that asked to wait.
  const other = read(bus, core);
  await until('another has read all', () => other.reader.sequences.length >= 30_000);
  expect(toldMeanwhile).toBe(0);
  reader.hold = undefined;
  release();
  await until('all', () => reader.sequences.length >= 30_000);
  expect(source.stats.resumptions).toBeGreaterThan(0);
  expect(reader.sequences).toEqual(numbers(1, 30_001));
});

test('a rejection by the reader ends the reading, even if the connection was lost in the meantime', async () => {
  const { core, bus } = await setUp();
  await publishNumbers(bus, 0, 100);
  const reader = new Recorder();
  const { promise: held, reject: fail } = Promise.withResolvers<void>();
  reader.hold = () => held;
  const source = createJetStreamSource(bus, core, { start: { kind: 'earliest' } });
  const run = source.run(reader, new AbortController().signal);
  await until('held', () => reader.progressTimes.length > 0);
  await bus.connection.reconnect();
  await until('back', () => bus.stats.reconnects > 0);
  reader.hold = undefined;
  fail(new RangeError('progress broke'));
  await expect(run).rejects.toThrow('progress broke');
});

test.each(['jetstream', 'core'])(
  'a connection that the client closes for good ends the reading: %s',
  async (kind) => {
    const { core, bus } = await setUp();
    const reader = new Recorder();
    const source =
      kind === 'core'
        ? createCoreSource(bus, core)
        : createJetStreamSource(bus, core, { start: { kind: 'earliest' } });
    const run = source.run(reader, new AbortController().signal);
    await until('reading', () => reader.progressTimes.length > 0);
    await bus.connection.close();
    await expect(run).rejects.toThrow('closed for good');
  },
);

test('a server lost messages that it had delivered: nothing comes twice, and nothing new is missed', async () => {
  const { nats, core, bus } = await setUp();
  const backup = temporaryFolder('nats-backup');
  stops.push(async () => backup.remove());
  const { reader, source } = read(bus, core);
  await publishNumbers(bus, 0, 100);
  await until('the first', () => reader.sequences.length === 100);
  await nats.halt();
  cpSync(nats.storePath, backup.path, { recursive: true });
  await nats.resume();
  await until('back', () => bus.connected);
  await publishNumbers(bus, 100, 150);
  await until('the second', () => reader.sequences.length === 150);
  await nats.halt('SIGKILL');
  rmSync(nats.storePath, { recursive: true });
  cpSync(backup.path, nats.storePath, { recursive: true });
  await nats.resume();
  await until('back', () => source.stats.gaps === 1);
  await publishNumbers(bus, 150, 400);
  await until('the rest', () => reader.sequences.length >= 400);
  expect(reader.payloads).toEqual(numbers(0, 400).map(String));
});

test('the source waits for a server that hangs; idle time does not advance in the meantime', async () => {
  const { nats, core, bus } = await setUp();
  await publishNumbers(bus, 0, 100);
  const { reader } = read(bus, core);
  await until('idle', () => reader.progressTimes.length > 3);
  // A second server that goes on: its time shows how long ours has been standing still.
  const other = await setUp();
  const { progressTimes } = read(other.bus, other.core).reader;
  const untilMoved = (times: number, from = progressTimes.length) =>
    until('the other moves on', () => progressTimes.length >= from + times);
  await suspended(nats, async () => {
    await untilMoved(3);
    const before = reader.progressTimes.at(-1);
    await untilMoved(8);
    expect(reader.progressTimes.at(-1)).toBe(before);
  });
  await publishNumbers(bus, 100, 200);
  await until('all', () => reader.sequences.length === 200);
  expect(reader.sequences).toEqual(numbers(1, 201));
});

async function suspended(nats: NatsServer, run: () => Promise<void>): Promise<void> {
  nats.signal('SIGSTOP');
  await run().finally(() => nats.signal('SIGCONT'));
}

test('nothing is lost if the event loop stalls for longer than any answer may take', async () => {
  const { core, bus, nats } = await setUp();
  const publisher = await busAt(nats.url);
  stops.push(() => publisher.close());
  await publishStored(publisher, 0, 50_000);
  const { reader, source } = read(bus, core);
  let isStalled = false;
  reader.onMessage = (sequence) => {
    if (isStalled || sequence < 15_000) return;
    isStalled = true;
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 3_000);
  };
  await until('all', () => reader.sequences.length === 50_000);
  expect(reader.sequences).toEqual(numbers(1, 50_001));
  expect(source.stats).toMatchObject({ gaps: 0, resumptions: 0 });
});
