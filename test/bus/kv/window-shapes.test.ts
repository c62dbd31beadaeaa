import type { KvEntry } from 'nats';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { BusError } from '../../../src/bus/bus-error.ts';
import type { Bus } from '../../../src/bus/connect.ts';
import { isTransient } from '../../../src/bus/errors.ts';
import { BUCKET, openBucket, readServerTime } from '../../../src/bus/kv/bucket.ts';
import { createShapeStore, type Shapes } from '../../../src/bus/kv/window-shapes.ts';
import { type NatsServer, startNats } from '../../../src/servers/nats.ts';
import { busAt } from '../support.ts';

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

const SHAPE = { windowMs: 1000, latenessMs: 200, maxAheadMs: 100, maxSeries: 10 };
const first: Shapes = { delayMs: 5000, epochs: [{ ...SHAPE, from: Number.NEGATIVE_INFINITY }] };
const budgeted: Shapes = {
  delayMs: 5000,
  epochs: [
    ...first.epochs,
    {
      ...SHAPE,
      maxSeriesBytes: 1000,
      maxSeriesByName: ['a*=5', '*=7'],
      input: { format: 'influx', counters: ['a*'], names: ['!b'], dropDimensions: ['*: c, d'] },
      from: 5000,
    },
  ],
};
const withAnother = ({ epochs, delayMs }: Shapes, from: number): Shapes => ({
  delayMs,
  epochs: [...epochs, { ...SHAPE, from }],
});

test("there are no shapes at first; stored ones are read back, with the server's time", async () => {
  const store = createShapeStore(bus, 'a', 1);
  const before = Date.now();
  expect((await store.load()).shapes).toBeUndefined();
  expect((await store.change(() => first)).shapes).toEqual(first);
  const known = await createShapeStore(bus, 'a', 1).load();
  expect(known.shapes).toEqual(first);
  expect(known.at).toBeGreaterThanOrEqual(before - 1);
  expect(known.at).toBeLessThanOrEqual(Date.now() + 1);
  expect((await createShapeStore(bus, 'b', 1).load()).shapes).toBeUndefined();
});

test('epochs with a budget and formats, after one without from an earlier version, are read back unchanged', async () => {
  await createShapeStore(bus, 'budget', 1).change(() => budgeted);
  expect((await createShapeStore(bus, 'budget', 1).load()).shapes).toStrictEqual(budgeted);
});

test('an earlier version finds no epochs where some have other sketches, so it cannot compute other windows', async () => {
  const known: Shapes = {
    delayMs: 5000,
    epochs: [...first.epochs, { ...SHAPE, sketchScale: 6, from: 5000 }],
  };
  const store = createShapeStore(bus, 'sketches', 1);
  await store.change(() => known);
  expect((await store.load()).shapes).toStrictEqual(known);
  const stored = (await (await openBucket(bus, 1)).get('shapes.sketches'))!.json<object>();
  expect(Object.keys(stored)).not.toContain('epochs');
});

test('a clock entry that is missing or old is a transient error', async () => {
  const bucket = await openBucket(bus, 1);
  await readServerTime(bucket);
  const before = await bucket.get('clock');
  const reading = (entry: KvEntry | null) =>
    readServerTime({ put: bucket.put.bind(bucket), get: async () => entry });
  for (const entry of [null, before]) {
    expect(isTransient(await reading(entry).catch((error: unknown) => error))).toBe(true);
  }
});

test('with many changes at once, each builds on the previous one, and none is lost', async () => {
  const writers = Array.from({ length: 4 }, () => createShapeStore(bus, 'many', 1));
  await writers[0]!.change(() => first);
  await Promise.all(
    writers.map((writer) =>
      writer.change(({ shapes }) => withAnother(shapes!, shapes!.epochs.length * 1000)),
    ),
  );
  const { shapes } = await writers[0]!.load();
  expect(shapes!.epochs.map(({ from }) => from)).toEqual([Number.NEGATIVE_INFINITY, 1000, 2000, 3000, 4000]);
});

test('without a change, nothing is written', async () => {
  const store = createShapeStore(bus, 'still', 1);
  await store.change(() => first);
  const bucket = await openBucket(bus, 1);
  const { revision } = (await bucket.get('shapes.still'))!;
  expect((await store.change(() => undefined)).shapes).toEqual(first);
  expect((await bucket.get('shapes.still'))!.revision).toBe(revision);
});

test.each([
  'hello',
  '{}',
  '{"delayMs":1,"epochs":[]}',
  '{"delayMs":1,"epochs":[{"from":null,"windowMs":0,"latenessMs":0,"maxAheadMs":0,"maxSeries":1}]}',
  '{"delayMs":1,"epochs":[{"from":null,"windowMs":10,"latenessMs":-1,"maxAheadMs":0,"maxSeries":1}]}',
  '{"delayMs":1,"epochs":[{"from":null,"windowMs":10,"latenessMs":0,"maxAheadMs":0,"maxSeries":1,"maxSeriesBytes":0}]}',
  '{"delayMs":1,"epochs":[{"from":null,"windowMs":10,"latenessMs":0,"maxAheadMs":0,"maxSeries":1,"input":{"format":"new"}}]}',
  '{"delayMs":1,"epochs":[{"from":null,"windowMs":10,"latenessMs":0,"maxAheadMs":0,"maxSeries":1,"input":{"new":"a"}}]}',
  '{"delayMs":1,"epochs":[{"from":null,"windowMs":10,"latenessMs":0,"maxAheadMs":0,"maxSeries":1,"input":{"format":"auto","rename":["a"]}}]}',
  '{"delayMs":1,"epochs":[{"from":null,"windowMs":10,"latenessMs":0,"maxAheadMs":0,"maxSeries":1,"maxSeriesByName":["a"]}]}',
  '{"delayMs":1,"epochs":[{"from":null,"windowMs":10,"latenessMs":0,"maxAheadMs":0,"maxSeries":1},{"from":5,"windowMs":10,"latenessMs":0,"maxAheadMs":0,"maxSeries":1}]}',
  '{"delayMs":1,"shapes":[{"from":null,"windowMs":10,"latenessMs":0,"maxAheadMs":0,"maxSeries":1,"sketchScale":7}]}',
  '{"delayMs":1,"shapes":[{"from":null,"windowMs":10,"latenessMs":0,"maxAheadMs":0,"maxSeries":1,"new":1}]}',
])('an invalid entry is an error that says where it is: %s', async (text) => {
  await (await openBucket(bus, 1)).put('shapes.foreign', text);
  const error = await createShapeStore(bus, 'foreign', 1)
    .load()
    .catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(BusError);
  expect(String(error)).toContain('shapes.foreign');
  expect((error as BusError).advice).toContain(BUCKET);
});
