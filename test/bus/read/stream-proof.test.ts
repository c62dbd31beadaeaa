/** A stream that replaced another one is unproven until it has delivered a message. */
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import type { Bus } from '../../../src/bus/connect.ts';
import { connect } from '../../../src/bus/connect.ts';
import { untilProven } from '../../../src/bus/read/stream-proof.ts';
import { ensureStream, manager, refuseHistory } from '../../../src/bus/stream.ts';
import { type NatsServer, startNats } from '../../../src/servers/nats.ts';
import { deleteAllStreams, deleteStreams } from '../deleted-streams.ts';
import {
  memoryLog,
  publishNumbers,
  publishStored,
  type Reading,
  settings,
  startReading,
  until,
} from '../support.ts';

let nats: NatsServer;
let bus: Bus;
let log: ReturnType<typeof memoryLog>;
let core: ReturnType<typeof settings>;
let reading: Reading | undefined;

beforeAll(async () => {
  nats = await startNats();
  log = memoryLog();
  core = settings({ NATS_URL: nats.url });
  bus = await connect(core, log);
});
afterEach(async () => {
  await reading?.stop();
  await deleteAllStreams(nats, (await manager(bus)).streams);
});
afterAll(async () => {
  await bus.close();
  await nats.stop();
});

async function readAndDelete(): Promise<Reading> {
  await ensureStream(bus, core);
  await publishStored(bus, 0, 10);
  const started = startReading(bus, core, { kind: 'earliest' });
  reading = started;
  await until('the first', () => started.reader.sequences.length === 10);
  expect(started.source.stats.unproven).toBe(false);
  log.lines.length = 0;
  await deleteStreams(nats, (await manager(bus)).streams, ['METRICS']);
  return started;
}

test('a deleted stream is created again after a pause, and is unproven until it delivers a message', async () => {
  const deletedAt = Date.now();
  const { source, reader } = await readAndDelete();
  await until('the new stream', () => source.stats.unproven);
  const { created } = (await (await manager(bus)).streams.info('METRICS')) as unknown as { created: string };
  expect(Date.parse(created) - deletedAt).toBeGreaterThanOrEqual(2_900);
  expect(source.stats.reading).toBe(true);
  await publishStored(bus, 10, 20);
  await until('the rest', () => reader.sequences.length === 20);
  expect(source.stats.unproven).toBe(false);
  await until('it is logged', () => log.lines.some(({ message }) => message.endsWith('delivers messages')));
  const messages = log.lines.map(({ message }) => message);
  expect(messages.filter((message) => message.startsWith('the stream'))).toEqual([
    'the stream is gone; it is made again after a pause',
    expect.stringContaining('the stream was replaced, or lost messages'),
    'the stream was replaced; not ready until it has delivered a message',
    'the stream that replaced another delivers messages',
  ]);
});

test('a stream that stores none of the published messages stays unproven', async () => {
  const { source } = await readAndDelete();
  await (await manager(bus)).streams.add({
    name: 'METRICS',
    subjects: ['metrics', 'metrics.>'],
    max_msg_size: 1,
  });
  await until('found', () => source.stats.unproven);
  await publishNumbers(bus, 100, 200);
  await bus.flush();
  expect((await (await manager(bus)).streams.info('METRICS')).state.last_seq).toBe(0);
  expect(source.stats).toMatchObject({ reading: true, pending: 0, unproven: true });
  // Another source on this connection, as after a change of the windows, does not take it for proven.
  await reading!.stop();
  reading = startReading(bus, core, { kind: 'earliest' });
  await until('read again', () => reading!.source.stats.reading);
  expect(reading.source.stats.unproven).toBe(true);
});

test('the log tells a quiet bus from a stream that is broken', async () => {
  log.lines.length = 0;
  let isProven = false;
  const abort = new AbortController();
  const proof = { stream: 'METRICS', subjects: ['metrics.>'], isProven: () => isProven, deliveryMs: 200 };
  const over = untilProven(bus, proof, abort.signal);
  await until('quiet', () =>
    log.lines.some(({ message }) => message.includes('has not delivered anything yet')),
  );
  await publishNumbers(bus, 0, 3, 'metrics.a');
  await until('broken', () => log.lines.some(({ level }) => level === 'error'));
  expect(log.lines.at(-1)).toMatchObject({
    message: 'not ready: the stream stores nothing of what is published',
    fields: { advice: expect.stringContaining('nats stream rm METRICS') },
  });
  isProven = true;
  await over;
  expect(log.lines.map(({ level }) => level)).toEqual(['warn', 'warn', 'error', 'info']);
});

test('a new stream with a history is refused', async () => {
  const facts = await ensureStream(bus, core);
  refuseHistory(facts);
  const created = Date.parse(facts.created);
  refuseHistory({ ...facts, messages: 3, lastSequence: 3, firstTime: created + 5 });
  for (const history of [
    { messages: 3, lastSequence: 3, firstTime: created - 5 },
    { messages: 0, lastSequence: 7 },
  ])
    expect(() => refuseHistory({ ...facts, ...history })).toThrow('the history of another');
});
