/** Answers of a server to a request for messages that are not messages. */
import { headers } from 'nats';
import { afterEach, expect, test } from 'vitest';
import { type Bus, connect } from '../../../src/bus/connect.ts';
import { ensureStream } from '../../../src/bus/stream.ts';
import { type NatsOptions, startNats } from '../../../src/servers/nats.ts';
import {
  busAt,
  memoryLog,
  numbers,
  publishNumbers,
  publishStored,
  settings,
  startReading,
  until,
} from '../support.ts';

const stops: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  while (stops.length > 0) await stops.pop()!();
});

async function setUp(options: NatsOptions = {}) {
  const nats = await startNats(options);
  stops.push(() => nats.stop());
  const core = settings({ NATS_URL: nats.url });
  const log = memoryLog();
  const bus = await connect(core, log);
  const other = await busAt(nats.url);
  stops.push(() => Promise.all([bus.close(), other.close()]));
  await ensureStream(bus, core);
  const read = () => {
    const reading = startReading(bus, core, { kind: 'earliest' });
    stops.push(() => reading.stop());
    return reading;
  };
  return { bus, other, core, log, read };
}

/** Answers each request for more than one message while `isRefused`. The server's own answers follow. */
function answering(bus: Bus, code: number, words: string, isRefused: () => boolean): () => number {
  let asked = 0;
  bus.connection.subscribe('$JS.API.CONSUMER.MSG.NEXT.>', {
    callback: (_, { reply }) => {
      if (!isRefused()) return;
      asked += 1;
      bus.connection.publish(reply!, '', { headers: headers(code, words) });
    },
  });
  return () => asked;
}

test('requests respect the limit that a server sets for a request', async () => {
  const { bus, read } = await setUp({ jetstreamExtra: 'limits { max_request_batch: 256 }' });
  await publishStored(bus, 0, 20_000);
  const { source, reader } = read();
  await until('all', () => reader.sequences.length === 20_000);
  await publishNumbers(bus, 20_000, 20_100);
  await until('the later ones', () => reader.sequences.length === 20_100);
  const told = reader.progressTimes.length;
  await until('idle', () => reader.progressTimes.length > told + 2);
  expect(reader.sequences).toEqual(numbers(1, 20_101));
  expect(source.stats).toMatchObject({ gaps: 0, resumptions: 0 });
  expect([...source.stats.answers.keys()]).not.toContain('limit_exceeded');
  expect(source.stats.answers.get('no_messages')).toBeGreaterThan(0);
});

test('if a limit appears while we read, a new consumer gets to know it and respects it', async () => {
  const { other, read } = await setUp();
  let isRefused = true;
  answering(other, 409, 'Exceeded MaxRequestBatch of 256', () => isRefused);
  await other.flush();
  const { source, reader } = read();
  await until('a new consumer', () => source.stats.resumptions > 0);
  isRefused = false;
  await publishStored(other, 0, 1_000);
  await until('all', () => reader.sequences.length === 1_000);
  expect(source.stats.gaps).toBe(0);
  expect(source.stats.answers.get('limit_exceeded')).toBe(source.stats.resumptions);
});

test('an unknown answer is counted, logged, and followed by a pause; then reading goes on', async () => {
  const { bus, other, log, read } = await setUp();
  let isRefused = true;
  const asked = answering(other, 499, 'Come Back Later', () => isRefused);
  await other.flush();
  const { source, reader } = read();
  const unknown = () => source.stats.answers.get('unknown') ?? 0;
  await until('some pauses', () => unknown() >= 8);
  expect(unknown()).toBeLessThanOrEqual(asked());
  isRefused = false;
  await publishNumbers(bus, 0, 100);
  await until('all', () => reader.sequences.length === 100);
  expect(log.lines.filter(({ fields }) => 'answer' in fields)).toEqual([
    {
      level: 'warn',
      fields: { answer: '499 Come Back Later' },
      message: 'the server refuses a request for messages; asking again after a pause',
    },
  ]);
  expect(source.stats).toMatchObject({ gaps: 0, resumptions: 0 });
});
