/** Streams that get their messages in other ways than from the subjects that producers publish to. */
import type { JetStreamManager, StreamConfig } from 'nats';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { BusError } from '../../src/bus/bus-error.ts';
import { type Bus, connect } from '../../src/bus/connect.ts';
import { describeStream, ensureStream, isTruncated, manager } from '../../src/bus/stream.ts';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { deleteAllStreams, deleteStreams } from './deleted-streams.ts';
import { needsNats } from './server-version.ts';
import { memoryLog, publishStored, settings, startReading, until } from './support.ts';

let nats: NatsServer;
let bus: Bus;
const log = memoryLog();
let streams: JetStreamManager['streams'];
const stops: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  nats = await startNats();
  bus = await connect(settings({ NATS_URL: nats.url }), log);
  ({ streams } = await manager(bus));
});
afterEach(async () => {
  while (stops.length > 0) await stops.pop()!();
  await deleteAllStreams(nats, streams);
});
afterAll(async () => {
  await bus.close();
  await nats.stop();
});

const add = (config: Partial<StreamConfig> & { name: string }) => streams.add(config);
const wanting = (subjects: string) => settings({ NATS_URL: nats.url, METRICS_SUBJECTS: subjects });

function read(core = wanting('metrics,metrics.>')) {
  const reading = startReading(bus, core, { kind: 'earliest' });
  stops.push(() => reading.stop());
  return reading;
}

/** Reads to the current end of the stream; returns the payloads. */
async function readAll(subjects: string): Promise<readonly string[]> {
  const { reader, source, stop } = read(wanting(subjects));
  const { lastSequence } = await describeStream(bus, wanting(subjects));
  await until('the end', () => source.stats.readThrough >= lastSequence && reader.progressTimes.length > 0);
  expect(source.stats.gaps).toBe(0);
  await stop();
  return reader.payloads;
}

async function publish(...subjects: string[]): Promise<void> {
  for (const subject of subjects) bus.connection.publish(subject, subject);
  await bus.flush();
}

async function refusal(of: Promise<unknown>): Promise<BusError> {
  const error = await of.then(
    () => new Error('it was accepted'),
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(BusError);
  return error as BusError;
}

const holds = (name: string, messages: number) =>
  until(`${name} holds ${messages}`, async () => (await streams.info(name)).state.messages === messages);

describe('a stream whose first sequence is not 1', () => {
  test('is read from there, and nothing is missed', async (context) => {
    needsNats(context, '2.10');
    await add({ name: 'METRICS', subjects: ['metrics', 'metrics.>'], first_seq: 1_000 });
    const empty = await describeStream(bus, wanting('metrics'));
    expect(isTruncated(empty)).toBe(false);
    await publishStored(bus, 0, 10);
    const facts = await describeStream(bus, wanting('metrics'));
    expect(facts).toMatchObject({ beginSequence: 1_000, firstSequence: 1_000, lastSequence: 1_009 });
    expect(isTruncated(facts)).toBe(false);
    const ms = Date.now() - 60_000;
    const starts = [
      { kind: 'time', ms },
      { kind: 'time', ms, after: 0 },
      { kind: 'sequence', sequence: 1 },
      { kind: 'earliest' },
    ] as const;
    for (const start of starts) {
      const { reader, source, stop } = startReading(bus, wanting('metrics'), start);
      await until('all', () => reader.sequences.length === 10);
      expect(source.stats, start.kind).toMatchObject({ gaps: 0, gapMessages: 0 });
      await stop();
    }
  });

  test('has a gap if it has lost messages', async (context) => {
    needsNats(context, '2.10');
    await add({ name: 'METRICS', subjects: ['metrics'], first_seq: 1_000, max_msgs: 5 });
    await publishStored(bus, 0, 10);
    const core = wanting('metrics');
    expect(isTruncated(await describeStream(bus, core))).toBe(true);
    const { reader, source, stop } = startReading(bus, core, { kind: 'sequence', sequence: 1_001 });
    await until('all', () => reader.sequences.length === 5);
    expect(source.stats).toMatchObject({ gaps: 1, gapMessages: 4 });
    await stop();
  });
});

describe('a stream that stores messages under other subjects than the published ones', () => {
  const published = ['metrics.a', 'metrics.b', 'metrics.b.c', 'other.a', 'other.b.c'];
  const cases = [
    // [pattern, destination, wanted, which of the published subjects are wanted]
    ['metrics.>', 'stored.>', 'metrics.>', ['metrics.a', 'metrics.b', 'metrics.b.c']],
    ['metrics.>', 'stored.>', 'stored.>', ['metrics.a', 'metrics.b', 'metrics.b.c']],
    ['metrics.>', 'stored.>', 'metrics.b.>', ['metrics.b.c']],
    ['metrics.>', 'stored.>', 'stored.b', ['metrics.b']],
    ['>', 'all.>', 'metrics.>', ['metrics.a', 'metrics.b', 'metrics.b.c']],
    ['', 'all.>', 'all.metrics.*,all.other.a', ['metrics.a', 'metrics.b', 'other.a']],
    ['metrics.*', 'm.$1', 'metrics.a', ['metrics.a']],
    ['metrics.*', 'm.$1', 'metrics.>', ['metrics.a', 'metrics.b', 'metrics.b.c']],
    ['*.*', '{{wildcard(2)}}.{{wildcard(1)}}', 'metrics.>', ['metrics.a', 'metrics.b', 'metrics.b.c']],
    ['*.*', '{{wildcard(2)}}.{{wildcard(1)}}', 'a.*', ['metrics.a', 'other.a']],
    ['*.*', 'p.{{partition(3,2)}}.$1', 'metrics.*', ['metrics.a', 'metrics.b']],
    ['*.*', 'p.{{partition(3,2)}}.$1', 'p.*.other,other.>', ['other.a', 'other.b.c']],
    ['metrics.*', 'cut.{{splitFromLeft(1,1)}}', 'metrics.*', ['metrics.a', 'metrics.b']],
  ] as const;

  test.for(cases)('%s as %s: %s', async ([src, dest, wanted, expected], context) => {
    needsNats(context, '2.10');
    await add({ name: 'METRICS', subjects: ['metrics.>', 'other.>'], subject_transform: { src, dest } });
    await publish(...published);
    await holds('METRICS', published.length);
    expect(await readAll(wanted)).toEqual(expected);
  });

  test('is refused if it can hold no message of a wanted subject', async (context) => {
    needsNats(context, '2.10');
    const subject_transform = { src: 'metrics.*', dest: 'm.$1' };
    await add({ name: 'METRICS', subjects: ['metrics.*'], subject_transform });
    for (const subject of ['m.a.b', 'other.>', 'metrics.>']) {
      const { message, advice } = await refusal(describeStream(bus, wanting(`m.*,${subject}`)));
      expect(message).toContain(`does not capture ${subject} (its subjects: metrics.*; it stores: m.*)`);
      expect(advice).toContain('remove the same subjects from METRICS_SUBJECTS');
    }
  });

  test('is refused if it does not tell a wanted subject apart from others', async (context) => {
    needsNats(context, '2.10');
    const subject_transform = { src: 'metrics.*', dest: 'm.{{partition(3,1)}}' };
    await add({ name: 'METRICS', subjects: ['metrics.*'], subject_transform });
    const { message, advice } = await refusal(describeStream(bus, wanting('metrics.a')));
    expect(message).toContain('stores metrics.a as m.*, together with other subjects');
    expect(advice).toBe('Set METRICS_SUBJECTS to what the stream stores: m.*.');
    await describeStream(bus, wanting('metrics.*'));
  });
});

describe('a stream made of sources', () => {
  test('is read like any other, with its own sequences and times', async () => {
    for (const name of ['A', 'B']) await add({ name, subjects: [`${name}.metrics.>`] });
    await add({ name: 'METRICS', sources: [{ name: 'A' }, { name: 'B' }] });
    await publish('A.metrics.x', 'B.metrics.x', 'A.metrics.y');
    await holds('METRICS', 3);
    const { reader, source } = read(wanting('*.metrics.>'));
    await until('all', () => reader.sequences.length === 3);
    expect([...reader.payloads].sort()).toEqual(['A.metrics.x', 'A.metrics.y', 'B.metrics.x']);
    const now = Date.now();
    await until('idle', () => reader.progressTimes.at(-1)! > now);
    expect(source.stats).toMatchObject({ gaps: 0, unproven: false });
  });

  test('gives only the wanted messages, whether they come from subjects or from sources', async () => {
    await add({ name: 'EDGE', subjects: ['edge.>', 'orders.>'] });
    await add({ name: 'METRICS', subjects: ['metrics', 'metrics.>'], sources: [{ name: 'EDGE' }] });
    await publish('metrics.a', 'edge.a', 'metrics', 'orders.a');
    await holds('METRICS', 4);
    expect([...(await readAll('metrics,metrics.>'))].sort()).toEqual(['metrics', 'metrics.a']);
    expect([...(await readAll('metrics.>,edge.*'))].sort()).toEqual(['edge.a', 'metrics.a']);
  });

  test('is not created again as a stream that captures subjects', async () => {
    await add({ name: 'EDGE', subjects: ['metrics.>'] });
    const config = { name: 'METRICS', sources: [{ name: 'EDGE' }] };
    await add(config);
    await publish('metrics.a');
    const { reader, source } = read();
    await until('the first', () => reader.sequences.length === 1);
    await deleteStreams(nats, streams, ['METRICS']);
    await until('another attempt', () =>
      log.lines.some(
        ({ fields }) => 'reason' in fields && /there is no stream METRICS/.test(String(fields.reason)),
      ),
    );
    expect(source.stats.reading).toBe(false);
    await add(config);
    await publish('metrics.b');
    await until('the second', () => reader.payloads.at(-1) === 'metrics.b');
  });

  test('is refused if its filters let nothing of a subject through; the advice is not to add the subject', async () => {
    await add({ name: 'EDGE', subjects: ['edge.>'] });
    await add({ name: 'METRICS', sources: [{ name: 'EDGE', filter_subject: 'edge.metrics.>' }] });
    const { message, advice } = await refusal(ensureStream(bus, wanting('metrics,edge.metrics.>')));
    expect(message).toBe('the stream METRICS can hold nothing of metrics (it stores: edge.metrics.>)');
    expect(advice).toBe('Remove metrics from METRICS_SUBJECTS, or name there what the stream stores.');
  });

  test.for([
    ['edge.>', ['edge.a', 'edge.b']],
    ['edge.a', ['edge.a']],
    ['all.leaf.*', ['edge.a', 'edge.b']],
    ['all.leaf.b,metrics.>', ['edge.b', 'metrics.a']],
    ['metrics.>', ['metrics.a']],
  ] as const)(
    'has its own transforms and those of its sources applied: %s',
    async ([wanted, expected], context) => {
      needsNats(context, '2.10');
      await add({ name: 'EDGE', subjects: ['edge.>', 'orders.>'] });
      const subject_transforms = [{ src: 'edge.*', dest: 'leaf.$1' }];
      const sources = [{ name: 'EDGE', subject_transforms }];
      const subject_transform = { src: '>', dest: 'all.>' };
      await add({ name: 'METRICS', subjects: ['metrics.>'], sources, subject_transform });
      await publish('edge.a', 'orders.a', 'edge.b', 'metrics.a');
      await holds('METRICS', 3);
      expect([...(await readAll(wanted))].sort()).toEqual(expected);
    },
  );
});
