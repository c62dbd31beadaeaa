import { afterAll, beforeAll, expect, test } from 'vitest';
import { BucketGone, BusError, UnreadableCheckpoint } from '../../../src/bus/bus-error.ts';
import { type Bus, connect } from '../../../src/bus/connect.ts';
import { isTransient } from '../../../src/bus/errors.ts';
import { BUCKET, openBucket } from '../../../src/bus/kv/bucket.ts';
import { type Checkpoint, createCheckpointStore } from '../../../src/bus/kv/checkpoints.ts';
import { createShapeStore } from '../../../src/bus/kv/window-shapes.ts';
import { manager } from '../../../src/bus/stream.ts';
import { type NatsServer, startNats } from '../../../src/servers/nats.ts';
import { LIMIT_MS } from '../../limits.ts';
import { busAt, memoryLog, numbers, settings, until } from '../support.ts';

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
const at = (next: number): Checkpoint => ({
  next,
  sequence: next,
  shape,
  savedAt: new Date(next).toISOString(),
});
const store = (pipeline: string, slice = '0/1', on = bus) =>
  createCheckpointStore(on, settings({ PIPELINE: pipeline, SLICE: slice }), 1);

test('a saved checkpoint can be loaded, by another store too', async () => {
  const one = store('basic');
  expect(await one.load('influxdb')).toBeUndefined();
  expect(await one.save('influxdb', at(1000))).toBe('saved');
  expect(await one.save('influxdb', at(2000))).toBe('saved');
  expect(await store('basic').load('influxdb')).toEqual(at(2000));
  // Checkpoints of an earlier version have no budget.
  const budgeted = { ...at(3000), shape: { ...shape, maxSeriesBytes: 1000 } };
  expect(await one.save('influxdb', budgeted)).toBe('saved');
  expect(await store('basic').load('influxdb')).toEqual(budgeted);
});

test('sinks, slices and pipelines are kept apart', async () => {
  await store('p1').save('a', at(1));
  await store('p1').save('b', at(2));
  await store('p1', '1/3').save('a', at(3));
  await store('p2').save('a', at(4));
  const found = (await store('p1').list()).map(({ sink, slice, checkpoint }) => [
    sink,
    slice,
    checkpoint.next,
  ]);
  expect(found).toEqual([
    ['a', '0/1', 1],
    ['a', '1/3', 3],
    ['b', '0/1', 2],
  ]);
  expect(await store('nobody').list()).toEqual([]);
});

test('of a checkpoint that is too large, the oldest choices of names are left out, then the subjects', async () => {
  const others = Array.from({ length: 1_000 }, (_, i) => `o${i}.${'x'.repeat(20)}`);
  const subjects = { wanted: ['m.>'], patterns: [], others, through: 1 };
  const trail = { created: 'then', marks: [[1, 1]] as const, subjects };
  const choices = Array.from({ length: 4 }, (_, i) => ({ from: i, names: ['漢'.repeat(4_000)] }));
  const long = { ...at(1000), trail, choices };
  expect(await store('long').save('a', long)).toBe('saved');
  expect(await store('long').load('a')).toEqual({ ...long, choices: choices.slice(1) });
  const rename = [`${'漢'.repeat(3_990)}=a`];
  const input = { rename, names: ['漢'.repeat(4_000)] };
  const longer = { ...long, next: 2000, shape: { ...shape, input } };
  expect(await store('long').save('a', longer)).toBe('saved');
  expect(await store('long').load('a')).toEqual({ ...longer, choices: choices.slice(3) });
  const longest = {
    ...longer,
    next: 3000,
    shape: { ...shape, input: { ...input, dropDimensions: [`*: ${'漢'.repeat(3_990)}`] } },
  };
  expect(await store('long').save('a', longest)).toBe('saved');
  const { subjects: _, ...rest } = trail;
  expect(await store('long').load('a')).toEqual({ ...longest, choices: choices.slice(3), trail: rest });
});

test('a checkpoint that cannot be read concerns a list only of its own sink', async () => {
  await store('some').save('a', at(1));
  await store('some').save('b', at(2));
  const kv = await bus.connection.jetstream().views.kv('fanout-checkpoints');
  await kv.put('some.b.0-1', 'spoiled');
  expect(await store('some').list(['a'])).toEqual([{ sink: 'a', slice: '0/1', checkpoint: at(1) }]);
  await expect(store('some').list(['b'])).rejects.toThrow('is not valid');
  await expect(store('some').list()).rejects.toThrow('is not valid');
});

test('a pipeline may be called shapes: the shapes of pipelines are not taken for checkpoints', async () => {
  const epochs = [{ ...shape, from: Number.NEGATIVE_INFINITY }];
  await createShapeStore(bus, 'shapes', 1).change(() => ({ epochs, delayMs: 1000 }));
  await store('shapes').save('a', at(1));
  expect(await store('shapes').list()).toEqual([{ sink: 'a', slice: '0/1', checkpoint: at(1) }]);
});

test('instances that give a sink other names are told so, once; one that was restarted with others is not', async () => {
  const log = memoryLog();
  const told = () => log.lines.filter(({ message }) => message.includes('other names')).length;
  const logged = await connect(settings({ NATS_URL: nats.url }), log);
  const given = (next: number, ...globs: string[]) => ({ ...at(next), choices: [{ from: 1, names: globs }] });
  const [one, two] = [store('names', '0/1', logged), store('names', '0/1', logged)];
  await one.save('a', given(1000, 'x'));
  await one.save('a', given(2000, 'x'));
  await two.save('a', given(3000, 'y'));
  await two.save('a', given(4000, 'y'));
  expect(told()).toBe(0);
  await one.save('a', given(5000, 'x'));
  await one.save('a', given(6000, 'x'));
  await two.save('a', given(5500, 'y'));
  expect(await two.save('a', given(7000, 'y'))).toBe('saved');
  expect(await one.save('a', given(8000, 'x'))).toBe('saved');
  expect(told()).toBe(2);
  expect((await store('names').load('a'))?.choices).toEqual([{ from: 1, names: ['x'] }]);
  await logged.close();
});

test('an instance that was restarted with other names, or set back, is not told of its own earlier choice', async () => {
  const log = memoryLog();
  const logged = await connect(settings({ NATS_URL: nats.url }), log);
  const given = (next: number, glob: string) => ({ ...at(next), choices: [{ from: 1, names: [glob] }] });
  await store('restarted', '0/1', logged).save('a', given(3000, 'x'));
  const again = store('restarted', '0/1', logged);
  await again.load('a');
  expect(await again.save('a', given(2000, 'y'))).toBe('superseded');
  expect(await again.save('a', given(3000, 'y'))).toBe('superseded');
  expect(await again.save('a', given(4000, 'y'))).toBe('saved');
  expect(await again.save('a', given(4000, 'y'))).toBe('superseded');
  // An operator sets it back, which the service heeds with a store of its own.
  await (await openBucket(bus, 1)).put('restarted.a.0-1', JSON.stringify(given(1500, 'x')));
  const setBack = store('restarted', '0/1', logged);
  await setBack.load('a');
  expect(await setBack.save('a', given(1500, 'y'))).toBe('superseded');
  expect(await setBack.save('a', given(5000, 'y'))).toBe('saved');
  expect(log.lines.filter(({ message }) => message.includes('other names'))).toEqual([]);
  await logged.close();
});

test('a checkpoint never moves backwards', async () => {
  const [one, two] = [store('back'), store('back')];
  expect(await one.save('a', at(5000))).toBe('saved');
  expect(await one.save('a', at(4000))).toBe('superseded');
  expect(await two.save('a', at(4000))).toBe('superseded');
  expect(await two.save('a', at(6000))).toBe('saved');
  expect(await one.save('a', at(5500))).toBe('superseded');
  expect(await one.save('a', at(6000))).toBe('superseded');
  expect(await two.load('a')).toEqual(at(6000));
});

test('if many writers race, the furthest wins and the checkpoint never goes back', async () => {
  const buses = await Promise.all([1, 2, 3].map(() => busAt(nats.url)));
  const stores = buses.map((each) => store('race', '0/1', each));
  const seen: number[] = [];
  let isDone = false;
  const watch = (async () => {
    while (!isDone) seen.push((await store('race').load('a'))?.next ?? 0);
  })();
  const outcomes = await Promise.all(
    stores.map(async (each, writer) => {
      const own: string[] = [];
      for (const step of numbers(1, 60)) own.push(await each.save('a', at(step * 10 + writer)));
      return own;
    }),
  );
  isDone = true;
  await watch;
  expect((await store('race').load('a'))?.next).toBe(59 * 10 + 2);
  expect(seen).toEqual([...seen].sort((a, b) => a - b));
  expect(outcomes.flat()).toContain('superseded');
  expect(outcomes[2]!.at(-1)).toBe('saved');
  await Promise.all(buses.map((each) => each.close()));
});

test.each([
  '',
  'not json',
  '[]',
  'null',
  '{"next":"10"}',
  '{"next":1,"sequence":1,"savedAt":"x","shape":{}}',
  JSON.stringify({ ...at(1), next: 9e15 }),
  JSON.stringify({ ...at(1), shape: { ...shape, windowMs: 0 } }),
])('a value that is not a checkpoint is an error, and is never overwritten: %j', async (value) => {
  const bucket = await openBucket(bus, 1);
  await bucket.put('odd.a.0-1', value);
  const one = store('odd');
  // One after the other: a call that was rejected while another is awaited is an unhandled rejection.
  for (const call of [() => one.load('a'), () => one.save('a', at(1)), () => one.list()]) {
    const error = await call().catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(BusError);
    expect((error as BusError).message).toContain('odd.a.0-1');
  }
  expect((await bucket.get('odd.a.0-1'))?.string()).toBe(value);
});

test('a survey names the sinks with an unreadable checkpoint; none is overwritten until it is deleted', async () => {
  const bucket = await openBucket(bus, 1);
  await store('survey').save('well', at(1000));
  await bucket.put('survey.own.0-1', 'garbage');
  // Of another slicing: it does not matter for the one sink, and is all that is known about the other.
  await bucket.put('survey.well.0-2', 'garbage');
  await bucket.put('survey.other.0-2', 'garbage');
  const one = store('survey');
  const { stored, unreadable } = await one.survey();
  expect(stored).toEqual([{ sink: 'well', slice: '0/1', checkpoint: at(1000) }]);
  expect([...unreadable].map(([sink, { message }]) => `${sink}: ${message}`).sort()).toEqual([
    'other: the checkpoint survey.other.0-2 in the key-value bucket fanout-checkpoints is not valid',
    'own: the checkpoint survey.own.0-1 in the key-value bucket fanout-checkpoints is not valid',
  ]);
  expect(await one.save('well', at(2000))).toBe('saved');
  for (const [sink, key] of [
    ['own', 'survey.own.0-1'],
    ['other', 'survey.other.0-2'],
  ] as const) {
    await expect(one.save(sink, at(1))).rejects.toThrow(UnreadableCheckpoint);
    expect((await bucket.get(key))?.string()).toBe('garbage');
    await bucket.delete(key);
    expect(await one.save(sink, at(1))).toBe('saved');
  }
});

test('a deleted key counts as absent, and can be written again', async () => {
  const one = store('deleted');
  await one.save('a', at(1000));
  await (await openBucket(bus, 1)).delete('deleted.a.0-1');
  expect(await store('deleted').load('a')).toBeUndefined();
  expect(await one.save('a', at(500))).toBe('saved');
  expect(await store('deleted').load('a')).toEqual(at(500));
});

test('a bucket that is deleted while we use it is created again after a pause', async () => {
  const one = store('lost');
  await one.save('a', at(1000));
  await (await manager(bus)).streams.delete(`KV_${BUCKET}`);
  const deletedAt = performance.now();
  await expect(one.save('a', at(2000))).rejects.toThrow(BusError);
  // No other user of the connection creates it sooner.
  const refusal = await store('other')
    .save('a', at(1))
    .catch((error: unknown) => error);
  expect(refusal).toBeInstanceOf(BucketGone);
  // A session that attaches meanwhile tries again.
  expect(isTransient(refusal)).toBe(true);
  await until('the bucket is created again', () =>
    one.save('a', at(2000)).then(
      () => true,
      (error: unknown) => {
        if (!(error instanceof BucketGone)) throw error;
        return false;
      },
    ),
  );
  expect(performance.now() - deletedAt).toBeGreaterThan(2_900);
  expect(await store('lost').load('a')).toEqual(at(2000));
});

test('a save is an error while the server is down, and works again afterwards', async () => {
  const server = await startNats();
  const own = await busAt(server.url);
  const one = store('down', '0/1', own);
  await one.save('a', at(1000));
  await server.halt();
  await expect(one.save('a', at(2000))).rejects.toThrow(BusError);
  await server.resume();
  await own.whenConnected(AbortSignal.timeout(LIMIT_MS));
  expect(await one.save('a', at(3000))).toBe('saved');
  expect(await one.load('a')).toEqual(at(3000));
  await own.close();
  await server.stop();
});

test('a checkpoint of windows of another length is unreadable to whoever has these, and never overwritten', async () => {
  const withWindow = (window: number | undefined, slice = '0/1') =>
    createCheckpointStore(bus, settings({ PIPELINE: 'windows', SLICE: slice }), 1, new Map([['a', window]]));
  const own = (next: number, window?: number) => ({ ...at(next), ...(window !== undefined && { window }) });
  const minute = withWindow(60_000);
  expect(await minute.save('a', own(60_000, 60_000))).toBe('saved');
  expect(await store('windows').load('a')).toEqual(own(60_000, 60_000));
  expect((await minute.survey()).stored).toHaveLength(1);
  for (const other of [undefined, 120_000]) {
    const survey = await withWindow(other).survey();
    expect([survey.stored, survey.unreadable.get('a')?.message]).toEqual([
      [],
      expect.stringContaining('is of windows of 60 s, and by SINK_A_WINDOW the sink has windows of'),
    ]);
    const saved = withWindow(other).save('a', own(120_000, other));
    await expect(saved).rejects.toThrow(UnreadableCheckpoint);
    // Another slice has none, but may not begin either.
    const slice = withWindow(other, '0/2');
    await slice.survey();
    await expect(slice.save('a', own(120_000, other))).rejects.toThrow(UnreadableCheckpoint);
  }
  // Whoever lists or moves checkpoints sees all, and sinks that are not enabled are nobody's business.
  expect(await store('windows').list()).toHaveLength(1);
  // One that is running finds it as well.
  const running = withWindow(120_000);
  expect(await store('windows').load('a')).toEqual(own(60_000, 60_000));
  expect(await store('other').save('a', own(1))).toBe('saved');
  await expect(running.save('a', own(240_000, 120_000))).rejects.toThrow('is of windows of 60 s');
});
