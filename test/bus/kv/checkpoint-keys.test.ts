/** The checkpoints as an operator changes them, and the place of a time in the stream. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Bus } from '../../../src/bus/connect.ts';
import { bucketExists, openBucket } from '../../../src/bus/kv/bucket.ts';
import { editCheckpoints, keptCheckpoints } from '../../../src/bus/kv/checkpoint-keys.ts';
import { type Checkpoint, createCheckpointStore } from '../../../src/bus/kv/checkpoints.ts';
import { sequenceBefore } from '../../../src/bus/read/sequence-before.ts';
import { describeStream, ensureStream, manager } from '../../../src/bus/stream.ts';
import { type NatsServer, startNats } from '../../../src/servers/nats.ts';
import { LIMIT_MS } from '../../limits.ts';
import { busAt, settings } from '../support.ts';

let nats: NatsServer;
let bus: Bus;

beforeAll(async () => {
  nats = await startNats();
  bus = await busAt(nats.url);
});
afterAll(async () => {
  await bus.close();
  await nats.stop();
});

const shape = { windowMs: 10_000, latenessMs: 2_000, maxAheadMs: 1_000, maxSeries: 1_000_000, slice: '0/1' };
const at = (next: number): Checkpoint => ({ next, sequence: next, shape, savedAt: 'then' });
const store = (pipeline: string) => createCheckpointStore(bus, settings({ PIPELINE: pipeline }), 1);

test('looking makes no bucket', async () => {
  expect(await keptCheckpoints(bus, 'p')).toEqual([]);
  expect(await bucketExists(bus)).toBe(false);
});

test('keys are moved and removed, also one that cannot be read', async () => {
  await store('p').save('a', at(2000));
  await store('p').save('b', at(3000));
  const bucket = await openBucket(bus, 1);
  await bucket.put('p.c.1-2', 'garbage');
  const kept = await keptCheckpoints(bus, 'p');
  expect(kept.map(({ key, sink, slice }) => [key, sink, slice])).toEqual([
    ['p.a.0-1', 'a', '0/1'],
    ['p.b.0-1', 'b', '0/1'],
    ['p.c.1-2', 'c', '1/2'],
  ]);
  expect(kept[2]!.content.unreadable?.advice).toContain(
    'metrics-fanout checkpoint reset --sink c --slice 1/2',
  );
  const contents = [at(1000), undefined, undefined];
  await editCheckpoints(
    bus,
    kept.map((one, i) => ({ kept: one, checkpoint: contents[i] })),
  );
  expect((await keptCheckpoints(bus, 'p')).map(({ key, content }) => [key, content])).toEqual([
    ['p.a.0-1', { checkpoint: at(1000) }],
  ]);
});

test.each([
  ['removed', undefined],
  ['moved', at(1000)],
])('what somebody else wrote meanwhile is not %s', async (_, checkpoint) => {
  const pipeline = `meanwhile-${_}`;
  await store(pipeline).save('a', at(2000));
  const [kept] = await keptCheckpoints(bus, pipeline);
  await store(pipeline).save('a', at(3000));
  await expect(editCheckpoints(bus, [{ kept: kept!, checkpoint }])).rejects.toThrow(
    `the checkpoint ${pipeline}.a.0-1 was written by somebody else`,
  );
  expect((await keptCheckpoints(bus, pipeline))[0]!.content).toEqual({ checkpoint: at(3000) });
});

test('the place of a time in the stream is found without reading it, and no consumer is left', async () => {
  const core = settings({});
  await ensureStream(bus, core);
  const jsm = await manager(bus);
  for (let i = 0; i < 5; i++)
    await bus.connection.jetstream().publish('metrics', `${i}`, { timeout: LIMIT_MS });
  const facts = await describeStream(bus, core);
  const third = (await jsm.streams.getMessage(facts.name, { seq: 3 })).time.getTime();
  // Messages may have been stored within one millisecond.
  const before = [];
  for (let seq = 1; seq <= 5; seq++) {
    const { time } = await jsm.streams.getMessage(facts.name, { seq });
    if (time.getTime() < third) before.push(seq);
  }
  expect(await sequenceBefore(bus, facts, third)).toBe(before.length);
  expect(await sequenceBefore(bus, facts, 0)).toBe(0);
  expect(await sequenceBefore(bus, facts, Date.now() + 3_600_000)).toBe(5);
  expect((await jsm.streams.info(facts.name)).state.consumer_count).toBe(0);
});
