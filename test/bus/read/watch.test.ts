/** Messages that were published but never reached the stream are counted, and nothing else. */
import { gzipSync } from 'node:zlib';
import { headers, type NatsConnection } from 'nats';
import { expect, type TestContext, test } from 'vitest';
import { systemClock } from '../../../src/base/clock.ts';
import { type Bus, connect } from '../../../src/bus/connect.ts';
import { createJetStreamSource } from '../../../src/bus/read/jetstream.ts';
import { newSourceStats } from '../../../src/bus/read/source.ts';
import { BusWatch } from '../../../src/bus/read/watch.ts';
import { ensureStream, manager } from '../../../src/bus/stream.ts';
import { type NatsServer, startNats } from '../../../src/servers/nats.ts';
import { connect as connectClient } from '../../bus-client.ts';
import { takingPlain } from '../server-version.ts';
import { holding, memoryLog, publishNumbers, Recorder, settings, until } from '../support.ts';

/** More than arrive after the reader has asked the source to wait. */
const MANY = 30_000;

interface Setting {
  readonly nats: NatsServer;
  readonly bus: Bus;
  readonly producer: NatsConnection;
  readonly log: ReturnType<typeof memoryLog>;
  readonly stop: AbortController;
  readonly running: Promise<unknown>[];
  core(env?: Record<string, string>): ReturnType<typeof settings>;
}

/** A bus for one test. All of them wait most of their time, and do so side by side. */
async function setUp({ onTestFinished }: Pick<TestContext, 'onTestFinished'>): Promise<Setting> {
  const nats = await startNats(takingPlain(2 * MANY));
  onTestFinished(() => nats.stop());
  const core = (env: Record<string, string> = {}) => settings({ NATS_URL: nats.url, ...env });
  const producer = await connectClient({ servers: nats.url });
  onTestFinished(() => producer.close());
  const log = memoryLog();
  const bus = await connect(core(), log);
  onTestFinished(() => bus.close());
  const stop = new AbortController();
  const running: Promise<unknown>[] = [];
  onTestFinished(async () => {
    stop.abort();
    await Promise.all(running);
  });
  return { nats, bus, producer, log, stop, running, core };
}

interface Watched {
  readonly configured?: ReturnType<typeof settings>;
  readonly share?: number;
  readonly heardBy?: Bus;
}

/** Reads and watches a stream that refuses messages of more than 100 bytes. */
async function watching(
  { bus, core, stop, running }: Setting,
  { configured = core(), share = 1, heardBy = bus }: Watched = {},
) {
  const { metricsSubjects: subjects, metricsStream: name } = configured;
  await (await manager(bus)).streams.add({ name, subjects: ['metrics', 'metrics.>'], max_msg_size: 100 });
  const watch = new BusWatch(
    heardBy,
    { metricsStream: name, metricsSubjects: subjects },
    { share, settleMs: 500 },
  );
  const source = watch.watched(createJetStreamSource(bus, configured, { start: { kind: 'earliest' } }));
  const reader = new Recorder();
  running.push(source.run(reader, stop.signal), watch.run(stop.signal));
  await until('it reads', () => source.stats.reading);
  return { watch, reader };
}

/** Publishes until a span has heard something. From then on, everything that is published is heard. */
async function untilHeard({ producer }: Setting, watch: BusWatch) {
  await until('the watch hears', async () => {
    producer.publish('metrics', `"before ${Math.random()}"`);
    await producer.flush();
    return watch.status.heard > 0;
  });
}

test.concurrent('counts exactly what the stream refuses, and logs it', async (context) => {
  const setting = await setUp(context);
  const { producer, log } = setting;
  const { watch } = await watching(setting);
  await untilHeard(setting, watch);
  expect(watch.status.unstored).toBe(0);
  for (let i = 0; i < 1000; i++) {
    producer.publish('metrics.a', `${i}`);
    if (i % 10 === 0) producer.publish('metrics.b', `${i}`.padEnd(200));
  }
  await producer.flush();
  await until('all are counted', () => watch.status.unstored >= 100);
  await until('all are heard', () => watch.status.heard >= 1100);
  const { unstored, unknownSpans, share, error, state } = watch.status;
  expect({ unstored, unknownSpans, error, state }).toEqual({
    unstored: 100,
    unknownSpans: 0,
    error: 0,
    state: 'watching',
  });
  expect(share).toBeGreaterThan(0.05);
  expect(log.lines.filter(({ level }) => level === 'error')).toMatchObject([
    { message: 'messages were published that the stream did not store' },
  ]);
});

test.concurrent('counts nothing when nothing is lost: duplicates, compressed and equal messages, other subjects', async (context) => {
  const setting = await setUp(context);
  const { producer } = setting;
  const { watch, reader } = await watching(setting, {
    configured: setting.core({ METRICS_SUBJECTS: 'metrics.>' }),
  });
  await until('the watch hears', async () => {
    producer.publish('metrics.a', `"before ${Math.random()}"`);
    await producer.flush();
    return watch.status.heard > 0;
  });
  const twice = headers();
  twice.set('Nats-Msg-Id', 'one');
  const packed = headers();
  packed.set('Content-Encoding', 'gzip');
  for (let i = 0; i < 200; i++) {
    producer.publish('metrics.a', 'equal');
    producer.publish('metrics.a', `twice ${i % 2}`, { headers: twice });
    producer.publish('metrics.b', gzipSync(`${i}`), { headers: packed });
    // A subject that we do not read: the stream has it, the watch does not hear it.
    producer.publish('metrics', `${i}`);
  }
  await producer.flush();
  producer.publish('metrics.a', 'the last');
  await until('all is read', () => reader.payloads.includes('the last'));
  await until('all is heard', () => watch.status.heard >= 401);
  const { spans } = watch.status;
  await until('two more spans', () => watch.status.spans >= spans + 2);
  expect(watch.status).toMatchObject({ unstored: 0, unknownSpans: 0 });
});

test.concurrent('with a watch for part of the time, each span is exact, and nothing is counted twice', async (context) => {
  const setting = await setUp(context);
  const { producer } = setting;
  const { watch } = await watching(setting, { share: 0.5 });
  let published = 0;
  await until('five spans', async () => {
    producer.publish('metrics', `${published}`.padEnd(published % 2 === 0 ? 10 : 200));
    published += 1;
    await producer.flush();
    return watch.status.spans >= 5;
  });
  const { heard, unstored, unknownSpans, share, error } = watch.status;
  expect(unknownSpans).toBe(0);
  expect(heard).toBeLessThan(published);
  expect(Math.abs(unstored - heard / 2)).toBeLessThanOrEqual(5);
  expect(Math.abs(share! - 0.5)).toBeLessThanOrEqual(error!);
});

test.concurrent('a reconnection makes the result of a span unknown, not wrong', async (context) => {
  const setting = await setUp(context);
  const { nats, producer } = setting;
  const { watch } = await watching(setting);
  await untilHeard(setting, watch);
  await nats.halt('SIGKILL');
  await nats.resume();
  await until('a span with an unknown result', () => watch.status.unknownSpans > 0);
  const { heard } = watch.status;
  await until('it goes on', async () => {
    producer.publish('metrics', `"${Math.random()}"`);
    await producer.flush().catch(() => {});
    return watch.status.heard > heard;
  });
  expect(watch.status.unstored).toBe(0);
});

test.concurrent('without the permission to listen, the watch logs this once and counts nothing', async (context) => {
  const setting = await setUp(context);
  const { log, stop } = setting;
  const permissions = '{ subscribe: { deny: ["metrics", "metrics.>"] } }';
  const guarded = await startNats({
    extra: `authorization { users: [{ user: "u", password: "p", permissions: ${permissions} }] }`,
  });
  const configured = settings({ NATS_URL: guarded.url, NATS_USER: 'u', NATS_PASSWORD: 'p' });
  const guest = await connect(configured, log);
  await ensureStream(guest, configured);
  const watch = new BusWatch(guest, configured, { share: 1 });
  const source = watch.watched(createJetStreamSource(guest, configured, { start: { kind: 'earliest' } }));
  const ended = Promise.all([source.run(new Recorder(), stop.signal), watch.run(stop.signal)]);
  await until('the watch knows', () => watch.status.state === 'forbidden');
  expect(watch.status).toMatchObject({ spans: 0, heard: 0, unstored: 0, share: null });
  expect(watch.status.unknown).toBe('the bus does not permit us to listen');
  const said = log.lines.filter(({ message }) => message.startsWith('cannot watch'));
  expect(said).toMatchObject([{ level: 'warn', fields: { advice: expect.stringContaining('metrics.>') } }]);
  stop.abort();
  await ended;
  await guest.close();
  await guarded.stop();
});

test.concurrent('what comes from another account, under other subjects, is heard and found there', async (context) => {
  const setting = await setUp(context);
  const { log, stop } = setting;
  const from = { account: 'PRODUCERS', subject: 'app.*' };
  const server = await startNats({
    extra: `accounts {
      PRODUCERS { users: [ { user: p, password: p } ], exports: [ { stream: "${from.subject}" } ] }
      METRICS {
        jetstream: enabled
        users: [ { user: m, password: m } ]
        imports: [ { stream: { account: ${from.account}, subject: "${from.subject}" }, to: "metrics.app.$1" } ]
      }
    }`,
  });
  const configured = settings({ NATS_URL: server.url, NATS_USER: 'm', NATS_PASSWORD: 'm' });
  const guest = await connect(configured, log);
  const application = await connectClient({ servers: server.url, user: 'p', pass: 'p' });
  const subjects = ['metrics', 'metrics.>'];
  await (await manager(guest)).streams.add({ name: 'METRICS', subjects, max_msg_size: 100 });
  const watch = new BusWatch(guest, configured, { share: 1, settleMs: 500 });
  const source = watch.watched(createJetStreamSource(guest, configured, { start: { kind: 'earliest' } }));
  const ended = Promise.all([source.run(new Recorder(), stop.signal), watch.run(stop.signal)]);
  const publish = async (size: number) => {
    application.publish('app.a', `${Math.random()}`.padEnd(size));
    await application.flush();
  };
  await until('the watch hears', async () => {
    await publish(10);
    return watch.status.heard > 0;
  });
  for (let i = 0; i < 200; i++) await publish(10);
  const { spans } = watch.status;
  await until('two more spans', () => watch.status.spans >= spans + 2);
  expect(watch.status).toMatchObject({ unstored: 0, unknownSpans: 0 });
  for (let i = 0; i < 20; i++) await publish(200);
  await until('all are counted', () => watch.status.unstored >= 20);
  await until('more spans', () => watch.status.spans >= spans + 6);
  expect(watch.status).toMatchObject({ unstored: 20, unknownSpans: 0 });
  stop.abort();
  await ended;
  await Promise.all([guest.close(), application.close()]);
  await server.stop();
});

test.concurrent('a message that is read before it is heard may be heard in the next span', async (context) => {
  const setting = await setUp(context);
  const { bus, producer } = setting;
  const plain = bus;
  const late = <Args extends unknown[]>(tell: (...args: Args) => void) => {
    return (...args: Args) => void setTimeout(() => tell(...args), 30);
  };
  // The stream is on a nearer server than the producer.
  const distant = {
    ...plain,
    connection: plain.connection,
    flush: () => plain.flush(),
    subscribe: ((subject, onMessage, options) => {
      const onFrame = late((bytes: Uint8Array) => options!.onFrame!(bytes, 0, bytes.length, { subject }));
      return plain.subscribe(subject, late(onMessage), {
        ...options,
        onFrame: (bytes, start, end) => onFrame(bytes.slice(start, end)),
      });
    }) satisfies Bus['subscribe'],
  } as Bus;
  const { watch } = await watching(setting, { heardBy: distant });
  let published = 0;
  await until('five spans', async () => {
    for (let i = 0; i < 10; i++) producer.publish('metrics', `${published++}`);
    await producer.flush();
    return watch.status.spans >= 5;
  });
  expect(watch.status).toMatchObject({ unstored: 0, unknownSpans: 0 });
});

test.concurrent('a message that was removed from the stream before it was read counts as stored', async (context) => {
  const setting = await setUp(context);
  const { bus } = setting;
  const { watch, reader } = await watching(setting);
  await untilHeard(setting, watch);
  const release = holding(reader);
  await publishNumbers(bus, 0, MANY);
  const { streams } = await manager(bus);
  await until('all are stored', async () => (await streams.info('METRICS')).state.last_seq > MANY);
  await streams.purge('METRICS');
  release();
  await until('the span is judged', () => watch.status.unknownSpans + watch.status.unstored > 0);
  expect(watch.status.unstored).toBe(0);
});

test.concurrent('a server that hangs holds up no end', async (context) => {
  const setting = await setUp(context);
  const { log, stop } = setting;
  const hanging = await startNats();
  const configured = settings({ NATS_URL: hanging.url });
  const guest = await connect(configured, log);
  await ensureStream(guest, configured);
  const over = new AbortController();
  const watch = new BusWatch(guest, configured, { share: 1 });
  const source = watch.watched(createJetStreamSource(guest, configured, { start: { kind: 'earliest' } }));
  const read = source.run(new Recorder(), stop.signal);
  await until('it reads', () => source.stats.reading);
  hanging.signal('SIGSTOP');
  const { promise: flushing, resolve } = Promise.withResolvers<void>();
  const { flush } = guest;
  guest.flush = (signal) => {
    resolve();
    return flush.call(guest, signal);
  };
  const watched = watch.run(over.signal);
  await flushing;
  over.abort();
  // The client would notice after half a minute.
  await watched;
  expect(guest.stats.disconnects).toBe(0);
  hanging.signal('SIGCONT');
  stop.abort();
  await read;
  await guest.close();
  await hanging.stop();
});

test.concurrent('what a stream lacks that copies others is unknown, and not lost', async (context) => {
  const setting = await setUp(context);
  const { bus, producer, stop, running, core } = setting;
  const { streams } = await manager(bus);
  await streams.add({ name: 'EDGE', subjects: ['metrics.edge.>'], max_msg_size: 100 });
  await streams.add({ name: 'METRICS', subjects: ['metrics'], sources: [{ name: 'EDGE' }] });
  const configured = core();
  const watch = new BusWatch(bus, configured, { share: 1, settleMs: 500 });
  const source = watch.watched(createJetStreamSource(bus, configured, { start: { kind: 'earliest' } }));
  running.push(source.run(new Recorder(), stop.signal), watch.run(stop.signal));
  await until('it reads', () => source.stats.reading);
  const publish = async (subject: string, size: number) => {
    producer.publish(subject, `${Math.random()}`.padEnd(size));
    await producer.flush();
  };
  await until('spans in which all came', async () => {
    await publish('metrics', 10);
    await publish('metrics.edge.a', 10);
    return watch.status.heard > 0;
  });
  expect(watch.status).toMatchObject({ unstored: 0, unknown: null });
  await until('a span in which something did not', async () => {
    await publish('metrics.edge.a', 200);
    return watch.status.unknownSpans > 0;
  });
  expect(watch.status).toMatchObject({
    unstored: 0,
    unknown: 'the stream copies others, and may get later what it lacks',
  });
});

test.concurrent('a span wakes nobody until it is over, and ends when it has heard as much as it may', async (context) => {
  const setting = await setUp(context);
  const { log, stop, running, core } = setting;
  const slept: { ms: number; cut: boolean }[] = [];
  const sleep = async (ms: number, signal: AbortSignal) => {
    await systemClock.sleep(ms, signal);
    slept.push({ ms, cut: signal.aborted && !stop.signal.aborted });
  };
  let hear: ((message: { data: Uint8Array }) => void) | undefined;
  const subscribe = (_: string, onMessage: typeof hear) => {
    hear = onMessage;
    return async () => {};
  };
  const quiet = { subscribe, flush: async () => {}, log } as unknown as Bus;
  const watch = new BusWatch(quiet, core(), { share: 1, clock: { ...systemClock, sleep }, settleMs: 10 });
  watch.watched({ stats: newSourceStats(), run: async () => {} });
  running.push(watch.run(stop.signal));
  const spans = () => slept.filter(({ ms }) => ms === 1_000);
  await until('a span is over', () => spans().length === 1);
  expect(slept.filter(({ ms }) => ms > 0 && ms < 500)).toEqual([]);
  for (let i = 0; i < 100_000; i++) hear!({ data: Buffer.from('equal') });
  await until('the next is over', () => spans().length >= 2);
  expect(spans().slice(0, 2)).toEqual([
    { ms: 1_000, cut: false },
    { ms: 1_000, cut: true },
  ]);
});
